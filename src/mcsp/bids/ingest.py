"""Ingest one shard of a dataset: who, where, with which labels and recordings, and who is left out and why."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from mcsp.bids.phenotype import SIMULATED_TABLE, person, plain_label, read_phenotype, simulated_person
from mcsp.bids.recordings import bids_recordings, mean_displacement, recordings_table, roi_recordings
from mcsp.errors import McspError
from mcsp.options.datasets import BidsDataset, RoiDataset
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import Outcome, shard_of, write_status
from mcsp.store import write_table

SUBJECT_COLUMNS = ["uid", "dataset", "shard", "subject", "site", "age", "sex", "family", "labels", "mean_fd"]
SAFE_LABEL = re.compile(r"[A-Za-z0-9_+.-]+")


def subject_labels(dataset: BidsDataset | RoiDataset | SimulatedDataset, root: Path, rows: pd.DataFrame | None) -> list[str]:
    """Labels of all subjects of a dataset, sorted: directories `sub-*` (raw or derivative), or rows of the table."""
    if isinstance(dataset, RoiDataset):
        return sorted(rows[dataset.phenotype.subject].str.strip().unique())
    places = [root, root / "derivatives" / "fmriprep"]
    if isinstance(dataset, BidsDataset) and dataset.derivatives:
        places.append(Path(dataset.derivatives))
    return sorted({p.name.removeprefix("sub-") for place in places if place.is_dir() for p in place.glob("sub-*") if p.is_dir()})


def _phenotype_rows(dataset: BidsDataset | RoiDataset | SimulatedDataset, root: Path) -> pd.DataFrame | None:
    """The phenotype table; None for a BIDS dataset that asks nothing of one and has none."""
    phenotype = SIMULATED_TABLE if isinstance(dataset, SimulatedDataset) else dataset.phenotype
    table = Path(phenotype.table) if phenotype.table else root / "participants.tsv"
    if isinstance(dataset, BidsDataset) and not phenotype.labels and not phenotype.table and not table.is_file():
        return None
    return read_phenotype(table, phenotype)


def describe(
    name: str, dataset: BidsDataset | RoiDataset | SimulatedDataset, label: str, rows: pd.DataFrame | None, doubled: set[str]
) -> tuple[dict, str | None]:
    """(fields of the subject table, reason for exclusion or None) of one subject."""
    empty = {"site": name, "age": float("nan"), "sex": None, "family": None, "labels": ""}
    if not SAFE_LABEL.fullmatch(label):
        return empty, f"label {label!r} holds characters that BIDS does not allow: rename the subject"
    if plain_label(label) in doubled:
        return empty, f"two subjects differ by leading zeros only ({plain_label(label)}): rename one, or remove the copy"
    if rows is None:
        return empty, None
    own = rows[rows["_label"] == plain_label(label)]
    if own.empty:
        return empty, "not in the phenotype table: add a row, or check datasets.<name>.phenotype.subject"
    if len(own.drop_duplicates()) > 1:
        return empty, f"{len(own)} rows in the phenotype table that disagree: keep one"
    if isinstance(dataset, SimulatedDataset):
        return simulated_person(own.iloc[0], name)
    fields, reason = person(own.iloc[0], dataset.phenotype, name)
    if isinstance(dataset, RoiDataset) and dataset.motion:
        if dataset.motion not in own:
            raise McspError(f"datasets.{name}.motion: no column {dataset.motion} in the phenotype table")
        fields["mean_fd"] = float(pd.to_numeric(own.iloc[0][dataset.motion], errors="coerce"))
    return fields, reason


def _doubled(labels: list[str]) -> set[str]:
    by_plain = defaultdict(set)
    for label in labels:
        by_plain[plain_label(label)].add(label)
    return {plain for plain, own in by_plain.items() if len(own) > 1}


def run(
    *,
    name: str,
    dataset: BidsDataset | RoiDataset | SimulatedDataset,
    path: Path,
    shard: int,
    subjects: Path,
    recordings: Path,
    status: Path,
) -> None:
    """Write the subject, recordings and status tables of one shard of dataset `name` at `path`.

    Raises McspError when the dataset as a whole can't be read.
    """
    if not path.is_dir():
        raise McspError(f"datasets.{name}: {path}: no such directory")
    rows = _phenotype_rows(dataset, path)
    everyone = subject_labels(dataset, path, rows)
    doubled = _doubled(everyone)
    labels = [label for label in everyone if shard_of(label, dataset.n_shards) == shard]
    kept: dict[str, dict] = {}
    reasons: dict[str, str] = {}
    for label in labels:
        uid = f"{name}/sub-{label}"
        fields, reason = describe(name, dataset, label, rows, doubled)
        if reason:
            reasons[uid] = reason
        else:
            kept[uid] = {"uid": uid, "dataset": name, "shard": shard, "subject": label, "mean_fd": float("nan"), **fields}
            kept[uid]["family"] = f"{name}:{fields['family']}" if fields["family"] else uid
    uid_of = {row["subject"]: uid for uid, row in kept.items()}
    if isinstance(dataset, RoiDataset):
        found, unusable = roi_recordings(uid_of, {uid: row["site"] for uid, row in kept.items()}, dataset, path)
    else:
        found, unusable = bids_recordings(uid_of, dataset, path)
    table = recordings_table(found)
    for uid, fd in mean_displacement(table).items():
        kept[uid]["mean_fd"] = fd
    lines = outcomes(kept, reasons, set(table["uid"]), unusable)
    write_table(pd.DataFrame(kept.values(), columns=SUBJECT_COLUMNS).sort_values("uid"), subjects)
    write_table(table, recordings)
    write_status(status, "ingest", name, lines)
    print(f"{name}, shard {shard}: {len(kept)} subjects, {len(table)} recordings, {sum(o.state != 'done' for o in lines)} exclusions")


def outcomes(
    kept: dict[str, dict], reasons: dict[str, str], with_recordings: set[str], unusable: list[tuple[str, str, str]]
) -> list[Outcome]:
    """One line per subject, and one more per unusable file of a subject that stays."""
    lines = [Outcome(uid, "excluded", reason, None) for uid, reason in reasons.items()]
    files = defaultdict(list)
    for uid, _, reason in unusable:
        files[uid].append(reason)
    for uid in kept:
        if uid in with_recordings:
            lines.append(Outcome(uid, "done", None, None))
            lines += [Outcome(uid, "excluded", reason, None) for reason in files[uid]]
        else:
            reason = "; ".join(dict.fromkeys(files[uid])) or "no recording of a known kind found"
            lines.append(Outcome(uid, "excluded", reason, None))
    return sorted(lines, key=lambda line: (line.key, line.state != "done", line.reason or ""))
