"""What the biomarker table may name, and what it says of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mcsp.errors import McspError
from mcsp.explain.agreement import network_row, networks_under, order_p, prediction_rows, within_correlation
from mcsp.explain.biomarkers import STABLE, differences, kind_rows, sentence
from mcsp.explain.raw import raw_features
from mcsp.explain.trust import trust_table
from mcsp.options.results import ExplainOptions
from mcsp.store import write_tsv

PLACE = {"method": "smoothgrad", "modality": "fmri", "domain": "spatial"}


def maps_of(kinds=("roi", "network", "edge")):
    return pd.DataFrame([{**PLACE, "kind": kind, "name": "x", "mean": 1.0} for kind in kinds])


def own_verdicts(edge="pass", reset="pass"):
    rows = [
        {"unit": "edge", "score": "relevance mass", "verdict": edge},
        {"unit": "roi", "score": "relevance mass", "verdict": "fail"},
    ]
    return pd.DataFrame([{**PLACE, **row} for row in [*rows, {"unit": "roi", "score": "reset similarity", "verdict": reset}]])


def test_only_what_passed_is_trusted_and_a_network_stands_on_its_regions():
    table = trust_table(maps_of(), own_verdicts(), None).set_index("kind")
    assert table.loc["edge", "verdict"] == "pass"
    assert list(table.loc[["roi", "network"], "verdict"]) == ["fail", "fail"]
    assert (trust_table(maps_of(), own_verdicts(reset="fail"), None)["verdict"] == "fail").all()
    nothing = trust_table(maps_of(), own_verdicts().query("score == 'reset similarity'"), None)
    assert (nothing["verdict"] == "unproven").all()


def test_a_named_validation_decides_instead(tmp_path):
    path = tmp_path / "verdicts.tsv"
    rows = [
        {**PLACE, "unit": "edge", "verdict": "fail", "reason": "edge: cascade"},
        {**PLACE, "unit": "roi", "verdict": "pass", "reason": "not tried: wrong target"},
    ]
    write_tsv(pd.DataFrame(rows), path, dict.fromkeys([*PLACE, "unit", "verdict", "reason"], "x"))
    table = trust_table(maps_of(), own_verdicts(), path).set_index("kind")
    assert list(table["verdict"]) == ["pass", "pass", "fail"]
    assert table.loc["edge", "reason"] == "edge: edge: cascade"
    assert table.loc["network", "reason"] == "roi: not tried: wrong target"
    assert table["source"].eq(str(path)).all()
    with pytest.raises(McspError, match="run `snakemake validation`"):
        trust_table(maps_of(), own_verdicts(), tmp_path / "nowhere.tsv")


def test_nothing_passed_is_one_line_that_says_so():
    trust = trust_table(maps_of(), own_verdicts(edge="fail"), None)
    text = sentence("asd", pd.DataFrame(), trust)
    assert text.startswith("asd: no biomarker is reported: none of 3 maps passed")
    assert "\n" not in text


def test_rows_have_the_direction_of_the_raw_feature():
    rng, y = np.random.default_rng(0), np.arange(80) % 2
    names = [f"n{i}" for i in range(12)]
    raw = rng.normal(size=(80, 12))
    raw[:, 2] -= 2 * y
    shares = np.full(12, 0.06)
    shares[[2, 5]] = 0.3, 0.1
    maps = pd.DataFrame({"name": names, "mean": shares, "low": shares, "high": shares})
    maps = maps.assign(**dict.fromkeys(STABLE, 0.9), p_maxt=0.01, q_fdr=0.01)
    found = kind_rows(maps, differences(raw, y, np.zeros(80), ExplainOptions(n_permutations=200)), names, top=10)
    assert list(found["name"])[:2] == ["n2", "n5"]
    assert len(found) == 3  # at most a quarter
    assert found.loc[0, "direction"] == "lower in cases"
    assert found.loc[0, "relevance"] == pytest.approx(0.3 * 12)
    assert found.loc[0, "p_raw"] < 0.05 < found.loc[1, "p_raw"]


def test_raw_features_stand_in_the_order_of_the_names():
    fc = np.array([[0, 0.1, 0.3], [0.1, 0, 0.5], [0.3, 0.5, 0]])
    meta = {"names": ["a", "b", "c"], "networks": ["x", "y", "x"]}
    found = raw_features("fmri", "spatial", fc, meta)
    np.testing.assert_allclose(found["edge"], [0.1, 0.3, 0.5])
    np.testing.assert_allclose(found["roi"], [0.2, 0.3, 0.4])
    np.testing.assert_allclose(found["network"], [0.3, 0.3])
    rng = np.random.default_rng(0)
    freqs = np.arange(0, 40, 2.0)
    amplitude = rng.random((5, 3, 20)) * 0.01
    amplitude[:, 1, freqs == 10] = 3.0  # alpha at the second channel
    eeg = raw_features("eeg", "spectral", amplitude, {"ch_names": ["A", "B", "C"], "freqs": freqs.tolist()})
    assert eeg["band"].argmax() == 2
    assert eeg["channel"].argmax() == 1
    assert eeg["channel_band"].argmax() == 2 * 3 + 1
    assert eeg["frequency"].argmax() == 5


def test_a_recording_that_ends_early_keeps_what_it_holds():
    """Up to 24 Hz, beta is told by the part that is known, and channels are; up to 12 Hz, neither."""
    freqs = np.arange(0, 46, 2.0)
    meta, flat = {"ch_names": ["A", "B"], "freqs": freqs.tolist()}, np.full((5, 2, 23), 0.5)
    whole = raw_features("eeg", "spectral", flat, meta)
    early, nothing = (raw_features("eeg", "spectral", np.where(freqs > top, np.nan, flat), meta) for top in (24, 12))
    for kind in ("channel", "band", "channel_band"):
        np.testing.assert_allclose(early[kind], whole[kind])
    assert np.isnan(nothing["channel"]).all()
    np.testing.assert_array_equal(np.isnan(nothing["band"]), [False, False, False, True])
    above = raw_features("eeg", "spectral", np.where(freqs > 30, 100.0, flat), meta)
    np.testing.assert_allclose(above["channel"], whole["channel"])  # no band's frequencies


@pytest.mark.parametrize("cases", [0, 1, 4])
def test_an_entry_that_few_hold_tells_nothing_and_takes_nothing_from_others(cases):
    rng = np.random.default_rng(0)
    raw, y = rng.normal(size=(30, 3)), (np.arange(30) < 15).astype(int)
    alone = differences(raw[:, [0, 2]], y, np.zeros(30), ExplainOptions(n_permutations=50))
    raw[cases:15, 1] = np.nan
    with np.errstate(all="raise"):
        found = differences(raw, y, np.zeros(30), ExplainOptions(n_permutations=50))
    pd.testing.assert_frame_equal(found.iloc[[0, 2]].reset_index(drop=True), alone)
    assert found.loc[1, ["g", "g_low", "g_high", "p_raw", "q_raw"]].isna().all()
    assert found.loc[1, ["direction", "n_case", "n_control"]].tolist() == ["unclear", cases, 15]


def test_a_region_lost_in_some_controls_is_no_difference():
    """Taken for zero it was 'higher in cases': the logarithm of nothing is the largest difference there is."""
    rng = np.random.default_rng(0)
    meta = {"names": ["a", "b", "c", "d"], "networks": ["x", "x", "y", "y"], "freqs": list(range(20))}
    rows = rng.uniform(0.05, 0.15, (60, 4, 20))
    y = (np.arange(60) < 30).astype(int)
    rows[54:, 1] = np.nan
    features = [raw_features("fmri", "spectral", row, meta) for row in rows]
    raw = np.stack([own["roi"] for own in features])
    found = differences(raw, y, np.zeros(60), ExplainOptions(n_permutations=200))
    whole = differences(raw[:54], y[:54], np.zeros(54), ExplainOptions(n_permutations=200))
    assert (found.loc[1, "n_case"], found.loc[1, "n_control"], found.loc[0, "n_control"]) == (30, 24, 30)
    told = ["g", "g_low", "g_high"]
    np.testing.assert_allclose(found.loc[1, told].astype(float), whole.loc[1, told].astype(float))
    np.testing.assert_allclose(features[-1]["network"][0], features[-1]["roi"][0])
    fc = rng.normal(size=(4, 4)) + np.diag(np.full(4, 99.0))
    fc[1] = fc[:, 1] = np.nan
    spatial = raw_features("fmri", "spatial", fc, meta)
    np.testing.assert_allclose(spatial["roi"][0], (fc[0, 2] + fc[0, 3]) / 2)
    assert np.isnan(spatial["edge"]).tolist() == [True, False, False, True, True, False]


def test_an_entry_that_nobody_recorded_takes_nothing_from_the_others():
    rng = np.random.default_rng(0)
    raw, y = rng.normal(size=(30, 3)), (np.arange(30) < 15).astype(int)
    alone = differences(raw[:, [0, 2]], y, np.zeros(30), ExplainOptions(n_permutations=50))
    raw[:, 1] = np.nan
    with np.errstate(all="raise"):
        found = differences(raw, y, np.zeros(30), ExplainOptions(n_permutations=50))
        nothing = differences(np.full((30, 2), np.nan), y, np.zeros(30), ExplainOptions(n_permutations=50))
    pd.testing.assert_frame_equal(found.iloc[[0, 2]].reset_index(drop=True), alone)
    assert found.loc[1, ["g", "g_low", "g_high", "p_raw", "q_raw"]].isna().all()
    assert (found.loc[1, "direction"], found.loc[1, "n_case"]) == ("unclear", 0)
    assert nothing["g"].isna().all()
    assert nothing[["n_case", "n_control"]].eq(0).all(axis=None)


def test_agreement_beyond_the_diagnosis():
    """Both modalities tell the diagnosis, and nothing else: they go together over all, not within the classes."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    told = pd.DataFrame(
        {"uid": range(400), "fold": 0, "y": y, "fmri": 3 * y + rng.normal(size=400), "eeg": 3 * y + rng.normal(size=400)}
    )
    assert told[["fmri", "eeg"]].corr().iloc[0, 1] > 0.6
    assert abs(within_correlation(told)) < 0.15
    assert within_correlation(told.assign(eeg=told["fmri"] + 0.1 * rng.normal(size=400))) > 0.9
    rows = prediction_rows(told.head(6), 20, 0)
    assert np.isnan(rows[0]["value"])
    assert "6 test subjects" in rows[0]["note"]


