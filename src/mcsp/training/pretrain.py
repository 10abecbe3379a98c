"""Self-supervised pre-training of one fold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mcsp.code import code_version
from mcsp.errors import McspError
from mcsp.evaluation.splits import guard, load_splits, part, read_record
from mcsp.model.augment import Augmentation, augmented
from mcsp.model.batch import Batch
from mcsp.model.losses import LossWeights, fuse, mcsp_losses
from mcsp.model.mcsp import MCSP
from mcsp.options.training import PretrainOptions
from mcsp.store import read_table, write_tsv
from mcsp.training.data import PairedSampler, Subjects, fit_scalers, start_at_components_of, study_keys
from mcsp.training.engine import History, Trained, cosine_with_warmup, fingerprint, fit, step_seed
from mcsp.training.feed import Feed
from mcsp.training.rates import by_fan_in
from mcsp.training.record import data_record
from mcsp.training.together import everyones

COLUMNS = {
    "epoch": "Epoch, from 0",
    "split": "train or val subjects",
    "lr": "Learning rate at the epoch's end",
    "total": "Weighted sum",
}
TERMS = {
    "id": "L_ID: a domain agrees with its augmented view",
    "cd": "L_CD: the domains of one subject agree",
    "im": "L_IM: the modalities' similarity distributions agree",
    "cm": "L_CM: the modalities of one subject agree, domain by domain",
    "cf": "L_CF: all domains of one modality together agree with those of the other",
    "kd": "L_KD: each domain agrees with the teacher that sees all of a subject",
}


def term_sizes(terms: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> dict[str, int]:
    """Subjects behind each term; 0 where they are too few for it to be more than a constant."""
    masks = torch.stack(list(present.values()))
    both = int(masks.all(dim=0).sum())
    sizes = {"total": int(masks.any(dim=0).sum())}
    for name in terms.keys() - {"total"}:
        kind, _, where = name.partition("_")
        n = int(present[where].sum()) if kind in ("id", "cd", "kd") else both
        least = 3 if kind == "im" else 2
        sizes[name] = n * ((sizes["total"] if kind == "kd" else n) >= least)
    return sizes


FUSED = ("all", "all")  # key of the teacher's embedding where parts are exchanged


class Teacher(nn.Module):
    """The moving average of a student, a model of its own: it sees all modalities and domains of a subject, without
    dropout, and no gradient. Source: Tarvainen & Valpola 2017 (mean teacher).

    As part of the trained module it lies in every checkpoint; the saved model is the student.
    """

    def __init__(self, student: MCSP, momentum: float):
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.momentum = momentum
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode: a target drawn with dropout would be noise to imitate."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Fused embeddings (B, dim) of the subjects."""
        return fuse(self.model(batch)[1], batch.present)

    @torch.no_grad()
    def follow(self, student: MCSP, step: int) -> None:
        """Move towards the student after step number `step`. The momentum rises as (1 + step) / (10 + step), so that a
        short training too forgets the initial weights. Buffers don't change in training.
        """
        follow = get_ema_multi_avg_fn(min(self.momentum, (1 + step) / (10 + step)))
        follow(list(self.model.parameters()), list(student.parameters()), step)


