"""Two processes with half a batch each are one process with the whole batch."""

import functools
import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mcsp.errors import McspError
from mcsp.model.augment import Augmentation
from mcsp.model.batch import Batch
from mcsp.model.losses import LossWeights, mcsp_losses
from mcsp.model.mcsp import MCSP
from mcsp.options.training import EngineOptions, PretrainOptions
from mcsp.store import read_tsv
from mcsp.training import data
from mcsp.training.data import ABSENT, PairedSampler
from mcsp.training.engine import make_trainer
from mcsp.training.together import everyones
from tests.conftest import PROJECT
from tests.model.test_model import SHAPES, SIZES
from tests.training.test_feed import subjects  # noqa: F401
from tests.training.test_pretrain import train

SHARES = {0: [0, 2, 4, 5], 1: [1, 3, ABSENT, ABSENT]}  # the second rank has fewer subjects, and no EEG


class Loss(nn.Module):
    """Embeddings of a share of the batch, and all terms of everybody's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = MCSP({"architecture": {**SIZES, "dropout": 0.0, "shapes": SHAPES}})

    def forward(self, batch, view):
        z, other = self.model(batch)[1], self.model(view)[1]
        (z, other), present = everyones([z, other], batch.present)
        return mcsp_losses(z, other, present, LossWeights())


def six_subjects():
    generator = torch.Generator().manual_seed(1)
    x = {tuple(name.split("/")): torch.rand(7, *shape, generator=generator) for name, shape in SHAPES.items()}
    for key, value in x.items():
        if key[1] == "spatial":
            x[key] = value + value.transpose(-1, -2)
    fmri, eeg = torch.tensor([1, 1, 1, 1, 1, 1, 0]).bool(), torch.tensor([1, 0, 1, 0, 1, 1, 0]).bool()
    n_valid = {"fmri": 20 * fmri.long(), "eeg": 7 * eeg.long()}
    return Batch(x, {"fmri": fmri, "eeg": eeg}, n_valid)  # the last one is nobody


def view_of(batch):
    return Batch({k: v * 1.3 + 0.05 * v.flip(0) for k, v in batch.x.items()}, batch.present, batch.n_valid)


def gradients(net):
    return {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}


def one_rank(rank, folder):
    """What each process does: its share, through DDP."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    batch, rows = six_subjects(), torch.tensor(SHARES[rank])
    view = view_of(batch)
    net = nn.parallel.DistributedDataParallel(Loss(), find_unused_parameters=True)
    terms = net(batch.rows(rows), view.rows(rows))
    terms["total"].backward()
    torch.save({"terms": {k: v.detach() for k, v in terms.items()}, "grads": gradients(net.module)}, f"{folder}/{rank}.pt")
    dist.barrier()  # who leaves early can leave the other waiting
    dist.destroy_process_group()


def test_same_loss_and_gradients_as_one_process_with_the_joined_batch(tmp_path):
    torch.multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)
    net, batch = Loss(), six_subjects()
    view = view_of(batch)
    expected = net(batch.rows(slice(0, 6)), view.rows(slice(0, 6)))
    expected["total"].backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert set(found["terms"]) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found["terms"][name], value.detach(), rtol=1e-5, atol=1e-6)
        for name, gradient in gradients(net).items():
            torch.testing.assert_close(
                found["grads"][name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
            )
    assert max(g.abs().max() for g in gradients(net).values()) > 0.01


def test_alone_nothing_is_exchanged_or_copied():
    part, present = {("fmri", "spatial"): torch.ones(2, 3)}, {"fmri": torch.ones(2).bool()}
    (found,), mask = everyones([part], present)
    assert found is part
    assert mask is present


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_ranks_are_equal_in_size_and_join_to_the_batches_of_one(subjects, monkeypatch, world):  # noqa: F811
    alone = list(PairedSampler(subjects.has, 10, 5))
    shares = []
    for rank in range(world):
        monkeypatch.setattr(data, "rank_and_world", functools.partial(lambda r: (r, world), rank))
        shares.append(list(PairedSampler(subjects.has, 10, 5)))
    for batch, *own in zip(alone, *shares):
        assert len({len(share) for share in own}) == 1
        joined = [i for share in own for i in share if i != ABSENT]
        assert sorted(joined) == sorted(batch)


STILL = dict.fromkeys(Augmentation.__dataclass_fields__, 0.0)


def test_two_processes_train_as_one_does(stored_study, frozen, options, tmp_path):
    """`gpus: 2` on a machine without any GPU is two processes. Without dropout and views, which ranks draw for themselves,
    the losses are those of one process.
    """
    model = options.model.model_copy(update={"dropout": 0.0})
    still = PretrainOptions(**{**options.model_dump(), "model": model.model_dump(), "augment": STILL, "epochs": 2})
    train(stored_study, frozen, still, tmp_path / "one")
    two, out = still.model_copy(update={"engine": EngineOptions(gpus=2)}), tmp_path / "two"
    arguments = {
        "stores": stored_study.stores, "cohort": stored_study.cohort, "splits": frozen, "fold": 0,
        "options": two.model_dump_json(), "out": out, "history": out / "history.tsv", "threads": 1,
    }  # fmt: skip
    command = [sys.executable, str(PROJECT / "src/mcsp"), "pretrain", *(f"--{k}={v}" for k, v in arguments.items())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stderr
    one, both = (read_tsv(tmp_path / name / "history.tsv") for name in ("one", "two"))
    assert list(one["split"]) == list(both["split"])
    torch.testing.assert_close(torch.tensor(both["total"].to_numpy()), torch.tensor(one["total"].to_numpy()), rtol=2e-3, atol=0)
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "history.json", "history.tsv", "model.safetensors"]


def test_nodes_without_processes_are_one_line(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(McspError, match=r"1 process\(es\) were started instead of 4: start one for each GPU"):
        make_trainer(1, [], EngineOptions(gpus=2, nodes=2))


def test_gpus_that_are_not_there_are_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(McspError, match=r"engine.gpus = 4: this machine has 1"):
        make_trainer(1, [], EngineOptions(gpus=4))
