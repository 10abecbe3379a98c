"""How many cases and controls a task has, before anything is trained for it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_tsv

COLUMNS = {
    "dataset": "Dataset",
    "n_case": "Subjects with a label of the task's cases",
    "n_control": "Subjects with a label of the task's controls, and none of its cases",
    "n_comorbid": "Subjects with labels beside those of one side: counted here, or left out, as `comorbid` says",
    "comorbid": "The task's rule for them: case or exclude",
}


OTHER_COLUMNS = {
    "dataset": "Dataset",
    "class": "Class of the task; n/a of a number",
    "n": "Subjects",
    "mean": "Mean of the number; n/a of classes",
    "sd": "Its standard deviation; n/a of classes",
}


def other_counts(dataset: pd.Series, y: pd.Series, task: Task) -> pd.DataFrame:
    """Subjects by dataset and class, or by dataset with mean and standard deviation of the number."""
    if task.kind == "regression":
        counts = y.groupby(dataset).agg(n="size", mean="mean", sd="std").reset_index(names="dataset")
    else:
        names = y.map(dict(enumerate(task.classes))).rename("class")
        counts = names.groupby([dataset, names]).size().rename("n").reset_index()
    return counts.reindex(columns=list(OTHER_COLUMNS))


def comorbid_subjects(people: pd.DataFrame, task: Task) -> list[str]:
    """Index of those who have a label of the task and another one that is not of the same side."""
    if task.column != "labels":
        return []
    own = people["labels"].str.split(";").map(lambda values: set(values) - {""})
    sides = [set(task.case), set(task.control)]
    return [uid for uid, values in own.items() if any(values & side for side in sides) and not any(values <= s for s in sides)]


def run(*, cohort: Path, name: str, task: Task, out: Path) -> None:
    """Write the number of cases, controls and comorbid subjects by dataset.

    Raises McspError when the task has one class only: no classifier can be trained for it.
    """
    people = read_table(cohort)
    try:
        y = task_labels(people, task)
    except McspError as error:
        raise McspError(f"tasks.{name}: {error}") from error
    people = people.set_index("uid")
    if task.kind != "binary":
        counts = other_counts(people["dataset"].loc[y.index], y, task)
        write_tsv(counts, out, OTHER_COLUMNS)
        print(counts.to_string(index=False))
        return
    comorbid = comorbid_subjects(people, task)
    sums = {"n_case": y, "n_control": 1 - y, "n_comorbid": pd.Series(1, index=comorbid, dtype=int)}
    table = pd.DataFrame(sums).fillna(0).astype(int)
    counts = table.groupby(people["dataset"].loc[table.index]).sum().reset_index(names="dataset").assign(comorbid=task.comorbid)
    write_tsv(counts[list(COLUMNS)], out, COLUMNS)
    print(counts.to_string(index=False))
