"""Where relevance should be in a simulated study, and how much of it is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcsp.explain.summaries import names_of
from mcsp.store import read_json

# Which domains an effect can be seen in. Coupling of networks leaves each region's spectrum as it is; slow amplitude
# leaves correlations; band power leaves orthogonalised envelope correlations. A network's strength changes all of these but,
# by far the most of it, the spectrum of BOLD.
REACH = {
    "edge": {("fmri", "spatial"), ("fmri", "temporal")},
    "amplitude": {("fmri", "temporal"), ("fmri", "spectral")},
    "band": {("eeg", "temporal"), ("eeg", "spectral")},
    "network": {("fmri", "spatial"), ("fmri", "temporal"), ("eeg", "spatial"), ("eeg", "temporal"), ("eeg", "spectral")},
}
CHANNEL_FACTOR = 1.5  # a channel belongs to an effect when it gets this many times the even share of the added power
MIN_SUBJECTS = 5  # fewer give no interval, and so no pass
RESET_LIMIT = 0.5  # a map this similar to that of reset weights shows the inputs, not what was learned
LEARNED_SHARE = 0.5  # of what lies above chance, this much must be gone with reset weights


def planted(truths: Sequence[Path], disorders: Sequence[str]) -> list[dict]:
    """The effects of the given disorders, regions and edges by name; one that several datasets share counts once."""
    effects: dict[str, dict] = {}
    for path in truths:
        truth = read_json(path)
        for effect in truth["effects"]:
            if effect["disorder"] in disorders:
                names = truth["rois"]
                own = {k: v for k, v in effect.items() if k not in ("channels", "rois", "edges", "source")}
                named = {
                    "rois": [names[i] for i in effect["rois"]],
                    "edges": [(names[i], names[j]) for i, j in effect["edges"]],
                }
                effects.setdefault(json.dumps(own, sort_keys=True), {**effect, **named})
    return list(effects.values())


def _channels(effects: list[dict], names: list[str]) -> np.ndarray:
    """Channels that get far more than the even share of the power that any of the effects adds."""
    hit = np.zeros(len(names), bool)
    for effect in effects:
        seen = np.array([effect["channels"].get(name, 0.0) for name in names])
        hit |= seen > CHANNEL_FACTOR * seen.mean()
    return hit


def masks(effects: Sequence[dict], modality: str, domain: str, meta: dict) -> dict[str, np.ndarray]:
    """kind -> (K,) bool in the order of `names_of`: where relevance should be. Empty where no effect reaches.

    Chance is a mask's mean: the share of relevance that it gets when relevance is spread evenly.
    """
    own = [effect for effect in effects if (modality, domain) in REACH[effect["kind"]]]
    if not own:
        return {}
    names, found = names_of(modality, domain, meta), {}
    if modality == "fmri":
        rois = {name for effect in own for name in effect["rois"]}
        found["roi"] = np.array([name in rois for name in names["roi"]])
        if domain == "spatial":
            edges = {f"{a}|{b}" for effect in own for pair in effect["edges"] for a, b in (pair, pair[::-1])}
            found["edge"] = np.array([name in edges for name in names["edge"]])
    else:
        found["channel"] = _channels(own, names["channel"])
    if domain == "spectral" and modality == "fmri":
        freqs = np.array(meta["freqs"])
        found["frequency"] = np.any([(freqs >= low) & (freqs <= high) for low, high in (e["freqs"] for e in own)], axis=0)
    elif domain == "spectral":
        bands = {band for effect in own for band in effect["bands"]}
        found["band"] = np.array([name in bands for name in names["band"]])
    return {kind: mask for kind, mask in found.items() if 0 < mask.sum() < len(mask)}


def relevance_mass(shares: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share (n,) of relevance inside `mask` (K,), from shares (n, K). Source: Arras et al. 2022, relevance mass accuracy."""
    return shares[:, mask].sum(axis=1)


def relevance_rank(shares: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Share (n,) of the |mask| most relevant entries that lie inside `mask`; entries that tie for the last places count by
    their chance to get one. Source: Arras et al. 2022, relevance rank accuracy.
    """
    k = int(mask.sum())
    edge = -np.sort(-shares, axis=1)[:, k - 1 : k]  # relevance of the last place
    above, tied = shares > edge, shares == edge
    places = (k - above.sum(axis=1)) / tied.sum(axis=1)
    return ((above & mask).sum(axis=1) + places * (tied & mask).sum(axis=1)) / k


SCORES = {"relevance mass": relevance_mass, "relevance rank": relevance_rank}


def auprc(shares: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Average precision (n,) of shares (n, K) as a ranking of the entries of `mask` (K,). Source: as scikit-learn's
    `average_precision_score` where nothing ties; within ties the mean over random orders of them, not one threshold.
    """
    return np.array([_average_precision(row, mask) for row in shares])


def _average_precision(row: np.ndarray, mask: np.ndarray) -> float:
    order = np.argsort(-row, kind="stable")
    values, positive = row[order], mask[order].astype(float)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    sizes = np.diff(np.r_[starts, len(values)])
    hits = np.add.reduceat(positive, starts)
    before = np.r_[0.0, np.cumsum(hits)[:-1]]
    group = np.repeat(np.arange(len(starts)), sizes)
    inside = np.arange(len(values)) - starts[group]  # place within the tie, from 0
    others = inside * (hits[group] - 1) / np.maximum(sizes[group] - 1, 1)
    expected = hits[group] / sizes[group] * (before[group] + 1 + others) / (np.arange(len(values)) + 1)
    return float(expected[hits[group] > 0].sum() / mask.sum())


def chance_auprc(mask: np.ndarray) -> float:
    """Average precision of a map that is the same everywhere: the mean over random orders, a little above the share."""
    return _average_precision(np.zeros(len(mask)), mask)


def chance_of(score: str, mask: np.ndarray) -> float:
    """What a score is worth by chance: the share of planted entries, or that of a random order."""
    return chance_auprc(mask) if score == "AUPRC" else float(mask.mean())


def interval(values: np.ndarray, seed: int, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """95 % bootstrap interval of the mean over subjects: (low, high), each (...), of values (subject, ...).

    NaN below MIN_SUBJECTS subjects.
    """
    count = len(values)
    if count < MIN_SUBJECTS:
        return (np.full(values.shape[1:], np.nan),) * 2
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=n) / count
    low, high = np.quantile(np.tensordot(weights, values, axes=1), [0.025, 0.975], axis=0)
    return low, high
