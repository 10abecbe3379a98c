"""`status` tells what is done, what failed and why, also in the middle of a crash."""

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsp.cohort import store_path
from mcsp.shards import STATUS_COLUMNS, Outcome, write_status
from mcsp.status import run
from mcsp.store import StoreWriter, read_tsv, write_table, write_tsv

LATER = ("connectivity-fmri", "connectivity-eeg", "spectra-fmri", "spectra-eeg")
STUDY = Path("config/studies/mine.yaml")


def ingested(root, shard, lines, recordings, raw=()):
    stem = root / "ingest" / "d" / f"shard-{shard:03d}"
    rows = [(f"d/sub-{s}", "d", stage, state, reason) for s, stage, state, reason in lines]
    write_tsv(pd.DataFrame(rows, columns=list(STATUS_COLUMNS)), f"{stem}.status.tsv", STATUS_COLUMNS)
    rows = [(f"d/sub-{s}", m, "raw" if s in raw else "bold") for s, m in recordings]
    table = pd.DataFrame(rows, columns=["uid", "modality", "kind"])
    write_table(table, f"{stem}.recordings.parquet")


def stage(root, name, shard, states, store=True):
    outcomes = [Outcome(f"d/sub-{s}", state, reason, None) for s, (state, reason) in states.items()]
    write_status(root / "status" / "d" / name / f"shard-{shard:03d}.tsv", name, "d", outcomes)
    if store:
        with StoreWriter(store_path(root / "store", "d", name, "temporal", shard), (2,), {}) as writer:
            writer.add("d/sub-a", np.zeros(2), 1)


def log(root, rule, job, text, done=False):
    path = root / "logs" / rule / f"{job}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if done:
        benchmark = root / "benchmarks" / rule / f"{job}.tsv"
        benchmark.parent.mkdir(parents=True, exist_ok=True)
        benchmark.write_text("s\n1\n")


@pytest.fixture
def crashed(tmp_path):
    """Results of a run that stopped: two shards ingested, one through the fMRI stage, one killed within."""
    root = tmp_path / "study"
    lines = [
        ("a", "ingest", "done", None),
        ("b", "ingest", "done", None),
        ("b", "ingest-eeg", "excluded", "file is empty"),
        ("c", "ingest", "excluded", "label DX=9 is not in the map"),
        ("e", "ingest", "done", None),
    ]
    ingested(root, 0, lines, [("a", "fmri"), ("a", "eeg"), ("b", "fmri"), ("e", "fmri")])
    ingested(root, 1, [("f", "ingest", "done", None)], [("f", "fmri")])
    stage(root, "fmri", 0, {"a": ("done", None), "b": ("failed", "ValueError: odd"), "e": ("excluded", "too short")})
    stage(root, "fmri", 1, {"f": ("done", None)}, store=False)  # the store was never finished
    (root / "ingest" / "d" / "shard-002.status.tsv").write_text("uid\tdataset\n")  # its other files are not there
    (root / "status" / "d" / "eeg").mkdir(parents=True)
    (root / "status" / "d" / "eeg" / ".part-12.shard-000.tsv").write_text("uid\tsta")
    return root


def test_subject_by_stage(crashed):
    states = run(results=crashed, datasets=["d", "notyet"], tasks=["asd"], study=STUDY)[0].set_index("uid")
    assert states["ingest"].to_dict() == {
        "d/sub-a": "done", "d/sub-b": "done", "d/sub-c": "excluded", "d/sub-e": "done", "d/sub-f": "done",
    }  # fmt: skip
    assert states["fmri"].fillna("-").tolist() == ["done", "failed", "-", "excluded", "waiting"]
    assert states["eeg"].fillna("-").tolist() == ["waiting", "-", "-", "-", "-"]
    assert states["connectivity-fmri"].fillna("-").tolist() == ["waiting", "-", "-", "-", "waiting"]
    assert states["reason"].fillna("-").tolist() == [
        "-",
        "ingest-eeg: file is empty; fmri: ValueError: odd",
        "ingest: label DX=9 is not in the map",
        "fmri: too short",
        "-",
    ]
    written = read_tsv(crashed / "status" / "status.tsv").set_index("uid")
    assert written["fmri"].fillna("-").tolist() == states["fmri"].fillna("-").tolist()


