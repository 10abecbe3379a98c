"""Masks of the planted truth, scores against it, and their intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import bootstrap

from mcsp.explain.truth import interval, masks, planted, relevance_mass, relevance_rank

NAMES = ["r0", "r1", "r2", "r3", "r4"]
NOTHING = {"rois": [], "edges": [], "channels": {}, "bands": [], "freqs": []}
EDGE = {**NOTHING, "kind": "edge", "disorder": "ASD", "networks": ["a", "b"], "rois": [0, 1], "edges": [[0, 1]]}
AMPLITUDE = {**NOTHING, "kind": "amplitude", "disorder": "ASD", "network": "a", "rois": [3], "freqs": [0.02, 0.05]}
BAND = {**NOTHING, "kind": "band", "disorder": "MDD", "band": "alpha", "position": "Pz", "bands": ["alpha"]} | {
    "channels": {"Fz": 0.05, "Cz": 0.15, "Pz": 0.8}
}
FMRI = {"names": NAMES, "networks": list("aabab"), "freqs": [0.0, 0.01, 0.03, 0.05, 0.1]}
EEG = {"ch_names": ["Fz", "Cz", "Pz"], "bands": ["alpha", "beta"], "freqs": list(np.arange(46.0))}


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"rois": NAMES, "effects": [EDGE, AMPLITUDE, BAND]}))
    return path


def test_only_the_effects_of_the_tasks_disorder_count_and_each_once(truth):
    found = planted([truth, truth], ["ASD"])
    assert [effect["kind"] for effect in found] == ["edge", "amplitude"]
    assert found[0]["edges"] == [("r0", "r1")]


def test_two_amplitude_effects_in_two_networks_are_two(tmp_path):
    path = tmp_path / "truth.json"
    other = AMPLITUDE | {"network": "b", "rois": [2, 4]}
    path.write_text(json.dumps({"rois": NAMES, "effects": [AMPLITUDE, other]}))
    assert [effect["rois"] for effect in planted([path], ["ASD"])] == [["r3"], ["r2", "r4"]]


def test_a_network_s_strength_is_sought_in_both_modalities(tmp_path):
    path = tmp_path / "truth.json"
    network = {"kind": "network", "disorder": "MDD", "network": "a", "rois": [0, 1, 3], "edges": [[0, 1], [0, 3], [1, 3]]}
    path.write_text(json.dumps({"rois": NAMES, "effects": [{**NOTHING, **network, "channels": {"Cz": 1.0}}]}))
    effects = planted([path], ["MDD"])
    assert masks(effects, "fmri", "spatial", FMRI)["edge"].sum() == 3
    for domain in ("spatial", "temporal", "spectral"):
        np.testing.assert_array_equal(masks(effects, "eeg", domain, EEG)["channel"], [0, 1, 0])
    assert masks(effects, "fmri", "spectral", FMRI) == {}


def test_masks_stand_where_an_effect_reaches_and_nowhere_else(truth):
    effects = planted([truth], ["ASD"])
    spatial = masks(effects, "fmri", "spatial", FMRI)
    np.testing.assert_array_equal(spatial["roi"], [1, 1, 0, 0, 0])  # slow amplitude leaves correlations
    assert spatial["edge"].sum() == 1
    assert spatial["edge"][0]
    np.testing.assert_array_equal(masks(effects, "fmri", "temporal", FMRI)["roi"], [1, 1, 0, 1, 0])
    spectral = masks(effects, "fmri", "spectral", FMRI)
    np.testing.assert_array_equal(spectral["roi"], [0, 0, 0, 1, 0])  # coupling leaves spectra
    np.testing.assert_array_equal(spectral["frequency"], [0, 0, 1, 1, 0])
    assert masks(effects, "eeg", "temporal", EEG) == {}
    effects = planted([truth], ["MDD"])
    assert masks(effects, "fmri", "spatial", FMRI) == {}
    assert masks(effects, "eeg", "spatial", EEG) == {}
    np.testing.assert_array_equal(masks(effects, "eeg", "temporal", EEG)["channel"], [0, 0, 1])
    np.testing.assert_array_equal(masks(effects, "eeg", "spectral", EEG)["band"], [0, 0, 1, 0])


def test_regions_are_found_by_name_when_the_store_has_others_or_another_order(truth):
    meta = FMRI | {"names": ["r4", "r3", "r1", "r0"], "networks": list("abab")}
    found = masks(planted([truth], ["ASD"]), "fmri", "spatial", meta)
    np.testing.assert_array_equal(found["roi"], [0, 0, 1, 1])
    assert found["edge"].tolist() == [False] * 5 + [True]  # stands as r1|r0 here


def test_scores_by_hand():
    shares = np.array([[0.5, 0.2, 0.2, 0.1], [0.0, 0.1, 0.3, 0.6]])
    mask = np.array([True, False, False, True])
    np.testing.assert_allclose(relevance_mass(shares, mask), [0.6, 0.6])
    np.testing.assert_allclose(relevance_rank(shares, mask), [0.5, 0.5])


def test_random_relevance_scores_at_chance():
    shares = np.random.default_rng(0).dirichlet(np.ones(20), size=4000)
    mask = np.arange(20) < 6
    assert relevance_mass(shares, mask).mean() == pytest.approx(0.3, abs=0.01)
    assert relevance_rank(shares, mask).mean() == pytest.approx(0.3, abs=0.01)


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(1).gamma(2, size=40)
    expected = bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(0))
    low, high = interval(values, 0, 20000)
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.02)
    wide = interval(np.stack([values, 2 * values], axis=1), 0, 20000)
    np.testing.assert_allclose(wide[0], [low, 2 * low])


def test_four_subjects_give_no_interval():
    assert all(np.isnan(end) for end in interval(np.ones(4), 0))
    assert not any(np.isnan(end) for end in interval(np.ones(5), 0))


def test_ties_for_the_last_places_count_by_their_chance():
    mask = np.arange(12) < 3
    assert relevance_rank(np.zeros((1, 12)), mask)[0] == pytest.approx(0.25)
    assert relevance_rank(np.array([[3.0, 1, 1, 1, 1] + [0] * 7]), mask)[0] == pytest.approx((1 + 2 * 2 / 4) / 3)
