"""Mean series of parcels, streamed: one volume in memory at a time, whatever the run's length."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.processing import resample_from_to
from scipy import sparse

from mcsp.errors import Exclusion

MIN_COVERAGE = 0.5  # share of a parcel's voxels inside the brain mask


@lru_cache(maxsize=8)
def _labels_on_grid(atlas_image: str, shape: tuple[int, int, int], affine: bytes) -> np.ndarray:
    """Labels of the atlas on a run's grid, nearest neighbour, flat in the file's (Fortran) order."""
    grid = np.frombuffer(affine).reshape(4, 4)
    image = nib.load(atlas_image)
    if image.shape == shape and np.allclose(image.affine, grid):
        labels = np.asanyarray(image.dataobj)
    else:
        labels = np.asanyarray(resample_from_to(image, (shape, grid), order=0).dataobj)
    return np.rint(labels).astype(np.int32).ravel(order="F")


def parcel_matrix(labels: np.ndarray, index: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(matrix (R, V) that averages a flat volume within parcels, number of voxels (R)). `labels` (V), `index` (R)."""
    row_of = np.full(max(int(labels.max()), int(index.max())) + 1, -1)
    row_of[index] = np.arange(len(index))
    rows = np.where(labels > 0, row_of[np.maximum(labels, 0)], -1)
    voxels = np.flatnonzero(rows >= 0)
    counts = np.bincount(rows[voxels], minlength=len(index))
    weights = 1.0 / np.maximum(counts, 1)[rows[voxels]]
    return sparse.csr_matrix((weights, (rows[voxels], voxels)), shape=(len(index), len(labels))), counts


def volumes(path: Path) -> Iterator[np.ndarray]:
    """Volumes of a 4-D NIfTI run as flat arrays (V) of the file's type, in file order, unscaled.

    Raises Exclusion when the file ends before its header says.
    """
    image = nib.load(path)
    *shape, n_volumes = image.shape
    dtype, n_voxels = image.header.get_data_dtype(), int(np.prod(shape))
    offset = int(image.dataobj.offset)  # the header's own is reset by nibabel
    if path.suffix != ".gz":
        n_whole = (path.stat().st_size - offset) // (n_voxels * dtype.itemsize)
        if n_whole < n_volumes:
            raise Exclusion(f"{path.name} is cut off: {n_whole} of {n_volumes} volumes are there: copy it again")
        data = np.memmap(path, dtype, "r", offset, (n_volumes, n_voxels))
        yield from data
        return
    done = 0
    try:
        with igzip.open(path, "rb") as stream:
            stream.read(offset)
            for _ in range(n_volumes):
                data = stream.read(n_voxels * dtype.itemsize)
                if len(data) < n_voxels * dtype.itemsize:
                    raise EOFError
                yield np.frombuffer(data, dtype)
                done += 1
            while stream.read(1 << 20):  # to the end, where gzip's checksum is compared
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise Exclusion(
            f"{path.name} is cut off or damaged: {done} of {n_volumes} volumes are readable: copy it again"
        ) from error


def parcel_series(path: Path, atlas_image: Path, index: np.ndarray, mask: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(series (T, R) of the parcels' means in the file's units, covered (R) bool).

    Equal to nilearn's `NiftiLabelsMasker(strategy='mean', resampling_target='data')` for covered parcels. A parcel is
    covered when it has a voxel on the run's grid and at least half of them lie in the brain mask, where one is given.
    Raises Exclusion when the file is no 4-D run, is damaged, or lies on another grid than its mask.
    """
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel raises many kinds on damaged headers
        raise Exclusion(f"{path.name}: not readable as NIfTI ({error}): copy it again") from error
    if len(image.shape) != 4:
        raise Exclusion(f"{path.name}: {len(image.shape)} dimensions where a run has 4")
    labels = _labels_on_grid(str(atlas_image), image.shape[:3], np.ascontiguousarray(image.affine, float).tobytes())
    matrix, counts = parcel_matrix(labels, index)
    covered = counts > 0
    if mask:
        inside = nib.load(mask)
        if inside.shape != image.shape[:3]:
            raise Exclusion(f"{mask.name}: its grid differs from that of {path.name}")
        share = matrix @ (np.asanyarray(inside.dataobj).ravel(order="F") > 0).astype(float)
        covered &= share >= MIN_COVERAGE
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    series = np.stack([matrix @ volume for volume in volumes(path)])
    return series * slope + intercept * (counts > 0), covered
