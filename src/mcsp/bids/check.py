"""Read headers, sidecars and pairing of every input, and forecast disk, files and time, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mne
import nibabel as nib
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.bids.contents import derivatives_of
from mcsp.bids.listing import AnyDataset, Listing, describe, family_of, list_subjects
from mcsp.bids.phenotype import absent, overlooked, unread
from mcsp.bids.questions import PERSON_COLUMNS, check_questions
from mcsp.bids.recordings import (
    RAW_ONLY,
    bids_recordings,
    check_file,
    header_t_r,
    nifti_header,
    repetition_time,
    roi_recordings,
    size_of,
)
from mcsp.confounds import STRATEGIES, read_confounds
from mcsp.eeg.read import MIN_KNOWN, check_edf_size, standard_name, unreadable
from mcsp.eeg.segments import LEAST_TOP, top_frequency
from mcsp.errors import Exclusion, McspError
from mcsp.fmri.series import n_at
from mcsp.grayordinates import is_dlabel, is_dtseries, open_series, read_labels, series_t_r
from mcsp.montage import check_channels, is_hydrocel_128, template_montage
from mcsp.options.atlas import AtlasOptions
from mcsp.options.datasets import RoiDataset
from mcsp.options.domains import BANDS
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.fmriprep import FmriprepOptions
from mcsp.options.simulate import SimulatedDataset
from mcsp.options.tasks import Task
from mcsp.options.training import SplitOptions
from mcsp.preprocess.fmriprep import find_licence, find_program
from mcsp.store import read_tsv, write_tsv

PROBLEM_COLUMNS = {
    "dataset": "Dataset's name in the study file, or what else the line is about: a task, the folds, preprocessing",
    "uid": "Subject: dataset/sub-label; n/a: the whole of it",
    "severity": "error: it will be left out; warning: look at it; note: good to know",
    "file": "File that the line speaks of",
    "problem": "What is wrong, and the remedy",
}
FORECAST_COLUMNS = {
    "dataset": "Dataset's name in the study file",
    "subjects": "Subjects that look usable",
    "fmri": "Subjects with fMRI that looks usable",
    "eeg": "Subjects with EEG that looks usable",
    "input_mb": "Size of the recordings, MB",
    "store_mb": "Size of the stores that will be written, MB",
    "files": "Files that the stages up to the stores will write",
    "cpu_minutes": "Rough CPU time of the stages up to the stores, minutes; training comes on top",
}
# Measured on one core of a 2020s server: BOLD by the size of the compressed run, EEG by the duration at 64 channels.
FMRI_SECONDS = (1.0, 0.012)  # per run, per MB
ROI_SECONDS = 0.05  # per series
EEG_SECONDS = 6.0  # per recording
EMBEDDED_SECONDS = (50.0, 0.15)  # per subject, per frame; the demo: 75 s, 122 frames. fMRIPrep takes hours and is not in it
SHARD_SECONDS = 6.0  # imports, per job
NIFTI_OFFSET = 352  # bytes before the data of a single-file image
SHOWN = 25
SEVERITIES = ("error", "warning", "note")


@dataclass
class Findings:
    """Problems so far, as rows of the report."""

    rows: list[tuple] = field(default_factory=list)

    def add(self, severity: str, dataset: str, uid: str | None, path: Path | str | None, problem: str) -> None:
        self.rows.append((dataset, uid, severity, str(path) if path else None, " ".join(problem.split())))

    def table(self) -> pd.DataFrame:
        rows = sorted(dict.fromkeys(self.rows), key=lambda r: (r[0], SEVERITIES.index(r[2]), r[1] or "", r[3] or "", r[4]))
        return pd.DataFrame(rows, columns=list(PROBLEM_COLUMNS))


def _bold_header(path: Path) -> nib.Nifti1Header:
    return open_series(path)[0].nifti_header if is_dtseries(path) else nifti_header(path)


def n_frames(header: nib.Nifti1Header) -> int:
    """Frames of a BOLD run: the fourth axis of a volume, the fifth of grayordinates."""
    shape = header.get_data_shape()
    return int(shape[4 if len(shape) > 4 else 3])


def check_length(n: int, t_r: float, options: FmriOptions) -> tuple[list[str], list[str]]:
    """(errors, warnings) of a run of `n` frames of `t_r` s: are enough left at the common repetition time?"""
    common = n_at((n - 1) * t_r, options.t_r)
    if common >= options.min_frames:
        return [], []
    text = f"{n} frames of {t_r:g} s are {n * t_r:.0f} s: {common} at {options.t_r:g} s (fmri.t_r)"
    if options.runs == "join":
        return [], [f"{text}; all runs of the subject together need {options.min_frames} (fmri.min_frames)"]
    return [f"{text}, {options.min_frames} are needed (fmri.min_frames)"], []


def check_bold(path: Path, options: FmriOptions) -> tuple[list[str], list[str]]:
    """(errors, warnings) of a BOLD run by its header and sidecars."""
    try:
        check_file(path)
        header = _bold_header(path)
        own = series_t_r(path) if is_dtseries(path) else header_t_r(header)
        t_r = repetition_time(path)
    except Exclusion as error:
        return [str(error)], []
    warnings = []
    if not np.isnan(own) and abs(own - t_r) > 0.01 * t_r:
        warnings.append(f"repetition time {t_r:g} s in the sidecar, {own:g} s in the header: find out which is right")
    expected = int(np.prod(header.get_data_shape())) * header.get_data_dtype().itemsize + NIFTI_OFFSET
    if path.suffix == ".nii" and path.stat().st_size < expected:
        return [f"{expected - path.stat().st_size} bytes shorter than its header says: the file is cut: copy it again"], []
    errors, short = check_length(n_frames(header), t_r, options)
    return errors, warnings + short


def check_eeg(path: Path, options: EegOptions) -> tuple[list[str], list[str]]:
    """(errors, warnings) of an EEG recording by its header."""
    try:
        check_file(path)
        if path.suffix.lower() in (".edf", ".bdf"):
            check_edf_size(path)
        raw = mne.io.read_raw(path, preload=False, verbose="error")
    except Exclusion as error:
        return [str(error)], []
    except Exception as error:  # readers fail in many ways on damaged files
        return [unreadable(error)], []
    errors, warnings = [], []
    template = template_montage(options.montage).ch_names
    known = {name.lower(): name for name in template}
    placed = [name for name in raw.ch_names if standard_name(name, known) in template]
    known_net = is_hydrocel_128([name for name, kind in zip(raw.ch_names, raw.get_channel_types()) if kind == "eeg"])
    if len(placed) < MIN_KNOWN and not known_net and not sorted(path.parent.glob("*_electrodes.tsv")):
        names = ", ".join([name for name in raw.ch_names if name not in placed][:5])
        errors.append(
            f"{len(placed)} channels have names of {options.montage} (not: {names}): rename, or add an electrodes.tsv"
        )
    duration, needed = raw.n_times / raw.info["sfreq"], options.n_segments * options.segment_samples / options.sfreq
    if duration < needed and options.short == "exclude":
        errors.append(f"{duration:.0f} s long, {needed:.0f} s are needed: lower eeg.n_segments, or set eeg.short: overlap")
    top = top_frequency(raw.info["sfreq"], options)
    if top < min(LEAST_TOP, options.low_pass):
        errors.append(f"sampling rate of {raw.info['sfreq']:g} Hz: nothing above {top:.0f} Hz, {LEAST_TOP:g} Hz are needed")
    elif top < options.low_pass:
        hint = (
            f"nothing was recorded from {top:g} to {options.low_pass:g} Hz (eeg.low_pass): missing there in spectra and in "
            "connectivity; series can't be marked: lower eeg.low_pass, so that all recordings are alike"
        )
        warnings.append(f"sampling rate of {raw.info['sfreq']:g} Hz: {hint}")
    return errors, warnings


def check_confounds(path: str, bold: Path, options: FmriOptions) -> tuple[list[str], list[str]]:
    """(errors, warnings) of the confounds table of a run: are the columns of the strategy there, and a row for each frame?"""
    if not path:
        text = f"no confounds table beside the run, fmri.confounds = {options.confounds} needs one: fetch it, or set none"
        return [text] if STRATEGIES[options.confounds] else [], []
    try:
        table = read_confounds(Path(path))
    except Exclusion as error:
        return [str(error)], []
    missing = [column for column in STRATEGIES[options.confounds] if column not in table]
    if missing:
        return [f"confounds lack {', '.join(missing[:4])} for fmri.confounds = {options.confounds}: choose another"], []
    try:
        n = n_frames(_bold_header(bold))
    except Exclusion:
        return [], []  # told of the run itself
    return [] if len(table) == n else [f"confounds have {len(table)} rows, the run {n} frames: fetch both again"], []


def check_sidecars(name: str, root: Path, findings: Findings) -> None:
    """Report JSON files at the dataset's top that are not JSON: all subjects inherit them."""
    if not (root / "dataset_description.json").is_file():
        findings.add("warning", name, None, root, "no dataset_description.json: not a BIDS dataset by the standard")
    for path in sorted(root.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, OSError) as error:
            findings.add("warning", name, None, path, f"not readable as JSON ({error}): mend or delete it")


