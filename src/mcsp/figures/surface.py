"""Model-relevant regions on the cortical surface, fsaverage5 as nilearn ships it."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from nilearn.datasets import load_fsaverage, load_fsaverage_data

from mcsp.atlas import Atlas, load_atlas
from mcsp.figures.cortex import vertex_regions
from mcsp.figures.style import MM, new_figure, nothing, save
from mcsp.figures.verdict import best_method, standing
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "domain": "Domain where the attribution was taken",
    "name": "Region",
    "mean": "Mean share of relevance",
    "low": "Lower end of the 95 % interval over subjects",
    "high": "Upper end of the 95 % interval over subjects",
    "n": "Subjects",
    "vertices": "Vertices of fsaverage5 that show the region; 0: it lies below the cortex, or nowhere that is known",
}
DOMAINS = ("spatial", "temporal", "spectral")
# name, hemisphere, from which side one looks (1: from the right)
VIEWS = (
    ("left, outside", "left", -1),
    ("left, inside", "left", 1),
    ("right, inside", "right", -1),
    ("right, outside", "right", 1),
)
ROW = 40.0  # mm
COLOURS = "viridis_r"  # as on the glass brain: dark is much, in grey too


def _seen(points: np.ndarray, faces: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(triangles (F, 3, 2) on the plane, faces (F), light (F) in [0, 1]) of a mesh seen from `side`, far ones first."""
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = side * normal[:, 0] / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    front = np.flatnonzero(facing > 0)
    front = front[np.argsort(side * corners[front].mean(axis=1)[:, 0], kind="stable")]
    flat = corners[front][:, :, [1, 2]] * np.array([side, 1])
    return flat, front, facing[front]


class Brain:
    """fsaverage5 with the regions of an atlas: meshes by hemisphere, and the view of each side drawn in given colours."""

    def __init__(self, atlas: Atlas):
        meshes, depth = load_fsaverage("fsaverage5"), load_fsaverage_data("fsaverage5", data_type="sulcal")
        self.views, self.regions = {}, {}
        for side in ("left", "right"):
            pial, white = (meshes[name].parts[side].coordinates for name in ("pial", "white_matter"))
            self.regions[side] = vertex_regions(pial, white, atlas)
        for name, side, direction in VIEWS:
            mesh = meshes["inflated"].parts[side]
            flat, front, light = _seen(mesh.coordinates, mesh.faces, direction)
            corners = mesh.faces[front]
            grey = 0.82 - 0.14 * (depth.data.parts[side][corners].mean(axis=1) > 0)
            own = self.regions[side][corners]
            region = np.where(own[:, 1] == own[:, 2], own[:, 1], own[:, 0])  # what two of three corners say
            self.views[name] = flat, grey, 0.6 + 0.4 * light, region

    def vertices(self, n: int) -> np.ndarray:
        """Vertices of each of the atlas's `n` regions."""
        every = np.concatenate(list(self.regions.values()))
        return np.bincount(every[every >= 0], minlength=n)

    def picture(self, name: str, colours: np.ndarray) -> np.ndarray:
        """RGBA image of a view; `colours` (R, 4), NaN for regions without a value."""
        flat, grey, light, region = self.views[name]
        face = np.repeat(grey[:, None], 3, axis=1)
        valued = (region >= 0) & ~np.isnan(colours[region, 0])
        face[valued] = colours[region[valued], :3]
        face = np.clip(face * light[:, None], 0, 1)
        low, high = flat.min(axis=(0, 1)), flat.max(axis=(0, 1))
        size = (high - low) / (high - low)[0] * 1.6  # in
        figure = plt.figure(figsize=size, dpi=300, layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.add_collection(PolyCollection(flat, facecolors=face, edgecolors=face, linewidths=0.3))
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        figure.patch.set_alpha(0)
        figure.canvas.draw()
        image = np.asarray(figure.canvas.buffer_rgba()).copy()
        plt.close(figure)
        return image


def _line(
    figure: Figure, brain: Brain, values: pd.Series, atlas: Atlas, top: float, height: float, title: str, *, named: bool
) -> None:
    """The views of one domain, below `top` (share of the figure's height), with their colour bar."""
    own = values.reindex(atlas.names).to_numpy() * len(values)
    norm = mpl.colors.Normalize(np.nanmin(own), np.nanmax(own))
    colours = np.where(np.isnan(own)[:, None], np.nan, mpl.colormaps[COLOURS](norm(np.nan_to_num(own))))
    for i, (name, _, _) in enumerate(VIEWS):
        axes = figure.add_axes((0.01 + 0.218 * i, top - 0.88 * height, 0.21, 0.68 * height))
        axes.imshow(brain.picture(name, colours), interpolation="antialiased")
        axes.set_axis_off()
        if named:
            axes.text(0.5, 1.02, name, transform=axes.transAxes, fontsize=7, ha="center")
    figure.text(0.01, top, title, fontsize=8, va="top")
    bar = figure.add_axes((0.895, top - 0.82 * height, 0.012, 0.55 * height))
    figure.colorbar(mpl.cm.ScalarMappable(norm, COLOURS), cax=bar, label="relevance, 1 = even")


def run(*, maps: Path, trust: Path, atlas: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """A line of four views for each domain, for the method that stands best."""
    table, judged, regions = read_tsv(maps), read_tsv(trust), load_atlas(atlas)
    method = best_method(table, judged, "fmri")
    if method is None:
        return nothing(out, f"{task_name}: no fMRI in this study", options)
    own = table[(table["method"] == method) & (table["modality"] == "fmri") & (table["kind"] == "roi")]
    brain = Brain(regions)
    vertices = pd.Series(brain.vertices(len(regions.names)), regions.names)
    if not vertices.sum():
        return nothing(out, f"{task_name}: no surface, because this atlas's regions have no place in the head", options)
    domains = [domain for domain in DOMAINS if domain in set(own["domain"])]
    figure, _ = new_figure(options, 1.0)
    figure.clear()
    figure.set_layout_engine("none")
    figure.set_figheight((ROW * len(domains) + 8) * MM)
    whole = ROW * len(domains) + 8
    for line, domain in enumerate(domains):
        values = own[own["domain"] == domain].set_index("name")["mean"]
        title = f"{domain.capitalize()}: {standing(judged, method, 'fmri', domain, 'roi')}"
        _line(figure, brain, values, regions, (whole - 4 - ROW * line) / whole, ROW / whole, title, named=line == 0)
    rows = own.assign(vertices=own["name"].map(vertices).fillna(0).astype(int))[list(COLUMNS)]
    hidden = int((rows.drop_duplicates("name")["vertices"] == 0).sum())
    caption = (
        f"{task_name}: model-relevant regions by {method.replace('_', ' ')} on the inflated surface of fsaverage5, "
        f"{int(own['n'].max())} explained test subjects over folds and seeds. Values are mean shares of relevance "
        "(contributions over time added with their signs) times the number of regions (1 = even); light grey: gyri, darker "
        f"grey: sulci without a region. {hidden} of {len(regions.names)} regions lie below the cortex or outside it and are "
        "not seen. Relevance to the model is not causation; titles have the verdict on the method, its reasons are in the "
        "table of trust."
    )
    save(figure, out, rows, COLUMNS, caption, options)
    return None
