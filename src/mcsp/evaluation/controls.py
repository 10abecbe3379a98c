"""Do methods that learnt labels which say nothing land at chance? If not, something leaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mcsp.evaluation.comparisons import EPS, LEVEL, holm_of_known
from mcsp.evaluation.metrics import auroc
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_table, write_tsv

KINDS = {"permuted": "permuted labels", "random": "random label"}
COLUMNS = {
    "control": "permuted labels: training and validation labels shuffled within dataset and site, true test labels; "
    "random label: a coin tossed for every subject, also for test subjects",
    "task": "Task of the study, or random-label",
    "method": "mcsp (encoders of the study, which never read labels; fine-tuned anew), or a rival",
    "n": "Test subjects, over all folds",
    "n_runs": "Folds times draws, each with labels of its own",
    "changed": "Share of training labels that are not the true ones, mean over runs; 1 for the random label",
    "auroc_all": "Mean AUROC over runs; with permuted labels it may leave 0.5 where sites differ in their share of cases",
    "auroc": "The same with cases and controls of one site compared only, where labels were shuffled within sites",
    "low": "Lower end of its t interval over runs",
    "high": "Upper end of its t interval over runs",
    "p": "Two-sided p of 0.5, t test over runs",
    "p_holm": "p corrected over this table (Holm)",
    "verdict": "passed: not told from chance at 0.05 after correction; FAILED: above (or below) chance; too few: fewer than "
    "two runs with both classes",
}


def auroc_within(y: np.ndarray, p: np.ndarray, strata: np.ndarray) -> float:
    """Share of pairs of a case and a control of one stratum that are in order, ties half; NaN without such a pair.

    Source: van Elteren 1960, with strata weighted by their pairs.
    """
    right, pairs = 0.0, 0
    for value in np.unique(strata):
        own = strata == value
        n = int((y[own] == 1).sum()) * int((y[own] == 0).sum())
        if n:
            right, pairs = right + n * auroc(y[own], p[own]), pairs + n
    return right / pairs if pairs else float("nan")


def run_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """One line per control, task, method, draw and fold: both AUROCs. `predictions`: also kind, draw, task."""
    rows = []
    for key, own in predictions.groupby(["kind", "task", "method", "draw", "fold"], sort=False):
        y, p = own["y"].to_numpy(), own["p"].to_numpy()
        strata = own["site"].to_numpy() if key[0] == "permuted" else np.zeros(len(own))
        rows.append((*key, own["changed"].iloc[0], auroc(y, p), auroc_within(y, p, strata)))
    return pd.DataFrame(rows, columns=["kind", "task", "method", "draw", "fold", "changed", "auroc_all", "auroc"])


def against_chance(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """(low, high, p) of the mean of AUROCs (runs) against 0.5, by a t test over runs; NaN with fewer than two.

    A method that learnt noise has a direction all the same, and with a real effect in the data its AUROC lies off 0.5 by
    more than test subjects' sampling: it may be 0.7 or 0.3. Runs with labels of their own show that spread.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan"), float("nan")
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error <= EPS:  # all runs alike: a constant, or a leak that nothing disturbs
        return mean, mean, 1.0 if abs(mean - 0.5) <= EPS else 0.0
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean - 0.5) / error, n - 1))


def _verdict(value: float, p: float) -> str:
    if np.isnan(p):
        return "too few"
    return "passed" if p >= LEVEL else f"FAILED: {'above' if value > 0.5 else 'below'} chance"


def control_rows(predictions: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """The table COLUMNS of all controls, tasks and methods."""
    rows, key = [], ["kind", "task", "method"]
    counts = predictions.groupby(key)["uid"].nunique()
    for (kind, task, method), own in run_scores(predictions).groupby(key, sort=False):
        known = own.dropna(subset="auroc")
        low, high, p = against_chance(known["auroc"].to_numpy(), confidence)
        means = known[["changed", "auroc_all", "auroc"]].mean()
        n = int(counts[kind, task, method])
        rows.append([KINDS[kind], task, method, n, len(known), *means, low, high, p])
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in ("p_holm", "verdict")])
    table["p_holm"] = holm_of_known(table["p"])
    return table.assign(verdict=[_verdict(v, p) for v, p in zip(table["auroc"], table["p_holm"])])


def run(*, predictions: Sequence[Path], options: EvaluateOptions, out: Path) -> None:
    """Write the table of all controls. `predictions`: <control>-<draw>/<task>/predictions.parquet."""
    tables = []
    for path in predictions:
        kind, draw = path.parents[1].name.split("-")
        tables.append(read_table(path).assign(kind=kind, draw=int(draw), task=path.parent.name))
    table = control_rows(pd.concat(tables, ignore_index=True), options.confidence)
    write_tsv(table, out, COLUMNS)
    print(table[["control", "task", "method", "n_runs", "auroc", "low", "high", "p_holm", "verdict"]].to_string(index=False))
