"""Signals of one simulated brain: slow regional activity, alpha power that drives BOLD, head motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import gamma

from mcsp.options.simulate import AmplitudeEffect, BandEffect, EdgeEffect, NetworkEffect

DT = 0.5  # s, the grid on which slow activity lives
SLOW = (0.01, 0.1)  # Hz, of network activity
SLOPE = 1.0  # what a network's regions share has power 1 / f: slower than what each has of its own
WAXING = (0.01, 0.08)  # Hz, of alpha power
BURSTS = (0.1, 2.0)  # Hz, of the amplitude that a network's rhythms share
AMPLITUDE_BAND = (0.02, 0.05)  # Hz, where amplitude effects act
SYSTEMIC, SYSTEMIC_SD, WAVELENGTH = 8, 0.6, 120.0  # patterns, SD of their log strength, mm
PATTERN_SEED = 8  # of the patterns, which are the same in everybody and in every study
SETTLE = 40.0  # s before a recording begins, so that the haemodynamic response has settled

Effect = EdgeEffect | AmplitudeEffect | BandEffect | NetworkEffect


def band_noise(
    rng: np.random.Generator, shape: tuple[int, ...], dt: float, band: tuple[float, float], slope: float = 0.0
) -> np.ndarray:
    """Gaussian noise of unit variance inside `band` (Hz), with power 1 / f^slope there and none outside; time is the last
    axis.
    """
    n = shape[-1]
    freqs = np.fft.rfftfreq(n, dt)
    inside = (freqs >= band[0]) & (freqs <= band[1])
    spectrum = np.zeros((*shape[:-1], len(freqs)), complex)
    size = (*shape[:-1], int(inside.sum()))
    spectrum[..., inside] = (rng.normal(size=size) + 1j * rng.normal(size=size)) * freqs[inside] ** (-slope / 2)
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
    response = haemodynamic_response(dt).reshape((1,) * (neural.ndim - 1) + (-1,))
    return fftconvolve(neural, response, axes=-1)[..., : neural.shape[-1]]


@dataclass(frozen=True)
class Traits:
    """What one subject carries in both modalities, so that its EEG and fMRI can be told to belong together. `coupling`:
    standard normal; raises network coupling and alpha power together. By network, in the order of their sorted names:
    `networks`, its coupling strength in BOLD, and `rhythms`, the factor on the amplitude of its sources' rhythms in EEG.
    `sizes`: planted size per effect, 0 where the subject lacks the disorder.
    """

    coupling: float
    networks: np.ndarray
    rhythms: np.ndarray
    sizes: np.ndarray


def alpha_envelopes(rng: np.random.Generator, n_networks: int, n: int) -> np.ndarray:
    """Slow waxing and waning of alpha power (N, n), unit variance: half of it common to all networks, half their own."""
    common, own = band_noise(rng, (n,), DT, WAXING), band_noise(rng, (n_networks, n), DT, WAXING)
    return (common + own) / np.sqrt(2)


def alpha_sign(names: Sequence[str], networks: Sequence[str]) -> np.ndarray:
    """Sign (R,) with which alpha power drives BOLD: -1 in cortex, +1 in the thalamus, 0 in the cerebellum.

    Source: simultaneous EEG-fMRI, Goldman et al. 2002 (NeuroReport 13:2487), Laufs et al. 2003 (PNAS 100:11053).
    """
    sign = np.full(len(names), -1.0)
    sign[["thalamus" in name.lower() for name in names]] = 1.0
    sign[[network == "cerebellum" for network in networks]] = 0.0
    return sign


def couple(rng: np.random.Generator, latent: np.ndarray, first: int, second: int, size: float) -> None:
    """Mix one signal into two network latents (N, n), in place: correlation +-size^2 / (1 + size^2) between them.

    Their variance stays, so connectivity inside each network, and with every third one, does not change.
    """
    shared = band_noise(rng, (latent.shape[1],), DT, SLOW, SLOPE)
    latent[first] = (latent[first] + abs(size) * shared) / np.sqrt(1 + size**2)
    latent[second] = (latent[second] + size * shared) / np.sqrt(1 + size**2)


def amplify(activity: np.ndarray, size: float) -> np.ndarray:
    """Activity (R, n) with its amplitude between 0.02 and 0.05 Hz multiplied by 1 + size."""
    freqs = np.fft.rfftfreq(activity.shape[1], DT)
    inside = (freqs >= AMPLITUDE_BAND[0]) & (freqs <= AMPLITUDE_BAND[1])
    return np.fft.irfft(np.fft.rfft(activity) * np.where(inside, 1 + size, 1.0), activity.shape[1])


def slow_activity(
    rng: np.random.Generator,
    names: Sequence[str],
    networks: Sequence[str],
    traits: Traits,
    effects: Sequence[Effect],
    alpha: np.ndarray,
    coupling: float,
) -> np.ndarray:
    """Regional neural activity (R, n) on the slow grid: what the regions of a network share, weighted by the subject's
    coupling, activity of their own (unit variance), and alpha power `alpha` (N, n) with `coupling` as its share.
    """
    order = sorted(set(networks))
    of = np.array([order.index(network) for network in networks])
    n = alpha.shape[1]
    latent = band_noise(rng, (len(order), n), DT, SLOW, SLOPE)
    for effect, size in zip(effects, traits.sizes):
        if effect.kind == "edge" and size:
            couple(rng, latent, *(order.index(network) for network in effect.networks), size)
    activity = traits.networks[of][:, None] * latent[of] + band_noise(rng, (len(networks), n), DT, SLOW)
    activity += 0.7 * np.sqrt(coupling) * alpha_sign(names, networks)[:, None] * alpha[of]
    for effect, size in zip(effects, traits.sizes):
        if effect.kind == "amplitude" and size:
            rows = of == order.index(effect.network)
            activity[rows] = amplify(activity[rows], size)
    return activity


def bold_response(activity: np.ndarray, duration: float, t_r: float) -> np.ndarray:
    """BOLD (R, T) every `t_r` s of `duration` s, after the response has settled; the median region has unit variance."""
    bold = convolve_hrf(activity, DT)[:, round(SETTLE / DT) :]
    frames = np.arange(int(duration / t_r + 1e-6)) * t_r
    grid = np.arange(bold.shape[1]) * DT
    series = np.stack([np.interp(frames, grid, row) for row in bold])
    return series / np.median(series.std(axis=1))


def systemic_fluctuations(
    rng: np.random.Generator, coordinates: np.ndarray, size: float, n_frames: int, dt: float
) -> np.ndarray:
    """Slow fluctuations (R, n_frames) every `dt` s that are not neural: `SYSTEMIC` smooth patterns over `coordinates` (R, 3;
    mm), the same in everybody, each with a time course of its own and a strength, log-normal around `size`, of the subject.

    Such fluctuations are much of what differs between people's connectivity: Tong et al. 2019, Front Neurosci 13:787. Patterns
    and sizes are made up.
    """
    fixed = np.random.default_rng(PATTERN_SEED)
    waves = fixed.normal(size=(SYSTEMIC, 3)) / (WAVELENGTH * np.sqrt(3))
    patterns = np.cos(2 * np.pi * (coordinates @ waves.T + fixed.uniform(size=SYSTEMIC)))
    strengths = size * np.exp(SYSTEMIC_SD * rng.normal(size=SYSTEMIC))
    return (patterns * strengths) @ band_noise(rng, (SYSTEMIC, n_frames), dt, SLOW, SLOPE)


def motion_parameters(rng: np.random.Generator, n_frames: int, t_r: float) -> np.ndarray:
    """Head motion (n_frames, 6): translations in mm and rotations in rad; slow drift, breathing and a few jerks."""
    scale = np.array([0.6, 0.8, 1.0, 0.012, 0.008, 0.008]) * rng.lognormal(-1.3, 0.35)
    drift = np.cumsum(rng.normal(size=(n_frames, 6)) * scale * 0.06 * np.sqrt(t_r / 2), axis=0)
    breathing = 0.15 * scale * np.sin(2 * np.pi * 0.28 * t_r * np.arange(n_frames)[:, None] + rng.uniform(0, 2 * np.pi, 6))
    for frame in rng.integers(min(5, n_frames - 1), n_frames, rng.poisson(2)):
        drift[frame:] += rng.normal(size=6) * scale * 0.4
        drift[frame] += rng.normal(size=6) * scale
    return drift + breathing
