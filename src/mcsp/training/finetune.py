"""Fine-tuning of one fold's encoders for a task. Validation subjects choose the epoch; test subjects are not read."""

from __future__ import annotations

import copy
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from mcsp.code import code_version
from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation.splits import guard, load_splits, part, read_record
from mcsp.model.batch import Batch
from mcsp.model.mcsp import MCSP, Classifier
from mcsp.options.tasks import Task
from mcsp.options.training import EngineOptions, FinetuneOptions
from mcsp.store import read_table, write_tsv
from mcsp.training.data import PairedSampler, Subjects
from mcsp.training.engine import History, Trained, cosine_with_warmup, fingerprint, fit, step_seed
from mcsp.training.feed import Feed
from mcsp.training.objective import Objective, check_answers
from mcsp.training.probe import start_at_linear_model
from mcsp.training.record import data_record_with

COLUMNS = {
    "epoch": "Epoch, from 0; -1: the linear model that training starts from",
    "split": "train or val subjects",
    "lr": "Learning rate of the head at the epoch's end",
    "loss": "Class-balanced cross entropy; in regression Huber's, in standard deviations",
    "auroc": "AUROC on validation subjects; n/a for training subjects, or with one class",
    "balanced_accuracy": "Mean recall of the classes among validation subjects; n/a in other tasks",
    "r": "Correlation with the true value over validation subjects; n/a in other tasks",
}


class Labelled(Subjects):
    """Subjects with a label each."""

    def __init__(self, stores: Path, cohort: pd.DataFrame, y: pd.Series, keys):
        super().__init__(stores, cohort, list(y.index), keys)
        self.y = torch.tensor(y.loc[self.uids].to_numpy(), dtype=torch.float32)

    def finish(self, index, batch: Batch) -> tuple[Batch, Tensor]:
        """Batch and labels (B,)."""
        return batch, self.y[list(index)]


def drop_modalities(batch: Batch, probability: float) -> Batch:
    """Hide one of the modalities of subjects that have both, with `probability` each."""
    if len(batch.present) < 2 or probability == 0:
        return batch
    first, second = batch.present
    both = batch.present[first] & batch.present[second]
    draw = torch.rand(len(batch), device=both.device)
    present = {
        first: batch.present[first] & ~(both & (draw < probability / 2)),
        second: batch.present[second] & ~(both & (draw > 1 - probability / 2)),
    }
    return Batch(batch.x, present, batch.n_valid)


