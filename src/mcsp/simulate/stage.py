"""Write simulated BIDS datasets with planted, documented group differences."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsp import __version__
from mcsp.atlas import Atlas, load_atlas
from mcsp.errors import McspError
from mcsp.options.simulate import SimulatedDataset, SimulateOptions
from mcsp.shards import work_through
from mcsp.simulate.bold import SPACE, truncate, write_anatomy, write_bold
from mcsp.simulate.eeg import simulate_eeg, write_eeg
from mcsp.simulate.participants import COLUMNS, draw_participants, draw_traits, generator
from mcsp.simulate.raw import write_raw
from mcsp.simulate.signals import DT, SETTLE, alpha_envelopes, bold_response, slow_activity, systemic_fluctuations
from mcsp.simulate.truth import check_effects, write_truth
from mcsp.store import part_of, write_json, write_tsv

SHORT_EEG = 20.0  # s, length of a damaged recording that stopped early
README = """Simulated data
==============
Written by mcsp {version}. No person was recorded, and nothing about any disorder can be learnt from it: it shows that
software works. The planted group differences are in derivatives/truth: truth.json says what and where, subjects.tsv how
much in whom.

EEG and fMRI of a subject are simultaneous and share slow alpha power, which lowers BOLD in cortex, and a trait that
raises network coupling and alpha power together.
"""


def regional_bold(
    activity: np.ndarray, uid: str, t_r: float, duration: float, options: SimulateOptions, atlas: Atlas
) -> np.ndarray:
    """BOLD (R, T) of the regions every `t_r` s: the response to their activity, and what is not neural."""
    bold = bold_response(activity, duration, t_r)
    rng = generator(options.seed, uid, "systemic")
    return bold + systemic_fluctuations(rng, atlas.coordinates, options.systemic, bold.shape[1], t_r)


def write_subject(
    row: dict[str, Any], *, name: str, dataset: SimulatedDataset, options: SimulateOptions, atlas: Atlas, root: Path
) -> dict[str, Any]:
    """Write all files of one participant; returns its row of the truth. The signals depend on seed and name alone."""
    label = row["participant_id"]
    uid = f"{name}/{label}"
    site = next(s for s in dataset.sites if s.name == row["site"])
    traits = draw_traits(options, atlas, uid, row["diagnosis"])
    rng = generator(options.seed, uid, "slow")
    n_slow = int((max(dataset.fmri_duration, dataset.eeg_duration) + SETTLE) / DT) + 2
    alpha = alpha_envelopes(rng, len(set(atlas.networks)), n_slow)
    if "fmri" in dataset.modalities:
        activity = slow_activity(rng, atlas.names, atlas.networks, traits, options.effects, alpha, options.coupling)
        rng = generator(options.seed, uid, "fmri")
    if "fmri" in dataset.modalities and row["raw"]:
        fine = regional_bold(activity, uid, DT, dataset.fmri_duration, options, atlas)
        voxels = {"voxel_size": dataset.raw_voxel_size, "gain": site.gain, "noise": site.gain / options.snr}
        n_frames = int(dataset.fmri_duration / site.t_r)
        write_raw(root, label, rng, fine, DT, atlas, n_frames=n_frames, t_r=site.t_r, **voxels)
    elif "fmri" in dataset.modalities:
        roi = regional_bold(activity, uid, site.t_r, dataset.fmri_duration, options, atlas)
        func = root / "derivatives" / "fmriprep" / label / "func"
        voxels = {"t_r": site.t_r, "voxel_size": dataset.voxel_size, "gain": site.gain, "noise": site.gain / options.snr}
        write_anatomy(root / label / "anat", label, rng, atlas)
        write_bold(func, f"{label}_task-rest", rng, roi, atlas, **voxels)
        if row["defect"] == "truncated_bold":
            truncate(func / f"{label}_task-rest_space-{SPACE}_desc-preproc_bold.nii.gz")
    if "eeg" in dataset.modalities:
        rng = generator(options.seed, uid, "eeg")
        waves = {"duration": dataset.eeg_duration, "n_channels": dataset.n_channels, "snr": options.snr}
        data = simulate_eeg(rng, atlas, traits, options.effects, site, alpha[:, round(SETTLE / DT) :], **waves)
        if row["defect"] == "short_eeg":
            data = data[:, : int(SHORT_EEG * site.sfreq)]
        if row["defect"] == "nan_eeg":
            data[0, data.shape[1] // 4 : data.shape[1] // 2] = float("nan")
        write_eeg(root / label / "eeg", f"{label}_task-rest", data, site, dataset.n_channels)
    sizes = {f"effect_{i}": float(size) for i, size in enumerate(traits.sizes)}
    return {"uid": uid, "diagnosis": row["diagnosis"], "defect": row["defect"], "coupling": traits.coupling, **sizes}


def _describe(folder: Path, title: str, kind: str, ignored: Sequence[str] = ()) -> None:
    """Write dataset_description.json and, for files that BIDS has no name for yet, .bidsignore."""
    made = {"Name": "mcsp simulate", "Version": __version__, "Description": "Simulated data: no person was recorded"}
    description = {"Name": title, "BIDSVersion": "1.10.0", "DatasetType": kind, "License": "CC0", "GeneratedBy": [made]}
    write_json(folder / "dataset_description.json", description)
    if ignored:
        (folder / ".bidsignore").write_text("".join(f"{pattern}\n" for pattern in ignored), encoding="utf-8")


def write_dataset_files(root: Path, name: str, dataset: SimulatedDataset, participants: pd.DataFrame) -> None:
    """Write what belongs to the dataset as a whole."""
    _describe(root, f"Simulated data: {name}", "raw")
    _describe(
        root / "derivatives" / "truth", f"Planted truth of simulated data: {name}", "derivative", ["truth.json", "subjects.*"]
    )
    if "fmri" in dataset.modalities:
        title = f"Simulated data in fMRIPrep's layout: {name}"
        _describe(root / "derivatives" / "fmriprep", title, "derivative", ["*_desc-confounds_timeseries.*"])
    (root / "README").write_text(README.format(version=__version__), encoding="utf-8")
    write_tsv(participants[list(COLUMNS)], root / "participants.tsv", COLUMNS)


def manifest_of(root: Path) -> pd.DataFrame:
    """Path, size in bytes and SHA-256 of every file under `root`, sorted."""
    rows = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        rows.append((path.relative_to(root).as_posix(), path.stat().st_size, digest))
    return pd.DataFrame(rows, columns=["path", "size", "sha256"])


def run(
    *, name: str, dataset: SimulatedDataset, options: SimulateOptions, atlas: Path, out: Path, manifest: Path, threads: int
) -> None:
    """Write the simulated dataset `name` at `out` and the list of its files at `manifest`.

    The dataset appears at `out` when it is whole; one that was there is replaced. Raises McspError when the atlas has no
    image, an effect does not fit it, or a subject could not be written.
    """
    regions = load_atlas(atlas)
    if regions.image is None:
        raise McspError(f"simulating {name}: {atlas} has no label image: simulated studies need an atlas of kind volume")
    check_effects(options, regions)
    participants = draw_participants(name, dataset, options.seed)
    with part_of(out) as part:
        write_dataset_files(part, name, dataset, participants)
        work = partial(write_subject, name=name, dataset=dataset, options=options, atlas=regions, root=part)
        items = [(row["participant_id"], row) for row in participants.to_dict("records")]
        outcomes = list(work_through(work, items, threads=threads, label=f"simulating {name}"))
        failed = [o for o in outcomes if o.state != "done"]
        if failed:
            raise McspError(f"simulating {name}: {failed[0].key}: {failed[0].reason} ({len(failed)} subjects failed)")
        subjects = pd.DataFrame([outcome.value for outcome in outcomes])
        write_truth(part / "derivatives" / "truth", options, regions, dataset.n_channels, subjects)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    files = manifest_of(out)
    write_tsv(files, manifest, {"path": "File, from the dataset's root", "size": "Bytes", "sha256": "SHA-256 of the content"})
    print(f"simulated {len(participants)} subjects, {files['size'].sum() / 1e6:.0f} MB: {out}")
