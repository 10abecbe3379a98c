"""Cohort tables whose labels say nothing: shuffled among training and validation subjects, or drawn at random."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.cohort import task_labels
from mcsp.evaluation.resampling import shuffled
from mcsp.evaluation.splits import load_splits, part
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table


def shuffle_strata(people: pd.DataFrame, y: pd.Series) -> pd.Series:
    """Within what labels are shuffled: dataset x site; sites of one class together with such sites of their dataset, and
    such datasets together, or their labels would stay. `people` indexed by uid, `y` by the same.
    """
    strata = people["dataset"] + "/" + people["site"]
    for wider in (people["dataset"] + "/ one class", pd.Series("one class", index=people.index)):
        single = y.groupby(strata).transform("nunique") < 2
        strata = strata.where(~single, wider)
    return strata


def permuted(cohort: pd.DataFrame, splits: pd.DataFrame, fold: int, task: Task, rng: np.random.Generator) -> pd.DataFrame:
    """The cohort with the labels (or what else the task asks for) of the fold's training and validation subjects of the task
    shuffled; those of test subjects stay. Relatives are in one part, so no label crosses over to a test subject's family.
    """
    table, y = cohort.set_index("uid", drop=False), task_labels(cohort, task)
    own = [uid for uid in part(splits, fold, "train", "val") if uid in y.index]
    strata = shuffle_strata(table.loc[own], y.loc[own])
    table.loc[own, task.column] = shuffled(table.loc[own, task.column].to_numpy(), strata.to_numpy(), rng)
    return table.reset_index(drop=True)


def random_labels(cohort: pd.DataFrame, task: Task, rng: np.random.Generator) -> pd.DataFrame:
    """The cohort with a label of the task's cases or controls for everybody, by the toss of a coin."""
    heads = rng.random(len(cohort)) < 0.5
    return cohort.assign(labels=np.where(heads, task.case[0], task.control[0]))


def run(*, control: str, cohort: Path, splits: Path, task_name: str, task: Task, seed: int, out: Path) -> None:
    """Write `out`/cohort_fold-<k>.parquet for every fold. `control`: permuted-<draw> or random-<draw>; every draw, task and
    fold has labels of its own, so that folds are as good as draws.
    """
    people, folds = read_table(cohort).sort_values("uid").reset_index(drop=True), load_splits(splits)
    for fold in sorted(set(folds["fold"])):
        rng = np.random.default_rng([seed, zlib.crc32(f"{control} {task_name}".encode()), fold])
        table = permuted(people, folds, fold, task, rng) if control.startswith("permuted") else random_labels(people, task, rng)
        write_table(table, out / f"cohort_fold-{fold}.parquet")
        print(f"fold {fold}: {(table['labels'] != people['labels']).sum()} of {len(people)} labels are others")
