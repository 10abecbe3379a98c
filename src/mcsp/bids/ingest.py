"""Ingest one shard of a dataset: who, where, with which labels and recordings, and who is left out and why."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from mcsp.bids.phenotype import SIMULATED_TABLE, cell, person, plain_label, read_phenotype, simulated_person
from mcsp.bids.recordings import (
    Unusable,
    bids_recordings,
    derivatives_of,
    mean_displacement,
    recordings_table,
    roi_files,
    roi_recordings,
)
from mcsp.errors import McspError
from mcsp.options.datasets import BidsDataset, Phenotype, RoiDataset
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import STATUS_COLUMNS, shard_of
from mcsp.store import write_table, write_tsv

SUBJECT_COLUMNS = ["uid", "dataset", "shard", "subject", "site", "age", "sex", "family", "labels", "mean_fd"]
SAFE_LABEL = re.compile(r"[A-Za-z0-9_+.-]+")
AnyDataset = BidsDataset | RoiDataset | SimulatedDataset


@dataclass
class Listing:
    """Everybody in a dataset: `with_data` and `in_table` are labels as written there; `rows` is the phenotype table."""

    name: str
    dataset: AnyDataset
    phenotype: Phenotype
    rows: pd.DataFrame | None
    with_data: list[str]
    in_table: list[str]

    def __post_init__(self) -> None:
        present = {plain_label(label) for label in self.with_data}
        absent = {plain_label(label): label for label in self.in_table if plain_label(label) not in present}
        self.everyone = sorted([*self.with_data, *absent.values()])
        spelt = defaultdict(set)
        for label in self.with_data:
            spelt[plain_label(label)].add(label)
        self.doubled = {plain: sorted(labels) for plain, labels in spelt.items() if len(labels) > 1}


def list_subjects(name: str, dataset: AnyDataset, root: Path) -> Listing:
    """Who is in the dataset at `root`, by its directories or files and by its phenotype table.

    Raises McspError when it is not there, holds nobody, or its phenotype table can't be used.
    """
    if not root.is_dir():
        raise McspError(f"datasets.{name}: {root}: no such directory: mend datasets.{name}.path")
    phenotype = SIMULATED_TABLE if isinstance(dataset, SimulatedDataset) else dataset.phenotype
    table = Path(phenotype.table) if phenotype.table else root / "participants.tsv"
    wanted = phenotype.labels or phenotype.table or isinstance(dataset, RoiDataset)
    rows = read_phenotype(table, phenotype) if wanted or table.is_file() else None
    in_table = [] if rows is None else [label.strip().removeprefix("sub-") for label in rows[phenotype.subject]]
    if isinstance(dataset, RoiDataset):
        # A series belongs to the subject as the table writes it, '0051' of a file's name or not.
        spelt = {plain_label(label): label for label in in_table}
        with_data = [spelt.get(plain, files[0][0]) for plain, files in roi_files(dataset, root).items()]
        if dataset.motion and dataset.motion not in rows:
            raise McspError(f"datasets.{name}.motion: no column {dataset.motion} in {table}")
    else:
        places = [place for place in (root, derivatives_of(dataset, root)) if place.is_dir()]
        with_data = sorted({p.name.removeprefix("sub-") for place in places for p in place.glob("sub-*") if p.is_dir()})
    if not with_data:
        what = f"file fits {dataset.pattern}" if isinstance(dataset, RoiDataset) else "directory sub-* is there"
        raise McspError(f"datasets.{name}: {root}: empty, no {what}: mend datasets.{name}.path")
    return Listing(name, dataset, phenotype, rows, with_data, in_table)


def describe(listing: Listing, label: str) -> tuple[dict, str | None]:
    """(fields of the subject table, reason for exclusion or None) of one subject."""
    fields = {"site": listing.name, "age": float("nan"), "sex": None, "family": None, "labels": ""}
    plain, rows, phenotype = plain_label(label), listing.rows, listing.phenotype
    if rows is not None:
        own = rows[rows["_label"] == plain]
        if own.empty and phenotype.labels:
            return fields, f"not in the phenotype table (column {phenotype.subject}): add a row"
        if len(own):
            fields, reason = _person(listing, own)
            if reason:
                return fields, reason
    if not SAFE_LABEL.fullmatch(label):
        return fields, f"label {label!r} holds characters that BIDS does not allow: rename the subject"
    if plain in listing.doubled:
        return fields, f"stands twice, as {' and '.join(listing.doubled[plain])}: remove the copy, or rename one"
    return fields, None


def _person(listing: Listing, own: pd.DataFrame) -> tuple[dict, str | None]:
    """The same by a subject's rows of the phenotype table."""
    phenotype, dataset, row = listing.phenotype, listing.dataset, own.iloc[0]
    motion = dataset.motion if isinstance(dataset, RoiDataset) else None
    used = [phenotype.site, phenotype.age, phenotype.sex, phenotype.family, motion, *phenotype.labels]
    told = {tuple(cell(other, column, phenotype) for column in used) for _, other in own.iterrows()}
    if isinstance(dataset, SimulatedDataset):
        fields, reason = simulated_person(row, listing.name)
    else:
        fields, reason = person(row, phenotype, listing.name)
    if len(told) > 1:
        fields["labels"], reason = "", f"{len(own)} rows in the phenotype table that disagree: keep one"
    if motion:
        fields["mean_fd"] = float(pd.to_numeric(cell(row, motion, phenotype) or "nan", errors="coerce"))
    return fields, reason


def _write_if_new(path: Path, write: Callable[[Path], None]) -> None:
    """Write through `write` (which may make a sidecar too); files whose bytes stay the same keep their time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
        write(Path(folder) / path.name)
        for made in Path(folder).iterdir():
            target = path.with_name(made.name)
            if not target.is_file() or target.read_bytes() != made.read_bytes():
                os.replace(made, target)


def run(
    *,
    name: str,
    dataset: AnyDataset,
    path: Path,
    shard: int,
    subjects: Path,
    recordings: Path,
    status: Path,
) -> None:
    """Write the subject, recordings and status tables of one shard of dataset `name` at `path`.

    Subjects that can't be used stand in the subject table too; the status says why. Raises McspError when the dataset
    as a whole can't be read.
    """
    listing = list_subjects(name, dataset, path)
    people: dict[str, dict] = {}
    reasons: dict[str, str] = {}
    for label in listing.everyone:
        if shard_of(label, dataset.n_shards) != shard:
            continue
        uid = f"{name}/sub-{label}"
        fields, reason = describe(listing, label)
        people[uid] = {"uid": uid, "dataset": name, "shard": shard, "subject": label, "mean_fd": float("nan"), **fields}
        people[uid]["family"] = f"{name}:{fields['family']}" if fields["family"] else uid
        if reason:
            reasons[uid] = reason
    uid_of = {row["subject"]: uid for uid, row in people.items() if uid not in reasons}
    if isinstance(dataset, RoiDataset):
        found, unusable = roi_recordings(uid_of, {uid: people[uid]["site"] for uid in uid_of.values()}, dataset, path)
    else:
        found, unusable = bids_recordings(uid_of, dataset, path)
    table = recordings_table(found)
    for uid, fd in mean_displacement(table).items():
        people[uid]["mean_fd"] = fd
    lines = status_lines(name, people, reasons, set(table["uid"]), unusable, dataset)
    rows = pd.DataFrame(people.values(), columns=SUBJECT_COLUMNS).sort_values("uid")
    for column in ("age", "mean_fd"):
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
