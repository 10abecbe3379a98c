"""The embedded route: one subject's raw BOLD and T1w to derivatives with fMRIPrep's file names and confound columns.

Slice timing, head motion, brain mask, BOLD to T1w (rigid), T1w to MNI (affine and SyN), one resampling, confounds. There is no
correction of susceptibility distortion and no surface: where those matter, use `preprocess: fmriprep`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mcsp.errors import Exclusion
from mcsp.nifti import write_run
from mcsp.options.embedded import EmbeddedOptions
from mcsp.preprocess.anatomy import Anatomy, prepare
from mcsp.preprocess.functional import Functional, process, tissue_on
from mcsp.preprocess.regressors import confounds, tissue_masks
from mcsp.preprocess.space import SPACE, Image, warp
from mcsp.store import atomic_path, write_json


def write_image(image: Image, path: Path, dtype: type = np.float32, code: str = "mni", stripped: bool | None = None) -> None:
    """Write one volume as NIfTI, atomically; `stripped`: is it zero outside the brain? For the sidecar that BIDS asks for."""
    if stripped is not None:
        write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), {"SkullStripped": stripped})
    with atomic_path(path) as temporary:
        image.nifti(dtype, code).to_filename(temporary)


def frames_of(series: np.ndarray, inside: np.ndarray) -> Iterator[np.ndarray]:
    """Frames (X, Y, Z) of a run (T, V) of the voxels `inside` (X, Y, Z; bool), zero elsewhere."""
    for values in series:
        frame = np.zeros(inside.shape, np.float32)
        frame[inside] = values
        yield frame


def write_anatomy(anatomy: Anatomy, folder: Path, stem: str) -> None:
    """Write the T1w, corrected, and its masks, in its own space and in MNI space."""
    folder.mkdir(parents=True, exist_ok=True)
    write_image(anatomy.t1w, folder / f"{stem}_desc-preproc_T1w.nii.gz", code="scanner", stripped=False)
    write_image(anatomy.brain, folder / f"{stem}_desc-brain_mask.nii.gz", np.uint8, code="scanner")
    for name, label in (("grey", "GM"), ("white", "WM"), ("csf", "CSF")):
        write_image(anatomy.tissues[name], folder / f"{stem}_label-{label}_probseg.nii.gz", code="scanner")
    write_image(anatomy.t1w_mni, folder / f"{stem}_space-{SPACE}_desc-preproc_T1w.nii.gz", stripped=False)


def write_functional(
    run: Functional, anatomy: Anatomy, folder: Path, stem: str, source: str, anatomy_stem: str
) -> dict[str, Path]:
    """Write one run in MNI space with mask, reference and confounds; returns 'path' (of the run), 'mask' and 'confounds'."""
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{stem}_space-{SPACE}"
    inside = run.brain.values > 0
    paths = {
        "path": Path(f"{base}_desc-preproc_bold.nii.gz"),
        "mask": Path(f"{base}_desc-brain_mask.nii.gz"),
        "confounds": folder / f"{stem}_desc-confounds_timeseries.tsv",
    }
    masks = tissue_masks({name: tissue_on(run.brain, name, anatomy) for name in ("csf", "white")}, inside, run.brain.zooms)
    table, sidecar = confounds(run.series, inside, masks, run.motion, run.t_r)
    with atomic_path(paths["confounds"]) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.8g", lineterminator="\n")
    write_json(paths["confounds"].with_suffix(".json"), sidecar)
    write_image(run.brain, paths["mask"], np.uint8)
    mean = np.zeros(inside.shape, np.float32)
    mean[inside] = run.series.mean(axis=0, dtype=float)
    write_image(run.brain.with_values(mean), Path(f"{base}_boldref.nii.gz"))
    labels = np.where(masks["csf"], 3, np.where(masks["white"], 2, 0)) + (inside & ~masks["csf"] & ~masks["white"])
    write_image(run.brain.with_values(labels), Path(f"{base}_desc-confounds_dseg.nii.gz"), np.uint8)
    on_t1w = warp(run.reference, anatomy.t1w, [run.to_t1w], [False])
    write_image(on_t1w, folder / f"{stem}_space-T1w_boldref.nii.gz", code="scanner")
    with atomic_path(paths["path"]) as temporary:
        write_run(temporary, frames_of(run.series, inside), len(run.series), run.brain.affine, run.t_r)
    about = {
        "RepetitionTime": run.t_r, "TaskName": _task(stem), "SkullStripped": True, "SliceTimingCorrected": run.sliced,
        "StartTime": run.start, "Sources": [source], "AnatomicalImage": anatomy_stem,
        "SpatialReference": f"{SPACE} (nilearn's template)",
    }  # fmt: skip
    write_json(Path(f"{base}_desc-preproc_bold.json"), about)  # last: with it, the run is whole
    return paths


def stem_of(t1w: Path) -> str:
    """Beginning of the names of a T1w's derivatives."""
    return t1w.name.split(".")[0].removesuffix("_T1w")


def _task(stem: str) -> str:
    return next((part.removeprefix("task-") for part in stem.split("_") if part.startswith("task-")), "rest")


def run_anatomy(t1w: Path, out: Path, options: EmbeddedOptions, scratch: Path) -> Anatomy:
    """Prepare the T1w and write it under `out`/anat. Raises Exclusion."""
    stem = stem_of(t1w)
    anatomy = prepare(t1w, options, f"{scratch}/{stem}_")
    write_anatomy(anatomy, out / "anat", stem)
    return anatomy


def run_bold(row: dict, anatomy: Anatomy, out: Path, options: EmbeddedOptions, scratch: Path) -> dict[str, Path]:
    """Process one raw run, a `row` with path, t_r and the sidecar, and write it under `out`/func. Raises Exclusion."""
    path = Path(row["path"])
    if "_echo-" in path.name:
        raise Exclusion(f"{path.name}: echoes can't be combined here: use preprocess: fmriprep")
    stem = path.name.split(".")[0].removesuffix("_bold")
    with TemporaryDirectory(dir=scratch) as folder:
        found = process(path, row["sidecar"], row["t_r"], anatomy, options, Path(folder), stem)
        return write_functional(found, anatomy, out / "func", stem, path.name, stem_of(Path(row["t1w"])))
