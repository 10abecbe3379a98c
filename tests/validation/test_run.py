"""The validation from end to end, as small as it can be, and the checks on real recordings where they are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.results import ExplainOptions
from mcsp.options.training import FinetuneOptions, ModelOptions, PretrainOptions
from mcsp.options.validation import ValidationOptions
from mcsp.store import read_table, read_tsv
from mcsp.validation import verdicts
from mcsp.validation.maps import LEVELS
from mcsp.validation.planted import PLANTED, TASKS
from mcsp.validation.real import eyes_targets, median_split, network_targets, run_alpha, run_eyes
from mcsp.validation.run import StageOptions, linear_features, run

STAGES = StageOptions(
    fmri=FmriOptions(n_frames=60, min_frames=40),
    eeg=EegOptions(n_segments=4),
    connectivity=ConnectivityOptions(),
    spectra=SpectraOptions(),
    pretrain=PretrainOptions(epochs=0, model=ModelOptions(width=8, depth=1, heads=2, dim=8)),
    finetune=FinetuneOptions(epochs=1, hidden=8),
    explain=ExplainOptions(n_steps=2, n_samples=1),
)
SMALL = ValidationOptions(
    n_subjects=24, deleted_subjects=1, permuted=False, methods=["input_x_gradient", "gradcam"], n_bootstrap=20
)


def test_one_size_and_one_seed_from_simulation_to_verdicts(atlas_table, tmp_path):
    scores, answers = tmp_path / "scores.parquet", tmp_path / "answers.parquet"
    run(snr=2.0, seed=0, atlas=atlas_table, options=STAGES, validation=SMALL, scores=scores, answers=answers)
    table, told = read_table(scores), read_table(answers)
    assert set(told["task"]) == set(TASKS)
    own = table[(table["model"] == "own") & (table["score"] == "AUPRC") & (table["truth"] == "planted")]
    reached = own.groupby(["task", "modality", "domain"]).ngroups
    assert reached == 2 + 2 + 2 + 5 + 4 + 4  # edge, amplitude, band, network, suppressor, site
    assert np.isfinite(own["value"]).all()
    assert set(own.loc[own["method"] == "gradcam", "domain"]) == {"spatial"}
    assert set(table["model"]) >= {"reset", "wrong: noise", *(f"reset: {level}" for level in LEVELS)}
    assert set(table.loc[table["score"] == "deletion area", "task"]) == set(PLANTED)
    verdicts.run(scores=[scores], answers=[answers], options=SMALL, out=tmp_path / "out")
    judged = read_tsv(tmp_path / "out/verdicts.tsv")
    assert set(judged["verdict"]) <= {"pass", "fail", "not learned"}
    assert (tmp_path / "out/decoys.json").is_file()
    whole = judged[judged["unit"] == "all"]
    assert len(whole) == 6 + 2  # one method in six domains, gradcam in two


def test_the_linear_reference_reads_no_rounding_noise_at_0_hz():
    row = np.random.default_rng(0).random((3, 4, 6))
    noise = row * [1e-17, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(linear_features(("eeg", "spectral"), row), linear_features(("eeg", "spectral"), noise))
    assert linear_features(("fmri", "spectral"), row[0]).shape == (24,)  # of BOLD, all


def test_targets_of_the_real_checks():
    meta = {"names": ["a", "b", "c"], "networks": ["x", "y", "x"]}
    found = network_targets({("fmri", "spatial"): meta, ("fmri", "spectral"): meta}, "x")
    assert list(found) == [("fmri", "spatial")]
    np.testing.assert_array_equal(found["fmri", "spatial"]["edge"], [False, True, False])
    eeg = eyes_targets({("eeg", "spectral"): {"ch_names": ["Fz", "O1", "O2"], "freqs": [5.0, 10.0]}})
    np.testing.assert_array_equal(eeg["eeg", "spectral"]["channel"], [False, True, True])
    labels = median_split(pd.Series([3.0, 1, 2, 4], index=list("abcd")))
    assert labels.str.contains("known").tolist() == [True, False, False, True]
    within = median_split(pd.Series([3.0, 1, 12, 14], index=list("abcd")), pd.Series(["x", "x", "y", "y"], index=list("abcd")))
    assert within.str.contains("known").tolist() == [True, False, False, True]


def test_maps_of_a_segment_classifier_find_occipital_alpha(real_data, tmp_path):
    folder = real_data / "eeg/eegmmidb"
    run_eyes(opened=folder / "S001R01.edf", closed=folder / "S001R02.edf", out=tmp_path)
    finds_occipital_alpha(tmp_path)


def test_maps_of_a_median_split_of_occipital_alpha_find_it(real_data, tmp_path):
    run_alpha(recordings=[real_data / f"eeg/eegmmidb/S001R0{i}.edf" for i in (1, 2)], out=tmp_path)
    finds_occipital_alpha(tmp_path)


def finds_occipital_alpha(folder):
    """Relevance mass of Integrated Gradients in the spectrum: the place beyond what reset weights show, the band alone, which
    these show too, beyond chance.
    """
    scores = read_tsv(folder / "scores.tsv")
    mass = scores[(scores["score"] == "relevance mass") & (scores["snr"] == "all") & (scores["domain"] == "spectral")]
    mass = mass[mass["method"] == "integrated_gradients"].set_index(["model", "unit"])
    for unit in ("channel", "channel_band"):
        assert mass.loc[("own", unit), "low"] > mass.loc[("reset", unit), "high"]
    assert (mass.loc["own", "low"] > mass.loc["own", "chance"]).all()
    assert set(mass.loc["own"].index) == {"channel", "band", "channel_band"}