class Finetuning(Trained):
    """The loss of the task's objective, on training subjects and, at the end of each epoch, on validation subjects."""

    def __init__(
        self, model: Classifier, options: FinetuneOptions, objective: Objective, steps: int, seed: int, history: History
    ):
        super().__init__()
        self.model, self.options, self.steps, self.seed, self.history = model, options, steps, seed, history
        self.objective = objective
        self.scores: list[tuple[Tensor, Tensor]] = []

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        """Lightning's hook."""
        return batch[0].to(device), batch[1].to(device)

    def training_step(self, batch, index: int) -> Tensor:
        """One step."""
        torch.manual_seed(step_seed(self.seed, 1, self.global_step))
        x, y = batch
        loss = self.objective(self.model(drop_modalities(x, self.options.modality_dropout)), y)
        self.history.add("train", {"loss": loss}, {"loss": len(y)})
        return loss

    def validation_step(self, batch, index: int) -> None:
        """Collect logits of validation subjects."""
        self.scores.append((self.model(batch[0]), batch[1]))

    @torch.no_grad()
    def validate_start(self, batches) -> None:
        """The same for the model as it begins, as epoch -1."""
        self.eval()
        for index, batch in enumerate(batches):
            self.validation_step(self.transfer_batch_to_device(batch, self.device, 0), index)
        self.close_epoch(-1)
        self.train()

    def on_validation_epoch_end(self) -> None:
        """Lightning validates after the epoch's last training step."""
        self.close_epoch(self.current_epoch)

    def close_epoch(self, epoch: int) -> None:
        """Write down what validation subjects gave."""
        logits, y = (torch.cat(parts) for parts in zip(*self.scores))
        self.scores.clear()
        terms = {"loss": self.objective(logits, y), **self.objective.scores(logits, y)}
        self.history.add("val", terms, dict.fromkeys(terms, len(y)))
        self.history.close(epoch, self.optimizers().param_groups[-1]["lr"])

    def configure_optimizers(self):
        """AdamW; the encoders, and projectors that the head reads, learn at a share of the head's rate."""
        scale = self.options.encoder_lr_scale
        head = [p for name, p in self.model.named_parameters() if not name.startswith("backbone.")]
        groups = [{"params": head, "lr": self.options.lr}]
        if scale:
            heard = self.model.backbone.encoders if self.model.reads == "features" else self.model.backbone
            groups.insert(0, {"params": list(heard.parameters()), "lr": self.options.lr * scale})
        optimizer = torch.optim.AdamW(groups, weight_decay=self.options.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_with_warmup(step, self.steps, self.steps // 10 + 1)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class KeepBest(Callback):
    """Keep the weights of the epoch with the lowest validation loss, and stop after `patience` epochs without a better. The
    start, a linear model, is epoch -1.
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.best, self.epoch, self.weights = float("inf"), -1, None

    def on_train_start(self, trainer: L.Trainer, module: Finetuning) -> None:
        """What the start is worth; a resumed run knows it."""
        if trainer.global_step == 0:
            module.validate_start(trainer.val_dataloaders)
            self._compare(-1, trainer, module)

    def on_train_epoch_end(self, trainer: L.Trainer, module: Finetuning) -> None:
        """Runs after the module closed its epoch."""
        self._compare(trainer.current_epoch, trainer, module)

    def _compare(self, epoch: int, trainer: L.Trainer, module: Finetuning) -> None:
        loss = next(row["loss"] for row in reversed(module.history.rows) if row["split"] == "val")
        if loss < self.best:
            self.best, self.epoch = loss, epoch
            self.weights = copy.deepcopy({k: v.cpu() for k, v in module.model.state_dict().items()})
        elif epoch - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        return {"best": self.best, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        """From a checkpoint."""
        self.best, self.epoch, self.weights = state["best"], state["epoch"], state["weights"]


def labelled_parts(
    cohort: pd.DataFrame, splits: pd.DataFrame, fold: int, task: Task, modalities: list[str]
) -> dict[str, pd.Series]:
    """Answers of the training and the validation subjects. Raises McspError when the training part lacks a class, or nobody
    with an answer has what the model reads.
    """
    seen = cohort[cohort[[f"has_{m}" for m in modalities]].any(axis=1)]
    if not set(seen["uid"]) & set(task_labels(cohort, task).index):
        what = " or ".join(modalities)
        raise McspError(f"nobody with an answer has {what}, which this model reads: leave it out (sweep.modalities: false)")
    y = task_labels(seen, task)
    parts = {}
    for name in ("train", "val"):
        parts[name] = y.loc[[uid for uid in part(splits, fold, name) if uid in y.index]]
    check_answers(parts["train"], task, fold)
    if len(parts["val"]) == 0:
        raise McspError(f"fold {fold}: no validation subject of the task: use a larger splits.val_share, or more subjects")
    if parts["val"].nunique() < 2:
        print(f"warning: fold {fold}: validation subjects are of one class: a larger splits.val_share chooses epochs better")
    return parts


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    fold: int,
    seed: int,
    task: Task,
    pretrained: Path,
    options: FinetuneOptions,
    out: Path,
    history: Path,
    threads: int,
) -> None:
    """Fine-tune the model at `pretrained` on the training subjects of `fold`, and write the classifier of the best epoch
    to `out` and its losses to `history`.

    Raises McspError when the model was pre-trained for other folds, or the task has too few subjects.
    """
    torch.set_num_threads(threads)
    table, folds, record = read_table(cohort), load_splits(splits), read_record(splits)
    base = MCSP.from_pretrained(pretrained)
    if base.config["splits"]["sha256"] != record["sha256"] or base.config["fold"] != fold:
        raise McspError(f"{pretrained}: pre-trained for other folds than {splits}: rerun `snakemake pretrain`")
    y = labelled_parts(table, folds, fold, task, sorted({m for m, _ in base.keys}))
    objective = Objective(task, y["train"])
    subjects = {name: Labelled(stores, table, objective.encode(own), base.keys) for name, own in y.items()}
    for name, own in subjects.items():
        guard(folds, fold, own.uids, name)
    config = {
        **base.config,
        **data_record_with(base.config, table, subjects["train"].uids, subjects["val"].uids),
        "head": {"hidden": options.hidden, "dropout": options.dropout, "reads": options.reads, **objective.head},
        "task": task.model_dump(mode="json"),
        "seed": seed,
        "finetune": options.model_dump(mode="json", exclude={"seeds"}),
        "n_train": len(subjects["train"]),
        "n_val": len(subjects["val"]),
        "code": code_version("mcsp.training.finetune"),
    }
    L.seed_everything(step_seed(seed, 0, fold), verbose=False)
    model = Classifier(config)
    model.backbone.load_state_dict(base.state_dict())
    start_at_linear_model(model, subjects["train"], step_seed(seed, 2, fold))
    kept, log = KeepBest(options.patience), History()
    sampler = PairedSampler(subjects["train"].has, options.batch_size, step_seed(seed, fold))
    module = Finetuning(model, options, objective, options.epochs * len(sampler), step_seed(seed, 3, fold), log)
    val = Feed(subjects["val"], list(PairedSampler(subjects["val"].has, options.batch_size, 0)))
    fit(
        module, Feed(subjects["train"], sampler), val, epochs=options.epochs, folder=out / "checkpoints",
        key=fingerprint(config), callbacks=[log, kept], threads=threads, engine=EngineOptions(),
    )  # fmt: skip
    model.load_state_dict(kept.weights)
    model.config = {**config, "best_epoch": kept.epoch, "val_loss": round(kept.best, 6)}
    model.save_pretrained(out)
    write_tsv(log.table().reindex(columns=list(COLUMNS)), history, COLUMNS)
    best = f"epoch {kept.epoch}" if kept.epoch >= 0 else "the linear start"
    print(f"fine-tuned on {len(subjects['train'])} subjects, best of {len(log.rows) // 2} epochs: {best}: {out}")