def test_repeats_make_nobody_two_people():
    """The same answers in a second repeat: the same agreement, as sure as before."""
    rng = np.random.default_rng(0)
    once = pd.DataFrame({"uid": [f"s{i:02}" for i in range(24)], "fold": np.arange(24) % 3, "y": np.arange(24) // 3 % 2})
    once = once.assign(fmri=rng.normal(size=24)).assign(eeg=lambda own: own["fmri"] + rng.normal(size=24))
    twice = pd.concat([once, once.assign(fold=once["fold"] + 3)])
    assert prediction_rows(twice, 50, 0) == prediction_rows(once, 50, 0)
    mirrored = once.assign(fold=once["fold"] + 3, fmri=-once["fmri"] - 1e-3)  # a repeat that says the opposite, a bit stronger
    mean = prediction_rows(pd.concat([once, mirrored]), 50, 0)[1]
    assert (mean["value"], mean["n"]) == (0, 24)  # on average fMRI says control of everybody


def test_networks_under_electrodes_and_the_exact_p_of_their_order():
    places = np.array([[0, -100, 5], [0, 65, 30], [-60, -20, 50], [60, -20, 50], [0, -10, 5], [np.nan] * 3])
    networks = ["occipital", "frontal", "left", "right", "deep", "lost"]
    assert networks_under(["Oz", "Fz", "C3", "C4"], "standard_1020", places, networks) == [
        "occipital",
        "frontal",
        "left",
        "right",
    ]
    a = np.array([4.0, 3, 2, 1])
    assert order_p(a, a, 0) == pytest.approx(1 / 24)
    assert order_p(a, a[::-1], 0) == 1
    fmri = pd.Series({"occipital": 0.4, "frontal": 0.3, "left": 0.2, "right": 0.1})
    row = network_row(fmri, pd.Series([0.4, 0.3, 0.2, 0.1], index=["Oz", "Fz", "C3", "C4"]), list(fmri.index), 0)
    assert row["value"] == pytest.approx(1)
    assert row["note"].count("occipital") == 2
