"""Open the test subjects once: frozen classifiers and rivals on the same folds, metrics with intervals, paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation.metrics import METRICS, bootstrap, delong, holm, paired_permutation
from mcsp.evaluation.rivals import make_rivals
from mcsp.evaluation.splits import guard, load_splits, part, read_record
from mcsp.model.mcsp import Classifier
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table, write_tsv
from mcsp.training.data import Subjects

METRIC_COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "protocol": "How test subjects were set aside, and what pre-training saw",
    "n": "Test subjects, over all folds",
    "n_case": "Cases among them",
    "metric": "Metric at subject level, from probabilities; decisions at 0.5",
    "value": "Over the pooled test subjects of all folds",
    "low": "Lower end of the bootstrap interval over subjects",
    "high": "Upper end of the bootstrap interval over subjects",
    "fold_mean": "Mean over folds of the metric within each fold",
    "fold_sd": "Standard deviation over folds",
}
COMPARISON_COLUMNS = {
    "task": "Task of the study",
    "method": "Method",
    "rival": "Method that it is compared with, on the same test subjects",
    "metric": "Metric compared",
    "difference": "Method minus rival, pooled test subjects",
    "low": "Lower end of the interval of the difference",
    "high": "Upper end of the interval of the difference",
    "p": "Two-sided p value",
    "p_holm": "p corrected over this table (Holm)",
    "test": "delong, or permutation (methods swapped subject by subject)",
    "verdict": "better, worse, or not told apart, at 0.05 after correction",
}


def mcsp_predictions(
    models: Sequence[Path], stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, sha256: str, y: pd.Series
) -> pd.DataFrame:
    """Probabilities of the frozen classifiers for their folds' test subjects: fold, seed, uid, p, scope.

    Raises McspError when a classifier was made for other folds.
    """
    rows = []
    for folder in track(models, description="classifiers"):
        model = Classifier.from_pretrained(folder)
        if model.config["splits"]["sha256"] != sha256:
            raise McspError(f"{folder}: trained for other folds: rerun `snakemake finetune`")
        fold = model.config["fold"]
        uids = [uid for uid in part(splits, fold, "test") if uid in y.index]
        guard(splits, fold, uids, "test")
        for own, batch in Subjects(stores, cohort, uids, model.backbone.keys).everyone():
            p = model.predict_proba(batch).numpy()
            rows += [(fold, model.config["seed"], uid, float(value), model.config["scope"]) for uid, value in zip(own, p)]
    return pd.DataFrame(rows, columns=["fold", "seed", "uid", "p", "scope"])


def rival_predictions(stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series) -> pd.DataFrame:
    """Probabilities of the rivals, fitted on each fold's training and validation subjects: method, fold, uid, p."""
    people = cohort.set_index("uid", drop=False)
    rows = []
    for make in make_rivals(stores, cohort):
        for fold in track(sorted(set(splits["fold"])), description="rival"):
            train = [uid for uid in part(splits, fold, "train", "val") if uid in y.index]
            test = [uid for uid in part(splits, fold, "test") if uid in y.index]
            guard(splits, fold, train, "train", "val")
            rival = make().fit(people.loc[train], y.loc[train].to_numpy())
            rows += [(rival.name, fold, uid, float(p)) for uid, p in zip(test, rival.predict(people.loc[test]))]
    return pd.DataFrame(rows, columns=["method", "fold", "uid", "p"])


def pooled(predictions: pd.DataFrame) -> pd.DataFrame:
    """One probability per method and subject: the mean over seeds. Columns method, fold, uid, y, p."""
    return predictions.groupby(["method", "fold", "uid", "y"], as_index=False)["p"].mean()


def metric_rows(task: str, means: pd.DataFrame, protocols: dict[str, str], options: EvaluateOptions) -> pd.DataFrame:
    """All metrics of all methods."""
    rows = []
    for method in protocols:
        own = means[means["method"] == method].sort_values("uid")
        y, p = own["y"].to_numpy(), own["p"].to_numpy()
        intervals = bootstrap(y, p, options.n_bootstrap, options.seed, options.confidence)
        folds = [(f["y"].to_numpy(), f["p"].to_numpy()) for _, f in own.groupby("fold")]
        for name, metric in METRICS.items():
            by_fold = [metric(*fold) for fold in folds if 0 < fold[0].mean() < 1]
            center = (
                (np.mean(by_fold), np.std(by_fold, ddof=1) if len(by_fold) > 1 else np.nan) if by_fold else (np.nan, np.nan)
            )
            rows.append((task, method, protocols[method], len(y), int(y.sum()), name, metric(y, p), *intervals[name], *center))
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def _verdict(difference: float, p: float) -> str:
    return "not told apart" if p >= 0.05 else "better" if difference > 0 else "worse"


