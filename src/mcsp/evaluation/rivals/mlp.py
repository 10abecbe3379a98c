"""A plain network on connectivity and band power."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Two hidden layers on a vector."""

    def __init__(self, shape: Sequence[int], hidden: int = 64, dropout: float = 0.3):
        super().__init__(
            nn.Linear(shape[0], hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, 1), nn.Flatten(0),
        )  # fmt: skip
