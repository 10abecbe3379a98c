"""How many cases and controls each task has, before anything is trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_tsv

COLUMNS = {
    "task": "Task of the study",
    "dataset": "Dataset",
    "n_case": "Subjects with a label of the task's cases",
    "n_control": "Subjects with a label of the task's controls, and none of its cases",
}


def run(*, cohort: Path, tasks: Mapping[str, Task], out: Path) -> None:
    """Write the number of cases and controls by task and dataset.

    Raises McspError with a line for each task that has one class only: no classifier can be trained for it.
    """
    people = read_table(cohort)
    dataset_of = people.set_index("uid")["dataset"]
    rows, wrong = [], []
    for name, task in tasks.items():
        try:
            y = task_labels(people, task)
        except McspError as error:
            wrong.append(f"tasks.{name}: {error}")
            continue
        for dataset, own in y.groupby(dataset_of.loc[y.index]):
            rows.append((name, dataset, int(own.sum()), int((1 - own).sum())))
    if wrong:
        raise McspError("\n".join(wrong))
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), out, COLUMNS)
