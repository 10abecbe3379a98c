"""One shard of BOLD runs or ready ROI series to the temporal store."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mcsp.atlas import Atlas, load_atlas
from mcsp.code import code_version
from mcsp.confounds import displacement, read_confounds
from mcsp.errors import Exclusion, McspError
from mcsp.fingerprints import check_unchanged
from mcsp.fmri.series import check_regions, denoise, read_roi_series, scaled, standard_length, to_common_rate
from mcsp.fmri.surface import run_means
from mcsp.options.fmri import FmriOptions
from mcsp.shards import run_record, work_through, write_runs, write_status
from mcsp.store import StoreWriter, read_table

RUNS_APART = 1000  # frames from the end of a run to the next one's start: how long that was in truth is not known
MEASURED = {
    "t_r": "Repetition time in s",
    "n_frames": "Frames recorded",
    "n_kept": "Frames left after scrubbing, without empty ones",
    "mean_fd": "Mean framewise displacement in mm, before scrubbing",
}


def run_series(row: dict, atlas: Atlas, options: FmriOptions) -> tuple[np.ndarray, np.ndarray, dict]:
    """(series (N, R) of one recording, denoised, at the common repetition time; its frames' numbers (N); what the runs table
    says of it).

    Raises Exclusion when it is unusable, McspError when it is not the file that was ingested.
    """
    path, t_r = Path(row["path"]), row["t_r"]
    check_unchanged(row)
    if not 0.2 <= t_r <= 10:  # NaN fails too
        raise Exclusion(f"{path.name}: repetition time {t_r:g} s: write the right one into its sidecar")
    if row["kind"] == "raw":
        raise Exclusion(f"{path.name}: raw BOLD that nobody preprocessed: rerun the stage preprocess")
    if row["kind"] == "roi":
        raw = read_roi_series(path, atlas)
        covered = np.ones(len(atlas.names), bool)
    elif atlas.image is None:
        raise McspError(f"atlas without an image can't parcellate {path.name}: set atlas.kind: volume, or use ready series")
    else:
        raw, covered = run_means(path, atlas.image, atlas.index, Path(row["mask"]) if row["mask"] else None)
    if len(raw) < 10:
        raise Exclusion(f"too short: {len(raw)} frames")
    raw = check_regions(raw, covered, atlas.names)
    confounds = Path(row["confounds"]) if row["confounds"] else None
    cleaned, kept = denoise(raw, t_r, options, confounds)
    record = {"t_r": t_r, "n_frames": len(raw), "n_kept": len(kept), "mean_fd": mean_fd(confounds)}
    return *to_common_rate(cleaned, kept, t_r, options.t_r), record


def mean_fd(confounds: Path | None) -> float:
    """Mean framewise displacement of a run in mm, NaN where its confounds do not tell."""
    try:
        return float(displacement(read_confounds(confounds)).mean()) if confounds else float("nan")
    except Exclusion:
        return float("nan")


def subject_series(
    rows: list[dict], atlas: Atlas, options: FmriOptions
) -> tuple[np.ndarray, int, np.ndarray | None, list[dict]]:
    """((R, n_frames) series of a subject, its number of valid frames, their numbers where some between them are missing, a row
    of the runs table for each run that was looked at).

    `rows`: recordings, rest first, then by session and run; `options.runs` says which are used. Raises Exclusion with all
    reasons.
    """
    parts: list[np.ndarray] = []
    frames = np.zeros(0, int)
    records: list[dict] = []
    task = None
    for row in rows:
        if parts and (options.runs == "first" or row["task"] != task or sum(map(len, parts)) >= options.n_frames):
            records.append(run_record(row, "not needed"))
            continue
        try:
            series, own, quality = run_series(row, atlas, options)
            if options.runs == "first":
                standard_length(series, options)
        except Exclusion as error:
            records.append(run_record(row, "excluded", str(error)))
            continue
        task = row["task"]
        parts.append(scaled(series))
        frames = np.concatenate([frames, own + (frames[-1] + RUNS_APART if len(frames) else 0)])
        records.append(run_record(row, "used", **quality))
    if not parts:
        raise Exclusion("; ".join(dict.fromkeys(record["reason"] for record in records)))
    tensor, n_valid = standard_length(np.concatenate(parts), options)
    frames = frames[:n_valid]
    return tensor, n_valid, frames if frames[-1] >= n_valid else None, records


def run(
    *, dataset: str, recordings: Path, atlas: Path, options: FmriOptions, store: Path, status: Path, runs: Path, threads: int
) -> None:
    """Write one shard of the fMRI temporal store, the status of its subjects, and which of their runs were used."""
    regions = load_atlas(atlas)
    table = read_table(recordings)
    table = table[table["modality"] == "fmri"]
    items = [(uid, rows.to_dict("records")) for uid, rows in table.groupby("uid", sort=True)]
    meta = {
        "units": "standard deviations",
        "axes": ["roi", "frame"],
        "t_r": options.t_r,
        **regions.meta(),
        "options": {"fmri": options.model_dump(mode="json")},
        "code": code_version("mcsp.fmri.stage"),
    }
    outcomes, records = [], []
    work = partial(subject_series, atlas=regions, options=options)
    with StoreWriter(store, (len(regions.names), options.n_frames), meta) as writer:
        for outcome in work_through(work, items, threads=threads, label=f"fMRI {dataset}"):
            if outcome.state == "done":
                tensor, n_valid, frames, own = outcome.value
                writer.add(outcome.key, tensor, n_valid, frames=frames)
                records += own
            outcomes.append(outcome._replace(value=None))
    write_status(status, "fmri", dataset, outcomes, records)
    write_runs(runs, records, MEASURED)
