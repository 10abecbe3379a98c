"""Mean series of parcels of grayordinates (CIFTI-2), from files mapped into memory."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from mcsp.errors import Exclusion
from mcsp.fmri.parcellate import MIN_COVERAGE, Parcels, parcel_series
from mcsp.grayordinates import DenseLabels, is_dlabel, is_dtseries, labels_at, open_series, read_labels

_labels = lru_cache(maxsize=2)(read_labels)


def _share_there(labels: DenseLabels, index: np.ndarray, parcels: Parcels) -> np.ndarray:
    """Share (R) of each parcel's grayordinates that the recording has."""
    return parcels.counts / np.maximum(Parcels.of(labels.values, index).counts, 1)


def grayordinate_series(path: Path, atlas_image: Path, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(series (T, R) of the parcels' means, covered (R) bool) of a `.dtseries.nii` and a parcellation `.dlabel.nii`.

    Plain means over grayordinates, whatever a vertex's area; what is not finite counts as 0, as in volumes. A parcel is
    covered when the recording has at least half of its grayordinates. One parcel's data are read at a time. Raises
    Exclusion when the file is damaged, or its mesh or voxel grid is not the parcellation's.
    """
    image, _, places = open_series(path)
    labels = _labels(str(atlas_image))
    try:
        parcels = Parcels.of(labels_at(labels, places), index)
    except ValueError as error:
        raise Exclusion(f"{path.name}: {error}") from error
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    data = image.dataobj.get_unscaled().T  # (G, T), mapped; the file holds one grayordinate's series after another
    series, ends = np.zeros((data.shape[1], len(index))), np.cumsum(parcels.counts)
    for row in np.flatnonzero(parcels.counts):
        own = Parcels(parcels.places[ends[row] - parcels.counts[row] : ends[row]], parcels.counts[[row]])
        series[:, row] = own.means(data[own.places], fill=-intercept / slope)[0] * slope + intercept
    return series, _share_there(labels, index, parcels) >= MIN_COVERAGE


def run_means(path: Path, atlas_image: Path, index: np.ndarray, mask: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(series (T, R), covered (R)) of a recording in a volume or of grayordinates. Raises Exclusion when the atlas is of the
    other kind, or as `parcel_series` and `grayordinate_series` do.
    """
    if is_dtseries(path) and not is_dlabel(atlas_image):
        raise Exclusion(f"{path.name} lies on the surface, the atlas in a volume: set atlas.image to a .dlabel.nii")
    if is_dlabel(atlas_image) and not is_dtseries(path):
        raise Exclusion(f"{path.name} is a volume, the atlas lies on the surface: set the dataset's space: fsLR")
    if is_dtseries(path):
        return grayordinate_series(path, atlas_image, index)
    return parcel_series(path, atlas_image, index, mask)
