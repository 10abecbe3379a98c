"""The cohort: ingest's shards and the stages' outcomes in one table, doubles removed, and everybody left out with why."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.cohort import MODALITIES
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
    "handedness": "R, L or A (ambidextrous or mixed); nothing is computed from it",
    "iq": "Full-scale IQ; nothing is computed from it",
    "medication": "Psychotropic medication, yes or no, as the dataset asks for it; nothing is computed from it",
    "family": "Relatives share it; they are never split over folds",
    "labels": "control or disorders, joined by ';'",
    "mean_fd": "Mean framewise displacement in mm",
    "t_r": "Repetition time in s, as recorded",
    "sfreq": "Sampling rate of the EEG in Hz, as recorded",
    "gap_mm": "Largest distance in mm from a channel of the common montage to the nearest good electrode",
    "spline_error": "Error of splines that foretell electrodes from the others, as a share of their signal; 0: none needed",
    "top_hz": "Upper edge in Hz of the band that the EEG is left with",
    "fingerprints": "Hashes of the subject's recordings, joined by ';'",
    "has_fmri": "The subject has usable fMRI",
    "has_eeg": "The subject has usable EEG",
}


def _line(uid: str, reason: str) -> tuple:
    return uid, uid.split("/")[0], "cohort", "excluded", reason


def modality_flags(subjects: pd.DataFrame, recordings: pd.DataFrame, status: pd.DataFrame) -> pd.DataFrame:
    """Subjects with `has_fmri` and `has_eeg`.

    A modality counts when the subject has a recording of it that ingestion did not exclude and, once stages have run,
    every stage of that modality ended with 'done'.
    """
    subjects = subjects.copy()
    ingested = set(status.loc[(status["stage"] == "ingest") & (status["state"] == "done"), "uid"])
    # What preprocessing left out has no line in the fMRI stage, and datasets that need none have no line there.
    later = status[~status["stage"].str.startswith(("ingest", "preprocess"))]
    for modality in MODALITIES:
        usable = ingested & set(recordings.loc[recordings["modality"] == modality, "uid"])
        own = later[later["stage"].eq(modality) | later["stage"].str.endswith(f"-{modality}")]
        for _, outcomes in own.groupby("stage"):
            usable &= set(outcomes.loc[outcomes["state"] == "done", "uid"])
        subjects[f"has_{modality}"] = subjects["uid"].isin(usable)
    return subjects


def shared_recordings(subjects: pd.DataFrame, recordings: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, dict[str, str]]:
    """uid -> other subject with the same recording -> how that is known: equal files, or by `pairs` of equal signals
    (columns modality, uid, other, r).
    """
    uids, found = set(subjects["uid"]), defaultdict(dict)
    for modality, a, b, r in pairs[["modality", "uid", "other", "r"]].itertuples(index=False):
        if a in uids and b in uids:
            how = f"equal signal: {modality} series, r = {r:.2f}"
            found[a][b] = found[b][a] = how
    own = recordings[recordings["uid"].isin(uids)].drop_duplicates(["fingerprint", "uid"])
    for _, alike in own[own["fingerprint"].duplicated(keep=False)].groupby("fingerprint")["uid"]:
        for a, b in itertools.permutations(alike, 2):
            found[a][b] = "equal file"
    return found


def same_people(subjects: pd.DataFrame) -> list[tuple]:
    """Status lines of subjects that stand in several datasets of shared people under one label. One with labels stays, else one
    with more modalities, else the first by uid.
    """
    modalities = subjects[[f"has_{m}" for m in MODALITIES]].sum(axis=1)
    order = subjects.assign(unlabelled=subjects["labels"] == "", fewer=-modalities).sort_values(["unlabelled", "fewer", "uid"])
    kept = order.drop_duplicates("person").set_index("person")["uid"]
    again = order[order["person"].duplicated()]
    pairs = again[["uid", "person"]].itertuples(index=False)
    return [_line(uid, f"same person as {kept[one]}, by the label (option people)") for uid, one in pairs]


def doubles(subjects: pd.DataFrame, recordings: pd.DataFrame, pairs: pd.DataFrame) -> list[tuple]:
    """Status lines of subjects that share a recording with another one, in any dataset; `pairs`: of equal signals.

    Of those who share, one with labels stays, else one with more modalities, else the first by uid. Where their labels differ
    nobody stays: whose recording it is can't be known.
    """
    shared, labels = shared_recordings(subjects, recordings, pairs), subjects.set_index("uid")["labels"]
    modalities = subjects[[f"has_{m}" for m in MODALITIES]].sum(axis=1)
    order = subjects.assign(unlabelled=subjects["labels"] == "", fewer=-modalities)
    lines, seen = [], set()
    for first in order.sort_values(["unlabelled", "fewer", "uid"])["uid"]:
        if first in seen or first not in shared:
            continue
        group, waiting = {first: ""}, [first]
        while waiting:
            near = waiting.pop()
            new = {uid: how for uid, how in shared[near].items() if uid not in group}
            group |= {uid: f"same recording as {near} ({how})" for uid, how in new.items()}
            waiting += new
        seen |= group.keys()
        told = sorted({labels[uid] for uid in group} - {""})
        if len(told) > 1:
            others = {uid: ", ".join(sorted(group.keys() - {uid})[:3]) for uid in group}
            why = f"but their labels differ ({' and '.join(told)}): whose it is can't be known"
            lines += [_line(uid, f"same recording as {others[uid]}, {why}") for uid in sorted(group)]
        else:
            lines += [_line(uid, f"{reason}: a double") for uid, reason in group.items() if uid != first]
    return lines


def unexplained(subjects: pd.DataFrame, kept: pd.DataFrame, exclusions: pd.DataFrame) -> list[tuple]:
    """A status line for each subject that is left out with no stage saying why, so that nobody is lost in silence."""
    lost = sorted(set(subjects["uid"]) - set(kept["uid"]) - set(exclusions["uid"]))
    return [_line(uid, "no stage reports a usable recording: rerun the stages of this dataset") for uid in lost]


def check_datasets(subjects: pd.DataFrame, exclusions: pd.DataFrame, datasets: Sequence[str]) -> None:
    """Raises McspError with a line for each dataset of which nobody is left: the commonest reasons and how often."""
    lines = []
    for name in datasets:
        if name in set(subjects["dataset"]):
            continue
        own = exclusions[exclusions["dataset"] == name]
        alike = own["reason"].str.replace(r"sub-[^\s:;,]+", "sub-*", regex=True)  # one defect, many files
        why = "; ".join(f"{reason} ({n}x)" for reason, n in alike.value_counts().head(3).items()) or "no subject was found"
        lines.append(f"dataset {name}: nobody is left: {why}: mend that (`mcsp check` lists all), or leave {name} out")
    if lines:
        raise McspError("\n".join(lines))


def as_recorded(subjects: pd.DataFrame, recordings: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Subjects with `t_r`, `sfreq`, `gap_mm`, `spline_error` and `top_hz` of the first run that a stage used, else of the
    first recording that tells, and the `fingerprints` of all their recordings.
    """
    used = runs[runs["state"] == "used"]
    columns = {}
    for column in ("t_r", "sfreq", "gap_mm", "spline_error", "top_hz"):
        tables = [table for table in (used, recordings) if column in table]
        told = [subjects["uid"].map(table.dropna(subset=column).groupby("uid")[column].first()) for table in tables]
        columns[column] = told[0].fillna(told[-1]).astype(float) if told else float("nan")
    prints = recordings.groupby("uid")["fingerprint"].agg(lambda own: ";".join(sorted(set(own))))
    return subjects.assign(**columns, fingerprints=subjects["uid"].map(prints).fillna(""))


