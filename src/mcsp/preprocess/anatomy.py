"""The T1w of one subject: bias field, brain, tissues, and the way to MNI space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
from scipy import ndimage

from mcsp.errors import Exclusion
from mcsp.options.embedded import EmbeddedOptions
from mcsp.preprocess.space import Image, check_affine, warp

BRAIN_ML = (600.0, 2000.0)  # volume that a brain can have, a child's included
EROSIONS_MM = (0.0, 2.0, 3.0, 4.0, 5.0, 6.0)
MIN_LIKENESS = 0.4  # correlation with the template inside the brain; a failed registration lies below
TEMPLATE_MM = 2
ITERATIONS = {"quick": ("mattes", (40, 20, 0)), "full": ("CC", (40, 20, 5))}


@dataclass(frozen=True)
class Anatomy:
    """`t1w`: bias-corrected; `brain`: mask on its grid; `tissues`: probability of 'csf', 'grey' and 'white' on its grid;
    `forward`, `inverse`: ANTs' transform files, template <- T1w and T1w <- template; `t1w_mni`: T1w on the template's grid;
    `likeness`: correlation of that with the template.
    """

    t1w: Image
    brain: Image
    tissues: dict[str, Image]
    forward: list[str]
    inverse: list[str]
    t1w_mni: Image
    likeness: float


@cache
def template(name: str) -> Image:
    """nilearn's MNI152 template (2 mm): 't1' (the brain only), 'brain' (mask), 'grey' and 'white' (probability)."""
    from nilearn import datasets

    load = {
        "t1": datasets.load_mni152_template,
        "brain": datasets.load_mni152_brain_mask,
        "grey": datasets.load_mni152_gm_template,
        "white": datasets.load_mni152_wm_template,
    }[name]
    return Image.of(load(resolution=TEMPLATE_MM))


def read_volume(path: Path) -> Image:
    """One anatomical volume. Raises Exclusion when it is not readable, not 3-D, or empty."""
    try:
        loaded = nib.squeeze_image(nib.load(path))
        image = Image.of(loaded)
    except Exception as error:  # nibabel and gzip raise many kinds on damaged files
        raise Exclusion(f"{path.name}: not readable ({' '.join(str(error).split())[:200]}): copy it again") from error
    if image.values.ndim != 3:
        raise Exclusion(f"{path.name}: {image.values.ndim} dimensions where a T1w has 3")
    check_affine(image.affine, path.name)
    values = np.nan_to_num(image.values, posinf=0, neginf=0)
    if not np.ptp(values) > 0 or min(image.values.shape) < 16:
        raise Exclusion(f"{path.name}: no image in it (shape {'x'.join(map(str, values.shape))}, constant values?)")
    return image.with_values(np.maximum(values, 0))


def ball(radius_mm: float, zooms: np.ndarray) -> np.ndarray:
    """Structuring element: the voxels within `radius_mm` of the middle one."""
    reach = np.floor(radius_mm / zooms).astype(int)
    places = np.mgrid[tuple(slice(-r, r + 1) for r in reach)]
    return sum((axis * zoom) ** 2 for axis, zoom in zip(places, zooms)) <= radius_mm**2


def first_guess(t1w: Image) -> np.ndarray:
    """Rough brain mask: tissue between background and fat, cut off from the rest of the head by the least erosion that leaves
    a part as large as a brain; grown back, closed, filled.

    Raises Exclusion when no erosion gives one.
    """
    values, zooms = t1w.values, t1w.zooms
    clipped = t1w.with_values(np.minimum(values, np.percentile(values, 98)))
    tissue = ants.threshold_image(clipped.ants(), "Otsu", 1).numpy() > 0
    tissue &= values < np.percentile(values[tissue], 92)
    sizes = []
    for radius in EROSIONS_MM:
        element = ball(radius, zooms)
        parts, n = ndimage.label(ndimage.binary_erosion(tissue, element))
        if not n:
            break
        largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        grown = ndimage.binary_closing(np.pad(ndimage.binary_dilation(largest, ball(radius + 1, zooms)), 8), ball(6, zooms))
        brain = ndimage.binary_fill_holes(grown)[8:-8, 8:-8, 8:-8]
        sizes.append(float(brain.sum() * zooms.prod() / 1000))
        if BRAIN_ML[0] <= sizes[-1] <= BRAIN_ML[1]:
            return brain
    found = ", ".join(f"{size:.0f}" for size in sizes) or "none"
    raise Exclusion(
        f"no brain found in the T1w (parts of {found} ml; a brain has {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f}): "
        "look at the image, or use preprocess: fmriprep"
    )


