"""Random views of a subject's inputs, drawn anew at every step. Pure functions; `generator` sets the draw. Each gives
`views` of them, (views * B, ...) of (B, ...), all of the first view, then all of the next.

A view is built in the buffer of its random numbers: each further copy of a batch of EEG costs as much as drawing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mcsp.model.batch import Batch, Key


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the views; the meanings are those of the study file's `pretrain.augment`."""

    jitter: float = 0.1
    scale: float = 0.1
    time_mask: float = 0.1
    spectral_removal: float = 0.1
    spectral_addition: float = 0.1
    spectral_max: float = 0.1
    node_drop: float = 0.1
    edge_drop: float = 0.1


def _uniform(x: Tensor, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=x.device)


def _normal(x: Tensor, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=x.device)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation of each subject's values (B, 1, ...), by moments: many times faster on the CPU than `Tensor.std`."""
    flat = x.flatten(1)
    n = flat.shape[1]
    square = torch.linalg.vector_norm(flat, dim=1).square() - n * flat.mean(dim=1).square()
    return (square.clamp_min(0) / (n - 1)).sqrt().reshape(-1, *(1,) * (x.ndim - 1))


def temporal_view(x: Tensor, strength: Augmentation, generator: Generator, *, segmented: bool, views: int = 1) -> Tensor:
    """Scale, jitter and mask series. `x`: (B, R, T), frames masked; or segmented (B, S, C, T), segments masked."""
    ones = (1,) * (x.ndim - 1)
    gain = 1 + strength.scale * _normal(x, (views, len(x), *ones), generator)
    noise = _normal(x, (views, *x.shape), generator)
    shape = (len(x), x.shape[1], 1, 1) if segmented else (len(x), 1, x.shape[-1])
    kept = (_uniform(x, (views, *shape), generator) >= strength.time_mask).to(x.dtype)
    return noise.mul_(kept * strength.jitter * _spread(x)).addcmul_(x, kept * gain).flatten(0, 1)


def spectral_view(x: Tensor, strength: Augmentation, generator: Generator, centre: Tensor | float, *, views: int = 1) -> Tensor:
    """Replace a share of the frequency components by `centre` (..., F), and raise another, by at most `spectral_max` of the
    largest amplitude of its spectrum.

    `x`: (B, ..., F) amplitudes. Source: Zhang et al. 2022 (TF-C), removal and addition of spectral components.
    """
    shape = (views, len(x), *(1,) * (x.ndim - 2), x.shape[-1])
    kept = (_uniform(x, shape, generator) >= strength.spectral_removal).to(x.dtype)
    raised = _uniform(x, shape, generator) < strength.spectral_addition
    ceiling = strength.spectral_max * x.amax(dim=-1, keepdim=True)
    view = _uniform(x, (views, *x.shape), generator).mul_(raised * ceiling)
    return view.addcmul_(x, kept).add_((1 - kept) * centre).flatten(0, 1)


def spatial_view(x: Tensor, strength: Augmentation, generator: Generator, centre: Tensor | float, *, views: int = 1) -> Tensor:
    """Replace nodes and edges of symmetric graphs by those of `centre` (..., N, N) and add symmetric noise to the others.

    `x`: (B, ..., N, N).
    """
    n, shape = x.shape[-1], (views, *x.shape)
    ones = (1,) * (x.ndim - 3)
    node = (_uniform(x, (views, len(x), *ones, n), generator) >= strength.node_drop).to(x.dtype)
    edge = torch.triu(_uniform(x, shape, generator) >= strength.edge_drop, diagonal=1).to(x.dtype)
    noise = torch.triu(strength.jitter * _normal(x, shape, generator), diagonal=1)
    noise = (noise + noise.transpose(-1, -2)) * _spread(x)
    kept = (edge + edge.transpose(-1, -2)) * node[..., :, None] * node[..., None, :]
    return noise.add_(x).sub_(centre).mul_(kept).add_(centre).flatten(0, 1)


def augmented(
    batch: Batch, strength: Augmentation, generator: Generator, centres: Mapping[Key, Tensor], *, views: int = 1
) -> Batch:
    """Views of every input of a batch (B) without missing entries (`Batch.filled`), one after the other (views * B): a model
    reads them at once, as two halves of a batch cost half the calls of two batches. What they leave out of graphs and spectra
    becomes what the training subjects have in the mean, `centres` (modality, domain) -> a row's shape, or 0 where there is
    none: amplitudes and connectivity are far from 0 in everybody, and 0 would say more than what it hides.
    """
    found = {}
    for key, x in batch.x.items():
        modality, domain = key
        if domain == "temporal":
            found[key] = temporal_view(x, strength, generator, segmented=modality == "eeg", views=views)
        else:
            view = spatial_view if domain == "spatial" else spectral_view
            found[key] = view(x, strength, generator, centres.get(key, 0.0), views=views)
    present, n_valid = ({m: v.repeat(views) for m, v in part.items()} for part in (batch.present, batch.n_valid))
    return Batch(found, present, n_valid, batch.whole)
