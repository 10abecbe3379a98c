"""Recordings of subjects: files, sidecars, and what makes one unusable before it is opened."""

from __future__ import annotations

import glob
import json
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import bids2table
import nibabel as nib
import pandas as pd

from mcsp.bids.contents import derivatives_of, roi_files
from mcsp.errors import Exclusion, McspError
from mcsp.fingerprints import data_files, fingerprint
from mcsp.grayordinates import DTSERIES, is_dtseries, series_t_r
from mcsp.options.datasets import BidsDataset, RoiDataset
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import plain_label

COLUMNS = [
    "uid", "modality", "kind", "path", "session", "run", "task", "t_r", "sfreq", "line_freq", "confounds", "mask", "montage",
    "t1w", "size", "fingerprint",
]  # fmt: skip
EEG_SUFFIXES = (".vhdr", ".edf", ".bdf", ".set")
BOLD_SUFFIXES = (".nii.gz", ".nii")
SURFACE_SPACE = "fsLR"
RUN_ENTITIES = ("ses", "task", "acq", "ce", "rec", "dir", "run")
TASK = RUN_ENTITIES.index("task")
T_R_RANGE = (0.2, 10.0)  # s
RAW_ONLY = "raw BOLD only: set preprocess: embedded or fmriprep, or point derivatives at fMRIPrep's output"

Unusable = tuple[str, str, str]  # uid, modality, reason


def sidecar_of(path: Path) -> dict:
    """Metadata with BIDS inheritance. Raises Exclusion when the file's own sidecar is not JSON."""
    own = path.with_name(path.name.split(".")[0] + ".json")
    try:
        if own.is_file():
            json.loads(own.read_text(encoding="utf-8-sig"))  # bids2table passes over what it can't parse
        return dict(bids2table.load_bids_metadata(path, inherit=True) or {})
    except (ValueError, OSError) as error:
        raise Exclusion(f"{own.name} is not readable as JSON ({error}): mend it") from error


def _float(value: object) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def nifti_header(path: Path) -> nib.Nifti1Header:
    """Header of a BOLD run. Raises Exclusion when it can't be read or is not of four dimensions."""
    try:
        header = nib.load(path).header
    except Exception as error:  # nibabel and gzip raise many kinds on damaged files
        raise Exclusion(f"{path.name}: header not readable ({' '.join(str(error).split())}): copy it again") from error
    if len(header.get_data_shape()) != 4:
        raise Exclusion(f"{path.name}: an image of {len(header.get_data_shape())} dimensions: a BOLD run has 4")
    return header


def header_t_r(header: nib.Nifti1Header) -> float:
    """Repetition time in s by a NIfTI header, NaN when it does not tell: 0, or 1 without a unit, is what programs leave
    there that know nothing.
    """
    value, unit = float(header["pixdim"][4]), header.get_xyzt_units()[1]
    if value == 0 or (value == 1 and unit == "unknown"):
        return math.nan
    return value * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)


def repetition_time(path: Path, raw: Path | None = None) -> float:
    """Repetition time in s of a BOLD run: from its sidecars, those of the `raw` run it was made from, or the header.

    Raises Exclusion when it is missing or absurd.
    """
    t_r, source = math.nan, ""
    for place in (path, raw):
        if math.isnan(t_r) and place is not None:
            t_r, source = _float(sidecar_of(place).get("RepetitionTime")), f"the sidecar of {place.name}"
    if math.isnan(t_r):
        own = series_t_r(path) if is_dtseries(path) else header_t_r(nifti_header(path))
        t_r, source = own, f"the header of {path.name}"
    if math.isnan(t_r):
        raise Exclusion(f"{path.name}: repetition time unknown: add RepetitionTime (s) to its JSON sidecar")
    low, high = T_R_RANGE
    if not low <= t_r <= high:
        in_ms = low <= t_r / 1000 <= high
        hint = f"it looks like ms, write {t_r / 1000:g} (BIDS wants s)" if in_ms else "write the right one (s) into its sidecar"
        raise Exclusion(f"repetition time of {t_r:g} s in {source}: {hint}")
    return t_r


def check_file(path: Path) -> None:
    """Raises Exclusion when a recording, or the data file that its header names, is missing or empty."""
    _check_one(path)
    for part in data_files(path):
        if not part.exists() and not part.is_symlink():
            raise Exclusion(f"{path.name}: its data file {part.name} is missing: copy it beside the header")
        _check_one(part)


