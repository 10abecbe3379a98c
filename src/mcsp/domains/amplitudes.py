"""Amplitude spectra of regions, or of channels in each segment, of one subject's arrays."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

LONGEST_GAP = 5  # frames in a row that a spline fills; over longer ones it would overshoot


def amplitude_spectrum(series: np.ndarray, n: int, *, detrend: bool = True) -> np.ndarray:
    """One-sided amplitude spectrum (..., n // 2 + 1) of `series` (..., any number of samples) at the frequencies of `n`.

    A sinusoid A sin(2 pi f t) at a bin's frequency gives A there, in the units of the series, where there are `n`; the mean
    (if kept) and the Nyquist bin are not doubled. Of up to `n` samples the sum of squares over frequencies is the same
    for series of the same variance (of more, nearly): what is noise does not look larger where less was kept.
    """
    x = np.asarray(series, float)
    length = x.shape[-1]
    if detrend:
        x = x - x.mean(axis=-1, keepdims=True)
    x = np.concatenate([x, np.zeros((*x.shape[:-1], -length % n))], axis=-1)
    wrapped = x.reshape(*x.shape[:-1], -1, n).sum(axis=-2)  # at these frequencies, longer series are periodic in n
    amplitude = np.abs(np.fft.rfft(wrapped)) * (2 / np.sqrt(length * n))
    amplitude[..., 0] /= 2
    if n % 2 == 0:
        amplitude[..., -1] /= 2
    return amplitude.astype(np.float32)


def without_gaps(series: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """`series` (..., N) of frames number `frames` (N,) with those between them, by a cubic spline: closed up, what scrubbing
    left would hold frequencies that nobody measured, the more the head moved. Where more than `LONGEST_GAP` in a row are
    missing, as between runs, the parts are joined.
    """
    steps = np.diff(frames)
    places = np.concatenate([[0], np.cumsum(np.where(steps > LONGEST_GAP + 1, 1, steps))])
    if places[-1] == len(places) - 1:
        return np.asarray(series, float)
    return CubicSpline(places, series, axis=-1)(np.arange(places[-1] + 1))


def rescaled(series: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`series` (R, N) about their means, each with the variance that it has in `like` (R, M): what a spline fills in is smaller
    or larger than what was measured, the more so the more of it there is.
    """
    x = series - series.mean(axis=-1, keepdims=True)
    wanted, found = (own.std(axis=-1, keepdims=True) for own in (like, x))
    return like.mean(axis=-1, keepdims=True) + x * np.divide(wanted, found, out=np.zeros_like(found), where=found > 0)


def region_spectra(series: np.ndarray, n_valid: int, frames: np.ndarray | None = None, *, detrend: bool = True) -> np.ndarray:
    """Amplitude spectra (R, T // 2 + 1) of fMRI `series` (R, T), whose first `n_valid` frames are data. `frames` (n_valid,):
    which frames of the run they are, at the common rate, None: one after the other. NaN for regions that are constant: lost
    from the field of view, they were not recorded.
    """
    data = np.asarray(series, float)[:, :n_valid]
    whole = data if frames is None else rescaled(without_gaps(data, frames), data)
    found = amplitude_spectrum(whole, np.shape(series)[-1], detrend=detrend)
    return np.where(np.ptp(data, axis=-1, keepdims=True) > 0, found, np.float32(np.nan))


def segment_spectra(segments: np.ndarray, n_valid: int, *, detrend: bool = True) -> np.ndarray:
    """Amplitude spectra (segment, C, samples // 2 + 1) of `segments` (segment, C, sample)."""
    return amplitude_spectrum(segments, segments.shape[-1], detrend=detrend)
