"""What the model reads: a batch of subjects with any of their modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Key = tuple[str, str]  # (modality, domain)


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


MASKABLE: frozenset[Key] = frozenset({("eeg", "spectral"), ("eeg", "spatial")})  # NaN: not recorded, at too low a rate


def fill(key: Key, x: Tensor, centre: Tensor | None) -> Tensor:
    """Inputs (B, ...) with what was not recorded as the training subjects' mean `centre` (...), which says nothing."""
    return torch.where(x.isnan(), centre.to(x.dtype), x) if key in MASKABLE and centre is not None else x


@dataclass
class Batch:
    """`x`: (modality, domain) -> (B, ...) inputs, zeros where a subject lacks the modality, NaN where its recording holds
    nothing (`MASKABLE`). `present`: modality -> (B,)
    bool. `n_valid`: modality -> (B,) valid frames or segments, 0 where the modality is missing.
    """

    x: dict[Key, Tensor]
    present: dict[str, Tensor]
    n_valid: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.present.values())))

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return Batch(
            *({k: v.to(device, non_blocking=True) for k, v in part.items()} for part in (self.x, self.present, self.n_valid))
        )

    def filled(self, centres: Mapping[Key, Tensor]) -> Batch:
        """The batch with what was not recorded as the training subjects' mean, by (modality, domain)."""
        return Batch({key: fill(key, x, centres.get(key)) for key, x in self.x.items()}, self.present, self.n_valid)

    def rows(self, index: Tensor | slice) -> Batch:
        """Some subjects of the batch."""
        return Batch(*({k: v[index] for k, v in part.items()} for part in (self.x, self.present, self.n_valid)))
