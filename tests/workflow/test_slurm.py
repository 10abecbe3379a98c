"""`snakemake --profile slurm` on a real Slurm: who runs where, and that what Slurm does to jobs is survived."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from mcsp.evaluation import splits as folds
from mcsp.model.augment import Augmentation
from mcsp.options.training import PretrainOptions, SplitOptions
from mcsp.store import Store, read_table, read_tsv
from mcsp.training import pretrain
from tests.conftest import write_stored_study
from tests.training.conftest import SMALL
from tests.workflow.conftest import PROJECT, Checkout
from tests.workflow.slurm_cluster import Cluster, NoSlurm, install
from tests.workflow.test_dag import GPU_RULES
from tests.workflow.test_stopped_training import TARGET, study

pytestmark = pytest.mark.slow

GROUPS = {"cohort", "domains", "copies", "pages", "report"}
# What users of a Slurm without accounting take from the profile's comments, and less waiting than there.
HERE = ["--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "2"]
HERE += ["--slurm-no-requeue"]  # Slurm itself would wait for minutes until it runs a dead node's job again


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    try:
        install()
    except NoSlurm as reason:
        pytest.skip(str(reason))
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def clone(root: Path) -> Checkout:
    """What a fresh clone holds, links as links: the files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if os.path.lexists(PROJECT / name):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, root / name, follow_symlinks=False)
    return Checkout(root)


def before_training(root: Path, study: dict) -> Checkout:
    """A clone in which the stores, the cohort and the folds of a study named `stop` lie ready."""
    checkout = clone(root)
    results = checkout.root / "results/stop"
    stored = write_stored_study(results)
    (results / "cohort").mkdir()
    stored.cohort.rename(results / "cohort/subjects.parquet")
    folds.run(cohort=results / "cohort/subjects.parquet", options=SplitOptions(n_folds=3), out=results / "splits/splits.tsv")
    (checkout.root / "config/studies/stop.yaml").write_text(json.dumps(study))
    return checkout