def displacement_used(subjects: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Subjects with `mean_fd` of the runs that the fMRI stage used, by their frames; as ingestion has it where none tells."""
    used = runs[(runs["state"] == "used") & runs["mean_fd"].notna()]
    total = used.assign(sum_fd=used["mean_fd"] * used["n_frames"]).groupby("uid")[["sum_fd", "n_frames"]].sum()
    known = subjects["uid"].map(total["sum_fd"] / total["n_frames"])
    return subjects.assign(mean_fd=known.fillna(subjects["mean_fd"]).astype(float))


def show(subjects: pd.DataFrame, exclusions: pd.DataFrame) -> None:
    """Print who is in and who is out, per dataset."""
    table = Table("dataset", title="Cohort")
    for column in ("subjects", "fMRI", "EEG", "both", "left out"):
        table.add_column(column, justify="right")
    for name in sorted({*subjects["dataset"], *exclusions["dataset"]}):
        own = subjects[subjects["dataset"] == name]
        out = set(exclusions.loc[exclusions["dataset"] == name, "uid"]) - set(own["uid"])
        both = own["has_fmri"] & own["has_eeg"]
        counts = (len(own), own["has_fmri"].sum(), own["has_eeg"].sum(), both.sum(), len(out))
        table.add_row(name, *(str(int(n)) for n in counts))
    Console().print(table)


def run(
    *,
    subjects: Sequence[Path],
    recordings: Sequence[Path],
    status: Sequence[Path],
    runs: Sequence[Path] = (),
    duplicates: Path | None = None,
    out: Path,
    exclusions: Path,
) -> None:
    """Merge tables of shards (paths `<dataset>/shard-NNN...`) into the cohort table at `out`, its TSV beside it, and the
    table of exclusions, which also lists what can't be used of subjects that stay.

    `status`: of ingestion, and of the stages that have run; `runs`: which runs the stages used; `duplicates`: pairs of equal
    signals, as `mcsp duplicates` finds them. Raises McspError when a dataset is empty.
    """
    people = pd.concat([read_table(path) for path in subjects], ignore_index=True)
    files = pd.concat([read_table(path) for path in recordings], ignore_index=True)
    lines = pd.concat([read_tsv(path) for path in status], ignore_index=True)
    lines = lines.astype(dict.fromkeys(lines, object))
    used = pd.concat([read_tsv(path) for path in runs], ignore_index=True) if runs else pd.DataFrame(columns=["state", "uid"])
    if "mean_fd" in used:
        people = displacement_used(people, used)
    people = as_recorded(people, files, used)
    kept = modality_flags(people, files, lines)
    kept = kept[kept["has_fmri"] | kept["has_eeg"]]
    alike = read_tsv(duplicates) if duplicates else pd.DataFrame(columns=["modality", "uid", "other", "r", "state"])
    twice = same_people(kept)
    once = kept[~kept["uid"].isin({line[0] for line in twice})]
    twice += doubles(once, files, alike[alike["state"] == "double"])
    kept = kept[~kept["uid"].isin({line[0] for line in twice})].sort_values("uid").reset_index(drop=True)
    left_out = pd.concat([lines[lines["state"] != "done"], pd.DataFrame(twice, columns=list(STATUS_COLUMNS))])
    lost = pd.DataFrame(unexplained(people, kept, left_out), columns=list(STATUS_COLUMNS))
    left_out = pd.concat([left_out, lost]).sort_values(["uid", "stage", "reason"]).reset_index(drop=True)
    check_datasets(kept, left_out, list(dict.fromkeys(path.parent.name for path in subjects)))
    write_table(kept[list(COLUMNS)], out)
    write_tsv(kept[list(COLUMNS)], out.with_suffix(".tsv"), COLUMNS)
    write_tsv(left_out[list(STATUS_COLUMNS)], exclusions, STATUS_COLUMNS)
    show(kept, left_out)
