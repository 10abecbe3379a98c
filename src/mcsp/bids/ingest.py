"""Ingest one shard of a dataset: who, where, with which labels and recordings, and who is left out and why."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from mcsp.bids.listing import AnyDataset, describe, family_of, list_subjects
from mcsp.bids.recordings import Unusable, bids_recordings, mean_displacement, recordings_table, roi_recordings
from mcsp.options.datasets import RoiDataset
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import STATUS_COLUMNS, plain_label, shard_of
from mcsp.store import part_of, write_table, write_tsv

SUBJECT_COLUMNS = [
    "uid", "dataset", "shard", "subject", "person", "site", "age", "sex", "handedness", "iq", "medication", "family", "labels",
    "mean_fd",
]  # fmt: skip


def _write_if_new(path: Path, write: Callable[[Path], None]) -> None:
    """Write through `write` (which may make a sidecar too); files whose bytes stay the same keep their time."""
    with part_of(path) as folder:
        folder.mkdir()
        write(folder / path.name)
        for made in folder.iterdir():
            target = path.with_name(made.name)
            if not target.is_file() or target.read_bytes() != made.read_bytes():
                os.replace(made, target)


def run(
    *,
    name: str,
    dataset: AnyDataset,
    path: Path,
    shard: int,
    raw_too: bool = False,
    subjects: Path,
    recordings: Path,
    status: Path,
) -> None:
    """Write the subject, recordings and status tables of one shard of dataset `name` at `path`.

    Subjects that can't be used stand in the subject table too; the status says why. Raises McspError when the dataset
    as a whole can't be read. `raw_too`: raw BOLD will be preprocessed, so it counts.
    """
    listing = list_subjects(name, dataset, path)
    people: dict[str, dict] = {}
    reasons: dict[str, str] = {}
    for label in listing.everyone:
        if shard_of(label, dataset.n_shards) != shard:
            continue
        uid = f"{name}/sub-{label}"
        fields, reason = describe(listing, label)
        shared = None if isinstance(dataset, SimulatedDataset) else dataset.people
        people[uid] = {"uid": uid, "dataset": name, "shard": shard, "subject": label, "mean_fd": float("nan"), **fields}
        people[uid]["family"] = family_of(listing, uid, fields)
        people[uid]["person"] = f"{shared}:{plain_label(label)}" if shared else uid
        if reason:
            reasons[uid] = reason
    uid_of = {row["subject"]: uid for uid, row in people.items() if uid not in reasons}
    if isinstance(dataset, RoiDataset):
        found, unusable = roi_recordings(uid_of, {uid: people[uid]["site"] for uid in uid_of.values()}, dataset, path)
    else:
        found, unusable = bids_recordings(uid_of, dataset, path, raw_too=raw_too)
    table = recordings_table(found)
    for uid, fd in mean_displacement(table).items():
        people[uid]["mean_fd"] = fd
    lines = status_lines(name, people, reasons, set(table["uid"]), unusable, dataset)
    rows = pd.DataFrame(people.values(), columns=SUBJECT_COLUMNS).sort_values("uid")
    for column in ("age", "iq", "mean_fd"):
        rows[column] = rows[column].astype(float)
    _write_if_new(subjects, lambda target: write_table(rows, target))
    _write_if_new(recordings, lambda target: write_table(table, target))
    _write_if_new(status, lambda target: write_tsv(lines, target, STATUS_COLUMNS))
    left_out = lines[lines["state"] != "done"]
    n_out = (left_out["stage"] == "ingest").sum()
    print(f"{name}, shard {shard}: {len(rows)} subjects, {n_out} of them left out, {len(table)} recordings")
    for line in left_out.to_dict("records"):
        print(f"  {line['uid']} ({line['stage']}): {line['reason']}")


def _few(reasons: list[str], n: int = 3) -> str:
    more = f"; and {len(reasons) - n} more" if len(reasons) > n else ""
    return "; ".join(reasons[:n]) + more


def status_lines(
    name: str,
    people: dict[str, dict],
    reasons: dict[str, str],
    with_recordings: set[str],
    unusable: list[Unusable],
    dataset: AnyDataset,
) -> pd.DataFrame:
    """Status table: a line of stage `ingest` per subject, and one of `ingest-fmri` or `ingest-eeg` for each thing that
    can't be used of a subject that stays.
    """
    lines = []
    trouble = defaultdict(list)
    for uid, modality, reason in unusable:
        trouble[uid].append((f"ingest-{modality}", reason))
    for uid in sorted(people):
        if uid in with_recordings:
            lines.append((uid, name, "ingest", "done", None))
            lines += [(uid, name, stage, "excluded", reason) for stage, reason in dict.fromkeys(trouble[uid])]
            continue
        nothing = f"no recording of {' or '.join(dataset.modalities)} found"
        reason = reasons.get(uid) or _few(list(dict.fromkeys(reason for _, reason in trouble[uid]))) or nothing
        lines.append((uid, name, "ingest", "excluded", " ".join(reason.split())))
    return pd.DataFrame(lines, columns=list(STATUS_COLUMNS))
