"""A downloaded package of the NIMH Data Archive, laid out as BIDS by what the archive's tables say of its files.

Columns and values: the archive's public data dictionary, structures image03 and eeg_sub_files01 (nda.nih.gov/data-structure).
"""

from __future__ import annotations

import filecmp
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from mcsp.errors import McspError
from mcsp.options.fetch import NdaPackage
from mcsp.store import copy_file, write_json
from mcsp.text_tables import read_text

TABLES = {"image03": ["image_file", "data_file2"], "eeg_sub_files01": [f"data_file{number}" for number in range(1, 5)]}
T1W = ("MR structural (T1)", "MR structural (MPRAGE)", "MR structural (FSPGR)", "MR structural (MPnRAGE)")
TOLD = ("image_description", "experiment_description", "task_name", "experiment_notes", "comments_misc", "data_file1_type")
IMAGES, EEG = (".nii.gz", ".nii"), (".edf", ".bdf", ".set")  # one file each: nothing in them names another
T_R = (0.1, 20.0)  # s


class Found(NamedTuple):
    """A file of the package that is wanted. `kind`: T1w, bold or eeg; `run`: its number among those of its subject, session
    and kind in the tables, whether they are there or not; `told`: where it lay in the archive; `path`: None where it is not in
    the package; `trouble`: why it can't be laid out, or ''.
    """

    subject: str
    session: str
    kind: str
    run: int
    told: str
    path: Path | None
    t_r: float
    trouble: str


def read_tables(package: Path, name: str) -> pd.DataFrame:
    """The rows of a structure's tables in a package as text, without the second row, which describes the columns."""
    again = {"what": "table of the archive", "obtain": "download it again", "mend": "download it again"}
    parts = [read_text(path, **again).iloc[1:] for path in sorted(package.rglob(f"{name}.txt"))]
    return pd.concat(parts, ignore_index=True).fillna("") if parts else pd.DataFrame()


class Package:
    """Files of a package by name: tables write where they lay in the archive, and clients keep the end of that only."""

    def __init__(self, root: Path):
        self.root = root
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for folder, _, names in os.walk(root):
            for name in names:
                self.by_name[name].append(Path(folder, name))

    def find(self, told: str) -> Path | None:
        """The file whose path ends most like `told`, an s3:// URL or a path; None when none has its name, or two fit alike."""
        wanted = [part for part in PurePosixPath(told.replace("\\", "/")).parts if part != ".."]

        def alike(path: Path) -> int:
            own = path.relative_to(self.root).parts
            pairs = zip(reversed(own), reversed(wanted))
            return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(own), len(wanted)))

        scores = {path: alike(path) for path in self.by_name.get(wanted[-1], [])} if wanted else {}
        best = [path for path, score in scores.items() if score == max(scores.values())]
        return best[0] if len(best) == 1 else None


def kind_of(row: dict[str, str], table: str, told: str, options: NdaPackage) -> str:
    """T1w, bold or eeg; '' for what is not wanted."""
    if table == "image03" and row.get("scan_type") in T1W:
        return "T1w"
    if table == "image03" and row.get("scan_type") != "fMRI":
        return ""
    words = [row.get(column, "") for column in TOLD] + [PurePosixPath(told).name]
    wanted = any(fnmatchcase(word.lower(), pattern.lower()) for word in words for pattern in options.wanted)
    return ("bold" if table == "image03" else "eeg") if wanted else ""


def _seconds(text: str) -> float:
    """A repetition time in s; the dictionary asks for s, and some write ms. NaN where it is neither."""
    value = float(pd.to_numeric(text or "nan", errors="coerce"))
    value = value / 1000 if value > T_R[1] else value
    return value if T_R[0] <= value <= T_R[1] else float("nan")


def _trouble(path: Path | None, kind: str) -> str:
    fits = EEG if kind == "eeg" else IMAGES
    if path is None:
        return "not in the package, or two fit: download its associated files (downloadcmd -dp <package> -ds <structure>)"
    if path.name.lower().endswith(fits):
        return ""
    tool = "mne-bids" if kind == "eeg" else "dcm2niix"
    return f"not {' or '.join(fits)}: unpack it, convert it with {tool}, and put it into the BIDS dataset"


def wanted_files(options: NdaPackage) -> Iterator[Found]:
    """What of a package is wanted, in the order of its tables, each file once."""
    root = Path(options.package)
    package, seen, runs = Package(root), set(), Counter()
    for table, columns in TABLES.items():
        for row in read_tables(root, table).to_dict("records"):
            if options.visits and row.get("visit", "").strip() not in options.visits:
                continue
            for told in filter(None, (row.get(column, "").strip() for column in columns)):
                kind = kind_of(row, table, told, options)
                if not kind or told in seen:
                    continue
                seen.add(told)
                subject, session = (re.sub(r"[^A-Za-z0-9]", "", row.get(c, "")) for c in ("src_subject_id", "visit"))
                path = package.find(told)
                runs[subject, session, kind] += 1
                t_r = _seconds(row.get("mri_repetition_time_pd", ""))
                yield Found(subject, session, kind, runs[subject, session, kind], told, path, t_r, _trouble(path, kind))


def place(found: Found, task: str) -> str:
    """Path below the BIDS dataset."""
    stem = f"sub-{found.subject}" + (f"_ses-{found.session}" if found.session else "")
    folder = f"sub-{found.subject}/" + (f"ses-{found.session}/" if found.session else "")
    suffix = next(end for end in (*IMAGES, *EEG) if found.path.name.lower().endswith(end))
    task_part = "" if found.kind == "T1w" else f"_task-{task}"
    datatype = {"T1w": "anat", "bold": "func", "eeg": "eeg"}[found.kind]
    return f"{folder}{datatype}/{stem}{task_part}_run-{found.run}_{found.kind}{suffix}"


def _bring(source: Path, target: Path) -> bool:
    """Make `target` the same file as `source`, or a copy where disks differ. Returns whether it is new."""
    if target.is_file() and (target.samefile(source) or filecmp.cmp(source, target, shallow=False)):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        copy_file(source, target)
    return True


def lay_out(name: str, options: NdaPackage, path: Path) -> list[tuple[str, str, int, str, str]]:
    """Lay out a package below `path`. Returns rows of the list of files: (path, state, bytes, '', where it lay).

    Raises McspError when a table can't be read, or nothing of the package can be used.
    """
    rows = []
    for found in wanted_files(options):
        if found.trouble:
            rows.append((str(found.path or found.told), "left out", -1, "", found.trouble))
            continue
        where = place(found, options.task)
        new = _bring(found.path, path / where)
        if found.kind != "T1w" and found.t_r == found.t_r:
            suffix = next(end for end in (*IMAGES, *EEG) if where.lower().endswith(end))
            write_json(path / f"{where.removesuffix(suffix)}.json", {"TaskName": options.task, "RepetitionTime": found.t_r})
        rows.append((where, "fetched" if new else "there", found.path.stat().st_size, "", str(found.path)))
    if all(state == "left out" for _, state, *_ in rows):
        why = rows[0][-1] if rows else f"no row of {' or '.join(TABLES)} tells of T1w, fMRI or EEG that {options.wanted} fit"
        raise McspError(f"{name}: {options.package}: nothing to lay out: {why}")
    if not (path / "dataset_description.json").is_file():
        write_json(path / "dataset_description.json", {"Name": name, "BIDSVersion": "1.8.0", "DatasetType": "raw"})
    return rows
