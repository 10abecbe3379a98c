"""The 128-channel HydroCel net, and a field that electrodes at any places see."""

from __future__ import annotations

import mne
import numpy as np

from mcsp.montage import hydrocel_places

HYDROCEL = hydrocel_places("standard_1020")
NET_128 = [*(f"E{i}" for i in range(1, 129)), "Cz"]


def field_raw(places: dict[str, np.ndarray], *, noise: float, sfreq: float = 250.0, duration: float = 30.0) -> mne.io.RawArray:
    """A smooth field of two sources of 10 and 6 Hz, seen by electrodes at any places."""
    rng, t = np.random.default_rng(2), np.arange(int(sfreq * duration)) / sfreq
    there = np.array(list(places.values()))
    axes = np.random.default_rng(0).normal(size=(2, 3))
    sources = np.stack([np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 6 * t + 1)])
    weights = there / np.linalg.norm(there, axis=1, keepdims=True) @ axes.T
    data = 20e-6 * weights @ sources + noise * rng.normal(size=(len(there), len(t)))
    raw = mne.io.RawArray(data, mne.create_info(list(places), sfreq, "eeg"), verbose="error")
    return raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
