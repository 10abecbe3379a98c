"""Numerical steps against independent references and known forms."""

import mne
import numpy as np
import pytest
from nilearn.glm.first_level import spm_hrf
from scipy.signal import butter, hilbert, sosfiltfilt, welch
from scipy.stats import skew, spearmanr

from mcsp.atlas import load_atlas
from mcsp.motion import framewise_displacement
from mcsp.options.simulate import AmplitudeEffect, BandEffect, EdgeEffect, SimulatedSite
from mcsp.simulate import forward, signals
from mcsp.simulate.eeg import shared_amplitude, simulate_eeg, source_activity
from mcsp.simulate.signals import DT, Traits


def rng(seed=0):
    return np.random.default_rng(seed)


def test_band_noise_stays_in_its_band():
    x = signals.band_noise(rng(), (4, 4000), DT, (0.02, 0.06))
    np.testing.assert_allclose(x.std(axis=1), 1)
    power = np.abs(np.fft.rfft(x)) ** 2
    freqs = np.fft.rfftfreq(4000, DT)
    outside = (freqs < 0.02 - 1e-9) | (freqs > 0.06 + 1e-9)
    assert power[:, outside].max() < 1e-12 * power.max()


def test_band_noise_has_the_stated_slope():
    x = signals.band_noise(rng(), (50, 4000), DT, (0.01, 0.1), 1.0)
    np.testing.assert_allclose(x.std(axis=1), 1)
    freqs = np.fft.rfftfreq(4000, DT)
    inside = (freqs >= 0.0105) & (freqs <= 0.0995)
    power = (np.abs(np.fft.rfft(x)) ** 2).mean(axis=0)[inside]
    assert np.polyfit(np.log(freqs[inside]), np.log(power), 1)[0] == pytest.approx(-1, abs=0.05)


def test_systemic_fluctuations_have_the_same_patterns_in_everybody_and_strengths_of_their_own():
    places = rng(1).uniform(-60, 60, (40, 3))
    one, two = (signals.systemic_fluctuations(rng(seed), places, 0.3, 400, 2.0) for seed in (0, 1))
    np.testing.assert_array_equal(one, signals.systemic_fluctuations(rng(0), places, 0.3, 400, 2.0))
    assert not signals.systemic_fluctuations(rng(0), places, 0.0, 400, 2.0).any()
    np.testing.assert_allclose(2 * one, signals.systemic_fluctuations(rng(0), places, 0.6, 400, 2.0))
    assert np.linalg.matrix_rank(one) == np.linalg.matrix_rank(np.hstack([one, two])) == signals.SYSTEMIC
    assert abs(np.corrcoef(one[0], two[0])[0, 1]) < 0.5  # time courses are one's own
    freqs, power = np.fft.rfftfreq(400, 2.0), np.abs(np.fft.rfft(one)) ** 2
    assert power[:, freqs > 0.1 + 1e-9].max() < 1e-12 * power.max()
    sizes = [signals.systemic_fluctuations(rng(seed), places, 0.3, 400, 2.0).std() for seed in range(30)]
    assert 0.15 < np.std(np.log(sizes)) < 0.6


def test_haemodynamic_response_is_spms():
    """nilearn samples the same form, from one step later on."""
    ours = signals.haemodynamic_response(0.01)
    theirs = spm_hrf(0.01, oversampling=1, time_length=32.0)
    np.testing.assert_allclose(ours[:-1], theirs[1:], atol=2e-3 * theirs.max())
    assert ours.sum() == pytest.approx(1)
    assert np.argmax(ours) * 0.01 == pytest.approx(5.0)


def test_convolution_is_causal():
    pulse = np.zeros((1, 100))
    pulse[0, 20] = 1
    out = signals.convolve_hrf(pulse, DT)
    np.testing.assert_allclose(out[0, :20], 0, atol=1e-12)
    np.testing.assert_allclose(out[0, 20:84], signals.haemodynamic_response(DT), atol=1e-12)


def test_coupling_has_the_stated_correlation_and_spares_the_rest():
    n = 200_000
    latent = signals.band_noise(rng(1), (3, n), DT, signals.SLOW)
    signals.couple(rng(2), latent, 0, 1, -2.0)
    np.testing.assert_allclose(latent.std(axis=1), 1, atol=0.02)
    r = np.corrcoef(latent)
    assert r[0, 1] == pytest.approx(-4 / 5, abs=0.03)
    assert abs(r[0, 2]) < 0.03
    assert abs(r[1, 2]) < 0.03


