"""Models take plain arrays: the same answers as from the stores' domains, and one line where they can't read them."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from mcsp.code import modules_of
from mcsp.domains.amplitudes import amplitude_spectrum, segment_spectra
from mcsp.domains.graphs import band_connectivity, correlation
from mcsp.errors import McspError
from mcsp.model.mcsp import MCSP, Classifier

R, T, S, C, N = 6, 40, 7, 5, 60
BANDS = {"theta": [4.0, 8.0], "alpha": [8.0, 13.0]}
SHAPES = {
    "fmri/spatial": (R, R),
    "fmri/temporal": (R, T),
    "fmri/spectral": (R, T // 2 + 1),
    "eeg/spatial": (2, C, C),
    "eeg/temporal": (S, C, N),
    "eeg/spectral": (S, C, N // 2 + 1),
}
OPTIONS = {"connectivity": {"bands": BANDS}, "spectra": {"detrend": True}}
CONFIG = {
    "architecture": {
        "width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 6, "segment_features": 3, "density": 0.4, "dropout": 0.2,
        "shapes": SHAPES,
    },
    "head": {"hidden": 5, "dropout": 0.3},
    "data": {"fmri": {"t_r": 2.0, "options": OPTIONS}, "eeg": {"sfreq": 100.0, "options": OPTIONS}},
}  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier(copy.deepcopy(CONFIG)).eval()


def series(n=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, R, T))
    return ((x - x.mean(2, keepdims=True)) / x.std(2, keepdims=True)).astype(np.float32)


def segments(n=5, seed=1):
    return np.random.default_rng(seed).normal(size=(n, S, C, N)).astype(np.float32)


def equal(a, b):
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-5, atol=1e-6)


def test_domains_are_those_of_the_stages(model):
    x, y = series(), segments()
    bands = {name: tuple(band) for name, band in BANDS.items()}
    fmri = {
        "temporal": x,
        "spatial": np.stack([correlation(row, T) for row in x]),
        "spectral": np.stack([amplitude_spectrum(row, T) for row in x]),
    }
    eeg = {
        "temporal": y,
        "spatial": np.stack([band_connectivity(row, S, bands, 100.0) for row in y]),
        "spectral": np.stack([segment_spectra(row, S) for row in y]),
    }
    equal(model.backbone.embed(fmri=x, eeg=y), model.backbone.embed(fmri=fmri, eeg=eeg))
    equal(model.backbone.embed(fmri=torch.from_numpy(x).double()), model.backbone.embed(fmri=x))
    torch.testing.assert_close(model.predict_proba(fmri=x, eeg=y), model.predict_proba(fmri=fmri, eeg=eeg))


def test_a_subject_depends_on_nobody_else(model):
    x, y = series(), segments()
    whole = model.predict_proba(fmri=x, eeg=y)
    assert whole.shape == (5,)
    torch.testing.assert_close(model.predict_proba(fmri=x, eeg=y, batch_size=2), whole, rtol=1e-5, atol=1e-6)
    for i in range(5):
        torch.testing.assert_close(model.predict_proba(fmri=x[i : i + 1], eeg=y[i : i + 1])[0], whole[i], rtol=1e-5, atol=1e-6)


def test_nan_is_a_missing_modality(model):
    x, y = series(), segments()
    y[2] = np.nan
    p = model.predict_proba(fmri=x, eeg=y)
    torch.testing.assert_close(p[2:3], model.predict_proba(fmri=x[2:3]), rtol=1e-5, atol=1e-6)
    z = model.backbone.embed(fmri=x, eeg=y)
    assert (z["eeg", "spatial"][2] == 0).all()
    for key, values in z.items():
        torch.testing.assert_close(values.norm(dim=1), torch.tensor([1.0, 1, key[0] == "fmri", 1, 1]))


def test_shorter_series_are_padded_and_padding_is_not_read(model):
    x = series()[:, :, :30]
    padded = np.pad(x, ((0, 0), (0, 0), (0, T - 30)))
    z = model.backbone.embed(fmri=x)
    equal(model.backbone.embed(fmri=padded, n_valid=[30] * 5), z)
    padded[:, :, 30:] = 9
    equal(model.backbone.embed(fmri=padded, n_valid=np.full(5, 30)), z)


def test_a_model_in_training_answers_in_eval_mode_and_goes_on_training(model):
    x = series()
    expected = model.predict_proba(fmri=x)
    model.train()
    torch.testing.assert_close(model.predict_proba(fmri=x), expected)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_series_in_other_units_are_warned_of(model):
    with pytest.warns(UserWarning, match="eeg: subject 0 has a scale of"):
        model.predict_proba(eeg=segments() * 1e-5)


def spoilt(value, index, by):
    value = value.copy()
    value[index] = by
    return value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "this model reads fmri and eeg, given was nothing"),
        ({"fmri": series()[0]}, r"a single subject is x\[None\]"),
        ({"fmri": series()[:, :4]}, r"fmri/spatial: shape \(5, 4, 4\), the model reads \(subjects x 6 x 6\)"),
        ({"fmri": np.tile(series(), 2)}, "80 frames, the model reads 40: crop"),
        ({"fmri": spoilt(series(), (1, 0, 0), np.inf)}, "subject 1 has values that are not finite"),
        ({"fmri": series(), "eeg": segments(4)}, "5 subjects of fMRI and 4 of EEG"),
        ({"eeg": segments()[:, :3]}, r"the model reads \(subjects x 7 x 5 x 60\)"),
        ({"fmri": {"spatial": np.zeros((2, R, R))}}, r"fmri/temporal is missing: give the series"),
        ({"fmri": {"space": series()}}, "domains space: give any of temporal, spatial, spectral"),
        ({"fmri": {"temporal": series(), "spatial": np.full((5, R, R), np.nan)}}, "not of the same subjects"),
        ({"fmri": spoilt(series(), 3, np.nan)}, "subject 3 has no modality at all"),
        ({"fmri": series(), "n_valid": [99] * 5}, "n_valid: one number of frames per subject, from 2 to 40"),
        ({"fmri": [["a"]]}, "not an array of numbers"),
    ],
)
def test_what_can_not_be_read_is_one_line(model, arguments, message):
    with pytest.raises(McspError, match=message) as caught:
        model.backbone.embed(**arguments)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_say_how_domains_were_made_asks_for_them():
    old = MCSP({**copy.deepcopy(CONFIG), "data": {}})
    with pytest.raises(McspError, match=r"can't be computed: the model's config\.json does not tell .*: give that domain too"):
        old.embed(eeg=segments())


@pytest.mark.parametrize("damage", ["weights of another", "no directory"])
def test_files_that_do_not_belong_together_are_refused(model, tmp_path, damage):
    model.save_pretrained(tmp_path / "a")
    torch.manual_seed(1)
    Classifier(copy.deepcopy(CONFIG)).save_pretrained(tmp_path / "b")
    if damage == "no directory":
        with pytest.raises(McspError, match="gone: not a whole Classifier model"):
            Classifier.from_pretrained(tmp_path / "gone")
        return
    (tmp_path / "b/model.safetensors").replace(tmp_path / "a/model.safetensors")
    with pytest.raises(McspError, match="are not of one training"):
        Classifier.from_pretrained(tmp_path / "a")


def test_another_kind_is_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(McspError, match=r"it is a Classifier: load it with Classifier\.from_pretrained"):
        MCSP.from_pretrained(tmp_path)


def test_import_is_light_and_models_are_no_part_of_other_stages_code():
    check = "import sys, mcsp; assert 'torch' not in sys.modules; from mcsp import MCSP; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
    assert "mcsp.model.mcsp" not in modules_of("mcsp.atlas")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_the_same_answer(model):
    x, y = series(), segments()
    expected = model.predict_proba(fmri=x, eeg=y)
    on_gpu = model.to("cuda").predict_proba(fmri=x, eeg=y)
    assert on_gpu.device.type == "cpu"
    torch.testing.assert_close(on_gpu, expected, rtol=1e-3, atol=1e-4)
