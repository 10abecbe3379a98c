"""Average precision of a map, also where entries tie."""

from __future__ import annotations

import itertools

import numpy as np
from sklearn.metrics import average_precision_score

from mcsp.explain.truth import auprc, chance_of


def test_without_ties_it_is_scikit_learns():
    rng = np.random.default_rng(0)
    mask = np.arange(40) < 7
    shares = rng.dirichlet(np.ones(40), size=5)
    expected = [average_precision_score(mask, row) for row in shares]
    np.testing.assert_allclose(auprc(shares, mask), expected)


def test_ties_count_by_the_mean_over_their_orders():
    values, mask = np.array([3.0, 2, 2, 2, 1, 1]), np.array([False, True, False, True, True, False])
    found = []
    for order in itertools.permutations(range(6)):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            found.append(average_precision_score(mask[list(order)], -np.arange(6.0)))
    np.testing.assert_allclose(auprc(values[None], mask), np.mean(found))


def test_chance_is_what_random_maps_have_in_the_mean():
    rng, mask = np.random.default_rng(1), np.arange(12) < 3
    random = auprc(rng.random((4000, 12)), mask)
    assert abs(random.mean() - chance_of("AUPRC", mask)) < 4 * random.std() / 4000**0.5
    assert chance_of("AUPRC", mask) > mask.mean() == chance_of("relevance mass", mask)
