"""Where the time and the memory of a run went, and how jobs are measured. MB are 1e6 bytes everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.errors import McspError

PACKAGE = Path(__file__).resolve().parent
MIB = 1024**2 / 1e6  # MB
# A small process between: the kernel counts the memory of whoever starts a program as the program's own.
LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
child = subprocess.Popen(sys.argv[2:])  # an object that nobody holds would reap a quick child itself, and its cost were lost
_, status, usage = os.wait4(child.pid, 0)
cost = {"s": time.perf_counter() - started, "cpu_s": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss * 1024 / 1e6}
with open(sys.argv[1], "w") as file:
    json.dump(cost, file)
sys.exit(status != 0)
"""
# What `side` of a module of ours finds, as a file.
SIDE = """
import json, sys
sys.path.insert(0, sys.argv[1])
{before}
from mcsp.{module} import side
found = side(*sys.argv[3:])
with open(sys.argv[2], "w") as file:
    json.dump(found, file)
"""


class Cost(NamedTuple):
    """Of one job: wall time and CPU time in s (which other processes of the machine hardly change), peak memory of its largest
    process in MB.
    """

    s: float
    cpu_s: float
    mb: float


def run_measured(what: str, command: Sequence[str], **options: Any) -> tuple[str, Cost]:
    """(what a command printed, what it cost). `options`: of its process, as `cwd`. Raises McspError, with its name `what`, when
    it fails.
    """
    with TemporaryDirectory() as place:
        cost = Path(place) / "cost.json"
        launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(cost), *command]
        done = subprocess.run(launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
        if done.returncode:
            raise McspError(f"{what} failed: {' '.join(done.stdout.split())[-300:] or 'killed'}")
        return done.stdout, Cost(**json.loads(cost.read_text()))


def measure_side(module: str, *arguments: str, before: str = "", **options: Any) -> dict[str, float]:
    """What `side(*arguments)` of a module finds in a process of its own, and its `peak_mb`. `before`: a statement that goes
    first; `options`: of the process. Raises McspError when it fails.
    """
    with TemporaryDirectory() as place:
        found = Path(place) / "found.json"
        code = SIDE.format(before=before, module=module)
        command = [sys.executable, "-c", code, str(PACKAGE.parent), str(found), *arguments]
        cost = run_measured(f"{module}, {arguments[0]}", command, **options)[1]
        return {**json.loads(found.read_text()), "peak_mb": cost.mb}


def job_costs(benchmarks: Path) -> pd.DataFrame:
    """One row per job: `stage`, `job`, wall time `wall_s`, CPU time `cpu_s`, `peak_mb`, of its last run.

    Raises McspError when the run left no benchmarks.
    """
    rows = []
    for path in sorted(benchmarks.glob("*/*.tsv")):
        table = pd.read_csv(path, sep="\t", na_values=["-"])
        row = table.iloc[-1]
        rows.append((path.parent.name, path.stem, float(row["s"]), float(row["cpu_time"]), MIB * float(row["max_rss"])))
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
