"""A job of pre-training that dies leaves its checkpoint behind, and Snakemake lets it lie and goes on from it."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from mcsp.evaluation import splits as folds
from mcsp.options.training import SplitOptions
from mcsp.study import parse_study
from mcsp.workflow import Plan
from tests.conftest import write_stored_study
from tests.training.conftest import SMALL

TARGET = "results/stop/pretrain/fold-0/model.safetensors"
MODALITIES = {"both": ["fmri", "eeg"], "mri": ["fmri"], "cap": ["eeg"]}


def study(**engine):
    simulated = {
        "kind": "simulate",
        "groups": {"control": 0.5, "ASD": 0.5},
        "n_shards": 1,
        "n_subjects": 24,
        "sites": [{"name": "A"}],
    }
    return {
        "study": "stop",
        "datasets": {name: {**simulated, "modalities": own} for name, own in MODALITIES.items()},
        "tasks": {"asd": {"case": ["ASD"]}},
        "splits": {"n_folds": 3},
        "pretrain": {"epochs": 6, "batch_size": 8, "model": SMALL, "engine": {"checkpoint_minutes": 0, **engine}},
    }


def start(checkout):
    """Snakemake for one fold; everything before it lies there already."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", TARGET, "--allowed-rules", "pretrain_fold"]
    return subprocess.Popen(
        [*command, "--configfile", "config/studies/stop.yaml"], cwd=checkout.root, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_dead_job_leaves_its_checkpoint_and_the_next_goes_on(checkout):
    results = checkout.root / "results/stop"
    stored = write_stored_study(results)
    (results / "cohort").mkdir()
    stored.cohort.rename(results / "cohort/subjects.parquet")
    folds.run(cohort=results / "cohort/subjects.parquet", options=SplitOptions(n_folds=3), out=results / "splits/splits.tsv")
    (checkout.root / "config/studies/stop.yaml").write_text(json.dumps(study()))
    run, place = start(checkout), results / "pretrain/fold-0/checkpoints"
    while not list(place.glob("[!.]*.ckpt")):
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
    jobs = [p for p in psutil.Process(run.pid).children(recursive=True) if {"pretrain", "--fold"} <= set(p.cmdline())]
    jobs[-1].kill()
    text, _ = run.communicate()
    assert run.returncode == 1, text
    assert list(place.glob("[!.]*.ckpt"))
    again = start(checkout)
    text, _ = again.communicate()
    assert again.returncode == 0, text
    assert (checkout.root / TARGET).is_file()
    assert not place.exists()
    log = (results / "logs/pretrain/fold-0.log").read_text()
    assert "goes on from step" in log
    assert "epoch 5:" in log


def test_a_job_asks_for_as_many_gpus_as_it_uses():
    assert Plan(parse_study(study())).gpus == {"gpu": 1}
    assert Plan(parse_study(study(gpus=4))).gpus == {"gpu": 4}


def test_several_nodes_are_asked_for_and_started_on():
    """`gpu` would count those of all nodes, and `tasks` means tasks per GPU where there is one."""
    plan = Plan(parse_study(study(gpus=4, nodes=2)))
    assert plan.gpus == {"nodes": 2, "gres": "gpu:4", "mpi": "srun", "tasks_per_gpu": 0, "tasks_per_node": 4}
    assert "--nodes=2 --ntasks-per-node=4 --cpus-per-task=3 --gres=gpu:4" in plan.launcher(3)
    assert Plan(parse_study(study(gpus=1, nodes=2))).gpus["tasks"] == 2
    assert Plan(parse_study(study(gpus=4))).launcher(3) == ""
