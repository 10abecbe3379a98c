"""Permutation tests over many entries at once: max-T for the family-wise error, FDR beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from mcsp.evaluation.resampling import shuffled

CHUNK = 100  # permutations at a time


@dataclass(frozen=True)
class Tested:
    """Of K entries: the statistic, its p over the whole family (max-T), and q by Benjamini and Hochberg on p of each entry."""

    t: np.ndarray
    p_maxt: np.ndarray
    q_fdr: np.ndarray


def _finish(t: np.ndarray, drawn, n_permutations: int) -> Tested:
    """`drawn`: statistics (some, K) under the null, in chunks; larger is more extreme. Where t is NaN, so are p and q."""
    known = ~np.isnan(t)
    found = Tested(t, *np.full((2, len(t)), np.nan))
    if known.any():
        whole, each = np.ones((2, known.sum()))
        for part in (chunk[:, known] for chunk in drawn):
            whole += (part.max(axis=1, keepdims=True) >= t[known]).sum(axis=0)
            each += (part >= t[known]).sum(axis=0)
        total = n_permutations + 1
        found.p_maxt[known], found.q_fdr[known] = whole / total, false_discovery_control(each / total)
    return found


def sign_flip(differences: np.ndarray, n_permutations: int, seed: int) -> Tested:
    """Whether differences (N, K) of N subjects are above 0, one-sided, by flipping the signs of whole subjects.

    Exact where the two sides of each difference could be exchanged. Source: Nichols & Holmes 2002.
    """
    n = len(differences)
    mean_square = np.square(differences).mean(axis=0)

    def statistic(mean: np.ndarray) -> np.ndarray:
        return mean / np.sqrt(np.maximum(mean_square - mean**2, 1e-30) / (n - 1))

    rng = np.random.default_rng(seed)

    def draws():
        for start in range(0, n_permutations, CHUNK):
            signs = rng.choice([-1.0, 1.0], size=(min(CHUNK, n_permutations - start), n))
            yield statistic(signs @ differences / n)

    return _finish(statistic(differences.mean(axis=0)), draws(), n_permutations)


def _welch(x: np.ndarray, squares: np.ndarray, known: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """Welch's t (P, K) of P labellings `cases` (P, N; 1 and 0) of features `x` (N, K), whose squares are `squares`; both are 0
    where a feature is not `known` (N, K) of a subject.
    """
    parts, own = [], [cases @ values for values in (known, x, squares)]
    rest = [values.sum(axis=0) - of_cases for values, of_cases in zip((known, x, squares), own)]
    for n, total, square in (own, rest):
        n = np.maximum(n, 2)  # a labelling may leave one of those who have a rare entry
        mean = total / n
        parts.append((mean, np.maximum(square / n - mean**2, 0) / (n - 1)))
    (a, va), (b, vb) = parts
    return (a - b) / np.sqrt(np.maximum(va + vb, 1e-30))


def label_test(x: np.ndarray, y: np.ndarray, strata: np.ndarray, n_permutations: int, seed: int) -> Tested:
    """Whether features `x` (N, K) differ between cases and controls `y` (N), two-sided, by shuffling labels within `strata`
    (N). `t` is Welch's, signed; above 0: higher in cases. NaN: not known of a subject, who is left out of that feature.
    """
    known = ~np.isnan(x)
    x = np.where(known, x - np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0)
    known = (known if not known.all() else known[:, :1]).astype(float)
    squares, rng = np.square(x), np.random.default_rng(seed)
    t = np.where(known.any(axis=0), _welch(x, squares, known, y[None].astype(float))[0], np.nan)

    def draws():
        for start in range(0, n_permutations, CHUNK):
            count = min(CHUNK, n_permutations - start)
            labels = np.stack([shuffled(y, strata, rng) for _ in range(count)]).astype(float)
            yield np.abs(_welch(x, squares, known, labels))

    found = _finish(np.abs(t), draws(), n_permutations)
    return Tested(t, found.p_maxt, found.q_fdr)


def hedges_g(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Hedges' g (K) of cases against controls, ends of its 95 % interval) of features `x` (N, K), labels `y` (N). NaN: not
    known of a subject, who is left out of that feature.

    The interval is that of the large-sample standard error. Source: Hedges & Olkin 1985; Borenstein et al. 2009, chapter 4.
    """
    a, b = x[y == 1], x[y == 0]
    n, m = (~np.isnan(a)).sum(axis=0), (~np.isnan(b)).sum(axis=0)
    pooled = np.sqrt(((n - 1) * np.nanvar(a, axis=0, ddof=1) + (m - 1) * np.nanvar(b, axis=0, ddof=1)) / (n + m - 2))
    d = (np.nanmean(a, axis=0) - np.nanmean(b, axis=0)) / np.maximum(pooled, 1e-30)
    small = 1 - 3 / (4 * (n + m - 2) - 1)
    error = small * np.sqrt((n + m) / (n * m) + d**2 / (2 * (n + m)))
    return small * d, small * d - 1.959964 * error, small * d + 1.959964 * error
