"""What is done, what failed and why: read from the results as they are, at any time, also after a crash."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.cohort import store_path
from mcsp.store import read_table, read_tsv, write_tsv

STAGES = ("preprocess", "fmri", "eeg", "connectivity-fmri", "connectivity-eeg", "spectra-fmri", "spectra-eeg")
DOMAIN = {"connectivity": "spatial", "spectra": "spectral"}
ERROR = re.compile(r"^error: |^\w*(Error|Exception|Interrupt|Exit)\b|\b(Killed|Segmentation fault|Out of memory|oom-kill)\b")
TAIL_LINES = 60
SHOWN = 20  # lines of the printed lists; the file holds all

COLUMNS = {
    "uid": "Subject: dataset/sub-label",
    "ingest": "done: has labels and recordings; excluded: see reason",
    **dict.fromkeys(STAGES, "done, excluded, failed, or waiting (not reached yet); n/a: the subject has no such recording"),
    "reason": "Why the subject is not further, by stage",
}
JOB_COLUMNS = {
    "rule": "Rule of the workflow",
    "job": "Which of its jobs",
    "state": "done; failed: its log ends in an error; unfinished: running, or killed without a word",
    "message": "Last error line of the log, or its last line",
    "log": "Where to read more",
}


@dataclass
class Shard:
    """One shard's ingestion: who is in it, and with which recordings."""

    dataset: str
    number: int
    status: pd.DataFrame
    modalities: dict[str, set[str]]
    raw: set[str]  # who needs preprocessing


def _read_shards(results: Path, dataset: str) -> list[Shard]:
    shards = []
    for path in sorted((results / "ingest" / dataset).glob("shard-*.status.tsv")):
        recordings = path.with_name(path.name.replace(".status.tsv", ".recordings.parquet"))
        if not recordings.is_file():  # a crash between two files of a shard: it is made again
            continue
        table = read_table(recordings)
        modalities = {m: set(table.loc[table["modality"] == m, "uid"]) for m in ("fmri", "eeg")}
        raw = set(table.loc[table["kind"] == "raw", "uid"])
        shards.append(Shard(dataset, int(path.name[6:9]), read_tsv(path), modalities, raw))
    return shards


def _own(status: Path, stage: str) -> list[dict]:
    """Lines of a status table that speak of subjects as a whole; none where it is not written yet."""
    return [row for row in read_tsv(status).to_dict("records") if row["stage"] == stage] if status.is_file() else []


def _stage_outcomes(results: Path, shard: Shard, stage: str) -> dict[str, tuple[str, str | None]]:
    """uid -> (state, reason) in a stage whose store and status are both there; empty otherwise."""
    modality = stage.rsplit("-", 1)[-1]
    domain = DOMAIN.get(stage.split("-")[0], "temporal")
    status = results / "status" / shard.dataset / stage / f"shard-{shard.number:03d}.tsv"
    if stage == "preprocess":  # writes no store; only studies that preprocess have it
        return {row["uid"]: (row["state"], row["reason"]) for row in _own(status, "preprocess-fmri")}
    if not status.is_file() or not store_path(results / "store", shard.dataset, modality, domain, shard.number).is_file():
        return {}
    return {row["uid"]: (row["state"], row["reason"]) for row in _own(status, stage)}


def _shard_rows(results: Path, shard: Shard) -> list[dict]:
    outcomes = {stage: _stage_outcomes(results, shard, stage) for stage in STAGES}
    rows = []
    for uid, lines in shard.status.groupby("uid", sort=True):
        own = lines[lines["stage"] == "ingest"]
        state = own["state"].iloc[0]
        reasons = [f"{line['stage']}: {line['reason']}" for line in lines.to_dict("records") if line["state"] != "done"]
        row = {"uid": uid, "ingest": state}
        for stage in STAGES:
            first, modality = stage.split("-")[0], stage.rsplit("-", 1)[-1]
            has = shard.raw if stage == "preprocess" else shard.modalities[modality]
            before = "preprocess" if stage == "fmri" else modality if first != modality else ""
            ended = before and (row[before] in ("excluded", "failed") or (before == modality and row[before] is None))
            if state != "done" or uid not in has or ended:
                row[stage] = None
            else:
                row[stage], reason = outcomes[stage].get(uid, ("waiting", None))
                if row[stage] in ("excluded", "failed"):
                    reasons.append(f"{stage}: {reason}")
        rows.append({**row, "reason": "; ".join(reasons) or None})
    return rows


