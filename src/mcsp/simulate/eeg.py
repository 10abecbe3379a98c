"""Simulated EEG: sources at the atlas's regions, a forward model, artefacts, and the BIDS files of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pybv

from mcsp.atlas import Atlas
from mcsp.options.domains import BANDS
from mcsp.options.simulate import SimulatedSite
from mcsp.simulate.forward import MNI_CENTRE, channel_names, electrodes, gain_matrix, nearest_region, source_regions
from mcsp.simulate.signals import BURSTS, DT, Effect, Traits, band_noise
from mcsp.store import write_json

REACH_MM = 18.0  # standard deviation of a band effect's Gaussian reach around its source
BLINK = 120e-6  # V at the eyes
SENSOR_NOISE = 3e-6  # V at snr 1
BURST_DEPTH = 0.5  # relative SD of the amplitude that the rhythms of a network of strength 1 share
BLOCK = 32  # sources in memory at a time


def reach(atlas: Atlas, effect: Effect) -> np.ndarray:
    """Weight (S,) with which a band effect acts on each source: 1 at the source under its electrode."""
    distance = np.linalg.norm(atlas.coordinates - atlas.coordinates[nearest_region(atlas, effect.position)], axis=1)
    return np.exp(-((distance[source_regions(atlas)] / REACH_MM) ** 2) / 2)


def band_profile(atlas: Atlas, coupling: float) -> dict[str, np.ndarray]:
    """Band -> amplitude (S,) of each source, in units of its 1/f activity: alpha behind, theta in front, beta central.
    `coupling`: the subject's trait, which also raises alpha.
    """
    y = (atlas.coordinates[source_regions(atlas), 1] - MNI_CENTRE[1]) / 80
    behind = 1 / (1 + np.exp(6 * y))
    return {
        "delta": np.full(len(y), 0.3),
        "theta": 0.2 + 0.4 * (1 - behind),
        "alpha": (0.3 + 1.5 * behind) * np.exp(0.35 * coupling),
        "beta": 0.2 + 0.3 * np.exp(-8 * y**2),
    }


def with_effects(
    profile: Mapping[str, np.ndarray], atlas: Atlas, effects: Sequence[Effect], sizes: Sequence[float]
) -> dict[str, np.ndarray]:
    """The profile of a subject with planted band effects of the given sizes."""
    changed = dict(profile)
    for effect, size in zip(effects, sizes):
        if effect.kind == "band" and size:
            changed[effect.band] = changed[effect.band] * (1 + size * reach(atlas, effect))
    return changed


def shared_amplitude(rng: np.random.Generator, strength: np.ndarray, sfreq: float, n: int) -> np.ndarray:
    """Factor (N, n) on the amplitude of a rhythm that all sources of a network share. Its depth grows with the networks'
    `strength` (N), so envelopes correlate more within networks that are coupled more in BOLD.

    Source: Brookes et al. 2011 (PNAS 108:16783), Hipp et al. 2012 (Nat. Neurosci. 15:884).
    """
    bursts = band_noise(rng, (len(strength), n), 1 / sfreq, BURSTS)
    return np.clip(1 + BURST_DEPTH * strength[:, None] * bursts, 0.1, None)


def source_activity(
    rng: np.random.Generator, profile: Mapping[str, np.ndarray], envelopes: Mapping[str, np.ndarray], sfreq: float
) -> np.ndarray:
    """Source moments (S, n): 1/f activity of unit variance plus bands, each with its amplitude (S) in `profile` times its
    envelope (S, n).
    """
    shape = next(iter(envelopes.values())).shape
    freqs = np.fft.rfftfreq(shape[1], 1 / sfreq)
    spectrum = rng.normal(size=(shape[0], len(freqs))) + 1j * rng.normal(size=(shape[0], len(freqs)))
    spectrum[:, 0] = 0
    sources = np.fft.irfft(spectrum / np.sqrt(np.maximum(freqs, 0.5)), shape[1])
    sources /= sources.std(axis=1, keepdims=True)
    for band, amplitude in profile.items():
        sources += amplitude[:, None] * envelopes[band] * band_noise(rng, shape, 1 / sfreq, BANDS[band])
    return sources


def blinks(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Blinks (n,), peak 1, one in about 5 s."""
    centres = np.cumsum(rng.exponential(5.0, int(time[-1]) + 1))
    return sum((np.exp(-(((time - c) / 0.08) ** 2)) for c in centres[centres < time[-1]]), np.zeros(len(time)))


