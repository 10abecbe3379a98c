"""Rivals on the same folds. Whatever they fit or tune, they fit on training subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd

COMBAT = ", ComBat"  # ends the name of a harmonised rival


class Rival(Protocol):
    """A method that MCSP is held against.

    `people` are rows of the cohort (columns as in `mcsp.cohort`); when they are fitted on, a column `part` says who trains
    and who validates ('train', 'val'). A rival that stops early does so by validation subjects; the others learn from both.
    Probabilities are for classes of equal weight: every rival weighs the classes in inverse proportion to their size.
    """

    name: str

    def fit(self, people: pd.DataFrame, y: np.ndarray) -> Rival:
        """Fit on the subjects of a fold's training part; `y` (N,) is 1 for cases."""

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Probability (N,) of being a case; NaN for a subject that lacks what the rival reads."""

    def parts(self) -> Sequence[Rival]:
        """Fitted rivals inside this one that are worth a line of their own."""


def site_of(people: pd.DataFrame) -> pd.Series:
    """What tells sites apart: datasets may use the same name for different ones."""
    return people["dataset"] + "/" + people["site"]
