"""Spatial domain: against nilearn, a plain loop over pairs, and what volume conduction must not do."""

import numpy as np
import pytest
from nilearn.connectome import ConnectivityMeasure
from scipy.signal import butter, hilbert, sosfiltfilt

from mcsp.domains.graphs import band_connectivity, correlation, end_to_end, envelope_correlation, fisher_z


def test_correlation_is_nilearns():
    series = np.random.default_rng(0).normal(size=(8, 120)).astype(np.float32)
    series[1] += series[0]
    series[:, 90:] = 0
    from sklearn.covariance import EmpiricalCovariance

    measure = ConnectivityMeasure(kind="correlation", cov_estimator=EmpiricalCovariance(), standardize=False)
    expected = np.arctanh(measure.fit_transform([series[:, :90].T.astype(float)])[0] * (1 - np.eye(8)))
    np.testing.assert_allclose(correlation(series, 90), expected, atol=1e-5)


def test_constant_regions_are_unknown_and_take_nothing_from_others():
    series = np.random.default_rng(0).normal(size=(4, 60))
    series[2] = 3.0
    z = correlation(series, 60)
    assert np.isnan(np.delete(z[2], 2)).all()
    assert z[2, 2] == 0
    others = [0, 1, 3]
    np.testing.assert_array_equal(z[np.ix_(others, others)], correlation(series[others], 60))


def test_fisher_z_by_hand():
    r = np.array([[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(fisher_z(r), [[0, 0.5493061], [0.5493061, 0]], rtol=1e-6)
    with pytest.raises(ValueError, match="outside"):
        fisher_z(np.array([[1.0, 1.1], [1.1, 1.0]]))
    assert np.isfinite(fisher_z(np.ones((3, 3)))).all()


def plain_envelope_correlation(x):
    """Hipp's measure, pair by pair."""
    n = len(x)
    r = np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            if a != b:
                orthogonal = np.abs(np.imag(x[b] * np.conj(x[a]) / np.abs(x[a])))
                r[a, b] = np.corrcoef(np.abs(x[a]), orthogonal)[0, 1]
    return (r + r.T) / 2


def noise(n_channels=5, n=4000, seed=0):
    sos = butter(4, (8, 13), btype="bandpass", fs=250, output="sos")
    white = np.random.default_rng(seed).normal(size=(n_channels, n))
    return hilbert(sosfiltfilt(sos, white, axis=1), axis=1)


def test_envelope_correlation_is_the_plain_loops():
    x = noise()
    np.testing.assert_allclose(envelope_correlation(x), plain_envelope_correlation(x), atol=1e-10)


def test_common_envelopes_are_found_and_mixing_is_not():
    rng = np.random.default_rng(2)
    x = noise(3, 50_000)
    slow = hilbert(sosfiltfilt(butter(2, 0.5, fs=250, output="sos"), rng.normal(size=50_000)))
    shared = np.abs(slow) / np.abs(slow).mean()
    coupled = x * np.array([shared, shared, np.ones(50_000)])
    r = envelope_correlation(coupled)
    assert r[0, 1] > 0.15
    assert abs(r[0, 2]) < 0.05
    mixed = np.array([[1, 0.5, 0.2], [0.5, 1, 0.4], [0.2, 0.4, 1]]) @ x  # the same sources everywhere, at once
    assert np.abs(envelope_correlation(mixed)).max() < 0.06
    assert np.abs(np.corrcoef(np.abs(mixed))[0, 1]) > 0.3  # which plain envelopes take for coupling


def test_identical_channels_have_no_orthogonal_part():
    x = noise(1)
    assert np.abs(envelope_correlation(np.vstack([x, x]))).max() < 1e-6


def test_bands_are_told_apart():
    """An envelope shared by two channels at 10 Hz shows in alpha only."""
    rng = np.random.default_rng(0)
    n = 30_000
    t = np.arange(n) / 250
    slow = 1 + 0.9 * np.sin(2 * np.pi * 0.3 * t)
    data = rng.normal(size=(3, n))
    carrier = [np.sin(2 * np.pi * 10 * t + p + np.cumsum(rng.normal(0, 0.02, n))) for p in (0, 1.5)]
    data[0] += 4 * slow * carrier[0]
    data[1] += 4 * slow * carrier[1]
    segments = data.reshape(3, -1, 200).transpose(1, 0, 2)
    bands = {"theta": (4, 7), "alpha": (8, 13), "beta": (15, 30)}
    z = band_connectivity(segments, len(segments), bands, 250.0)
    assert z.shape == (3, 3, 3)
    assert z[1, 0, 1] > 0.3
    assert abs(z[1, 0, 2]) < 0.1
    assert max(abs(z[0, 0, 1]), abs(z[2, 0, 1])) < 0.1
    np.testing.assert_allclose(z, z.transpose(0, 2, 1), atol=1e-6)


@pytest.mark.parametrize("starts", [[0, 200, 400], [0, 150, 300, 600], [0, 0, 10, 20], [5, 400, 405]])
def test_samples_that_segments_share_stand_once(starts):
    signal = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    segments = np.stack([signal[:, s : s + 200] for s in starts])
    covered = sorted({i for s in starts for i in range(s, s + 200)})
    np.testing.assert_array_equal(end_to_end(segments), signal[:, covered])
