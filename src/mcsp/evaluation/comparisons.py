"""Methods compared over folds, with chance, and each with each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from mcsp.evaluation.metrics import METRICS, delong, holm, paired_permutation
from mcsp.evaluation.resampling import interval, resamples, shuffled
from mcsp.options.results import EvaluateOptions

EPS = 1e-12
LEVEL = 0.05  # of every verdict, after correction
OVER_FOLDS = "nadeau-bengio"
PAIR_COLUMNS = {
    "task": "Task of the study",
    "method": "Method",
    "rival": "Method that it is compared with",
    "n": "Test subjects that both predicted",
    "difference": "AUROC of the method minus that of the rival",
    "p": "Two-sided p value: DeLong's test, or permutation where it has no variance",
    "p_holm": "p corrected over all pairs of the task's methods (Holm)",
}


def pooled(predictions: pd.DataFrame) -> pd.DataFrame:
    """One probability per method, fold and subject: the mean over seeds. Columns method, fold, uid, y, p."""
    return predictions.groupby(["method", "fold", "uid", "y"], as_index=False)["p"].mean()


def by_subject(means: pd.DataFrame) -> pd.DataFrame:
    """One probability per method and subject: the mean over the folds that test it, one in each repeat. `means`: as `pooled`
    gives them. Columns method, uid, y, p, and fold: the first that tests the subject.
    """
    found = means.groupby(["method", "uid", "y"], as_index=False)["p"].mean()
    return found.assign(fold=found["uid"].map(means.groupby("uid")["fold"].min()))


def paired_table(means: pd.DataFrame) -> pd.DataFrame:
    """Columns uid, fold, y, and one of probabilities per method. `means` as `pooled` or `by_subject` give them."""
    return means.pivot(index=["uid", "fold", "y"], columns="method", values="p").reset_index()


def holm_of_known(p: Iterable[float]) -> list[float]:
    """Holm's correction over the p values that are known; NaN stays NaN, and counts for nothing."""
    p = np.asarray(list(p), float)
    known = ~np.isnan(p)
    p[known] = holm(p[known])
    return p.tolist()


def subject_row(y: np.ndarray, a: np.ndarray, b: np.ndarray, metric: str, options: EvaluateOptions) -> dict:
    """difference, low, high, p, test of a metric of two methods' probabilities (N) over pooled subjects: DeLong's test, or
    swaps subject by subject for other metrics and where it can't tell. NaN with one class.
    """
    if not 0 < y.mean() < 1:
        return {**dict.fromkeys(("difference", "low", "high", "p"), float("nan")), "test": "none"}
    if metric == "auroc":
        difference, error, p = delong(y, a, b)
        half = stats.norm.ppf(0.5 + options.confidence / 2) * error
        if not np.isnan(p):
            return {"difference": difference, "low": difference - half, "high": difference + half, "p": p, "test": "delong"}
    score, draws = METRICS[metric], resamples(y, options.n_bootstrap, options.seed)
    low, high = interval([score(y[i], a[i]) - score(y[i], b[i]) for i in draws], options.confidence)
    p = paired_permutation(y, a, b, metric, options.n_permutations, options.seed)
    return {"difference": score(y, a) - score(y, b), "low": low, "high": high, "p": p, "test": "permutation"}


def verdict(difference: float, p: float) -> str:
    """What a corrected p says of the first of two methods."""
    return "not told apart" if not p < LEVEL else "better" if difference > 0 else "worse"


def over_subjects(comparisons: pd.DataFrame) -> pd.DataFrame:
    """The tests over subjects of a table of comparisons; those over folds ask the same questions once more."""
    return comparisons[comparisons["test"] != OVER_FOLDS]


def share_tested(splits: pd.DataFrame, uids: Iterable[str]) -> float:
    """Test subjects as a share of those learnt from (training and validation), mean over the folds that test any of `uids`."""
    own = splits[splits["uid"].isin(set(uids))]
    tested = (own["part"] == "test").groupby(own["fold"]).sum()
    learnt = own["part"].isin(["train", "val"]).groupby(own["fold"]).sum()
    return float((tested / learnt)[tested > 0].mean())


