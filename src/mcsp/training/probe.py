"""Where fine-tuning starts: a linear model of what the encoders make of the training subjects.

With some dozens of subjects a head drawn at random disturbs the encoders before it has learnt anything; one that begins at the
best linear answer keeps what pre-training found. Source: Kumar et al. 2022 (linear probing, then fine-tuning).
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from mcsp.model.batch import best_device
from mcsp.model.mcsp import Classifier

STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]  # of the ridge penalty's inverse


@torch.no_grad()
def evidence_of(model: Classifier, subjects) -> tuple[np.ndarray, np.ndarray]:
    """(evidence (N, F) by the encoders in eval mode, labels (N)) of labelled subjects."""
    device = best_device()
    model.eval().to(device)
    x, y = [], []
    for _, (batch, own) in subjects.everyone():
        batch = batch.to(device)
        x.append(model.evidence(model.backbone.encode(batch)[0], batch.present).double().cpu().numpy())
        y.append(own.numpy())
    model.cpu()
    return np.concatenate(x), np.concatenate(y).astype(int)


def start_at_linear_model(model: Classifier, subjects, seed: int) -> float:
    """Set the linear part of the head to a logistic regression on these subjects (classes of equal weight, standardised
    features), and return its strength C, which an inner cross-validation of them chooses.
    """
    x, y = evidence_of(model, subjects)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale < 1e-6] = np.inf  # never seen: a modality that no training subject has
    z = (x - mean) / scale
    fit, least = (
        LogisticRegression(class_weight="balanced", max_iter=200, C=STRENGTHS[1]),
        int(np.bincount(y, minlength=2).min()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if least > 1:
            inner = StratifiedKFold(min(5, least), shuffle=True, random_state=seed)
            fit = GridSearchCV(fit, {"C": STRENGTHS}, scoring="roc_auc", cv=inner).fit(z, y).best_estimator_
        else:
            fit = fit.fit(z, y)
    weight = fit.coef_ / scale
    with torch.no_grad():
        model.direct.weight.copy_(torch.from_numpy(weight))
        model.direct.bias.copy_(torch.from_numpy(fit.intercept_ - weight @ mean))
        model.head[-1].bias.zero_()
    return float(fit.C)
