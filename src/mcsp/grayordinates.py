"""CIFTI-2 files: label images (.dlabel.nii) and series (.dtseries.nii) of grayordinates, that is of the vertices of the
cortical surface and the voxels below it. Vertices are known by structure and number, voxels by their indices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.cifti2 import BrainModelAxis, LabelAxis, SeriesAxis

from mcsp.errors import Exclusion, McspError

DLABEL, DTSERIES = ".dlabel.nii", ".dtseries.nii"
_BACKGROUND = ("???", (0.0, 0.0, 0.0, 0.0))


def is_dlabel(path: str | Path | None) -> bool:
    """Whether a file is a label image of grayordinates, by its name."""
    return path is not None and str(path).endswith(DLABEL)


def is_dtseries(path: str | Path) -> bool:
    """Whether a file holds series of grayordinates, by its name."""
    return str(path).endswith(DTSERIES)


@dataclass(frozen=True)
class DenseLabels:
    """A parcellation of grayordinates: `values` (G), 0 the background, of the `places` (G); `table` key -> (name, RGBA)."""

    values: np.ndarray
    places: BrainModelAxis
    table: dict[int, tuple[str, tuple[float, float, float, float]]]

    def names(self) -> dict[int, str]:
        """Name of each label that a grayordinate has; 'label <key>' where the table inside the file lacks it."""
        keys = [int(key) for key in np.unique(self.values) if key]
        return {key: self.table[key][0] if key in self.table else f"label {key}" for key in keys}


def _opened(path: str | Path) -> tuple[nib.Cifti2Image, list]:
    """A CIFTI-2 file and its axes. Raises ValueError when it is none."""
    try:
        image = nib.load(path)
        if not isinstance(image, nib.Cifti2Image):
            raise ValueError("a NIfTI file without a CIFTI-2 header")
        axes = [image.header.get_axis(i) for i in range(image.ndim)]
    except Exception as error:  # nibabel and the XML parser raise many kinds on damaged files
        raise ValueError(f"not readable as CIFTI-2 ({' '.join(str(error).split())[:200]}): copy it again") from error
    if image.shape != tuple(len(axis) for axis in axes):
        raise ValueError(f"a matrix of {image.shape} where its header describes {tuple(len(axis) for axis in axes)}: damaged")
    return image, axes


def read_labels(path: str | Path) -> DenseLabels:
    """Read a `.dlabel.nii` of one map. Raises McspError when it is damaged, or holds something else."""
    try:
        image, axes = _opened(path)
        if [type(axis) for axis in axes] != [LabelAxis, BrainModelAxis]:
            kinds = " by ".join(type(axis).__name__.removesuffix("Axis").lower() for axis in axes)
            raise ValueError(f"holds {kinds}: a parcellation is a .dlabel.nii, labels by brain models (no dscalar, no pscalar)")
        if len(axes[0]) != 1:
            raise ValueError(f"holds {len(axes[0])} parcellations: keep one (wb_command -cifti-merge -column)")
        values = np.asanyarray(image.dataobj)[0]
        if not np.array_equal(values, np.rint(values)):
            raise ValueError("holds labels that are no whole numbers: damaged")
    except (ValueError, OSError) as error:
        raise McspError(f"{path}: {' '.join(str(error).split())}") from error
    return DenseLabels(values.astype(np.int32), axes[1], {int(key): value for key, value in axes[0].label[0].items()})


def write_labels(labels: DenseLabels, path: Path) -> None:
    """Write a `.dlabel.nii` of one map."""
    kept = {key: labels.table.get(key, (name, _BACKGROUND[1])) for key, name in labels.names().items()}
    axis = LabelAxis(["parcels"], [{0: _BACKGROUND, **kept}])
    image = nib.Cifti2Image(labels.values[None].astype(np.int32), (axis, labels.places))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_LABELS")
    nib.save(image, path)


def labels_at(labels: DenseLabels, places: BrainModelAxis) -> np.ndarray:
    """Labels (P) at other grayordinates, 0 where the parcellation has none. Vertices are matched by structure and number,
    voxels by indices, whatever their order in either file. Raises ValueError when the meshes or voxel grids differ.
    """
    found, own = np.zeros(len(places), np.int32), labels.places
    for structure, n in places.nvertices.items():
        if own.nvertices.get(structure, n) != n:
            short = structure.removeprefix("CIFTI_STRUCTURE_").lower()
            raise ValueError(f"{short} has {n} vertices, in the atlas {own.nvertices[structure]}: take one of the same mesh")
        lookup, mine = np.zeros(n, np.int32), own.surface_mask & (own.name == structure)
        lookup[own.vertex[mine]] = labels.values[mine]
        there = places.surface_mask & (places.name == structure)
        found[there] = lookup[places.vertex[there]]
    if own.volume_mask.any() and places.volume_mask.any():
        if tuple(own.volume_shape) != tuple(places.volume_shape) or not np.allclose(own.affine, places.affine, atol=1e-3):
            raise ValueError("its subcortical voxels lie on another grid than the atlas's: take one of the same space")
        lookup = np.zeros(own.volume_shape, np.int32)
        lookup[tuple(own.voxel[own.volume_mask].T)] = labels.values[own.volume_mask]
        found[places.volume_mask] = lookup[tuple(places.voxel[places.volume_mask].T)]
    return found


def open_series(path: Path) -> tuple[nib.Cifti2Image, SeriesAxis, BrainModelAxis]:
    """A `.dtseries.nii` (T, G) with its axes; data are not read. Raises Exclusion when it is damaged, cut off, or holds
    something else.
    """
    try:
        image, axes = _opened(path)
        if [type(axis) for axis in axes] != [SeriesAxis, BrainModelAxis]:
            raise ValueError("holds no series of grayordinates, as a .dtseries.nii does")
    except ValueError as error:
        raise Exclusion(f"{path.name}: {error}") from error
    expected = int(image.dataobj.offset) + int(np.prod(image.shape)) * image.nifti_header.get_data_dtype().itemsize
    if path.stat().st_size < expected:
        raise Exclusion(f"{path.name} is cut off: {path.stat().st_size} of {expected} bytes are there: copy it again")
    return image, *axes


def series_t_r(path: Path) -> float:
    """Repetition time in s by a `.dtseries.nii`'s own header, NaN when it counts no seconds. Raises Exclusion."""
    _, axis, _ = open_series(path)
    return float(axis.step) if axis.unit == "SECOND" else math.nan