def subject_states(results: Path, datasets: Sequence[str]) -> pd.DataFrame:
    """Subject x stage: states and reasons (columns: `COLUMNS`), for all shards that are ingested."""
    rows = [row for name in datasets for shard in _read_shards(results, name) for row in _shard_rows(results, shard)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def job_states(results: Path) -> pd.DataFrame:
    """State of every job that left a log (columns: `JOB_COLUMNS`).

    A job is done when its benchmark, which is written last, is not older than its log; a log is begun anew by each try.
    """
    rows = []
    for log in sorted((results / "logs").glob("*/*.log")):
        benchmark = results / "benchmarks" / log.parent.name / f"{log.stem}.tsv"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        lines = [line.strip() for line in lines if line.strip()]
        errors = [line for line in lines if ERROR.search(line)]
        if benchmark.is_file() and benchmark.stat().st_mtime >= log.stat().st_mtime - 1:
            state, message = "done", None
        elif errors:
            state, message = "failed", errors[-1][:300]
        else:
            state, message = "unfinished", lines[-1][:300] if lines else None
        rows.append((log.parent.name, log.stem, state, message, str(log)))
    return pd.DataFrame(rows, columns=list(JOB_COLUMNS))


def _print_subjects(states: pd.DataFrame, console: Console) -> None:
    table = Table("dataset", "stage", title="Subjects by stage")
    for name in ("done", "excluded", "failed", "waiting"):
        table.add_column(name, justify="right")
    dataset = states["uid"].str.split("/").str[0]
    for name, own in states.groupby(dataset, sort=True):
        for stage in ("ingest", *STAGES):
            counts = own[stage].value_counts()
            if len(counts):
                table.add_row(name, stage, *(str(counts.get(state, 0)) for state in ("done", "excluded", "failed", "waiting")))
    console.print(table)
    for line in states.dropna(subset=["reason"]).head(SHOWN).to_dict("records"):
        console.print(f"  {line['uid']}: {line['reason']}", markup=False, highlight=False, soft_wrap=True)
    more = states["reason"].notna().sum() - SHOWN
    if more > 0:
        console.print(f"  ... and {more} more in the table")


def _print_jobs(jobs: pd.DataFrame, console: Console) -> None:
    table = Table("stage", title="Jobs by stage")
    for name in ("done", "failed", "unfinished"):
        table.add_column(name, justify="right")
    for rule, own in jobs.groupby("rule", sort=True):
        counts = own["state"].value_counts()
        table.add_row(rule, *(str(counts.get(state, 0)) for state in ("done", "failed", "unfinished")))
    console.print(table)
    for job in jobs[jobs["state"] != "done"].head(SHOWN).to_dict("records"):
        console.print(
            f"  {job['rule']} {job['job']} {job['state']}: {job['message'] or 'empty log'}", markup=False, highlight=False
        )
        console.print(f"    log: {job['log']}", markup=False, highlight=False, soft_wrap=True)


def _print_ends(results: Path, tasks: Sequence[str], console: Console) -> None:
    """What the last stages have made so far."""
    models = len(list(results.glob("pretrain/fold-*/model.safetensors")))
    console.print(f"pre-trained models: {models}")
    for task in tasks:
        classifiers = len(list(results.glob(f"finetune/{task}/fold-*_seed-*/model.safetensors")))
        parts = [
            stage
            for stage, file in (("evaluate", "metrics.tsv"), ("explain", "verdicts.tsv"))
            if (results / stage / task / file).is_file()
        ]
        console.print(f"task {task}: {classifiers} classifiers, {' and '.join(parts) or 'neither evaluated nor explained'}")
    if (predictions := results / "predict" / "predictions.tsv").is_file():
        console.print(f"predictions: {predictions}", highlight=False, soft_wrap=True)
    report = results / "report.html"
    console.print(f"report: {report if report.is_file() else 'not yet'}", highlight=False, soft_wrap=True)


def mending(study: Path) -> str:
    """What to do after a recording was replaced in place: Snakemake does not look at the data's times."""
    command = f"snakemake --cores 2 --configfile {shlex.quote(str(study))} --forcerun ingest_shard"
    return f"mended a file of the dataset? say so: {command}"


def run(*, results: Path, datasets: Sequence[str], tasks: Sequence[str], study: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Print what is done, what failed and why, and write it to `results`/status/status.tsv and jobs.tsv. `study`: the study's
    file, for the remedy.

    Returns (subject x stage, jobs). Half-made files are passed over; nothing needs to have run.
    """
    states, jobs = subject_states(results, datasets), job_states(results)
    console = Console()
    if states.empty and jobs.empty:
        console.print(f"{results}: nothing has run yet")
        return states, jobs
    write_tsv(states, results / "status" / "status.tsv", COLUMNS)
    write_tsv(jobs, results / "status" / "jobs.tsv", JOB_COLUMNS)
    _print_subjects(states, console)
    _print_jobs(jobs, console)
    _print_ends(results, tasks, console)
    console.print(
        f"all of it: {results / 'status' / 'status.tsv'}, {results / 'status' / 'jobs.tsv'}", highlight=False, soft_wrap=True
    )
    if states["reason"].notna().any():
        console.print(mending(study), markup=False, highlight=False, soft_wrap=True)
    return states, jobs
