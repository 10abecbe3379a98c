"""Do EEG and fMRI of the same people agree: in what they predict, and in where they point to?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import cohen_kappa_score

from mcsp.evaluation.resampling import interval as percentiles
from mcsp.evaluation.resampling import once_each, resamples, together
from mcsp.evaluation.splits import guard, part
from mcsp.model.batch import Batch, best_device
from mcsp.model.mcsp import Classifier
from mcsp.montage import template_montage
from mcsp.training.data import Subjects

MNI_CENTRE = np.array([0.0, -16.0, 5.0])  # mm, centre of the sphere that fits the 10-20 electrodes
MIN_SUBJECTS = 8
COLUMNS = {
    "question": "predictions: do the answers from fMRI alone and from EEG alone go together, within cases and within controls; "
    "decisions: do they say case or control of the same people; networks: are the same networks relevant in both",
    "value": "Spearman's correlation of logits within class and fold; Cohen's kappa; Spearman's correlation over networks. "
    "With repeats, of each subject's mean over these",
    "low": "Lower end of the 95 % bootstrap interval over subjects; n/a of networks",
    "high": "Upper end of the 95 % bootstrap interval over subjects; n/a of networks",
    "p": "Of networks: share of all orders of the networks (or of 5000 random ones) that agree as well, one-sided; few "
    "networks can show large agreement only",
    "n": "Subjects with both modalities, or networks",
    "note": "How it was done, or why not",
}


def agreement_row(question: str, note: str, n: int, value=np.nan, low=np.nan, high=np.nan, p=np.nan) -> dict:
    return {"question": question, "value": value, "low": low, "high": high, "p": p, "n": n, "note": note}


@torch.no_grad()
def single_modality_logits(
    models: Sequence[Path], stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series
) -> pd.DataFrame:
    """uid, fold, y, fmri, eeg: logits of test subjects with both modalities from each alone, the other one missing; mean over
    seeds. Empty for models of one modality.
    """
    rows, both = [], set(cohort.loc[cohort["has_fmri"] & cohort["has_eeg"], "uid"])
    for folder in models:
        model = Classifier.from_pretrained(folder).to(best_device())
        fold, keys = model.config["fold"], model.backbone.keys
        test = [uid for uid in part(splits, fold, "test") if uid in y.index and uid in both]
        guard(splits, fold, test, "test")
        if not test or len({m for m, _ in keys}) < 2:
            continue
        for uids, batch in Subjects(stores, cohort, test, keys).everyone():
            batch = batch.to(best_device())
            found = {}
            for modality in ("fmri", "eeg"):
                present = {m: there if m == modality else torch.zeros_like(there) for m, there in batch.present.items()}
                found[modality] = model(Batch(batch.x, present, batch.n_valid)).cpu().numpy()
            rows.append(pd.DataFrame({"uid": uids, "fold": fold, **found}))
    if not rows:
        return pd.DataFrame(columns=["uid", "fold", "y", "fmri", "eeg"])
    table = pd.concat(rows).groupby(["uid", "fold"], as_index=False)[["fmri", "eeg"]].mean()
    return table.assign(y=table["uid"].map(y))


def within_correlation(table: pd.DataFrame) -> float:
    """Spearman's correlation of the two logits, after the mean of each class and fold is taken away: what they share beyond
    the diagnosis.
    """
    centred = table[["fmri", "eeg"]] - table.groupby(["y", "fold"])[["fmri", "eeg"]].transform("mean")
    own = once_each(centred, table["uid"])
    return float(spearmanr(own["fmri"], own["eeg"]).statistic)


def decision_kappa(table: pd.DataFrame) -> float:
    """Cohen's kappa of the two decisions."""
    says = once_each(table[["fmri", "eeg"]], table["uid"]) > 0
    return cohen_kappa_score(says["fmri"], says["eeg"])


def bootstrap_tables(table: pd.DataFrame, n: int, seed: int) -> Iterator[pd.DataFrame]:
    """`n` times subjects drawn within classes, each with all of its rows; who is drawn twice is two subjects."""
    first, rows = together(table["uid"].to_numpy())
    for drawn in resamples(table["y"].to_numpy()[first], n, seed):
        own = [rows[i] for i in drawn]
        yield table.iloc[np.concatenate(own)].assign(uid=np.repeat(np.arange(len(own)), [len(r) for r in own]))


def prediction_rows(table: pd.DataFrame, n_bootstrap: int, seed: int) -> list[dict]:
    """Agreement of answers and decisions from each modality alone."""
    n = table["uid"].nunique()
    if n < MIN_SUBJECTS:
        note = f"{n} test subjects with both modalities: {MIN_SUBJECTS} are needed"
        return [agreement_row(question, note, n) for question in ("predictions", "decisions")]
    draws = list(bootstrap_tables(table, n_bootstrap, seed))
    kappa = [decision_kappa(own) for own in (table, *draws)]
    r = [within_correlation(own) for own in (table, *draws)]
    how = "one frozen classifier, the other modality missing"
    return [
        agreement_row("predictions", f"{how}; class and fold means taken away", n, r[0], *percentiles(r[1:], 0.95)),
        agreement_row("decisions", f"{how}; threshold 0", n, kappa[0], *percentiles(kappa[1:], 0.95)),
    ]


def networks_under(ch_names: Sequence[str], montage: str, coordinates: np.ndarray, networks: Sequence[str]) -> list[str]:
    """Network of the region nearest in direction to each electrode, of those in the outer half of the brain.

    `coordinates` (R, 3) MNI mm. An assignment by place, no source analysis: an electrode sees more than what is under it.
    """
    places = template_montage(montage, None).get_positions()["ch_pos"]
    known = ~np.isnan(coordinates).any(axis=1)
    centred = coordinates - MNI_CENTRE
    depth = np.linalg.norm(centred, axis=1)
    outer = known & (depth >= np.median(depth[known]))
    directions, names = centred[outer] / depth[outer, None], np.array(networks)[outer]
    found = []
    for name in ch_names:
        towards = 1000 * places[name] - MNI_CENTRE
        found.append(str(names[np.argmax(directions @ (towards / np.linalg.norm(towards)))]))
    return found


def order_p(a: np.ndarray, b: np.ndarray, seed: int) -> float:
    """One-sided permutation p of Spearman's correlation of `a` and `b` (K): over all orders up to 7 entries."""
    x, y = rankdata(a), rankdata(b)
    observed = float(x @ y)
    if factorial(len(a)) <= factorial(7):
        return float(np.mean([x @ y[list(order)] >= observed - 1e-9 for order in permutations(range(len(a)))]))
    rng = np.random.default_rng(seed)
    return (1 + sum(x @ rng.permutation(y) >= observed - 1e-9 for _ in range(5000))) / 5001


def network_row(fmri: pd.Series, channels: pd.Series, under: Sequence[str], seed: int) -> dict:
    """Agreement of the fMRI map over networks with the EEG map, each network the mean of the channels above it.

    `fmri`: network -> share; `channels`: channel -> share, in the order of `under`.
    """
    eeg = channels.groupby(np.array(under)).mean()
    shared = [name for name in fmri.index if name in eeg.index]
    if len(shared) < 4:
        return agreement_row("networks", f"{len(shared)} networks lie under electrodes: four are needed", len(shared))
    a, b = fmri.loc[shared].to_numpy(), eeg.loc[shared].to_numpy()
    note = f"fMRI: {fmri.idxmax()} leads; EEG (network of the region nearest to each electrode): {eeg.idxmax()} leads"
    value = float(spearmanr(a, b).statistic)
    return agreement_row("networks", note, len(shared), value, p=order_p(a, b, seed))
