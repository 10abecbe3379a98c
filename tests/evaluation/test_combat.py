"""ComBat against the published implementation's numbers, a closed form, planted site effects, and awkward studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mcsp.errors import McspError
from mcsp.evaluation import combat
from mcsp.evaluation.combat import Combat, shrink

REFERENCE = json.loads(Path(__file__).with_name("combat_reference.json").read_text())  # see make_combat_reference.py


def study(n: int = 300, n_features: int = 40, n_sites: int = 3, seed: int = 0):
    """Features with strong site effects, sites, covariates (age, sex) that differ between sites, and the age effect."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) % n_sites
    sites = np.array([f"d/{i}" for i in range(n_sites)])[code]
    age, sex = 20 + 5 * code + rng.uniform(0, 20, n), rng.choice([-1.0, 1.0], n)
    beta = rng.normal(0, 0.05, n_features)
    shift, spread = rng.normal(0, 3, (n_sites, n_features)), rng.uniform(0.4, 2.5, (n_sites, n_features))
    x = shift[code] + age[:, None] * beta + 0.2 * sex[:, None] + spread[code] * rng.normal(size=(n, n_features))
    return x, sites, np.column_stack([age, sex]), beta


def harmonised(x: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """Features of those that ComBat is fitted on."""
    return Combat().fit(x, sites, covariates).transform(x, sites, covariates)


def learnt(model: Combat) -> list[np.ndarray]:
    """All that is fitted, as arrays."""
    return [model.sites, model.median, model.centre, model.mean, model.betas, model.variance, model.gamma, model.delta]


@pytest.fixture(scope="module")
def reference():
    """The frozen study: fitted on its training subjects; features, sites, covariates, and who trains."""
    x, sites, train = (np.array(REFERENCE[name]) for name in ("x", "SITE", "train"))
    covariates = np.column_stack([REFERENCE["age"], REFERENCE["sex"]])
    return Combat().fit(x[train], sites[train], covariates[train]), x, sites, covariates, train


@pytest.mark.parametrize(("bound", "tolerance"), [("converged", 1e-10), ("published", 1e-4)])
def test_estimates_and_features_are_those_of_neurocombat_and_neuroharmonize(reference, bound, tolerance):
    """The published packages stop once estimates change by less than 1e-4 of themselves, so they agree to that; with their
    bound at 1e-12 they agree to rounding.
    """
    model, x, sites, covariates, train = reference
    expected = {name: np.array(values) for name, values in REFERENCE[bound].items()}
    np.testing.assert_allclose(model.gamma, expected["gamma_star"], atol=tolerance)
    np.testing.assert_allclose(model.delta, expected["delta_star"], atol=tolerance)
    np.testing.assert_allclose(model.variance, expected["var_pooled"], atol=1e-12)
    np.testing.assert_allclose(model.betas, expected["betas"], atol=1e-12)
    own = model.transform(x[train], sites[train], covariates[train])
    np.testing.assert_allclose(own, expected["neurocombat_train"], atol=tolerance)
    np.testing.assert_allclose(own, expected["neuroharmonize_train"], atol=tolerance)
    others = model.transform(x[~train], sites[~train], covariates[~train])
    np.testing.assert_allclose(others, expected["neuroharmonize_test"], atol=tolerance)


def test_blocks_of_features_do_not_matter(reference, monkeypatch):
    model, x, sites, covariates, train = reference
    monkeypatch.setattr(combat, "BLOCK", 3)
    again = Combat().fit(x[train], sites[train], covariates[train])
    for a, b in zip(learnt(model)[1:], learnt(again)[1:]):
        np.testing.assert_allclose(a, b, atol=1e-12)
    args = x[~train], sites[~train], covariates[~train]
    np.testing.assert_allclose(model.transform(*args), again.transform(*args), atol=1e-12)


def test_one_feature_alone_is_standardised_within_sites():
    """Without other features there is no prior, and ComBat without covariates is z-scoring per site."""
    rng = np.random.default_rng(0)
    sites = np.repeat(["a", "b", "c"], [10, 30, 20])
    x = rng.normal(np.repeat([0.0, 5.0, -2.0], [10, 30, 20]), np.repeat([1.0, 3.0, 0.5], [10, 30, 20]))[:, None]
    model = Combat().fit(x, sites, np.zeros((60, 0)))
    pooled = np.mean(np.concatenate([x[sites == s] - x[sites == s].mean() for s in "abc"]) ** 2)
    expected = x.copy()
    for s in "abc":
        own = x[sites == s]
        expected[sites == s] = x.mean() + np.sqrt(pooled) * (own - own.mean()) / own.std(ddof=1)
    np.testing.assert_allclose(model.transform(x, sites, np.zeros((60, 0))), expected, atol=1e-12)


def test_shrunk_estimates_solve_the_two_equations_of_the_paper():
    rng = np.random.default_rng(1)
    z = rng.normal(0.5, rng.uniform(0.5, 2, 50), (7, 50))
    gamma, delta = z.mean(axis=0), z.var(axis=0, ddof=1)
    m, t2, v, s2 = gamma.mean(), gamma.var(ddof=1), delta.mean(), delta.var(ddof=1)
    g, d = shrink(gamma, 6 * delta, delta, 7, (m, t2, v, s2))
    a, b = v**2 / s2 + 2, v**3 / s2 + v  # moments of the inverse gamma
    np.testing.assert_allclose(g, (7 * t2 * gamma + d * m) / (7 * t2 + d), rtol=1e-8)
    np.testing.assert_allclose(d, (b + ((z - g) ** 2).sum(axis=0) / 2) / (7 / 2 + a - 1), rtol=1e-8)
    assert (np.abs(g - m) < np.abs(gamma - m)).all()
    g, d = shrink(gamma, 6 * delta, delta, 7, (m, 0.0, v, 0.0))  # a prior without variance has the only word
    np.testing.assert_allclose(g, m)
    np.testing.assert_allclose(d, v)


def test_site_effects_go_and_covariate_effects_stay():
    x, sites, covariates, beta = study(n=1200)
    train = np.arange(len(x)) % 4 > 0
    model = Combat().fit(x[train], sites[train], covariates[train])
    new = model.transform(x[~train], sites[~train], covariates[~train])

    def moments(values):
        rest = values - covariates[~train] @ np.linalg.lstsq(design(), values, rcond=None)[0][:2]
        own = [rest[sites[~train] == s] for s in np.unique(sites)]
        return np.stack([a.mean(axis=0) for a in own]), np.stack([a.std(axis=0) for a in own])

    def design():
        return np.column_stack([covariates[~train], *(sites[~train] == s for s in np.unique(sites))])

    means, spreads = moments(new)
    before, wide = moments(x[~train])
    sd = spreads.mean(axis=0)
    assert np.mean(np.ptp(before, axis=0) / sd) > 3
    assert np.mean(np.ptp(means, axis=0) / sd) < 0.4  # three means of 100 subjects lie 0.17 apart by chance, plus age's error
    assert np.mean(wide.max(axis=0) / wide.min(axis=0)) > 1.9
    assert np.mean(spreads.max(axis=0) / spreads.min(axis=0)) < 1.25
    slopes = np.linalg.lstsq(np.column_stack([covariates[~train], np.ones(len(new))]), new, rcond=None)[0][0]
    assert np.corrcoef(slopes, beta)[0, 1] > 0.9
    assert np.polyfit(beta, slopes, 1)[0] == pytest.approx(1, abs=0.2)


def test_order_of_subjects_does_not_matter():
    x, sites, covariates, _ = study()
    order = np.random.default_rng(3).permutation(len(x))
    model, mixed = Combat().fit(x, sites, covariates), Combat().fit(x[order], sites[order], covariates[order])
    for a, b in zip(learnt(model)[1:], learnt(mixed)[1:]):
        np.testing.assert_allclose(a, b, atol=1e-9)
    new = model.transform(x, sites, covariates)
    np.testing.assert_allclose(new[order], mixed.transform(x[order], sites[order], covariates[order]), atol=1e-9)


def test_changed_test_subjects_leave_what_is_fitted_bit_identical():
    x, sites, covariates, _ = study()
    fitted = []
    for change in (0, 1e6):
        x[200:], covariates[200:] = x[200:] + change, covariates[200:] + change
        model = Combat().fit(x[:200], sites[:200], covariates[:200])
        before = [a.copy() for a in learnt(model)]
        one = model.transform(x[200:201], sites[200:201], covariates[200:201])
        all_ = model.transform(x[200:], sites[200:], covariates[200:])
        np.testing.assert_allclose(one[0], all_[0], rtol=1e-12)  # nor do test subjects see each other
        assert all(np.array_equal(a, b) for a, b in zip(before, learnt(model)))
        fitted.append(before)
    assert all(np.array_equal(a, b) for a, b in zip(*fitted))


def test_sites_that_can_not_be_fitted_are_left_as_they_are_and_named():
    x, sites, covariates, _ = study()
    sites = sites.astype("U10")
    sites[0] = "d/single"
    model = Combat().fit(x, sites, covariates)
    without = Combat().fit(x[1:], sites[1:], covariates[1:])
    for name in ("sites", "centre", "mean", "betas", "variance", "gamma", "delta"):
        assert np.array_equal(getattr(model, name), getattr(without, name))
    assert (model.state("d/single"), model.n_train["d/single"]) == ("too few", 1)
    assert (model.state("d/0"), model.n_train["d/0"]) == ("fitted", 99)
    assert model.state("d/new") == "unseen"
    asked = np.array(["d/single", "d/new", "d/0"])
    new = model.transform(x[:3], asked, covariates[:3])
    np.testing.assert_array_equal(new[:2], x[:2])
    assert not np.allclose(new[2], x[2])


def test_one_site_has_nothing_to_be_harmonised_with():
    x, _, covariates, _ = study()
    sites = np.repeat("d/0", len(x))
    model = Combat().fit(x, sites, covariates)
    assert model.state("d/0") == "only site"
    new = model.transform(x, sites, covariates)
    np.testing.assert_array_equal(new, x)
    assert new is not x


def test_constant_features_are_left_as_they_are_and_do_not_count():
    x, sites, covariates, _ = study()
    more = np.insert(x, [0, 7, 7], 0, axis=1)
    more[:, 0] = 0.1
    more[:, 8] = np.searchsorted(np.unique(sites), sites)  # constant within each site
    kept = np.setdiff1d(np.arange(43), [0, 7 + 1, 7 + 2])
    assert np.array_equal(more[:, kept], x)
    new = harmonised(more, sites, covariates)
    np.testing.assert_array_equal(new[:, [0, 8, 9]], more[:, [0, 8, 9]])
    np.testing.assert_allclose(new[:, kept], harmonised(x, sites, covariates), atol=1e-12)
    flat = np.ones((20, 2))
    np.testing.assert_array_equal(harmonised(flat, sites[:20], covariates[:20]), flat)


def test_a_feature_without_spread_at_one_site_stays_finite():
    x, sites, _, _ = study()
    x[sites == "d/1", 5] = 0
    new = harmonised(x, sites, np.zeros((300, 0)))
    assert np.isfinite(new).all()


def test_missing_covariates_are_the_training_median():
    x, sites, covariates, _ = study()
    holes = covariates.copy()
    holes[::7, 0] = np.nan
    filled = np.where(np.isnan(holes), np.nanmedian(holes[:200], axis=0), holes)
    a, b = (Combat().fit(x[:200], sites[:200], c[:200]) for c in (holes, filled))
    assert np.array_equal(a.transform(x, sites, holes), b.transform(x, sites, filled))
    nothing = np.column_stack([np.full(300, np.nan), covariates[:, 1]])
    np.testing.assert_allclose(
        harmonised(x, sites, nothing),
        harmonised(x, sites, covariates[:, 1:]),
        atol=1e-12,
    )


def test_what_a_covariate_can_not_tell_from_the_site_is_the_sites():
    x, sites, covariates, _ = study()
    confounded = covariates.copy()
    confounded[:, 1] = np.where(sites == "d/0", 1, -1)
    model = Combat().fit(x, sites, confounded)
    np.testing.assert_allclose(model.betas[1], 0, atol=1e-12)
    alone = Combat().fit(x, sites, confounded[:, :1])
    np.testing.assert_allclose(model.transform(x, sites, confounded), alone.transform(x, sites, confounded[:, :1]), atol=1e-9)
    only = harmonised(x, sites, confounded[:, 1:])
    np.testing.assert_allclose(only, harmonised(x, sites, confounded[:, :0]), atol=1e-9)
    constant = np.column_stack([covariates, np.full(len(x), 23.7)])
    np.testing.assert_allclose(harmonised(x, sites, constant), harmonised(x, sites, covariates), atol=1e-9)
    twice = covariates[:, [0, 0, 1]]
    once = harmonised(x, sites, covariates)
    np.testing.assert_allclose(harmonised(x, sites, twice), once, atol=1e-9)


def test_one_sex_at_one_site_leaves_the_effect_of_sex_to_the_others():
    x, sites, covariates, _ = study(n=900)
    covariates[sites == "d/0", 1] = 1
    x[:, 3] += covariates[:, 1]  # 0.2 of the study and 1
    model = Combat().fit(x, sites, covariates)
    design = np.column_stack([covariates, *(sites == s for s in np.unique(sites))])
    np.testing.assert_allclose(model.betas, np.linalg.lstsq(design, x, rcond=None)[0][:2], atol=1e-9)


def test_float32_stays_float32_and_is_reckoned_in_float64():
    x, sites, covariates, _ = study()
    x = x.astype(np.float32)
    new = harmonised(x, sites, covariates)
    assert new.dtype == np.float32
    wide = x.astype(float)
    assert np.array_equal(new, harmonised(wide, sites, covariates).astype(np.float32))


def test_bad_input_is_one_clear_line():
    x, sites, covariates, _ = study()
    with pytest.raises(ValueError, match="not the same subjects"):
        Combat().fit(x, sites[1:], covariates)
    x[4, 7] = np.nan
    with pytest.raises(McspError, match="not finite"):
        Combat().fit(x, sites, covariates)


def test_counting_sites_knows_what_fitting_knows():
    rng = np.random.default_rng(0)
    for sites in (list("aaabbc"), list("aaaaab"), list("abcdef")):
        fitted = Combat().fit(rng.normal(size=(6, 4)), np.array(sites), rng.normal(size=(6, 1)))
        counted = Combat().count(np.array(sites))
        assert counted.n_train == fitted.n_train
        assert [counted.state(site) for site in "abcdefg"] == [fitted.state(site) for site in "abcdefg"]
