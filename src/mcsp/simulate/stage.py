"""Write simulated BIDS datasets with planted, documented group differences."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pybv

from mcsp import __version__
from mcsp.atlas import Atlas, load_atlas
from mcsp.errors import McspError
from mcsp.options.domains import BANDS
from mcsp.options.simulate import SimulatedDataset, SimulatedSite, SimulateOptions
from mcsp.shards import work_through
from mcsp.simulate.bold import SPACE, truncate, write_anatomy, write_bold
from mcsp.simulate.forward import MNI_CENTRE, channel_names, gain_matrix, montage, source_positions
from mcsp.simulate.signals import DT, Traits, band_noise, convolve_hrf, eeg_sources, slow_activity
from mcsp.store import write_json, write_tsv

GENERATOR = [{"Name": "mcsp simulate", "Version": __version__, "Description": "Simulated data: no person was recorded"}]


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on names only, not on the order of work."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:8], "big")])


def cortical(atlas: Atlas) -> np.ndarray:
    """Indices of the regions that act as EEG sources: all but the cerebellum's, with known coordinates."""
    known = ~np.isnan(atlas.coordinates).any(axis=1)
    return np.flatnonzero(known & (np.array(atlas.networks) != "cerebellum"))


def nearest_region(atlas: Atlas, electrode: str) -> int:
    """Index of the source region nearest to an electrode of `standard_1020`. Raises McspError for an unknown name."""
    places = montage().get_positions()["ch_pos"]
    if electrode not in places:
        raise McspError(f"simulate.effects: no electrode {electrode} in standard_1020: use a name such as Fz")
    regions = cortical(atlas)
    sources = source_positions(atlas.coordinates[regions])
    direction = places[electrode] / np.linalg.norm(places[electrode])
    outward = sources / np.linalg.norm(sources, axis=1, keepdims=True)
    score = outward @ direction + 2.0 * np.linalg.norm(sources, axis=1)  # in the direction, and near the surface
    return int(regions[np.argmax(score)])


def check_effects(options: SimulateOptions, atlas: Atlas) -> None:
    """Raises McspError when an effect names a network that the atlas lacks."""
    known = sorted(set(atlas.networks))
    for effect in options.effects:
        named = effect.networks if effect.kind == "edge" else [effect.network] if effect.kind == "amplitude" else []
        wrong = [name for name in named if name not in known]
        if wrong:
            raise McspError(f"simulate.effects: no network {wrong[0]} in the atlas: it has {', '.join(known)}")


def draw_participants(name: str, dataset: SimulatedDataset, seed: int) -> pd.DataFrame:
    """participants.tsv: groups in the stated shares, balanced over sites; one in ten has a sibling in the dataset."""
    rng = generator(seed, name, "participants")
    n = dataset.n_subjects
    shares = np.array(list(dataset.groups.values()))
    counts = np.floor(shares / shares.sum() * n).astype(int)
    remainder = shares / shares.sum() * n - counts
    counts[np.argsort(-remainder, kind="stable")[: n - counts.sum()]] += 1
    diagnosis = np.repeat(list(dataset.groups), counts)
    site = np.array([dataset.sites[i % len(dataset.sites)].name for i in range(n)])
    order = rng.permutation(n)
    rows = pd.DataFrame({"participant_id": [f"sub-{name}{i + 1:03d}" for i in range(n)], "diagnosis": diagnosis[order], "site": site[order]})
    rows["age"] = np.round(rng.uniform(8, 45, n), 1)
    male = np.where(rows["diagnosis"].str.contains("ADHD|ASD"), 0.65, 0.45)
    rows["sex"] = np.where(rng.uniform(size=n) < male, "M", "F")
    family = [f"{name}-family-{i + 1:03d}" for i in range(n)]
    for first in range(0, n - 1, 20):
        family[first + 1] = family[first]
    rows["family"] = family
    return rows


def draw_traits(options: SimulateOptions, atlas: Atlas, uid: str, diagnosis: str) -> Traits:
    """A subject's traits, from the seed and its name."""
    rng = generator(options.seed, uid, "traits")
    coupling = rng.normal()
    n_networks = len(set(atlas.networks))
    networks = 0.9 * np.exp(0.25 * coupling + options.subject_sd * rng.normal(size=n_networks))
    jitter = 1 + options.subject_sd * rng.normal(size=len(options.effects))
    has = [effect.disorder in diagnosis.split("+") for effect in options.effects]
    sizes = [effect.size * scale * own for effect, scale, own in zip(options.effects, jitter, has)]
    return Traits(coupling, networks, np.array(sizes))


