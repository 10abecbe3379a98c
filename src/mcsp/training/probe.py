"""Where fine-tuning starts: a linear model of what the encoders (or the projectors) make of the training subjects.

With some dozens of subjects a head drawn at random disturbs the encoders before it has learnt anything; one that begins at the
best linear answer keeps what they hold. Source: Kumar et al. 2022 (linear probing, then fine-tuning).
"""

from __future__ import annotations

import warnings
from typing import Protocol

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

from mcsp.model.batch import best_device
from mcsp.model.mcsp import Classifier

STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]  # of the ridge penalty's inverse


class Answered(Protocol):
    """Subjects in batches with their encoded answers, as `finetune.Labelled` gives them."""

    def everyone(self): ...


@torch.no_grad()
def evidence_of(model: Classifier, subjects: Answered) -> tuple[np.ndarray, np.ndarray]:
    """(evidence (N, F) by the encoders in eval mode, answers (N)) of the subjects."""
    device = best_device()
    model.eval().to(device)
    x, y = [], []
    for _, (batch, own) in subjects.everyone():
        batch = batch.to(device)
        x.append(model.evidence(model.heard(batch), batch.present).double().cpu().numpy())
        y.append(own.numpy())
    model.cpu().train()
    return np.concatenate(x), np.concatenate(y)


def linear_model(z: np.ndarray, y: np.ndarray, kind: str, seed: int) -> BaseEstimator:
    """Logistic regression with classes of equal weight, or ridge regression of a number, on standardised features `z`; an
    inner cross-validation chooses the strength, where there are enough subjects for one.
    """
    if kind == "regression":
        model, grid, score = Ridge(1 / STRENGTHS[1]), {"alpha": [1 / c for c in STRENGTHS]}, "neg_mean_squared_error"
        n_folds, inner = min(5, len(y)), KFold
    else:
        model, grid = LogisticRegression(class_weight="balanced", max_iter=200, C=STRENGTHS[1]), {"C": STRENGTHS}
        score = "balanced_accuracy" if kind == "multiclass" else "roc_auc"
        n_folds, inner = min(5, int(np.unique(y, return_counts=True)[1].min())), StratifiedKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if n_folds < 2:
            return model.fit(z, y)
        folds = inner(n_folds, shuffle=True, random_state=seed)
        return GridSearchCV(model, grid, scoring=score, cv=folds).fit(z, y).best_estimator_


def start_at_linear_model(model: Classifier, subjects: Answered, seed: int) -> BaseEstimator:
    """Set the linear part of the head to a linear model of these subjects, and return that."""
    x, y = evidence_of(model, subjects)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = np.inf  # never seen: a modality that no training subject has
    fitted = linear_model((x - mean) / scale, y, model.kind, seed)
    weight = np.atleast_2d(fitted.coef_) / scale
    with torch.no_grad():
        model.direct.weight.copy_(torch.from_numpy(weight))
        model.direct.bias.copy_(torch.from_numpy(np.atleast_1d(fitted.intercept_) - weight @ mean))
        model.head[-1].bias.zero_()
    return fitted
