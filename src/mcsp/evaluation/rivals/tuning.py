"""Tuning inside the training part: an inner cross-validation over families."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold
from sklearn.pipeline import Pipeline

STRENGTHS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]  # of the ridge penalty's inverse
LEAST = 1e-3  # probabilities of trees are kept this far from 0 and 1, so that they have a logit
sigmoid = expit


def filled() -> SimpleImputer:
    """A pipeline's first step: what a recording lacks becomes the mean of those it is fitted on."""
    return SimpleImputer(keep_empty_features=True)


def logistic() -> LogisticRegression:
    """Ridge logistic regression, classes of equal weight."""
    return LogisticRegression(class_weight="balanced", max_iter=500)


def scores(model: Any, x: Any) -> np.ndarray:
    """Decision values (N,) of a classifier, or the logits of its probabilities."""
    if hasattr(model, "decision_function"):
        return model.decision_function(x)
    return logit(np.clip(model.predict_proba(x)[:, 1], LEAST, 1 - LEAST))


@dataclass
class Fitted:
    """A fitted pipeline; its scores become logits by `slope` and `offset`."""

    pipeline: Pipeline
    slope: float = 1.0
    offset: float = 0.0

    def logit(self, x: Any) -> np.ndarray:
        """Logits (N,) of being a case."""
        return self.slope * scores(self.pipeline, x) + self.offset


def inner_folds(y: np.ndarray, families: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified folds that keep families together, those with both classes on either side; none where there are too few."""
    n_splits = min(5, int(np.bincount(y, minlength=2).min()), len(set(families)))
    if n_splits < 2:
        return []
    inner = StratifiedGroupKFold(n_splits, shuffle=True, random_state=0)
    folds = inner.split(np.zeros(len(y)), y, families)
    return [(a, b) for a, b in folds if 0 < y[a].mean() < 1 and 0 < y[b].mean() < 1]


def _rows(x: Any, index: np.ndarray) -> Any:
    return x.iloc[index] if isinstance(x, pd.DataFrame) else x[index]


def _fold_scores(model: Pipeline, settings: Sequence[Mapping], x: Any, y: np.ndarray, a: np.ndarray, b: np.ndarray):
    """Scores (settings, len(b)) of subjects `b` by `model` in each setting, fitted on `a`. Steps before the last are fitted
    once for settings that agree on them.
    """
    last, heads, found = model.steps[-1][0], {}, []
    for setting in settings:
        own = clone(model).set_params(**setting)
        key = repr(sorted((k, v) for k, v in setting.items() if not k.startswith(f"{last}__")))
        if key not in heads:
            head = own[:-1]
            heads[key] = head.fit_transform(_rows(x, a), y[a]), head.transform(_rows(x, b))
        inside, outside = heads[key]
        found.append(scores(own[-1].fit(inside, y[a]), outside))
    return np.array(found)


def platt(values: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic curve through out-of-fold decision values, classes of equal weight (Platt 1999,
    without his smoothing of the targets).
    """
    spread = values.std() or 1.0
    curve = LogisticRegression(C=np.inf, class_weight="balanced").fit(values[:, None] / spread, y)
    return float(curve.coef_[0, 0] / spread), float(curve.intercept_[0])


@contextmanager
def _stopped_fits() -> Iterator[None]:
    """Print how many fits ended before they converged, instead of a warning for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    others = [warning for warning in caught if not issubclass(warning.category, ConvergenceWarning)]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if stopped := len(caught) - len(others):
        print(f"{stopped} fits were stopped before they converged: not the optimum")


def tuned(model: Pipeline, grid: Mapping, x: Any, y: np.ndarray, families: np.ndarray, *, calibrate: bool = False) -> Fitted:
    """The pipeline refitted in the setting of `grid` whose mean AUROC over the inner folds is highest; the first of equals.
    Fits that were stopped short of their optimum are counted in print.

    `calibrate`: turn its scores into logits by `platt` on the out-of-fold scores of that setting. Where the subjects are too
    few for inner folds, the pipeline as it is, not calibrated.
    """
    folds, settings = inner_folds(y, families), list(ParameterGrid(grid))
    with _stopped_fits():
        if not folds:
            return Fitted(model.fit(x, y))
        outside = [_fold_scores(model, settings, x, y, a, b) for a, b in folds]
        areas = [[roc_auc_score(y[b], row) for row in rows] for (_, b), rows in zip(folds, outside)]
        best = int(np.mean(areas, axis=0).argmax())
        fitted = Fitted(clone(model).set_params(**settings[best]).fit(x, y))
    if calibrate:
        values, truth = np.concatenate([rows[best] for rows in outside]), np.concatenate([y[b] for _, b in folds])
        fitted.slope, fitted.offset = platt(values, truth)
    return fitted
