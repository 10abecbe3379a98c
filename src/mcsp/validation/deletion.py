"""Faithfulness: delete what a map calls relevant, and see whether the output moves more than by deleting at random.

Deleted regions and channels get what another person could have had there (in-distribution), never zeros: of a training
subject drawn at random, in the temporal domains its series with random phases; matrices of regions are computed anew from
series of which some have been replaced; amplitudes, and matrices of channels, are the other person's.
"""

from __future__ import annotations

import numpy as np
import torch

from mcsp.domains.graphs import correlation
from mcsp.explain.attribution import Forward
from mcsp.model.batch import Batch, Key
from mcsp.training.data import Subjects

FRACTIONS = (0.05, 0.1, 0.2, 0.4)  # of the regions or channels
RANDOM_ORDERS = 4


def phase_randomised(series: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Series (..., T) with the same amplitude spectrum and random phases, each row its own (Theiler et al. 1992)."""
    spectrum = np.fft.rfft(series)
    turn = np.exp(2j * np.pi * rng.uniform(size=spectrum.shape))
    turn[..., 0] = 1
    if series.shape[-1] % 2 == 0:
        turn[..., -1] = 1
    return np.fft.irfft(spectrum * turn, series.shape[-1])


def replaced(
    key: Key, x: np.ndarray, series: np.ndarray, n_valid: int, donor: np.ndarray, surrogate: np.ndarray, which: np.ndarray
) -> np.ndarray:
    """One subject's input `x` with the regions or channels `which` (K, bool) deleted.

    `series`: the subject's temporal row (of fMRI); `donor`: another person's row of this domain; `surrogate`: the other
    person's series with random phases (temporal domains and matrices of regions).
    """
    modality, domain = key
    out = np.array(x, np.float32)
    if key == ("fmri", "spatial"):
        mixed = np.where(which[:, None], surrogate, series)
        return correlation(mixed, n_valid)
    source = surrogate if domain == "temporal" else donor
    if modality == "fmri":
        out[which] = source[which]
    elif domain == "spatial":
        out[:, which, :] = source[:, which, :]
        out[:, :, which] = source[:, :, which]
    else:
        out[:, which] = source[:, which]
    return out


def _surrogate(key: Key, series: np.ndarray, n_valid: int, rng: np.random.Generator) -> np.ndarray:
    if key[0] == "eeg":
        return phase_randomised(series, rng) if key[1] == "temporal" else series
    out = np.zeros(series.shape)
    out[:, :n_valid] = phase_randomised(series[:, :n_valid], rng)
    return out


def _selections(order: np.ndarray) -> list[np.ndarray]:
    """The first regions or channels of an order, by FRACTIONS, as masks (K)."""
    masks = []
    for fraction in FRACTIONS:
        mask = np.zeros(len(order), bool)
        mask[order[: max(1, round(fraction * len(order)))]] = True
        masks.append(mask)
    return masks


def curve(forward: Forward, batch: Batch, key: Key, inputs: list[np.ndarray]) -> np.ndarray:
    """How far the logit moves (n) when one subject's input of a domain becomes each of `inputs`. `batch`: that subject."""
    n = len(inputs) + 1
    x = {k: v.expand(n, *v.shape[1:]) for k, v in batch.x.items()}
    x[key] = torch.from_numpy(np.stack([batch.x[key][0].numpy(), *inputs]).astype(np.float32))
    present, valid = ({m: v.expand(n) for m, v in side.items()} for side in (batch.present, batch.n_valid))
    with torch.no_grad():
        logits = forward(Batch(x, present, valid)).double().numpy()
    return np.abs(logits[1:] - logits[0])


def areas(
    forward: Forward, subjects: Subjects, donors: Subjects, index: int, key: Key, orders: dict[str, np.ndarray], seed: int
) -> dict[str, float]:
    """Area between the deletion curve of each method and that of random deletion, for one subject: mean over the steps of
    |logit - logit before| less the same for random orders. Above 0: what the map calls relevant moves the output more.

    `orders`: method -> regions or channels from the most relevant one.
    """
    rng = np.random.default_rng([seed, index])
    batch, other = subjects.collate([index]), donors.collate([int(rng.integers(len(donors)))])
    temporal = (key[0], "temporal")
    series, foreign = batch.x[temporal][0].numpy(), other.x[temporal][0].numpy()
    n_valid = min(int(batch.n_valid[key[0]][0]), int(other.n_valid[key[0]][0]))
    surrogate = _surrogate(key, foreign, n_valid, rng)
    size = len(next(iter(orders.values())))
    every = {**orders, **{f"random {i}": rng.permutation(size) for i in range(RANDOM_ORDERS)}}
    x, donor = batch.x[key][0].numpy(), other.x[key][0].numpy()
    inputs = [
        replaced(key, x, series, n_valid, donor, surrogate, mask) for order in every.values() for mask in _selections(order)
    ]
    moved = curve(forward, batch, key, inputs).reshape(len(every), len(FRACTIONS)).mean(axis=1)
    found = dict(zip(every, moved))
    chance = float(np.mean([value for name, value in found.items() if name.startswith("random ")]))
    return {method: float(found[method]) - chance for method in orders}