def nadeau_bengio(differences: Sequence[float], share: float) -> tuple[float, float, int, float]:
    """(mean, standard error, degrees of freedom, two-sided p) of a metric's differences over J folds (of all repeats).

    Training parts overlap, so differences of folds go together, and a plain t test finds too much. The variance is taken
    (1/J + share) s^2 instead of s^2 / J; `share` as `share_tested` has it. Error and p are NaN with fewer than two folds, p
    also where folds differ by nothing but their mean. Source: Nadeau & Bengio 2003; over repeats Bouckaert & Frank 2004.
    """
    d = np.asarray(differences, float)
    n = len(d)
    mean = float(d.mean()) if n else float("nan")
    if n < 2:
        return mean, float("nan"), n - 1, float("nan")
    error = float(np.sqrt((1 / n + share) * d.var(ddof=1)))
    if error <= EPS:
        return mean, 0.0, n - 1, 1.0 if abs(mean) <= EPS else float("nan")
    return mean, error, n - 1, float(2 * stats.t.sf(abs(mean) / error, n - 1))


def fold_differences(y: np.ndarray, a: np.ndarray, b: np.ndarray, fold: np.ndarray, metric: str) -> list[float]:
    """Metric of `a` minus that of `b` within each fold; folds whose test subjects are of one class are left out."""
    score = METRICS[metric]
    parts = [fold == k for k in np.unique(fold)]
    return [score(y[i], a[i]) - score(y[i], b[i]) for i in parts if 0 < y[i].mean() < 1]


def fold_row(
    y: np.ndarray, a: np.ndarray, b: np.ndarray, fold: np.ndarray, metric: str, share: float, confidence: float
) -> dict:
    """difference, low, high, p, df of two methods' probabilities (N) over folds (N): the corrected t test."""
    mean, error, df, p = nadeau_bengio(fold_differences(y, a, b, fold, metric), share)
    half = float(stats.t.ppf(0.5 + confidence / 2, df)) * error if df > 0 else float("nan")
    return {"difference": mean, "low": mean - half, "high": mean + half, "p": p, "df": df if df > 0 else np.nan}


def chance_p(y: np.ndarray, p: np.ndarray, fold: np.ndarray, n: int, seed: int) -> float:
    """p of an AUROC this high or higher over pooled subjects, were labels unrelated to probabilities within folds: labels
    are permuted within each fold (N), whose model has a scale of its own; of repeats, within the folds of the first. NaN with
    one class.
    """
    if not 0 < y.mean() < 1:
        return float("nan")
    rng, ranks = np.random.default_rng(seed), stats.rankdata(p)
    observed = ranks[y == 1].sum()  # AUROC but for constants
    count = sum(ranks[shuffled(y, fold, rng) == 1].sum() >= observed - EPS for _ in range(n))
    return (count + 1) / (n + 1)


def all_pairs(task: str, means: pd.DataFrame, options: EvaluateOptions) -> pd.DataFrame:
    """AUROC of each method against each other on the subjects that both predicted (PAIR_COLUMNS). `means` as `pooled`."""
    wide, rows = paired_table(by_subject(means)), []
    for a, b in combinations(sorted(set(means["method"])), 2):
        both = wide.dropna(subset=[a, b])
        row = subject_row(*(both[column].to_numpy() for column in ("y", a, b)), "auroc", options)
        rows.append((task, a, b, len(both), row["difference"], row["p"]))
    table = pd.DataFrame(rows, columns=[c for c in PAIR_COLUMNS if c != "p_holm"])
    return table.assign(p_holm=holm_of_known(table["p"]))


def best_method(pairs: pd.DataFrame) -> str | None:
    """The method that is better than every other after correction; None where there is none, and with one method alone."""
    found = []
    for name in dict.fromkeys([*pairs["method"], *pairs["rival"]]):
        ahead = pairs["difference"].where(pairs["method"] == name, -pairs["difference"])
        own = (pairs["method"] == name) | (pairs["rival"] == name)
        if (ahead[own] > 0).all() and (pairs.loc[own, "p_holm"] < LEVEL).all():
            found.append(name)
    return found[0] if found else None