def _dilated(mask: Image, radius_mm: float) -> Image:
    return mask.with_values(ndimage.binary_dilation(mask.values > 0, ball(radius_mm, mask.zooms)).astype(np.float32))


def normalise(t1w: Image, guess: np.ndarray, options: EmbeddedOptions, stem: str) -> tuple[list[str], list[str]]:
    """(forward, inverse) transforms to the template: affine on the roughly cut brain, then symmetric diffeomorphic (SyN,
    Avants et al. 2008) on the head, with the metric inside the template's brain and a narrow rim. Files begin with `stem`.
    """
    fixed, rim = template("t1").ants(), _dilated(template("brain"), 4.0).ants()
    cut = t1w.with_values(t1w.values * ndimage.binary_dilation(guess, ball(2.5, t1w.zooms)))
    affine = ants.registration(
        fixed, cut.ants(), type_of_transform="Affine", outprefix=f"{stem}affine_", random_seed=options.seed + 1
    )
    top = np.percentile(t1w.values[guess], 99)  # fat is brighter than any brain
    metric, iterations = ITERATIONS[options.registration]
    bent = ants.registration(
        fixed,
        t1w.with_values(np.minimum(t1w.values, top)).ants(),
        type_of_transform="SyNOnly",
        initial_transform=affine["fwdtransforms"][0],
        mask=rim,
        syn_metric=metric,
        syn_sampling=2 if metric == "CC" else 32,
        reg_iterations=iterations,
        outprefix=f"{stem}syn_",
        random_seed=options.seed + 1,
    )
    return bent["fwdtransforms"], bent["invtransforms"]


def segment(t1w: Image, brain: Image) -> dict[str, Image]:
    """Probability of CSF, grey and white matter by Atropos (Avants et al. 2011): three classes in the order of their means."""
    # r=0: a fixed seed; by default each call draws its own, and tissues differ from run to run.
    done = ants.atropos(a=t1w.ants(), x=brain.ants(), i="kmeans[3]", m="[0.2,1x1x1]", c="[5,0]", r=0)
    maps = [image.numpy() for image in done["probabilityimages"]]
    means = [float((p * t1w.values).sum() / max(p.sum(), 1e-9)) for p in maps]
    return {name: t1w.with_values(maps[i]) for name, i in zip(("csf", "grey", "white"), np.argsort(means))}


def prepare(path: Path, options: EmbeddedOptions, stem: str) -> Anatomy:
    """All that is needed of a T1w at `path`. Transforms are written to files that begin with `stem`.

    Raises Exclusion when there is no brain in it, or it does not fit the template.
    """
    raw = read_volume(path)
    corrected = ants.n4_bias_field_correction(
        raw.ants(), shrink_factor=max(1, int(8 / raw.zooms.min())), convergence={"iters": [20, 20, 20], "tol": 1e-4}
    )
    t1w = raw.with_values(np.maximum(corrected.numpy(), 0))
    guess = first_guess(t1w)
    forward, inverse = normalise(t1w, guess, options, stem)
    brain = warp(template("brain"), t1w, inverse, [True, False], nearest=True)
    t1w_mni = warp(t1w, template("t1"), forward, [False, False])
    inside = template("brain").values > 0
    likeness = float(np.corrcoef(t1w_mni.values[inside], template("t1").values[inside])[0, 1])
    volume = float(brain.values.sum() * brain.zooms.prod() / 1000)
    if not (likeness >= MIN_LIKENESS and BRAIN_ML[0] <= volume <= BRAIN_ML[1]):
        raise Exclusion(
            f"{path.name}: does not fit the template (correlation {likeness:.2f}, at least {MIN_LIKENESS:g} is needed; "
            f"brain of {volume:.0f} ml, {BRAIN_ML[0]:g} to {BRAIN_ML[1]:g} can be): look at the image, or use "
            "preprocess: fmriprep"
        )
    return Anatomy(t1w, brain, segment(t1w, brain), forward, inverse, t1w_mni, likeness)
