"""One shard of BOLD runs or ready ROI series to the temporal store."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mcsp.atlas import Atlas, load_atlas
from mcsp.code import code_version
from mcsp.errors import Exclusion, McspError
from mcsp.fmri.series import check_regions, denoise, read_roi_series, standard_length, to_common_rate
from mcsp.fmri.surface import run_means
from mcsp.options.fmri import FmriOptions
from mcsp.shards import work_through, write_status
from mcsp.store import StoreWriter, read_table


def run_series(row: dict, atlas: Atlas, options: FmriOptions) -> tuple[np.ndarray, int]:
    """(R, n_frames) series of one recording and its number of valid frames. Raises Exclusion when it is unusable."""
    path, t_r = Path(row["path"]), row["t_r"]
    if not 0.2 <= t_r <= 10:  # NaN fails too
        raise Exclusion(f"{path.name}: repetition time {t_r:g} s: write the right one into its sidecar")
    if row["kind"] == "roi":
        raw = read_roi_series(path, atlas)
        covered = np.ones(len(atlas.names), bool)
    elif atlas.image is None:
        raise McspError(f"atlas without an image can't parcellate {path.name}: set atlas.kind: volume, or use ready series")
    else:
        raw, covered = run_means(path, atlas.image, atlas.index, Path(row["mask"]) if row["mask"] else None)
    raw = check_regions(raw, covered, atlas.names)
    if len(raw) < 10:
        raise Exclusion(f"too short: {len(raw)} frames")
    cleaned, kept = denoise(raw, t_r, options, Path(row["confounds"]) if row["confounds"] else None)
    return standard_length(to_common_rate(cleaned, kept, t_r, options.t_r), options)


def subject_series(rows: list[dict], atlas: Atlas, options: FmriOptions) -> tuple[np.ndarray, int]:
    """Series of a subject's first usable run (rest first, then by session and run). Raises Exclusion with all reasons."""
    reasons = []
    for row in rows:
        try:
            return run_series(row, atlas, options)
        except Exclusion as error:
            reasons.append(str(error))
    raise Exclusion("; ".join(dict.fromkeys(reasons)))


def run(*, dataset: str, recordings: Path, atlas: Path, options: FmriOptions, store: Path, status: Path, threads: int) -> None:
    """Write one shard of the fMRI temporal store and the status of its subjects."""
    regions = load_atlas(atlas)
    table = read_table(recordings)
    table = table[table["modality"] == "fmri"]
    items = [(uid, rows.to_dict("records")) for uid, rows in table.groupby("uid", sort=True)]
    meta = {
        "units": "standard deviations",
        "axes": ["roi", "frame"],
        "t_r": options.t_r,
        **regions.meta(),
        "code": code_version("mcsp.fmri.stage"),
    }
    outcomes = []
    work = partial(subject_series, atlas=regions, options=options)
    with StoreWriter(store, (len(regions.names), options.n_frames), meta) as writer:
        for outcome in work_through(work, items, threads=threads, label=f"fMRI {dataset}"):
            if outcome.state == "done":
                writer.add(outcome.key, *outcome.value)
            outcomes.append(outcome._replace(value=None))
    write_status(status, "fmri", dataset, outcomes)
