"""One rival as a job: its probabilities for the test subjects of every fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcsp.cohort import of_modalities, task_labels, without_answer
from mcsp.evaluation.rivals.predictions import rival_predictions
from mcsp.evaluation.splits import load_splits
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table


def run(
    *,
    rival: str,
    stores: Path,
    cohort: Path,
    splits: Path,
    task: Task,
    modalities: Sequence[str],
    seed: int,
    out: Path,
) -> None:
    """Write the rival's probabilities (method, fold, uid, p). `modalities`: those of the study's models, so that the rival
    sees what they see. The column that the task asks for is hidden from it.

    Raises McspError for a task with one class.
    """
    seen = of_modalities(read_table(cohort), set(modalities))
    y = task_labels(seen, task)
    rows = rival_predictions(rival, stores, without_answer(seen, task), load_splits(splits), y, seed)
    write_table(rows, out)
    n = rows.groupby("method")["uid"].nunique()
    print(", ".join(f"{method}: {count} test subjects" for method, count in n.items()) or f"{rival}: nobody has what it reads")
