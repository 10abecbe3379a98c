"""Results on S3 through Snakemake's storage plugin, on file systems that show files late, and where clocks differ."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from mcsp.store import Store
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.slow

STUDY = "config/studies/series.yaml"
REGIONS = [f"r{i}" for i in range(6)]
HOUR = 3600.0


def write_study(root: Path) -> None:
    """A study of 16 made-up series in `root`/data: BOLD without images, so that its stages take seconds."""
    rng, data = np.random.default_rng(0), root / "data"
    data.mkdir()
    rows = []
    for i in range(16):
        series = pd.DataFrame(rng.normal(size=(60, len(REGIONS))), columns=REGIONS)
        series.to_csv(data / f"A_{i:03d}.tsv", sep="\t", index=False, float_format="%.4f")
        rows.append((f"{i:03d}", i % 2, 20 + i, "MF"[i // 2 % 2]))
    pd.DataFrame(rows, columns=["id", "dx", "age", "sex"]).to_csv(data / "people.tsv", sep="\t", index=False)
    atlas = pd.DataFrame({"index": range(1, 7), "name": REGIONS, "network": ["a", "b"] * 3, "x": range(6), "y": 0, "z": 0})
    atlas.to_csv(data / "atlas.tsv", sep="\t", index=False)
    labels = {"dx": {"0": ["control"], "1": ["ASD"]}}
    phenotype = {"table": "data/people.tsv", "subject": "id", "age": "age", "sex": "sex", "labels": labels}
    roi = {"kind": "roi", "path": "data", "pattern": "A_{subject}.tsv", "t_r": 2.0, "n_shards": 1, "phenotype": phenotype}
    model = {"width": 8, "dim": 8, "depth": 1, "heads": 2, "modalities": ["fmri"]}
    study = {
        "study": "series",
        "title": "Made-up series",
        "datasets": {"roi": roi},
        "atlas": {"name": "own", "kind": "series", "table": "data/atlas.tsv"},
        "tasks": {"asd": {"case": ["ASD"]}},
        "fmri": {
            "confounds": "none",
            "low_pass": None,
            "high_pass": None,
            "fd_threshold": None,
            "n_frames": 50,
            "min_frames": 30,
        },
        "splits": {"n_folds": 2},
        "pretrain": {"epochs": 1, "batch_size": 8, "model": model},
    }
    (root / STUDY).write_text(json.dumps(study))


@pytest.fixture
def series(checkout: Checkout) -> Checkout:
    """A checkout with a study of ready series."""
    write_study(checkout.root)
    return checkout


@pytest.fixture
def bucket(monkeypatch):
    """(address, bucket `lab`) of an S3 server on this machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    try:
        yield address, boto3.resource("s3", endpoint_url=address, region_name="us-east-1").Bucket("lab")
    finally:
        server.stop()


def test_results_live_on_s3(series, bucket, tmp_path):
    """Each job sees nothing but its declared inputs, fetched for it; what it made is uploaded, and a second run knows it."""
    address, lab = bucket
    model = "results/series/pretrain/fold-0/model.safetensors"
    there = ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://lab/studies"]
    there += ["--storage-s3-endpoint-url", address]
    text = series.snakemake(model, *there, study=STUDY)
    assert "Finished jobid" in text
    assert not (series.root / "results").exists()
    names = {item.key for item in lab.objects.filter(Prefix="studies/results/series/")}
    store = "studies/results/series/store/roi/fmri/spatial/shard-000.arrow"
    assert {store, f"studies/{model}", f"studies/{Path(model).with_name('config.json')}"} <= names
    lab.download_file(store, str(tmp_path / "store.arrow"))
    assert len(Store(tmp_path / "store.arrow")) == 16
    assert not list((series.root / ".snakemake/storage").rglob("*.arrow"))  # local copies go when nobody needs them
    assert series.planned(model, *there, study=STUDY) == {}


def late(checkout: Checkout, seconds: int) -> None:
    """Let files show under their names `seconds` after the job that writes them has gone on, as network file systems may (not
    ingestion's, which are written elsewhere and moved together).
    """
    path = checkout.root / "src/mcsp/store.py"
    text, plain = path.read_text(), "        os.replace(temporary, path)\n"
    assert text.count(plain) == 1
    later = f"""
        if ".part-" in str(path.parent):
            os.replace(temporary, path)
            return
        hidden = temporary.with_name(f".late-{{path.name}}")
        os.replace(temporary, hidden)
        subprocess.Popen(["sh", "-c", 'sleep {seconds}; mv "$0" "$1"', str(hidden), str(path)], start_new_session=True)
"""
    path.write_text(text.replace(plain, later).replace("import os\n", "import os\nimport subprocess\n", 1))


def test_files_that_show_late_are_waited_for(series):
    """`latency-wait` (60 s in the Slurm profile); where it is too short, Snakemake says which option to raise."""
    late(series, 6)
    atlas, store = "results/series/atlas/atlas.tsv", "results/series/store/roi/fmri/temporal/shard-000.arrow"
    assert "3 of 3 steps (100%) done" in series.snakemake(store, "--latency-wait", "60", study=STUDY)
    assert len(Store(series.root / store)) == 16
    shutil.rmtree(series.root / "results")
    text = series.snakemake(atlas, "--latency-wait", "1", study=STUDY, check=False)
    assert re.search(r"Missing files after 1 seconds.*--latency-wait", text, re.DOTALL)


def shift(path: Path, seconds: float) -> None:
    """Set a file's time."""
    os.utime(path, (time.time() + seconds,) * 2)


def test_clocks_that_differ(series):
    """Times of recordings mean nothing. A job's file from the future is known by its content where it is small; a job that
    would look older than its input ends with a line that names both and the clocks.
    """
    store = "results/series/store/roi/fmri/temporal/shard-000.arrow"
    for path in (series.root / "data").iterdir():
        shift(path, HOUR)
    series.snakemake(store, study=STUDY)
    for path in (series.root / "results/series/ingest/roi").iterdir():
        shift(path, HOUR)
    assert series.planned(store, study=STUDY) == {}
    shift(series.root / store, HOUR)
    spatial = store.replace("temporal", "spatial")
    text = series.snakemake(spatial, study=STUDY, check=False)
    assert re.search(rf"spatial/shard-000.arrow has older modification time.*than input {store}.*clock skew", text, re.DOTALL)
