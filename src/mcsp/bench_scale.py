"""What planning a large study costs: datasets of headers and tables, and Snakemake on them."""

from __future__ import annotations

import gzip
import re
import shutil
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from mcsp.bench import MIB, Cost, run_measured
from mcsp.errors import McspError
from mcsp.shards import shard_of
from mcsp.store import read_table
from mcsp.study import read_yaml

ROWS = {
    "subjects": "subjects",
    "datasets": "datasets",
    "jobs": "jobs of a first run",
    "dry_run_s": "planning it (snakemake -n), s",
    "dry_run_cpu_s": "its CPU time, s",
    "dry_run_mb": "its peak memory, MB",
    "ingest_s": "ingesting one shard of the first dataset, s",
    "ingest_mb": "its peak memory, MB",
    "ingest_subjects": "its subjects",
    "rerun_s": "a run with nothing to do, s",
    "rerun_cpu_s": "its CPU time, s",
    "one_more_jobs": "jobs after one subject more",
    "one_more_shards": "of these, jobs that work through a shard",
    "per_subject_jobs": "jobs of the same stages, one for each subject",
    "per_subject_s": "planning these, s",
    "per_subject_cpu_s": "its CPU time, s",
    "per_subject_mb": "peak memory, MB",
}
N_CHANNELS, SECONDS, SFREQ = 8, 300, 250
SHARD_RULES = re.compile(r"^\w+_shard +(\d+)", re.MULTILINE)


def _nifti_head(n_volumes: int = 200) -> bytes:
    """Header of a 2 mm BOLD run in MNI space."""
    import nibabel as nib
    import numpy as np

    head = nib.Nifti1Header()
    head.set_data_dtype(np.float32)
    head.set_data_shape((97, 115, 97, n_volumes))
    head.set_zooms((2, 2, 2, 2.0))
    head.set_xyzt_units("mm", "sec")
    head.set_sform(np.diag([2, 2, 2, 1]), "mni")
    return head.binaryblock + bytes(4)


def _edf_head() -> bytes:
    """Header of an EDF of `N_CHANNELS` channels in records of 1 s."""
    names = ["Fz", "Cz", "Pz", "Oz", "C3", "C4", "P3", "P4"][:N_CHANNELS]
    whole = [("0", 8), ("X X X X", 80), ("Startdate X X X X", 80), ("01.01.20", 8), ("00.00.00", 8)]
    whole += [(str(256 * (1 + N_CHANNELS)), 8), ("", 44), (str(SECONDS), 8), ("1", 8), (str(N_CHANNELS), 4)]
    fields = [(names, 16), ("", 80), ("uV", 8), ("-3200", 8), ("3200", 8), ("-32768", 8), ("32767", 8), ("", 80)]
    fields += [(str(SFREQ), 8), ("", 32)]
    text = "".join(value.ljust(width) for value, width in whole)
    for value, width in fields:
        text += "".join(own.ljust(width) for own in (value if isinstance(value, list) else [value] * N_CHANNELS))
    return text.encode("ascii")


def _write_subject(root: Path, label: str, modalities: list[str], bold: bytes, eeg: bytes) -> None:
    stem = f"sub-{label}_task-rest"
    files: dict[Path, bytes] = {}
    if "eeg" in modalities:
        place = root / f"sub-{label}" / "eeg"
        files[place / f"{stem}_eeg.edf"] = eeg + label.encode()
        files[place / f"{stem}_eeg.json"] = b'{"TaskName": "rest", "SamplingFrequency": 250, "PowerLineFrequency": 50}'
        files[place / f"{stem}_channels.tsv"] = b"name\ttype\tunits\nFz\tEEG\tuV\n"
    if "fmri" in modalities:
        place = root / "derivatives/fmriprep" / f"sub-{label}" / "func"
        run = f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold"
        files[place / f"{run}.nii.gz"] = bold + label.encode()
        files[place / f"{run}.json"] = b'{"RepetitionTime": 2.0}'
        files[place / f"{stem}_desc-confounds_timeseries.tsv"] = b"trans_x\ttrans_y\n0\t0\n"
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_dataset(root: Path, modalities: list[str], subjects: range) -> None:
    """Add subjects to a BIDS dataset at `root`: headers without signals, and a row each in participants.tsv."""
    bold, eeg = gzip.compress(_nifti_head(), mtime=0), _edf_head()
    for number in subjects:
        _write_subject(root, f"{number:05d}", modalities, bold, eeg)
    table = root / "participants.tsv"
    lines = [] if table.is_file() else ["participant_id\tdiagnosis\tsite\tage\tsex\n"]
    lines += [f"sub-{i:05d}\t{i % 4}\tS{i % 12}\t{8 + i % 40}\t{'FM'[i % 2]}\n" for i in subjects]
    with open(table, "a", encoding="utf-8") as file:
        file.writelines(lines)


def _named(what: str, cost: Cost) -> dict[str, float]:
    """A cost as `measure` gives it."""
    return {f"{what}_{name}": value for name, value in cost._asdict().items() if f"{what}_{name}" in ROWS}


def _snakemake(folder: Path, snakefile: Path, *arguments: str) -> tuple[str, Cost]:
    """(what Snakemake printed, what it cost). Raises McspError when it fails."""
    study = ["--configfile", "scale.yaml"] if (folder / "scale.yaml").is_file() else []
    command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(snakefile), *study]
    return run_measured(f"snakemake {' '.join(arguments)}", command, cwd=folder)


