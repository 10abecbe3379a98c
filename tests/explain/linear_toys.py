"""Models small enough to know their attributions in closed form."""

from __future__ import annotations

import torch

from mcsp.explain.attribution import Reference
from mcsp.model.batch import Batch, Key

SHAPES: dict[Key, tuple[int, ...]] = {("fmri", "spatial"): (4, 4), ("fmri", "spectral"): (4, 3), ("eeg", "temporal"): (2, 3, 5)}


def toy_batch(n: int = 6, seed: int = 0) -> Batch:
    """Subjects of which the first lacks EEG; zeros stand in for what is missing, as in real batches."""
    generator = torch.Generator().manual_seed(seed)
    present = {"fmri": torch.ones(n, dtype=torch.bool), "eeg": torch.arange(n) > 0}
    x = {key: torch.randn(n, *shape, generator=generator) for key, shape in SHAPES.items()}
    x["eeg", "temporal"][0] = 0
    return Batch(x, present, {m: p.long() for m, p in present.items()})


def toy_reference(seed: int = 1) -> Reference:
    """A baseline that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    return Reference(
        {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}, dict.fromkeys(SHAPES, 1.0)
    )


def toy_weights(seed: int = 2) -> dict[Key, torch.Tensor]:
    """A weight per input."""
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}


def weighted_sum(batch: Batch, weights: dict[Key, torch.Tensor]) -> torch.Tensor:
    """Sum over the modalities that a subject has of weights times inputs, (B,)."""
    return sum((batch.x[key] * w).flatten(1).sum(1) * batch.present[key[0]] for key, w in weights.items())
