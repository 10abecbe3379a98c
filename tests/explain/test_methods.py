"""The methods that are not in every study: references, and what DeepLift would be."""

from __future__ import annotations

import pytest
import torch
from captum.attr import DeepLift
from torch import nn

from mcsp.explain.attribution import METHODS, REFERENCES, Reference, _as_function, gradcam, gradient, input_x_gradient
from mcsp.model.batch import Batch
from mcsp.model.mcsp import Classifier
from mcsp.options.results import ExplainOptions
from tests.explain.linear_toys import toy_batch, toy_reference, toy_weights, weighted_sum

SIZES = {"width": 8, "depth": 1, "heads": 2, "dim": 8, "patch": 4, "segment_features": 2, "density": 0.5, "dropout": 0.0}
SHAPES = {"fmri/spatial": (5, 5), "fmri/temporal": (5, 12), "fmri/spectral": (5, 7), "eeg/spatial": (2, 4, 4)}
OPTIONS = ExplainOptions(n_steps=4, n_samples=2)


@pytest.fixture
def model():
    torch.manual_seed(1)  # one of those whose GradCAM its rectifier leaves something of, in both modalities
    built = Classifier({"architecture": {**SIZES, "shapes": SHAPES}, "head": {"hidden": 8, "dropout": 0.0}}).eval()
    nn.init.normal_(built.head[-1].weight)  # as after training: it begins at zero
    return built.requires_grad_(False)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = {tuple(name.split("/")): torch.randn(3, *shape, generator=generator).abs() for name, shape in SHAPES.items()}
    present = {"fmri": torch.ones(3, dtype=torch.bool), "eeg": torch.tensor([True, False, True])}
    return Batch(x, present, {"fmri": torch.full((3,), 12), "eeg": torch.ones(3, dtype=torch.long)})


def test_deeplift_of_this_model_is_gradient_times_input(model, batch):
    """captum knows no rule for anything on the way from inputs to logit, and takes plain gradients there."""
    reference = Reference({key: x.mean(dim=0) for key, x in batch.x.items()}, dict.fromkeys(batch.x, 1.0))
    keys = list(batch.x)

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, *values):
            return _as_function(self.inner, keys, list(batch.present))(*values)[:, None]

    present, valid = tuple(batch.present.values()), tuple(batch.n_valid.values())
    found = DeepLift(Module()).attribute(
        tuple(batch.x.values()),
        tuple(reference.mean[key][None].expand_as(x) for key, x in batch.x.items()),
        target=0,
        additional_forward_args=(*present, *valid),
    )
    ours = input_x_gradient(model, batch, reference, OPTIONS)
    for key, values in zip(keys, found):
        torch.testing.assert_close(values.float(), ours[key].float(), rtol=1e-3, atol=1e-5)


def test_the_plain_gradient_of_a_linear_model_is_its_weight():
    weights = toy_weights()
    found = gradient(lambda b: weighted_sum(b, weights), toy_batch(), toy_reference(), OPTIONS)
    for key, values in found.items():
        torch.testing.assert_close(values[1], weights[key])


def test_gradcam_is_there_for_graphs_only_and_zero_where_the_modality_is_missing(model, batch):
    found = gradcam(model, batch, toy_reference(), OPTIONS)
    assert set(found) == {("fmri", "spatial"), ("eeg", "spatial")}
    for key, values in found.items():
        assert values.shape == batch.x[key].shape
        assert (values >= 0).all()
        assert values.any()
        torch.testing.assert_close(values, values.transpose(-1, -2))
    assert not found["eeg", "spatial"][1].any()
    assert set(REFERENCES) < set(METHODS)