class Pretraining(Trained):
    """The losses of one step. Views and dropout are drawn from (seed, step), so a resumed run goes on as it would have."""

    def __init__(self, model: MCSP, options: PretrainOptions, steps: int, history: History):
        super().__init__()
        self.model, self.options, self.steps, self.history = model, options, steps, history
        self.weights = LossWeights(**options.loss.model_dump())
        self.strength = Augmentation(**options.augment.model_dump())
        self.teacher = Teacher(model, options.teacher_momentum) if options.loss.kd else None

    def losses(self, batch: Batch, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """(all terms of a batch, the subjects behind each); `seed` sets its two views. The cross terms too compare views: the
        bare inputs of a few subjects would be learnt by heart. The teacher alone sees those.
        """
        centres = self.model.centres()
        batch = batch.filled(centres)  # once, for both views and the teacher
        draw, views = torch.Generator(device=self.device).manual_seed(seed), 2 if self.weights.id else 1
        z = self.model(augmented(batch, self.strength, draw, centres, views=views))[1]
        present = batch.present
        parts = [{key: v[: len(batch)] for key, v in z.items()}, {key: v[-len(batch) :] for key, v in z.items()}]
        if self.teacher:
            parts.append({FUSED: self.teacher(batch)})
        if self.training:  # validation is done whole by every rank
            parts, present = everyones(parts, present)
        teacher = parts[2][FUSED] if self.teacher else None
        terms = mcsp_losses(parts[0], parts[1], present, self.weights, teacher)
        return terms, term_sizes(terms, present)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning's hook."""
        return batch.to(device)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """One step."""
        if self.teacher and self.global_step:  # here and not after the last step: a checkpoint lies between the two
            self.teacher.follow(self.model, self.global_step)
        seed = step_seed(self.options.seed, 1, self.global_step, self.global_rank)
        torch.manual_seed(seed)
        terms, sizes = self.losses(batch, seed)
        self.history.add("train", terms, sizes)
        return terms["total"]

    def validation_step(self, batch: Batch, index: int) -> None:
        """The same loss on validation subjects, with the same views in every epoch."""
        self.history.add("val", *self.losses(batch, step_seed(self.options.seed, 2, index)))

    def on_train_epoch_end(self) -> None:
        """Close the epoch's means."""
        means = self.history.close(self.current_epoch, self.optimizers().param_groups[0]["lr"])
        shown = "  ".join(f"{split} {m['total']:.3f}" for split, m in means.items())
        if self.global_rank == 0:
            print(f"epoch {self.current_epoch}: {shown}", flush=True)

    def configure_optimizers(self):
        """AdamW with warm-up and cosine; wide maps learn more slowly."""
        groups = by_fan_in(self.model, self.options.lr, self.options.model.width, self.options.wide_lr)
        optimizer = torch.optim.AdamW(groups, weight_decay=self.options.weight_decay, fused=True)
        warmup = max(1, int(self.options.warmup_share * self.steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_with_warmup(step, self.steps, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def describe_history(table) -> dict[str, str]:
    """What the columns of a history say."""
    described = dict(COLUMNS)
    for column in table.columns:
        kind, _, where = column.partition("_")
        if kind in TERMS:
            described[column] = f"{TERMS[kind]} ({where})"
    return described


def _validation(cohort, splits, fold: int, stores: Path, keys, options: PretrainOptions):
    subjects = Subjects(stores, cohort, part(splits, fold, "val"), keys)
    guard(splits, fold, subjects.uids, "val")
    return (
        make_feed(subjects, list(PairedSampler(subjects.has, options.batch_size, options.seed)), options)
        if len(subjects) > 3
        else None
    )


def make_feed(subjects: Subjects, batches, options: PretrainOptions) -> Feed:
    """Batches of these subjects as `options.engine` wants them."""
    dtype = torch.bfloat16 if options.engine.data_precision == "bf16" else torch.float32
    return Feed(subjects, batches, options.engine.data, dtype)


def drawn(uids: list[str], share: float, seed: int) -> list[str]:
    """A share of the subjects, at least four, drawn by seed, in their order; a smaller share is part of a larger one."""
    n = max(min(4, len(uids)), round(share * len(uids)))
    chosen = np.random.default_rng(seed).permutation(len(uids))[:n]
    return [uids[i] for i in sorted(chosen)]


def of_corpus(uids: list[str], cohort: pd.DataFrame, corpus: list[str]) -> list[str]:
    """Those of the datasets in `corpus`. Raises McspError when fewer than two are left to compare."""
    own = set(cohort.loc[cohort["dataset"].isin(corpus), "uid"])
    if len(own.intersection(uids)) < 2:
        raise McspError(
            f"pretrain.corpus: the fold has fewer than two training subjects of {', '.join(corpus)}: name more datasets, or "
            "set subjects aside otherwise (splits.protocol), if the fold tests these whole"
        )
    return [uid for uid in uids if uid in own]


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    fold: int,
    options: PretrainOptions,
    about: dict[str, Any] | None = None,
    out: Path,
    history: Path,
    threads: int,
) -> None:
    """Pre-train on the training subjects of `fold` (with `scope: transductive` also on its test subjects) and write
    `model.safetensors` and `config.json` to `out`, the losses to `history`. `about`: what the configuration keeps of the
    study (`Plan.about`).

    Raises McspError when a subject of another part would be seen, or nobody has the wanted modalities.
    """
    torch.set_num_threads(threads)
    table, folds = read_table(cohort), load_splits(splits)
    allowed = ("train", "test") if options.scope == "transductive" else ("train",)
    uids = drawn(part(folds, fold, *allowed), options.subject_share, step_seed(options.seed, 4, fold))
    keys = study_keys(table, options.model.modalities, options.model.domains)
    if not keys:
        raise McspError(f"pretrain.model.modalities: nobody in the cohort has {' or '.join(options.model.modalities)}")
    subjects = Subjects(stores, table, uids, keys)
    guard(folds, fold, subjects.uids, *allowed)  # all that is fitted below is fitted on these, or on some of them
    corpus = options.corpus
    learners = subjects if corpus is None else Subjects(stores, table, of_corpus(subjects.uids, table, corpus), keys)
    shapes = {"/".join(key): list(subjects.shapes[key]) for key in keys}
    sizes = options.model.model_dump(exclude={"modalities", "domains"})
    code, frozen = code_version("mcsp.training.pretrain"), read_record(splits)
    config = {
        "architecture": {**sizes, "shapes": shapes},
        "fold": fold,
        "scope": options.scope,
        "splits": frozen,
        "n_subjects": len(learners),
        "pretrain": options.model_dump(mode="json"),
        "code": code,
        **data_record(stores, table, uids, part(folds, fold, "val"), keys, frozen["sha256"]),
    }
    L.seed_everything(step_seed(options.seed, 0, fold), verbose=False)
    model = MCSP(config)
    fit_scalers(model, subjects)
    start_at_components_of(model, subjects, options.seed)
    record = History()
    if options.epochs:
        sampler = PairedSampler(learners.has, options.batch_size, step_seed(options.seed, fold))
        module = Pretraining(model, options, options.epochs * len(sampler), record)
        val = _validation(table, folds, fold, stores, keys, options)
        key = fingerprint(config, [options.epochs])
        writes = fit(
            module,
            make_feed(learners, sampler, options),
            val,
            epochs=options.epochs,
            folder=out / "checkpoints",
            key=key,
            callbacks=[record],
            threads=threads,
            engine=options.engine,
        )
        if not writes:
            return
    config["about"] = about or {}  # words only: a licence mended is no reason to begin anew
    model.save_pretrained(out)
    rows = record.table() if record.rows else record.table().reindex(columns=list(COLUMNS))
    write_tsv(rows, history, describe_history(rows))
    print(f"pre-trained on {len(learners)} subjects ({options.scope}): {out}")