def check_transfer(path: Path) -> None:
    """Raises Exclusion when every LF of a binary file is a CR LF, as a transfer in text mode leaves it. By chance, one
    LF in 256 would be.
    """
    with open(path, "rb") as file:
        head = file.read(1 << 20)
    n = head.count(b"\n")
    if n >= 30 and head.count(b"\r\n") == n:
        raise Exclusion(
            f"{path.name}: damaged in transfer: every LF byte became CR LF (text mode), its samples are garbage: "
            "copy it again, in binary mode"
        )


def _check_one(path: Path) -> None:
    if not path.exists():
        raise Exclusion(f"{path.name}: a link to nowhere: fetch the file (datalad get)")
    if path.stat().st_size == 0:
        raise Exclusion(f"{path.name}: file is empty: copy it again")
    if path.suffix.lower() in (".edf", ".bdf"):
        check_transfer(path)


def _run_of(row: dict) -> tuple:
    """What tells the runs of a subject apart; the same in raw data and derivatives."""
    return tuple(row[entity] for entity in RUN_ENTITIES)


class Index:
    """Files of some subjects below a BIDS directory, by subject and run."""

    def __init__(self, root: Path, labels: Iterable[str]):
        present = [label for label in labels if (root / f"sub-{label}").is_dir()]
        self.rows: list[dict] = []
        if not present:
            return
        try:
            table = bids2table.index_dataset(root, include_subjects=[glob.escape(f"sub-{label}") for label in present])
        except Exception as error:  # whatever the index stumbles over, the user needs the dataset's name
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise McspError(f"{root}: can't be indexed as BIDS ({reason}): run a BIDS validator") from error
        self.rows = [{**row, "path": root / row["path"]} for row in table.to_pylist()]

    def select(self, **wanted: object) -> list[dict]:
        """Rows whose entities have the wanted values (one, or one of a tuple), sorted by path."""
        found = [
            row
            for row in self.rows
            if all(row[key] in (value if isinstance(value, tuple) else (value,)) for key, value in wanted.items())
        ]
        return sorted(found, key=lambda row: str(row["path"]))


def _grouped(rows: list[dict]) -> dict[tuple, list[dict]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["sub"], _run_of(row)].append(row)
    return groups


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _entities(row: dict) -> dict:
    return {"session": _text(row["ses"]), "run": _text(row["run"]), "task": row["task"]}


def preprocessed_bold(index: Index, space: str) -> dict[tuple, dict]:
    """(subject, run) -> row of the preprocessed BOLD in `space`, with `confounds` and `mask` ('' where there is none).

    Of several resolutions, 2 mm or else the first is taken; separate echoes are not. In `fsLR`, series of grayordinates,
    those of 91k first.
    """
    chosen = {}
    ext, desc = (DTSERIES, (None, "preproc")) if space == SURFACE_SPACE else (BOLD_SUFFIXES, "preproc")
    for key, rows in _grouped(index.select(suffix="bold", desc=desc, space=space, ext=ext, echo=None)).items():
        chosen[key] = min(
            rows, key=lambda row: (row["res"] not in (None, "2"), row["den"] not in (None, "91k"), str(row["path"]))
        )
    confounds = _grouped(index.select(suffix=("timeseries", "regressors", "confounds"), desc=("confounds", None), ext=".tsv"))
    masks = _grouped(index.select(suffix="mask", space=space, ext=BOLD_SUFFIXES))
    for key, row in chosen.items():
        brain = [m for m in masks.get(key, []) if "brain" in (m["desc"], m["label"]) and m["res"] == row["res"]]
        row["confounds"] = str(confounds[key][0]["path"].resolve()) if key in confounds else ""
        row["mask"] = str(brain[0]["path"].resolve()) if brain else ""
    return chosen


def _bold(row: dict, raw: Path | None) -> dict:
    check_file(row["path"])
    own = {"kind": "bold", "modality": "fmri", "t_r": repetition_time(row["path"], raw)}
    return {**own, "confounds": row["confounds"], "mask": row["mask"]}


def _eeg(row: dict, electrodes: list[dict], line_freq: float | None) -> dict:
    check_file(row["path"])
    sidecar = sidecar_of(row["path"])
    line = _float(sidecar.get("PowerLineFrequency"))
    places = [e["path"] for e in electrodes if e["ses"] == row["ses"] and e["task"] in (None, row["task"])]
    return {
        "kind": "eeg",
        "modality": "eeg",
        "sfreq": _float(sidecar.get("SamplingFrequency")),
        "line_freq": line if not math.isnan(line) else float(line_freq or math.nan),
        "montage": str(places[0].resolve()) if places else "",
    }


