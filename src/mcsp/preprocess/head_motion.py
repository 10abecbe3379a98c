"""Head motion: where the head is at each frame, against a reference made of the run's middle."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory

import ants
import numpy as np

from mcsp.motion import rigid_parameters
from mcsp.preprocess.space import Image, matrix_of

REFERENCE_FRAMES = 9
SAMPLES = 10_000  # voxels that a registration looks at, about; three times as many found motion no better


def reference(run: np.ndarray) -> np.ndarray:
    """Median of the frames in the middle of `run` (X, Y, Z, T)."""
    first = max(0, run.shape[-1] // 2 - REFERENCE_FRAMES // 2)
    return np.median(np.asarray(run[..., first : first + REFERENCE_FRAMES], np.float32), axis=-1)


def centre_of(image: Image) -> np.ndarray:
    """Middle (3,) of a grid in mm: what the head turns about."""
    return image.affine[:3, :3] @ ((np.array(image.values.shape) - 1) / 2) + image.affine[:3, 3]


def estimate(run: np.ndarray, fixed: Image, brain: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Matrix (4, 4; mm) of each frame of `run` (X, Y, Z, T), in their order: takes a place in `fixed` to where it is in that
    frame. Rigid registration (ANTs, mean squares within the mask `brain`), each frame from the one before.
    """
    target, mask = fixed.ants(), fixed.with_values(brain.astype(np.float32)).ants()
    rate = min(1.0, SAMPLES / max(1, int(brain.sum())))
    with TemporaryDirectory(prefix="mcsp-") as folder:
        before = "Identity"
        for frame in range(run.shape[-1]):
            done = ants.registration(
                target,
                fixed.with_values(np.asarray(run[..., frame], np.float32)).ants(),
                type_of_transform="Rigid",
                initial_transform=before,
                mask=mask,
                aff_metric="meansquares",
                aff_iterations=(20, 20),
                aff_shrink_factors=(2, 1),
                aff_smoothing_sigmas=(1, 0),
                aff_random_sampling_rate=rate,
                outprefix=f"{folder}/{frame}_",
                random_seed=seed + 1,
            )
            before = done["fwdtransforms"][0]
            yield matrix_of(before)


def parameters(matrices: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Motion (T, 6) in mm and rad of the `matrices` (T, 4, 4)."""
    return np.stack([rigid_parameters(matrix, centre) for matrix in matrices])
