"""Neural rivals: one training loop for networks that read a subject as one or more windows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mcsp.evaluation.rivals.features import Features
from mcsp.evaluation.rivals.fused import Fused
from mcsp.model.batch import best_device
from mcsp.training.engine import step_seed
from mcsp.training.rates import by_fan_in

ROUNDS, PATIENCE = 60, 10  # at most; rounds without a lower validation loss
STEPS = 24  # of a round, at least: as many passes over the subjects as it takes
BATCH = 16  # subjects of a step
DRAWN = 8  # windows of each subject in a step, of those that have more
LR, WEIGHT_DECAY = 1e-3, 1e-2
WIDTH = 64  # maps from more than so many features learn more slowly
EDGE = 1e-6  # least probability of either class
DROPOUTS = ({"dropout": 0.2}, {"dropout": 0.6})


@dataclass
class Scale:
    """Mean and standard deviation of each entry of a window, over training subjects who have it. NaN becomes the mean.
    `standardise`: or leave the others as they are.
    """

    mean: np.ndarray
    sd: np.ndarray
    standardise: bool

    @classmethod
    def of(cls, windows: Sequence[np.ndarray], standardise: bool) -> Scale:
        """From windows, one subject at a time; an entry that never varies gets 1."""
        total = sum(np.nansum(w, axis=0, dtype=float) for w in windows)
        squares = sum(np.nansum(w.astype(float) ** 2, axis=0) for w in windows)
        n = np.maximum(sum((~np.isnan(w)).sum(axis=0) for w in windows), 1)
        variance = np.maximum(squares / n - (total / n) ** 2, 0)
        return cls(total / n, np.sqrt(np.where(variance > 1e-12, variance, 1)), standardise)

    def __call__(self, windows: np.ndarray) -> Tensor:
        known = np.where(np.isnan(windows), self.mean, windows)
        return torch.from_numpy(((known - self.mean) / self.sd if self.standardise else known).astype(np.float32))


def probabilities(net: nn.Module, scale: Callable, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Probability of each subject: the mean over its windows. One subject is read at a time."""
    device = next(net.parameters()).device
    net.eval()
    with torch.inference_mode():
        return np.array([float(net(scale(own).to(device)).sigmoid().mean()) for own in windows])


def cross_entropy(p: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Mean cross entropy of probabilities, each class by its weight."""
    p = np.clip(p, EDGE, 1 - EDGE)
    return float(-(weight[y] * np.log(np.where(y == 1, p, 1 - p))).mean())


def train(
    net: nn.Module, scale: Callable, windows: Sequence[np.ndarray], y: np.ndarray, val: np.ndarray, seed: int
) -> tuple[float, dict[str, Tensor]]:
    """(lowest validation loss, weights of its round); `val` (N,) says who validates. Without such subjects the last round's
    weights, and a loss of infinity. Class-balanced cross entropy, AdamW; every step's random numbers come from `seed`.
    """
    learning, waiting = np.flatnonzero(~val), np.flatnonzero(val)
    weight = len(learning) / (2 * np.bincount(y[learning], minlength=2))
    device, rng = next(net.parameters()).device, np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(by_fan_in(net, LR, WIDTH), weight_decay=WEIGHT_DECAY)
    best, kept, since = float("inf"), None, 0
    per_pass = -(-len(learning) // BATCH)
    for _ in range(ROUNDS):
        net.train()
        passes = [np.array_split(rng.permutation(learning), per_pass) for _ in range(-(-STEPS // per_pass))]
        for batch in chain.from_iterable(passes):
            drawn = [rng.permutation(len(windows[i]))[:DRAWN] for i in batch]
            x = torch.cat([scale(windows[i][own]) for i, own in zip(batch, drawn)]).to(device)
            who = np.repeat(batch, [len(own) for own in drawn])
            target, own_weight = (torch.tensor(v, dtype=torch.float32, device=device) for v in (y[who], weight[y[who]]))
            loss = nn.functional.binary_cross_entropy_with_logits(net(x), target, own_weight)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        if len(waiting):
            p = probabilities(net, scale, [windows[i] for i in waiting])
            reached, since = cross_entropy(p, y[waiting], weight), since + 1
            if reached < best:
                best, kept, since = reached, copy.deepcopy(net.state_dict()), 0
            if since >= PATIENCE:
                break
    return best, kept or copy.deepcopy(net.state_dict())


@dataclass
class Network(Fused):
    """A network on windows. `features`: modality -> uid -> windows (W, ...); `build`: makes a network that takes windows of
    a shape and gives logits (B,), in one of `settings`, of which the validation subjects choose. `standardise`: each entry
    of a window by training subjects' mean and standard deviation.
    """

    build: Callable[..., nn.Module] | None = None
    settings: Sequence[Mapping[str, Any]] = ({},)
    standardise: bool = True
    seed: int = 0

    def _windows(self, modality: str, people: pd.DataFrame) -> LazyWindows:
        return LazyWindows(self.features[modality], list(people["uid"]))

    def fit_one(self, modality: str, people: pd.DataFrame, y: np.ndarray) -> Any:
        """(scale, network): the setting and round with the lowest loss on validation subjects."""
        val = (people["part"] == "val").to_numpy()
        if len(set(y[~val])) < 2:
            val = np.zeros(len(y), dtype=bool)
        windows = self._windows(modality, people)
        scale = Scale.of([windows[i] for i in np.flatnonzero(~val)], self.standardise)
        best, chosen = float("inf"), None
        devices = range(torch.cuda.device_count())
        with torch.random.fork_rng(devices), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            for setting in self.settings:
                torch.manual_seed(step_seed(self.seed, 0))
                net = self.build(windows[0].shape[1:], **setting).to(best_device())
                loss, weights = train(net, scale, windows, y, val, step_seed(self.seed, 1))
                if chosen is None or loss < best:
                    net.load_state_dict(weights)
                    best, chosen = loss, net.eval().cpu()
        return scale, chosen

    def logits(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Logits (N,) of the mean probability over windows."""
        scale, net = self.models[modality]
        p = np.clip(probabilities(net, scale, self._windows(modality, people)), EDGE, 1 - EDGE)
        return np.log(p / (1 - p))


class LazyWindows(Sequence):
    """Windows of people by number, read when they are asked for."""

    def __init__(self, features: Features, uids: list[str]):
        self.features, self.uids = features, uids

    def __getitem__(self, i: int) -> np.ndarray:
        return self.features[self.uids[i]]

    def __len__(self) -> int:
        return len(self.uids)
