"""Metrics at subject level, from probabilities, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from mcsp.evaluation.resampling import interval, resamples, together

EPS = 1e-12


def _rates(y: np.ndarray, p: np.ndarray) -> tuple[float, float, float, float]:
    """True positives, false positives, true negatives, false negatives at a threshold of 0.5."""
    hard = p >= 0.5
    return tuple(float(np.sum(a)) for a in (hard & (y == 1), hard & (y == 0), ~hard & (y == 0), ~hard & (y == 1)))


def accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Share of correct decisions at 0.5."""
    return float(np.mean((p >= 0.5) == (y == 1)))


def sensitivity(y: np.ndarray, p: np.ndarray) -> float:
    """Share of cases found."""
    tp, _, _, fn = _rates(y, p)
    return tp / max(tp + fn, EPS)


def specificity(y: np.ndarray, p: np.ndarray) -> float:
    """Share of controls left alone."""
    _, fp, tn, _ = _rates(y, p)
    return tn / max(tn + fp, EPS)


def balanced_accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Mean of sensitivity and specificity."""
    return (sensitivity(y, p) + specificity(y, p)) / 2


def f1(y: np.ndarray, p: np.ndarray) -> float:
    """Harmonic mean of precision and sensitivity; 0 when no case is found."""
    tp, fp, _, fn = _rates(y, p)
    return 2 * tp / max(2 * tp + fp + fn, EPS)


def auroc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve (Mann-Whitney's U over midranks); NaN with one class."""
    m, n = int((y == 1).sum()), int((y == 0).sum())
    if not m or not n:
        return float("nan")
    return float((stats.rankdata(p)[y == 1].sum() - m * (m + 1) / 2) / (m * n))


def auprc(y: np.ndarray, p: np.ndarray) -> float:
    """Average precision over the distinct thresholds, not interpolated; NaN without cases."""
    if not y.any():
        return float("nan")
    order = np.argsort(-p, kind="stable")
    last = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))  # of each run of equal probabilities
    found = np.cumsum(y[order])[last]
    return float(np.sum(np.diff(found, prepend=0) * found / (last + 1)) / y.sum())


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Mean squared error of the probabilities."""
    return float(np.mean((p - y) ** 2))


def calibration_error(y: np.ndarray, p: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017, eq. 3)."""
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    return float(sum(abs(np.sum(y[bins == b] - p[bins == b])) for b in range(n_bins)) / len(y))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": auroc,
    "balanced_accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "f1": f1,
    "auprc": auprc,
    "brier": brier,
    "calibration_error": calibration_error,
}


def per_fold(y: np.ndarray, p: np.ndarray, fold: np.ndarray, name: str) -> list[float]:
    """A metric within each fold; folds whose test subjects are of one class are left out."""
    return [METRICS[name](y[fold == k], p[fold == k]) for k in np.unique(fold) if 0 < y[fold == k].mean() < 1]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def bootstrap(
    y: np.ndarray,
    p: np.ndarray,
    n: int,
    seed: int,
    confidence: float,
    names: Sequence[str] = tuple(METRICS),
    fold: np.ndarray | None = None,
    subject: np.ndarray | None = None,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the named metrics over subjects, resampled within each class; with `fold` (N), of their mean
    over folds, resampled within each class of a fold. With `subject` (N), rows that share it are drawn together (in the class
    of the fold of their first row): a subject that several repeats test is one subject.

    `y` (N) 0 or 1, `p` (N) probabilities. The draws depend on the seed, N and the folds only, so methods are resampled
    alike. NaN where no sample has a value.
    """
    strata = y if fold is None else 2 * np.unique(fold, return_inverse=True)[1] + y
    first, rows = together(np.arange(len(y)) if subject is None else subject)
    draws: dict[str, list[float]] = {name: [] for name in names}
    for drawn in resamples(strata[first], n, seed):
        index = drawn if subject is None else np.concatenate([rows[unit] for unit in drawn])
        for name in names:
            if fold is None:
                draws[name].append(METRICS[name](y[index], p[index]))
            else:
                draws[name].append(_mean(per_fold(y[index], p[index], fold[index], name)))
    return {name: interval(values, confidence) for name, values in draws.items()}


def delong(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """(difference of AUROC a - b, its standard error, two-sided p) of two scores on the same subjects.

    Source: DeLong et al. 1988; midranks as Sun & Xu 2014. Error and p are NaN where the variance can't be told: with fewer
    than two subjects of a class, or when different areas have none (a perfect score against a constant one).
    """
    cases, controls = y == 1, y == 0
    m, n = int(cases.sum()), int(controls.sum())
    if min(m, n) < 2:
        return auroc(y, a) - auroc(y, b), float("nan"), float("nan")
    areas, by_case, by_control = [], [], []
    for score in (a, b):
        joint = stats.rankdata(np.concatenate([score[cases], score[controls]]))
        own_cases, own_controls = stats.rankdata(score[cases]), stats.rankdata(score[controls])
        by_case.append((joint[:m] - own_cases) / n)
        by_control.append(1 - (joint[m:] - own_controls) / m)
        areas.append((joint[:m].sum() - m * (m + 1) / 2) / (m * n))
    covariance = np.cov(by_case) / m + np.cov(by_control) / n
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = areas[0] - areas[1]
    if variance <= EPS:
        same = abs(difference) <= EPS
        return float(difference), 0.0 if same else float("nan"), 1.0 if same else float("nan")
    error = float(np.sqrt(variance))
    return float(difference), error, float(2 * stats.norm.sf(abs(difference) / error))


def paired_permutation(y: np.ndarray, a: np.ndarray, b: np.ndarray, metric: str, n: int, seed: int) -> float:
    """Two-sided p of the difference of a metric, by swapping the two methods' probabilities subject by subject."""
    rng = np.random.default_rng(seed)
    score = METRICS[metric]
    observed = abs(score(y, a) - score(y, b))
    count = 0
    for _ in range(n):
        swap = rng.random(len(y)) < 0.5
        count += abs(score(y, np.where(swap, b, a)) - score(y, np.where(swap, a, b))) >= observed - EPS
    return (count + 1) / (n + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values for multiplicity."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.minimum(1.0, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    out = np.empty(len(p))
    out[order] = adjusted
    return out.tolist()
