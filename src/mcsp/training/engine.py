"""Lightning as both trainings use it: quiet, seeded per step, resumable at any step, the loss history kept."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from pickle import UnpicklingError

import lightning as L
import pandas as pd
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mcsp.errors import McspError
from mcsp.options.training import EngineOptions
from mcsp.store import atomic_path
from mcsp.training.feed import Feed

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="lightning")


class History(Callback):
    """Mean of every logged term per epoch and split; saved in the checkpoint, so that a resumed run has all of it.

    Values stay on the device until they are asked for: reading one would make each step wait for it.
    """

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self._sums: dict[str, dict[str, list[float]]] = {"train": {}, "val": {}}
        self._waiting: list[tuple[str, dict[str, int], torch.Tensor]] = []

    def add(self, split: str, terms: dict[str, torch.Tensor], sizes: dict[str, int]) -> None:
        """Add one batch; `sizes`: subjects behind each term, by which its mean is weighted."""
        device = next(iter(terms.values())).device
        values = torch.stack([value.detach().to(device) for value in terms.values()])
        self._waiting.append((split, {name: sizes[name] for name in terms}, values))

    def _read(self) -> None:
        for split, sizes, values in self._waiting:
            for (name, size), value in zip(sizes.items(), values.double().tolist()):
                if size:
                    total, count = self._sums[split].get(name, (0.0, 0.0))
                    self._sums[split][name] = [total + value * size, count + size]
        self._waiting.clear()

    def close(self, epoch: int, lr: float) -> dict[str, dict[str, float]]:
        """End an epoch: its means by split."""
        self._read()
        means = {split: {k: total / n for k, (total, n) in sums.items()} for split, sums in self._sums.items() if sums}
        self.rows += [{"epoch": epoch, "split": split, "lr": lr, **own} for split, own in means.items()]
        self._sums = {"train": {}, "val": {}}
        return means

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        self._read()
        return {"rows": self.rows, "sums": self._sums}

    def load_state_dict(self, state: dict) -> None:
        """From a checkpoint."""
        self.rows, self._sums = list(state["rows"]), state["sums"]

    def table(self) -> pd.DataFrame:
        """Long table: epoch, split, lr, one column per term."""
        return pd.DataFrame(self.rows)


class Trained(L.LightningModule):
    """What both trainings share: gradients are clipped here, as Lightning refuses to where the optimiser is fused."""

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, **_
    ) -> None:
        """Lightning's hook, between the backward pass and the optimiser's step."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints are written as all files here, beside their name and then renamed. Lightning's own pass through the temporary
    directory: where that is another disk, the last step is a copy, which a kill may cut.
    """

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options: object = None) -> None:
        """Write `checkpoint` at `path`, atomically."""
        with atomic_path(path) as part, open(part, "wb") as file:
            torch.save(checkpoint, file)


class Resume(Checkpoint):
    """Save all that training needs to go on, every so many minutes and when SIGTERM comes: weights, optimiser, schedule,
    history and the feed's position. Random numbers are drawn from (seed, step), so they need no saving.

    Never after an epoch's last batch, whose validation is still to come, but when the epoch has ended.
    """

    def __init__(self, path: Path, minutes: float):
        self.path, self.seconds, self.saved = path, 60 * minutes, time.monotonic()
        self.told = False

    def _tell(self, *_: object) -> None:
        self.told = True

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """SIGTERM waits until a checkpoint can be: Lightning's handler ends validation at once, and the epoch would be lost.
        Lightning puts back what was before when training ends.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._tell)

    def _save_if_due(self, trainer: L.Trainer) -> None:
        told = self.told or trainer.received_sigterm
        due = told or time.monotonic() - self.saved >= self.seconds
        if trainer.world_size > 1:  # saving is done together, and clocks differ; whoever is told tells all
            told = trainer.strategy.reduce_boolean_decision(told, all=False)
            due = told or trainer.strategy.broadcast(due)
        if due:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
        if told:
            raise SIGTERMException

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Within an epoch."""
        if not trainer.is_last_batch:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """At its end; Lightning calls this after the module has closed the epoch."""
        self._save_if_due(trainer)


def step_seed(*numbers: int) -> int:
    """Seed of one step's random numbers, from the run's seed and the step's number."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "big")


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then a half cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def fingerprint(*parts: object) -> str:
    """Short hash of what a checkpoint must agree with to be resumed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _together(engine: EngineOptions) -> dict:
    """The trainer's arguments for one process, or for several that share each batch.

    Raises McspError when several nodes are wanted and nothing started a process for each of their GPUs.
    """
    on_slurm = engine.nodes > 1 and SLURMEnvironment.detect()
    wanted, started = engine.gpus * engine.nodes, int(os.environ.get("SLURM_NTASKS" if on_slurm else "WORLD_SIZE", 1))
    if engine.nodes > 1 and started != wanted:
        raise McspError(
            f"engine.nodes = {engine.nodes}, gpus = {engine.gpus}: {started} process(es) were started instead of {wanted}: "
            "start one for each GPU with srun or torchrun"
        )
    if not on_slurm and engine.nodes == 1:
        environment = LightningEnvironment()  # starts its own processes, also within a Slurm job
    else:
        environment = SLURMEnvironment(auto_requeue=False) if on_slurm else TorchElasticEnvironment()
    # a rank's share of a batch may hold a modality that others lack: its encoders then have no gradient there
    strategy = DDPStrategy(find_unused_parameters=True) if wanted > 1 else "auto"
    return {"devices": engine.gpus, "num_nodes": engine.nodes, "strategy": strategy, "plugins": [environment, WholeFiles()]}


def _check_gpus(engine: EngineOptions) -> None:
    found = torch.cuda.device_count()
    if 0 < found < engine.gpus:
        raise McspError(f"engine.gpus = {engine.gpus}: this machine has {found}")


def make_trainer(epochs: int, callbacks: list[Callback], engine: EngineOptions) -> L.Trainer:
    """A quiet trainer that writes nothing by itself."""
    _check_gpus(engine)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it, and filling costs a pass over each batch
    return L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        **_together(engine),
        precision="bf16-mixed" if engine.precision == "bf16" else "32-true",
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        gradient_clip_val=engine.clip or None,
        num_sanity_val_steps=0,
        deterministic=engine.deterministic,
    )


def _step_of(path: Path) -> int:
    """Steps behind a checkpoint. Raises McspError when it is damaged, or holds more than tensors and plain values."""
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"]
    except (OSError, RuntimeError, EOFError, KeyError, UnpicklingError) as error:
        text = " ".join(str(error).split())[:120]
        raise McspError(f"{path}: not a whole checkpoint of mcsp ({text}): delete it, and training starts anew") from error


def fit(
    module: L.LightningModule,
    train: Feed,
    val: Feed | None,
    *,
    epochs: int,
    folder: Path,
    key: str,
    callbacks: list[Callback],
    threads: int,
    engine: EngineOptions,
) -> bool:
    """Run Lightning. A checkpoint lies in `folder`; one with the same `key` is resumed. It is removed when training has
    ended. Returns whether this process is the one that writes results.

    Raises McspError when the machine has not what `engine` wants, or SIGTERM came (after a checkpoint).
    """
    torch.set_num_threads(threads)
    path = folder / f"{key}.ckpt"
    trainer = make_trainer(epochs, [*callbacks, Resume(path, engine.checkpoint_minutes)], engine)
    for feed in filter(None, (train, val)):
        feed.device = trainer.strategy.root_device
    found = path.is_file()
    if found:
        print(f"goes on from step {_step_of(path)} of {path}", flush=True)
    if engine.compile:
        module.model.compile_parts()
    try:
        trainer.fit(module, train, val, ckpt_path=str(path) if found else None, weights_only=True)
    except SIGTERMException:
        raise McspError(
            f"stopped by SIGTERM in epoch {trainer.current_epoch}: run it again, it goes on from {folder}"
        ) from None
    module.cpu()
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        shutil.rmtree(folder, ignore_errors=True)
    return trainer.is_global_zero
