"""Spectral domain: closed forms, Parseval, scipy; and stores row by row."""

import numpy as np
import pytest
from scipy.signal import butter, periodogram, sosfiltfilt

from mcsp.domains import connectivity, spectra
from mcsp.domains.amplitudes import LONGEST_GAP, amplitude_spectrum, region_spectra, rescaled, segment_spectra, without_gaps
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


def test_fewer_samples_keep_the_grid():
    series = np.zeros(120)
    series[:90] = 2.0 * np.sin(2 * np.pi * 0.1 * np.arange(90))
    amplitude = amplitude_spectrum(series[:90], 120)
    assert len(amplitude) == 61
    assert amplitude.argmax() == 12
    assert amplitude[12] == pytest.approx(2.0 * np.sqrt(90 / 120), rel=0.02)
    series[100:] = 1e9  # what lies in the padding does not count
    np.testing.assert_array_equal(region_spectra(series[None], 90)[0], amplitude)


def band_limited(n, rng, shape=()):
    """Noise of 0.01 to 0.1 Hz, 2 s between frames."""
    band = butter(4, [0.01, 0.1], btype="band", fs=0.5, output="sos")
    return sosfiltfilt(band, rng.normal(size=(*shape, n + 200)))[..., 100:-100]


@pytest.mark.parametrize("n_valid", [60, 87, 120])
def test_noise_is_not_larger_where_less_was_kept(n_valid):
    """By Parseval the squares of z-scored series add up to the same; scaled by 2 / n_valid, amplitudes of 60 frames were 1.46
    times those of 120, so that whoever moved more had more of everything.
    """
    rng = np.random.default_rng(0)
    series = np.zeros((200, 120))
    series[:, :n_valid] = band_limited(n_valid, rng, (200,))
    series[:, :n_valid] -= series[:, :n_valid].mean(axis=1, keepdims=True)
    series[:, :n_valid] /= series[:, :n_valid].std(axis=1, keepdims=True)
    amplitude = region_spectra(series, n_valid)
    np.testing.assert_allclose(np.square(amplitude[:, :-1]).sum(axis=1) + 2 * amplitude[:, -1] ** 2, 2.0, rtol=1e-4)
    whole = band_limited(120, rng, (200,))
    whole = (whole - whole.mean(axis=1, keepdims=True)) / whole.std(axis=1, keepdims=True)
    assert amplitude.mean() == pytest.approx(region_spectra(whole, 120).mean(), rel=0.06)  # short ones are smoother


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_scrubbing_adds_no_frequencies(share):
    """Closed up, a fifth of the frames scrubbed put 22 % of the amplitude above 0.12 Hz, where 6 % were."""
    rng = np.random.default_rng(0)
    high, whole_high = [], []
    freqs = np.fft.rfftfreq(160, 2.0)
    for series in band_limited(160, rng, (60, 1)):
        kept = np.sort(rng.permutation(160)[: round(160 * (1 - share))])
        left = np.zeros_like(series)
        left[:, : len(kept)] = series[:, kept]
        scrubbed = region_spectra(left, len(kept), kept - kept[0])
        for values, found in ((scrubbed, high), (region_spectra(series, 160), whole_high)):
            found.append(values[:, freqs > 0.12].sum() / values.sum())
    assert np.mean(high) == pytest.approx(np.mean(whole_high), abs=0.03)


@pytest.mark.parametrize(("gap", "every"), [(1, 3), (3, 9), (5, 12), (5, 10)])
def test_nor_does_it_change_the_level(gap, every):
    """Of filled series as they are, gaps of 5 in 12 raised the sum of squares by 12 %."""
    rng = np.random.default_rng(1)
    levels = {}
    for name, frames in (("whole", np.arange(120)), ("scrubbed", np.flatnonzero(np.arange(240) % every >= gap)[:120])):
        series = band_limited(240, rng, (200,))[:, frames]
        series = (series - series.mean(axis=1, keepdims=True)) / series.std(axis=1, keepdims=True)
        levels[name] = np.square(region_spectra(series, 120, frames - frames[0])).sum(axis=1).mean()
    assert levels["scrubbed"] == pytest.approx(levels["whole"], rel=0.04)


def test_gaps_are_filled_where_they_are_short():
    frames = np.delete(np.arange(300), np.r_[40:43, 100 : 100 + LONGEST_GAP, 200:240])
    x = np.sin(2 * np.pi * 0.05 * frames)[None]
    filled = without_gaps(x, frames)
    assert filled.shape == (1, 260)  # the last gap is joined
    np.testing.assert_allclose(filled[0, :190], np.sin(2 * np.pi * 0.05 * np.arange(190)), atol=0.03)
    np.testing.assert_array_equal(without_gaps(x, np.arange(x.shape[1])), x)


def test_longer_than_the_grid_is_the_fourier_sum_at_its_frequencies():
    """More frames than the row has: those that were scrubbed lay between them."""
    rng = np.random.default_rng(0)
    frames = np.delete(np.arange(130), np.arange(5, 125, 12))
    x = band_limited(130, rng)[None, frames]
    filled = rescaled(without_gaps(x, frames), x)[0]
    filled -= filled.mean()
    k = np.arange(61)
    wanted = np.abs(np.exp(-2j * np.pi * np.outer(k, np.arange(130)) / 120) @ filled) * 2 / np.sqrt(130 * 120)
    wanted[[0, 60]] /= 2
    np.testing.assert_allclose(region_spectra(x, 120, frames)[0], wanted, rtol=1e-4, atol=1e-6)


def test_regions_that_are_lost_are_unknown_in_both_domains(tmp_path):
    rng = np.random.default_rng(0)
    series = rng.normal(size=(2, 6, 40))
    series[0, 2] = 0
    meta = {"units": "x", "axes": ["roi", "frame"], "t_r": 2.0, "names": list("abcdef")}
    with StoreWriter(tmp_path / "t.arrow", (6, 40), meta) as writer:
        for uid, row in zip("ab", series):
            writer.add(uid, row, 40)
    common = {"dataset": "d", "modality": "fmri", "temporal": tmp_path / "t.arrow", "threads": 1, "status": tmp_path / "s.tsv"}
    spectra.run(**common, options=SpectraOptions(), store=tmp_path / "f.arrow")
    connectivity.run(**common, options=ConnectivityOptions(), store=tmp_path / "c.arrow")
    for name in ("f", "c"):
        lost, whole = (np.isnan(Store(tmp_path / f"{name}.arrow").row(i)) for i in (0, 1))
        assert lost[2].sum() == (21 if name == "f" else 5)
        assert lost.sum() == (21 if name == "f" else 10)
        assert not whole.any()


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
