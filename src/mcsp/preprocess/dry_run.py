"""What preprocessing would run, subject by subject; nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcsp.bids.listing import AnyDataset, describe, list_subjects
from mcsp.bids.recordings import bids_recordings
from mcsp.errors import McspError
from mcsp.options.fmriprep import FmriprepOptions
from mcsp.preprocess.fmriprep import show_commands


def show(route: str, options: FmriprepOptions, datasets: Mapping[str, tuple[AnyDataset, Path, Path]]) -> str:
    """One line per subject with raw BOLD: the container's command, or the runs that the embedded route takes. `datasets`: name
    -> (options, directory, directory of its derivatives).

    Raises McspError when the study has no route, or fMRIPrep's licence is missing.
    """
    if route == "none":
        raise McspError("this study preprocesses nothing (preprocess: none): set preprocess: embedded or fmriprep")
    text = ""
    for name, (dataset, path, derivatives) in datasets.items():
        if not path.is_dir():
            text += f"# {name}: {path} is not there yet\n"
            continue
        listing = list_subjects(name, dataset, path)
        uid_of = {label: f"{name}/sub-{label}" for label in listing.everyone if not describe(listing, label)[1]}
        found, unusable = bids_recordings(uid_of, dataset, path, raw_too=True)
        raw: dict[str, list[str]] = {}
        for row in found:
            if row["kind"] == "raw":
                raw.setdefault(row["uid"].split("/sub-")[1], []).append(row["path"])
        text += f"# {name}: {len(raw)} of {len(uid_of)} subjects have raw BOLD only\n"
        text += "".join(f"# {uid}: {reason}\n" for uid, modality, reason in unusable if modality == "fmri")
        if route == "fmriprep":
            place = {"bids_dir": path, "out_dir": derivatives, "labels": sorted(raw)}
            text += show_commands(options, **place, threads=options.threads, mem_mb=options.mem_mb)
        else:
            text += "".join(f"sub-{label}: {' '.join(paths)}\n" for label, paths in sorted(raw.items()))
    return text
