"""Mutual information of features with the class, against scikit-learn, scipy and theory."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from sklearn.metrics import mutual_info_score

from mcsp.evaluation.rivals import screening
from mcsp.evaluation.rivals.screening import Screen, binned_information, kernel_information


def sample(n: int, shift: float, n_features: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3 // 2  # a third are cases
    return rng.normal(size=(n, n_features)) + shift * y[:, None], y


def mixture_information(shift: float, share: float, variance: float = 1.0) -> float:
    """I(X; Y) in nats of two Gaussians of equal variance, `shift` apart, mixed with `share` of the second."""
    sd = np.sqrt(variance)

    def integrand(x):
        parts = (1 - share) * stats.norm.pdf(x, 0, sd), share * stats.norm.pdf(x, shift, sd)
        f = sum(parts)
        return sum(p * np.log(p / f / prior) for p, prior in zip(parts, (1 - share, share)) if p > 0)

    return quad(integrand, -8 * sd, shift + 8 * sd)[0]


def test_bins_agree_with_scikit_learn():
    x, y = sample(200, 0.8, 20)
    n_bins = 6
    bins = np.argsort(np.argsort(x, axis=0), axis=0) * n_bins // 200
    np.testing.assert_allclose(binned_information(x, y), [mutual_info_score(y, own) for own in bins.T], atol=1e-12)


def test_equal_values_are_not_parted_by_the_order_of_rows():
    """Rows sorted by class, as uids may be: of few values, each is a bin of its own, and a constant tells nothing."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    few = np.stack([np.full(120, 7.0), y, rng.integers(0, 3, 120), np.arange(120) >= 117], axis=1).astype(float)
    truth = [mutual_info_score(y, own) for own in few.T]
    assert truth[0] == 0
    np.testing.assert_allclose(binned_information(few, y), truth, atol=1e-12)
    many = np.round(rng.normal(size=(120, 9)) + 0.5 * y[:, None], 1)
    order = rng.permutation(120)
    np.testing.assert_allclose(binned_information(many[order], y[order]), binned_information(many, y), atol=1e-12)
    for own, found in zip(many.T, binned_information(many, y)):
        middle = {value: np.flatnonzero(np.sort(own) == value).mean() for value in own}
        bins = [int(middle[value] * 5 // 120) for value in own]
        assert found == pytest.approx(mutual_info_score(y, bins), abs=1e-12)


def test_densities_agree_with_scipys():
    """scipy's kernel density of each class, at the bandwidth of all subjects, integrated by quadrature."""
    x, y = sample(150, 1.0)
    share = np.bincount(y) / len(y)
    for own, found in zip(x.T, kernel_information(x, y)):
        width = own.std() * len(own) ** -0.2
        classes = [stats.gaussian_kde(own[y == c], width / own[y == c].std(ddof=1)) for c in (0, 1)]
        grid = np.linspace(own.min() - 5 * width, own.max() + 5 * width, 4000)
        parts = np.array([s * k(grid) for s, k in zip(share, classes)])
        log = np.log(np.maximum(parts, 1e-300) / parts.sum(axis=0) / share[:, None])
        assert found == pytest.approx((parts * log).sum() * (grid[1] - grid[0]), rel=0.01)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_gaussians_have_the_information_of_theory(shift):
    """With many subjects both come close; the kernel's width is part of what it sees."""
    n = 60_000
    x, y = sample(n, shift, 2)
    truth = mixture_information(shift, 1 / 3)
    np.testing.assert_allclose(binned_information(x, y), truth, atol=0.004, rtol=0.02)
    blurred = mixture_information(shift, 1 / 3, 1 + np.var(x[:, 0]) * n**-0.4)
    np.testing.assert_allclose(kernel_information(x, y), blurred, atol=0.002, rtol=0.02)


@pytest.mark.parametrize("estimate", [binned_information, kernel_information])
def test_blocks_scale_and_constants_do_not_matter(estimate, monkeypatch):
    x, y = sample(90, 0.7, 11)
    x[:, 4] = 3.0
    whole = estimate(x, y)
    assert (whole >= 0).all()
    np.testing.assert_allclose(estimate(1000 * x - 5, y), whole, atol=1e-9)
    np.testing.assert_allclose(estimate(x.astype(np.float32), y), whole, atol=1e-3)
    monkeypatch.setattr(screening, "BLOCK", 4)
    np.testing.assert_array_equal(estimate(x, y), whole)


def test_a_constant_tells_nothing_to_the_densities():
    x, y = sample(90, 0)
    x[:, 1] = 3.0
    assert kernel_information(x, y)[1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("estimator", ["binned", "kde"])
def test_the_screen_keeps_what_tells_most_also_when_no_line_parts_it(estimator):
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = rng.normal(size=(300, 100))
    x[:, 7] += y
    x[:, 42] *= 1 + 3 * y  # equal means
    kept = Screen(estimator, share=0.02).fit(x, y)
    assert kept.chosen_.tolist() == [7, 42]
    np.testing.assert_array_equal(kept.transform(x), x[:, [7, 42]])
    assert len(Screen(estimator, share=1e-6).fit(x, y).chosen_) == 1
