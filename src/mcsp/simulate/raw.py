"""Simulated recordings as a scanner leaves them: a T1w of a head of its own shape and pose, and BOLD of that head as it moves,
slice by slice. What was done to the head is known, so that preprocessing can be held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, spline_filter

from mcsp.atlas import Atlas
from mcsp.motion import rigid_matrix
from mcsp.simulate.bold import physiology
from mcsp.simulate.signals import motion_parameters
from mcsp.store import write_json

T1W_MM = 2.0
FIELD_MM = 8.0  # grid of the deformation
FIELD_SMOOTH_MM = 24.0
FIELD_MAX_MM = 5.0
SKULL_MM, SCALP_MM = 6.0, 14.0  # distance from the brain at which scalp begins and ends
T1W_TISSUE = {"grey": 0.6, "white": 1.0, "csf": 0.25, "scalp": 1.4}
BOLD_TISSUE = {"grey": 0.8, "white": 0.6, "csf": 1.0, "scalp": 0.3}
INTENSITY = 1000.0
PERCENT = 0.01  # one unit of a regional signal, as a share of a voxel's intensity


@dataclass(frozen=True)
class Volume:
    """A volume in MNI space: `values` (X, Y, Z) and `affine` from voxels to mm."""

    values: np.ndarray
    affine: np.ndarray

    def at(self, points: np.ndarray, order: int = 1) -> np.ndarray:
        """Values at `points` (..., 3) in mm; zero outside."""
        voxels = apply_affine(np.linalg.inv(self.affine), points)
        return map_coordinates(self.values, np.moveaxis(voxels, -1, 0), order=order, cval=0.0, prefilter=False)


@cache
def tissues() -> dict[str, Volume]:
    """Share of grey and white matter, CSF and scalp in each voxel of the MNI152 template (2 mm)."""
    from nilearn import datasets

    brain = datasets.load_mni152_brain_mask(resolution=2)
    inside = brain.get_fdata() > 0
    grey, white = (
        np.clip(load(resolution=2).get_fdata(), 0, 1) * inside
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    distance = distance_transform_edt(~inside) * 2.0
    scalp = ((distance > SKULL_MM) & (distance <= SCALP_MM)).astype(float)
    parts = {"grey": grey, "white": white, "csf": np.clip(inside - grey - white, 0, 1), "scalp": scalp}
    return {name: Volume(gaussian_filter(values, 0.4), brain.affine) for name, values in parts.items()}


@cache
def labels_of(image: Path) -> Volume:
    """The atlas's label image."""
    loaded = nib.load(image)
    return Volume(np.asanyarray(loaded.dataobj).astype(np.float32), loaded.affine)


@dataclass(frozen=True)
class Head:
    """One head: `pose` (4, 4) takes MNI mm to the scanner's mm (rotation, shift and size), after which `field` bends it:
    `field` (3, X, Y, Z) is the displacement in mm, spline coefficients on a coarse grid of MNI space with `affine`.
    """

    pose: np.ndarray
    field: np.ndarray
    affine: np.ndarray

    def to_mni(self, points: np.ndarray) -> np.ndarray:
        """Places in MNI space (mm) of `points` (..., 3) of this head (mm)."""
        straight = apply_affine(np.linalg.inv(self.pose), points)
        voxels = np.moveaxis(apply_affine(np.linalg.inv(self.affine), straight), -1, 0)
        bent = [map_coordinates(part, voxels, order=3, mode="nearest", prefilter=False) for part in self.field]
        return straight + np.stack(bent, axis=-1)


def draw_head(rng: np.random.Generator) -> Head:
    """A head turned by a few degrees, shifted by about a centimetre, up to a tenth larger or smaller, and bent by up to
    `FIELD_MAX_MM`.
    """
    affine = np.diag([FIELD_MM, FIELD_MM, FIELD_MM, 1.0])
    affine[:3, 3] = (-120.0, -160.0, -110.0)
    noise = rng.normal(size=(3, 31, 36, 31))
    smooth = np.stack([gaussian_filter(part, FIELD_SMOOTH_MM / FIELD_MM) for part in noise])
    field = smooth * FIELD_MAX_MM / np.abs(smooth).max()
    pose = rigid_matrix(np.concatenate([rng.normal(0, 6, 3), rng.normal(0, 0.06, 3)]), np.zeros(3))
    pose[:3, :3] = pose[:3, :3] @ np.diag(rng.uniform(0.92, 1.05, 3))
    return Head(pose, np.stack([spline_filter(part, order=3) for part in field]), affine)


