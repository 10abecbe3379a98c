"""Test subjects by the frozen classifiers of one variant of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mcsp.evaluation.frozen import open_test_part
from mcsp.options.tasks import Task
from mcsp.store import write_table


def run(*, stores: Path, cohort: Path, splits: Path, task: Task, models: Sequence[Path], out: Path, threads: int) -> None:
    """Write scope (of pre-training), fold, seed, uid, y and p (probability of being a case) of all folds' test subjects."""
    torch.set_num_threads(threads)
    test = open_test_part(models, stores, cohort, splits, task)
    rows = test.rows.assign(y=test.rows["uid"].map(test.y), scope="transductive" if test.transductive else "inductive")
    write_table(rows[["scope", "fold", "seed", "uid", "y", "p"]].sort_values(["fold", "seed", "uid"]), out)
    print(f"{rows['uid'].nunique()} test subjects, {len(models)} classifiers: {out}")
