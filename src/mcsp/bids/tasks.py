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
}


def run(*, cohort: Path, name: str, task: Task, out: Path) -> None:
    """Write the number of cases and controls by dataset.

    Raises McspError when the task has one class only: no classifier can be trained for it.
    """
    people = read_table(cohort)
    try:
        y = task_labels(people, task)
    except McspError as error:
        raise McspError(f"tasks.{name}: {error}") from error
    dataset = people.set_index("uid")["dataset"].loc[y.index]
    counts = pd.DataFrame({"dataset": dataset, "n_case": y, "n_control": 1 - y}).groupby("dataset", as_index=False).sum()
    write_tsv(counts[list(COLUMNS)], out, COLUMNS)
    print(counts.to_string(index=False))
