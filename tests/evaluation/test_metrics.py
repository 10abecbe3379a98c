"""Metrics against scikit-learn, tests against slow or exact versions, intervals against their promise."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from mcsp.evaluation.metrics import METRICS, bootstrap, calibration_error, delong, holm, paired_permutation, per_fold


def sample(n: int = 80, seed: int = 0, ties: bool = False, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that say something about them."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 3 == 0).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + signal * y - signal / 2)))
    return y, np.round(p, 1) if ties else p


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed, ties):
    y, p = sample(seed=seed, ties=ties)
    hard = (p >= 0.5).astype(int)
    expected = {
        "auroc": reference.roc_auc_score(y, p),
        "auprc": reference.average_precision_score(y, p),
        "accuracy": reference.accuracy_score(y, hard),
        "balanced_accuracy": reference.balanced_accuracy_score(y, hard),
        "sensitivity": reference.recall_score(y, hard),
        "specificity": reference.recall_score(y, hard, pos_label=0),
        "f1": reference.f1_score(y, hard),
        "brier": reference.brier_score_loss(y, p),
    }
    for name, value in expected.items():
        assert METRICS[name](y, p) == pytest.approx(value, abs=1e-12), name


def test_calibration_error_by_hand():
    y, p = np.array([1, 0, 1, 1, 0]), np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    # bins [0, .1): 2 subjects, half are cases, said 0.05; [.9, 1]: 3 subjects, two are cases, said 2.9 / 3
    assert calibration_error(y, p) == pytest.approx((2 * abs(0.5 - 0.05) + 3 * abs(2 / 3 - 2.9 / 3)) / 5)
    exact = np.repeat([0.2, 0.8], 10)
    assert calibration_error(np.r_[np.arange(10) < 2, np.arange(10) < 8].astype(int), exact) == pytest.approx(0)


def test_metrics_are_of_probabilities_not_of_decisions():
    y, p = sample(seed=3)
    assert METRICS["auroc"](y, p) != METRICS["auroc"](y, (p >= 0.5).astype(float))
    assert METRICS["auroc"](y, p) == pytest.approx(METRICS["auroc"](y, p**3))


def test_one_class_has_no_ranking():
    assert np.isnan(METRICS["auroc"](np.ones(4, int), np.linspace(0, 1, 4)))
    assert np.isnan(METRICS["auprc"](np.zeros(4, int), np.linspace(0, 1, 4)))


def slow_delong(y, a, b):
    """Straight from DeLong et al. 1988: the kernel of every pair, structural components, their covariance."""
    v10, v01, areas = [], [], []
    for score in (a, b):
        x, z = score[y == 1][:, None], score[y == 0][None]
        kernel = (x > z) + 0.5 * (x == z)
        v10.append(kernel.mean(axis=1))
        v01.append(kernel.mean(axis=0))
        areas.append(kernel.mean())
    contrast = np.array([1, -1])
    variance = contrast @ (np.cov(v10) / (y == 1).sum() + np.cov(v01) / (y == 0).sum()) @ contrast
    z = (areas[0] - areas[1]) / np.sqrt(variance)
    return areas[0] - areas[1], np.sqrt(variance), 2 * stats.norm.sf(abs(z))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_delong_agrees_with_the_u_statistic(seed, ties):
    y, a = sample(seed=seed, ties=ties)
    b = np.clip(a + np.random.default_rng(seed + 50).normal(0, 0.3, len(a)), 0, 1)
    np.testing.assert_allclose(delong(y, a, b), slow_delong(y, a, b), rtol=1e-10)
    assert delong(y, b, a)[0] == -delong(y, a, b)[0]


def test_delong_holds_its_level_when_neither_is_better():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    p = [delong(y, y + rng.normal(0, 1.5, 80), y + rng.normal(0, 1.5, 80))[2] for _ in range(500)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_delong_says_when_it_cannot_tell():
    y, p = sample()
    assert delong(y, p, p)[2] == 1.0
    assert np.isnan(delong(y, y.astype(float), np.full(len(y), 0.5))[2])  # perfect against constant: no variance
    assert np.isnan(delong(np.array([1, 0, 0]), p[:3], p[1:4])[2])


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auroc"])
def test_permutation_agrees_with_all_swaps(metric):
    y, a = sample(10, seed=1, signal=2.0)
    b = np.random.default_rng(3).random(10)
    score = METRICS[metric]
    observed = abs(score(y, a) - score(y, b))
    all_swaps = [np.array(s) for s in product([False, True], repeat=10)]
    swapped = [abs(score(y, np.where(s, b, a)) - score(y, np.where(s, a, b))) for s in all_swaps]
    exact = np.mean(np.array(swapped) >= observed - 1e-12)
    assert exact < 0.9  # or the test would say little
    assert paired_permutation(y, a, b, metric, 4000, 0) == pytest.approx(exact, abs=0.025)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]


@pytest.mark.parametrize("by_fold", [False, True])
def test_intervals_cover_the_truth_as_often_as_promised(by_fold):
    """Binormal scores have AUROC Phi(d / sqrt 2)."""
    rng, d, inside = np.random.default_rng(0), 1.0, []
    y, fold = np.arange(120) % 2, np.arange(120) // 40
    for i in range(150):
        p = stats.norm.cdf(rng.normal(size=120) + d * y)
        low, high = bootstrap(y, p, 200, i, 0.9, ("auroc",), fold if by_fold else None)["auroc"]
        inside.append(low <= stats.norm.cdf(d / np.sqrt(2)) <= high)
    assert 0.82 < np.mean(inside) < 0.97


def test_intervals_depend_on_the_seed_alone_and_narrow_with_subjects():
    y, p = sample()
    first = bootstrap(y, p, 200, 0, 0.95)
    assert first == bootstrap(y, p, 200, 0, 0.95)
    assert first != bootstrap(y, p, 200, 1, 0.95)
    assert set(first) == set(METRICS)
    width = np.diff(first["auroc"])[0]
    assert np.diff(bootstrap(np.tile(y, 9), np.tile(p, 9), 200, 0, 0.95)["auroc"])[0] < width / 2
    assert np.diff(bootstrap(y, p, 200, 0, 0.6)["auroc"])[0] < width


def test_pooling_folds_pulls_auroc_of_the_prevalence_below_chance_and_averaging_does_not():
    y, fold = np.arange(50) % 2, np.repeat([0, 1, 2, 3, 4], 10)
    y[:3] = 1
    p = np.array([y[fold != k].mean() for k in fold])
    assert METRICS["auroc"](y, p) < 0.5
    assert per_fold(y, p, fold, "auroc") == [0.5] * 5
    assert bootstrap(y, p, 50, 0, 0.95, ("auroc",), fold)["auroc"] == (0.5, 0.5)


def test_folds_with_one_class_are_left_out_of_the_average():
    y, p = sample(40)
    fold = np.where(y == 1, 0, np.arange(40) % 2)
    assert len(per_fold(y, p, fold, "auroc")) == 1
    low, high = bootstrap(y, p, 50, 0, 0.95, ("auroc",), fold)["auroc"]
    assert low <= per_fold(y, p, fold, "auroc")[0] <= high
    assert np.isnan(bootstrap(y, p, 5, 0, 0.95, ("auroc",), y)["auroc"]).all()


def test_a_subject_that_two_repeats_test_is_drawn_as_one():
    """The same numbers twice, as of two equal repeats, tell no more than once: the interval of the folds' mean stays."""
    rng = np.random.default_rng(0)
    y, fold = np.arange(60) % 2, np.arange(60) // 20
    p = np.clip(0.3 * y + rng.random(60) * 0.7, 0, 1)
    once = bootstrap(y, p, 60, 1, 0.95, ("auroc", "brier"), fold=fold)
    two = [np.tile(a, 2) for a in (y, p)]
    again = np.concatenate([fold, fold + 3])
    subject = np.tile([f"s{i:02d}" for i in range(60)], 2)
    assert bootstrap(*two, 60, 1, 0.95, ("auroc", "brier"), fold=again, subject=subject) == once
    independent = bootstrap(*two, 60, 1, 0.95, ("auroc",), fold=again)["auroc"]
    assert np.diff(independent) < np.diff(once["auroc"])  # which is why rows must not be drawn one by one
