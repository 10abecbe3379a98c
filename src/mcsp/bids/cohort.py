"""The cohort: ingest's shards and the stages' outcomes in one table, doubles removed, and everybody left out with why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.errors import McspError
from mcsp.shards import STATUS_COLUMNS
from mcsp.store import read_table, read_tsv, write_table, write_tsv

COLUMNS = {
    "uid": "Subject: dataset/sub-label",
    "dataset": "Dataset's name in the study file",
    "shard": "Unit of work that the subject belongs to",
    "subject": "Label without sub-",
    "site": "Recording site",
    "age": "Age in years",
    "sex": "M or F",
    "family": "Relatives share it; they are never split over folds",
    "labels": "control or disorders, joined by ';'",
    "mean_fd": "Mean framewise displacement in mm",
    "has_fmri": "The subject has usable fMRI",
    "has_eeg": "The subject has usable EEG",
}


def doubles(subjects: pd.DataFrame, recordings: pd.DataFrame) -> pd.DataFrame:
    """Exclusions of subjects that share a recording (same fingerprint) with another: one with labels stays, else the first."""
    labelled = subjects.set_index("uid")["labels"].ne("")
    rows = []
    for _, group in recordings.groupby("fingerprint"):
        uids = sorted(set(group["uid"]), key=lambda uid: (not labelled.get(uid, False), uid))
        rows += [(uid, f"same recording as {uids[0]}: a double") for uid in uids[1:]]
    table = pd.DataFrame(rows, columns=["uid", "reason"]).drop_duplicates("uid")
    return table.assign(dataset=table["uid"].str.split("/").str[0], stage="ingest", state="excluded")[list(STATUS_COLUMNS)]


def modality_flags(subjects: pd.DataFrame, recordings: pd.DataFrame, status: pd.DataFrame) -> pd.DataFrame:
    """Subjects with `has_fmri` and `has_eeg`: usable after every stage that ran; before any, recordings count."""
    subjects = subjects.copy()
    for modality in ("fmri", "eeg"):
        stages = [modality, f"connectivity-{modality}", f"spectra-{modality}"]
        with_files = set(recordings.loc[recordings["modality"] == modality, "uid"])
        for stage in stages:
            own = status[status["stage"] == stage]
            if len(own):
                with_files &= set(own.loc[own["state"] == "done", "uid"])
        subjects[f"has_{modality}"] = subjects["uid"].isin(with_files)
    return subjects


def check_datasets(subjects: pd.DataFrame, exclusions: pd.DataFrame, datasets: Sequence[str]) -> None:
    """Raises McspError with a line for each dataset of which nobody is left: the commonest reasons and how often."""
    lines = []
    for name in datasets:
        if name in set(subjects["dataset"]):
            continue
        own = exclusions[exclusions["dataset"] == name]
        common = [f"{reason} ({n}x)" for reason, n in own["reason"].value_counts().head(3).items()]
        lines.append(f"dataset {name} is empty: nobody is left: {'; '.join(common) or 'no subject directory or row was found'}")
    if lines:
        raise McspError("\n".join(lines))


def show(subjects: pd.DataFrame, exclusions: pd.DataFrame) -> None:
    """Print who is in and who is out, per dataset."""
    table = Table("dataset", title="Cohort")
    for column in ("subjects", "fMRI", "EEG", "both", "left out"):
        table.add_column(column, justify="right")
    for name in sorted({*subjects["dataset"], *exclusions["dataset"]}):
        own = subjects[subjects["dataset"] == name]
        out = set(exclusions.loc[exclusions["dataset"] == name, "uid"]) - set(own["uid"])
        both = own["has_fmri"] & own["has_eeg"]
        table.add_row(name, *(str(int(n)) for n in (len(own), own["has_fmri"].sum(), own["has_eeg"].sum(), both.sum(), len(out))))
    Console().print(table)


def run(*, subjects: Sequence[Path], recordings: Sequence[Path], status: Sequence[Path], out: Path, exclusions: Path) -> None:
    """Merge tables of shards (paths `<dataset>/shard-NNN...`) into the cohort table at `out` and a table of exclusions.

    Raises McspError when a dataset is empty.
    """
    people = pd.concat([read_table(path) for path in subjects], ignore_index=True)
    files = pd.concat([read_table(path) for path in recordings], ignore_index=True)
    lines = pd.concat([read_tsv(path) for path in status], ignore_index=True)
    twice = doubles(people, files)
    lines = pd.concat([lines, twice], ignore_index=True)
    people = modality_flags(people[~people["uid"].isin(twice["uid"])], files, lines)
    people = people[people["has_fmri"] | people["has_eeg"]].sort_values("uid").reset_index(drop=True)
    left_out = lines[lines["state"] != "done"].sort_values(["uid", "stage", "reason"]).reset_index(drop=True)
    check_datasets(people, left_out, list(dict.fromkeys(path.parent.name for path in subjects)))
    write_table(people[list(COLUMNS)], out)
    write_tsv(people[list(COLUMNS)], out.with_suffix(".tsv"), COLUMNS)
    write_tsv(left_out[list(STATUS_COLUMNS)], exclusions, STATUS_COLUMNS)
    show(people, left_out)
