"""Where simulated EEG sources lie, and what the electrodes see of them: MNE's three-shell sphere model."""

from __future__ import annotations

from functools import cache

import mne
import numpy as np

from mcsp.montage import template_montage
from mcsp.options.eeg import CHANNELS_19

HEAD_RADIUS = 0.095  # m
SOURCE_RADIUS = 0.068  # m, the largest distance of a source from the centre
MNI_CENTRE = np.array([0.0, -18.0, 8.0])  # mm, the middle of the brain
_EXTRA = ["AF3", "AF4", "FC1", "FC2", "FC5", "FC6", "CP1", "CP2", "CP5", "CP6", "PO3", "PO4", "Oz"]


@cache
def channel_names(n_channels: int) -> tuple[str, ...]:
    """Names of the simulated nets of 19, 32 and 64 electrodes, all of `standard_1020`."""
    if n_channels == 19:
        return tuple(CHANNELS_19)
    if n_channels == 32:
        return (*CHANNELS_19, *_EXTRA)
    taken = {*CHANNELS_19, *_EXTRA, "T3", "T4", "T5", "T6", "A1", "A2", "M1", "M2"}
    rest = [name for name in montage().ch_names if name not in taken]
    return (*CHANNELS_19, *_EXTRA, *rest[: n_channels - 32])


def montage() -> mne.channels.DigMontage:
    """The electrodes' places on a head of 95 mm radius."""
    return template_montage("standard_1020", HEAD_RADIUS)


def source_positions(coordinates: np.ndarray) -> np.ndarray:
    """Places of sources (S, 3) in m in head coordinates, from MNI coordinates (S, 3) in mm, inside the sphere."""
    centred = (coordinates - MNI_CENTRE) / 1000
    radius = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred * (SOURCE_RADIUS / max(radius.max(), 1e-9))


def gain_matrix(coordinates: np.ndarray, n_channels: int) -> np.ndarray:
    """Gain (C, S) in V per unit moment, average reference, scaled so that the median channel sees unit-variance sources
    with 12 uV. Radial dipoles at `coordinates` (S, 3), MNI mm.
    """
    names = channel_names(n_channels)
    info = mne.create_info(list(names), 250.0, "eeg")
    info.set_montage(montage())
    places = source_positions(coordinates)
    outward = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-9)
    sphere = mne.make_sphere_model(r0=(0.0, 0.0, 0.0), head_radius=HEAD_RADIUS, verbose=False)
    source_space = mne.setup_volume_source_space(pos={"rr": places, "nn": outward}, sphere_units="m", verbose=False)
    forward = mne.make_forward_solution(info, None, source_space, sphere, meg=False, mindist=0.0, verbose=False)
    free = forward["sol"]["data"].reshape(len(names), -1, 3)
    used = forward["src"][0]["vertno"]
    gain = np.zeros((len(names), len(places)))
    gain[:, used] = np.einsum("csk,sk->cs", free, outward[used])
    gain -= gain.mean(axis=0)
    return gain * (12e-6 / np.median(np.sqrt((gain**2).sum(axis=1))))