def simulate_eeg(
    rng: np.random.Generator,
    atlas: Atlas,
    traits: Traits,
    effects: Sequence[Effect],
    site: SimulatedSite,
    alpha: np.ndarray,
    *,
    duration: float,
    n_channels: int,
    snr: float,
) -> np.ndarray:
    """Sensor signals (C, n) in V: sources through the forward model, blinks, mains hum, sensor noise.

    `alpha` (N, m): slow alpha power of each network (sorted names), on the slow grid from the recording's start.
    """
    regions = source_regions(atlas)
    order = sorted(set(atlas.networks))
    n = round(duration * site.sfreq)
    time = np.arange(n) / site.sfreq
    slow = np.stack([np.interp(time, np.arange(len(row)) * DT, row) for row in alpha])
    network_of = np.array([order.index(atlas.networks[i]) for i in regions])
    profile = with_effects(band_profile(atlas, traits.coupling), atlas, effects, traits.sizes)
    envelopes = {band: shared_amplitude(rng, traits.rhythms, site.sfreq, n) for band in profile}
    envelopes["alpha"] *= np.clip(1 + 0.5 * slow, 0.1, None)
    gain = gain_matrix(atlas.coordinates[regions], n_channels)
    data = np.zeros((n_channels, n))
    for first in range(0, len(regions), BLOCK):
        some = slice(first, first + BLOCK)
        of = network_of[some]
        bands = {band: amplitude[some] * traits.rhythms[of] for band, amplitude in profile.items()}
        waves = {band: envelope[of] for band, envelope in envelopes.items()}
        data += gain[:, some] @ source_activity(rng, bands, waves, site.sfreq)
    places = np.array([electrodes()[name] for name in channel_names(n_channels)])
    eyes = electrodes()["Fp1"] * [0, 1, 1]
    near = np.exp(-((np.linalg.norm(places - eyes, axis=1) / 0.05) ** 2))
    data += BLINK * near[:, None] * blinks(rng, time)
    hum = rng.uniform(1e-6, 6e-6, (len(places), 1))
    data += hum * np.sin(2 * np.pi * site.line_freq * time + rng.uniform(0, 2 * np.pi))
    return site.gain * (data + SENSOR_NOISE / snr * rng.normal(size=data.shape))


def write_eeg(folder: Path, stem: str, data: np.ndarray, site: SimulatedSite, n_channels: int) -> None:
    """Write one recording (C, n) in V as BrainVision with its BIDS sidecars: 16 bit at 0.1 uV, or float32 where a value
    is missing.
    """
    folder.mkdir(parents=True)
    names = list(channel_names(n_channels))
    whole = bool(np.isfinite(data).all())
    pybv.write_brainvision(
        data=data,
        sfreq=site.sfreq,
        ch_names=names,
        fname_base=f"{stem}_eeg",
        folder_out=str(folder),
        overwrite=True,
        resolution=0.1,
        unit="µV",
        fmt="binary_int16" if whole else "binary_float32",
        meas_date=None,
    )
    sidecar = {
        "TaskName": "rest",
        "SamplingFrequency": site.sfreq,
        "PowerLineFrequency": site.line_freq,
        "EEGReference": "average",
        "SoftwareFilters": "n/a",
        "EEGChannelCount": len(names),
        "RecordingDuration": data.shape[1] / site.sfreq,
        "RecordingType": "continuous",
        "EEGPlacementScheme": "10-20",
        "Manufacturer": "simulated",
    }
    write_json(folder / f"{stem}_eeg.json", sidecar)
    channels = {"name": names, "type": "EEG", "units": "uV", "sampling_frequency": site.sfreq, "status": "good"}
    pd.DataFrame(channels).to_csv(folder / f"{stem}_channels.tsv", sep="\t", index=False)
    subject = stem.split("_", 1)[0]
    places = pd.DataFrame([electrodes()[name] for name in names], columns=["x", "y", "z"])
    places.insert(0, "name", names)
    places.to_csv(folder / f"{subject}_electrodes.tsv", sep="\t", index=False, float_format="%.6f")
    system = {"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}
    write_json(folder / f"{subject}_coordsystem.json", system)
