"""What the jobs cost that see a whole cohort's tables, as it grows: made-up people, predictions without any signal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.bench import PACKAGE, run_measured
from mcsp.bids.ingest import SUBJECT_COLUMNS
from mcsp.bids.recordings import COLUMNS as RECORDING_COLUMNS
from mcsp.shards import RUN_COLUMNS, STATUS_COLUMNS
from mcsp.store import read_tsv, write_table, write_tsv

JOBS = {
    "cohort": "cohort: shards' tables merged, exclusions, doubles",
    "splits": "splits: five folds",
    "tasks": "tasks: cases and controls",
    "evaluate": "evaluate: metrics with intervals and paired tests of five methods",
    "statistics": "statistics: calibration, uncertainty, subgroups, all pairs",
    "figure": "figures of the cohort: subjects, flow, characteristics, sites",
}
DATASETS, SHARDS = ("one", "two", "three"), 8
STAGES = [f"{stage}{modality}" for modality in ("fmri", "eeg") for stage in ("", "connectivity-", "spectra-")]
METHODS = {"mcsp": (0, 1, 2), "phenotype": (0,), "linear": (0,), "tangent": (0,), "random_forest": (0,)}  # seeds
# Draws follow one another: their number, 2,000 by default, changes times but no memory.
DRAWS = 100
OPTIONS = {"rivals": [name for name in METHODS if name != "mcsp"], "n_bootstrap": DRAWS, "n_permutations": DRAWS}
# The tables of `mcsp evaluate`, which asks the classifiers first: of these it holds one batch at a time.
EVALUATE = """
import sys
sys.path.insert(0, sys.argv[1])
from mcsp.evaluation.comparisons import pooled
from mcsp.evaluation.stage import comparison_rows, metric_rows
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_table
options, means = EvaluateOptions.model_validate_json(sys.argv[3]), pooled(read_table(sys.argv[2]))
metric_rows("asd", means, dict.fromkeys(sorted(set(means["method"])), "made up"), options, 5)
comparison_rows("asd", means, "mcsp", options, 0.25)
"""


def _write_shard(folder: Path, dataset: str, shard: int, labels: Sequence[str]) -> None:
    """What ingestion and the stages leave of one shard; one person in fifty is left out for the EEG, one lost it later."""
    uids = [f"{dataset}/sub-{label}" for label in labels]
    people = pd.DataFrame({"uid": uids, "dataset": dataset, "shard": shard, "subject": labels, "family": uids, "person": uids})
    number = np.array([int(label) for label in labels])
    people["site"] = [f"S{i % 12}" for i in number]
    people["labels"] = np.where(number % 2, "ASD", "control")
    people["age"], people["sex"], people["mean_fd"] = 8.0 + number % 40, np.where(number // 2 % 2, "M", "F"), 0.1
    stem = f"shard-{shard:03d}"
    write_table(people.reindex(columns=SUBJECT_COLUMNS), folder / "ingest" / dataset / f"{stem}.subjects.parquet")
    files = pd.DataFrame([(uid, m) for uid, m in product(uids, ("fmri", "eeg"))], columns=["uid", "modality"])
    files["kind"] = np.where(files["modality"] == "fmri", "bold", "eeg")
    files["path"] = [f"/data/{uid}/{m}.nii.gz" for uid, m in zip(files["uid"], files["modality"])]
    files["fingerprint"], files["size"], files["t_r"], files["sfreq"] = files["path"], 10**8, 2.0, 500.0
    write_table(files.reindex(columns=RECORDING_COLUMNS), folder / "ingest" / dataset / f"{stem}.recordings.parquet")
    bad = number % 50 == 0
    for stage in ["ingest", *STAGES]:
        lines = pd.DataFrame({"uid": uids, "dataset": dataset, "stage": stage, "state": "done", "reason": None})
        if stage == "eeg":
            lines.loc[bad, ["state", "reason"]] = "excluded", "too few clean samples"
        place = folder / "ingest" / dataset / f"{stem}.status.tsv" if stage == "ingest" else folder / "status" / dataset / stage
        write_tsv(lines, place if stage == "ingest" else place / f"{stem}.tsv", STATUS_COLUMNS)
        if stage in ("fmri", "eeg"):
            runs = pd.DataFrame({"uid": uids, "file": [f"/data/{uid}/{stage}.nii.gz" for uid in uids], "state": "used"})
            write_tsv(runs.reindex(columns=list(RUN_COLUMNS)), place / f"{stem}.runs.tsv", RUN_COLUMNS)


def _write_predictions(folder: Path) -> None:
    """Probabilities without any signal of all methods, as `evaluate` writes them; of validation subjects; with dropout."""
    folds, rng = read_tsv(folder / "splits.tsv"), np.random.default_rng(0)
    tested, chosen = (folds.loc[folds["part"] == part, ["uid", "fold"]] for part in ("test", "val"))
    case = lambda uids: uids.str[-1].astype(int) % 2  # noqa: E731
    parts = [tested.assign(method=method, seed=seed) for method, seeds in METHODS.items() for seed in seeds]
    rows = pd.concat(parts, ignore_index=True).assign(modalities="fmri+eeg", p=lambda table: rng.uniform(size=len(table)))
    write_table(rows.assign(y=case(rows["uid"])), folder / "predictions.parquet")
    for name, part in (("validation", chosen), ("dropout", tested)):
        own = pd.concat([part.assign(seed=seed) for seed in METHODS["mcsp"]], ignore_index=True)
        own = own.assign(p=rng.uniform(size=len(own)), mean_entropy=0.5, n_passes=30, y=case(own["uid"]))
        write_table(own, folder / f"{name}.parquet")


def _commands(folder: Path) -> dict[str, list[str]]:
    """Each job's command, as its rule has it."""
    mcsp, task = [sys.executable, str(PACKAGE)], json.dumps({"case": ["ASD"]})
    options = json.dumps(OPTIONS)
    cohort = ["--cohort", str(folder / "subjects.parquet")]
    predicted = [f"--{name}={folder / name}.parquet" for name in ("predictions", "validation", "dropout")]
    shards = json.dumps(dict.fromkeys(DATASETS, SHARDS))
    merged = ["--out", str(folder / "subjects.parquet"), "--exclusions", str(folder / "exclusions.tsv")]
    merged += ["--status", str(folder / "status"), *(f"--stage={stage}" for stage in STAGES)]
    drawn = [f"--file=cohort={folder / 'subjects.parquet'}", f"--file=exclusions={folder / 'exclusions.tsv'}"]
    drawn += [f"--file=counts={folder / 'task-asd.tsv'}", "--options", "{}", "--out", str(folder / "figures")]
    return {
        "cohort": [*mcsp, "cohort", "--ingest", str(folder / "ingest"), "--shards", shards, *merged],
        "splits": [*mcsp, "splits", *cohort, "--options", "{}", "--out", str(folder / "splits.tsv")],
        "tasks": [*mcsp, "tasks", "asd", *cohort, "--task", task, "--out", str(folder / "task-asd.tsv")],
        "evaluate": [sys.executable, "-c", EVALUATE, str(PACKAGE.parent), str(folder / "predictions.parquet"), options],
        "statistics": [*mcsp, "statistics", "asd", *predicted, *cohort, "--options", options, "--out", str(folder)],
        "figure": [*mcsp, "figure", "cohort", "flow", "characteristics", "sites", *drawn],
    }


