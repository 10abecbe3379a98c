"""The cohort table: who is in the study, with which labels and modalities. What every stage after the stores reads.

Columns: `uid` (dataset/sub-label), `dataset`, `shard` (int), `subject`, `site`, `age` (years, NaN unknown), `sex`
('M', 'F' or None), `handedness` ('R', 'L', 'A' or None), `iq` (NaN unknown) and `medication` ('yes', 'no' or None),
from which nothing is computed, `family` (relatives share it; the uid where there are none), `labels` (';'-joined, sorted),
`mean_fd` (mm, NaN unknown), `t_r` (s), `sfreq` (Hz), `gap_mm`, `spline_error` and `top_hz` as recorded (NaN unknown),
`fingerprints` of its recordings (';'-joined), `has_fmri`, `has_eeg` (bool: the subject is in the stores of that modality).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.errors import McspError
from mcsp.options.tasks import Task
from mcsp.store import Store

MODALITIES = ("fmri", "eeg")
DOMAINS = ("spatial", "temporal", "spectral")


def store_path(root: str | Path, dataset: str, modality: str, domain: str, shard: int) -> Path:
    """Path of one shard's store."""
    return Path(root) / dataset / modality / domain / f"shard-{shard:03d}.arrow"


def of_modalities(cohort: pd.DataFrame, modalities: set[str]) -> pd.DataFrame:
    """The cohort as a model of these modalities sees it, so that rivals read the same recordings of the same subjects."""
    hidden = {f"has_{m}": False for m in MODALITIES if m not in modalities}
    seen = cohort.assign(**hidden)
    return seen[seen[[f"has_{m}" for m in MODALITIES]].any(axis=1)].reset_index(drop=True)


def _values(cohort: pd.DataFrame, task: Task) -> pd.Series:
    """What each subject has of the task's column, as a set; empty where it is not known."""
    if task.column == "labels":
        return cohort["labels"].str.split(";").map(lambda own: set(own) - {""})
    return cohort[task.column].map(lambda value: set() if pd.isna(value) else {value})


def task_labels(cohort: pd.DataFrame, task: Task) -> pd.Series:
    """The answer of each subject, indexed by uid: 1 for cases, 0 for controls; the number of the class in `task.classes`; the
    value in regression. Subjects without one are left out.

    A comorbid subject with any label of `case` is a case, also when it has a label of `control` beside it; one of two
    `classes` is left out; with `comorbid: exclude`, so is whoever has a label beside those of one side. Raises McspError when a
    side is empty, or the value the same for everybody.
    """
    if task.kind == "regression":
        known = cohort.set_index("uid")[task.column].astype(float).dropna().rename("y")
        if known.nunique() < 2:
            raise McspError(f"task has nothing to predict: {task.column} is known of {len(known)} subjects, and does not vary")
        return known
    own, sides = _values(cohort, task), task.sides()
    if task.comorbid == "exclude":
        inside = {name: own.map(lambda values, side=side: bool(values) and values <= side) for name, side in sides.items()}
    else:
        inside = {name: own.map(lambda values, side=side: bool(values & side)) for name, side in sides.items()}
    if task.kind == "binary":
        inside["control"] &= ~inside["case"]
    table = pd.DataFrame(inside)
    table = table[table.sum(axis=1) == 1]
    empty = [name for name in sides if not table[name].any()]
    if empty:
        name, what = empty[-1], "label(s)" if task.column == "labels" else task.column
        alone = " and no other label (comorbid: exclude)" if task.comorbid == "exclude" else ""
        kind = "one class only" if task.kind == "binary" else "an empty class"
        raise McspError(
            f"task has {kind}: no subject left with {name} {what} {', '.join(sorted(sides[name]))}{alone}: see exclusions.tsv"
        )
    number = table.to_numpy().argmax(axis=1)
    return pd.Series(number, index=cohort.loc[table.index, "uid"].to_numpy(), name="y")


def without_answer(cohort: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The cohort without the column that the task asks for, so that no rival reads the answer in the phenotype."""
    hidden = {"sex": {"sex": None}, "age": {"age": float("nan")}}.get(task.column)
    return cohort.assign(**hidden) if hidden else cohort


def read_domain(
    root: str | Path,
    cohort: pd.DataFrame,
    modality: str,
    domain: str,
    reduce: Callable[[np.ndarray], np.ndarray] = np.array,
) -> dict[str, np.ndarray]:
    """uid -> `reduce(tensor)` for the subjects of `cohort` that have `modality`, in the cohort's order.

    Only the reduced rows are held; the stores are memory-mapped. Raises McspError when a subject of the cohort is not
    in its store, or is there twice.
    """
    wanted = cohort[cohort[f"has_{modality}"]]
    found: dict[str, np.ndarray] = {}
    for (dataset, shard), group in wanted.groupby(["dataset", "shard"], sort=True):
        store = Store(store_path(root, dataset, modality, domain, shard))
        uids = set(group["uid"])
        for index, uid in enumerate(store.uids):
            if uid not in uids:
                continue
            if uid in found:
                raise McspError(f"{store.path}: {uid} stands twice: delete the store and rerun its stage")
            found[uid] = reduce(store.row(index))
    missing = [uid for uid in wanted["uid"] if uid not in found]
    if missing:
        raise McspError(f"{root}: {modality}/{domain} lacks {', '.join(missing[:3])} (of {len(missing)}): rerun its stage")
    return {uid: found[uid] for uid in wanted["uid"]}


def domain_meta(root: str | Path, cohort: pd.DataFrame, modality: str, domain: str) -> dict:
    """Metadata of the first store of `modality` and `domain` that the cohort uses."""
    first = cohort[cohort[f"has_{modality}"]].iloc[0]
    return Store(store_path(root, first["dataset"], modality, domain, int(first["shard"]))).meta
