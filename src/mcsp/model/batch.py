"""What the model reads: a batch of subjects with any of their modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Key = tuple[str, str]  # (modality, domain)


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# NaN: not recorded, since the rate was too low, or the region lost from the field of view. Series have zeros there.
MASKABLE: frozenset[Key] = frozenset((m, d) for m in ("fmri", "eeg") for d in ("spatial", "spectral"))


def rows_of(present: Tensor, device: torch.device) -> Tensor | None:
    """Numbers of those present, on `device`; None for everybody, as nothing need be copied then."""
    present = present.cpu()
    return None if bool(present.all()) else present.nonzero().squeeze(1).to(device, non_blocking=True)


def fill(key: Key, x: Tensor, centres: Mapping[Key, Tensor]) -> Tensor:
    """Inputs (B, ...) with what was not recorded as the training subjects' mean, which says nothing."""
    return torch.where(x.isnan(), centres[key].to(x.dtype), x) if key in MASKABLE else x


@dataclass
class Batch:
    """`x`: (modality, domain) -> (B, ...) inputs, zeros where a subject lacks the modality, NaN where its recording holds
    nothing (`MASKABLE`). `present`: modality -> (B,) bool, on the CPU: whom a step computes is decided there, and to ask a
    GPU would be to wait for it. `n_valid`: modality -> (B,) valid frames or segments, 0 where the modality is missing.
    `whole`: known to hold no NaN, so that models need not look.
    """

    x: dict[Key, Tensor]
    present: dict[str, Tensor]
    n_valid: dict[str, Tensor]
    whole: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device; `present` stays."""
        x, n_valid = ({k: v.to(device, non_blocking=True) for k, v in part.items()} for part in (self.x, self.n_valid))
        return Batch(x, self.present, n_valid, self.whole)

    def filled(self, centres: Mapping[Key, Tensor]) -> Batch:
        """The batch with what was not recorded as the training subjects' mean, by (modality, domain)."""
        if self.whole:
            return self
        return Batch({key: fill(key, x, centres) for key, x in self.x.items()}, self.present, self.n_valid, whole=True)

    def rows(self, index: Tensor | slice) -> Batch:
        """Some subjects of the batch."""
        return self._each(lambda v: v[index])

    def _each(self, function: Callable[[Tensor], Tensor]) -> Batch:
        parts = ({k: function(v) for k, v in part.items()} for part in (self.x, self.present, self.n_valid))
        return Batch(*parts, whole=self.whole)
