"""Stores and tables: whole or not there, equal bytes for equal content."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest

from mcsp.errors import McspError
from mcsp.store import (
    DAY,
    HOST,
    Store,
    StoreWriter,
    atomic_path,
    copy_file,
    read_json,
    read_table,
    read_tsv,
    write_json,
    write_table,
    write_tsv,
)

META = {"units": "z", "names": ["a", "b"], "code": "x"}


def test_store_round_trip_is_exact_and_mapped(tmp_path):
    rows = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    with StoreWriter(tmp_path / "s.arrow", (2, 5), META) as writer:
        for i, row in enumerate(rows):
            writer.add(f"d/sub-{i}", row, i + 1)
    store = Store(tmp_path / "s.arrow")
    assert store.uids == ["d/sub-0", "d/sub-1", "d/sub-2"]
    assert store.n_valid == [1, 2, 3]
    assert store.meta == META
    assert store.shape == (2, 5)
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(store.row(i), row)
        assert not store.row(i).flags.owndata  # a view of the file, not a copy
        assert not store.row(i).flags.writeable


def test_empty_store_is_whole(tmp_path):
    with StoreWriter(tmp_path / "s.arrow", (2, 5), META):
        pass
    store = Store(tmp_path / "s.arrow")
    assert len(store) == 0
    assert store.shape == (2, 5)


def test_same_content_same_bytes(tmp_path):
    for name in ("a", "b"):
        with StoreWriter(tmp_path / f"{name}.arrow", (2,), META) as writer:
            writer.add("d/sub-1", np.array([1.0, 2.0]), 2)
        write_table(pd.DataFrame({"uid": ["x"], "v": [1.5]}), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(("tensor", "message"), [(np.zeros(3), "shape"), (np.array([1.0, np.nan]), "finite")])
def test_bad_rows_are_refused_and_leave_no_file(tmp_path, tensor, message):
    with pytest.raises(ValueError, match=message), StoreWriter(tmp_path / "s.arrow", (2,), META) as writer:
        writer.add("d/sub-1", tensor, 1)
    assert list(tmp_path.iterdir()) == []


def test_cut_store_is_named(tmp_path):
    path = tmp_path / "s.arrow"
    with StoreWriter(path, (2,), META) as writer:
        writer.add("d/sub-1", np.zeros(2), 1)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(McspError, match=r"s\.arrow: not a whole Arrow store"):
        Store(path)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_killed_writer_leaves_no_file_that_looks_whole(tmp_path):
    path = tmp_path / "s.arrow"
    code = f"""
        import os, signal, numpy as np
        from mcsp.store import StoreWriter
        with StoreWriter({str(path)!r}, (2,), {META!r}) as writer:
            writer.add("d/sub-1", np.zeros(2), 1)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()


def test_tsv_is_bids_style(tmp_path):
    table = pd.DataFrame({"uid": ["d/sub-01"], "age": [np.nan]})
    write_tsv(table, tmp_path / "t.tsv", {"uid": "who", "age": "years"})
    assert (tmp_path / "t.tsv").read_text() == "uid\tage\nd/sub-01\tn/a\n"
    assert '"Description": "years"' in (tmp_path / "t.json").read_text()
    assert read_tsv(tmp_path / "t.tsv")["age"].isna().all()
    with pytest.raises(ValueError, match="no description for column"):
        write_tsv(table, tmp_path / "u.tsv", {"uid": "who"})


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_parquet_round_trip(tmp_path):
    table = pd.DataFrame({"uid": ["a", "b"], "y": [0, 1], "p": [0.25, np.nan]})
    write_table(table, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), table, check_dtype=False)


def test_a_copy_is_a_file_of_its_own(tmp_path):
    (tmp_path / "a").write_text("x")
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"
    assert not (tmp_path / "a").samefile(tmp_path / "b")
    assert not list(tmp_path.glob(".part-*"))


def test_what_a_killed_writer_left_is_cleared_away_and_nobody_elses(tmp_path):
    """Of this machine by the process that is no more, of another one after a day."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [f".part-{HOST}-{dead.pid}.a.tsv", ".part-other-1.a.tsv"]
    (tmp_path / left[0]).mkdir()
    (tmp_path / left[1]).write_text("half")
    os.utime(tmp_path / left[1], (time.time() - 2 * DAY,) * 2)
    kept = [f".part-{HOST}-{os.getppid()}.a.tsv", ".part-other-2.a.tsv", f".part-{HOST}-{dead.pid}.b.a.tsv"]
    for name in kept:
        (tmp_path / name).write_text("half")
    with atomic_path(tmp_path / "a.tsv") as temporary:
        temporary.write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "a.tsv"])


def test_two_processes_may_write_one_file_at_once(tmp_path):
    """Shards of a dataset write what belongs to all of it side by side."""
    code = "import sys; from mcsp.store import write_json\nfor i in range(300): write_json(sys.argv[1], [i] * 1000)"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "all.json")]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert read_json(tmp_path / "all.json") == [299] * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["all.json"]


SMALL_FILES = """
import resource, sys
import numpy as np, pandas as pd, torch
from mcsp.store import StoreWriter, write_table
from mcsp.cli import app, main

@app.command()
def fill(what: str, path: str):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    if what == "store":
        with StoreWriter(path, (100, 100), {}) as writer:
            writer.add("d/sub-1", np.zeros((100, 100)), 1)
    elif what == "footer":  # all rows fit, the end does not
        with StoreWriter(path, (4_800,), {}) as writer:
            writer.add("d/sub-1", np.zeros(4_800), 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (19_900, 19_900))
    elif what == "table":
        write_table(pd.DataFrame({"x": np.random.default_rng(0).normal(size=10_000)}), path)
    elif what == "checkpoint":
        from mcsp.training.engine import WholeFiles
        WholeFiles().save_checkpoint({"w": torch.zeros(100, 100)}, path)
    else:
        from mcsp.model.mcsp import _Saved
        model = _Saved()
        model.config, model.layer = {}, torch.nn.Linear(100, 100)
        model.save_pretrained(path)

main()
"""


@pytest.mark.parametrize("what", ["store", "footer", "table", "model", "checkpoint"])
def test_no_room_on_the_disk_is_one_line_and_leaves_nothing(tmp_path, what):
    out = tmp_path / "here" / "out"
    done = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, "fill", what, str(out)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*File too large: raise the limit on the size of files \(ulimit -f\)\n", done.stderr)
    assert [p for p in (tmp_path / "here").rglob("*") if p.is_file()] == []


def test_what_a_recording_does_not_hold_is_nan_and_nothing_else_is(tmp_path):
    with StoreWriter(tmp_path / "s.arrow", (2,), {}) as writer:
        writer.add("a", np.array([1.0, 2.0]), 1)
        writer.add("b", np.array([1.0, np.nan]), 1, top_hz=45.0)
        writer.add("d", np.array([np.nan, 1.0]), 1, frames=np.array([3]), lacks=True)
        for tensor, top in (([1.0, np.nan], np.inf), ([np.nan, np.nan], 45.0), ([1.0, np.inf], 45.0)):
            with pytest.raises(ValueError, match="c: values that are not finite"):
                writer.add("c", np.array(tensor), 1, top_hz=top)
    store = Store(tmp_path / "s.arrow")
    assert (store.uids, store.top_hz) == (["a", "b", "d"], [np.inf, 45.0, np.inf])
    assert [store.frames(i) for i in (0, 1)] == [None, None]
    assert store.frames(2).tolist() == [3]
    assert np.isnan(store.row(1)).tolist() == [False, True]
