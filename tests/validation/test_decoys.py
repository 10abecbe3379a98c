"""Whether a classifier uses a decoy, on classifiers of which it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mcsp.evaluation.metrics import auroc
from mcsp.explain.attribution import Reference
from mcsp.model.batch import Batch
from mcsp.validation.decoys import logits_without, place_of
from mcsp.validation.run import linear_features, linear_place
from mcsp.validation.verdicts import use_table
from tests.validation.people import People

KEY = ("fmri", "spectral")
META = {"names": list("abc"), "freqs": [0.01, 0.02, 0.03]}
SIGNAL, SUPPRESSOR = (0, 1), (2, 1)  # region, frequency


def people(n=40, seed=0):
    """(labels, spectra (n, 3, 3)): signal = label + noise that the suppressor shares."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(n) % 2, rng.normal(size=(n, 3, 3))
    shared = 2 * rng.normal(size=n)
    x[:, SIGNAL[0]] = x[:, SUPPRESSOR[0]] = 0  # nothing else is in these regions
    x[:, *SIGNAL] = y + shared + 0.1 * rng.normal(size=n)
    x[:, *SUPPRESSOR] = shared
    return y, torch.from_numpy(x)


def batch_of(x):
    """Spectra as a batch."""
    return Batch({KEY: x}, {"fmri": torch.ones(len(x), dtype=bool)}, {"fmri": torch.full((len(x),), 3)})


def answers(weight, seed):
    """What a linear classifier says that takes `weight` times the suppressor away, with and without the places."""
    y, x = people(seed=seed)
    forward = lambda batch: batch.x[KEY][:, *SIGNAL] - weight * batch.x[KEY][:, *SUPPRESSOR]  # noqa: E731
    masks = {name: {"roi": np.arange(3) == place[0], "frequency": np.arange(3) == place[1]} for name, place in
             (("decoy", SUPPRESSOR), ("truth", SIGNAL))}  # fmt: skip
    reference = Reference({KEY: x.mean(dim=0)}, {KEY: x.std(dim=0)})
    base = {"task": "suppressor", "modality": "fmri", "domain": "spectral", "snr": 1.0, "seed": seed}
    batch, uids = batch_of(x), [f"s{i}" for i in range(len(x))]
    parts = [pd.DataFrame({"uid": uids, "logit": forward(batch).numpy(), "source": "model"})]
    for side, mask in masks.items():
        told = logits_without(forward, People(batch), reference, KEY, place_of(KEY, mask, META))
        parts.append(told.assign(source=f"model, no {side}"))
    parts += [parts[0].assign(source=name) for name in ("linear", "linear, no decoy")]
    return pd.concat(parts).assign(**base).assign(y=lambda t: t["uid"].map(dict(zip(uids, y)))), y, x


@pytest.mark.parametrize(("weight", "used"), [(1.0, "yes"), (0.0, "no")])
def test_a_classifier_that_takes_the_suppressor_away_is_worse_without_it(weight, used):
    told, y, x = answers(weight, 0)
    table = pd.concat([told, answers(weight, 1)[0]])
    (row,) = use_table(table, 200).to_dict("records")
    assert row["used"] == used
    assert (row["gain_low"] > 0) == (weight == 1)
    assert row["n_runs"] == 2
    (alone,) = use_table(told, 50).to_dict("records")
    assert alone["without_decoy"] == pytest.approx(auroc(y, x[:, *SIGNAL].numpy()))
    assert (alone["without_truth"] == pytest.approx(0.5)) == (weight == 0)  # nothing is left to say


def test_places_name_the_entries_of_an_input():
    spectral = place_of(KEY, {"roi": np.array([False, True, False]), "frequency": np.array([True, False, False])}, META)
    np.testing.assert_array_equal(spectral, np.outer([False, True, False], [True] * 3))
    edge = np.array([False, True, False])  # a-c
    fc = place_of(("fmri", "spatial"), {"edge": edge}, META)
    assert fc.sum() == 2
    assert fc[0, 2]
    assert fc[2, 0]
    eeg = {"ch_names": ["Fz", "O1"], "freqs": [0.0, 5.0, 10.0, 20.0]}
    masks = {"channel": np.array([False, True]), "band": np.array([False, False, True, False])}
    spectrum = place_of(("eeg", "spectral"), masks, eeg)
    np.testing.assert_array_equal(spectrum, [[False] * 4, [False, False, True, False]])


@pytest.mark.parametrize(("key", "shape"), [(("fmri", "spatial"), (3, 3)), (KEY, (3, 4)), (("eeg", "spectral"), (5, 3, 4))])
def test_a_linear_model_is_not_shown_the_very_entries(key, shape):
    rng, place = np.random.default_rng(0), np.zeros(shape[-2:], bool)
    place[0, 2] = place[2, 0] = True
    if key[0] == "eeg":
        place[0, 1] = place[0, 0] = True  # the linear model reads nothing of 0 Hz
        place[2, 0] = False
    row = rng.random(shape)
    other = row.copy()
    other[..., place] += 1
    before, after, at = linear_features(key, row), linear_features(key, other), linear_place(key, place)
    np.testing.assert_array_equal(before != after, at)
    assert at.sum() == (1 if key[1] == "spatial" else 2)
