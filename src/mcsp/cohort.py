"""The cohort table: who is in the study, with which labels and modalities. What every stage after the stores reads.

Columns: `uid` (dataset/sub-label), `dataset`, `shard` (int), `subject`, `site`, `age` (years, NaN unknown), `sex`
('M', 'F' or None), `family` (relatives share it; the uid where there are none), `labels` (';'-joined, sorted),
`mean_fd` (mm, NaN unknown), `t_r` (s), `sfreq` (Hz) and `gap_mm` as recorded (NaN unknown), `fingerprints` of its recordings
(';'-joined), `has_fmri`, `has_eeg` (bool: the subject is in the stores of that modality).
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


def task_labels(cohort: pd.DataFrame, task: Task) -> pd.Series:
    """1 for cases, 0 for controls, indexed by uid; subjects that are neither are left out.

    A comorbid subject with any label of `case` is a case, also when it has a label of `control` beside it.
    Raises McspError when one side is empty.
    """
    labels = cohort["labels"].str.split(";")
    case = labels.map(lambda own: bool(set(own) & set(task.case)))
    control = labels.map(lambda own: bool(set(own) & set(task.control))) & ~case
    if not case.any() or not control.any():
        side, names = ("case", task.case) if not case.any() else ("control", task.control)
        raise McspError(f"task has one class only: no subject left with {side} label(s) {', '.join(names)}: see exclusions.tsv")
    chosen = case | control
    return pd.Series(case[chosen].astype(int).to_numpy(), index=cohort.loc[chosen, "uid"].to_numpy(), name="y")


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
