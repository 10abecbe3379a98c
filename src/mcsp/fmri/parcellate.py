"""Mean series of parcels, streamed: a few volumes in memory at a time, whatever the run's length."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nilearn.image import resample_img
from nilearn.image.resampling import BoundingBoxError

from mcsp.errors import Exclusion

MIN_COVERAGE = 0.5  # share of a parcel's voxels inside the brain mask


@lru_cache(maxsize=8)
def _labels_on_grid(atlas_image: str, shape: tuple[int, int, int], affine: bytes) -> np.ndarray:
    """Labels of the atlas on a run's grid, nearest neighbour, flat in the file's (Fortran) order.

    By nilearn's own resampling: where a voxel's centre lies between two labels, it must fall to the same side.
    """
    grid = np.frombuffer(affine).reshape(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of affines and defaults that the user has no hand in
        image = resample_img(atlas_image, target_affine=grid, target_shape=shape, interpolation="nearest")
    return np.rint(np.asanyarray(image.dataobj)).astype(np.int32).ravel(order="F")


@dataclass(frozen=True)
class Parcels:
    """Where parcels lie in flat images: `places` (N) of their voxels, parcel after parcel, `counts` (R) of each."""

    places: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, index: np.ndarray) -> Parcels:
        """Parcels `index` (R) of the flat label image `labels` (V); they may be missing there."""
        row_of = np.full(max(int(labels.max(initial=0)), int(index.max())) + 1, -1)
        row_of[index] = np.arange(len(index))
        rows = np.where(labels > 0, row_of[np.maximum(labels, 0)], -1)
        places = np.flatnonzero(rows >= 0)
        order = np.argsort(rows[places], kind="stable")
        return cls(places[order], np.bincount(rows[places], minlength=len(index)))

    def means(self, values: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Means (R, ...) of the parcels in `values` (N, ...) at `places`; 0 without a voxel. Sums are float64, so that
        small changes on a large offset stay. What is not finite counts as `fill`.
        """
        sums = np.zeros((len(self.counts), *values.shape[1:]))
        there = self.counts > 0
        if there.any():
            starts = (np.cumsum(self.counts) - self.counts)[there]
            sums[there] = np.add.reduceat(values, starts, axis=0, dtype=float)
            if not np.isfinite(sums).all():  # looked for in the sums, which are few
                sums[there] = np.add.reduceat(np.where(np.isfinite(values), values, fill), starts, axis=0, dtype=float)
        return (sums.T / np.maximum(self.counts, 1)).T


def _mapped(path: Path, dtype: np.dtype, offset: int, n_voxels: int, n_volumes: int) -> Generator[np.ndarray]:
    n_whole = max(path.stat().st_size - offset, 0) // (n_voxels * dtype.itemsize)
    if n_whole < n_volumes:
        raise Exclusion(f"{path.name} is cut off: {n_whole} of {n_volumes} volumes are there: copy it again")
    yield from np.memmap(path, dtype, "r", offset, (n_volumes, n_voxels))


def _inflated(path: Path, dtype: np.dtype, offset: int, n_voxels: int, n_volumes: int) -> Generator[np.ndarray]:
    """The next volume is inflated on a thread (isal lets go of the interpreter's lock) while the last one is in use."""
    size, done = n_voxels * dtype.itemsize, 0
    try:
        with igzip.open(path, "rb") as stream, ThreadPoolExecutor(1, "inflate") as thread:
            stream.read(offset)
            ahead = thread.submit(stream.read, size)
            for _ in range(n_volumes):
                data = ahead.result()
                if len(data) < size:
                    raise EOFError
                ahead = thread.submit(stream.read, size)
                yield np.frombuffer(data, dtype)
                done += 1
            while ahead.result():  # to the end, where gzip's checksum is compared
                ahead = thread.submit(stream.read, size)
    except (EOFError, OSError, zlib.error, isal_zlib.error) as error:
        raise Exclusion(
            f"{path.name} is cut off or damaged: {done} of {n_volumes} volumes are readable: copy it again"
        ) from error


def volumes(path: Path) -> Generator[np.ndarray]:
    """Volumes of a 4-D NIfTI run as flat arrays (V) of the file's type, in file order, unscaled.

    Close it when you stop early: a thread may read ahead. Raises Exclusion when the file ends before its header says,
    fails gzip's checksum, or holds no real numbers.
    """
    image = nib.load(path)
    *shape, n_volumes = image.shape
    dtype = image.header.get_data_dtype()
    if dtype.kind not in "iuf":
        what = "complex numbers: take the magnitude" if dtype.kind == "c" else "colours (RGB): a BOLD run holds numbers"
        raise Exclusion(f"{path.name}: its voxels are {what}")
    read = _inflated if path.suffix == ".gz" else _mapped
    return read(path, dtype, int(image.dataobj.offset), int(np.prod(shape)), n_volumes)  # nibabel resets the header's offset


def _open_run(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel raises many kinds on damaged headers
        raise Exclusion(f"{path.name}: not readable as NIfTI ({' '.join(str(error).split())}): copy it again") from error
    if len(image.shape) != 4 or not all(image.shape):
        size = "x".join(map(str, image.shape))
        raise Exclusion(f"{path.name}: {len(image.shape)} dimensions ({size}) where a run has 4")
    return image


def _share_inside(mask: Path, run: nib.Nifti1Image, parcels: Parcels, name: str) -> np.ndarray:
    """Share (R) of each parcel's voxels that lie in the brain mask."""
    try:
        inside = nib.load(mask)
        brain = np.asanyarray(inside.dataobj).ravel(order="F") > 0
    except Exception as error:  # nibabel and gzip raise many kinds on damaged files
        raise Exclusion(f"{mask.name}: not readable as NIfTI ({' '.join(str(error).split())}): copy it again") from error
    if inside.shape != run.shape[:3] or not np.allclose(inside.affine, run.affine, atol=1e-3):
        raise Exclusion(f"{mask.name}: its grid differs from that of {name}")
    return parcels.means(brain[parcels.places])


def parcel_series(path: Path, atlas_image: Path, index: np.ndarray, mask: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(series (T, R) of the parcels' means in the file's units, covered (R) bool).

    Equal to nilearn's `NiftiLabelsMasker(strategy='mean', resampling_target='data')` for covered parcels; as there, a
    voxel that is not finite counts as 0. A parcel is covered when it has a voxel on the run's grid and at least half of
    them lie in the brain mask, where one is given. Raises Exclusion when the file is no 4-D run, is damaged, or lies on
    another grid than its mask.
    """
    image = _open_run(path)
    try:
        labels = _labels_on_grid(str(atlas_image), image.shape[:3], np.ascontiguousarray(image.affine, float).tobytes())
    except BoundingBoxError:
        raise Exclusion(f"{path.name} lies beside the atlas: is it in the atlas's space, MNI152?") from None
    parcels = Parcels.of(labels, index)
    covered = parcels.counts > 0
    if mask:
        covered &= _share_inside(mask, image, parcels, path.name) >= MIN_COVERAGE
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    series = np.empty((image.shape[3], len(index)))
    with closing(volumes(path)) as run:
        for t, volume in enumerate(run):
            series[t] = parcels.means(volume[parcels.places], fill=-intercept / slope)
    return series * slope + intercept * (parcels.counts > 0), covered
