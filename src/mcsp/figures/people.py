"""What is told of the cohort, here and in the report: groups, sites, modalities, reasons of exclusions."""

from __future__ import annotations

import re

import pandas as pd

MOST_GROUPS = 6
OTHER, NONE = "other", "no label"


def short_reason(text: str) -> str:
    """A reason without what differs between subjects (names, numbers, remedies), so that one defect counts once."""
    plain = re.sub(r"\S*(sub-|/)\S*", "…", re.split(r": | \(", str(text))[0])
    return re.sub(r"\d[\d.]*", "…", plain).strip()


def groups(people: pd.DataFrame, most: int = MOST_GROUPS) -> pd.Series:
    """Each subject's labels as one group ('ADHD + ASD'), a categorical in the order of display: controls, then by size; beyond
    `most` groups the rest is 'other'.
    """
    labels = people["labels"].fillna("").replace("", NONE).str.replace(";", " + ")
    sizes = labels.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    order = [name for name in ("control",) if name in sizes] + [name for name in sizes.index if name not in ("control", NONE)]
    shown = order if len(order) <= most else order[: most - 1]
    own = labels.where(labels.isin([*shown, NONE]), OTHER)
    order = [*shown, *(name for name in (OTHER, NONE) if name in set(own))]
    return pd.Series(pd.Categorical(own, order), index=people.index)


def sites(people: pd.DataFrame) -> pd.Series:
    """'site', or 'dataset: site' where the study has several datasets."""
    return people["dataset"] + ": " + people["site"] if people["dataset"].nunique() > 1 else people["site"]


def sides(people: pd.DataFrame) -> list[tuple[str, int]]:
    """How many have both modalities, and how many one: (name, n)."""
    fmri, eeg = people["has_fmri"], people["has_eeg"]
    parts = {"fMRI and EEG": fmri & eeg, "fMRI only": fmri & ~eeg, "EEG only": eeg & ~fmri}
    return [(name, int(own.sum())) for name, own in parts.items()]
