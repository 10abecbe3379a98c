"""One BOLD run: slice timing, head motion, the way to the T1w, and one resampling into MNI space."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.affines import apply_affine
from nibabel.processing import resample_from_to
from nilearn.image import resample_img
from nilearn.masking import compute_epi_mask
from rich.progress import track
from scipy.ndimage import binary_dilation, map_coordinates, spline_filter

from mcsp.errors import MACHINE_FAULTS, Exclusion
from mcsp.options.embedded import EmbeddedOptions
from mcsp.preprocess import head_motion, slice_timing
from mcsp.preprocess.anatomy import Anatomy, ball, template
from mcsp.preprocess.space import Image, check_affine, map_points, warp

MIN_FRAMES = 10
MIN_OVERLAP = 0.8  # share of the brain that must be recorded: a slab is registered badly, and lacks regions anyway
MIN_SIGNAL = 0.05


@dataclass(frozen=True)
class Functional:
    """One run on its way. `reference`: its middle, on its own grid; `motion` (T, 6) in mm and rad; `to_t1w`: ANTs' transform
    file, T1w <- BOLD; `brain`: mask on the output grid in MNI space; `series` (T, V): its voxels in the order of
    `np.argwhere(brain)`, on disk; `t_r` in s; `start`: time in s that a frame speaks of; `sliced`: slice timing was corrected.
    """

    reference: Image
    motion: np.ndarray
    to_t1w: str
    brain: Image
    series: np.ndarray
    t_r: float
    start: float
    sliced: bool


def open_run(path: Path, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """(run (X, Y, Z, T) float32 on disk, in `scratch`, which may be changed; affine). One frame is in memory at a time.

    Raises Exclusion when it is damaged, or no run.
    """
    plain = scratch / "raw.nii"
    try:
        if path.suffix == ".gz":
            with igzip.open(path, "rb") as packed, open(plain, "wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        image = nib.load(plain if path.suffix == ".gz" else path)
        if len(image.shape) != 4 or image.shape[3] < MIN_FRAMES:
            raise Exclusion(f"{path.name}: shape {'x'.join(map(str, image.shape))}: a run has at least {MIN_FRAMES} frames")
        # On disk in the file's own order: a frame, and within it a slice, is one piece.
        run = np.lib.format.open_memmap(scratch / "run.npy", "w+", np.float32, image.shape[::-1]).transpose(3, 2, 1, 0)
        for frame in range(image.shape[3]):
            run[..., frame] = np.nan_to_num(np.asarray(image.dataobj[..., frame], np.float32), posinf=0, neginf=0)
    except Exclusion:
        raise
    except OSError as error:
        if error.errno in MACHINE_FAULTS:
            raise
        raise Exclusion(f"{path.name}: cut off or damaged ({error}): copy it again") from error
    except Exception as error:  # nibabel and gzip raise many kinds on damaged files
        raise Exclusion(f"{path.name}: cut off or damaged ({' '.join(str(error).split())[:200]}): copy it again") from error
    plain.unlink(missing_ok=True)
    return run, check_affine(np.asarray(image.affine, float), path.name)


def rough_brain(reference: Image, name: str) -> np.ndarray:
    """Brain mask of a BOLD volume by its histogram (nilearn's `compute_epi_mask`). Raises Exclusion when there is none."""
    try:
        mask = compute_epi_mask(reference.nifti(), opening=1).get_fdata() > 0
    except Exception as error:  # an empty or constant volume
        raise Exclusion(
            f"{name}: no brain found in the BOLD ({' '.join(str(error).split())[:100]}): look at the image"
        ) from error
    if mask.sum() < 500:
        raise Exclusion(f"{name}: no brain found in the BOLD ({mask.sum()} voxels): look at the image")
    return mask


def coregister(reference: Image, brain: np.ndarray, anatomy: Anatomy, options: EmbeddedOptions, stem: str) -> str:
    """File of the rigid transform T1w <- BOLD: mutual information on brains, from where the scanner says that both lie and
    from their centres of mass; the likelier of the two is kept. Raises Exclusion when neither works.
    """
    fixed = anatomy.t1w.with_values(anatomy.t1w.values * (anatomy.brain.values > 0)).ants()
    near = binary_dilation(brain, ball(4.0, reference.zooms))
    moving = reference.with_values(np.where(near, reference.values, 0)).ants()
    best, found = np.inf, ""
    for name, start in (("scanner", "Identity"), ("centre", None)):
        try:
            done = ants.registration(
                fixed,
                moving,
                type_of_transform="Rigid",
                initial_transform=start,
                aff_metric="mattes",
                aff_iterations=(200, 100, 50),
                aff_shrink_factors=(4, 2, 1),
                aff_smoothing_sigmas=(2, 1, 0),
                aff_random_sampling_rate=0.3,
                outprefix=f"{stem}{name}_",
                random_seed=options.seed + 1,
            )
            cost = ants.image_mutual_information(fixed, done["warpedmovout"])  # negative: the smaller, the likelier
        except RuntimeError:  # nothing overlaps from there
            continue
        if cost < best:
            best, found = cost, done["fwdtransforms"][0]
    if not found:
        raise Exclusion("BOLD and T1w can't be brought together: are they of one person, and whole?")
    return found


def output_grid(voxel_size: float) -> Image:
    """The template's brain mask on a grid of `voxel_size` mm."""
    brain = template("brain")
    if np.isclose(voxel_size, brain.zooms[0]):
        return brain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a mask is interpolated: it is cut at one half below
        small = resample_img(
            brain.nifti(), np.diag([voxel_size] * 3), interpolation="linear", force_resample=True, copy_header=True
        )
    return Image(np.asarray(small.get_fdata() > 0.5, np.float32), np.asarray(small.affine, float))


def seen_by(reference: Image, brain: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which of `places` (V, 3; mm) were recorded (V,): inside the field of view, with a signal of at least `MIN_SIGNAL` of the
    median within `brain`. Slices that are padded with zeros hold the ringing of the interpolation only.
    """
    voxels = apply_affine(np.linalg.inv(reference.affine), places).T
    nearest = map_coordinates(reference.values, voxels, order=0, cval=0.0, prefilter=False)
    return nearest >= MIN_SIGNAL * np.median(reference.values[brain])


def resample(run: np.ndarray, affine: np.ndarray, places: np.ndarray, matrices: np.ndarray) -> Iterator[np.ndarray]:
    """Values (V,) of each frame of `run` (X, Y, Z, T) at `places` (V, 3; mm in the reference) as the head moved by `matrices`
    (T, 4, 4): one interpolation (cubic spline) from the raw frame.
    """
    to_voxels = np.linalg.inv(affine)
    for frame, moved in enumerate(matrices):
        coefficients = spline_filter(np.asarray(run[..., frame], np.float32), order=3, output=np.float32)
        yield map_coordinates(
            coefficients, apply_affine(to_voxels @ moved, places).T, order=3, mode="nearest", prefilter=False, output=np.float32
        )


def process(
    path: Path, sidecar: dict, t_r: float, anatomy: Anatomy, options: EmbeddedOptions, scratch: Path, label: str
) -> Functional:
    """Take the run at `path` to MNI space. Large arrays lie in files in `scratch`. Raises Exclusion when it can't be used."""
    run, affine = open_run(path, scratch)
    times = slice_timing.slice_times(sidecar, run.shape[:3], t_r, path.name) if options.slice_timing else None
    reference = Image(head_motion.reference(run), affine)
    rough = rough_brain(reference, path.name)
    near = binary_dilation(rough, ball(4.0, reference.zooms))
    found = head_motion.estimate(run, reference, near, options.seed)
    matrices = np.stack(list(track(found, description=f"head motion {label}", total=run.shape[-1])))
    start = slice_timing.correct(run, *times, t_r) if times else 0.0
    to_t1w = coregister(reference, rough, anatomy, options, f"{scratch}/t1w_")
    grid = output_grid(options.voxel_size)
    inside = np.argwhere(grid.values > 0)
    in_t1w = map_points(apply_affine(grid.affine, inside), anatomy.forward)
    places = map_points(in_t1w, [to_t1w])
    seen = seen_by(reference, rough, places)
    if seen.mean() < MIN_OVERLAP:
        raise Exclusion(f"{path.name}: {seen.mean():.0%} of the brain were recorded, {MIN_OVERLAP:.0%} are needed")
    brain = np.zeros(grid.values.shape, np.float32)
    brain[tuple(inside[seen].T)] = 1
    series = np.lib.format.open_memmap(scratch / "series.npy", "w+", np.float32, (run.shape[-1], int(seen.sum())))
    for frame, values in enumerate(resample(run, affine, places[seen], matrices)):
        series[frame] = values
    motion = head_motion.parameters(matrices, head_motion.centre_of(reference))
    return Functional(reference, motion, to_t1w, grid.with_values(brain), series, t_r, start, times is not None)


def tissue_on(grid: Image, name: str, anatomy: Anatomy) -> np.ndarray:
    """Probability of a tissue on a grid in MNI space."""
    fine = warp(anatomy.tissues[name], template("t1"), anatomy.forward, [False, False])
    return np.asarray(resample_from_to(fine.nifti(), (grid.values.shape, grid.affine), order=1).dataobj)
