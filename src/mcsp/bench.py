"""Where the time and the memory of a run went, and what planning a large study costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.errors import McspError


def stage_costs(benchmarks: Path) -> pd.DataFrame:
    """One row per rule: `jobs`, summed wall time `wall_s` and CPU time `cpu_s`, largest `peak_mb` of a job.

    Raises McspError when the run left no benchmarks.
    """
    rows = []
    for path in sorted(benchmarks.glob("*/*.tsv")):
        table = pd.read_csv(path, sep="\t", na_values=["-"])
        row = table.iloc[-1]
        rows.append((path.parent.name, float(row["s"]), float(row["cpu_time"]), float(row["max_rss"])))
    if not rows:
        raise McspError(f"{benchmarks}: no benchmarks: run the study first")
    table = pd.DataFrame(rows, columns=["stage", "wall_s", "cpu_s", "peak_mb"])
    grouped = table.groupby("stage", sort=False)
    return grouped.agg(
        jobs=("wall_s", "size"), wall_s=("wall_s", "sum"), cpu_s=("cpu_s", "sum"), peak_mb=("peak_mb", "max")
    ).reset_index()


def print_stage_costs(*, benchmarks: Path) -> None:
    """Print the costs of each stage of a finished run."""
    costs = stage_costs(benchmarks)
    table = Table("stage", title=f"Costs of {benchmarks.parent.name}")
    for name in ("jobs", "wall time, s", "CPU time, s", "peak memory of a job, MB"):
        table.add_column(name, justify="right")
    for row in costs.itertuples():
        table.add_row(row.stage, str(row.jobs), f"{row.wall_s:.1f}", f"{row.cpu_s:.1f}", f"{row.peak_mb:.0f}")
    total = costs[["jobs", "wall_s", "cpu_s"]].sum()
    table.add_row(
        "all", f"{total.jobs:.0f}", f"{total.wall_s:.1f}", f"{total.cpu_s:.1f}", f"{costs.peak_mb.max():.0f}", style="bold"
    )
    Console().print(table)


def _write_names(root: Path, n_subjects: int) -> None:
    """A BIDS dataset in name only: the files of `n_subjects` people with raw EEG and preprocessed BOLD, all empty."""
    labels = [f"{i:05d}" for i in range(n_subjects)]
    for label in labels:
        stem = f"sub-{label}_task-rest"
        eeg, bold = root / f"sub-{label}" / "eeg", root / "derivatives" / "fmriprep" / f"sub-{label}" / "func"
        for folder, names in (
            (eeg, (f"{stem}_eeg.edf", f"{stem}_eeg.json", f"{stem}_channels.tsv")),
            (bold, (f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz", f"{stem}_desc-confounds_timeseries.tsv")),
        ):
            folder.mkdir(parents=True)
            for name in names:
                (folder / name).touch()
    rows = "".join(f"sub-{label}\t{i % 2}\n" for i, label in enumerate(labels))
    (root / "participants.tsv").write_text(f"participant_id\tdiagnosis\n{rows}")


def dry_run(*, snakefile: Path, n_subjects: int, n_datasets: int, n_shards: int) -> dict[str, float]:
    """Wall time `dry_run_s` and number of `jobs` of `snakemake -n` for a made-up study of `n_subjects` people in
    `n_datasets` datasets of `n_shards` shards. Raises McspError when Snakemake fails.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        datasets = {}
        for i in range(n_datasets):
            _write_names(root / f"d{i}", n_subjects // n_datasets)
            labels = {"diagnosis": {"1": ["ASD"], "0": ["control"]}}
            datasets[f"d{i}"] = {
                "kind": "bids", "path": str(root / f"d{i}"), "n_shards": n_shards, "phenotype": {"labels": labels},
            }  # fmt: skip
        study = {"study": "scale", "datasets": datasets, "tasks": {"asd": {"case": ["ASD"]}}}
        (root / "scale.yaml").write_text(json.dumps(study))
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "host", "--snakefile", str(snakefile)]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, f"--configfile={root / 'scale.yaml'}"], cwd=folder, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    total = re.search(r"^total +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    if not total:
        raise McspError(f"snakemake -n failed: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    return {"subjects": n_subjects, "datasets": n_datasets, "jobs": int(total[1]), "dry_run_s": round(seconds, 2)}
