"""Confound regressors of a run, under fMRIPrep's names: tissue signals, aCompCor, cosines, motion, DVARS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from nilearn.glm.first_level.design_matrix import create_cosine_drift
from scipy import ndimage

from mcsp.confounds import expand
from mcsp.errors import Exclusion
from mcsp.motion import MOTION, framewise_displacement

HIGH_PASS = 1 / 128  # Hz, of the cosines and before aCompCor
VARIANCE = 0.5  # share that the components of a mask explain together
MIN_COMPONENTS = 6
MIN_VOXELS = 20
CORE_MM = 9.0  # CSF nearer to the brain's surface than this is mixed with grey matter
CHUNK = 4096  # voxels


def tissue_masks(probability: dict[str, np.ndarray], brain: np.ndarray, zooms: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of 'csf' (inner ventricles) and 'white' matter, without borders, on the grid of `brain` (X, Y, Z; bool).

    Where a mask would have fewer than 20 voxels, as on coarse grids, the likeliest 20. Raises Exclusion when a tissue is
    nowhere.
    """
    depth = ndimage.distance_transform_edt(brain, sampling=zooms)
    inner = ndimage.binary_erosion(probability["white"] > 0.9)
    masks = {"csf": (probability["csf"] > 0.9) & (depth > CORE_MM), "white": inner & (depth > 0)}
    for name, mask in masks.items():
        if mask.sum() < MIN_VOXELS:
            inside = probability[name] * (depth > (CORE_MM if name == "csf" else 0))
            if (inside > 0.5).sum() < MIN_VOXELS:
                raise Exclusion(f"no {name} found in the brain: the segmentation failed: look at the T1w")
            masks[name] = inside >= np.sort(inside.ravel())[-MIN_VOXELS]
    return masks


def _chunks(n: int) -> Iterator[slice]:
    return (slice(first, min(first + CHUNK, n)) for first in range(0, n, CHUNK))


def cosines(n_frames: int, t_r: float) -> np.ndarray:
    """Discrete cosine drifts (T, K) below 1/128 Hz, without the constant (nilearn's `create_cosine_drift`)."""
    return create_cosine_drift(HIGH_PASS, np.arange(n_frames) * t_r)[:, :-1]


def compcor(series: np.ndarray, voxels: np.ndarray, drifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(components (T, K) of unit length, the first with the most variance; share of the variance that each explains (K)).

    `series` (T, V), `voxels`: columns of a mask, `drifts` (T, D). Voxels lose mean and drifts, are scaled to unit variance,
    and the principal components in time explain half of the variance together, at least six where there are as many.
    Source: aCompCor, Behzadi et al. 2007 (NeuroImage 37:90), Muschelli et al. 2014 for the 50 %. Memory: T x T.
    """
    n = len(series)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n), drifts]))
    gram = np.zeros((n, n))
    for chunk in _chunks(len(voxels)):
        part = np.asarray(series[:, voxels[chunk]], float)
        part -= basis @ (basis.T @ part)
        spread = part.std(axis=0)
        part = part[:, spread > 1e-6] / spread[spread > 1e-6]
        gram += part @ part.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    if not values.sum() > 0:
        return np.zeros((n, 0)), np.zeros(0)
    share = values / values.sum()
    wanted = max(MIN_COMPONENTS, int(np.searchsorted(share.cumsum(), VARIANCE)) + 1)
    kept = min(wanted, int((share > 1e-10).sum()))
    signs = np.sign(vectors[np.abs(vectors[:, :kept]).argmax(axis=0), np.arange(kept)])
    return vectors[:, :kept] * signs, share[:kept]


def dvars(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(DVARS (T), standardised DVARS (T)) of `series` (T, V), the first frame NaN.

    Intensities are scaled to a median of 1000. Standardised: relative to what noise of each voxel's robust standard deviation
    and lag-1 autocorrelation would give. Sources: Power et al. 2012; Nichols 2013 (arXiv 1704.01469).
    """
    middle = float(np.median(series.mean(axis=0)))
    if not middle > 0:
        raise Exclusion("the BOLD's median intensity in the brain is not above 0: no intensities of a scanner")
    scale, n = 1000 / middle, series.shape[1]
    squares, expected, alive = np.zeros(len(series) - 1), 0.0, 0
    for chunk in _chunks(n):
        part = np.asarray(series[:, chunk], float) * scale
        part = part[:, part.std(axis=0) > 1e-9]
        high, low = np.percentile(part, [75, 25], axis=0, method="lower")  # as nipype, so fMRIPrep, has it
        centred = part - part.mean(axis=0)
        correlation = (centred[1:] * centred[:-1]).sum(axis=0) / (centred**2).sum(axis=0)
        expected += (np.sqrt(np.maximum(2 * (1 - correlation), 0)) * (high - low) / 1.349).sum()
        squares += (np.diff(part, axis=0) ** 2).sum(axis=1)
        alive += part.shape[1]
    plain = np.sqrt(squares / max(alive, 1))
    standard = plain / max(expected / max(alive, 1), 1e-12)
    return np.concatenate([[np.nan], plain]), np.concatenate([[np.nan], standard])


def _mean(series: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    total = sum(np.asarray(series[:, voxels[chunk]], float).sum(axis=1) for chunk in _chunks(len(voxels)))
    return total / len(voxels)


def confounds(
    series: np.ndarray, brain: np.ndarray, masks: dict[str, np.ndarray], motion: np.ndarray, t_r: float
) -> tuple[pd.DataFrame, dict]:
    """(table (T rows) of fMRIPrep's columns, its sidecar). `series` (T, V) of the voxels of `brain` (X, Y, Z; bool), `masks`
    on the same grid, `motion` (T, 6) in mm and rad.
    """
    columns = {name: np.flatnonzero(mask[brain]) for name, mask in masks.items()}
    drifts = cosines(len(series), t_r)
    plain, standard = dvars(series)
    table = pd.DataFrame(
        {
            "global_signal": _mean(series, np.arange(series.shape[1])),
            "csf": _mean(series, columns["csf"]),
            "white_matter": _mean(series, columns["white"]),
            "dvars": plain,
            "std_dvars": standard,
            "framewise_displacement": framewise_displacement(motion),
            **dict(zip(MOTION, motion.T)),
        }
    )
    both = np.union1d(columns["csf"], columns["white"])
    sidecar: dict = {}
    parts = [expand(table, ["global_signal", "csf", "white_matter", *MOTION])]
    for prefix, mask, voxels in (("a", "combined", both), ("c", "CSF", columns["csf"]), ("w", "WM", columns["white"])):
        found, share = compcor(series, voxels, drifts)
        names = [f"{prefix}_comp_cor_{i:02d}" for i in range(found.shape[1])]
        parts.append(pd.DataFrame(found, columns=names))
        for name, own, total in zip(names, share, share.cumsum()):
            sidecar[name] = {
                "Method": "aCompCor", "Mask": mask, "Retained": True, "VarianceExplained": round(float(own), 6),
                "CumulativeVarianceExplained": round(float(total), 6),
            }  # fmt: skip
    parts.append(pd.DataFrame(drifts, columns=[f"cosine{i:02d}" for i in range(drifts.shape[1])]))
    return pd.concat(parts, axis=1), sidecar
