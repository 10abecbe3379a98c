"""Resamples of subjects within strata, and the intervals that come from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd


def resamples(strata: np.ndarray, n: int, seed: int) -> Iterator[np.ndarray]:
    """`n` times the numbers of subjects drawn with replacement, as many of each stratum as there are. `strata` (N)."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(n):
        yield np.concatenate([rng.choice(group, len(group)) for group in groups])


def together(subject: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(first row of each subject, in the order of these; all rows of each)."""
    _, first, code = np.unique(subject, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rows = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    return first[order], [rows[i] for i in order]


def once_each(values: pd.DataFrame, uid: np.ndarray) -> pd.DataFrame:
    """Each subject's mean over its rows, which are of repeats; indexed by `uid`, in the order of first appearance."""
    return values.groupby(np.asarray(uid), sort=False).mean()


def shuffled(values: np.ndarray, strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`values` (N) in another order within each stratum (N)."""
    out = np.array(values)
    for value in np.unique(strata):
        own = np.flatnonzero(strata == value)
        out[own] = out[rng.permutation(own)]
    return out


def interval(draws: Sequence[float], confidence: float) -> tuple[float, float]:
    """Percentile interval of draws (n); NaN where no draw has a value."""
    known = np.asarray(draws, float)
    known = known[~np.isnan(known)]
    tail = (1 - confidence) / 2
    return tuple(float(v) for v in np.quantile(known, [tail, 1 - tail])) if len(known) else (float("nan"), float("nan"))