def scanner_grid(shape: tuple[int, int, int], voxel_size: float, centre: np.ndarray) -> np.ndarray:
    """Affine of a grid of `shape` whose middle lies at `centre` (mm). The first axis runs to the left, as scanners store it."""
    affine = np.diag([-voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def voxel_places(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Places (X, Y, Z, 3) in mm of a grid's voxels."""
    return apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def _blend(points: np.ndarray, weights: dict[str, float]) -> np.ndarray:
    return sum(weight * tissues()[name].at(points) for name, weight in weights.items())


def t1w_volume(rng: np.random.Generator, head: Head) -> nib.Nifti1Image:
    """T1w of a head: tissue contrast, a smooth bias field of 20 %, noise."""
    shape = (96, 124, 112)
    affine = scanner_grid(shape, T1W_MM, head.pose[:3, 3] + np.array([0.0, -16.0, 6.0]))
    values = _blend(head.to_mni(voxel_places(shape, affine)), T1W_TISSUE)
    bias = gaussian_filter(rng.normal(size=shape), 20)
    values = INTENSITY * (values * (1 + 0.2 * bias / np.abs(bias).max()) + 0.02 * np.abs(rng.normal(size=shape)))
    return _image(np.rint(values).astype(np.int16), affine)


def slice_times(n_slices: int, t_r: float) -> np.ndarray:
    """Start (n_slices,) in s of each slice: odd ones first, then even ones, evenly over the repetition time."""
    order = np.concatenate([np.arange(0, n_slices, 2), np.arange(1, n_slices, 2)])
    times = np.empty(n_slices)
    times[order] = np.arange(n_slices) * t_r / n_slices
    return np.round(times, 4)


def bold_run(
    rng: np.random.Generator,
    head: Head,
    roi: np.ndarray,
    roi_dt: float,
    atlas: Atlas,
    motion: np.ndarray,
    *,
    t_r: float,
    voxel_size: float,
    gain: float = 1.0,
    noise: float = 1.0,
) -> nib.Nifti1Image:
    """Raw BOLD of a moving head. `roi` (R, N): regional signals every `roi_dt` s, in standard deviations (1 % of a voxel);
    `motion` (T, 6): where the head is at each frame, by `rigid_matrix` about the grid's middle; `noise`: voxel noise in the
    units of `roi`. Each slice holds the signal of its own time.
    """
    shape = (int(200 / voxel_size), int(232 / voxel_size), int(176 / voxel_size))
    centre = head.pose[:3, 3] + np.array([2.0, -18.0, 8.0])
    affine = scanner_grid(shape, voxel_size, centre)
    places, grid = voxel_places(shape, affine), np.arange(roi.shape[1]) * roi_dt
    row_of = np.zeros(max(int(labels_of(atlas.image).values.max()), atlas.index.max()) + 1, int)
    row_of[atlas.index] = np.arange(1, len(atlas.index) + 1)
    phys = physiology(rng, len(motion))
    own = 0.5 * rng.uniform(0.5, 1.5, (2, *shape))
    times, slices = slice_times(shape[2], t_r), np.arange(shape[2])
    run = np.empty((*shape, len(motion)), np.int16)
    for frame, moved in enumerate(motion):
        points = head.to_mni(apply_affine(np.linalg.inv(rigid_matrix(moved, centre)), places))
        at = frame * t_r + times
        signal = np.concatenate([np.zeros((1, shape[2])), [np.interp(at, grid, row) for row in roi]])
        region = row_of[labels_of(atlas.image).at(points, order=0).astype(int)]
        change = signal[region, slices] + np.tensordot(phys[:, frame], own, 1)
        base = _blend(points, BOLD_TISSUE)
        values = base * (1 + PERCENT * (change + noise * rng.normal(size=shape))) + 0.01 * np.abs(rng.normal(size=shape))
        run[..., frame] = np.rint(np.clip(gain * INTENSITY * values, 0, 2**15 - 1))
    return _image(run, affine, t_r)


def _image(values: np.ndarray, affine: np.ndarray, t_r: float | None = None) -> nib.Nifti1Image:
    image = nib.Nifti1Image(values, affine)
    image.header.set_sform(affine, code="scanner")
    image.header.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    if t_r:
        image.header["pixdim"][4] = t_r
    return image


def write_raw(
    root: Path,
    label: str,
    rng: np.random.Generator,
    roi: np.ndarray,
    roi_dt: float,
    atlas: Atlas,
    *,
    n_frames: int,
    t_r: float,
    voxel_size: float,
    gain: float,
    noise: float,
) -> None:
    """Write T1w and raw BOLD of a participant, with sidecars, under `root`/`label`. Units as in `bold_run`."""
    anat, func = root / label / "anat", root / label / "func"
    anat.mkdir(parents=True)
    func.mkdir(parents=True)
    head, motion = draw_head(rng), motion_parameters(rng, n_frames, t_r)
    t1w_volume(rng, head).to_filename(anat / f"{label}_T1w.nii.gz")
    bold = bold_run(rng, head, roi, roi_dt, atlas, motion, t_r=t_r, voxel_size=voxel_size, gain=gain, noise=noise)
    bold.to_filename(func / f"{label}_task-rest_bold.nii.gz")
    times = slice_times(bold.shape[2], t_r).tolist()
    write_json(func / f"{label}_task-rest_bold.json", {"RepetitionTime": t_r, "TaskName": "rest", "SliceTiming": times})
