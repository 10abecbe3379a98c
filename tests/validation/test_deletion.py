"""Deletion by what others could have had there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcsp.domains.graphs import correlation
from mcsp.model.batch import Batch
from mcsp.validation.deletion import areas, phase_randomised, replaced
from tests.validation.people import People


@pytest.mark.parametrize("n", [64, 65])
def test_surrogates_keep_amplitudes_and_mean_and_lose_the_phase(n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, n)) + 2
    x[1] = x[0]
    found = phase_randomised(x, rng)
    np.testing.assert_allclose(np.abs(np.fft.rfft(found)), np.abs(np.fft.rfft(x)), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=1), x.mean(axis=1))
    assert abs(np.corrcoef(found[:2])[0, 1]) < 0.5  # of equal rows


def test_only_what_is_named_is_replaced():
    rng = np.random.default_rng(1)
    series, other = rng.normal(size=(4, 50)), rng.normal(size=(4, 50))
    which = np.array([True, False, False, True])
    fc = correlation(series, 50)
    found = replaced(("fmri", "spatial"), fc, series, 50, fc, other, which)
    np.testing.assert_allclose(found[1, 2], fc[1, 2], atol=1e-6)
    mixed = np.where(which[:, None], other, series)
    np.testing.assert_allclose(found, correlation(mixed, 50), atol=1e-6)
    for key, shape in ((("eeg", "temporal"), (3, 4, 10)), (("eeg", "spectral"), (3, 4, 6)), (("fmri", "spectral"), (4, 6))):
        x, donor = rng.normal(size=shape), rng.normal(size=shape)
        found = replaced(key, x, series, 50, donor, donor, which)
        at = (slice(None), which) if key[0] == "eeg" else which
        kept = (slice(None), ~which) if key[0] == "eeg" else ~which
        np.testing.assert_allclose(found[at], donor[at], rtol=1e-6)
        np.testing.assert_allclose(found[kept], x[kept], rtol=1e-6)
    x, donor = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 4, 4))
    found = replaced(("eeg", "spatial"), x, series, 50, donor, donor, which)
    np.testing.assert_allclose(found[:, 1:3, 1:3], x[:, 1:3, 1:3], rtol=1e-6)
    np.testing.assert_allclose(found[:, 0], donor[:, 0], rtol=1e-6)


def test_the_area_is_that_of_the_regions_that_a_model_reads():
    generator, key = torch.Generator().manual_seed(2), ("fmri", "spectral")
    mine, other = (
        {key: torch.rand(1, 20, 6, generator=generator), ("fmri", "temporal"): torch.randn(1, 20, 30, generator=generator)}
        for _ in range(2)
    )
    own, donor = (
        People(Batch(x, {"fmri": torch.ones(1, dtype=torch.bool)}, {"fmri": torch.tensor([30])})) for x in (mine, other)
    )
    orders = {"right": np.arange(20), "wrong": np.arange(20)[::-1]}
    found = areas(lambda batch: batch.x[key][:, 0].sum(dim=1), own, donor, 0, key, orders, seed=0)
    assert found["right"] > 0 >= found["wrong"]
    moved = (mine[key][0, 0].sum() - other[key][0, 0].sum()).abs()  # at each step by the right order, at none by the wrong
    assert found["right"] - found["wrong"] == pytest.approx(float(moved), rel=1e-5)