def band_profile(atlas: Atlas, regions: np.ndarray, traits: Traits, effects: Sequence) -> dict[str, np.ndarray]:
    """Band -> amplitude of each source, relative to its 1/f activity: alpha behind, beta at the centre, theta in front."""
    places = (atlas.coordinates[regions] - MNI_CENTRE) / 80
    behind, front = 1 / (1 + np.exp(6 * places[:, 1])), 1 / (1 + np.exp(-6 * places[:, 1]))
    profile = {
        "delta": np.full(len(regions), 0.3),
        "theta": 0.2 + 0.4 * front,
        "alpha": (0.3 + 1.5 * behind) * np.exp(0.35 * traits.coupling),
        "beta": 0.2 + 0.3 * np.exp(-8 * places[:, 1] ** 2),
    }
    for effect, size in zip(effects, traits.effects):
        if effect.kind == "band" and size:
            centre = atlas.coordinates[nearest_region(atlas, effect.position)]
            distance = np.linalg.norm(atlas.coordinates[regions] - centre, axis=1)
            profile[effect.band] = profile[effect.band] * (1 + size * np.exp(-((distance / 25) ** 2) / 2))
    return profile


def simulate_eeg(
    rng: np.random.Generator, dataset: SimulatedDataset, site: SimulatedSite, profile: dict, coordinates: np.ndarray, envelope: np.ndarray, snr: float
) -> np.ndarray:
    """Sensor signals (C, n) in V: sources through the forward model, blinks, mains hum, sensor noise. `envelope` on the
    slow grid.
    """
    n = round(dataset.eeg_duration * site.sfreq)
    time = np.arange(n) / site.sfreq
    slow = np.interp(time, np.arange(len(envelope)) * DT, envelope)
    names = channel_names(dataset.n_channels)
    moments = eeg_sources(rng, profile, site.sfreq, n, np.clip(1 + 0.5 * slow, 0.1, None), BANDS)
    data = site.gain * gain_matrix(coordinates, dataset.n_channels) @ moments
    places = np.array([montage().get_positions()["ch_pos"][name] for name in names])
    eyes = montage().get_positions()["ch_pos"]["Fp1"] * [0, 1, 1]
    reach = np.exp(-((np.linalg.norm(places - eyes, axis=1) / 0.05) ** 2))
    blinks = np.zeros(n)
    for centre in np.cumsum(rng.exponential(5.0, int(dataset.eeg_duration))):
        blinks += np.exp(-(((time - centre) / 0.08) ** 2)) if centre < time[-1] else 0
    data += 120e-6 * reach[:, None] * blinks
    hum = rng.uniform(1e-6, 6e-6, len(names))
    data += hum[:, None] * np.sin(2 * np.pi * site.line_freq * time + rng.uniform(0, 6.28))
    return data + 3e-6 / snr * rng.normal(size=data.shape)


def write_eeg(folder: Path, stem: str, data: np.ndarray, site: SimulatedSite, n_channels: int) -> None:
    """Write one recording as BrainVision with its BIDS sidecars; float32 where a value is missing, else 16 bit at 0.1 uV."""
    names = list(channel_names(n_channels))
    whole = bool(np.isfinite(data).all())
    pybv.write_brainvision(
        data=data, sfreq=site.sfreq, ch_names=names, fname_base=f"{stem}_eeg", folder_out=str(folder), overwrite=True,
        resolution=0.1, unit="µV", fmt="binary_int16" if whole else "binary_float32", meas_date=None,
    )  # fmt: skip
    sidecar = {
        "TaskName": "rest",
        "SamplingFrequency": site.sfreq,
        "PowerLineFrequency": site.line_freq,
        "EEGReference": "average",
        "SoftwareFilters": "n/a",
        "EEGChannelCount": len(names),
        "RecordingDuration": data.shape[1] / site.sfreq,
        "RecordingType": "continuous",
        "EEGPlacementScheme": "10-20",
    }
    write_json(folder / f"{stem}_eeg.json", sidecar)
    channels = pd.DataFrame({"name": names, "type": "EEG", "units": "uV", "sampling_frequency": site.sfreq, "status": "good"})
    channels.to_csv(folder / f"{stem}_channels.tsv", sep="\t", index=False)


