"""Spectral domain: amplitude spectra of regions or of channels in each segment."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mcsp.code import code_version
from mcsp.domains.transform import transform_store
from mcsp.options.domains import SpectraOptions
from mcsp.store import Store


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


def run(
    *, dataset: str, modality: str, temporal: Path, options: SpectraOptions, store: Path, status: Path, threads: int
) -> None:
    """Write one shard of the spectral store of `modality` and the status of its subjects."""
    source = Store(temporal)
    n = source.shape[-1]
    step = source.meta["t_r"] if modality == "fmri" else 1 / source.meta["sfreq"]
    axes = ["roi", "frequency"] if modality == "fmri" else ["segment", "channel", "frequency"]
    transform_store(
        temporal=temporal,
        function=partial(amplitude_spectrum if modality == "fmri" else segment_spectra, detrend=options.detrend),
        shape=(*source.shape[:-1], n // 2 + 1),
        meta={
            "axes": axes,
            "freqs": [round(float(f), 9) for f in np.fft.rfftfreq(n, step)],
            "code": code_version("mcsp.domains.spectra"),
        },
        options=options,
        store=store,
        status=status,
        stage=f"spectra-{modality}",
        dataset=dataset,
        threads=threads,
    )
