"""Where the time and the memory of a run went."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.errors import McspError


def job_costs(benchmarks: Path) -> pd.DataFrame:
    """One row per job: `stage`, `job`, wall time `wall_s`, CPU time `cpu_s`, `peak_mb`, of its last run.

    Raises McspError when the run left no benchmarks.
    """
    rows = []
    for path in sorted(benchmarks.glob("*/*.tsv")):
        table = pd.read_csv(path, sep="\t", na_values=["-"])
        row = table.iloc[-1]
        rows.append((path.parent.name, path.stem, float(row["s"]), float(row["cpu_time"]), float(row["max_rss"])))
    if not rows:
        raise McspError(f"{benchmarks}: no benchmarks: run the study first")
    return pd.DataFrame(rows, columns=["stage", "job", "wall_s", "cpu_s", "peak_mb"])


def stage_costs(benchmarks: Path) -> pd.DataFrame:
    """One row per stage: `jobs`, summed wall time `wall_s` and CPU time `cpu_s`, largest `peak_mb` of a job."""
    grouped = job_costs(benchmarks).groupby("stage", sort=False)
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
