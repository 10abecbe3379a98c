"""Permutation tests and effect sizes against independent references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from mcsp.explain.permutation import hedges_g, label_test, sign_flip


def test_sign_flips_near_the_exact_p_and_use_student_s_t():
    rng = np.random.default_rng(0)
    d = rng.normal(0.4, 1, size=(9, 3))
    found = sign_flip(d, 4000, seed=1)
    np.testing.assert_allclose(found.t, ttest_1samp(d, 0).statistic)
    signs = np.array(list(itertools.product([-1, 1], repeat=9)))
    exact = [(ttest_1samp(d * s[:, None], 0).statistic.max() >= found.t - 1e-9) for s in signs]
    np.testing.assert_allclose(found.p_maxt, np.mean(exact, axis=0), atol=0.03)


def test_max_t_holds_the_family_wise_error_of_pure_noise():
    rng = np.random.default_rng(2)
    hits = [(sign_flip(rng.normal(size=(20, 30)), 200, seed=i).p_maxt < 0.05).any() for i in range(200)]
    assert np.mean(hits) < 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_label_test_is_welch_s_and_finds_what_is_there():
    rng, y = np.random.default_rng(3), np.arange(60) % 2
    x = rng.normal(size=(60, 40)) * np.linspace(0.5, 3, 40)
    x[:, 7] += 3 * y
    found = label_test(x, y, np.zeros(60), 500, seed=0)
    np.testing.assert_allclose(found.t, ttest_ind(x[y == 1], x[y == 0], equal_var=False).statistic, rtol=1e-6)
    assert found.p_maxt[7] < 0.01
    assert found.p_maxt.argmin() == 7


def test_a_difference_of_sites_alone_is_none_within_sites():
    """Cases come from one site, whose values are higher: shuffling within sites knows that."""
    rng = np.random.default_rng(4)
    site = np.repeat([0, 1], 40)
    y = (rng.random(80) < np.where(site, 0.8, 0.2)).astype(int)
    x = rng.normal(size=(80, 1)) + 2 * site[:, None]
    assert label_test(x, y, np.zeros(80), 500, seed=0).p_maxt[0] < 0.01
    assert label_test(x, y, site, 500, seed=0).p_maxt[0] > 0.05


def test_an_entry_that_nobody_holds_has_no_p_and_leaves_the_others_theirs():
    rng, y = np.random.default_rng(6), np.arange(40) % 2
    x = rng.normal(size=(40, 4)) + y[:, None] * [2.0, 0, 0, 0]
    alone = label_test(x[:, [0, 1, 3]], y, np.zeros(40), 100, seed=0)
    x[:, 2] = np.nan
    found = label_test(x, y, np.zeros(40), 100, seed=0)
    for p, own in ((found.p_maxt, alone.p_maxt), (found.q_fdr, alone.q_fdr)):
        np.testing.assert_array_equal(p, np.insert(own, 2, np.nan))
    assert np.isnan(label_test(np.full((40, 2), np.nan), y, np.zeros(40), 10, seed=0).p_maxt).all()


def test_what_is_not_known_of_a_subject_is_left_out_of_that_feature_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), (np.arange(60) < 25).astype(int)
    x[rng.random(x.shape) < 0.2] = np.nan
    found = label_test(x, y, np.zeros(60), 50, seed=0)
    expected = ttest_ind(x[y == 1], x[y == 0], equal_var=False, nan_policy="omit").statistic
    np.testing.assert_allclose(found.t, expected, rtol=1e-10)
    g, low, high = hedges_g(x, y)
    for i in range(4):
        known = ~np.isnan(x[:, i])
        one = hedges_g(x[known, i : i + 1], y[known])
        np.testing.assert_allclose([g[i], low[i], high[i]], np.ravel(one))


def test_hedges_g_by_hand():
    x, y = np.array([[1.0], [3.0], [2.0], [6.0], [8.0], [7.0]]), np.array([0, 0, 0, 1, 1, 1])
    g, low, high = hedges_g(x, y)
    assert g[0] == pytest.approx(5.0 * (1 - 3 / 15))  # both standard deviations are 1
    assert low[0] < g[0] < high[0]
    flipped = hedges_g(x, 1 - y)
    assert flipped[0][0] == pytest.approx(-g[0])
    assert flipped[1][0] == pytest.approx(-high[0])


def test_the_interval_of_g_covers():
    rng, hits = np.random.default_rng(5), []
    y = np.arange(50) % 2
    for _ in range(400):
        _, low, high = hedges_g(rng.normal(size=(50, 1)) + 0.8 * y[:, None], y)
        hits.append(low[0] < 0.8 < high[0])
    assert 0.91 < np.mean(hits) < 0.99
