"""Test subjects by classifiers and rivals that learnt labels which say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from mcsp.cohort import of_modalities, task_labels, without_answer
from mcsp.evaluation.frozen import check_models, check_unseen, mcsp_predictions
from mcsp.evaluation.rivals.predictions import rival_predictions
from mcsp.evaluation.splits import load_splits, part, read_record
from mcsp.model.mcsp import Classifier
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table


def fold_predictions(
    model: Classifier,
    stores: Path,
    table: pd.DataFrame,
    true: pd.DataFrame,
    splits: pd.DataFrame,
    task: Task,
    options: EvaluateOptions,
) -> pd.DataFrame:
    """method, uid, site, y, p and changed (share of the training labels that are not the true ones) of one fold's test
    subjects, by MCSP and all rivals of `options`. `table`: cohort with the control's labels; `true`: the study's.
    """
    fold, modalities = model.config["fold"], {m for m, _ in model.backbone.keys}
    seen = of_modalities(table, modalities)
    y, own = task_labels(seen, task), splits[splits["fold"] == fold]
    ours = mcsp_predictions([model], stores, seen, own, y).assign(method="mcsp")
    asked, names = without_answer(seen, task), options.rivals_of(modalities)
    rivals = [rival_predictions(name, stores, asked, own, y, options.seed) for name in names]
    people, learnt = seen.set_index("uid"), [uid for uid in part(own, fold, "train", "val") if uid in y.index]
    site, answers = people["dataset"] + "/" + people["site"], true.set_index("uid")[task.column]
    rows = pd.concat([ours, *rivals], ignore_index=True)
    rows = rows.assign(fold=fold, site=rows["uid"].map(site), y=rows["uid"].map(y))
    rows["changed"] = float((people.loc[learnt, task.column] != answers.loc[learnt]).mean())
    return rows[["method", "fold", "uid", "site", "y", "p", "changed"]]


def run(
    *,
    stores: Path,
    cohort: Path,
    labels: Path,
    splits: Path,
    task: Task,
    models: Sequence[Path],
    options: EvaluateOptions,
    out: Path,
    threads: int,
) -> None:
    """Predict each fold's test subjects by its classifier, and by rivals that learn the labels in `labels`/cohort_fold-*.

    Raises McspError for classifiers of other folds or another task, and for those that saw their test subjects in training.
    """
    torch.set_num_threads(threads)
    folds, true = load_splits(splits), read_table(cohort)
    classifiers = [Classifier.from_pretrained(folder) for folder in models]
    configs = [model.config for model in classifiers]
    check_models(configs, folds, read_record(splits)["sha256"], task)
    check_unseen(configs, true, folds)
    parts = []
    for model in classifiers:
        table = read_table(labels / f"cohort_fold-{model.config['fold']}.parquet")
        parts.append(fold_predictions(model, stores, table, true, folds, task, options))
    rows = pd.concat(parts, ignore_index=True).sort_values(["method", "fold", "uid"])
    write_table(rows, out)
    print(f"{rows['uid'].nunique()} test subjects, {rows['method'].nunique()} methods: {out}")
