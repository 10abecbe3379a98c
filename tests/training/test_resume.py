"""Stopped at any moment, a run goes on and ends with the same bits as the run that was not stopped."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import lightning as L
import pytest
import torch

from mcsp.errors import McspError
from mcsp.options.training import EngineOptions, FinetuneOptions
from mcsp.training import engine, finetune, pretrain
from tests.conftest import PROJECT
from tests.training.test_finetune import tune
from tests.training.test_pretrain import train

ALWAYS = EngineOptions(checkpoint_minutes=0)


class Killed(BaseException):
    pass


def die():
    raise Killed


def kill_at(monkeypatch, stage, hook, call, kill=die):
    """Do `kill` when Lightning calls a hook for the `call`-th time."""
    seen = []

    def hit(*_):
        seen.append(1)
        if len(seen) == call:
            kill()

    callback, fit = type("Kill", (L.Callback,), {hook: hit})(), engine.fit
    monkeypatch.setattr(stage, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[*callbacks, callback], **k))


@pytest.fixture
def often(options):
    """Four batches per epoch, a checkpoint after each."""
    return options.model_copy(update={"epochs": 3, "batch_size": 10, "engine": ALWAYS})


@pytest.fixture
def whole(stored_study, frozen, often, tmp_path):
    """The run that was not stopped: its weights."""
    return train(stored_study, frozen, often, tmp_path / "whole")


@pytest.mark.parametrize(
    ("hook", "call"),
    [
        ("on_train_batch_start", 2),  # within the first epoch
        ("on_before_optimizer_step", 7),
        ("on_train_batch_start", 5),  # an epoch's first batch
        ("on_train_batch_end", 8),  # an epoch's last batch: its validation is still to come
        ("on_validation_batch_end", 2),
        ("on_train_epoch_start", 3),
        ("on_train_epoch_end", 2),
        ("on_train_end", 1),
    ],
)
def test_stopped_anywhere_it_goes_on(stored_study, frozen, often, whole, tmp_path, monkeypatch, hook, call):
    out = tmp_path / "stopped"
    kill_at(monkeypatch, pretrain, hook, call)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # from another disk, a checkpoint would be copied: a kill may cut that
    with pytest.raises(Killed):
        train(stored_study, frozen, often, out)
    assert [p.suffix for p in (out / "checkpoints").iterdir()] == [".ckpt"]
    assert not (out / "model.safetensors").exists()
    steps = torch.load(next((out / "checkpoints").iterdir()), weights_only=True)["global_step"]
    assert steps > 0
    monkeypatch.undo()
    assert train(stored_study, frozen, often, out) == whole
    assert (out / "history.tsv").read_bytes() == (tmp_path / "whole/history.tsv").read_bytes()
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize(
    ("hook", "call", "steps"),
    [
        ("on_train_batch_start", 2, 2),
        ("on_train_batch_start", 4, 4),  # an epoch's last batch
        ("on_train_batch_end", 4, 4),
        ("on_validation_start", 1, 4),
        ("on_validation_batch_end", 1, 4),  # not the last of its batches
        ("on_validation_end", 2, 8),
    ],
)
def test_sigterm_saves_the_step_it_came_in(stored_study, frozen, often, whole, tmp_path, monkeypatch, hook, call, steps):
    """Whenever it comes, also while an epoch is validated: the epoch is not lost."""
    out, rarely = tmp_path / "stopped", often.model_copy(update={"engine": EngineOptions(checkpoint_minutes=60)})
    before = signal.getsignal(signal.SIGTERM)
    kill_at(monkeypatch, pretrain, hook, call, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(McspError, match="stopped by SIGTERM in epoch"):
        train(stored_study, frozen, rarely, out)
    assert signal.getsignal(signal.SIGTERM) == before
    assert torch.load(next((out / "checkpoints").iterdir()), weights_only=True)["global_step"] == steps
    monkeypatch.undo()
    assert train(stored_study, frozen, rarely, out) == whole
    assert (out / "history.tsv").read_bytes() == (tmp_path / "whole/history.tsv").read_bytes()


def test_finetuning_goes_on_too(stored_study, frozen, options, tmp_path, monkeypatch):
    train(stored_study, frozen, options.model_copy(update={"epochs": 0}), tmp_path / "base")
    monkeypatch.setattr(finetune, "EngineOptions", lambda: ALWAYS)
    settings = FinetuneOptions(epochs=4, hidden=8, batch_size=8)
    first = tune(stored_study, frozen, tmp_path / "base", tmp_path / "a", settings)
    with monkeypatch.context() as patch:
        kill_at(patch, finetune, "on_train_batch_start", 9)
        with pytest.raises(Killed):
            tune(stored_study, frozen, tmp_path / "base", tmp_path / "b", settings)
    assert tune(stored_study, frozen, tmp_path / "base", tmp_path / "b", settings) == first
    assert (tmp_path / "b/history.tsv").read_bytes() == (tmp_path / "a/history.tsv").read_bytes()


def test_other_options_do_not_go_on_from_a_foreign_checkpoint(stored_study, frozen, often, tmp_path, monkeypatch):
    kill_at(monkeypatch, pretrain, "on_train_batch_start", 7)
    with pytest.raises(Killed):
        train(stored_study, frozen, often, tmp_path / "a")
    monkeypatch.undo()
    other = often.model_copy(update={"seed": 5})
    assert train(stored_study, frozen, other, tmp_path / "a") == train(stored_study, frozen, other, tmp_path / "b")


def start(study, frozen, options, out):
    """`mcsp pretrain` in a process of its own."""
    arguments = {
        "stores": study.stores, "cohort": study.cohort, "splits": frozen, "fold": 0, "options": options.model_dump_json(),
        "out": out, "history": out / "history.tsv", "threads": 1,
    }  # fmt: skip
    command = [sys.executable, str(PROJECT / "src/mcsp"), "pretrain", *(f"--{k}={v}" for k, v in arguments.items())]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_change(path, before, run):
    """Wait until another checkpoint was written."""
    deadline = time.monotonic() + 120
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return path.stat().st_mtime_ns


@pytest.mark.slow
def test_killed_by_the_system_and_stopped_by_slurm(stored_study, frozen, options, tmp_path):
    """SIGKILL twice, then SIGTERM, as Slurm sends it at the time limit: each goes on where the one before had come."""
    options = options.model_copy(update={"epochs": 12, "batch_size": 4, "engine": ALWAYS})
    whole = train(stored_study, frozen, options, tmp_path / "whole")
    out, steps = tmp_path / "killed", []
    path = None
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        run, changed = start(stored_study, frozen, options, out), path.stat().st_mtime_ns if path else 0
        while path is None and run.poll() is None:
            path = next(out.glob("checkpoints/[!.]*.ckpt"), None)
            time.sleep(0.02)
        for _ in range(3):
            changed = wait_for_change(path, changed, run)
        os.kill(run.pid, number)
        _, text = run.communicate()
        assert run.returncode == (-9 if number == signal.SIGKILL else 1), text
        steps.append(torch.load(path, weights_only=True)["global_step"])
    assert 0 < steps[0] < steps[1] < steps[2]
    assert "stopped by SIGTERM" in text
    assert "Traceback" not in text
    last = start(stored_study, frozen, options, out)
    assert last.wait() == 0, last.communicate()
    assert (out / "model.safetensors").read_bytes() == whole
    assert (out / "history.tsv").read_bytes() == (tmp_path / "whole/history.tsv").read_bytes()
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "history.json", "history.tsv", "model.safetensors"]


def test_a_checkpoint_with_code_in_it_is_not_run(stored_study, frozen, often, tmp_path, monkeypatch):
    kill_at(monkeypatch, pretrain, "on_train_batch_start", 3)
    with pytest.raises(Killed):
        train(stored_study, frozen, often, tmp_path / "a")
    monkeypatch.undo()
    path = next((tmp_path / "a/checkpoints").iterdir())

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(McspError, match="not a whole checkpoint"):
        train(stored_study, frozen, often, tmp_path / "a")
    assert not (tmp_path / "evil").exists()
