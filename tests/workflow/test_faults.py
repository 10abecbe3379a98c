"""What can go wrong around a study: processes that die, disks, two runs at once, files that change."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcsp.store import read_tsv
from tests.workflow.conftest import PROJECT
from tests.workflow.kills import trial

pytestmark = pytest.mark.slow

CLUSTER = PROJECT / "tests/workflow/cluster.yaml"
NASTY = "a b $(touch pwned) `touch pwned` 'q' \"w\" {x} ; touch pwned\n& é"


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(tmp_path):
    hit, different = trial(tmp_path, CLUSTER, kills=5, seed=1, targets=["connectivity", "spectra", "finetune"])
    assert different == []
    assert hit.total() == 5


def nasty_dataset(root: Path) -> None:
    """A BIDS dataset in a directory, and with subjects, whose names a shell would obey."""
    for label in ("01", "02", "$(touch pwned)", "x;touch pwned", "a'b\"c", "new\nline"):
        (root / f"sub-{label}" / "eeg").mkdir(parents=True)
        (root / f"sub-{label}" / "eeg" / f"sub-{label}_task-rest_eeg.edf").write_bytes(b"")
    rows = "".join(f"sub-{label}\t1\n" for label in ("01", "02", "$(touch pwned)", "x;touch pwned", "a'b\"c"))
    (root / "participants.tsv").write_text(f"participant_id\tdx\n{rows}")


def test_names_never_reach_a_shell(checkout):
    root = checkout.root / NASTY
    nasty_dataset(root)
    dataset = {"kind": "bids", "path": str(root), "modalities": ["eeg"], "n_shards": 1}
    dataset["phenotype"] = {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}}
    study = {"study": "nasty", "title": NASTY, "datasets": {"d": dataset}, "tasks": {"asd": {"case": ["ASD"], "title": NASTY}}}
    (checkout.root / "config/studies/nasty.yaml").write_text(json.dumps(study))
    status = "results/nasty/ingest/d/shard-000.status.tsv"
    checkout.snakemake(status, "check", study="config/studies/nasty.yaml")
    states = read_tsv(checkout.root / status)
    assert states["reason"].str.contains("characters that BIDS does not allow").sum() == 3
    assert set(states["state"]) == {"excluded"}
    assert not list(checkout.root.rglob("pwned*"))


def test_two_runs_at_once(checkout):
    """The second on one study is told so, and how to unlock after a crash; another study is none of its business."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "fmri", "--configfile", "config/studies/tiny.yaml"]
    first = subprocess.Popen(command, cwd=checkout.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(checkout.results.glob("logs/*/*.log")):
            assert first.poll() is None
            time.sleep(0.1)
        second = checkout.snakemake("fmri", check=False)
        assert re.search(r"cannot be locked.*other Snakemake process.*--unlock", second, re.DOTALL)
        assert "Traceback" not in second
        (checkout.root / "config/studies/other.yaml").write_text(CLUSTER.read_text().replace("study: cluster", "study: other"))
        assert "1 of 1 steps (100%) done" in checkout.snakemake("atlas", study="config/studies/other.yaml")
    finally:
        first.terminate()
        first.wait()


def test_a_file_that_changes_between_stages_is_found(checkout):
    checkout.snakemake("results/tiny/ingest/mri/shard-000.recordings.parquet")
    bold = next(checkout.results.glob("bids/mri/derivatives/fmriprep/sub-*/func/*_bold.nii.gz"))
    with open(bold, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    table = "results/tiny/preprocess/mri/shard-000.recordings.parquet"
    text = checkout.snakemake(table, check=False)
    assert "Error in rule preprocess_shard" in text
    log = (checkout.results / "logs/preprocess/mri_000.log").read_text()
    assert re.search(rf"^error: .*{re.escape(bold.name)}: changed since it was ingested: .*--forcerun ingest_shard$", log, re.M)
    checkout.snakemake(table, "--forcerun", "ingest_shard")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk: run as root")
def test_a_full_disk_is_one_line_and_a_rerun_goes_on(checkout):
    """A real one, of a megabyte: half a dataset does not stay, and once there is room the same command goes on."""
    disk = checkout.root / "results"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        text = checkout.snakemake("results/tiny/bids/mri.manifest.tsv", check=False)
        assert "Error in rule simulate_dataset" in text
        last = (checkout.results / "logs/simulate/mri.log").read_text().splitlines()[-1]
        assert re.fullmatch("error: .*No space left on device.*: make room.*", last)
        assert not list(disk.rglob(".part-*"))
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        checkout.snakemake("results/tiny/bids/mri.manifest.tsv")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_directory_that_can_not_be_written_is_one_line(checkout):
    """As a user whom permissions bind: root too, without the capability to pass over them."""
    (checkout.root / "results").mkdir(mode=0o555)
    bound = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
    command = [*bound, sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "config/studies/tiny.yaml"]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"{checkout.root}/results: nothing can be written here: mend its permissions, or run elsewhere" in text
    assert "Traceback" not in text
