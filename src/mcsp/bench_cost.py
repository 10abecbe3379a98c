"""What a subject costs in each stage, measured on simulated recordings of real size, and what whole cohorts would cost.

Times are CPU time: other processes of the machine hardly change it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.bench import PACKAGE, Cost, run_measured
from mcsp.errors import McspError
from mcsp.store import read_tsv

# People with rest fMRI and with EEG, by docs/cohorts; whole cohorts, before any exclusion. HBN's MRI is counted as its EEG.
CORPORA = {
    "HBN": {"fmri": 3000, "eeg": 3000},
    "ABIDE I + II": {"fmri": 2226, "eeg": 0},
    "ADHD-200": {"fmri": 973, "eeg": 0},
    "EMBARC": {"fmri": 335, "eeg": 335},
}
FULL = {"bold": (65, 77, 60, 200), "channels": 128, "sfreq": 500, "seconds": 300, "n_frames": 120}
SMALL = {"bold": (33, 39, 32, 40), "channels": 8, "sfreq": 200, "seconds": 110, "n_frames": 40}
ALIASES = {"T3", "T4", "T5", "T6"}  # of T7, T8, P7, P8 at the same places
FEW = 12  # subjects of the larger of the two shards; all have the same bytes
LEAST = 0.01  # CPU s per subject that two jobs still tell apart
GPU_FLOPS = (
    1e12  # per s that a GPU is taken to sustain: assumed, 5 % of an A100's rate in fp32, as kernels this small keep it waiting
)
TRAINING = {"folds": 5, "epochs": 60, "share": 0.7}  # share of the subjects that a fold trains on
STAGES = {
    "fmri": "parcels and cleaning",
    "eeg": "filtering, montage, segments",
    "connectivity-fmri": "correlations, fMRI",
    "connectivity-eeg": "envelope correlations, EEG",
    "spectra-fmri": "spectra, fMRI",
    "spectra-eeg": "spectra, EEG",
}


def _write_eeg(folder: Path, stem: str, size: dict) -> None:
    """A simulated BrainVision recording: 1/f noise, 10 Hz at the back, in named 10-05 places."""
    import pybv

    from mcsp.montage import template_montage

    rng, n = np.random.default_rng(0), int(size["sfreq"] * size["seconds"])
    names = [name for name in template_montage("standard_1005").ch_names if name not in ALIASES][: size["channels"]]
    spectrum = np.fft.rfft(rng.standard_normal((len(names), n)), axis=1)
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.shape[1]), 1))
    data = np.fft.irfft(spectrum, n, axis=1)
    data = 1e-5 * (data / data.std(axis=1, keepdims=True) + np.sin(2 * np.pi * 10 * np.arange(n) / size["sfreq"]))
    folder.mkdir(parents=True)
    pybv.write_brainvision(data=data, sfreq=size["sfreq"], ch_names=names, fname_base=f"{stem}_eeg", folder_out=folder)
    sidecar = {"TaskName": "rest", "SamplingFrequency": size["sfreq"], "PowerLineFrequency": 50}
    (folder / f"{stem}_eeg.json").write_text(json.dumps(sidecar))
    (folder / f"{stem}_channels.tsv").write_text("name\ttype\tunits\n" + "".join(f"{name}\tEEG\tuV\n" for name in names))


def _link(source: Path, folder: Path, name: str) -> None:
    """The first subject's recording under another's `name`; its samples are the same file."""
    folder.mkdir(parents=True)
    for path in source.iterdir():
        target = folder / path.name.replace("sub-00", name)
        os.link(path, target) if path.suffix == ".eeg" else target.write_text(path.read_text().replace("sub-00", name))


def _write_confounds(path: Path, n: int) -> None:
    rng = np.random.default_rng(1)
    motion = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    names = [f"{name}{more}" for name in motion for more in ("", "_derivative1", "_power2", "_derivative1_power2")]
    table = pd.DataFrame(0.01 * rng.standard_normal((n, len(names) + 2)), columns=[*names, "white_matter", "csf"])
    table.assign(framewise_displacement=0.1).to_csv(path, sep="\t", index=False)


def write_dataset(root: Path, n_subjects: int, size: dict, modalities: list[str]) -> dict[str, float]:
    """Write a BIDS dataset of simulated recordings of one `size`; gives MB of one recording by modality."""
    from mcsp.bench_parcellate import write_run

    megabytes = {}
    for i in range(n_subjects):
        stem = f"sub-{i:02d}_task-rest"
        func = root / "derivatives/fmriprep" / f"sub-{i:02d}" / "func"
        run = func / f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
        if "fmri" in modalities:
            func.mkdir(parents=True)
            first = Path(str(run).replace("sub-" + f"{i:02d}", "sub-00"))
            write_run(run, size["bold"]) if i == 0 else os.link(first, run)
            run.with_name(run.name.replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 2.0}')
            _write_confounds(func / f"{stem}_desc-confounds_timeseries.tsv", size["bold"][3])
            megabytes["fmri"] = run.stat().st_size / 1e6
        if "eeg" in modalities:
            own, first_eeg = (root / f"sub-{k:02d}" / "eeg" for k in (i, 0))
            _write_eeg(own, stem, size) if i == 0 else _link(first_eeg, own, f"sub-{i:02d}")
            megabytes["eeg"] = (own / f"{stem}_eeg.eeg").stat().st_size / 1e6
    return megabytes


def _job(*arguments: str) -> Cost:
    """Run `mcsp` with these arguments, as rules do. Raises McspError when it fails."""
    return run_measured(f"mcsp {arguments[0]}", [sys.executable, str(PACKAGE), *arguments])[1]


def _shard(folder: Path, modalities: list[str], n_frames: int) -> dict[str, Cost]:
    """Costs of each stage's job on the dataset at `folder`/bids, one shard, one thread. Raises McspError unless all of its
    subjects go through.
    """
    dataset = json.dumps({"kind": "bids", "path": str(folder / "bids"), "modalities": modalities, "n_shards": 1})
    tables = folder / "recordings.parquet"
    who = ["--subjects", str(folder / "subjects.parquet"), "--recordings", str(tables), "--status", str(folder / "ingest.tsv")]
    _job("ingest", "bench", "--dataset", dataset, "--path", str(folder / "bids"), "--shard", "0", *who)
    options = {"fmri": json.dumps({"min_frames": n_frames, "n_frames": n_frames}), "eeg": "{}"}
    costs = {}
    for modality in modalities:
        store = folder / modality / "temporal/shard-000.arrow"
        for stage in (modality, "connectivity", "spectra"):
            name = modality if stage == modality else f"{stage}-{modality}"
            out = store if stage == modality else store.parents[1] / stage / store.name
            out.parent.mkdir(parents=True, exist_ok=True)
            arguments = [stage, "--dataset", "bench", "--store", str(out), "--status", str(folder / f"{name}.tsv")]
            if stage == modality:
                arguments += ["--recordings", str(tables), "--runs", str(folder / f"{name}.runs.tsv")]
                arguments += ["--options", options[modality]]
                arguments += ["--atlas", str(folder.parent / "atlas.tsv")] if modality == "fmri" else []
            else:
                arguments += ["--temporal", str(store), "--modality", modality, "--options", "{}"]
            costs[name] = _job(*arguments)
            states = read_tsv(folder / f"{name}.tsv")
            if set(states["state"]) != {"done"}:
                raise McspError(f"bench cost, {name}: not everybody went through: {states['reason'].dropna().iloc[0]}")
    return costs


def _training(folder: Path, small: bool) -> dict[str, float | str]:
    """What a subject costs in an epoch of pre-training, on the GPU where there is one."""
    from mcsp.bench_pretrain import Bench, alone
    from mcsp.model.batch import best_device

    device = best_device().type
    sizes = {"fmri": (6, 24), "eeg": (5, 4, 50)} if small else {}
    n, batch = (8, 8) if device == "cpu" else (3000, 256)
    bench = Bench(n_subjects=n, batch_size=batch, steps=2, device=device, **sizes)
    found = alone(folder, bench)
    each = {"cpu_s": found["cpu"] / bench.n_subjects, "s": found["seconds"] / bench.n_subjects, "gflop": found["gflop"]}
    return {"device": device, **each}


def measure(*, small: bool = False, modalities: tuple[str, ...] = ("fmri", "eeg"), training: bool = True) -> dict:
    """`stages`: CPU s per subject (from shards of one and of `FEW` subjects, at least `LEAST`), subjects per core-hour, CPU s
    and peak MB of both jobs; `recording_mb` and `store_mb` of a subject by modality; `training`: see `_training`. Raises
    McspError.
    """
    from contextlib import redirect_stdout

    from mcsp.atlas import run as write_atlas
    from mcsp.options.atlas import AtlasOptions

    size = SMALL if small else FULL
    with TemporaryDirectory() as place:
        folder = Path(place)
        with redirect_stdout(sys.stderr):
            write_atlas(options=AtlasOptions(), out=folder / "atlas.tsv")
            for n in (1, FEW):
                megabytes = write_dataset(folder / str(n) / "bids", n, size, list(modalities))
        one, few = (_shard(folder / str(n), list(modalities), size["n_frames"]) for n in (1, FEW))
        stores = {m: sum(p.stat().st_size for p in (folder / str(FEW) / m).rglob("*.arrow")) / 1e6 / FEW for m in modalities}
        stages = {}
        for name in one:
            each = max((few[name].cpu_s - one[name].cpu_s) / (FEW - 1), LEAST)
            row = {"cpu_s": each, "per_core_hour": 3600 / each, "start_s": max(one[name].cpu_s - each, 0.0)}
            stages[name] = {key: float(f"{value:.3g}") for key, value in row.items()}
            stages[name] |= {"mb": round(one[name].mb), "mb_few": round(few[name].mb)}
        trained = _training(folder, small) if training else {}
    rounded = {"recording_mb": megabytes, "store_mb": stores}
    rounded = {key: {m: float(f"{value:.3g}") for m, value in own.items()} for key, own in rounded.items()}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in size.items()}
    return {"size": plain, "stages": stages, **rounded, "training": trained}


def project(costs: dict) -> pd.DataFrame:
    """Core-hours and bytes of each of `CORPORA`, and of all: what `measure` found, times its people, without start-up times.

    `core_hours`: of the stages before training; `training_hours`: of pre-training all folds (CPU core-hours on a machine
    without a GPU, else GPU-hours), `gpu_hours`: of these at `GPU_FLOPS`; missing where it was not measured.
    """
    rows = []
    for name, people in CORPORA.items():
        seconds = sum(
            people[modality] * costs["stages"][stage]["cpu_s"]
            for modality in costs["store_mb"]
            for stage in (modality, f"connectivity-{modality}", f"spectra-{modality}")
        )
        size = {key: sum(people[m] * mb for m, mb in costs[key].items()) / 1e6 for key in ("recording_mb", "store_mb")}
        each = costs["training"].get("cpu_s" if costs["training"].get("device") == "cpu" else "s", np.nan)
        trained = max(people.values()) * TRAINING["share"] * TRAINING["epochs"] * TRAINING["folds"]
        on_gpu = 1e9 * costs["training"].get("gflop", np.nan) / GPU_FLOPS
        hours = (seconds / 3600, trained * each / 3600, trained * on_gpu / 3600)
        rows.append((name, max(people.values()), *hours, size["recording_mb"], size["store_mb"]))
    names = ["cohort", "people", "core_hours", "training_hours", "gpu_hours", "input_tb", "store_tb"]
    table = pd.DataFrame(rows, columns=names)
    total = table.drop(columns="cohort").sum(min_count=1)
    return pd.concat([table, pd.DataFrame([{"cohort": "all", **total}])], ignore_index=True)


def show(costs: dict) -> None:
    """Print what was measured, and the projection."""
    console, size = Console(), costs["size"]
    bold = "x".join(map(str, size["bold"]))
    title = f"A subject: BOLD {bold}, EEG {size['channels']} channels x {size['sfreq']} Hz x {size['seconds']} s (simulated)"
    table = Table("stage", title=title)
    for name in ("CPU time, s", "subjects per core-hour", "start of a job, CPU s", "peak MB, 1 subject", f"{FEW} subjects"):
        table.add_column(name, justify="right")
    for name, row in costs["stages"].items():
        numbers = [f"{row[key]:g}" for key in ("cpu_s", "per_core_hour", "start_s", "mb", "mb_few")]
        if row["cpu_s"] <= LEAST:
            numbers[:2] = f"under {LEAST:g}", f"over {3600 / LEAST:g}"
        table.add_row(STAGES[name], *numbers)
    console.print(table)
    outlook, device = project(costs), costs["training"].get("device", "")
    unit = "core-hours" if device in ("", "cpu") else "GPU-hours"
    table = Table("cohort", title="Extrapolated to whole cohorts")
    assumed = f"the same at {GPU_FLOPS / 1e12:g} TFLOP/s, GPU-hours"
    for name in ("people", "core-hours before training", f"pre-training, {unit}", assumed, "recordings, TB", "stores, TB"):
        table.add_column(name, justify="right")
    for row in outlook.itertuples(index=False):
        hours, on_gpu = (
            "n/a" if np.isnan(value) else f"{value:.{digits}f}"
            for value, digits in ((row.training_hours, 0), (row.gpu_hours, 2))
        )
        sizes = f"{row.input_tb:.3f}", f"{row.store_tb:.3f}"
        table.add_row(row.cohort, f"{row.people:.0f}", f"{row.core_hours:.1f}", hours, on_gpu, *sizes)
    console.print(table)
    console.print(
        "Not in it: preprocessing of raw BOLD, fine-tuning, evaluation, start-up times. Pre-training: "
        f"{TRAINING['folds']} folds of {TRAINING['share']:.0%} of the people, {TRAINING['epochs']} epochs, half of "
        "them with both modalities."
    )
    if device == "cpu":
        each = f"{costs['training']['gflop']:.2g} GFLOP per subject and epoch, counted"
        console.print(f"This machine has no GPU: GPU-hours are {each}, at an assumed rate, and nothing that was measured.")