def test_amplitude_changes_only_its_band():
    x = signals.band_noise(rng(), (2, 4000), DT, signals.SLOW)
    ratio = np.abs(np.fft.rfft(signals.amplify(x, 0.5))) / np.maximum(np.abs(np.fft.rfft(x)), 1e-12)
    freqs = np.fft.rfftfreq(4000, DT)
    inside = (freqs >= 0.02) & (freqs <= 0.05)
    np.testing.assert_allclose(ratio[:, inside], 1.5, rtol=1e-6)
    rest = (freqs >= 0.0105) & (freqs <= 0.0995) & ~inside
    np.testing.assert_allclose(ratio[:, rest], 1, rtol=1e-6)


NAMES = ["a1", "a2", "thalamus left", "lobule"]
NETWORKS = ["a", "a", "b", "cerebellum"]


def test_alpha_lowers_cortex_raises_thalamus_and_spares_the_cerebellum():
    alpha = np.tile(signals.band_noise(rng(5), (4000,), DT, signals.WAXING), (3, 1))
    traits = Traits(0.0, np.full(3, 0.5), np.ones(3), np.zeros(0))
    activity = signals.slow_activity(rng(6), NAMES, NETWORKS, traits, [], alpha, coupling=1.0)
    bold = signals.convolve_hrf(activity, DT)
    driven = signals.convolve_hrf(alpha[0], DT)
    r = [np.corrcoef(row, driven)[0, 1] for row in bold]
    assert r[0] < -0.3
    assert r[1] < -0.3
    assert r[2] > 0.3
    assert abs(r[3]) < 0.15
    # the response lags: BOLD follows alpha power by seconds, not the other way round
    lags = [np.corrcoef(bold[0, lag:], alpha[0, : alpha.shape[1] - lag])[0, 1] for lag in range(40)]
    assert 3 <= np.argmin(lags) * DT <= 8


def test_without_coupling_alpha_is_not_in_bold():
    alpha = np.tile(signals.band_noise(rng(5), (4000,), DT, signals.WAXING), (3, 1))
    traits = Traits(0.0, np.full(3, 0.5), np.ones(3), np.zeros(0))
    activity = signals.slow_activity(rng(6), NAMES, NETWORKS, traits, [], alpha, coupling=0.0)
    assert abs(np.corrcoef(activity[0], alpha[0])[0, 1]) < 0.1


def test_effects_touch_only_who_has_them():
    effects = [
        EdgeEffect(kind="edge", disorder="x", networks=("a", "b"), size=1.0),
        AmplitudeEffect(kind="amplitude", disorder="x", network="a", size=1.0),
        BandEffect(kind="band", disorder="x", band="beta", position="Cz", size=1.0),
    ]
    alpha = signals.alpha_envelopes(rng(), 3, 800)
    args = (NAMES, NETWORKS)
    plain = signals.slow_activity(rng(1), *args, Traits(0, np.ones(3), np.ones(3), np.zeros(0)), [], alpha, 0.5)
    healthy = signals.slow_activity(rng(1), *args, Traits(0, np.ones(3), np.ones(3), np.zeros(3)), effects, alpha, 0.5)
    band = signals.slow_activity(rng(1), *args, Traits(0, np.ones(3), np.ones(3), np.array([0, 0, 1.0])), effects, alpha, 0.5)
    amplitude = signals.slow_activity(
        rng(1), *args, Traits(0, np.ones(3), np.ones(3), np.array([0, 1.0, 0])), effects, alpha, 0.5
    )
    np.testing.assert_array_equal(plain, healthy)
    np.testing.assert_array_equal(plain, band)
    np.testing.assert_array_equal(plain[2:], amplitude[2:])
    assert not np.allclose(plain[:2], amplitude[:2])


def test_strong_networks_share_more_of_their_amplitude():
    """Envelope correlation (scipy's analytic signal) between two sources of a network rises with its strength; that between
    networks stays near zero.
    """
    n, sfreq, bursts = 100_000, 250.0, rng(3)
    shared = shared_amplitude(bursts, np.array([0.5, 1.5]), sfreq, n)[[0, 0, 1, 1]]
    sources = source_activity(rng(4), {"alpha": np.full(4, 5.0)}, {"alpha": shared}, sfreq)
    sos = butter(4, (8, 13), btype="bandpass", fs=sfreq, output="sos")
    r = np.corrcoef(np.abs(hilbert(sosfiltfilt(sos, sources))))
    assert r[0, 1] + 0.15 < r[2, 3] < 0.8
    assert r[0, 1] > 0.05
    assert np.abs(r[:2, 2:]).max() < 0.05