def test_jobs_and_their_last_error(crashed, capsys):
    log(crashed, "fmri", "d_000", "d/sub-b: unexpected error\nValueError: odd\nall done\n", done=True)
    log(crashed, "fmri", "d_001", "fMRI d  40%\n")
    log(
        crashed,
        "pretrain",
        "fold-0",
        "epoch 1\nTraceback (most recent call last):\n  File x\nRuntimeError: CUDA out of memory\n\n",
    )
    log(crashed, "cohort", "cohort", "error: dataset d: nobody is left: too short (3x)\n")
    log(crashed, "finetune", "asd_fold-0_seed-0", "")
    jobs = run(results=crashed, datasets=["d"], tasks=["asd"], study=STUDY)[1].set_index(["rule", "job"])
    assert jobs["state"].to_dict() == {
        ("cohort", "cohort"): "failed",
        ("finetune", "asd_fold-0_seed-0"): "unfinished",
        ("fmri", "d_000"): "done",
        ("fmri", "d_001"): "unfinished",
        ("pretrain", "fold-0"): "failed",
    }
    assert jobs.loc[("pretrain", "fold-0"), "message"] == "RuntimeError: CUDA out of memory"
    assert jobs.loc[("fmri", "d_001"), "message"] == "fMRI d  40%"
    shown = " ".join(capsys.readouterr().out.split())
    assert "error: dataset d: nobody is left: too short (3x)" in shown
    assert "pretrain/fold-0.log" in shown


def test_who_was_left_out_may_be_mended(crashed, tmp_path, capsys):
    remedy = "snakemake --cores 2 --configfile config/studies/mine.yaml --forcerun ingest_shard"
    run(results=crashed, datasets=["d"], tasks=[], study=STUDY)
    assert capsys.readouterr().out.splitlines()[-1].endswith(remedy)
    ingested(tmp_path / "whole", 0, [("a", "ingest", "done", None)], [("a", "fmri")])
    run(results=tmp_path / "whole", datasets=["d"], tasks=[], study=STUDY)
    assert remedy not in capsys.readouterr().out


def test_a_job_that_ran_well_once_and_fails_now_is_failed(crashed):
    log(crashed, "fmri", "d_000", "fine\n", done=True)
    old = time.time() - 100
    os.utime(crashed / "benchmarks" / "fmri" / "d_000.tsv", (old, old))
    log(crashed, "fmri", "d_000", "error: disk full\n")
    jobs = run(results=crashed, datasets=["d"], tasks=[], study=STUDY)[1]
    assert jobs[["state", "message"]].values.tolist() == [["failed", "error: disk full"]]


def test_nothing_has_run(tmp_path, capsys):
    states, jobs = run(results=tmp_path / "none", datasets=["d"], tasks=["asd"], study=STUDY)
    assert states.empty
    assert jobs.empty
    assert "nothing has run yet" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "none").exists()


def test_preprocessing_of_raw_bold(tmp_path):
    """Who was left out there is not said to wait for later stages; who comes preprocessed has no such stage."""
    lines = [(s, "ingest", "done", None) for s in "abc"]
    ingested(tmp_path, 0, lines, [(s, "fmri") for s in "abc"], raw="ab")
    waiting = run(results=tmp_path, datasets=["d"], tasks=[], study=STUDY)[0].set_index("uid")
    assert waiting["preprocess"].fillna("-").tolist() == ["waiting", "waiting", "-"]
    folder = tmp_path / "status" / "d" / "preprocess" / "shard-000.tsv"
    outcomes = [
        Outcome("d/sub-a", "done", None, None), Outcome("d/sub-b", "excluded", "no brain", None),
        Outcome("d/sub-c", "done", None, None),
    ]  # fmt: skip
    write_status(folder, "preprocess-fmri", "d", outcomes)
    states = run(results=tmp_path, datasets=["d"], tasks=[], study=STUDY)[0].set_index("uid")
    assert states["preprocess"].fillna("-").tolist() == ["done", "excluded", "-"]
    assert states["fmri"].fillna("-").tolist() == ["waiting", "-", "waiting"]
    assert states["connectivity-fmri"].fillna("-").tolist() == ["waiting", "-", "waiting"]
    assert states.loc["d/sub-b", "reason"] == "preprocess: no brain"
