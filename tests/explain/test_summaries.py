"""From attributions to shares by region, network, edge, channel, band, frequency."""

from __future__ import annotations

import numpy as np
import pytest

from mcsp.explain.summaries import names_of, summarise

FMRI = {"names": ["a", "b", "c", "d"], "networks": ["big", "big", "big", "small"], "freqs": [0.0, 0.01, 0.02]}
EEG = {"ch_names": ["Fz", "Pz", "Oz"], "bands": ["alpha", "beta"], "freqs": list(np.arange(0.0, 46.0))}
SHAPES = {
    ("fmri", "spatial"): (4, 4),
    ("fmri", "temporal"): (4, 7),
    ("fmri", "spectral"): (4, 3),
    ("eeg", "spatial"): (2, 3, 3),
    ("eeg", "temporal"): (5, 3, 8),
    ("eeg", "spectral"): (5, 3, 46),
}


@pytest.mark.parametrize("key", SHAPES)
@pytest.mark.parametrize("zero", [False, True])
def test_each_kind_has_a_share_per_name_and_sums_to_one(key, zero):
    meta = FMRI if key[0] == "fmri" else EEG
    attribution = np.random.default_rng(0).normal(size=SHAPES[key]) * (not zero)
    found, names = summarise(*key, attribution, meta), names_of(*key, meta)
    assert set(found) == set(names)
    for kind, shares in found.items():
        assert shares.shape == (len(names[kind]),)
        assert shares.sum() == pytest.approx(1)
        assert (shares >= 0).all()


def test_an_edge_is_one_thing_whichever_of_its_two_entries_the_model_used():
    for i, j in ((0, 3), (3, 0)):
        attribution = np.zeros((4, 4))
        attribution[i, j] = -2.0
        found = summarise("fmri", "spatial", attribution, FMRI)
        assert dict(zip(names_of("fmri", "spatial", FMRI)["edge"], found["edge"]))["a|d"] == 1
        np.testing.assert_allclose(found["roi"], [0.5, 0, 0, 0.5])
    cancelling = np.zeros((4, 4))
    cancelling[0, 3], cancelling[3, 0] = 1.0, -1.0  # no change of a symmetric matrix moves such a model
    cancelling[0, 1] = 1.0
    assert summarise("fmri", "spatial", cancelling, FMRI)["edge"][2] == 0
    bands = np.zeros((2, 3, 3))
    bands[0, 0, 1], bands[0, 1, 0], bands[1, 1, 2], bands[1, 2, 1] = 5.0, -5.0, 1.0, 1.0
    bands[1, 0, 0] = 5.0  # nobody's edge
    found = summarise("eeg", "spatial", bands, EEG)
    np.testing.assert_allclose(found["channel"], [0, 0.5, 0.5])
    np.testing.assert_allclose(found["band"], [0, 1])


def test_even_relevance_favours_neither_large_networks_nor_wide_bands():
    np.testing.assert_allclose(summarise("fmri", "temporal", np.ones((4, 7)), FMRI)["network"], [0.5, 0.5])
    found = summarise("eeg", "spectral", np.ones((5, 3, 46)), EEG)
    np.testing.assert_allclose(found["band"], 0.25)
    np.testing.assert_allclose(found["channel_band"], 1 / 12)


def test_relevance_at_one_place_and_frequency_lands_there_only():
    attribution = np.zeros((5, 3, 46))
    attribution[2, 1, 10] = -3.0  # Pz, 10 Hz
    found, names = summarise("eeg", "spectral", attribution, EEG), names_of("eeg", "spectral", EEG)
    for kind, name in {"channel": "Pz", "band": "alpha", "channel_band": "alpha/Pz", "frequency": "10 Hz"}.items():
        assert dict(zip(names[kind], found[kind]))[name] == 1
    graph = np.zeros((2, 3, 3))
    graph[1, 0, 2] = 1.0  # beta, Fz-Oz
    found = summarise("eeg", "spatial", graph, EEG)
    np.testing.assert_allclose(found["channel"], [0.5, 0, 0.5])
    np.testing.assert_allclose(found["band"], [0, 1])


def test_what_cancels_over_time_is_no_relevance():
    """A region or channel whose contributions add up to nothing has none, however large they are."""
    series = np.zeros((4, 7))
    series[0, :2], series[3, 4] = [5.0, -5.0], 1.0
    np.testing.assert_allclose(summarise("fmri", "temporal", series, FMRI)["roi"], [0, 0, 0, 1])
    segments = np.zeros((5, 3, 8))
    segments[0, 0, 0], segments[4, 0, 7], segments[1, 2, 3] = 5.0, -5.0, -1.0
    np.testing.assert_allclose(summarise("eeg", "temporal", segments, EEG)["channel"], [0, 0, 1])
    amplitudes = np.zeros((5, 3, 46))
    amplitudes[0, 0, 10], amplitudes[3, 0, 10], amplitudes[2, 1, 20] = 5.0, -5.0, 1.0
    np.testing.assert_allclose(summarise("eeg", "spectral", amplitudes, EEG)["channel"], [0, 1, 0])
