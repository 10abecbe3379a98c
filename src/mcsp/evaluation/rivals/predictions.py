"""Probabilities of one rival for the test subjects of every fold. Controls ask for the same, with labels that say nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.progress import track

from mcsp.evaluation.rivals.catalogue import rival_maker
from mcsp.evaluation.splits import guard, part

COLUMNS = ["method", "fold", "uid", "p"]


def rival_predictions(
    name: str, stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series, seed: int = 0
) -> pd.DataFrame:
    """Probabilities of the rival `name` and its parts, fitted on each fold's training and validation subjects that have a
    label in `y` (by uid): method, fold, uid, p. No rows where nobody has what it reads.

    A fold that tests nobody of the task is passed over, and so is a subject without any modality that the rival reads.
    """
    make, people, rows = rival_maker(name, stores, cohort, seed), cohort.set_index("uid", drop=False), []
    for fold in track(sorted(set(splits["fold"])), description=name) if make else ():
        parts = {p: [uid for uid in part(splits, fold, p) if uid in y.index] for p in ("train", "val", "test")}
        train, test = sorted(parts["train"] + parts["val"]), people.loc[parts["test"]]
        guard(splits, fold, train, "train", "val")
        if test.empty:
            continue
        learners = people.loc[train].assign(part=["val" if uid in set(parts["val"]) else "train" for uid in train])
        rival = make().fit(learners, y.loc[train].to_numpy())
        for one in (rival, *rival.parts()):
            rows += [(one.name, fold, uid, float(p)) for uid, p in zip(parts["test"], one.predict(test))]
    return pd.DataFrame(rows, columns=COLUMNS).dropna(subset="p").reset_index(drop=True)
