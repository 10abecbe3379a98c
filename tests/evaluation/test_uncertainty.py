"""Risk over coverage by hand and by enumeration, entropies by their definitions, passes that depend on nobody else."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from mcsp.evaluation.frozen import dropout_passes
from mcsp.evaluation.uncertainty import aurc, entropy, orders_of, risk_coverage, selective_rows, uncertainties
from mcsp.model.mcsp import Classifier
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_table
from mcsp.training.data import Subjects, study_keys

OPTIONS = EvaluateOptions(n_bootstrap=100)


def test_entropy_is_that_of_a_coin():
    for p in (0.0, 0.1, 0.5, 1.0):
        assert entropy(p) == pytest.approx(stats.entropy([p, 1 - p]))
    assert entropy(np.array([0.5, 0.5])).tolist() == pytest.approx([np.log(2)] * 2)


def test_risk_and_coverage_by_hand():
    wrong, uncertainty = np.array([1.0, 0, 0, 1]), np.array([0.9, 0.1, 0.2, 0.3])
    coverage, risk = risk_coverage(wrong, uncertainty)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert aurc(wrong, uncertainty) == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_equals_count_as_the_mean_over_their_orders():
    wrong, uncertainty = np.array([1.0, 0, 0, 1, 1]), np.array([0.2, 0.2, 0.2, 0.1, 0.3])
    orders = [order for order in permutations(range(5)) if (np.diff(uncertainty[list(order)]) >= 0).all()]
    mean = np.mean([np.cumsum(wrong[list(order)]) / np.arange(1, 6) for order in orders], axis=0)
    np.testing.assert_allclose(risk_coverage(wrong, uncertainty)[1], mean)


def test_random_order_costs_the_share_of_errors_and_none_is_better_than_the_oracle():
    rng = np.random.default_rng(0)
    wrong = (rng.random(12) < 0.4).astype(float)
    assert aurc(wrong, np.zeros(12)) == pytest.approx(wrong.mean())
    every = [aurc(wrong, rng.random(12)) for _ in range(300)]
    assert min(every) >= aurc(wrong, wrong) - 1e-12
    assert np.mean(every) == pytest.approx(wrong.mean(), abs=0.02)
    assert aurc(wrong, -wrong) >= max(every) - 1e-12


def test_a_model_that_knows_when_it_is_wrong_gains_and_one_that_does_not_gains_nothing():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    z = rng.normal(size=200) + 1.5 * (2 * y - 1)
    p = 1 / (1 + np.exp(-z))
    rows = selective_rows("t", "mcsp", y, p, {**orders_of(p), "entropy": np.zeros(200)}, OPTIONS)
    knows, guesses = rows
    assert knows["order"] == "probability"
    assert knows["gain_low"] > 0
    assert guesses["gain"] == pytest.approx(0)  # says nothing: any order
    assert guesses["gain_high"] == pytest.approx(0)
    assert knows["random"] == pytest.approx(np.mean((p >= 0.5) != y))
    assert knows["oracle"] <= knows["aurc"] <= knows["random"]
    assert knows["gain"] == pytest.approx(knows["random"] - knows["aurc"])


def test_mutual_information_is_what_passes_disagree_on():
    means = pd.DataFrame({"fold": 0, "uid": ["a", "b"], "y": [0, 1], "p": [0.5, 0.5]})
    passes = {"a": [0.5, 0.5, 0.5, 0.5], "b": [0.0, 1.0, 0.0, 1.0]}
    rows = [
        (0, seed, uid, np.mean(p[half]), entropy(np.array(p[half])).mean(), 2)
        for uid, p in passes.items()
        for seed, half in ((0, slice(0, 2)), (1, slice(2, 4)))
    ]
    columns = ["fold", "seed", "uid", "p", "mean_entropy", "n_passes"]
    table = uncertainties("t", means, pd.DataFrame(rows, columns=columns)).set_index("uid")
    assert table["entropy"].tolist() == pytest.approx([np.log(2)] * 2)  # both unsure
    assert table.loc["a", "mutual_information"] == pytest.approx(0)  # all passes say the same
    assert table.loc["b", "mutual_information"] == pytest.approx(np.log(2))  # each is sure, of something else
    assert table["n_passes"].tolist() == [4, 4]


@pytest.fixture
def model(stored_study):
    cohort = read_table(stored_study.cohort)
    keys = study_keys(cohort, ["fmri", "eeg"], ["spatial", "temporal", "spectral"])
    subjects = Subjects(stored_study.stores, cohort, list(cohort["uid"])[:6], keys)
    torch.manual_seed(0)
    sizes = {"width": 8, "depth": 1, "heads": 2, "dim": 8, "patch": 12, "segment_features": 2, "density": 0.5, "dropout": 0.3}
    shapes = {"/".join(key): list(shape) for key, shape in subjects.shapes.items()}
    return Classifier({"architecture": {**sizes, "shapes": shapes}, "head": {"hidden": 8, "dropout": 0.5}}).eval(), subjects


def test_passes_differ_by_dropout_alone_and_leave_the_model_and_the_world_as_they_were(model):
    classifier, subjects = model
    one, state = subjects.collate([2]), torch.get_rng_state()
    p = dropout_passes(classifier, one, 50, 7)
    assert p.shape == (50,)
    assert len(np.unique(p)) == 50
    assert (dropout_passes(classifier, one, 50, 7) == p).all()
    assert (dropout_passes(classifier, one, 50, 8) != p).any()
    assert torch.equal(torch.get_rng_state(), state)
    assert not classifier.training
    plain = classifier.predict_proba(one).item()
    assert abs(p.mean() - plain) < 0.2
    for module in classifier.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
    np.testing.assert_allclose(dropout_passes(classifier, one, 5, 7), plain, atol=1e-5)
