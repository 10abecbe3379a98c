"""Simulated BOLD as fMRIPrep would leave it: a run in MNI space, its mask, sidecars and confounds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from mcsp.atlas import Atlas
from mcsp.confounds import expand
from mcsp.motion import MOTION, framewise_displacement
from mcsp.simulate.signals import motion_parameters
from mcsp.store import write_json

SPACE = "MNI152NLin2009cAsym"
STEP = 0.25  # intensity of one unit of the 16-bit files
ANATOMY_MM = 6.0


@cache
def grid(voxel_size: float, atlas_image: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(labels, brain, intensity, affine) on a grid of `voxel_size` mm: labels of the atlas (int), brain mask (bool),
    T1w-like intensity in [0, 1].
    """
    from nilearn import datasets, image

    template = datasets.load_mni152_template(resolution=3)
    quiet = {"force_resample": True, "copy_header": True}
    small = image.resample_img(template, target_affine=np.diag([voxel_size] * 3), interpolation="linear", **quiet)
    labels = image.resample_to_img(nib.load(atlas_image), small, interpolation="nearest", **quiet)
    intensity = np.clip(small.get_fdata(), 0, None)
    intensity /= intensity.max()
    found = np.rint(labels.get_fdata()).astype(int)
    return found, (intensity > 0.15) | (found > 0), intensity, small.affine


def _write_image(path: Path, values: np.ndarray, affine: np.ndarray, slope: float = 1.0, t_r: float | None = None) -> None:
    """Write whole numbers that mean `values * slope`."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_sform(affine, code="mni")
    image.header.set_qform(affine, code="mni")
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm", "sec")
    if t_r:
        image.header["pixdim"][4] = t_r
    image.to_filename(path)


def physiology(rng: np.random.Generator, n: int) -> np.ndarray:
    """Slow wandering of the signals of ventricles and white matter (2, n), unit variance."""
    walk = rng.normal(size=(2, n)).cumsum(axis=1)
    return (walk - walk.mean(axis=1, keepdims=True)) / walk.std(axis=1, keepdims=True)


def leak(rng: np.random.Generator, motion: np.ndarray, phys: np.ndarray, n_voxels: int) -> np.ndarray:
    """What motion (T, 6) and physiology (2, T) add to each voxel (V, T), in standard deviations of the BOLD signal:
    jerks and physiology in all, with the voxel's own weight; the parameters with either sign.
    """
    jerk = np.nan_to_num(framewise_displacement(motion))
    spread = (motion - motion.mean(axis=0)) / np.maximum(motion.std(axis=0), 1e-9)
    common = np.vstack([0.5 * phys, 2.0 * jerk])
    return rng.uniform(0.5, 1.5, (n_voxels, 3)) @ common + 0.15 * rng.normal(size=(n_voxels, 6)) @ spread.T


def confounds(rng: np.random.Generator, motion: np.ndarray, phys: np.ndarray, brain: np.ndarray, t_r: float) -> pd.DataFrame:
    """fMRIPrep's confound columns. `motion` (T, 6) in mm and rad, `phys` (2, T) ventricle and white-matter signals,
    `brain` (V, T) intensities.
    """
    n = len(motion)
    dvars = np.concatenate([[np.nan], np.sqrt(np.mean(np.diff(brain, axis=1) ** 2, axis=0))])
    columns: dict[str, np.ndarray] = {
        "global_signal": brain.mean(axis=0),
        "csf": 800 + 8 * phys[0],
        "white_matter": 900 + 6 * phys[1],
        "dvars": dvars,
        "std_dvars": dvars / np.nanmedian(dvars),
        "framewise_displacement": framewise_displacement(motion),
    }
    for i in range(6):
        columns[f"a_comp_cor_{i:02d}"] = phys[i % 2] / np.sqrt(n) + 0.02 * rng.normal(size=n)
    for i in range(max(1, int(2 * n * t_r / 128))):
        columns[f"cosine{i:02d}"] = np.cos(np.pi * (i + 1) * (2 * np.arange(n) + 1) / (2 * n)) * np.sqrt(2 / n)
    columns.update(zip(MOTION, motion.T))
    return expand(pd.DataFrame(columns), MOTION)


def write_bold(
    folder: Path,
    stem: str,
    rng: np.random.Generator,
    roi: np.ndarray,
    atlas: Atlas,
    *,
    t_r: float,
    voxel_size: float,
    gain: float,
    noise: float,
) -> None:
    """Write one run. `roi` (R, T): regional signals in units of about one standard deviation, which is 1 % of a voxel's
    intensity; `gain`: the site's scale; `noise`: voxel noise in the units of `roi`. Zero outside the brain.
    """
    folder.mkdir(parents=True)
    labels, brain, intensity, affine = grid(voxel_size, atlas.image)
    n = roi.shape[1]
    motion, phys = motion_parameters(rng, n, t_r), physiology(rng, n)
    row_of = np.zeros(max(labels.max(), atlas.index.max()) + 1, int)
    row_of[atlas.index] = np.arange(1, len(atlas.index) + 1)
    signal = np.concatenate([np.zeros((1, n)), roi])[row_of[labels[brain]]]
    signal += leak(rng, motion, phys, len(signal)) + noise * rng.normal(size=signal.shape)
    inside = gain * (400 + 800 * intensity[brain])[:, None] * (1 + 0.01 * signal)
    stored = np.zeros((*brain.shape, n), np.int16)
    stored[brain] = np.clip(np.rint(inside / STEP), 1, 2**15 - 1)
    base = f"{stem}_space-{SPACE}"
    _write_image(folder / f"{base}_desc-preproc_bold.nii.gz", stored, affine, STEP, t_r)
    _write_image(folder / f"{base}_desc-brain_mask.nii.gz", brain.astype(np.uint8), affine)
    write_json(folder / f"{base}_desc-preproc_bold.json", {"RepetitionTime": t_r, "TaskName": "rest", "SkullStripped": True})
    write_json(folder / f"{base}_desc-brain_mask.json", {"Type": "Brain", "RawSources": [], "Sources": []})
    table = confounds(rng, motion, phys, inside, t_r)
    name = f"{stem}_desc-confounds_timeseries"
    table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.8g", lineterminator="\n")
    write_json(folder / f"{name}.json", {column: {"Description": "Simulated, named as fMRIPrep does"} for column in table})


def write_anatomy(folder: Path, stem: str, rng: np.random.Generator, atlas: Atlas) -> None:
    """Write a simulated T1w (6 mm): the MNI152 template with noise."""
    folder.mkdir(parents=True)
    _, _, intensity, affine = grid(ANATOMY_MM, atlas.image)
    values = np.clip(1000 * intensity + 20 * rng.normal(size=intensity.shape), 0, None)
    _write_image(folder / f"{stem}_T1w.nii.gz", values.astype(np.int16), affine)


def truncate(path: Path, share: float = 0.6) -> None:
    """Cut a file off, as a broken copy does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