def write_subject(
    row: dict, *, name: str, dataset: SimulatedDataset, options: SimulateOptions, atlas: Atlas, root: Path
) -> list[float]:
    """Write all files of one participant; returns its planted effect sizes."""
    label = row["participant_id"]
    uid = f"{name}/{label}"
    site = next(s for s in dataset.sites if s.name == row["site"])
    rng = generator(options.seed, uid, "signals")
    traits = draw_traits(options, atlas, uid, row["diagnosis"])
    n_slow = int((max(dataset.fmri_duration, dataset.eeg_duration) + 40) / DT)
    envelope = band_noise(rng, (n_slow,), DT, (0.01, 0.08))
    activity = slow_activity(rng, atlas.networks, traits, options.effects, n_slow, envelope, options.coupling)
    if "fmri" in dataset.modalities:
        anatomy, func = root / label / "anat", root / "derivatives" / "fmriprep" / label / "func"
        anatomy.mkdir(parents=True)
        func.mkdir(parents=True)
        write_anatomy(anatomy / f"{label}_T1w.nii.gz", rng, atlas.image)
        start = int(40 / DT)  # the response has settled
        bold = convolve_hrf(activity, DT)[:, start:]
        frames = np.arange(int(dataset.fmri_duration / site.t_r)) * site.t_r
        grid = np.arange(bold.shape[1]) * DT
        roi = np.stack([np.interp(frames, grid, series) for series in bold])
        roi /= roi.std()
        write_bold(func, f"{label}_task-rest", rng, roi, site.t_r, dataset.voxel_size, atlas.image, atlas.index, site.gain / options.snr)
        if row["defect"] == "truncated_bold":
            truncate(func / f"{label}_task-rest_space-{SPACE}_desc-preproc_bold.nii.gz")
    if "eeg" in dataset.modalities:
        folder = root / label / "eeg"
        folder.mkdir(parents=True)
        regions = cortical(atlas)
        profile = band_profile(atlas, regions, traits, options.effects)
        data = simulate_eeg(rng, dataset, site, profile, atlas.coordinates[regions], envelope[int(40 / DT) :], options.snr)
        if row["defect"] == "short_eeg":
            data = data[:, : int(20 * site.sfreq)]
        if row["defect"] == "nan_eeg":
            data[:, 1000:2000] = np.nan
        write_eeg(folder, f"{label}_task-rest", data, site, dataset.n_channels)
    return [float(size) for size in traits.effects]


def truth_of(options: SimulateOptions, atlas: Atlas, n_channels: int) -> list[dict]:
    """What was planted: per effect its kind, disorder, size, and the regions, edges, channels and bands that it touches.

    `rois` are rows of the atlas (from 0), `edges` pairs of rows, `channels` electrode -> share of the effect's power
    that it sees (forward model).
    """
    truths = []
    networks = np.array(atlas.networks)
    for effect in options.effects:
        entry = {"kind": effect.kind, "disorder": effect.disorder, "size": effect.size, "rois": [], "edges": [], "channels": {}, "bands": []}
        if effect.kind == "edge":
            first, second = (np.flatnonzero(networks == n) for n in effect.networks)
            entry["networks"] = list(effect.networks)
            entry["rois"] = sorted({*first.tolist(), *second.tolist()})
            entry["edges"] = sorted({(min(i, j), max(i, j)) for i in first.tolist() for j in second.tolist() if i != j})
        elif effect.kind == "amplitude":
            entry["networks"] = [effect.network]
            entry["rois"] = np.flatnonzero(networks == effect.network).tolist()
            entry["freqs"] = [0.02, 0.05]
        else:
            region = nearest_region(atlas, effect.position)
            regions = cortical(atlas)
            weight = np.exp(-((np.linalg.norm(atlas.coordinates[regions] - atlas.coordinates[region], axis=1) / 25) ** 2) / 2)
            seen = (gain_matrix(atlas.coordinates[regions], n_channels) ** 2 * weight).sum(axis=1)
            entry["position"] = effect.position
            entry["bands"] = [effect.band]
            entry["channels"] = {c: round(float(s), 4) for c, s in zip(channel_names(n_channels), seen / seen.sum())}
        truths.append(entry)
    return truths


