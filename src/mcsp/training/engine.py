"""Lightning as both trainings use it: quiet, seeded per step, resumable, the loss history kept."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import sys
import warnings
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="lightning")


class History(Callback):
    """Mean of every logged term per epoch and split; saved in the checkpoint, so that a resumed run has all of it."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self._sums: dict[str, dict[str, float]] = {"train": {}, "val": {}}
        self._counts: dict[str, dict[str, int]] = {"train": {}, "val": {}}

    def add(self, split: str, terms: dict[str, torch.Tensor], sizes: dict[str, int]) -> None:
        """Add one batch; `sizes`: subjects behind each term, by which its mean is weighted."""
        for name, value in terms.items():
            if sizes[name]:
                self._sums[split][name] = self._sums[split].get(name, 0.0) + float(value.detach()) * sizes[name]
                self._counts[split][name] = self._counts[split].get(name, 0) + sizes[name]

    def close(self, epoch: int, lr: float) -> dict[str, dict[str, float]]:
        """End an epoch: its means by split."""
        means = {}
        for split, sums in self._sums.items():
            if sums:
                means[split] = {name: value / self._counts[split][name] for name, value in sums.items()}
                self.rows.append({"epoch": epoch, "split": split, "lr": lr, **means[split]})
            self._sums[split], self._counts[split] = {}, {}
        return means

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        """From a checkpoint."""
        self.rows = list(state["rows"])

    def table(self) -> pd.DataFrame:
        """Long table: epoch, split, lr, one column per term."""
        return pd.DataFrame(self.rows)


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


def fit(
    module: L.LightningModule, train, val, *, epochs: int, folder: Path, key: str, callbacks: list[Callback], threads: int
) -> None:
    """Run Lightning. A checkpoint of every few epochs lies in `folder`; one with the same `key` is resumed. They are
    removed when training has ended.
    """
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    keep = ModelCheckpoint(
        dirpath=folder, filename=key, every_n_epochs=max(1, epochs // 10), save_top_k=1, enable_version_counter=False
    )
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        callbacks=[*callbacks, keep],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        deterministic="warn",
    )
    last = folder / f"{key}.ckpt"
    trainer.fit(module, train, val, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    module.cpu()
    shutil.rmtree(folder, ignore_errors=True)
