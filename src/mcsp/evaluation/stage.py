"""Open the test subjects once: frozen classifiers and rivals on the same folds, metrics with intervals, paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mcsp.cohort import MODALITIES
from mcsp.errors import McspError
from mcsp.evaluation.combat import Combat
from mcsp.evaluation.frozen import open_test_part
from mcsp.evaluation.metrics import METRICS, bootstrap, delong, holm, paired_permutation, per_fold
from mcsp.evaluation.rivals import COMBAT, site_of
from mcsp.evaluation.splits import guard, part
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table, write_tsv

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
    "chance": "Value of a method that knows the classes' sizes only; n/a where that depends on its threshold",
    "fold_mean": "Mean over folds of the metric within each fold",
    "fold_low": "Lower end of its bootstrap interval over subjects",
    "fold_high": "Upper end of its bootstrap interval over subjects",
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
HARMONISATION_COLUMNS = {
    "fold": "Fold",
    "modality": "fmri or eeg: each is harmonised on its own",
    "site": "Dataset and site",
    "n_train": "Training and validation subjects of the task with this modality: what ComBat was fitted on",
    "n_test": "Test subjects of the task with this modality",
    "state": "fitted; too few (training subjects), only site (there is nothing to harmonise it with) or unseen (no training "
    "subject): subjects of these sites are left as they are",
}


def read_rivals(paths: Sequence[Path], splits: pd.DataFrame, y: pd.Series) -> pd.DataFrame:
    """Probabilities of all rivals: method, fold, uid, p. Raises McspError where one predicts somebody whom its fold does not
    test, or who is not in the task.
    """
    rows = pd.concat([read_table(path) for path in paths], ignore_index=True)
    for fold, own in rows.groupby("fold"):
        guard(splits, fold, own["uid"], "test")
    strange = rows.loc[~rows["uid"].isin(y.index), "uid"]
    if len(strange):
        raise McspError(f"{paths[0].parent}: {strange.iloc[0]} is not in the task: delete the directory and rerun `evaluate`")
    return rows


def harmonised_sites(cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series) -> pd.DataFrame:
    """What ComBat knows of each site in each fold, as HARMONISATION_COLUMNS has it; folds that test nobody are left out."""
    people, rows = cohort.set_index("uid", drop=False), []
    for fold, modality in product(sorted(set(splits["fold"])), MODALITIES):
        known = {p: [uid for uid in part(splits, fold, *p.split("+")) if uid in y.index] for p in ("train+val", "test")}
        if not known["test"]:
            continue
        train, test = (site_of(own[own[f"has_{modality}"]]) for own in (people.loc[uids] for uids in known.values()))
        combat, tested = Combat().count(train.to_numpy(str)), test.value_counts()
        for site in sorted({*train, *test}):
            rows.append((fold, modality, site, combat.n_train.get(site, 0), int(tested.get(site, 0)), combat.state(site)))
    return pd.DataFrame(rows, columns=list(HARMONISATION_COLUMNS))


def pooled(predictions: pd.DataFrame) -> pd.DataFrame:
    """One probability per method and subject: the mean over seeds. Columns method, fold, uid, y, p."""
    return predictions.groupby(["method", "fold", "uid", "y"], as_index=False)["p"].mean()


def chance_level(metric: str, y: np.ndarray) -> float:
    """What a method gets that knows the share of cases only, and says it of everybody."""
    share = float(y.mean())
    known = {"auroc": 0.5, "balanced_accuracy": 0.5, "accuracy": max(share, 1 - share), "auprc": share}
    return {**known, "brier": share * (1 - share), "calibration_error": 0.0}.get(metric, float("nan"))


def metric_rows(task: str, means: pd.DataFrame, protocols: dict[str, str], options: EvaluateOptions) -> pd.DataFrame:
    """All metrics of all methods."""
    rows = []
    for method, protocol in protocols.items():
        own = means[means["method"] == method].sort_values("uid")
        y, p, fold = own["y"].to_numpy(), own["p"].to_numpy(), own["fold"].to_numpy()
        draws = (y, p, options.n_bootstrap, options.seed, options.confidence)
        pool, folds = bootstrap(*draws), bootstrap(*draws, fold=fold)
        for name, metric in METRICS.items():
            within = per_fold(y, p, fold, name)
            row = {"task": task, "method": method, "protocol": protocol, "n": len(y), "n_case": int(y.sum()), "metric": name}
            row |= {"value": metric(y, p), "low": pool[name][0], "high": pool[name][1], "chance": chance_level(name, y)}
            row |= {"fold_mean": np.mean(within) if within else np.nan, "fold_low": folds[name][0], "fold_high": folds[name][1]}
            rows.append(row | {"fold_sd": np.std(within, ddof=1) if len(within) > 1 else np.nan})
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def _verdict(difference: float, p: float) -> str:
    return "not told apart" if p >= 0.05 else "better" if difference > 0 else "worse"


def comparison_rows(task: str, means: pd.DataFrame, method: str, options: EvaluateOptions) -> pd.DataFrame:
    """Pairs of methods on the subjects that both predicted: `method` against each rival, imaging rivals against phenotype,
    and with ComBat against without.
    """
    wide = means.pivot(index="uid", columns="method", values="p").sort_index()
    y_of = means.drop_duplicates("uid").set_index("uid")["y"]
    pairs = [(method, rival) for rival in wide if rival != method]
    pairs += [(rival, "phenotype") for rival in wide if rival not in (method, "phenotype")]
    pairs += [(rival, rival.removesuffix(COMBAT)) for rival in wide if rival.endswith(COMBAT)]
    rows = []
    for a, b in pairs:
        both = wide[[a, b]].dropna()
        y, first, second = y_of.loc[both.index].to_numpy(), both[a].to_numpy(), both[b].to_numpy()
        difference, error, p = delong(y, first, second)
        half, test = stats.norm.ppf(0.5 + options.confidence / 2) * error, "delong"
        low, high = difference - half, difference + half
        if np.isnan(p):
            p, test = paired_permutation(y, first, second, "auroc", options.n_permutations, options.seed), "permutation"
            low, high = paired_interval(y, first, second, "auroc", options)
        rows.append([task, a, b, "auroc", difference, low, high, p, test])
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


def modalities_of(cohort: pd.DataFrame) -> pd.Series:
    """uid -> 'fmri', 'eeg' or 'fmri+eeg'."""
    texts = ["+".join(m for m in MODALITIES if row[f"has_{m}"]) for row in cohort.to_dict("records")]
    return pd.Series(texts, index=cohort["uid"].to_numpy())


def protocol_text(record: dict) -> str:
    """How test subjects were set aside, in words."""
    if record["protocol"] == "leave-one-site-out" and record["n_folds"] < record["n_sites"]:
        return f"leave-sites-out, {record['n_folds']} groups of {record['n_sites']} sites"
    return f"{record['protocol']}, {record['n_folds']} folds"


def combat_text(sites: pd.DataFrame) -> str:
    """How many test recordings ComBat could correct, in words."""
    n = {state: int(own.sum()) for state, own in sites.groupby("state")["n_test"]}
    corrected, unseen, total = n.get("fitted", 0), n.get("unseen", 0), sum(n.values())
    text = f"ComBat corrected {corrected} of {total} test recordings"
    return text + (f"; {unseen} are of sites unseen in training, and left as they are" if unseen else "")


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    task_name: str,
    task: Task,
    models: Sequence[Path],
    rivals: Sequence[Path],
    options: EvaluateOptions,
    predictions: Path,
    metrics: Path,
    comparisons: Path,
    harmonisation: Path,
    threads: int,
) -> None:
    """Predict the test subjects of all folds with the frozen classifiers, put the `rivals`' predictions beside theirs; write
    predictions (method, fold, seed, uid, modalities, y, p), metrics, comparisons, and the sites that were harmonised.

    Raises McspError for classifiers or rivals of other folds or another task, and for a task with one class.
    """
    torch.set_num_threads(threads)
    test = open_test_part(models, stores, cohort, splits, task)
    name = "mcsp (transductive)" if test.transductive else "mcsp"
    rows = pd.concat([test.rows.assign(method=name), read_rivals(rivals, test.splits, test.y).assign(seed=0)])
    sites = harmonised_sites(test.cohort, test.splits, test.y)
    sites = sites if options.harmonise == "combat" else sites[:0]
    methods = list(dict.fromkeys(rows["method"]))
    rows["y"] = rows["uid"].map(test.y)
    rows["modalities"] = rows["uid"].map(modalities_of(test.cohort))
    rows = rows[["method", "fold", "seed", "uid", "modalities", "y", "p"]].sort_values(["method", "fold", "seed", "uid"])
    means = pooled(rows)
    scope = "pre-training saw test subjects' recordings" if test.transductive else "inductive"
    protocols = {m: protocol_text(test.record) + (f", {scope}" if m == name else "") for m in methods}
    protocols |= {m: f"{protocols[m]}, {combat_text(sites)}" for m in methods if m.endswith(COMBAT)}
    write_table(rows, predictions)
    results = metric_rows(task_name, means, protocols, options)
    write_tsv(results, metrics, METRIC_COLUMNS)
    write_tsv(comparison_rows(task_name, means, name, options), comparisons, COMPARISON_COLUMNS)
    write_tsv(sites[list(HARMONISATION_COLUMNS)], harmonisation, HARMONISATION_COLUMNS)
    shown = results[results["metric"].isin(["auroc", "balanced_accuracy"])]
    print(shown[["method", "metric", "n", "value", "low", "high", "fold_mean"]].to_string(index=False))
    if len(sites):
        print(combat_text(sites))