def raw_bold(rows: list[dict], t1w: list[dict]) -> dict:
    """A raw run, of whose files (echoes, magnitude and phase) `rows` are, with the T1w to preprocess it with: of its own
    session, else the first. Raises Exclusion when there is none.
    """
    magnitude = [row for row in rows if row["part"] in (None, "mag")] or rows
    path = magnitude[0]["path"]
    check_file(path)
    if not t1w:
        raise Exclusion(f"{path.name}: raw BOLD without a T1w: preprocessing needs one in anat/")
    own = [row["path"] for row in t1w if row["ses"] == magnitude[0]["ses"]] or [row["path"] for row in t1w]
    check_file(own[0])
    nifti_header(path)
    return {"kind": "raw", "modality": "fmri", "t_r": repetition_time(path), "t1w": str(own[0].resolve())}


def bids_recordings(
    uid_of: dict[str, str], dataset: BidsDataset | SimulatedDataset, root: Path, *, raw_too: bool = False
) -> tuple[list[dict], list[Unusable]]:
    """(rows of the recordings table, (uid, modality, reason) of what can't be used) of the subjects in `uid_of`.

    `uid_of`: label -> uid. The dataset may be raw, fMRIPrep's output, or raw with derivatives elsewhere. `raw_too`: raw BOLD
    of subjects without preprocessed BOLD counts, as it will be preprocessed.
    """
    raw, processed = Index(root, uid_of), Index(derivatives_of(dataset, root), uid_of)
    found: list[dict] = []
    unusable: list[Unusable] = []
    tasks = set(dataset.tasks) if isinstance(dataset, BidsDataset) else set()
    passed_over: list[tuple[str, str, str]] = []  # uid, modality, task

    def attempt(row: dict, modality: str, describe) -> None:
        uid = uid_of[row["sub"]]
        if tasks and row["task"] not in tasks:
            passed_over.append((uid, modality, row["task"] or "none"))
            return
        try:
            found.append({"uid": uid, "path": str(row["path"].resolve()), **_entities(row), **describe()})
        except Exclusion as error:
            unusable.append((uid, modality, str(error)))

    if "fmri" in dataset.modalities:
        space = dataset.space if isinstance(dataset, BidsDataset) else "MNI152NLin2009cAsym"
        bold = {**preprocessed_bold(raw, space), **preprocessed_bold(processed, space)}
        sources = _grouped(raw.select(suffix="bold", desc=None, space=None, ext=BOLD_SUFFIXES))
        for key, row in sorted(bold.items(), key=lambda item: str(item[1]["path"])):
            source = sources[key][0]["path"] if key in sources else None
            attempt(row, "fmri", lambda row=row, source=source: _bold(row, source))
        if raw_too:
            anatomy = raw.select(suffix="T1w", desc=None, space=None, ext=BOLD_SUFFIXES)
            waiting = {key: rows for key, rows in sources.items() if key[0] not in {sub for sub, _ in bold}}
            for (sub, _), rows in sorted(waiting.items(), key=lambda item: str(item[1][0]["path"])):
                own = [row for row in anatomy if row["sub"] == sub]
                attempt(rows[0], "fmri", lambda rows=rows, own=own: raw_bold(rows, own))
        else:
            passed_over += [
                (uid_of[sub], "fmri", run[TASK] or "none") for sub, run in sources if tasks and run[TASK] not in tasks
            ]
            unusable += _unprocessed(sources, bold, [*raw.rows, *processed.rows], space, uid_of, tasks)
    if "eeg" in dataset.modalities:
        electrodes = raw.select(suffix="electrodes", datatype="eeg", ext=".tsv")
        line_freq = dataset.line_freq if isinstance(dataset, BidsDataset) else None
        for rows in _grouped(raw.select(suffix="eeg", datatype="eeg", ext=EEG_SUFFIXES)).values():
            row = min(rows, key=lambda row: EEG_SUFFIXES.index(row["ext"]))
            own = [e for e in electrodes if e["sub"] == row["sub"]]
            attempt(row, "eeg", lambda row=row, own=own: _eeg(row, own, line_freq))
    return found, unusable + _of_other_tasks(passed_over, tasks, {row["uid"] for row in found} | {line[0] for line in unusable})


def _of_other_tasks(passed_over: list[tuple[str, str, str]], tasks: set[str], told: set[str]) -> list[Unusable]:
    """A line for each subject, but those who are `told` of, who has recordings of other tasks than the dataset's only."""
    others = defaultdict(set)
    for uid, modality, task in passed_over:
        others[uid, modality].add(task)
    wanted = ", ".join(sorted(tasks))
    return [
        (
            uid,
            modality,
            f"no recording of task {wanted} (there are: {', '.join(sorted(names))}): mend the dataset's option tasks",
        )
        for (uid, modality), names in sorted(others.items())
        if uid not in told
    ]