def check_raw(name: str, uid: str, folder: Path, fmri: FmriOptions, findings: Findings) -> None:
    """Report on raw BOLD, its T1w and field maps of a subject that waits for preprocessing."""
    t1w = sorted(folder.glob("**/anat/*_T1w.nii*"))
    for path in sorted(folder.glob("**/func/*_bold.nii*")):
        errors, warnings = check_bold(path, fmri)
        for severity, lines in (("error", errors), ("warning", warnings)):
            for line in lines:
                findings.add(severity, name, uid, path, line)
        if not errors:
            header = nifti_header(path)
            size, zooms = "x".join(map(str, header.get_data_shape())), "x".join(f"{z:g}" for z in header.get_zooms()[:3])
            text = f"raw BOLD {size}, {zooms} mm, TR {repetition_time(path):g} s: sound, needs preprocessing"
            findings.add("note", name, uid, path, text)
    if not t1w:
        findings.add("error", name, uid, folder, "no T1w image: fMRIPrep needs one to preprocess the raw BOLD")
    for path in t1w:
        try:
            zooms = "x".join(f"{z:g}" for z in nib.load(path).header.get_zooms()[:3])
            findings.add("note", name, uid, path, f"T1w, {zooms} mm: sound")
        except Exception as error:  # nibabel and gzip raise many kinds on damaged files
            findings.add("error", name, uid, path, f"T1w header not readable ({error}): copy it again")
    maps = sorted(folder.glob("**/fmap/*.nii*"))
    odd = [path.name for path in maps if not path.name.startswith("sub-")]
    if odd:
        text = f"{len(odd)} of {len(maps)} field maps have names that BIDS does not know ({odd[0]}): fMRIPrep will not use them"
        findings.add("warning", name, uid, maps[0].parent, text)


