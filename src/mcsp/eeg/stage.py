"""One shard of EEG recordings to the temporal store of segments."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mcsp.code import code_version
from mcsp.eeg.read import read_eeg
from mcsp.eeg.segments import LEAST_TOP, cut_segments, preprocess, scale_of, top_frequency
from mcsp.errors import Exclusion
from mcsp.fingerprints import check_unchanged
from mcsp.montage import check_channels
from mcsp.options.eeg import EegOptions
from mcsp.shards import run_record, work_through, write_runs, write_status
from mcsp.store import StoreWriter, read_table

LOOK_AHEAD = 4.0  # how much of a recording is read, as a multiple of what is needed: bounds the memory
MEASURED = {
    "sfreq": "Sampling rate of the recording in Hz",
    "n_channels": "EEG channels with a known place",
    "n_bad": "Bad ones among them, which were interpolated",
    "gap_mm": "Largest distance in mm from a channel of the common montage to the nearest good electrode",
    "spline_error": "Error of splines that foretell electrodes from the others, as a share of their signal; 0: none needed",
    "top_hz": "Upper edge in Hz of the band that is left; nothing above it was recorded, or everything was filtered out",
}


def recording_segments(row: dict, options: EegOptions) -> tuple[np.ndarray, dict]:
    """((n_segments, C, samples) of one recording, divided by its scale; what the runs table says of it).

    Raises Exclusion when it is unusable, McspError when it is not the file that was ingested.
    """
    check_unchanged(row)
    needed = options.n_segments * options.segment_samples / options.sfreq
    montage = Path(row["montage"]) if row["montage"] else None
    raw = read_eeg(Path(row["path"]), montage, options.montage, LOOK_AHEAD * needed)
    least = needed * (options.min_overlap_share if options.short == "overlap" else 1.0)
    if raw.times[-1] + 1 / raw.info["sfreq"] < min(least, needed - 1):
        raise Exclusion(f"too short: {raw.times[-1]:.0f} s, {least:.0f} s are needed (eeg.n_segments, eeg.short)")
    sfreq = float(raw.info["sfreq"])
    if (top := top_frequency(sfreq, options)) < min(LEAST_TOP, options.low_pass):
        raise Exclusion(
            f"sampled at {sfreq:g} Hz: nothing above {top:.0f} Hz was recorded, bands up to {LEAST_TOP:g} Hz are compared"
        )
    data, quality = preprocess(raw, options, row["line_freq"])
    segments = cut_segments(data, options)
    return segments / scale_of(segments), {"sfreq": sfreq, **quality}


def subject_segments(rows: list[dict], options: EegOptions) -> tuple[np.ndarray, list[dict]]:
    """(segments of a subject's first usable recording, rest first; rows of the runs table).

    Raises Exclusion with all reasons.
    """
    records: list[dict] = []
    for row in rows:
        try:
            segments, quality = recording_segments(row, options)
        except Exclusion as error:
            records.append(run_record(row, "excluded", str(error)))
            continue
        return segments, [*records, run_record(row, "used", **quality)]
    raise Exclusion("; ".join(dict.fromkeys(record["reason"] for record in records)))


def run(*, dataset: str, recordings: Path, options: EegOptions, store: Path, status: Path, runs: Path, threads: int) -> None:
    """Write one shard of the EEG temporal store, the status of its subjects, and which of their recordings were used.

    Raises McspError for channels that the montage does not have.
    """
    check_channels(options.ch_names, options.montage)
    table = read_table(recordings)
    table = table[table["modality"] == "eeg"]
    items = [(uid, rows.to_dict("records")) for uid, rows in table.groupby("uid", sort=True)]
    meta = {
        "units": "V divided by the recording's own scale (1.4826 x median absolute value)",
        "axes": ["segment", "channel", "sample"],
        "sfreq": options.sfreq,
        "montage": options.montage,
        "ch_names": options.ch_names,
        "options": {"eeg": options.model_dump(mode="json")},
        "code": code_version("mcsp.eeg.stage"),
    }
    shape = (options.n_segments, len(options.ch_names), options.segment_samples)
    outcomes, records = [], []
    with StoreWriter(store, shape, meta) as writer:
        work = partial(subject_segments, options=options)
        for outcome in work_through(work, items, threads=threads, label=f"EEG {dataset}"):
            if outcome.state == "done":
                segments, own = outcome.value
                top = own[-1]["top_hz"]
                writer.add(outcome.key, segments, options.n_segments, top if top < options.low_pass else np.inf)
                records += own
            outcomes.append(outcome._replace(value=None))
    write_status(status, "eeg", dataset, outcomes, records)
    write_runs(runs, records, MEASURED)
