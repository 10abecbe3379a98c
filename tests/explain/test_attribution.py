"""Attributions against closed forms, and what must hold for any model."""

from __future__ import annotations

import pytest
import torch

from mcsp.explain.attribution import METHODS, REFERENCES, Reference, integrated_gradients, smoothgrad
from mcsp.model.batch import Batch
from mcsp.options.results import ExplainOptions
from tests.explain.linear_toys import SHAPES, toy_batch, toy_reference, toy_weights, weighted_sum

OPTIONS = ExplainOptions(n_steps=32, n_samples=4)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(REFERENCES)))
def test_a_linear_model_gets_weight_times_input_minus_baseline(method):
    batch, reference, weights = toy_batch(), toy_reference(), toy_weights()
    found = METHODS[method](lambda b: weighted_sum(b, weights), batch, reference, OPTIONS)
    for key, values in found.items():
        expected = (
            weights[key] * (batch.x[key] - reference.mean[key]) * batch.present[key[0]].reshape(-1, *[1] * len(SHAPES[key]))
        )
        torch.testing.assert_close(values, expected.to(values.dtype), rtol=1e-4, atol=1e-5)


def test_integrated_gradients_of_squares_is_the_difference_of_squares():
    batch, reference, weights = toy_batch(), toy_reference(), toy_weights()

    def squares(b: Batch) -> torch.Tensor:
        return sum((b.x[key].square() * w).flatten(1).sum(1) for key, w in weights.items())

    found = integrated_gradients(squares, batch, reference, OPTIONS)
    for key, values in found.items():
        expected = weights[key] * (batch.x[key].square() - reference.mean[key].square())
        torch.testing.assert_close(values, expected.to(values.dtype), rtol=1e-4, atol=1e-4)


def test_integrated_gradients_sum_to_the_change_of_the_logit():
    batch, reference, weights = toy_batch(), toy_reference(), toy_weights()

    def model(b: Batch) -> torch.Tensor:
        return torch.tanh(0.2 * weighted_sum(b, weights)) + 0.1 * weighted_sum(b, weights).square()

    total = sum(v.flatten(1).sum(1) for v in integrated_gradients(model, batch, reference, OPTIONS).values())
    base = Batch({k: reference.mean[k][None].expand_as(x) for k, x in batch.x.items()}, batch.present, batch.n_valid)
    torch.testing.assert_close(total, (model(batch) - model(base)).to(total.dtype), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(REFERENCES)))
def test_what_was_not_recorded_is_relevant_for_nothing(method):
    """A frequency above a recording's rate is filled with the baseline: a map can't point at it."""
    key, shape = ("eeg", "spectral"), (2, 3, 5)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    x[1, ..., 3:] = torch.nan
    there = {"eeg": torch.ones(3, dtype=torch.bool)}
    reference = Reference({key: torch.full(shape, 0.3)}, {key: 1.0})
    batch = Batch({key: x}, there, {"eeg": torch.full((3,), 2)}).filled(reference.mean)
    found = METHODS[method](lambda b: weighted_sum(b, {key: torch.ones(shape)}).square(), batch, reference, OPTIONS)[key]
    assert found.isfinite().all()
    assert not found[1, ..., 3:].any()
    assert found[0, ..., 3:].any()


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gradcam"}))  # GradCAM wants a model with graphs: test_methods.py
def test_what_the_model_ignores_is_exactly_zero(method):
    batch, weights = toy_batch(), toy_weights()
    ignored = ("fmri", "spectral")
    used = {key: w for key, w in weights.items() if key != ignored}
    found = METHODS[method](lambda b: weighted_sum(b, used), batch, toy_reference(), OPTIONS)
    assert not found[ignored].any()
    assert not found["eeg", "temporal"][0].any()  # the first subject has no EEG
    assert found["fmri", "spatial"].any()


def test_smoothgrad_follows_its_seed_and_leaves_the_global_one_alone():
    batch, reference, weights = toy_batch(), toy_reference(), toy_weights()

    def model(b: Batch) -> torch.Tensor:
        return torch.tanh(weighted_sum(b, weights))

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (smoothgrad(model, batch, reference, ExplainOptions(n_samples=4, seed=s)) for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    key = ("fmri", "spatial")
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], other[key])


def test_smoothgrad_is_the_mean_gradient_over_the_noise():
    """Of x^2 the gradient is linear in the noise, so that its mean nears 2x as copies grow."""
    batch, reference = toy_batch(), toy_reference()

    def squares(b: Batch) -> torch.Tensor:
        return sum(x.square().flatten(1).sum(1) for x in b.x.values())

    found = smoothgrad(squares, batch, reference, ExplainOptions(n_samples=400, noise=0.5))
    key = ("fmri", "spatial")
    expected = 2 * batch.x[key] * (batch.x[key] - reference.mean[key])
    assert (found[key] - expected).abs().max() < 0.06 * 2 * (batch.x[key] - reference.mean[key]).abs().max()
    assert (found[key] - expected).abs().max() > 0  # there was noise