def _unprocessed(
    sources: dict, bold: dict, rows: list[dict], space: str, uid_of: dict[str, str], tasks: set[str]
) -> list[Unusable]:
    """A line for each subject whose BOLD is raw only, or preprocessed in other spaces only."""
    have = {sub for sub, _ in bold}
    spaces = defaultdict(set)
    for row in rows:
        done = row["desc"] == "preproc" or row["ext"] == DTSERIES
        if row["suffix"] == "bold" and done and row["sub"] not in have:
            spaces[row["sub"]].add(row["space"] or "the run's own")
    hint = f"not in {space}: set the dataset's option space"
    lines = [
        (uid_of[sub], "fmri", f"preprocessed BOLD in space {', '.join(sorted(names))} only, {hint}")
        for sub, names in spaces.items()
    ]
    wanted = {sub for sub, run in sources if not tasks or run[TASK] in tasks}
    return sorted(lines + [(uid_of[sub], "fmri", RAW_ONLY) for sub in wanted - have - set(spaces)])


def roi_t_r(dataset: RoiDataset, site: str, path: Path) -> float:
    """Repetition time in s of a ready series: by its site or, where a site had several, the beginning of the file's name.

    Raises Exclusion when neither is in the study file, or the value is absurd.
    """
    t_r = dataset.t_r
    if isinstance(t_r, dict):
        keys = [site] if site in t_r else sorted((key for key in t_r if path.name.startswith(key)), key=len)
        if not keys:
            raise Exclusion(f"no repetition time for site {site}: add it to the dataset's option t_r")
        t_r = t_r[keys[-1]]
    if not T_R_RANGE[0] <= t_r <= T_R_RANGE[1]:
        raise Exclusion(f"repetition time of {t_r:g} s in the study file (option t_r): write it in s")
    return float(t_r)


def roi_recordings(
    uid_of: dict[str, str], sites: dict[str, str], dataset: RoiDataset, root: Path
) -> tuple[list[dict], list[Unusable]]:
    """The same for ready ROI series: one text file per subject. `sites`: uid -> site."""
    files = roi_files(dataset, root)
    found: list[dict] = []
    unusable: list[Unusable] = []
    for label, uid in uid_of.items():
        own = files.get(plain_label(label), [])
        try:
            if not own:
                raise Exclusion(f"no file fits {dataset.pattern.replace('{subject}', label)}")
            if len(own) > 1:
                raise Exclusion(f"{len(own)} files fit ({', '.join(p.name for _, p in own[:3])}): make the pattern stricter")
            path = own[0][1]
            check_file(path)
            t_r = roi_t_r(dataset, sites[uid], path)
        except Exclusion as error:
            unusable.append((uid, "fmri", str(error)))
            continue
        found.append({"uid": uid, "modality": "fmri", "kind": "roi", "path": str(path.resolve()), "t_r": t_r})
    return found, unusable


def size_of(path: Path) -> int:
    """Bytes of a recording, with the data file that its header names."""
    return sum(part.stat().st_size for part in [path, *data_files(path)])


def recordings_table(rows: list[dict]) -> pd.DataFrame:
    """The recordings table: fixed columns and types, with size and fingerprint of each file.

    Sorted by subject and modality, rest before other tasks, then by session and run. `confounds`, `mask`, `montage`
    and `t1w` are '' where there is none.
    """
    for row in rows:
        path = Path(row["path"])
        row["size"] = size_of(path)
        row["fingerprint"] = fingerprint(path)
    table = pd.DataFrame(rows, columns=COLUMNS)
    for column in ("t_r", "sfreq", "line_freq"):
        table[column] = table[column].astype(float)
    for column in ("confounds", "mask", "montage", "t1w"):
        table[column] = table[column].fillna("").astype(str)
    for column in ("session", "run", "task"):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    order = table.assign(
        rest=table["task"].fillna("").ne("rest"), number=pd.to_numeric(table["run"], errors="coerce").fillna(0.0)
    )
    order = order.sort_values(["uid", "modality", "rest", "session", "number", "path"], na_position="first", kind="stable")
    return order.drop(columns=["rest", "number"]).reset_index(drop=True).astype({"size": "int64"})


def mean_displacement(recordings: pd.DataFrame) -> dict[str, float]:
    """uid -> mean framewise displacement in mm of a subject's first run with a confounds table."""
    from mcsp.confounds import displacement, read_confounds

    found: dict[str, float] = {}
    for row in recordings[recordings["confounds"] != ""].to_dict("records"):
        if row["uid"] in found:
            continue
        try:
            found[row["uid"]] = float(displacement(read_confounds(Path(row["confounds"]))).mean())
        except Exclusion:
            continue
    return found
