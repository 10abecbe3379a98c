"""One model's attributions, and what they are held against: training subjects' mean, and the model with reset weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from mcsp.explain.attribution import METHODS, Forward, Reference
from mcsp.explain.summaries import Summary, summarise
from mcsp.model.batch import Key
from mcsp.model.mcsp import Classifier
from mcsp.options.results import ExplainOptions
from mcsp.training.data import Subjects

MAIN_KIND = {"fmri": "roi", "eeg": "channel"}


def training_reference(stores: Path, cohort: pd.DataFrame, uids: Sequence[str], keys: list[Key]) -> Reference:
    """Mean and spread of the training subjects' inputs, read one subject at a time."""
    subjects = Subjects(stores, cohort, uids, keys)
    mean, spread = {}, {}
    for key in keys:
        total, seen = np.zeros(subjects.shapes[key]), np.zeros(subjects.shapes[key])
        squares, count = 0.0, max(len(subjects.rows[key]), 1)
        for row in subjects.rows[key].values():
            known = ~np.isnan(row)
            total, seen = total + np.where(known, row, 0), seen + known
            squares += float(np.nanmean(np.square(row, dtype=np.float64)))
        average = total / np.maximum(seen, 1)
        mean[key] = torch.from_numpy(average.astype(np.float32))
        spread[key] = max(squares / count - float(average.mean()) ** 2, 0.0) ** 0.5
    return Reference(mean, spread)


def reset_weights(model: Classifier, seed: int) -> Classifier:
    """The classifier with fresh weights and the same standardisers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Classifier(model.config)
    for key, scaler in fresh.backbone.scalers().items():
        scaler.load_state_dict(model.backbone.scalers()[key].state_dict())
    return fresh.eval()


def explain_subjects(
    forward: Forward,
    subjects: Subjects,
    reference: Reference,
    metas: dict[Key, dict],
    method: str,
    options: ExplainOptions,
) -> Iterator[tuple[str, Key, Summary]]:
    """(uid, domain, summaries) of every subject and each domain that it has."""
    device = next(iter(reference.mean.values())).device
    for uids, batch in subjects.everyone(16):
        found = METHODS[method](forward, batch.to(device).filled(reference.mean), reference, options)
        for key, values in found.items():
            array = values.detach().cpu().double().numpy()
            for i, uid in enumerate(uids):
                if bool(batch.present[key[0]][i]):
                    yield uid, key, summarise(*key, array[i], metas[key])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, NaN where a side is constant or has fewer than 3 entries."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(spearmanr(a, b).statistic)
