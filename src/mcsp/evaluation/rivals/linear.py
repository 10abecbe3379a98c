"""Linear models on connectivity and band power, with ComBat if wanted; on tangent connectivity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from nilearn.connectome import ConnectivityMeasure
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mcsp.evaluation.combat import Combat
from mcsp.evaluation.rivals import COMBAT, site_of
from mcsp.evaluation.rivals.fused import Tuned
from mcsp.evaluation.rivals.tuning import STRENGTHS, filled, logistic


class OneScale(TransformerMixin, BaseEstimator):
    """Centre each feature, and divide all by one number: their root mean square over training subjects. For features whose
    relative size means something.
    """

    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> OneScale:
        """Fit on training subjects."""
        self.mean_ = x.mean(axis=0)
        self.scale_ = float(np.sqrt(np.mean((x - self.mean_) ** 2))) or 1.0
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Scaled features."""
        return (x - self.mean_) / self.scale_


def _linear(last: BaseEstimator, scaler: BaseEstimator) -> Pipeline:
    """Fill in, scale, turn to the training subjects' principal axes, classify.

    The axes are all kept. A ridge-penalised linear model of N subjects lies in their span, so the solution is that on the
    features themselves, found among N numbers instead of thousands.
    """
    return make_pipeline(filled(), scaler, PCA(svd_solver="full"), last)


def logistic_steps(scaler: Callable[[], BaseEstimator] = StandardScaler) -> Pipeline:
    """Ridge logistic regression."""
    return _linear(logistic(), scaler())


def svm_steps(scaler: Callable[[], BaseEstimator] = StandardScaler) -> Pipeline:
    """Linear support vector machine."""
    # Badly scaled features can keep libsvm from ever ending; `tuned` counts the fits that are stopped.
    return _linear(SVC(kernel="linear", class_weight="balanced", max_iter=100_000), scaler())


LOGISTIC = {"label": "linear", "make": logistic_steps, "grid": {"logisticregression__C": STRENGTHS}}
SVM = {"label": "SVM", "make": svm_steps, "grid": {"svc__C": STRENGTHS}, "calibrate": True}


class Harmonise(TransformerMixin, BaseEstimator):
    """ComBat as a pipeline's first step, so that the inner cross-validation too fits it on its training subjects only.
    Columns: the site's number, age, sex, then the features, which are filled in before.
    """

    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> Harmonise:
        """Fit on training subjects. `y` is not used: ComBat must not see labels."""
        self.fill_ = filled().fit(x[:, 3:])
        self.combat_ = Combat().fit(self.fill_.transform(x[:, 3:]), x[:, 0], x[:, 1:3])
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Harmonised features."""
        return self.combat_.transform(self.fill_.transform(x[:, 3:]), x[:, 0], x[:, 1:3])


def harmonised_steps() -> Pipeline:
    """ComBat, then ridge logistic regression."""
    _, *steps = (step for _, step in logistic_steps().steps)
    return make_pipeline(Harmonise(), *steps)


@dataclass
class Harmonised(Tuned):
    """Logistic regression on features harmonised over sites, with age and sex as covariates (unknown sex lies midway)."""

    codes: dict[str, int] = field(default_factory=dict)  # training site -> its number

    @property
    def name(self) -> str:
        """What tables call it."""
        return super().name + COMBAT

    def fit(self, people: pd.DataFrame, y: np.ndarray) -> Harmonised:
        """Fit on training subjects, one model per modality."""
        self.codes = {name: code for code, name in enumerate(sorted(set(site_of(people))))}
        return super().fit(people, y)

    def read(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Features of people that have the modality, after the three columns that ComBat needs."""
        x = super().read(modality, people)
        site = site_of(people).map(self.codes).fillna(-1)
        sex = people["sex"].map({"M": 1, "F": -1}).astype(float).fillna(0)
        return np.column_stack([np.stack([site, people["age"], sex], axis=1).astype(x.dtype), x])


@dataclass
class Tangent(Tuned):
    """A linear model on covariances in the space tangent to their geometric mean (Varoquaux et al. 2010), as nilearn has it:
    Ledoit-Wolf covariances of the valid frames, the mean fitted on the training subjects. Distances in that space mean
    something, so all entries share one scale.

    The inner cross-validation chooses the penalty beside that one mean, which knows no labels.
    """

    def _series(self, people: pd.DataFrame) -> list[np.ndarray]:
        return [self.features["fmri"][uid].T.astype(float) for uid in people["uid"]]

    def fit_one(self, modality: str, people: pd.DataFrame, y: np.ndarray) -> Any:
        """(measure of connectivity, tuned pipeline)."""
        measure = ConnectivityMeasure(kind="tangent", vectorize=True)
        self.models[modality] = measure.fit(self._series(people)), None
        return measure, super().fit_one(modality, people, y)

    def read(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Tangent vectors (N, R (R + 1) / 2)."""
        return self.models[modality][0].transform(self._series(people)).astype(np.float32)

    def logits(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Logits (N,) of people that have series."""
        return self.models[modality][1].logit(self.read(modality, people))
