"""Metrics at subject level, from probabilities, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

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
    """Area under the ROC curve; NaN with one class."""
    return float(roc_auc_score(y, p)) if 0 < y.mean() < 1 else float("nan")


def auprc(y: np.ndarray, p: np.ndarray) -> float:
    """Average precision; NaN without cases."""
    return float(average_precision_score(y, p)) if y.any() else float("nan")


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


def bootstrap(
    y: np.ndarray, p: np.ndarray, n: int, seed: int, confidence: float, names: Sequence[str] = tuple(METRICS)
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the named metrics over subjects, resampled within each class.

    `y` (N) 0 or 1, `p` (N) probabilities. The draws depend on the seed and N only, so methods are resampled alike.
    """
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(y == value) for value in (0, 1)]
    draws = {name: np.empty(n) for name in names}
    for i in range(n):
        index = np.concatenate([rng.choice(group, len(group)) for group in groups])
        for name in names:
            draws[name][i] = METRICS[name](y[index], p[index])
    tail = (1 - confidence) / 2
    return {name: tuple(float(v) for v in np.nanquantile(values, [tail, 1 - tail])) for name, values in draws.items()}


def delong(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """(difference of AUROC a - b, its standard error, two-sided p) of two scores on the same subjects.

    Source: DeLong et al. 1988; midranks as Sun & Xu 2014. With no variance at all p is 1.
    """
    cases, controls = y == 1, y == 0
    m, n = int(cases.sum()), int(controls.sum())
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
        return difference, 0.0, 1.0
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
