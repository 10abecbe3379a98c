"""Slices of a frame are recorded one after the other; this brings them to one time."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from mcsp.errors import Exclusion

AXES = {"i": 0, "j": 1, "k": 2}


def slice_times(sidecar: dict, shape: tuple[int, ...], t_r: float, name: str) -> tuple[np.ndarray, int] | None:
    """(start of each slice in s, axis along which slices lie) by a BIDS sidecar; None when it does not tell.

    Raises Exclusion when the times do not fit the run.
    """
    times, direction = sidecar.get("SliceTiming"), str(sidecar.get("SliceEncodingDirection") or "k")
    if not times:
        return None
    axis = AXES.get(direction[0])
    try:
        found = np.array(times, float)
    except (TypeError, ValueError) as error:
        raise Exclusion(f"{name}: SliceTiming is no list of numbers: mend the sidecar") from error
    if axis is None or found.shape != (shape[axis],):
        where = f"{shape[axis]} slices" if axis is not None else f"SliceEncodingDirection {direction}"
        raise Exclusion(f"{name}: SliceTiming has {found.size} values for {where}: mend the sidecar")
    if not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= t_r * 1.001):
        hint = ", they look like ms" if found.max() > t_r and found.max() <= 1000 * t_r else ""
        raise Exclusion(f"{name}: SliceTiming lies outside the repetition time of {t_r:g} s{hint}: BIDS wants s")
    return (found[::-1] if direction.endswith("-") else found), axis


def correct(run: np.ndarray, times: np.ndarray, axis: int, t_r: float) -> float:
    """Shift every slice of `run` (X, Y, Z, T) in time, in place, to the middle of the slices' times, which is returned in s.

    Cubic spline through a voxel's samples; at the ends the first and last sample hold. One row of voxels in memory at a time.
    """
    wanted = (times.min() + times.max()) / 2
    frames = np.arange(run.shape[-1]) * t_r
    for index, start in enumerate(times):
        if run.shape[-1] < 2 or np.isclose(start, wanted):
            continue
        samples = frames + start
        places = np.clip(frames + wanted, samples[0], samples[-1])
        for row in np.moveaxis(run, axis, 0)[index]:  # a view
            row[:] = CubicSpline(samples, np.asarray(row, float), axis=-1)(places)
    return float(wanted)
