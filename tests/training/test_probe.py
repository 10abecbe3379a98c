"""Fine-tuning starts at a linear model of the frozen encoders' features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mcsp.cohort import task_labels
from mcsp.model.mcsp import MCSP, Classifier
from mcsp.options.tasks import Task
from mcsp.store import read_table
from mcsp.training.data import fit_scalers, study_keys
from mcsp.training.finetune import Labelled
from mcsp.training.probe import STRENGTHS, evidence_of, linear_model, start_at_linear_model

SIZES = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 8, "segment_features": 2, "density": 0.3, "dropout": 0.1}


def started(stored_study, seed=0):
    cohort = read_table(stored_study.cohort)
    y = task_labels(cohort, Task(case=["ASD"]))
    keys = study_keys(cohort, ["fmri", "eeg"], ["spatial", "temporal", "spectral"])
    subjects = Labelled(stored_study.stores, cohort, y, keys)
    shapes = {"/".join(key): subjects.shapes[key] for key in subjects.keys}
    torch.manual_seed(seed)
    model = Classifier({"architecture": {**SIZES, "shapes": shapes}, "head": {"hidden": 4, "dropout": 0.3}})
    fit_scalers(model.backbone, subjects)
    return model, subjects, start_at_linear_model(model, subjects, seed)


def test_the_start_is_scikit_learn_s_logistic_regression(stored_study):
    model, subjects, fitted = started(stored_study)
    assert fitted.C in STRENGTHS
    x, y = evidence_of(model, subjects)
    z = StandardScaler().fit_transform(x)
    reference = LogisticRegression(class_weight="balanced", C=fitted.C, max_iter=200).fit(z, y)
    batch, _ = subjects.collate(range(len(subjects)))
    with torch.no_grad():
        np.testing.assert_allclose(model.eval()(batch), reference.decision_function(z), atol=1e-3)


def test_what_a_subject_lacks_is_left_out_of_the_evidence(stored_study):
    model, subjects, _ = started(stored_study)
    x, _ = evidence_of(model, subjects)
    parts = x.reshape(len(x), 6, SIZES["width"])
    for i, modality in enumerate(["fmri"] * 3 + ["eeg"] * 3):
        size = np.linalg.norm(parts[:, i], axis=1)
        assert (size[~subjects.has[modality]] == 0).all()
    both = subjects.has["fmri"] & subjects.has["eeg"]
    lengths = np.linalg.norm(parts, axis=2).sum(axis=1)
    np.testing.assert_allclose(lengths, np.sqrt(SIZES["width"]), rtol=2e-2)  # six sixths of it, or three thirds
    assert 0 < both.sum() < len(both)


def test_nothing_of_the_backbone_moves(stored_study):
    model, subjects, _ = started(stored_study)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    start_at_linear_model(model, subjects, 1)
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    assert isinstance(model.backbone, MCSP)


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_other_kinds_of_answers(kind):
    """Three classes that features tell apart, and a number that is a sum of features, are found by the start alone."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 6))
    y = z[:, :3].argmax(axis=1) if kind == "multiclass" else z[:, 0] - 2 * z[:, 1]
    fitted = linear_model(z[:300], y[:300], kind, 0)
    assert fitted.score(z[300:], y[300:]) > 0.9
