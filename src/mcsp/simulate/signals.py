"""Signals of one simulated brain: slow regional activity, alpha power that drives BOLD, EEG sources, head motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma

DT = 0.5  # s, the grid on which slow activity lives
SLOW = (0.01, 0.1)  # Hz
HEAD_RADIUS_MM = 50.0  # Power et al. 2012: rotations as arc length on a sphere of this radius


def band_noise(rng: np.random.Generator, shape: tuple[int, ...], dt: float, band: tuple[float, float]) -> np.ndarray:
    """Gaussian noise of unit variance with a flat spectrum inside `band` (Hz) and none outside; time is the last axis."""
    n = shape[-1]
    freqs = np.fft.rfftfreq(n, dt)
    inside = (freqs >= band[0]) & (freqs <= band[1])
    spectrum = np.zeros((*shape[:-1], len(freqs)), complex)
    size = (*shape[:-1], int(inside.sum()))
    spectrum[..., inside] = rng.normal(size=size) + 1j * rng.normal(size=size)
    signal = np.fft.irfft(spectrum, n)
    return signal / signal.std(axis=-1, keepdims=True)


def haemodynamic_response(dt: float, duration: float = 32.0) -> np.ndarray:
    """Double-gamma response (peak near 5 s, undershoot near 15 s) sampled every `dt` s, sum 1.

    Source: the canonical form of Friston et al. 1998; same shape parameters as SPM's.
    """
    t = np.arange(0, duration, dt)
    response = gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6
    return response / response.sum()


def convolve_hrf(neural: np.ndarray, dt: float) -> np.ndarray:
    """Neural activity (..., T) convolved with the haemodynamic response, causal, same length."""
    from scipy.signal import fftconvolve

    response = haemodynamic_response(dt).reshape((1,) * (neural.ndim - 1) + (-1,))
    return fftconvolve(neural, response, axes=-1)[..., : neural.shape[-1]]


@dataclass(frozen=True)
class Traits:
    """What one subject carries in both modalities. `coupling`: standard normal; raises network coupling and alpha power
    together, so that a subject's EEG and fMRI can be told to belong together. `effects`: planted size per effect, 0
    where the subject lacks the disorder.
    """

    coupling: float
    networks: np.ndarray  # coupling strength of each network
    effects: np.ndarray


def motion_parameters(rng: np.random.Generator, n_frames: int, t_r: float) -> np.ndarray:
    """Head motion (n_frames, 6): translations in mm and rotations in rad; slow drift, breathing and a few jerks."""
    scale = np.array([0.6, 0.8, 1.0, 0.012, 0.008, 0.008]) * rng.lognormal(-0.9, 0.35)
    steps = rng.normal(size=(n_frames, 6)) * scale * 0.06 * np.sqrt(t_r / 2)
    drift = np.cumsum(steps, axis=0)
    breathing = 0.15 * scale * np.sin(2 * np.pi * 0.28 * t_r * np.arange(n_frames)[:, None] + rng.uniform(0, 6.28, 6))
    for frame in rng.integers(5, n_frames, rng.poisson(2)):
        drift[frame:] += rng.normal(size=6) * scale * 0.4
        drift[frame] += rng.normal(size=6) * scale
    return drift + breathing


def framewise_displacement(motion: np.ndarray) -> np.ndarray:
    """Framewise displacement (T,) in mm, the first frame NaN. `motion` (T, 6): mm and rad.

    Source: Power et al. 2012, NeuroImage 59:2142: sum of absolute differences, rotations on a sphere of 50 mm.
    """
    change = np.abs(np.diff(motion, axis=0))
    change[:, 3:] *= HEAD_RADIUS_MM
    return np.concatenate([[np.nan], change.sum(axis=1)])


def slow_activity(
    rng: np.random.Generator, networks: list[str], traits: Traits, effects: list, n: int, alpha_envelope: np.ndarray, coupling: float
) -> np.ndarray:
    """Regional neural activity (R, n) on the slow grid, unit variance before effects.

    Each network has a latent signal that its regions share; `alpha_envelope` (n,) lowers cortical activity with share
    `coupling` of the variance (alpha power and BOLD are anticorrelated in cortex: Goldman et al. 2002, Laufs et al.
    2003). Planted edges add one latent to two networks; planted amplitudes scale 0.02-0.05 Hz.
    """
    names = sorted(set(networks))
    of = np.array([names.index(network) for network in networks])
    latent = band_noise(rng, (len(names), n), DT, SLOW)
    own = band_noise(rng, (len(networks), n), DT, SLOW)
    strength = traits.networks[of][:, None]
    activity = strength * latent[of] + own
    cortical = np.array([network != "cerebellum" for network in networks])
    activity[cortical] -= np.sqrt(coupling) * 0.7 * alpha_envelope
    for effect, size in zip(effects, traits.effects):
        if effect.kind == "edge" and size:
            shared = band_noise(rng, (n,), DT, SLOW)
            activity[of == names.index(effect.networks[0])] += abs(size) * shared
            activity[of == names.index(effect.networks[1])] += size * shared
        elif effect.kind == "amplitude" and size:
            rows = of == names.index(effect.network)
            freqs = np.fft.rfftfreq(n, DT)
            gain = np.where((freqs >= 0.02) & (freqs <= 0.05), 1 + size, 1.0)
            activity[rows] = np.fft.irfft(np.fft.rfft(activity[rows]) * gain, n)
    return activity


def eeg_sources(
    rng: np.random.Generator, profile: dict[str, np.ndarray], sfreq: float, n: int, envelope: np.ndarray, bands: dict
) -> np.ndarray:
    """Source moments (S, n): 1/f activity plus bands. `profile`: band -> amplitude per source (S,), relative to the 1/f
    part's unit standard deviation. `envelope` (n,) modulates alpha.
    """
    n_sources = len(next(iter(profile.values())))
    freqs = np.fft.rfftfreq(n, 1 / sfreq)
    shape = np.zeros_like(freqs)
    shape[1:] = 1 / np.sqrt(np.maximum(freqs[1:], 0.5))
    size = (n_sources, len(freqs))
    background = np.fft.irfft((rng.normal(size=size) + 1j * rng.normal(size=size)) * shape, n)
    sources = background / background.std(axis=1, keepdims=True)
    for band, amplitude in profile.items():
        rhythm = band_noise(rng, (n_sources, n), 1 / sfreq, bands[band])
        if band == "alpha":
            rhythm *= envelope
        sources += amplitude[:, None] * rhythm
    return sources