def measure(*, sizes: Sequence[int]) -> pd.DataFrame:
    """`job`, `subjects`, `cpu_s`, `mb` (peak) of each of JOBS for each number of people. Raises McspError when one fails."""
    rows = []
    for n in sizes:
        with TemporaryDirectory() as place:
            folder = Path(place)
            for k, (dataset, shard) in enumerate(product(DATASETS, range(SHARDS))):
                _write_shard(folder, dataset, shard, [f"{i:05d}" for i in range(k, n, len(DATASETS) * SHARDS)])
            for job, command in _commands(folder).items():
                if job == "evaluate":
                    _write_predictions(folder)
                cost = run_measured(job, command)[1]
                rows.append((job, n, cost.cpu_s, cost.mb))
    return pd.DataFrame(rows, columns=["job", "subjects", "cpu_s", "mb"])


def show(costs: pd.DataFrame) -> None:
    """Print the costs as a table: two columns for each number of people."""
    table = Table(
        "job", title=f"Jobs that see the whole cohort, by the number of people; {DRAWS} draws for intervals and tests"
    )
    sizes = sorted(set(costs["subjects"]))
    for unit in ("MB", "CPU s"):
        for n in sizes:
            table.add_column(f"{n}, {unit}", justify="right")
    for job in JOBS:
        own = costs[costs["job"] == job].set_index("subjects")
        numbers = [f"{own.loc[n, 'mb']:.0f}" for n in sizes] + [f"{own.loc[n, 'cpu_s']:.1f}" for n in sizes]
        table.add_row(JOBS[job], *numbers)
    Console().print(table)
