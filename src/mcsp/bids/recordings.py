"""Recordings of subjects: files, sidecars, and what makes one unusable before it is opened."""

from __future__ import annotations

import glob
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import bids2table
import nibabel as nib
import pandas as pd

from mcsp.errors import Exclusion, McspError
from mcsp.options.datasets import BidsDataset, RoiDataset, SimulatedDataset

COLUMNS = [
    "uid", "modality", "kind", "path", "session", "run", "task", "t_r", "sfreq", "line_freq", "confounds", "mask", "montage",
    "size", "fingerprint",
]  # fmt: skip
EEG_SUFFIXES = (".vhdr", ".edf", ".bdf", ".set")
T_R_RANGE = (0.2, 10.0)  # s


def fingerprint(path: Path) -> str:
    """Hash of a file's first MiB and size: tells a changed or doubled recording at the cost of one short read.

    The data of a header-only format count: .eeg beside .vhdr, .fdt beside .set.
    """
    digest = hashlib.sha256()
    for part in [path, *data_files(path)]:
        with open(part, "rb") as file:
            digest.update(file.read(1 << 20))
        digest.update(str(part.stat().st_size).encode())
    return digest.hexdigest()[:16]


def data_files(path: Path) -> list[Path]:
    """Files beside a header that hold its data."""
    others = {".vhdr": [".eeg"], ".set": [".fdt"]}.get(path.suffix, [])
    return [path.with_suffix(suffix) for suffix in others if path.with_suffix(suffix).is_file()]


def _sidecar(path: Path) -> dict:
    """Metadata with BIDS inheritance. Raises Exclusion when a sidecar is not JSON."""
    try:
        return dict(bids2table.load_bids_metadata(path, inherit=True) or {})
    except (ValueError, OSError) as error:
        raise Exclusion(f"sidecar of {path.name} is not readable as JSON ({error}): mend it") from error


