"""Images and transforms between nibabel's world (RAS mm) and that of ANTs (LPS mm)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Before ITK is loaded: one thread gives the same bits on every machine, and subjects run side by side.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import ants
import nibabel as nib
import numpy as np
import pandas as pd

from mcsp.errors import Exclusion

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS
SPACE = "MNI152NLin2009aSym"  # of the templates that nilearn bundles, by TemplateFlow's name


def check_affine(affine: np.ndarray, name: str) -> np.ndarray:
    """The affine (4, 4) of an image. Raises Exclusion when it leads nowhere."""
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9):
        raise Exclusion(f"{name}: its affine is not a place in space: mend its header, or convert it again")
    return affine


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """ANTs leaves files in the temporary directory: make that `folder`, which is removed."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@dataclass(frozen=True)
class Image:
    """One volume: `values` (X, Y, Z) and `affine` (4, 4) from voxels to mm (RAS)."""

    values: np.ndarray
    affine: np.ndarray

    @classmethod
    def of(cls, image: nib.spatialimages.SpatialImage) -> Image:
        """From nibabel's, as float32."""
        return cls(np.asarray(image.get_fdata(dtype=np.float32)), np.asarray(image.affine, float))

    @property
    def zooms(self) -> np.ndarray:
        """Voxel size (3,) in mm."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    def with_values(self, values: np.ndarray) -> Image:
        """Other values on the same grid."""
        return Image(values, self.affine)

    def ants(self) -> ants.ANTsImage:
        """As ANTs has it."""
        matrix = FLIP @ self.affine
        direction = matrix[:3, :3] / self.zooms
        return ants.from_numpy(
            np.ascontiguousarray(self.values, np.float32), matrix[:3, 3].tolist(), self.zooms.tolist(), direction
        )

    def nifti(self, dtype: type = np.float32, code: str = "mni") -> nib.Nifti1Image:
        """As nibabel has it; `code`: what the affine leads to."""
        image = nib.Nifti1Image(self.values.astype(dtype), self.affine)
        image.header.set_sform(self.affine, code=code)
        image.header.set_qform(self.affine, code=code)
        image.header.set_xyzt_units("mm", "sec")
        return image


def warp(moving: Image, onto: Image, transforms: Sequence[str], invert: Sequence[bool], *, nearest: bool = False) -> Image:
    """`moving` resampled onto the grid of `onto` by ANTs' `transforms`."""
    interpolator = "nearestNeighbor" if nearest else "linear"
    done = ants.apply_transforms(
        onto.ants(), moving.ants(), list(transforms), interpolator=interpolator, whichtoinvert=list(invert)
    )
    return onto.with_values(done.numpy())


def map_points(points: np.ndarray, transforms: Sequence[str]) -> np.ndarray:
    """Where a registration's forward `transforms` (files) take `points` (N, 3; RAS mm) of the fixed space."""
    table = pd.DataFrame(points * [-1, -1, 1], columns=["x", "y", "z"])
    moved = ants.apply_transforms_to_points(3, table, list(transforms), whichtoinvert=[False] * len(transforms))
    return moved[["x", "y", "z"]].to_numpy() * [-1, -1, 1]


def matrix_of(transform: str) -> np.ndarray:
    """Matrix (4, 4; RAS mm) of a linear transform of ANTs, from the fixed to the moving space."""
    loaded = ants.read_transform(transform)
    parameters, centre = np.array(loaded.parameters, float), np.array(loaded.fixed_parameters, float)
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return FLIP @ matrix @ FLIP
