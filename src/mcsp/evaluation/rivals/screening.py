"""Screening of features by their mutual information with the class, estimated by bins or by kernel densities, then ridge
logistic regression. After fastHDMI (Yang et al. 2024, arXiv 2410.10082), with simpler choices: bins by a power of N, Gaussian
kernels of Scott's bandwidth (there: Epanechnikov, improved Sheather-Jones).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline

from mcsp.evaluation.rivals.linear import logistic_steps

BLOCK = 2048  # features at a time: memory holds a few (BLOCK, 2, GRID) arrays
REACH, GRID = 6.0, 256  # densities on [-REACH, REACH] standard deviations, at so many points


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))


def _entropy(p: np.ndarray) -> np.ndarray:
    """-sum p log p over the last axis, in nats."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)


def _information(joint: np.ndarray) -> np.ndarray:
    """I(X; Y) in nats from joint probabilities (F, classes, cells of X)."""
    h_x, h_y = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=2))
    return np.maximum(h_x + h_y - _entropy(joint.reshape(len(joint), -1)), 0)


def _weigh(cells: np.ndarray, weights: np.ndarray, y: np.ndarray, n_cells: int) -> np.ndarray:
    """Sums (F, 2, n_cells) of `weights` (N, F) by feature, class and cell (N, F)."""
    n_features = cells.shape[1]
    place = (np.arange(n_features) * 2 + y[:, None]) * n_cells + cells
    return np.bincount(place.ravel(), weights.ravel(), n_features * 2 * n_cells).reshape(n_features, 2, n_cells)


def binned_information(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """I(X_f; Y) (F,) in nats of features `x` (N, F) with classes `y` (N,) in {0, 1}; each feature is cut into
    ceil(N^(1/3)) bins of equally many subjects; equal values fall into one, that of their mean rank. For independent X and Y
    the estimate is about (bins - 1) / 2N, alike for all features without ties, so their order is not touched.
    """
    n_bins = int(np.ceil(len(y) ** (1 / 3)))
    found = []
    for block in _blocks(x.shape[1]):
        rank = rankdata(x[:, block], axis=0) - 1
        bins = (rank * n_bins // len(y)).astype(int)
        joint = _weigh(bins, np.full(bins.shape, 1 / len(y)), y, n_bins)
        found.append(_information(joint))
    return np.concatenate(found)


def kernel_information(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """I(X_f; Y) (F,) in nats, from Gaussian kernel densities of `x` (N, F) within the classes `y` (N,).

    Both classes of a feature share the bandwidth of Scott's rule, s N^(-1/5), so that the density of all is the classes'
    mixture and the estimate is not negative. Values are shared out linearly among the two nearest of `GRID` points, and
    convolved with the kernel by FFT; what lies beyond `REACH` standard deviations counts there.
    """
    step = 2 * REACH / (GRID - 1)
    frequency = np.fft.rfftfreq(2 * GRID, step)
    kernel = np.exp(-2 * (np.pi * frequency * len(y) ** -0.2) ** 2)
    found = []
    for block in _blocks(x.shape[1]):
        own = x[:, block].astype(float)
        spread = own.std(axis=0)
        z = (own - own.mean(axis=0)) / np.where(spread > 0, spread, 1)
        at = (np.clip(z, -REACH, REACH) + REACH) / step
        cell = np.minimum(at.astype(int), GRID - 2)
        upper = at - cell
        mass = _weigh(cell, 1 - upper, y, GRID) + _weigh(cell + 1, upper, y, GRID)
        smooth = np.fft.irfft(np.fft.rfft(mass, 2 * GRID) * kernel, 2 * GRID)[..., :GRID].clip(0)
        found.append(_information(smooth / smooth.sum(axis=(1, 2), keepdims=True)))
    return np.concatenate(found)


ESTIMATORS = {"binned": binned_information, "kde": kernel_information}


class Screen(TransformerMixin, BaseEstimator):
    """Keep the share of features that tell most about the class."""

    def __init__(self, estimator: Literal["binned", "kde"] = "binned", share: float = 0.1):
        self.estimator, self.share = estimator, share

    def fit(self, x: np.ndarray, y: np.ndarray) -> Screen:
        """Choose on training subjects; of equals, the first."""
        information = ESTIMATORS[self.estimator](x, y)
        kept = max(1, round(self.share * x.shape[1]))
        self.chosen_ = np.sort(np.argsort(-information, kind="stable")[:kept])
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """The chosen features."""
        return x[:, self.chosen_]


def screened_steps(estimator: Literal["binned", "kde"]) -> Pipeline:
    """Screen, then ridge logistic regression."""
    fill, *steps = (step for _, step in logistic_steps().steps)
    return make_pipeline(fill, Screen(estimator), *steps)


SHARES = {"screen__share": [0.01, 0.05, 0.2], "logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]}
