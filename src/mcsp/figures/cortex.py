"""Where an atlas's regions lie on the cortical surface."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from mcsp.atlas import REACH_MM, Atlas
from mcsp.options.atlas import VOLUME

DEPTHS = (0.5, 0.2, 0.8)  # of the way from pial to white surface, where the atlas is read


def vertex_regions(pial: np.ndarray, white: np.ndarray, atlas: Atlas) -> np.ndarray:
    """Row in the atlas of the region at each vertex (V,), -1 where there is none, from surfaces (V, 3) in mm.

    Volumes are read between the surfaces, regions of which only centres are known reach 15 mm. fsaverage lies in MNI305 space,
    some mm off MNI152: good for a picture.
    """
    if atlas.image and atlas.image.name == VOLUME:
        image = nib.load(atlas.image)
        labels, found = np.asarray(image.dataobj), np.zeros(len(pial), int)
        for depth in DEPTHS:
            places = nib.affines.apply_affine(np.linalg.inv(image.affine), pial + depth * (white - pial))
            i, j, k = np.clip(np.rint(places).astype(int), 0, np.array(labels.shape[:3]) - 1).T
            found = np.where(found == 0, labels[i, j, k], found)
        rows = {int(index): row for row, index in enumerate(atlas.index)}
        return np.array([rows.get(int(label), -1) for label in found])
    known = np.flatnonzero(~np.isnan(atlas.coordinates).any(axis=1))
    if not len(known):
        return np.full(len(pial), -1)
    distance = np.linalg.norm((pial + white)[:, None] / 2 - atlas.coordinates[known], axis=2)
    return np.where(distance.min(axis=1) <= REACH_MM, known[distance.argmin(axis=1)], -1)
