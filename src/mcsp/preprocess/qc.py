"""A page per subject: does the brain lie where it should, and how much did the head move? Drawn from the written files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcsp.fmri.parcellate import volumes
from mcsp.preprocess.anatomy import template
from mcsp.preprocess.space import SPACE, Image
from mcsp.store import atomic_path, read_json

OUTLINE, INNER = "#E69F00", "#56B4E9"  # Okabe & Ito 2008
CUTS = (0.3, 0.4, 0.5, 0.6, 0.7)  # places of the cuts, as shares of the brain's extent
CARPET_VOXELS = 600  # per tissue
THRESHOLD_MM = 0.5
PAGE = Environment(autoescape=True)


def _read(path: Path) -> Image:
    return Image.of(nib.as_closest_canonical(nib.load(path)))


def _cut(values: np.ndarray, axis: int, index: int) -> np.ndarray:
    return np.take(values, index, axis=axis).T


def mosaic(background: Image, contours: Sequence[tuple[np.ndarray, str]], extent: np.ndarray) -> Figure:
    """Five cuts along each axis through `extent` (X, Y, Z; bool), with the outlines of masks at 0.5 in their colours."""
    box = tuple(
        slice(max(0, int(places.min()) - int(12 / zoom)), int(places.max()) + int(12 / zoom) + 1)
        for places, zoom in zip(np.nonzero(extent), background.zooms)
    )
    background, extent = Image(background.values[box], background.affine), extent[box]
    contours = [(mask[box], colour) for mask, colour in contours]
    figure, axes = plt.subplots(3, len(CUTS), figsize=(10, 6.4), layout="constrained", facecolor="black")
    top = float(np.percentile(background.values[extent], 99.5)) * 1.1 if extent.any() else None
    for axis in range(3):
        found = np.flatnonzero(extent.any(axis=tuple({0, 1, 2} - {axis})))
        across = [zoom for i, zoom in enumerate(background.zooms) if i != axis]
        for place, axes_ in zip(CUTS, axes[axis]):
            index = int(found[0] + place * (found[-1] - found[0]))
            axes_.imshow(
                _cut(background.values, axis, index),
                cmap="gray",
                origin="lower",
                vmin=0,
                vmax=top,
                aspect=across[1] / across[0],
            )
            for mask, colour in contours:
                cut = _cut(mask, axis, index)
                if cut.min() < 0.5 < cut.max():
                    axes_.contour(cut, levels=[0.5], colors=colour, linewidths=0.8)
            axes_.set_axis_off()
    axes[2, 0].text(0.02, 0.02, "L", color="white", fontsize=8, transform=axes[2, 0].transAxes)
    axes[2, 0].text(0.92, 0.02, "R", color="white", fontsize=8, transform=axes[2, 0].transAxes)
    return figure


def _trace(axes: Axes, t: np.ndarray, values: np.ndarray, label: str) -> None:
    axes.plot(t, values, color="#0072B2", linewidth=0.9)
    axes.set_ylabel(label)
    axes.set_xlim(t[0], t[-1])
    axes.tick_params(labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)


def sample(tissue: np.ndarray) -> list[np.ndarray]:
    """At most `CARPET_VOXELS` voxels of each tissue, evenly: indices into `tissue` (V,), which is 1 grey, 2 white, 3 CSF."""
    found = [np.flatnonzero(tissue == k) for k in (1, 2, 3)]
    return [own[np.linspace(0, len(own) - 1, min(CARPET_VOXELS, len(own))).astype(int)] for own in found]


def carpet(series: np.ndarray, counts: Sequence[int], confounds: pd.DataFrame, t_r: float) -> Figure:
    """Framewise displacement, DVARS, and a carpet of `series` (T, K), of which `counts` are grey, white, CSF, in this order."""
    trend = np.column_stack([np.ones(len(series)), np.arange(len(series))])
    rows = series - trend @ np.linalg.lstsq(trend, series, rcond=None)[0]
    rows = rows / np.maximum(rows.std(axis=0), 1e-9)
    t = np.arange(len(rows)) * t_r
    figure, axes = plt.subplots(3, 1, figsize=(10, 6), height_ratios=[1, 1, 3.2], layout="constrained")
    _trace(axes[0], t, confounds["framewise_displacement"].to_numpy(float), "FD, mm")
    axes[0].axhline(THRESHOLD_MM, color="#555555", linestyle="--", linewidth=0.8)
    _trace(axes[1], t, confounds["std_dvars"].to_numpy(float), "std. DVARS")
    extent = (t[0], t[-1], rows.shape[1], 0)
    axes[2].imshow(rows.T, cmap="gray", vmin=-2, vmax=2, aspect="auto", interpolation="nearest", extent=extent)
    ends = np.cumsum(counts)
    for end in ends[:-1]:
        axes[2].axhline(end, color=OUTLINE, linewidth=1.2)
    axes[2].set_yticks(ends - np.array(counts) / 2, ["grey and rest", "white", "CSF"])
    axes[2].set_xlabel("time, s")
    return figure


def _embed(figure: Figure, path: Path, note: str | None) -> str:
    """Save a figure at `path`, with the note in its corner, and give it as a data URI for the page."""
    if note:
        figure.text(0.998, 0.003, note, ha="right", va="bottom", fontsize=7, color="#E69F00")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor=figure.get_facecolor(), metadata={"Software": "mcsp"})
    plt.close(figure)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _anatomy(out: Path, stem: str, note: str | None) -> dict:
    image = _read(out / "anat" / f"{stem}_space-{SPACE}_desc-preproc_T1w.nii.gz")
    brain = _read(out / "anat" / f"{stem}_desc-brain_mask.nii.gz")
    fixed = Image.of(nib.as_closest_canonical(template("brain").nifti()))
    white = Image.of(nib.as_closest_canonical(template("white").nifti()))
    inside = fixed.values > 0
    model = Image.of(nib.as_closest_canonical(template("t1").nifti()))
    likeness = np.corrcoef(image.values[inside], model.values[inside])[0, 1]
    figure = mosaic(image, [(fixed.values, OUTLINE), (white.values, INNER)], inside)
    volume = brain.values.sum() * brain.zooms.prod() / 1000
    table = {
        "Voxel size of the T1w": " x ".join(f"{z:.2g}" for z in brain.zooms) + " mm",
        "Volume of the brain mask": f"{volume:.0f} ml",
        "Correlation with the template, inside the brain": f"{likeness:.2f}",
    }
    return {"image": _embed(figure, out / "figures" / f"{stem}_desc-normalisation_T1w.png", note), "table": table}


def _run(out: Path, bold: Path, note: str | None) -> dict:
    stem = bold.name.split(f"_space-{SPACE}")[0]
    base = str(bold).removesuffix("_desc-preproc_bold.nii.gz")
    about = read_json(f"{base}_desc-preproc_bold.json")
    brain = _read(out / "anat" / f"{about['AnatomicalImage']}_desc-brain_mask.nii.gz")
    white = _read(out / "anat" / f"{about['AnatomicalImage']}_label-WM_probseg.nii.gz")
    figure = mosaic(
        _read(out / "func" / f"{stem}_space-T1w_boldref.nii.gz"),
        [(brain.values, OUTLINE), (white.values, INNER)],
        brain.values > 0,
    )
    tissue = np.asarray(nib.load(f"{base}_desc-confounds_dseg.nii.gz").dataobj).ravel(order="F")
    chosen = sample(tissue)
    confounds = pd.read_csv(out / "func" / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values=["n/a"])
    order = np.concatenate(chosen)
    series = np.stack([frame[order].astype(float) for frame in volumes(bold)])
    fd = confounds["framewise_displacement"].to_numpy(float)[1:]
    table = {
        "Frames, repetition time": f"{len(series)} x {about['RepetitionTime']:g} s",
        "Slice timing corrected": "yes" if about["SliceTimingCorrected"] else "no (the sidecar does not tell, or switched off)",
        "Mean framewise displacement": f"{fd.mean():.2f} mm (largest {fd.max():.2f} mm)",
        f"Frames above {THRESHOLD_MM} mm": f"{(fd > THRESHOLD_MM).sum()} ({(fd > THRESHOLD_MM).mean():.0%})",
        "Brain in the field of view": f"{(tissue > 0).sum() * np.prod(nib.load(bold).header.get_zooms()[:3]) / 1000:.0f} ml",
    }
    return {
        "name": stem,
        "alignment": _embed(figure, out / "figures" / f"{stem}_desc-coreg_bold.png", note),
        "carpet": _embed(
            carpet(series, [len(own) for own in chosen], confounds, about["RepetitionTime"]),
            out / "figures" / f"{stem}_desc-carpetplot_bold.png",
            note,
        ),
        "threshold": f"{THRESHOLD_MM:g}",
        "table": table,
    }


def write_page(out: Path, label: str, reasons: Sequence[str], note: str | None) -> Path:
    """Write the page of the subject whose derivatives lie in `out` (.../sub-XX), beside that directory, and its figures in
    `out`/figures. `reasons`: why a run, or the subject, is left out; `note`: printed on top.
    """
    t1w = sorted((out / "anat").glob(f"*_space-{SPACE}_desc-preproc_T1w.nii.gz"))
    runs = sorted((out / "func").glob(f"*_space-{SPACE}_desc-preproc_bold.nii.gz"))
    text = PAGE.from_string((Path(__file__).parent / "qc.html").read_text(encoding="utf-8")).render(
        label=label,
        note=note,
        reasons=reasons,
        anatomy=_anatomy(out, t1w[0].name.split(f"_space-{SPACE}")[0], note) if t1w else None,
        runs=[_run(out, path, note) for path in runs],
    )
    page = out.with_name(f"{label}.html")
    with atomic_path(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return page
