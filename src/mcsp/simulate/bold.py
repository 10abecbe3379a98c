"""Simulated BOLD as fMRIPrep would leave it: a run in MNI space, its mask, sidecars and confounds."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from mcsp.simulate.signals import framewise_displacement, motion_parameters
from mcsp.store import write_json

SPACE = "MNI152NLin2009cAsym"
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


@cache
def grid(voxel_size: float, atlas_image: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(labels, brain, intensity, affine) on a grid of `voxel_size` mm: labels of the atlas (int), brain mask (bool),
    T1w-like intensity in [0, 1].
    """
    from nilearn import datasets, image

    template = datasets.load_mni152_template(resolution=3)
    small = image.resample_img(template, target_affine=np.diag([voxel_size] * 3), interpolation="linear", force_resample=True, copy_header=True)
    labels = image.resample_to_img(nib.load(atlas_image), small, interpolation="nearest", force_resample=True, copy_header=True)
    intensity = np.clip(small.get_fdata(), 0, None)
    intensity /= intensity.max()
    found = np.rint(labels.get_fdata()).astype(int)
    return found, (intensity > 0.15) | (found > 0), intensity, small.affine


def confounds(rng: np.random.Generator, motion: np.ndarray, phys: np.ndarray, brain_mean: np.ndarray, t_r: float) -> pd.DataFrame:
    """fMRIPrep's confound columns. `motion` (T, 6) in mm and rad, `phys` (2, T) ventricle and white-matter signals,
    `brain_mean` (T,).
    """
    n = len(motion)
    columns: dict[str, np.ndarray] = {
        "global_signal": brain_mean,
        "csf": 800 + 8 * phys[0],
        "white_matter": 900 + 6 * phys[1],
    }
    dvars = np.concatenate([[np.nan], np.abs(np.diff(brain_mean)) + 18 + rng.gamma(2, 1.0, n - 1)])
    columns["dvars"] = dvars
    columns["std_dvars"] = dvars / np.nanmedian(dvars)
    columns["framewise_displacement"] = framewise_displacement(motion)
    for i in range(6):
        columns[f"a_comp_cor_{i:02d}"] = phys[i % 2] / np.sqrt(n) + 0.02 * rng.normal(size=n)
    for i in range(max(1, int(2 * n * t_r / 128))):
        columns[f"cosine{i:02d}"] = np.cos(np.pi * (i + 1) * (2 * np.arange(n) + 1) / (2 * n)) * np.sqrt(2 / n)
    for name, series in zip(MOTION, motion.T):
        derivative = np.concatenate([[np.nan], np.diff(series)])
        columns[name] = series
        columns[f"{name}_derivative1"] = derivative
        columns[f"{name}_derivative1_power2"] = derivative**2
        columns[f"{name}_power2"] = series**2
    return pd.DataFrame(columns)


def write_bold(
    folder: Path, stem: str, rng: np.random.Generator, roi: np.ndarray, t_r: float, voxel_size: float, atlas_image: Path, index: np.ndarray, noise: float
) -> None:
    """Write one run. `roi` (R, T): regional signals in units of about one standard deviation; `index` (R): their labels
    in the atlas; `noise`: voxel noise in the same units. Motion and physiology leak into every voxel.
    """
    labels, brain, intensity, affine = grid(voxel_size, str(atlas_image))
    n = roi.shape[1]
    motion = motion_parameters(rng, n, t_r)
    phys = rng.normal(size=(2, n)).cumsum(axis=1)
    phys = (phys - phys.mean(axis=1, keepdims=True)) / phys.std(axis=1, keepdims=True)
    jerk = np.nan_to_num(framewise_displacement(motion))
    nuisance = 0.5 * phys[0] + 0.5 * phys[1] + 2.0 * jerk
    row_of = np.zeros(max(labels.max(), index.max()) + 1, int)
    row_of[index] = np.arange(1, len(index) + 1)
    rows = row_of[labels[brain]]
    signal = np.concatenate([np.zeros((1, n)), roi])[rows]
    signal = signal + nuisance * rng.uniform(0.5, 1.5, (len(rows), 1)) + noise * rng.normal(size=signal.shape)
    baseline = 400 + 800 * intensity[brain]
    values = np.zeros((*brain.shape, n), np.float32)
    values[brain] = baseline[:, None] * (1 + 0.01 * signal)
    image = nib.Nifti1Image(values, affine)
    image.header.set_data_dtype(np.int16)
    image.header["pixdim"][4] = t_r
    image.header.set_xyzt_units("mm", "sec")
    base = f"{stem}_space-{SPACE}"
    image.to_filename(folder / f"{base}_desc-preproc_bold.nii.gz")
    nib.Nifti1Image(brain.astype(np.uint8), affine).to_filename(folder / f"{base}_desc-brain_mask.nii.gz")
    write_json(folder / f"{base}_desc-preproc_bold.json", {"RepetitionTime": t_r, "TaskName": "rest", "SkullStripped": False})
    table = confounds(rng, motion, phys, values[brain].mean(axis=0, dtype=float), t_r)
    table.to_csv(folder / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.8g")
    described = {name: {"Description": "Simulated, named as fMRIPrep does"} for name in table}
    write_json(folder / f"{stem}_desc-confounds_timeseries.json", described)


def write_anatomy(path: Path, rng: np.random.Generator, atlas_image: Path) -> None:
    """Write a simulated T1w (6 mm): the MNI152 template with noise."""
    _, _, intensity, affine = grid(6.0, str(atlas_image))
    values = np.clip(1000 * intensity + 20 * rng.normal(size=intensity.shape), 0, None)
    nib.Nifti1Image(values.astype(np.int16), affine).to_filename(path)


def truncate(path: Path, share: float = 0.6) -> None:
    """Cut a file off, as a broken copy does; what is left is the beginning of a gzip stream."""
    data = path.read_bytes()
    if gzip.decompress(data):
        path.write_bytes(data[: int(len(data) * share)])
