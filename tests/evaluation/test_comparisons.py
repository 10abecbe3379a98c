"""Methods over folds, against chance and each against each: by hand, by simulation, by exact enumeration."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mcsp.evaluation.comparisons import (
    all_pairs,
    best_method,
    chance_p,
    fold_differences,
    fold_row,
    holm_of_known,
    nadeau_bengio,
    over_subjects,
    share_tested,
)
from mcsp.evaluation.metrics import METRICS, holm
from mcsp.options.results import EvaluateOptions


def test_the_corrected_t_test_by_hand():
    """Differences 1, 2, 3, 4, 5: mean 3, variance 2.5. Five folds: each tests a quarter of what it learns from."""
    mean, error, df, p = nadeau_bengio([1, 2, 3, 4, 5], 0.25)
    assert (mean, df) == (3, 4)
    assert error == pytest.approx(np.sqrt((0.2 + 0.25) * 2.5))
    assert p == pytest.approx(2 * stats.t.sf(3 / np.sqrt(1.125), 4))
    assert nadeau_bengio([1, 2, 3, 4, 5], 0)[3] == pytest.approx(stats.ttest_1samp([1, 2, 3, 4, 5], 0).pvalue)


def test_it_says_when_it_cannot_tell():
    assert np.isnan(nadeau_bengio([0.1], 0.5)[3])
    assert np.isnan(nadeau_bengio([], 0.5)[3])
    assert nadeau_bengio([0, 0, 0], 0.5)[3] == 1
    assert np.isnan(nadeau_bengio([0.5, 0.5], 0.5)[3])  # equal in all folds: no variance to hold it against


def nearest_mean_accuracy(x, y, train, test):
    """Accuracy of the classifier that takes the nearer class mean."""
    means = [x[train][y[train] == c].mean(axis=0) for c in (0, 1)]
    far = [((x[test] - m) ** 2).sum(axis=1) for m in means]
    return np.mean((far[1] < far[0]) == (y[test] == 1))


def test_its_error_of_the_first_kind_lies_below_that_of_the_naive_t_test():
    """Two classifiers of equally good features, ten times ten folds: neither is better, whatever one draw of data says."""
    rng, n, found = np.random.default_rng(0), 60, []
    y = np.arange(n) % 2
    for _ in range(120):
        a, b = (rng.normal(size=(n, 2)) + 0.5 * y[:, None] for _ in range(2))
        differences = []
        for _ in range(10):
            fold = rng.permutation(np.arange(n) % 10)
            for k in range(10):
                train, test = fold != k, fold == k
                differences.append(nearest_mean_accuracy(a, y, train, test) - nearest_mean_accuracy(b, y, train, test))
        found.append((nadeau_bengio(differences, 1 / 9)[3] < 0.05, stats.ttest_1samp(differences, 0).pvalue < 0.05))
    corrected, naive = np.mean(found, axis=0)
    assert naive > 0.3
    assert corrected < 0.12


def test_folds_are_compared_one_by_one_and_single_classes_left_out():
    rng = np.random.default_rng(0)
    y, fold = np.arange(60) % 2, np.arange(60) // 20
    a, b = rng.random(60), rng.random(60)
    found = fold_differences(y, a, b, fold, "auroc")
    expected = [METRICS["auroc"](y[i], a[i]) - METRICS["auroc"](y[i], b[i]) for i in (fold == 0, fold == 1, fold == 2)]
    assert found == expected
    y = np.where(fold == 2, 1, y)
    assert fold_differences(y, a, b, fold, "auroc") == expected[:2]
    row = fold_row(y, a, b, fold, "auroc", 0.5, 0.95)
    assert row["df"] == 1
    assert row["low"] < row["difference"] < row["high"]
    wide = fold_row(y, a, b, fold, "auroc", 0.5, 0.99)
    assert wide["high"] - wide["low"] > row["high"] - row["low"]


def test_the_share_of_test_subjects_is_that_of_the_task():
    parts = {"a": "test", "b": "train", "c": "val", "d": "train", "x": "test"}
    splits = pd.DataFrame([(0, uid, p) for uid, p in parts.items()], columns=["fold", "uid", "part"])
    assert share_tested(splits, ["a", "b", "c", "d"]) == pytest.approx(1 / 3)
    none = splits.assign(fold=1, part="train")  # this fold tests nobody of the task
    assert share_tested(pd.concat([splits, none]), ["a", "b", "c", "d"]) == pytest.approx(1 / 3)


def test_unknown_p_values_count_for_nothing_in_the_correction():
    assert holm_of_known([0.01, np.nan, 0.04])[:1] + holm_of_known([0.01, np.nan, 0.04])[2:] == holm([0.01, 0.04])
    assert np.isnan(holm_of_known([0.01, np.nan])[1])
    assert holm_of_known([]) == []


def test_chance_agrees_with_all_permutations_within_folds():
    y, fold = np.array([1, 0, 1, 0, 1, 0, 0]), np.array([0, 0, 0, 0, 1, 1, 1])
    p = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.1])
    auroc, first, second = METRICS["auroc"], set(permutations(y[:4])), set(permutations(y[4:]))
    every = [auroc(np.array([*a, *b]), p) for a, b in product(first, second)]
    exact = np.mean(np.array(every) >= auroc(y, p) - 1e-12)
    assert 0.05 < exact < 0.5
    assert chance_p(y, p, fold, 8000, 0) == pytest.approx(exact, abs=0.02)


def test_folds_whose_models_have_scales_of_their_own_are_no_better_than_chance():
    """Cases are many where probabilities are high: pooled, that looks like knowledge; within folds there is none."""
    rng = np.random.default_rng(1)
    fold = np.repeat([0, 1], 50)
    y = (rng.random(100) < np.where(fold == 1, 0.8, 0.2)).astype(int)
    p = 0.5 * fold + 0.4 * rng.random(100)
    assert METRICS["auroc"](y, p) > 0.7
    assert chance_p(y, p, fold, 400, 0) > 0.05
    assert chance_p(y, y + rng.random(100), fold, 400, 0) == 1 / 401
    assert np.isnan(chance_p(np.ones(4), np.arange(4), np.zeros(4), 10, 0))


def methods(**strengths):
    rng, y = np.random.default_rng(0), np.arange(120) % 2
    uid = [f"d/{i:03d}" for i in range(120)]
    tables = [
        pd.DataFrame({"method": name, "fold": 0, "uid": uid, "y": y, "p": rng.normal(size=120) + strength * y})
        for name, strength in strengths.items()
    ]
    return pd.concat(tables, ignore_index=True)


def test_a_method_is_best_only_where_it_beats_all_others():
    options = EvaluateOptions(n_permutations=100)
    pairs = all_pairs("t", methods(a=3.0, b=0.5, c=0.4), options)
    assert len(pairs) == 3
    assert pairs["p_holm"].tolist() == holm(pairs["p"])
    assert best_method(pairs) == "a"
    assert best_method(all_pairs("t", methods(b=0.5, a=3.0, c=0.4), options)) == "a"  # whichever side it stands on
    assert best_method(all_pairs("t", methods(a=1.5, b=1.4, c=0.0), options)) is None  # two are good
    assert best_method(all_pairs("t", methods(a=3.0), options)) is None


def test_pairs_are_compared_on_the_subjects_that_both_predicted():
    table = methods(a=1.0, b=0.5)
    part = table[(table["method"] == "a") | (table["uid"] < "d/070")]
    assert all_pairs("t", part, EvaluateOptions())["n"].item() == 70


def test_tests_over_subjects_are_told_apart():
    table = pd.DataFrame({"test": ["delong", "nadeau-bengio", "permutation"]})
    assert over_subjects(table)["test"].tolist() == ["delong", "permutation"]