def check_container(options: FmriprepOptions, findings: Findings) -> None:
    """Report what this machine lacks to run fMRIPrep; the cluster's nodes may have it."""
    for find in (find_program, find_licence):
        try:
            find(options)
        except McspError as error:
            findings.add("warning", "preprocess", None, None, f"on this machine: {error}")


def check_columns(listing: Listing, findings: Findings) -> None:
    """Report columns that the study names and no phenotype table has, and cells that can't be read: what they would tell stays
    unknown.
    """
    phenotype, columns = listing.phenotype, [] if listing.rows is None else list(listing.rows)
    for option, names in absent(phenotype, columns).items():
        text = f"phenotype.{option}: no table has a column {' or '.join(names)}: it stays empty in the cohort table"
        findings.add("warning", listing.name, None, None, text)
    if listing.rows is None:
        return
    for option, near in overlooked(phenotype, columns).items():
        text = f"phenotype.{option}: no table has a column {getattr(phenotype, option)}: unknown for all"
        hint = f" (there is {near[0]}: set phenotype.{option}: {near[0]})" if near else ""
        findings.add("warning" if near else "note", listing.name, None, None, text + hint)
    for option, cells in unread(listing.rows, phenotype).items():
        if cells:
            what = "not in phenotype.sex_map: add it" if option == "sex" else "no number: mend the table"
            told = f"{len(cells)} cell{'s' if len(cells) > 1 else ''} ({', '.join(list(dict.fromkeys(cells))[:4])})"
            findings.add("warning", listing.name, None, None, f"phenotype.{option}: {told}: {what}: unknown till then")


