"""What frozen classifiers say of their folds' test subjects."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from mcsp.cohort import of_modalities, task_labels
from mcsp.errors import McspError
from mcsp.evaluation.splits import guard, load_splits, part, read_record
from mcsp.evaluation.uncertainty import entropy
from mcsp.model.batch import Batch
from mcsp.model.mcsp import Classifier
from mcsp.options.tasks import Task
from mcsp.store import read_table
from mcsp.training.data import Subjects
from mcsp.training.record import traces


def check_models(configs: Sequence[dict], splits: pd.DataFrame, sha256: str, task: Task) -> None:
    """Raises McspError unless the classifiers are of these folds and this task, and each seed has one for every fold."""
    for config in configs:
        name = f"fold {config['fold']}, seed {config['seed']}"
        if config["splits"]["sha256"] != sha256:
            raise McspError(f"classifier of {name}: trained for other folds: rerun `snakemake finetune`")
        if config["task"] != task.model_dump(mode="json"):
            raise McspError(f"classifier of {name}: trained for another task: rerun `snakemake finetune`")
    if len({config["scope"] for config in configs}) > 1:
        raise McspError("classifiers with and without transductive pre-training: a study has one pretrain.scope")
    wanted = sorted(set(splits["fold"]))
    for seed in sorted({config["seed"] for config in configs}):
        folds = sorted(config["fold"] for config in configs if config["seed"] == seed)
        if folds != wanted:
            raise McspError(f"classifiers of seed {seed} are of folds {folds}, not of {[int(k) for k in wanted]}, once each")


def check_unseen(configs: Sequence[dict], cohort: pd.DataFrame, splits: pd.DataFrame) -> None:
    """Raises McspError when a classifier's record lists a test subject of its fold, or a recording of one, among those that it
    was trained on, or lists nobody. Transductive pre-training lists them, and is marked so.
    """
    for config in configs:
        name = f"classifier of fold {config['fold']}, seed {config['seed']}"
        known = set(config.get("seen", []))
        if not known:
            raise McspError(f"{name}: no record of whom it was trained on: rerun `snakemake pretrain finetune`")
        if config["scope"] == "transductive":
            continue
        tested = cohort[cohort["uid"].isin(part(splits, config["fold"], "test"))]
        for uid, own in traces(tested, config["splits"]["sha256"]).items():
            if own & known:
                raise McspError(f"{name}: {uid}, whom it is tested on, or a recording of theirs was in its training: leakage")


def mcsp_predictions(
    models: Sequence[Classifier], stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series, of: str = "test"
) -> pd.DataFrame:
    """Probabilities of the frozen classifiers for their folds' subjects of the part `of`: fold, seed, uid, p.

    Raises McspError when a probability is not finite.
    """
    rows = []
    for model in track(models, description="classifiers"):
        fold, seed = model.config["fold"], model.config["seed"]
        uids = [uid for uid in part(splits, fold, of) if uid in y.index]
        guard(splits, fold, uids, of)
        for own, batch in Subjects(stores, cohort, uids, model.backbone.keys).everyone():
            p = model.predict_proba(batch).numpy()
            if not np.isfinite(p).all():
                raise McspError(f"classifier of fold {fold}, seed {seed}: probabilities are not finite: train it again")
            rows += [(fold, seed, uid, float(value)) for uid, value in zip(own, p)]
    return pd.DataFrame(rows, columns=["fold", "seed", "uid", "p"])


def dropout_passes(model: Classifier, one: Batch, n: int, seed: int) -> np.ndarray:
    """Probabilities (n) of a batch of one subject in `n` passes with dropout drawn from `seed`: they depend on nobody else.

    Source: Gal & Ghahramani 2016. Nothing but dropout differs from eval mode: all normalisation is within a subject.
    """
    device = next(model.parameters()).device
    copies = one.rows(torch.zeros(n, dtype=torch.long)).to(device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model.train()
        try:
            return torch.sigmoid(model(copies).float()).cpu().numpy().astype(float)
        finally:
            model.eval()


def dropout_predictions(
    models: Sequence[Classifier], stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series, n: int, seed: int
) -> pd.DataFrame:
    """Test subjects in `n` passes with dropout of their fold's classifiers: fold, seed, uid, p (mean over passes),
    mean_entropy (of the passes, nats), n_passes.
    """
    rows = []
    for model in track(models, description="passes with dropout"):
        fold, number = model.config["fold"], model.config["seed"]
        uids = [uid for uid in part(splits, fold, "test") if uid in y.index]
        guard(splits, fold, uids, "test")
        for (uid,), one in Subjects(stores, cohort, uids, model.backbone.keys).everyone(batch_size=1):
            p = dropout_passes(model, one, n, zlib.crc32(repr((seed, fold, number, uid)).encode()))
            rows.append((fold, number, uid, float(p.mean()), float(entropy(p).mean()), n))
    return pd.DataFrame(rows, columns=["fold", "seed", "uid", "p", "mean_entropy", "n_passes"])


@dataclass(frozen=True)
class TestPart:
    """`rows`: fold, seed, uid, p of the frozen classifiers; `cohort`: as they see it; `y`: labels of the task by uid; `splits`
    and their `record`; `transductive`: pre-training saw test subjects' recordings; `models`: the classifiers.
    """

    rows: pd.DataFrame
    cohort: pd.DataFrame
    y: pd.Series
    splits: pd.DataFrame
    record: dict
    transductive: bool
    models: list[Classifier]


def open_test_part(models: Sequence[Path], stores: Path, cohort: Path, splits: Path, task: Task) -> TestPart:
    """Predict the test subjects of all folds with the classifiers in the directories `models`.

    Raises McspError for classifiers of other folds or another task, for those that saw their test subjects in training, and for
    a task with one class.
    """
    table, folds, record = read_table(cohort), load_splits(splits), read_record(splits)
    classifiers = [Classifier.from_pretrained(folder) for folder in models]
    seen = of_modalities(table, {m for model in classifiers for m, _ in model.backbone.keys})
    y = task_labels(seen, task)
    check_models([model.config for model in classifiers], folds, record["sha256"], task)
    check_unseen([model.config for model in classifiers], seen, folds)
    rows = mcsp_predictions(classifiers, stores, seen, folds, y)
    return TestPart(rows, seen, y, folds, record, classifiers[0].config["scope"] == "transductive", classifiers)
