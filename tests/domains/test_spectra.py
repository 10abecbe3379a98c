"""Spectral domain: closed forms, Parseval, scipy; and stores row by row."""

import numpy as np
import pytest
from scipy.signal import periodogram

from mcsp.domains import connectivity, spectra
from mcsp.domains.amplitudes import amplitude_spectrum, segment_spectra
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.store import Store, StoreWriter, read_tsv


@pytest.mark.parametrize("n", [120, 121, 200])
def test_a_sinusoid_gives_its_amplitude(n):
    k, t = 7, np.arange(n)
    series = 3.0 * np.sin(2 * np.pi * k * t / n + 0.4) + 5.0
    amplitude = amplitude_spectrum(series, n)
    assert amplitude.shape == (n // 2 + 1,)
    assert amplitude[k] == pytest.approx(3.0, rel=1e-5)
    assert np.delete(amplitude, k).max() < 1e-5
    assert amplitude_spectrum(series, n, detrend=False)[0] == pytest.approx(5.0, rel=1e-5)


def test_the_nyquist_bin_is_not_doubled():
    assert amplitude_spectrum(np.tile([1.0, -1.0], 50), 100)[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("n", [120, 121])
def test_agrees_with_scipys_periodogram(n):
    series = np.random.default_rng(0).normal(size=(4, n))
    _, power = periodogram(series, 1.0, scaling="spectrum", detrend="constant")
    expected = np.sqrt(2 * power)  # the power of a sinusoid of amplitude A is A^2 / 2
    if n % 2 == 0:
        expected[:, -1] /= np.sqrt(2)
    np.testing.assert_allclose(amplitude_spectrum(series, n)[:, 1:], expected[:, 1:], rtol=1e-5)


def test_padding_keeps_the_grid_and_the_amplitude():
    t = np.arange(90)
    series = np.zeros(120)
    series[:90] = 2.0 * np.sin(2 * np.pi * 0.1 * t)
    amplitude = amplitude_spectrum(series, 90)
    assert len(amplitude) == 61
    assert amplitude[12] == pytest.approx(2.0, rel=0.02)
    series[100:] = 1e9  # what lies in the padding does not count
    np.testing.assert_array_equal(amplitude_spectrum(series, 90), amplitude)


def test_segments_are_transformed_one_by_one():
    segments = np.random.default_rng(0).normal(size=(5, 3, 200))
    out = segment_spectra(segments, 5)
    assert out.shape == (5, 3, 101)
    np.testing.assert_allclose(out[2, 1], amplitude_spectrum(segments[2, 1], 200), rtol=1e-6)


@pytest.mark.parametrize("modality", ["fmri", "eeg"])
@pytest.mark.parametrize("threads", [1, 2])
def test_stores_keep_people_valid_frames_and_say_what_they_hold(tmp_path, modality, threads):
    shape = (6, 40) if modality == "fmri" else (10, 4, 50)
    meta = {"units": "x", "t_r": 2.0, "names": list("abcdef")} if modality == "fmri" else {"sfreq": 100.0, "units": "x"}
    rng = np.random.default_rng(0)
    rows = {f"d/sub-{i}": rng.normal(size=shape) for i in range(5)}
    with StoreWriter(tmp_path / "t.arrow", shape, meta) as writer:
        for i, (uid, row) in enumerate(rows.items()):
            writer.add(uid, row, 30 + i if modality == "fmri" else 10)
    common = {"dataset": "d", "modality": modality, "temporal": tmp_path / "t.arrow", "threads": threads}
    spectra.run(**common, options=SpectraOptions(), store=tmp_path / "f.arrow", status=tmp_path / "f.tsv")
    connectivity.run(**common, options=ConnectivityOptions(), store=tmp_path / "c.arrow", status=tmp_path / "c.tsv")
    spectral, spatial = Store(tmp_path / "f.arrow"), Store(tmp_path / "c.arrow")
    assert spectral.uids == spatial.uids == list(rows)
    assert spectral.n_valid == ([30, 31, 32, 33, 34] if modality == "fmri" else [10] * 5)
    assert spectral.shape == ((6, 21) if modality == "fmri" else (10, 4, 26))
    assert spatial.shape == ((6, 6) if modality == "fmri" else (4, 4, 4))
    assert len(spectral.meta["freqs"]) == spectral.shape[-1]
    assert spectral.meta["freqs"][-1] == (0.25 if modality == "fmri" else 50.0)
    assert (read_tsv(tmp_path / "f.tsv")["state"] == "done").all()
    assert (read_tsv(tmp_path / "c.tsv")["stage"] == f"connectivity-{modality}").all()
