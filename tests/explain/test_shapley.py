"""Shapley values against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from mcsp.cohort import task_labels
from mcsp.evaluation.resampling import once_each
from mcsp.evaluation.rivals.linear import logistic_steps
from mcsp.evaluation.rivals.tuning import Fitted
from mcsp.evaluation.splits import make_splits
from mcsp.explain.shapley import (
    exact_shapley,
    fold_values,
    linear_shapley,
    linear_weights,
    network_pairs,
    rival_values,
    saliency,
    sampled_shapley,
)
from mcsp.options.tasks import Task
from mcsp.options.training import SplitOptions
from mcsp.store import read_table


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)) * np.arange(1, 7) + np.arange(6)
    return x, (x[:, 1] + 0.3 * x[:, 4] + rng.normal(size=40) > 1.5).astype(int)


GROUPS = np.array([0, 0, 1, 1, 2, 2])


def test_weights_of_a_pipeline_are_those_of_its_logit(people):
    x, y = people
    fitted = Fitted(logistic_steps().fit(x, y))
    change = fitted.logit(x[:5]) - fitted.logit(x[5:10])
    np.testing.assert_allclose((x[:5] - x[5:10]) @ linear_weights(fitted.pipeline), change, rtol=1e-6)


def test_a_linear_model_s_values_are_its_weights_times_the_difference_to_the_mean(people):
    """All three ways give the closed form, and share out the logit less its mean."""
    x, y = people
    fitted = Fitted(logistic_steps().fit(x, y))
    closed = linear_shapley(linear_weights(fitted.pipeline), x[:4], x.mean(axis=0)) @ np.eye(3)[GROUPS]
    np.testing.assert_allclose(exact_shapley(fitted.logit, x[:4], x, GROUPS), closed, atol=1e-9)
    np.testing.assert_allclose(fold_values("linear", fitted, x[:4], x, GROUPS, 0), closed, atol=1e-9)
    sampled = sampled_shapley(fitted.logit, x[:4], x, GROUPS, 4000, 0)
    np.testing.assert_allclose(sampled, closed, atol=0.12 * np.abs(closed).max())
    np.testing.assert_allclose(closed.sum(axis=1), fitted.logit(x[:4]) - fitted.logit(x).mean())


def test_an_interaction_is_shared_equally():
    x, background = np.array([[2.0, 3.0, 5.0]]), np.zeros((1, 3))

    def product(rows):
        return rows[:, 0] * rows[:, 1]

    for values in (
        exact_shapley(product, x, background, np.arange(3)),
        sampled_shapley(product, x, background, np.arange(3), 3, 0),  # an order and its reverse are exact for two
    ):
        np.testing.assert_allclose(values, [[3.0, 3.0, 0.0]])


def test_a_forest_s_values_add_up_and_the_sampled_ones_near_the_exact(people):
    x, y = people
    forest = RandomForestClassifier(20, random_state=0).fit(x, y)

    def told(rows):
        return forest.predict_proba(rows)[:, 1]

    exact = exact_shapley(told, x[:3], x, GROUPS)
    np.testing.assert_allclose(exact.sum(axis=1), told(x[:3]) - told(x).mean())
    np.testing.assert_allclose(sampled_shapley(told, x[:3], x, GROUPS, 600, 1), exact, atol=0.05)


def test_edges_go_to_the_pair_of_their_networks():
    meta = {"names": ["r0", "r1", "r2"], "networks": ["b", "a", "b"]}
    groups, names = network_pairs(meta)
    assert [names[g] for g in groups] == ["a|b", "b|b", "a|b"]  # edges 01, 02, 12


def test_the_model_s_edges_are_summed_to_the_same_pairs():
    meta = {"names": ["r0", "r1", "r2"], "networks": ["b", "a", "b"]}
    maps = pd.DataFrame({"name": ["r0|r1", "r0|r2", "r1|r2"], "mean": [0.5, 0.2, 0.3]})
    maps = maps.assign(method="smoothgrad", modality="fmri", domain="spatial", kind="edge")
    found = saliency(maps, "network_pair", ["a|b", "b|b"], meta)
    np.testing.assert_allclose(found["smoothgrad", "spatial"], [0.8, 0.2])


def test_repeats_make_nobody_two_people(stored_study):
    """A second repeat of the same folds: the same values of the same people."""
    cohort = read_table(stored_study.cohort)
    y = task_labels(cohort, Task(case=["ASD"]))
    splits = make_splits(cohort, SplitOptions(n_folds=2))
    twice = pd.concat([splits, splits.assign(fold=splits["fold"] + 2)], ignore_index=True)
    once, again = (rival_values("linear", stored_study.stores, cohort, own, y, 0) for own in (splits, twice))
    assert once.keys() == again.keys()
    for place, (values, labels, *_) in once.items():
        np.testing.assert_allclose(again[place][0], values, atol=1e-12)
        np.testing.assert_array_equal(again[place][1], labels)
    rows = pd.DataFrame([[1.0], [4.0], [3.0], [5.0]], ["b", "a", "b", "c"])
    assert once_each(rows, rows.index)[0].to_dict() == {"b": 2.0, "a": 4.0, "c": 5.0}
