"""Amplitude spectra of regions, or of channels in each segment, of one subject's arrays."""

from __future__ import annotations

import numpy as np


def amplitude_spectrum(series: np.ndarray, n_valid: int, *, detrend: bool = True) -> np.ndarray:
    """One-sided amplitude spectrum (..., T // 2 + 1) of `series` (..., T), whose first `n_valid` samples are data.

    A sinusoid A sin(2 pi f t) at a bin's frequency gives A there, in the units of the series; the mean (if kept) and
    the Nyquist bin are not doubled. Padding with zeros keeps the frequency grid, and is divided out.
    """
    x = np.array(series, dtype=float)
    if detrend:
        x[..., :n_valid] -= x[..., :n_valid].mean(axis=-1, keepdims=True)
    x[..., n_valid:] = 0
    n = x.shape[-1]
    amplitude = np.abs(np.fft.rfft(x)) * (2 / n_valid)
    amplitude[..., 0] /= 2
    if n % 2 == 0:
        amplitude[..., -1] /= 2
    return amplitude.astype(np.float32)


def segment_spectra(segments: np.ndarray, n_valid: int, *, detrend: bool = True) -> np.ndarray:
    """Amplitude spectra (segment, C, samples // 2 + 1) of `segments` (segment, C, sample)."""
    return amplitude_spectrum(segments, segments.shape[-1], detrend=detrend)