def _recordings(
    listing: Listing, root: Path, fmri: FmriOptions, findings: Findings, raw_too: bool
) -> tuple[list[dict], dict[str, dict]]:
    """(recordings of all subjects that can be used, uid -> who they are); what can't be used is reported."""
    name, dataset = listing.name, listing.dataset
    uid_of, people = {}, {}
    for label in listing.everyone:
        uid = f"{name}/sub-{label}"
        fields, reason = describe(listing, label)
        if reason:
            findings.add("error", name, uid, None, reason)
        else:
            uid_of[label] = uid
            people[uid] = {**fields, "uid": uid, "dataset": name, "family": family_of(listing, uid, fields)}
    if isinstance(dataset, RoiDataset):
        found, unusable = roi_recordings(uid_of, {uid: own["site"] for uid, own in people.items()}, dataset, root)
    else:
        found, unusable = bids_recordings(uid_of, dataset, root, raw_too=raw_too)
    silent = set(uid_of.values()) - {row["uid"] for row in found} - {uid for uid, _, _ in unusable}
    for uid, modality, reason in unusable:
        findings.add("error", name, uid, None, f"{modality}: {reason}")
        if reason == RAW_ONLY:
            check_raw(name, uid, root / uid.split("/")[1], fmri, findings)
    for uid in sorted({row["uid"] for row in found if row["kind"] == "raw"}):
        check_raw(name, uid, root / uid.split("/")[1], fmri, findings)
    places = [root] if isinstance(dataset, RoiDataset) else [root, derivatives_of(dataset, root)]
    for uid in sorted(silent):
        text = f"no recording of {' or '.join(dataset.modalities)} found"
        if any((place / uid.split("/")[1]).is_dir() for place in places):
            findings.add("error", name, uid, None, text)
        else:  # tables tell of everybody, also of those of whom nothing was fetched
            findings.add("note", name, uid, None, f"{text}: in the phenotype table only")
    return found, people


def _check_recording(row: dict, name: str, fmri: FmriOptions, eeg: EegOptions, findings: Findings) -> bool:
    """Report on one recording; True when it looks usable."""
    path = Path(row["path"])
    parts = []
    if row["kind"] == "raw":
        return not check_bold(path, fmri)[0]  # check_raw tells why
    if row["kind"] == "bold":
        parts = [check_bold(path, fmri), check_confounds(row["confounds"], path, fmri)]
        if not row["mask"] and not is_dtseries(path):
            parts.append(([], ["no brain mask beside the run: parcels are averaged without one"]))
    elif row["kind"] == "eeg":
        parts = [check_eeg(path, eeg)]
        if np.isnan(row["line_freq"]):
            parts.append(([], ["PowerLineFrequency unknown: no notch filter; set the dataset's option line_freq"]))
    for errors, warnings in parts:
        for severity, lines in (("error", errors), ("warning", warnings)):
            for line in lines:
                findings.add(severity, name, row["uid"], path, line)
    return not any(errors for errors, _ in parts)