def _describe(root: Path, title: str, kind: str) -> None:
    description = {"Name": title, "BIDSVersion": "1.10.0", "DatasetType": kind, "License": "CC0", "GeneratedBy": GENERATOR}
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "dataset_description.json", description)


def write_dataset_files(root: Path, name: str, dataset: SimulatedDataset, participants: pd.DataFrame) -> None:
    """Write what belongs to the dataset as a whole."""
    _describe(root, f"Simulated data: {name}", "raw")
    (root / "README").write_text(
        f"Simulated data, written by mcsp {__version__}. No person was recorded. The planted group differences are in "
        "derivatives/truth/truth.json. Use it to test software, never to learn about disorders.\n"
    )
    columns = {
        "participant_id": "Subject",
        "age": "Age in years (simulated)",
        "sex": "M or F (simulated)",
        "site": "Simulated scanner and amplifier",
        "diagnosis": "Simulated diagnosis; '+' joins comorbid ones",
        "family": "Siblings share it",
    }
    write_tsv(participants[list(columns)], root / "participants.tsv", columns)
    if "fmri" in dataset.modalities:
        _describe(root / "derivatives" / "fmriprep", f"Simulated data in fMRIPrep's layout: {name}", "derivative")


def write_truth(root: Path, name: str, options: SimulateOptions, atlas: Atlas, dataset: SimulatedDataset, sizes: dict[str, list[float]]) -> None:
    """Write the planted truth as a derivative with sidecars."""
    folder = root / "derivatives" / "truth"
    _describe(folder, f"Planted truth of simulated data: {name}", "derivative")
    write_json(folder / "truth.json", {"simulated": True, "atlas": atlas.names, "effects": truth_of(options, atlas, dataset.n_channels)})
    columns = [f"effect_{i}" for i in range(len(options.effects))]
    table = pd.DataFrame(list(sizes.values()), columns=columns)
    table.insert(0, "uid", list(sizes))
    described = {"uid": "Subject"} | {c: f"Planted size: {e.model_dump_json()}" for c, e in zip(columns, options.effects)}
    write_tsv(table, folder / "subjects.tsv", described)


def manifest_of(root: Path) -> pd.DataFrame:
    """Path, size and SHA-256 of every file under `root`."""
    rows = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        rows.append((path.relative_to(root).as_posix(), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()))
    return pd.DataFrame(rows, columns=["path", "size", "sha256"])


def assign_defects(participants: pd.DataFrame, dataset: SimulatedDataset) -> pd.Series:
    """Which of the last subjects get which damaged recording."""
    wanted = [kind for kind, count in dataset.defects.model_dump().items() for _ in range(count)]
    if len(wanted) > len(participants):
        raise McspError(f"defects: {len(wanted)} damaged recordings for {len(participants)} subjects")
    return pd.Series([""] * (len(participants) - len(wanted)) + wanted, index=participants.index)


def run(
    *, name: str, dataset: SimulatedDataset, options: SimulateOptions, atlas: Path, out: Path, manifest: Path, threads: int
) -> None:
    """Write the simulated dataset `name` at `out` and the list of its files at `manifest`.

    The dataset appears at `out` when it is whole. Raises McspError when an effect does not fit the atlas, or when a
    subject could not be written.
    """
    regions = load_atlas(atlas)
    check_effects(options, regions)
    participants = draw_participants(name, dataset, options.seed)
    participants["defect"] = assign_defects(participants, dataset)
    part = out.with_name(f".part-{os.getpid()}.{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_dataset_files(part, name, dataset, participants)
        work = partial(write_subject, name=name, dataset=dataset, options=options, atlas=regions, root=part)
        items = [(row["participant_id"], row) for row in participants.to_dict("records")]
        outcomes = list(work_through(work, items, threads=threads, label=f"simulating {name}"))
        failed = [o for o in outcomes if o.state != "done"]
        if failed:
            raise McspError(f"simulating {name}: {failed[0].key}: {failed[0].reason} ({len(failed)} subjects failed)")
        write_truth(part, name, options, regions, dataset, {f"{name}/{o.key}": o.value for o in outcomes})
        shutil.rmtree(out, ignore_errors=True)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    files = manifest_of(out)
    write_tsv(files, manifest, {"path": "File, from the dataset's root", "size": "Bytes", "sha256": "SHA-256 of the content"})
    print(f"simulated {len(participants)} subjects, {files['size'].sum() / 1e6:.0f} MB: {out}")


