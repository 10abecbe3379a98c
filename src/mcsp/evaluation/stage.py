"""Ask frozen classifiers and rivals of the test subjects, on the same folds: metrics with intervals, paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mcsp.cohort import MODALITIES
from mcsp.errors import McspError
from mcsp.evaluation.combat import Combat
from mcsp.evaluation.comparisons import (
    OVER_FOLDS,
    by_subject,
    chance_p,
    fold_row,
    holm_of_known,
    paired_table,
    pooled,
    share_tested,
    subject_row,
    verdict,
)
from mcsp.evaluation.frozen import dropout_predictions, mcsp_predictions, open_test_part
from mcsp.evaluation.metrics import METRICS, bootstrap, per_fold
from mcsp.evaluation.rivals import COMBAT, site_of
from mcsp.evaluation.splits import guard, part, protocol_text
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
    "value": "Over the pooled test subjects of all folds; with repeats, of each subject's mean probability over these",
    "low": "Lower end of the bootstrap interval over subjects",
    "high": "Upper end of the bootstrap interval over subjects",
    "chance": "Value of a method that knows the classes' sizes only; n/a where that depends on its threshold",
    "p_chance": "p of an AUROC this high or higher with labels permuted within folds; n/a for other metrics",
    "p_chance_holm": "p_chance corrected over the methods of the task (Holm)",
    "fold_mean": "Mean over folds of the metric within each fold",
    "fold_low": "Lower end of its bootstrap interval over subjects",
    "fold_high": "Upper end of its bootstrap interval over subjects",
    "fold_sd": "Standard deviation over folds",
    "repeat_sd": "Standard deviation over repeats of the value over one repeat's pooled test subjects; n/a with one repeat",
}
COMPARISON_COLUMNS = {
    "task": "Task of the study",
    "method": "Method",
    "rival": "Method that it is compared with, on the same test subjects",
    "metric": "Metric compared",
    "n": "Test subjects that both predicted",
    "difference": "Method minus rival: over pooled test subjects; with nadeau-bengio, mean over folds",
    "low": "Lower end of the interval of the difference",
    "high": "Upper end of the interval of the difference",
    "p": "Two-sided p value",
    "p_holm": "p corrected (Holm) over the task's tests over subjects and, apart from them, over its tests over folds: all "
    "pairs in this table and both metrics",
    "test": "delong, or permutation (methods swapped subject by subject), or none with one class; nadeau-bengio: t test over "
    "folds, corrected for the overlap of their training parts",
    "df": "Degrees of freedom of the t test; n/a for tests over subjects",
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


def repeat_sd(own: pd.DataFrame, metric: str, n_folds: int) -> float:
    """Standard deviation over repeats (of `n_folds` folds) of a metric of the repeat's pooled subjects; NaN with one repeat."""
    values = [METRICS[metric](o["y"].to_numpy(), o["p"].to_numpy()) for _, o in own.groupby(own["fold"] // n_folds)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def chance_level(metric: str, y: np.ndarray) -> float:
    """What a method gets that knows the share of cases only, and says it of everybody."""
    share = float(y.mean())
    known = {"auroc": 0.5, "balanced_accuracy": 0.5, "accuracy": max(share, 1 - share), "auprc": share}
    return {**known, "brier": share * (1 - share), "calibration_error": 0.0}.get(metric, float("nan"))


def metric_rows(
    task: str, means: pd.DataFrame, protocols: dict[str, str], options: EvaluateOptions, n_folds: int | None = None
) -> pd.DataFrame:
    """All metrics of all methods. `means`: as `pooled` gives them; `n_folds`: folds of each repeat (all, without it)."""
    rows, subjects = [], by_subject(means)
    n_folds = n_folds or int(means["fold"].max()) + 1
    for method, protocol in protocols.items():
        own = means[means["method"] == method].sort_values(["uid", "fold"])
        pool = subjects[subjects["method"] == method]
        y, p, first = pool["y"].to_numpy(), pool["p"].to_numpy(), pool["fold"].to_numpy()
        tested = tuple(own[column].to_numpy() for column in ("y", "p", "fold"))
        settings = (options.n_bootstrap, options.seed, options.confidence)
        again = own["uid"].to_numpy() if len(own) > len(pool) else None
        ends, folds = bootstrap(y, p, *settings), bootstrap(*tested[:2], *settings, fold=tested[2], subject=again)
        p_chance = chance_p(y, p, first, options.n_permutations, options.seed)
        for name, metric in METRICS.items():
            within = per_fold(*tested, name)
            row = {"task": task, "method": method, "protocol": protocol, "n": len(y), "n_case": int(y.sum()), "metric": name}
            row |= {"value": metric(y, p), "low": ends[name][0], "high": ends[name][1], "chance": chance_level(name, y)}
            row |= {"p_chance": p_chance if name == "auroc" else np.nan, "repeat_sd": repeat_sd(own, name, n_folds)}
            row |= {"fold_mean": np.mean(within) if within else np.nan, "fold_low": folds[name][0], "fold_high": folds[name][1]}
            rows.append(row | {"fold_sd": np.std(within, ddof=1) if len(within) > 1 else np.nan})
    table = pd.DataFrame(rows)
    return table.assign(p_chance_holm=holm_of_known(table["p_chance"]))[list(METRIC_COLUMNS)]


def comparison_rows(task: str, means: pd.DataFrame, method: str, options: EvaluateOptions, share: float) -> pd.DataFrame:
    """Pairs of methods on the subjects that both predicted: `method` against each rival, imaging rivals against phenotype,
    and with ComBat against without. `means`: as `pooled` gives them; tests over subjects take each subject's mean over repeats,
    those over folds take the folds of all repeats. `share`: of test subjects in those learnt from, as `share_tested` gives it.
    """
    each, inside = (paired_table(table) for table in (by_subject(means), means))
    names = sorted(set(means["method"]))
    pairs = [(method, rival) for rival in names if rival != method]
    pairs += [(rival, "phenotype") for rival in names if rival not in (method, "phenotype")]
    pairs += [(rival, rival.removesuffix(COMBAT)) for rival in names if rival.endswith(COMBAT)]
    rows = []
    for a, b in pairs:
        own, tested = (table.dropna(subset=[a, b]) for table in (each, inside))
        head = {"task": task, "method": a, "rival": b, "n": len(own)}
        subjects = [own[column].to_numpy() for column in ("y", a, b)]
        folds = [tested[column].to_numpy() for column in ("y", a, b, "fold")]
        for metric in ("auroc", "balanced_accuracy"):
            over_folds = fold_row(*folds, metric, share, options.confidence)
            rows.append({**head, "metric": metric, **subject_row(*subjects, metric, options)})
            rows.append({**head, "metric": metric, **over_folds, "test": OVER_FOLDS})
    table = pd.DataFrame(rows, columns=[c for c in COMPARISON_COLUMNS if c not in ("p_holm", "verdict")])
    table["p_holm"] = table.groupby(table["test"] == OVER_FOLDS)["p"].transform(lambda p: holm_of_known(p))
    table["verdict"] = [verdict(d, p) for d, p in zip(table["difference"], table["p_holm"])]
    return table[list(COMPARISON_COLUMNS)]


def modalities_of(cohort: pd.DataFrame) -> pd.Series:
    """uid -> 'fmri', 'eeg' or 'fmri+eeg'."""
    texts = ["+".join(m for m in MODALITIES if row[f"has_{m}"]) for row in cohort.to_dict("records")]
    return pd.Series(texts, index=cohort["uid"].to_numpy())


def recordings_tested(cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series) -> int:
    """Recordings of the task that any fold tests, each counted once however many folds test it."""
    tested = set(splits.loc[splits["part"] == "test", "uid"]) & set(y.index)
    return int(cohort.loc[cohort["uid"].isin(tested), [f"has_{m}" for m in MODALITIES]].to_numpy().sum())


def combat_text(sites: pd.DataFrame, n_recordings: int) -> str:
    """How many test recordings ComBat could correct, in words; of repeats, how many of their tests. `n_recordings`: as
    `recordings_tested` counts them.
    """
    n = {state: int(own.sum()) for state, own in sites.groupby("state")["n_test"]}
    corrected, unseen, total = n.get("fitted", 0), n.get("unseen", 0), sum(n.values())
    what = "test recordings" if total == n_recordings else f"tests of {n_recordings} recordings"
    text = f"ComBat corrected {corrected} of {total} {what}"
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
    validation: Path,
    dropout: Path,
    threads: int,
) -> None:
    """Predict the test subjects of all folds with the frozen classifiers, put the `rivals`' predictions beside theirs; write
    predictions (method, fold, seed, uid, modalities, y, p), metrics, comparisons, and the sites that were harmonised; of the
    frozen classifiers also probabilities of validation subjects (fold, seed, uid, y, p) and of test subjects in passes with
    dropout.

    Raises McspError for classifiers or rivals of other folds or another task, and for a task with one class.
    """
    torch.set_num_threads(threads)
    test = open_test_part(models, stores, cohort, splits, task)
    name = "mcsp (transductive)" if test.transductive else "mcsp"
    rows = pd.concat([test.rows.assign(method=name), read_rivals(rivals, test.splits, test.y).assign(seed=0)])
    sites = harmonised_sites(test.cohort, test.splits, test.y)
    sites = sites if options.harmonise == "combat" else sites[:0]
    corrected = combat_text(sites, recordings_tested(test.cohort, test.splits, test.y))
    methods = list(dict.fromkeys(rows["method"]))
    rows["y"] = rows["uid"].map(test.y)
    rows["modalities"] = rows["uid"].map(modalities_of(test.cohort))
    rows = rows[["method", "fold", "seed", "uid", "modalities", "y", "p"]].sort_values(["method", "fold", "seed", "uid"])
    means = pooled(rows)
    scope = "pre-training saw test subjects' recordings" if test.transductive else "inductive"
    protocols = {m: protocol_text(test.record) + (f", {scope}" if m == name else "") for m in methods}
    protocols |= {m: f"{protocols[m]}, {corrected}" for m in methods if m.endswith(COMBAT)}
    frozen = (test.models, stores, test.cohort, test.splits, test.y)
    write_table(rows, predictions)
    results = metric_rows(task_name, means, protocols, options, test.record["n_folds"])
    write_tsv(results, metrics, METRIC_COLUMNS)
    share = share_tested(test.splits, test.y.index)
    write_tsv(comparison_rows(task_name, means, name, options, share), comparisons, COMPARISON_COLUMNS)
    write_tsv(sites[list(HARMONISATION_COLUMNS)], harmonisation, HARMONISATION_COLUMNS)
    for path, table in (
        (validation, mcsp_predictions(*frozen, of="val")),
        (dropout, dropout_predictions(*frozen, options.n_dropout, options.seed)),
    ):
        write_table(table.assign(y=table["uid"].map(test.y)).sort_values(["fold", "seed", "uid"]), path)
    shown = results[results["metric"].isin(["auroc", "balanced_accuracy"])]
    print(shown[["method", "metric", "n", "value", "low", "high", "fold_mean"]].to_string(index=False))
    if len(sites):
        print(corrected)
