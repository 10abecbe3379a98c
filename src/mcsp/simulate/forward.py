"""Where simulated EEG sources lie, and what the electrodes see of them: MNE's spherical head model."""

from __future__ import annotations

from functools import cache

import mne
import numpy as np

from mcsp.atlas import Atlas
from mcsp.errors import McspError
from mcsp.montage import template_montage
from mcsp.options.eeg import CHANNELS_19

HEAD_RADIUS = 0.095  # m
SOURCE_RADIUS = 0.078  # m, the largest distance of a source from the centre; the model's brain ends at 0.0855
MNI_CENTRE = np.array([0.0, -16.0, 5.0])  # mm, centre of the sphere that fits the 10-20 electrodes (radius 95 mm)
BACKGROUND = 12e-6  # V, 1/f activity of the median channel
_EXTRA = ["AF3", "AF4", "FC1", "FC2", "FC5", "FC6", "CP1", "CP2", "CP5", "CP6", "PO3", "PO4", "Oz"]
_OLD = {"T3", "T4", "T5", "T6", "A1", "A2", "M1", "M2"}


@cache
def electrodes() -> dict[str, np.ndarray]:
    """Places in m of the electrodes of `standard_1020`, projected onto a head of 95 mm radius around the origin."""
    places = template_montage("standard_1020", None).get_positions()["ch_pos"]  # not scaled: MNI coordinates, m
    outward = {name: 1000 * place - MNI_CENTRE for name, place in places.items()}
    return {name: HEAD_RADIUS * place / np.linalg.norm(place) for name, place in outward.items()}


@cache
def channel_names(n_channels: int) -> tuple[str, ...]:
    """Names of the simulated nets of 19, 32 and 64 electrodes, all of `standard_1020`."""
    first = (*CHANNELS_19, *_EXTRA)
    rest = [name for name in electrodes() if name not in _OLD and name not in first]
    return (*first, *rest)[:n_channels]


def source_regions(atlas: Atlas) -> np.ndarray:
    """Indices of the regions that act as EEG sources: those with known coordinates, without the cerebellum's.

    Raises McspError when there is none.
    """
    known = ~np.isnan(atlas.coordinates).any(axis=1)
    regions = np.flatnonzero(known & (np.array(atlas.networks) != "cerebellum"))
    if not len(regions):
        raise McspError("simulate: the atlas's regions have no coordinates: EEG needs x, y, z in its table")
    return regions


def source_positions(coordinates: np.ndarray) -> np.ndarray:
    """Places of sources (S, 3) in m in head coordinates, from MNI coordinates (S, 3) in mm, inside the sphere."""
    centred = (coordinates - MNI_CENTRE) / 1000
    return centred * (SOURCE_RADIUS / max(np.linalg.norm(centred, axis=1).max(), 1e-9))


def nearest_region(atlas: Atlas, electrode: str) -> int:
    """Index of the source region under an electrode of `standard_1020`: in its direction, and near the surface.

    Raises McspError for an unknown electrode.
    """
    if electrode not in electrodes():
        raise McspError(f"simulate.effects: position = {electrode} is no electrode of standard_1020: use a name such as Fz")
    regions = source_regions(atlas)
    sources = source_positions(atlas.coordinates[regions])
    place = electrodes()[electrode]
    depth = np.linalg.norm(sources, axis=1)
    towards = sources @ place / np.linalg.norm(place) / np.maximum(depth, 1e-9)
    return int(regions[np.argmax(towards + depth / SOURCE_RADIUS / 8)])


def gain_matrix(coordinates: np.ndarray, n_channels: int) -> np.ndarray:
    """Gain (C, S) in V, average reference, of radial dipoles at `coordinates` (S, 3), MNI mm; scaled so that the median
    channel sees 12 uV when all sources have unit variance. Computed once per process.

    Source: MNE's spherical head model (four shells, Berg and Scherg 1994).
    """
    values = np.ascontiguousarray(coordinates, dtype=float)
    return _gain(values.tobytes(), n_channels)


@cache
def _gain(coordinates: bytes, n_channels: int) -> np.ndarray:
    places = source_positions(np.frombuffer(coordinates).reshape(-1, 3))
    outward = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-9)
    names = list(channel_names(n_channels))
    info = mne.create_info(names, 250.0, "eeg")
    info.set_montage(mne.channels.make_dig_montage({name: electrodes()[name] for name in names}, coord_frame="head"))
    sphere = mne.make_sphere_model(r0=(0.0, 0.0, 0.0), head_radius=HEAD_RADIUS, verbose=False)
    sources = mne.setup_volume_source_space(pos={"rr": places, "nn": outward}, sphere_units="m", verbose=False)
    forward = mne.make_forward_solution(info, None, sources, sphere, meg=False, mindist=0.0, verbose=False)
    free = forward["sol"]["data"].reshape(len(names), -1, 3)
    used = forward["src"][0]["vertno"]
    gain = np.zeros((len(names), len(places)))
    gain[:, used] = np.einsum("csk,sk->cs", free, outward[used])
    gain -= gain.mean(axis=0)
    gain *= BACKGROUND / np.median(np.linalg.norm(gain, axis=1))
    gain.flags.writeable = False
    return gain
