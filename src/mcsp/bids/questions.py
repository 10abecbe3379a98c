"""Can the study's questions be put to those who look usable? Tasks need two classes, folds need people and sites."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation.splits import make_folds
from mcsp.options.tasks import Task
from mcsp.options.training import SplitOptions

Finding = tuple[str, str, str]  # severity, what it is about, problem
PERSON_COLUMNS = ("uid", "dataset", "site", "family", "labels", "age", "sex")


def _counts(y: pd.Series, task: Task) -> str:
    if task.kind == "regression":
        return f"{task.column} is known of {len(y)} who look usable"
    sides = {1: "cases", 0: "controls"} if task.kind == "binary" else dict(enumerate(task.classes))
    return ", ".join(f"{(y == number).sum()} {side}" for number, side in sides.items()) + " look usable"


def _answers(people: pd.DataFrame, tasks: Mapping[str, Task]) -> tuple[dict[str, pd.Series], list[Finding]]:
    """(task -> answers by uid of the tasks that can be asked; how many there are, or why a task can't be)."""
    answers, found = {}, []
    for name, task in tasks.items():
        try:
            answers[name] = task_labels(people, task)
            found.append(("note", f"tasks.{name}", _counts(answers[name], task)))
        except McspError as error:
            text = str(error).removesuffix(": see exclusions.tsv")
            found.append(("error", f"tasks.{name}", f"{text}: mend the task, or the columns that it is answered by"))
    return answers, found


def _in_folds(name: str, y: pd.Series, folds: pd.Series) -> list[Finding]:
    """What is wrong with a task of classes in the folds (uid -> fold that tests)."""
    own = folds.loc[y.index]
    parts = {fold: (y[own != fold], y[own == fold]) for fold in sorted(folds.unique())}
    untrained = [fold for fold, (train, _) in parts.items() if train.nunique() < y.nunique()]
    alone = [fold for fold, (_, test) in parts.items() if test.nunique() < 2]
    if untrained:
        text = f"nobody of one of its classes is left to train on in fold {untrained[0]} ({len(untrained)} of {len(parts)})"
        return [("error", f"tasks.{name}", f"{text}: change splits.protocol, or lower splits.n_folds")]
    if alone:
        text = f"{len(alone)} of {len(parts)} folds test one class or nobody: their own metrics are left out"
        return [("warning", f"tasks.{name}", f"{text}: lower splits.n_folds to have all")]
    return []


def check_questions(people: pd.DataFrame, tasks: Mapping[str, Task], splits: SplitOptions | None) -> list[Finding]:
    """What there is to say of the tasks and folds of those who look usable: `people` has a row for each, with the columns
    `PERSON_COLUMNS` of the cohort table. Folds that a file gives are left to the stage that reads it.
    """
    answers, found = _answers(people, tasks)
    if splits is None or splits.protocol == "file":
        return found
    try:
        folds = make_folds(people, splits).set_axis(people["uid"])
    except McspError as error:
        return [*found, ("error", "folds", str(error))]
    for name, y in answers.items():
        found += _in_folds(name, y, folds) if tasks[name].kind != "regression" else []
    return found
