"""Does a model know when it is wrong? Uncertainty from passes with dropout, and risk over coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mcsp.evaluation.resampling import interval, resamples
from mcsp.options.results import EvaluateOptions

UNCERTAINTY_COLUMNS = {
    "task": "Task of the study",
    "uid": "Test subject",
    "fold": "Fold that tests it; with repeats, the first",
    "y": "1: case, 0: control",
    "p": "Probability of being a case without dropout, mean over seeds and repeats: what all other tables are of",
    "p_dropout": "Mean probability over passes with dropout (and seeds and repeats)",
    "entropy": "Predictive entropy: of p_dropout, nats",
    "mutual_information": "Entropy less the passes' mean entropy, nats: what passes, seeds and repeats disagree on",
    "n_passes": "Passes with dropout, over all seeds and repeats",
}
SELECTIVE_COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "order": "Least certain subjects are left out first, by: probability (its distance from 0.5), entropy or "
    "mutual information of passes with dropout",
    "n": "Test subjects, over all folds",
    "n_wrong": "Wrong decisions among them, at 0.5",
    "aurc": "Area under the risk-coverage curve: mean share of wrong decisions over all coverages; less is better",
    "low": "Lower end of its bootstrap interval over subjects",
    "high": "Upper end of its bootstrap interval over subjects",
    "random": "Area in random order: the share of wrong decisions",
    "oracle": "Area with all wrong decisions left out first: the least that these decisions allow",
    "gain": "random less aurc: what the order is worth; 0 or less is worth nothing",
    "gain_low": "Lower end of its bootstrap interval over subjects",
    "gain_high": "Upper end of its bootstrap interval over subjects",
}
ORDERS = {"entropy": "entropy", "mutual_information": "mutual information"}


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of a yes or no of probability `p`, nats."""
    p = np.asarray(p, float)
    parts = [np.where(q > 0, -q * np.log(np.where(q > 0, q, 1)), 0) for q in (p, 1 - p)]
    return parts[0] + parts[1]


def uncertainties(task: str, means: pd.DataFrame, dropout: pd.DataFrame) -> pd.DataFrame:
    """UNCERTAINTY_COLUMNS of the test subjects. `means`: fold, uid, y, p without dropout; `dropout`: fold, seed, uid,
    p (mean of a classifier's passes), mean_entropy (of its passes) and n_passes. Passes of all seeds and repeats
    count as one set.
    """
    grouped = dropout.groupby("uid")
    passes = grouped.agg(p_dropout=("p", "mean"), within=("mean_entropy", "mean"), n_passes=("n_passes", "sum"))
    table = means.merge(passes, left_on="uid", right_index=True, validate="one_to_one").sort_values("uid")
    table["entropy"] = entropy(table["p_dropout"])
    table["mutual_information"] = (table["entropy"] - table["within"]).clip(lower=0)  # rounding can take it below
    return table.assign(task=task)[list(UNCERTAINTY_COLUMNS)]


def _mean_of_ties(wrong: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
    """Wrong decisions, most certain first; equals in certainty share theirs, as in the mean over their orders."""
    _, group = np.unique(uncertainty, return_inverse=True)
    share = np.bincount(group, weights=wrong) / np.bincount(group)
    return share[np.sort(group)]


def risk_coverage(wrong: np.ndarray, uncertainty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, share of wrong decisions among the covered), each (N): with the 1, 2, ... N most certain subjects.

    `wrong` (N) 0 or 1, `uncertainty` (N). Source: El-Yaniv & Wiener 2010.
    """
    n = np.arange(1, len(wrong) + 1)
    return n / len(wrong), np.cumsum(_mean_of_ties(wrong, uncertainty)) / n


def aurc(wrong: np.ndarray, uncertainty: np.ndarray) -> float:
    """Area under the risk-coverage curve: the mean risk over coverages. Source: Geifman & El-Yaniv 2017."""
    return float(risk_coverage(wrong, uncertainty)[1].mean())


def orders_of(p: np.ndarray, own: pd.DataFrame | None = None) -> dict[str, np.ndarray]:
    """Order's name -> uncertainty (N): by the probability and, of a model with passes, by those (UNCERTAINTY_COLUMNS)."""
    found = {"probability": -np.abs(np.asarray(p) - 0.5)}
    return found if own is None else {**found, **{text: own[column].to_numpy() for column, text in ORDERS.items()}}


def selective_rows(
    task: str, method: str, y: np.ndarray, p: np.ndarray, orders: dict[str, np.ndarray], options: EvaluateOptions
) -> list[dict]:
    """Rows of SELECTIVE_COLUMNS, one per order. Decisions are those at 0.5 of `p`, whatever the order."""
    wrong = ((p >= 0.5) != (y == 1)).astype(float)
    areas, gains = {name: [] for name in orders}, {name: [] for name in orders}
    for index in resamples(y, options.n_bootstrap, options.seed):
        for name, value in orders.items():
            areas[name].append(aurc(wrong[index], value[index]))
            gains[name].append(wrong[index].mean() - areas[name][-1])
    head = {"task": task, "method": method, "n": len(y), "n_wrong": int(wrong.sum())}
    head |= {"random": float(wrong.mean()), "oracle": aurc(wrong, wrong)}
    rows = []
    for name, value in orders.items():
        area, (low, high) = aurc(wrong, value), interval(areas[name], options.confidence)
        gain = dict(zip(("gain_low", "gain_high"), interval(gains[name], options.confidence)))
        rows.append({**head, "order": name, "aurc": area, "low": low, "high": high, "gain": head["random"] - area, **gain})
    return rows


def selective_table(task: str, means: pd.DataFrame, known: pd.DataFrame, options: EvaluateOptions) -> pd.DataFrame:
    """SELECTIVE_COLUMNS of all methods; MCSP also in the orders of its passes with dropout (`known`, by uid)."""
    rows = []
    for method, own in means.groupby("method", sort=False):
        own = own.sort_values("uid")
        passes = known.set_index("uid").loc[own["uid"]] if method.startswith("mcsp") else None
        y, p = own["y"].to_numpy(), own["p"].to_numpy()
        rows += selective_rows(task, method, y, p, orders_of(p, passes), options)
    return pd.DataFrame(rows)[list(SELECTIVE_COLUMNS)]