def _jobs(text: str) -> int:
    total = re.search(r"^total +(\d+)$", text, re.MULTILINE)
    return int(total[1]) if total else 0


def _ingest(folder: Path, snakefile: Path, study: str, dataset: str) -> dict[str, float]:
    """Costs of the job that ingests the first shard of a dataset, run for once."""
    results = folder / "results" / study
    subjects = results / "ingest" / dataset / "shard-000.subjects.parquet"
    _snakemake(folder, snakefile, str(subjects.relative_to(folder)), "--cores", "1")
    job = pd.read_csv(results / "benchmarks" / "ingest" / f"{dataset}_000.tsv", sep="\t", na_values=["-"]).iloc[-1]
    return {"ingest_s": job["s"], "ingest_mb": MIB * job["max_rss"], "ingest_subjects": len(read_table(subjects))}


def _pretend(folder: Path, snakefile: Path) -> None:
    """Make Snakemake take the study for finished: empty files in the place of all outputs."""
    text, _ = _snakemake(folder, snakefile, "--summary")
    for line in text.splitlines():
        name = line.split("\t")[0]
        if name.startswith("results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    _snakemake(folder, snakefile, "--touch", "--cores", "16", "--quiet", "all")


# The usual way: each step of each subject is a job.
PER_SUBJECT = """
from pathlib import Path

WHO = [(m, str(p)) for m, pattern in (("fmri", "data/*/derivatives/fmriprep/sub-*"), ("eeg", "data/*/sub-*/eeg"))
       for p in sorted(Path().glob(pattern))]
STEPS = {"fmri": ["fmri", "connectivity-fmri", "spectra-fmri"], "eeg": ["eeg", "connectivity-eeg", "spectra-eeg"]}


rule all:
    input: [f"out/{step}/{place}.arrow" for m, place in WHO for step in STEPS[m]]


for step, modality in [(step, modality) for modality in STEPS for step in STEPS[modality]]:
    rule:
        name: step.replace("-", "_")
        input: "{place}" if step == modality else f"out/{modality}/{{place}}.arrow"
        output: f"out/{step}/{{place}}.arrow"
        shell: "touch {output}"
"""


def measure(*, study: Path, snakefile: Path, n_subjects: int, rival: bool = True) -> dict[str, float]:
    """Costs (keys of `ROWS`) of planning the study in the file `study` with `n_subjects` made-up people, spread evenly over its
    datasets; with `rival`, also of a workflow with one job for each step of each subject. Raises McspError when Snakemake
    fails.
    """
    values = read_yaml(study)
    names = list(values["datasets"])
    costs: dict[str, float] = {"subjects": n_subjects, "datasets": len(names)}
    with TemporaryDirectory() as place:
        folder = Path(place)
        sizes = [n_subjects // len(names) + (i < n_subjects % len(names)) for i in range(len(names))]
        for (name, dataset), size in zip(values["datasets"].items(), sizes, strict=True):
            dataset["path"] = f"data/{name}"
            write_dataset(folder / dataset["path"], dataset.get("modalities", ["fmri", "eeg"]), range(size))
        (folder / "scale.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        text, cost = _snakemake(folder, snakefile, "-n", "--quiet", "host")
        costs |= _named("dry_run", cost)
        costs["jobs"] = _jobs(text)
        costs |= _ingest(folder, snakefile, values["study"], names[0])
        _pretend(folder, snakefile)
        text, cost = _snakemake(folder, snakefile, "--cores", "1")
        costs |= _named("rerun", cost)
        if "Nothing to be done" not in text:
            raise McspError(f"a second run is not idle: {' '.join(text.split())[:300]}")
        first = values["datasets"][names[0]]
        # into the shard that was ingested: of those that were only touched, Snakemake does not know who was in them
        new = next(i for i in count(sizes[0]) if shard_of(f"{i:05d}", first.get("n_shards", 4)) == 0)
        write_dataset(folder / first["path"], first.get("modalities", ["fmri", "eeg"]), range(new, new + 1))
        text, _ = _snakemake(folder, snakefile, "-n", "--quiet", "host")
        costs["one_more_jobs"] = _jobs(text)
        first_table = text.split("\ntotal")[0]  # Snakemake prints it twice
        costs["one_more_shards"] = sum(int(n) for n in SHARD_RULES.findall(first_table))
        if rival:
            shutil.rmtree(folder / "results")
            (folder / "scale.yaml").unlink()
            (folder / "Snakefile").write_text(PER_SUBJECT, encoding="utf-8")
            text, cost = _snakemake(folder, folder / "Snakefile", "-n", "--quiet", "host")
            costs |= _named("per_subject", cost)
            costs["per_subject_jobs"] = _jobs(text)
    return {key: round(float(costs[key]), 1) for key in ROWS if key in costs}


def show(costs: dict[str, float]) -> None:
    """Print the costs as a table."""
    table = Table("planning", title="Costs of a large study")
    table.add_column("", justify="right")
    for key, value in costs.items():
        table.add_row(ROWS[key], f"{value:g}" if value < 1e6 else f"{value:.0f}")
    Console().print(table)
