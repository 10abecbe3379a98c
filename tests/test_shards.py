"""Shards: a bad recording never stops the others, whatever it does."""

import os
import sys
import time
from functools import partial

import psutil
import pytest

from mcsp.errors import Exclusion
from mcsp.shards import shard_of, work_through, write_status
from mcsp.store import read_tsv
from tests.conftest import PROJECT


def _work(item, slow=0.0):
    if item == "bad":
        raise Exclusion("too short:\n 3 s")
    if item == "odd":
        raise KeyError("surprise")
    time.sleep(slow if item == 0 else 0)
    return item, os.getpid()


@pytest.mark.parametrize("threads", [1, 2])
def test_outcomes_keep_the_order_and_name_the_reason(threads, tmp_path):
    items = [("d/sub-0", 0), ("d/sub-1", "bad"), ("d/sub-2", "odd"), ("d/sub-3", 3)]
    outcomes = list(work_through(partial(_work, slow=0.3), items, threads=threads, label="x"))
    assert [o.key for o in outcomes] == [key for key, _ in items]
    assert [o.state for o in outcomes] == ["done", "excluded", "failed", "done"]
    assert outcomes[1].reason == "too short: 3 s"
    assert outcomes[2].reason == "KeyError: 'surprise'"
    assert [o.value[0] for o in outcomes if o.value] == [0, 3]
    assert (outcomes[0].value[1] != os.getpid()) == (threads > 1)
    write_status(tmp_path / "s.tsv", "fmri", "d", outcomes)
    table = read_tsv(tmp_path / "s.tsv")
    assert list(table["state"]) == ["done", "excluded", "failed", "done"]
    assert table["reason"].isna().tolist() == [True, False, False, True]


def test_workers_end_with_the_job_that_is_killed(tmp_path):
    """One that waits for work, and one that has some."""
    (tmp_path / "job.py").write_text(
        "import time\n"
        "from mcsp.shards import work_through\n"
        "if __name__ == '__main__':\n"
        "    list(work_through(time.sleep, [('a', 0), ('b', 600)], threads=2, label='x'))\n"
    )
    job = psutil.Popen([sys.executable, str(tmp_path / "job.py")], env={**os.environ, "PYTHONPATH": str(PROJECT / "src")})
    workers: list[psutil.Process] = []
    while len(workers) < 2:
        assert job.poll() is None
        workers = [child for child in job.children() if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(0.1)
    time.sleep(2)  # until they have begun
    job.kill()
    job.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_a_new_subject_moves_no_other():
    labels = [f"{i:04d}" for i in range(2000)]
    shards = [shard_of(label, 8) for label in labels]
    assert shards == [shard_of(label, 8) for label in labels]
    counts = [shards.count(i) for i in range(8)]
    assert min(counts) > 180  # 250 expected, sd 15: evenly spread
    assert max(counts) < 320
