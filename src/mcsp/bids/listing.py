"""Who is in a dataset, by its directories or files and by its phenotype table."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcsp.bids.contents import derivatives_of, roi_files
from mcsp.bids.phenotype import (
    NOBODY,
    SIMULATED_TABLE,
    cell,
    one_row,
    person,
    read_phenotype,
    rows_that_count,
    simulated_person,
    used_columns,
)
from mcsp.errors import McspError
from mcsp.options.datasets import BidsDataset, Phenotype, RoiDataset
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import plain_label

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
    if isinstance(dataset, SimulatedDataset) and not root.is_dir():
        raise McspError(f"datasets.{name}: {root}: not simulated yet: run `snakemake simulate` first")
    if not root.is_dir():
        remedy = f"mend datasets.{name}.path, or run `snakemake fetch` where the study says how"
        raise McspError(f"datasets.{name}: {root}: no such directory: {remedy}")
    phenotype = SIMULATED_TABLE if isinstance(dataset, SimulatedDataset) else dataset.phenotype
    tables = phenotype.tables(root / "participants.tsv")
    wanted = phenotype.labels or phenotype.table or isinstance(dataset, RoiDataset)
    rows = read_phenotype(tables, phenotype) if wanted or tables[0].is_file() else None
    in_table = [] if rows is None else list(rows["_subject"])
    if isinstance(dataset, RoiDataset):
        # A series belongs to the subject as the table writes it, '0051' of a file's name or not.
        spelt = {plain_label(label): label for label in in_table}
        with_data = [spelt.get(plain, files[0][0]) for plain, files in roi_files(dataset, root).items()]
        if dataset.motion and dataset.motion not in rows:
            raise McspError(f"datasets.{name}.motion: no column {dataset.motion} in {' or '.join(map(str, tables))}")
    else:
        places = [place for place in (root, derivatives_of(dataset, root)) if place.is_dir()]
        with_data = sorted({p.name.removeprefix("sub-") for place in places for p in place.glob("sub-*") if p.is_dir()})
    if not with_data:
        what = f"file fits {dataset.pattern}" if isinstance(dataset, RoiDataset) else "directory sub-* is there"
        raise McspError(f"datasets.{name}: {root}: empty, no {what}: mend datasets.{name}.path")
    return Listing(name, dataset, phenotype, rows, with_data, in_table)


def describe(listing: Listing, label: str) -> tuple[dict, str | None]:
    """(fields of the subject table, reason for exclusion or None) of one subject."""
    plain, rows, phenotype = plain_label(label), listing.rows, listing.phenotype
    fields = {"site": "unknown" if phenotype.site else listing.name, **NOBODY}
    if rows is not None:
        own = rows[rows["_label"] == plain]
        if own.empty and phenotype.labels and phenotype.unlabelled == "exclude":
            return fields, f"not in the phenotype table (column {' or '.join(phenotype.subject_columns())}): add a row"
        own, reason = rows_that_count(own) if len(own) else (own, None)
        if reason:
            return fields, reason
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
    phenotype, dataset = listing.phenotype, listing.dataset
    motion = dataset.motion if isinstance(dataset, RoiDataset) else None
    used = used_columns(phenotype, list(own)) + ([motion] if motion else [])
    row, trouble = one_row(own, phenotype, used)
    if isinstance(dataset, SimulatedDataset):
        fields, reason = simulated_person(row, listing.name)
    else:
        fields, reason = person(row, phenotype, listing.name)
    if trouble:
        fields["labels"], reason = "", trouble
    if motion:
        fields["mean_fd"] = float(pd.to_numeric(cell(row, motion, phenotype) or "nan", errors="coerce"))
    return fields, reason


def family_of(listing: Listing, uid: str, fields: dict) -> str:
    """Name of a subject's family that no other dataset has, unless they share people; the uid where it has none."""
    shared = None if isinstance(listing.dataset, SimulatedDataset) else listing.dataset.people
    return f"{shared or listing.name}:{fields['family']}" if fields["family"] else uid