def comparison_rows(task: str, means: pd.DataFrame, method: str, options: EvaluateOptions) -> pd.DataFrame:
    """`method`, and each imaging rival, against the others on the subjects that both predicted."""
    wide = means.pivot(index="uid", columns="method", values="p").sort_index()
    y_of = means.drop_duplicates("uid").set_index("uid")["y"]
    pairs = [(method, rival) for rival in wide if rival != method]
    pairs += [(rival, "phenotype") for rival in wide if rival not in (method, "phenotype")]
    rows = []
    for a, b in pairs:
        both = wide[[a, b]].dropna()
        y, first, second = y_of.loc[both.index].to_numpy(), both[a].to_numpy(), both[b].to_numpy()
        difference, error, p = delong(y, first, second)
        half = 1.959964 * error
        rows.append([task, a, b, "auroc", difference, difference - half, difference + half, p, "delong"])
        metric = METRICS["balanced_accuracy"]
        p = paired_permutation(y, first, second, "balanced_accuracy", options.n_permutations, options.seed)
        low, high = paired_interval(y, first, second, "balanced_accuracy", options)
        rows.append([task, a, b, "balanced_accuracy", metric(y, first) - metric(y, second), low, high, p, "permutation"])
    table = pd.DataFrame(rows, columns=[c for c in COMPARISON_COLUMNS if c not in ("p_holm", "verdict")])
    table["p_holm"] = holm(table["p"])
    table["verdict"] = [_verdict(d, p) for d, p in zip(table["difference"], table["p_holm"])]
    return table[list(COMPARISON_COLUMNS)]


def paired_interval(y: np.ndarray, a: np.ndarray, b: np.ndarray, metric: str, options: EvaluateOptions) -> tuple[float, float]:
    """Bootstrap interval over subjects of the difference of a metric."""
    rng = np.random.default_rng(options.seed)
    groups = [np.flatnonzero(y == value) for value in (0, 1)]
    draws = []
    for _ in range(options.n_bootstrap):
        index = np.concatenate([rng.choice(group, len(group)) for group in groups])
        draws.append(METRICS[metric](y[index], a[index]) - METRICS[metric](y[index], b[index]))
    tail = (1 - options.confidence) / 2
    return tuple(float(v) for v in np.quantile(draws, [tail, 1 - tail]))


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    task_name: str,
    task: Task,
    models: Sequence[Path],
    options: EvaluateOptions,
    predictions: Path,
    metrics: Path,
    comparisons: Path,
    threads: int,
) -> None:
    """Predict the test subjects of all folds with the frozen classifiers and with the rivals; write predictions
    (method, fold, seed, uid, y, p), metrics and comparisons.
    """
    torch.set_num_threads(threads)
    table, folds, record = read_table(cohort), load_splits(splits), read_record(splits)
    y = task_labels(table, task)
    ours = mcsp_predictions(models, stores, table, folds, record["sha256"], y)
    transductive = (ours["scope"] == "transductive").any()
    name = "mcsp (transductive)" if transductive else "mcsp"
    rivals = rival_predictions(stores, table, folds, y)
    rows = pd.concat([ours.assign(method=name), rivals.assign(seed=0)], ignore_index=True)
    rows["y"] = rows["uid"].map(y)
    rows = rows[["method", "fold", "seed", "uid", "y", "p"]].sort_values(["method", "fold", "seed", "uid"])
    means = pooled(rows)
    scope = "pre-training saw test subjects' recordings" if transductive else "inductive"
    protocols = {
        m: f"{record['protocol']}, {record['n_folds']} folds" + (f", {scope}" if m == name else "")
        for m in rows["method"].unique()
    }
    write_table(rows, predictions)
    results = metric_rows(task_name, means, protocols, options)
    write_tsv(results, metrics, METRIC_COLUMNS)
    write_tsv(comparison_rows(task_name, means, name, options), comparisons, COMPARISON_COLUMNS)
    shown = results[results["metric"].isin(["auroc", "balanced_accuracy"])]
    print(shown[["method", "metric", "n", "value", "low", "high", "fold_mean"]].to_string(index=False))