def n_regions(atlas: AtlasOptions) -> int:
    """Number of regions of the study's atlas."""
    if atlas.table:
        return len(read_tsv(atlas.table)) - len(atlas.exclude)
    if is_dlabel(atlas.image):
        return len(read_labels(atlas.image).names()) - len(atlas.exclude)
    digits = "".join(c for c in atlas.name if c.isdigit())
    return int(digits or 0) - len(atlas.exclude)


def store_bytes(fmri: FmriOptions, eeg: EegOptions, atlas: AtlasOptions) -> dict[str, int]:
    """Bytes per subject of the three stores of each modality (float32; shapes as in the README)."""
    r, n = n_regions(atlas), fmri.n_frames
    s, c, t = eeg.n_segments, len(eeg.ch_names), eeg.segment_samples
    return {
        "fmri": 4 * (r * n + r * r + r * (n // 2 + 1)),
        "eeg": 4 * (s * c * t + len(BANDS) * c * c + s * c * (t // 2 + 1)),
    }


def _raw_seconds(row: dict, preprocess: str) -> float:
    if row["kind"] != "raw" or preprocess != "embedded":
        return 0.0
    return EMBEDDED_SECONDS[0] + EMBEDDED_SECONDS[1] * nifti_header(Path(row["path"])).get_data_shape()[3]


def forecast_row(
    dataset: AnyDataset, name: str, usable: list[dict], per_subject: Mapping[str, int], preprocess: str = "none"
) -> dict:
    """Forecast of one dataset: who, how large, how many files, how long."""
    uids = {m: {row["uid"] for row in usable if row["modality"] == m} for m in ("fmri", "eeg")}
    sizes = {row["path"]: size_of(Path(row["path"])) / 1e6 for row in usable}
    seconds = 0.0
    for row in {row["uid"] + row["modality"]: row for row in reversed(usable)}.values():  # stages use the first run
        if row["kind"] in ("bold", "raw"):
            seconds += _raw_seconds(row, preprocess)
            seconds += FMRI_SECONDS[0] + FMRI_SECONDS[1] * sizes[row["path"]]
        else:
            seconds += ROI_SECONDS if row["kind"] == "roi" else EEG_SECONDS
    jobs = dataset.n_shards * (1 + 3 * len(dataset.modalities))
    return {
        "dataset": name,
        "subjects": len(uids["fmri"] | uids["eeg"]),
        "fmri": len(uids["fmri"]),
        "eeg": len(uids["eeg"]),
        "input_mb": round(sum(sizes.values()), 1),
        "store_mb": round(sum(per_subject[m] * len(uids[m]) for m in uids) / 1e6, 1),
        "files": dataset.n_shards * (4 + 9 * len(dataset.modalities)) + 2 * jobs,  # tables and stores; logs, benchmarks
        "cpu_minutes": round((seconds + SHARD_SECONDS * jobs) / 60, 1),
    }


def show(problems: pd.DataFrame, forecast: pd.DataFrame) -> None:
    """Print the problems, the gravest first, of them what is not one subject's, and alike ones once; and the forecast."""
    console = Console()
    counts = problems["severity"].value_counts()
    alike = problems.assign(kind=problems["problem"].str.replace(r"sub-[^\s:;,]+", "sub-*", regex=True))
    alike = alike.assign(rank=problems["severity"].map(SEVERITIES.index), own=problems["uid"].notna())
    alike = alike.sort_values(["rank", "own"], kind="stable")
    groups = alike.groupby(["severity", "dataset", "kind"], sort=False)
    for i, ((severity, dataset, kind), own) in enumerate(groups):
        if i == SHOWN:
            console.print(f"... and {groups.ngroups - SHOWN} more kinds in the table")
            break
        uid, people = own["uid"].iloc[0], own["uid"].nunique()
        file = own["file"].iloc[0]
        whole = dataset if pd.isna(file) else f"{dataset}: {file}"
        files = f" ({len(own)} files)" if len(own) > people else ""
        who = whole if pd.isna(uid) else f"{uid} and {people - 1} more{files}" if people > 1 else f"{uid}{files}"
        text = own["problem"].iloc[0] if len(own) == 1 else kind
        console.print(f"{severity}: {who}: {text}", markup=False, highlight=False, soft_wrap=True)
    table = Table(title="Forecast")
    for column in forecast:
        table.add_column(column, justify="left" if column == "dataset" else "right")
    for row in forecast.itertuples(index=False):
        table.add_row(*map(str, row))
    console.print(table)
    told = [(name, counts.get(name, 0)) for name in SEVERITIES]
    console.print(", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in told))
    if empty := list(forecast["dataset"][forecast["subjects"] == 0]):
        console.print(f"nobody can be used in {', '.join(empty)}: mend the errors above before you run the study")


def hopeless(problems: pd.DataFrame, forecast: pd.DataFrame) -> bool:
    """Whether the study can't run as it is: nobody can be used in a dataset, or an error is not one subject's alone."""
    return bool((forecast["subjects"] == 0).any() or (problems["uid"].isna() & (problems["severity"] == "error")).any())


def run(
    *,
    datasets: Mapping[str, AnyDataset],
    paths: Mapping[str, Path],
    fmri: FmriOptions,
    eeg: EegOptions,
    atlas: AtlasOptions,
    preprocess: str = "none",
    fmriprep: FmriprepOptions | None = None,
    tasks: Mapping[str, Task] | None = None,
    splits: SplitOptions | None = None,
    report: Path | None,
    forecast: Path | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check the datasets at `paths` and print what was found; write it at `report` and `forecast` where given.

    `preprocess`: the study's route for raw BOLD; `fmriprep`: its options; `tasks`: all of the study's. Returns (problems,
    forecast). Never stops at a problem: all are listed at once. Opening headers says nothing of the data behind them: the
    stages find out about those.
    """
    findings, rows, per_subject = Findings(), [], store_bytes(fmri, eeg, atlas)
    everyone: list[dict] = []
    waiting = False
    for name, dataset in datasets.items():
        if isinstance(dataset, SimulatedDataset) and not paths[name].is_dir():
            text = "not simulated yet: the run does so, or `snakemake simulate`; then check again"
            findings.add("note", name, None, None, text)
            waiting = True
            continue
        usable: list[dict] = []
        try:
            listing = list_subjects(name, dataset, paths[name])
            if not isinstance(dataset, RoiDataset):
                check_sidecars(name, paths[name], findings)
            check_columns(listing, findings)
            found, people = _recordings(listing, paths[name], fmri, findings, preprocess != "none")
            usable = [row for row in found if _check_recording(row, name, fmri, eeg, findings)]
            everyone += [people[uid] for uid in dict.fromkeys(row["uid"] for row in usable)]
        except McspError as error:
            findings.add("error", name, None, paths[name], str(error))
        rows.append(forecast_row(dataset, name, usable, per_subject, preprocess))
    if any("eeg" in dataset.modalities for dataset in datasets.values()):
        try:
            check_channels(eeg.ch_names, eeg.montage)
        except McspError as error:
            findings.add("error", "eeg", None, None, str(error))
    if preprocess == "fmriprep" and fmriprep is not None:
        check_container(fmriprep, findings)
    if not waiting and all(row["subjects"] for row in rows):  # else the datasets must be mended, or made, first
        for severity, about, text in check_questions(pd.DataFrame(everyone)[list(PERSON_COLUMNS)], tasks or {}, splits):
            findings.add(severity, about, None, None, text)
    problems, outlook = findings.table(), pd.DataFrame(rows, columns=list(FORECAST_COLUMNS))
    if report is not None:
        write_tsv(problems, report, PROBLEM_COLUMNS)
    if forecast is not None:
        write_tsv(outlook, forecast, FORECAST_COLUMNS)
    show(problems, outlook)
    return problems, outlook
