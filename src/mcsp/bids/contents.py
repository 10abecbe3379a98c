"""Which files belong to which subject, by their names alone: light enough for every dry run."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from mcsp.options.datasets import FOLDER, BidsDataset, RoiDataset, alike
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import plain_label, shard_of


def derivatives_of(dataset: BidsDataset | SimulatedDataset, root: Path) -> Path:
    """Directory of the preprocessed BOLD of a dataset at `root`."""
    own = dataset.derivatives if isinstance(dataset, BidsDataset) else None
    return Path(own) if own else root / "derivatives" / "fmriprep"


def _as_regex(pattern: str) -> str:
    """A part of a glob as a regular expression: ** for directories of any depth, * and ? within one."""
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(meaning.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*|\?)", pattern))


def roi_files(dataset: RoiDataset, root: Path) -> dict[str, list[tuple[str, Path]]]:
    """Ready series by the subject's label for comparison: (label as written in the file's name, path)."""
    before, after = dataset.pattern.split("{subject}", 1)
    between, behind = _as_regex(before), _as_regex(after)
    # Greedy before the label, so that '*_' takes 'UM_1_' whole; the label itself is what is left.
    whole = re.compile(f"{between}(?P<label>[^/]+?){behind}")
    files = defaultdict(list)
    for path in sorted(root.glob(dataset.pattern.replace("{subject}", "*"))):
        match = whole.fullmatch(path.relative_to(root).as_posix())
        if match:
            files[plain_label(match["label"])].append((match["label"], path))
    return files


def _file_names(dataset: BidsDataset | RoiDataset, root: Path) -> Iterator[tuple[str, str]]:
    """(subject, path) of every file of a dataset that belongs to a subject."""
    if isinstance(dataset, RoiDataset):
        for plain, files in roi_files(dataset, root).items():
            yield from ((plain, str(path)) for _, path in files)
        return
    for place in {root, derivatives_of(dataset, root)}:
        for folder in sorted(place.glob("sub-*")) if place.is_dir() else []:
            for parent, _, names in os.walk(folder):
                yield from ((folder.name, os.path.join(parent, name)) for name in names)


def _table_rows(dataset: BidsDataset | RoiDataset, root: Path) -> Iterator[tuple[str, str]]:
    """(subject, row as text, with the table's directory where that is the site) of the phenotype tables that are there."""
    phenotype = dataset.phenotype
    for table in phenotype.tables(root / "participants.tsv"):
        if not table.is_file():
            continue
        folder = table.absolute().parent.name if FOLDER in phenotype.site_columns() else ""
        with open(table, encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.reader(file, delimiter="," if table.suffix == ".csv" else "\t")
            header = next(rows, [])
            found = filter(None, (alike(header, name) for name in phenotype.subject_columns()))
            subject = next((header.index(name) for name in found), None)
            for row in filter(None, rows):
                cells = sorted(zip_longest([name.strip() for name in header], row, fillvalue=""))
                yield row[subject] if subject is not None and subject < len(row) else "", repr((folder, cells))


def shard_hashes(dataset: BidsDataset | RoiDataset) -> list[str]:
    """A hash per shard of the names of its subjects' files and of their rows of the phenotype table.

    A subject, session or file more, or another label, changes one shard's hash. Files are not opened: one that is
    replaced under its own name is not seen.
    """
    root = Path(dataset.path)
    lines: dict[int, list[str]] = defaultdict(list)
    for find in (_file_names, _table_rows):
        for subject, line in find(dataset, root):
            lines[shard_of(subject, dataset.n_shards)].append(line)
    return [hashlib.sha256("\n".join(sorted(lines[i])).encode()).hexdigest()[:16] for i in range(dataset.n_shards)]
