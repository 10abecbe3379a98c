"""Weights reset from the head downwards, and what a model says of one domain alone."""

from __future__ import annotations

import pytest
import torch

from mcsp.explain.models import reset_weights
from mcsp.model.mcsp import Classifier
from mcsp.validation.maps import LEVELS, cascade, logits_alone
from tests.explain.linear_toys import toy_batch, toy_reference, toy_weights, weighted_sum
from tests.validation.people import People

SIZES = {"width": 8, "depth": 1, "heads": 2, "dim": 8, "patch": 4, "segment_features": 2, "density": 0.5, "dropout": 0.0}
SHAPES = {"fmri/spatial": (5, 5), "fmri/temporal": (5, 12), "eeg/spectral": (2, 4, 6)}


def changed(model, other):
    """Names of the weights in which two models differ."""
    own, theirs = model.state_dict(), other.state_dict()
    return {name for name in own if not torch.equal(own[name], theirs[name])}


@pytest.mark.parametrize("reads", ["features", "projections"])
def test_the_cascade_resets_from_the_head_downwards(reads):
    torch.manual_seed(0)
    model = Classifier({"architecture": {**SIZES, "shapes": SHAPES}, "head": {"hidden": 8, "dropout": 0.0, "reads": reads}})
    with torch.no_grad():
        for weight in model.parameters():  # trained, so that nothing is as it begins
            weight += 0.1
    levels = [changed(model, cascade(model, level, seed=3)) for level in range(len(LEVELS))]
    assert levels[0]
    assert not any(name.startswith("backbone.") for name in levels[0])
    assert levels[0] < levels[1] < levels[2]
    projectors = {name for name in levels[2] if ".projectors." in name}
    assert projectors
    assert projectors < levels[1]
    assert not any(".enter." in name or ".edges." in name for name in levels[1] - projectors)
    assert not changed(cascade(model, len(LEVELS) - 1, seed=3), reset_weights(model, 3))


def test_logits_alone_hold_all_other_domains_at_the_mean():
    weights, batch, reference = toy_weights(), toy_batch(), toy_reference()
    told = logits_alone(lambda b: weighted_sum(b, weights), People(batch), reference).set_index(["modality", "domain", "uid"])
    own = {key: (x * weights[key]).flatten(1).sum(1) for key, x in batch.x.items()}
    mean = {key: (reference.mean[key] * weights[key]).sum() for key in batch.x}
    for key in batch.x:
        others = sum(batch.present[k[0]] * mean[k] for k in batch.x if k != key)
        expected = own[key] * batch.present[key[0]] + others
        assert told.loc[key]["logit"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert told.loc[("all", "all")]["logit"].tolist() == pytest.approx(weighted_sum(batch, weights).tolist(), abs=1e-5)