def test_bold_response_has_the_runs_length():
    activity = signals.band_noise(rng(), (5, 600), DT, signals.SLOW)
    assert signals.bold_response(activity, 240.0, 2.0).shape == (5, 120)
    assert signals.bold_response(activity, 240.0, 2.5).shape == (5, 96)


def test_framewise_displacement_by_hand():
    motion = np.zeros((3, 6))
    motion[1] = [0.1, -0.2, 0.3, 0.001, 0.002, -0.003]
    fd = framewise_displacement(motion)
    assert np.isnan(fd[0])
    np.testing.assert_allclose(fd[1:], 0.6 + 50 * 0.006)


def test_motion_is_like_real_motion():
    """Median FD of resting adults lies near 0.1-0.3 mm, with occasional spikes."""
    fd = [np.nanmean(framewise_displacement(signals.motion_parameters(rng(i), 150, 2.0))) for i in range(60)]
    assert 0.1 < np.median(fd) < 0.35
    assert np.mean(np.array(fd) > 0.5) < 0.1


def test_electrodes_lie_where_they_should():
    places = forward.electrodes()
    np.testing.assert_allclose([np.linalg.norm(p) for p in places.values()], forward.HEAD_RADIUS)
    assert places["T7"][0] < 0 < places["T8"][0]
    assert places["O1"][1] < 0 < places["Fp1"][1]
    assert places["Cz"][2] > 0.09
    for n in (19, 32, 64):
        assert len(set(forward.channel_names(n))) == n


@pytest.mark.parametrize("electrode", ["Fz", "P4", "F3", "O1", "T7", "C3"])
def test_the_source_under_an_electrode_is_seen_there_most(atlas_table, electrode):
    atlas = load_atlas(atlas_table)
    regions = forward.source_regions(atlas)
    gain = forward.gain_matrix(atlas.coordinates[regions], 19)
    column = gain[:, list(regions).index(forward.nearest_region(atlas, electrode))]
    assert forward.channel_names(19)[int(np.argmax(np.abs(column)))] == electrode
    np.testing.assert_allclose(gain.sum(axis=0), 0, atol=1e-18)  # average reference


def test_gain_falls_off_with_the_angle(atlas_table):
    """The potential of a radial dipole in a sphere depends on the angle to the electrode alone, and falls with it."""
    atlas = load_atlas(atlas_table)
    regions = forward.source_regions(atlas)
    gain = forward.gain_matrix(atlas.coordinates[regions], 64)
    places = np.array([forward.electrodes()[n] for n in forward.channel_names(64)]) / forward.HEAD_RADIUS
    sources = forward.source_positions(atlas.coordinates[regions])
    cosine = places @ (sources / np.linalg.norm(sources, axis=1, keepdims=True)).T
    for i in range(len(regions)):
        assert spearmanr(cosine[:, i], gain[:, i])[0] > 0.999


def test_eeg_amplitude_and_line_noise(atlas_table):
    atlas = load_atlas(atlas_table)
    alpha = signals.alpha_envelopes(rng(), 6, 200)
    for line in (50, 60):
        site = SimulatedSite(name="s", sfreq=250, line_freq=line)
        plain = Traits(0.0, np.ones(6), np.ones(6), np.zeros(0))
        data = simulate_eeg(
            rng(1),
            atlas,
            plain,
            [],
            site,
            alpha,
            duration=60,
            n_channels=19,
            snr=1.0,
        )
        assert data.shape == (19, 15000)
        freqs, power = welch(data, 250, nperseg=500)
        power = power.mean(axis=0)
        high = freqs > 35
        assert freqs[high][np.argmax(power[high])] == line
        other = 110 - line
        assert power[freqs == line] > 10 * power[freqs == other]
        filtered = mne.filter.filter_data(data, 250, 8, 13, verbose=False)
        rms = filtered.std(axis=1) * 1e6
        names = forward.channel_names(19)
        assert 5 < rms[names.index("O1")] < 60
        assert rms[names.index("O1")] > 1.5 * rms[names.index("Fz")]
        slow = skew(mne.filter.filter_data(data, 250, 0.5, 8, verbose=False), axis=1)  # of blinks
        behind = [names.index(name) for name in ("P3", "Pz", "P4", "O1", "O2")]
        assert slow[names.index("Fp1")] > 0.7 > 0.3 > abs(slow[behind].mean())