def _float(value: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def repetition_time(path: Path, sidecar: dict) -> float:
    """Repetition time in s, from the sidecar, else from the NIfTI header. Raises Exclusion when it is missing or absurd."""
    t_r, source = _float(sidecar.get("RepetitionTime")), "its sidecar"
    if math.isnan(t_r):
        source = "its header"
        try:
            header = nib.load(path).header
            unit = {"msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1], 1.0)
            t_r = float(header.get_zooms()[3]) * unit
        except Exception as error:  # nibabel raises many kinds on damaged files
            raise Exclusion(f"{path.name}: no RepetitionTime in its sidecar, and its header is not readable ({error})") from error
    if not T_R_RANGE[0] <= t_r <= T_R_RANGE[1]:
        hint = "is it in ms? BIDS wants s" if t_r > 100 else "write the right one into its sidecar"
        raise Exclusion(f"{path.name}: repetition time of {t_r:g} s in {source}: {hint}")
    return t_r


def _check_file(path: Path) -> None:
    for part in [path, *data_files(path)]:
        if not part.exists():
            raise Exclusion(f"{part.name}: a link to nowhere: fetch the file (datalad get)")
        if part.stat().st_size == 0:
            raise Exclusion(f"{part.name}: file is empty: copy it again")
    if path.suffix == ".vhdr" and not data_files(path):
        raise Exclusion(f"{path.name}: its .eeg file is missing: copy it beside the header")


def _beside(path: Path, *endings: str) -> str | None:
    """A file of the same entities (task, run, ...) as `path` with another ending, '' when there is none."""
    stem = path.name.split("_desc-preproc")[0]
    bare = stem.split("_space-")[0].split("_res-")[0]
    for ending in endings:
        for base in (stem, bare):
            if (path.parent / f"{base}{ending}").is_file():
                return str(path.parent / f"{base}{ending}")
    return None


def _entity(value: object) -> str | None:
    return None if value is None or value != value else str(value)


def _bold(row: dict, path: Path) -> dict:
    _check_file(path)
    t_r = repetition_time(path, _sidecar(path))
    confounds = _beside(path, "_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv")
    mask = _beside(path, "_desc-brain_mask.nii.gz", "_desc-brain_mask.nii")
    return {"kind": "bold", "modality": "fmri", "t_r": t_r, "confounds": confounds, "mask": mask}


def _eeg(row: dict, path: Path, line_freq: float | None) -> dict:
    _check_file(path)
    sidecar = _sidecar(path)
    line = _float(sidecar.get("PowerLineFrequency"))
    stem = path.name.rsplit("_eeg", 1)[0].split("_task-")[0]
    electrodes = sorted(path.parent.glob(f"{glob.escape(stem)}*_electrodes.tsv"))
    return {
        "kind": "eeg",
        "modality": "eeg",
        "sfreq": _float(sidecar.get("SamplingFrequency")),
        "line_freq": line if not math.isnan(line) else float(line_freq or math.nan),
        "montage": str(electrodes[0]) if electrodes else None,
    }


def _index(root: Path, labels: Iterable[str]) -> pd.DataFrame:
    patterns = [glob.escape(f"sub-{label}") for label in labels]
    if not root.is_dir() or not patterns:
        return pd.DataFrame()
    try:
        return bids2table.index_dataset(root, include_subjects=patterns).to_pandas()
    except Exception as error:  # whatever the index stumbles over, the user needs the dataset's name
        raise McspError(f"{root}: can't be indexed as BIDS ({type(error).__name__}: {error}): run a BIDS validator") from error


def bids_recordings(
    uid_of: dict[str, str], dataset: BidsDataset | SimulatedDataset, root: Path
) -> tuple[list[dict], list[tuple[str, str, str]]]:
    """(rows of the recordings table, (uid, modality, reason) of unusable files) of the subjects in `uid_of` (label -> uid)."""
    simulated = isinstance(dataset, SimulatedDataset)
    derivatives = root / "derivatives" / "fmriprep" if simulated or not dataset.derivatives else Path(dataset.derivatives)
    space = "MNI152NLin2009cAsym" if simulated else dataset.space
    found: list[dict] = []
    unusable: list[tuple[str, str, str]] = []
    present = [label for label in uid_of if (root / f"sub-{label}").is_dir()]
    processed = [label for label in uid_of if (derivatives / f"sub-{label}").is_dir()]
    raw_bold: set[str] = set()
    for place, labels in ((root, present), (derivatives, processed)):
        table = _index(place, labels)
        for row in table.to_dict("records"):
            path, uid = place / row["path"], uid_of.get(str(row["sub"]))
            if uid is None:
                continue
            is_eeg = place == root and row["datatype"] == "eeg" and row["suffix"] == "eeg" and row["ext"] in EEG_SUFFIXES
            is_bold = row["suffix"] == "bold" and row["ext"] in (".nii.gz", ".nii")
            if is_bold and place == root and row["desc"] != "preproc":
                raw_bold.add(uid)
                continue
            if not is_eeg and not (is_bold and row["desc"] == "preproc" and row["space"] == space):
                continue
            modality = "eeg" if is_eeg else "fmri"
            task = _entity(row["task"])
            if modality not in dataset.modalities or (not simulated and dataset.tasks and task not in dataset.tasks):
                continue
            entities = {"session": _entity(row["ses"]), "run": _entity(row["run"]), "task": task}
            try:
                line_freq = None if simulated else dataset.line_freq
                own = _eeg(row, path, line_freq) if is_eeg else _bold(row, path)
            except Exclusion as error:
                unusable.append((uid, modality, str(error)))
                continue
            found.append({"uid": uid, "path": str(path.resolve()), **entities, **own})
    have = {row["uid"] for row in found if row["modality"] == "fmri"}
    for uid in sorted(raw_bold - have):
        reason = "raw BOLD only: preprocess it (fMRIPrep) and point datasets.<name>.derivatives at the output"
        unusable.append((uid, "fmri", reason))
    return found, unusable


def roi_recordings(
    uid_of: dict[str, str], sites: dict[str, str], dataset: RoiDataset, root: Path
) -> tuple[list[dict], list[tuple[str, str, str]]]:
    """The same for ready ROI series: one text file per subject."""
    found: list[dict] = []
    unusable: list[tuple[str, str, str]] = []
    for label, uid in uid_of.items():
        files = sorted(root.glob(dataset.pattern.replace("{subject}", glob.escape(label))))
        t_r = dataset.t_r.get(sites[uid]) if isinstance(dataset.t_r, dict) else dataset.t_r
        try:
            if not files:
                raise Exclusion(f"no file fits {dataset.pattern.replace('{subject}', label)}")
            if len(files) > 1:
                raise Exclusion(f"{len(files)} files fit {dataset.pattern.replace('{subject}', label)}: make the pattern stricter")
            if t_r is None:
                raise Exclusion(f"no repetition time for site {sites[uid]}: add it to datasets.<name>.t_r")
            _check_file(files[0])
        except Exclusion as error:
            unusable.append((uid, "fmri", str(error)))
            continue
        found.append({"uid": uid, "modality": "fmri", "kind": "roi", "path": str(files[0].resolve()), "t_r": float(t_r)})
    return found, unusable


def recordings_table(rows: list[dict]) -> pd.DataFrame:
    """The recordings table: fixed columns and types, sorted, with size and fingerprint of each file."""
    for row in rows:
        path = Path(row["path"])
        row["size"] = sum(p.stat().st_size for p in [path, *data_files(path)])
        row["fingerprint"] = fingerprint(path)
    table = pd.DataFrame(rows, columns=COLUMNS)
    for column in ("t_r", "sfreq", "line_freq"):
        table[column] = table[column].astype(float)
    for column in ("session", "run", "task", "confounds", "mask", "montage"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    order = table.assign(rest=table["task"].fillna("").ne("rest"))
    order = order.sort_values(["uid", "modality", "rest", "session", "run", "path"], na_position="first", kind="stable")
    return order.drop(columns="rest").reset_index(drop=True).astype({"size": "int64"})


def mean_displacement(recordings: pd.DataFrame) -> dict[str, float]:
    """uid -> mean framewise displacement in mm over a subject's runs, from the confounds tables."""
    from mcsp.confounds import displacement, read_confounds

    found: dict[str, list[float]] = {}
    for row in recordings.dropna(subset=["confounds"]).to_dict("records"):
        try:
            found.setdefault(row["uid"], []).append(float(displacement(read_confounds(Path(row["confounds"]))).mean()))
        except Exclusion:
            continue
    return {uid: float(sum(values) / len(values)) for uid, values in found.items()}

