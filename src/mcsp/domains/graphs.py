"""Correlation between regions (fMRI), orthogonalised envelope correlation between channels (EEG), of one subject's arrays."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.signal import butter, hilbert, sosfiltfilt


def fisher_z(correlation: np.ndarray, *, limit: float = 0.999999) -> np.ndarray:
    """Fisher's r-to-z transform.

    Parameters: `correlation` (..., R, R), dimensionless, in [-1, 1]; `limit` clips |r| so that z stays finite.
    Returns: (..., R, R) float32, zero on the diagonal.
    Raises: ValueError when a value lies outside [-1, 1] by more than rounding.
    Source: Fisher 1915; nilearn's ConnectivityMeasure(kind='correlation') followed by arctanh.
    """
    if np.abs(correlation).max(initial=0) > 1 + 1e-6:
        raise ValueError("correlation outside [-1, 1]")
    z = np.arctanh(np.clip(correlation, -limit, limit))
    diagonal = np.arange(z.shape[-1])
    z[..., diagonal, diagonal] = 0
    return z.astype(np.float32)


def correlation(series: np.ndarray, n_valid: int) -> np.ndarray:
    """Fisher-z correlation (R, R) of `series` (R, T) over its first `n_valid` frames. NaN beside the diagonal for regions that
    are constant: lost from the field of view, they were not recorded, which is something else than being correlated with none.
    """
    x = series[:, :n_valid].astype(float)
    x -= x.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    x = np.divide(x, norm, out=np.full_like(x, np.nan), where=norm > 1e-12)
    return fisher_z(x @ x.T)


def envelope_correlation(analytic: np.ndarray) -> np.ndarray:
    """Orthogonalised envelope correlation (C, C) of the analytic signal (C, n): the part of one channel in quadrature to
    the other, so that what both see at the same instant (volume conduction) does not count. Symmetric mean of both
    directions, zero diagonal.

    Source: Hipp et al. 2012, Nat. Neurosci. 15:884; amplitudes, as in mne-connectivity's default.
    """
    n_channels = len(analytic)
    magnitude = np.abs(analytic)
    centred = magnitude - magnitude.mean(axis=1, keepdims=True)
    spread = np.linalg.norm(centred, axis=1)
    r = np.zeros((n_channels, n_channels))
    for seed in range(n_channels):
        unit = np.conj(analytic[seed]) / np.maximum(magnitude[seed], 1e-30)
        orthogonal = np.abs((analytic * unit).imag)
        orthogonal[seed] = 0
        orthogonal -= orthogonal.mean(axis=1, keepdims=True)
        length = np.linalg.norm(orthogonal, axis=1)
        # What is left of a copy of the seed is rounding: it correlates with nothing.
        real = (length > 1e-9 * np.linalg.norm(magnitude, axis=1)) & (spread[seed] > 0)
        r[seed] = np.divide(orthogonal @ centred[seed], length * spread[seed], out=np.zeros(n_channels), where=real)
    r = (r + r.T) / 2
    np.fill_diagonal(r, 0)
    return r


def end_to_end(segments: np.ndarray) -> np.ndarray:
    """Continuous signal (C, n) of `segments` (segment, C, sample); what neighbours share, when they overlap, stands once.

    Overlapping segments are copies of one recording, so their common samples are equal to the last bit.
    """
    width = segments.shape[-1]
    parts = [segments[0]]
    for before, after in pairwise(segments):
        shifts = np.flatnonzero(before[0] == after[0, 0])
        shift = next((s for s in shifts if np.array_equal(before[:, s:], after[:, : width - s])), width)
        parts.append(after[:, width - shift :])
    return np.concatenate(parts, axis=1)


def band_connectivity(segments: np.ndarray, n_valid: int, bands: dict[str, tuple[float, float]], sfreq: float) -> np.ndarray:
    """Fisher-z orthogonalised envelope correlation (bands, C, C) of `segments` (segment, C, sample), put end to end."""
    signal = end_to_end(segments[:n_valid]).astype(float)
    out = []
    for low, high in bands.values():
        sos = butter(4, (low, min(high, 0.49 * sfreq)), btype="bandpass", fs=sfreq, output="sos")
        out.append(envelope_correlation(hilbert(sosfiltfilt(sos, signal, axis=1), axis=1)))
    return fisher_z(np.stack(out))