def start(checkout: Checkout, cluster: Cluster, configfile: str, *arguments: str) -> subprocess.Popen:
    """`snakemake --profile slurm` in a checkout."""
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", *HERE, *arguments, "--configfile", configfile]
    env = {**cluster.env, "XDG_CACHE_HOME": str(checkout.root / ".cache")}
    return subprocess.Popen(
        command, cwd=checkout.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip


def wait_for(condition: Callable[[], object], run: subprocess.Popen, seconds: float = 1200) -> object:
    """What `condition` gives, once it gives something. Fails when the run ends before."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert run.poll() is None, run.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def processes_of(checkout: Checkout, stage: str) -> list[psutil.Process]:
    """Running `mcsp <stage>` of a checkout."""
    own = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(checkout.root / "src/mcsp") in words and stage in words:
            own.append(process)
    return own


@pytest.fixture(scope="module")
def cut(cluster, tmp_path_factory):
    """(checkout, Snakemake) of a pre-training that hangs until Slurm's time limit, one minute in its first attempt; it does so
    beside the other tests.
    """
    long = study(checkpoint_minutes=60)  # only SIGTERM makes it save its state
    long["pretrain"]["epochs"] = 40
    checkout = before_training(tmp_path_factory.mktemp("cut"), long)
    results = checkout.root / "results/stop"
    log = results / "logs/pretrain/fold-0.log"
    run = start(
        checkout, cluster, "config/studies/stop.yaml", TARGET, "--allowed-rules", "pretrain_fold", "--set-resources",
        "pretrain_fold:runtime=attempt",
    )  # fmt: skip
    wait_for(lambda: log.is_file() and "epoch 0:" in log.read_text(), run)
    training = max(processes_of(checkout, "pretrain"), key=lambda p: p.create_time())
    training.send_signal(signal.SIGSTOP)
    yield checkout, run
    if run.poll() is None:
        run.kill()
        run.wait()


@pytest.fixture(scope="module")
def disturbed(cluster, cut, tmp_path_factory):
    """(checkout, what Snakemake printed) of a whole study: one job gets too little memory at first, one is cancelled, and a GPU
    node dies under one and comes back.
    """
    checkout = clone(tmp_path_factory.mktemp("whole"))
    shutil.copy(PROJECT / "tests/workflow/cluster.yaml", checkout.root / "config/studies/cluster.yaml")
    run = start(checkout, cluster, "config/studies/cluster.yaml", "--set-resources", "atlas:mem_mb=100**attempt")
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(run.stdout))
    reader.start()

    def running(rule: str) -> dict[str, str] | None:
        jobs = [job for job in cluster.jobs() if (job["rule"], job["JobState"]) == (rule, "RUNNING")]
        return jobs[0] if jobs and processes_of(checkout, rule.split("_")[0]) else None

    try:
        cluster.command("scancel", wait_for(lambda: running("fmri_shard"), run)["JobId"])
        job = wait_for(lambda: running("finetune_fold"), run)
        cluster.kill_node(job["NodeList"])
        wait_for(lambda: jobs_of(cluster, "finetune_fold", "NODE_FAIL"), run)
        cluster.start_node(job["NodeList"])
        run.wait(1200)
    finally:
        run.kill()
        reader.join()
    return checkout, "".join(lines)


def jobs_of(cluster: Cluster, rule: str, states: str = "") -> list[dict[str, str]]:
    return [job for job in cluster.jobs() if job["rule"] == rule and job["JobState"] in (states.split() or [job["JobState"]])]


def test_a_whole_study_survives(cluster, disturbed):
    checkout, text = disturbed
    results = checkout.root / "results/cluster"
    assert (results / "report.html").is_file(), text[-5000:]
    assert "Nothing to be done" in checkout.snakemake(study="config/studies/cluster.yaml")
    assert not list(results.rglob(".part-*"))
    cohort = read_table(results / "cohort/subjects.parquet")
    stored = [uid for path in results.glob("store/duo/fmri/temporal/*.arrow") for uid in Store(path).uids]
    assert sorted(stored) == sorted(cohort.loc[cohort["has_fmri"], "uid"])


def test_gpu_rules_and_no_others_ran_on_the_gpu_node(cluster, disturbed):
    for job in cluster.jobs():
        on_gpu = job["rule"] in GPU_RULES
        assert job["Partition"] == ("gpu" if on_gpu else "cpu"), job
        assert ("gres:gpu:1" in job.get("TresPerJob", "") + job.get("TresPerNode", "")) == on_gpu, job
        assert job["NodeList"].startswith((job["Partition"], "(null)")), job
    ran = {job["rule"] for job in cluster.jobs() if job["JobState"] == "COMPLETED"}
    assert ran >= {*GPU_RULES, "atlas", "simulate_dataset", "fmri_shard", "eeg_shard", "evaluate_task", "statistics_task"}


def test_small_jobs_share_one(cluster, disturbed):
    grouped = Counter(job["Comment"].split("_")[1] for job in cluster.jobs() if job["rule"].split("_")[0] in GROUPS)
    assert grouped == {"cohort": 1, "domains": 1, "pages": 3, "report": 1}


def test_a_job_with_too_little_memory_is_tried_again_with_more(cluster, disturbed):
    first, second = jobs_of(cluster, "atlas")
    assert first["JobState"] in ("OUT_OF_MEMORY", "FAILED")  # without cgroups, the second
    assert "exceeded memory limit" in Path(first["StdOut"]).read_text()
    assert second["JobState"] == "COMPLETED"
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("100M", "10000M")


def test_a_cancelled_job_is_made_again(cluster, disturbed):
    assert [job["JobState"] for job in jobs_of(cluster, "fmri_shard")] == ["CANCELLED", "COMPLETED"]


def test_a_node_that_dies_is_survived(cluster, disturbed):
    assert len(jobs_of(cluster, "finetune_fold", "NODE_FAIL")) == 1
    assert len(jobs_of(cluster, "finetune_fold", "COMPLETED")) == 2


def test_training_that_its_time_limit_cuts_goes_on_where_it_was(cluster, cut):
    checkout, run = cut
    text, _ = run.communicate(timeout=600)
    assert run.returncode == 0, text[-4000:]
    own = [(job["JobState"], job["TimeLimit"]) for job in cluster.jobs() if job["WorkDir"] == str(checkout.root)]
    assert own == [("TIMEOUT", "00:01:00"), ("COMPLETED", "00:02:00")]
    log = (checkout.root / "results/stop/logs/pretrain/fold-0.log").read_text()
    assert re.match(r"goes on from step [1-9]", log)
    assert "epoch 39:" in log
    assert "epoch 0:" not in log
    assert not (checkout.root / "results/stop/pretrain/fold-0/checkpoints").exists()


def test_two_nodes_train_as_one_process_does(cluster, tmp_path):
    """A process on each GPU node, started by the rule's srun. Without dropout and views, which ranks draw for themselves, the
    losses are those of one process.
    """
    two = study(nodes=2)
    still = {"model": {**SMALL, "dropout": 0.0}, "augment": dict.fromkeys(Augmentation.__dataclass_fields__, 0.0)}
    two["pretrain"] |= {"epochs": 2, **still}
    checkout = before_training(tmp_path / "two", two)
    run = start(checkout, cluster, "config/studies/stop.yaml", TARGET, "--allowed-rules", "pretrain_fold")
    text, _ = run.communicate(timeout=600)
    assert run.returncode == 0, text[-4000:]
    (job,) = [job for job in cluster.jobs() if job["WorkDir"] == str(checkout.root)]
    assert (job["NodeList"], job["NumNodes"], job["TresPerNode"]) == ("gpu[1-2]", "2", "gres:gpu:1")
    results = checkout.root / "results/stop"
    assert "MEMBER: 2/2" in (results / "logs/pretrain/fold-0.log").read_text()
    pretrain.run(
        stores=results / "store", cohort=results / "cohort/subjects.parquet", splits=results / "splits/splits.tsv", fold=0,
        options=PretrainOptions(**{**two["pretrain"], "engine": {}}), out=tmp_path / "one",
        history=tmp_path / "one/history.tsv", threads=1,
    )  # fmt: skip
    both, one = (read_tsv(folder / "history.tsv") for folder in (results / "pretrain/fold-0", tmp_path / "one"))
    assert list(both["split"]) == list(one["split"]) == ["train", "val"] * 2
    np.testing.assert_allclose(both["total"], one["total"], rtol=2e-3)


def test_the_profile_names_rules_that_there_are():
    profile = yaml.safe_load((PROJECT / "slurm/config.yaml").read_text())
    command = [sys.executable, "-m", "snakemake", "--list-rules"]
    known = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert set(profile["groups"]) <= {line.split()[0] for line in known.splitlines()}
    assert set(profile["groups"].values()) == GROUPS >= set(profile["group-components"])
