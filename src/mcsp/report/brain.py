"""Interactive brains (nilearn's), each small: what all of them share is in the page once."""

from __future__ import annotations

import json
import re
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
from nilearn import plotting
from nilearn.datasets import fetch_surf_fsaverage, load_fsaverage, load_fsaverage_data
from nilearn.plotting.js_plotting_utils import mesh_to_plotly
from nilearn.surface import InMemoryMesh

from mcsp.atlas import Atlas
from mcsp.figures.cortex import vertex_regions
from mcsp.report.blocks import View

N_EDGES = 40
N_NAMED = 8  # regions whose names stand in the brain
LEAST_REGIONS = 3
LEAST_SHARE = 1e-6  # times the number of regions: a region without any relevance is shown as a region
SIDES = ("left", "right")
GAP = 2.0  # mm from the midline to an inflated hemisphere
GREYS = (0.35, 0.6)  # of gyri and sulci where no region is; nilearn draws them light
COLOURS = "viridis_r"


def token(number: int) -> str:
    """Stands in a view's page for shared part `number`."""
    return f"@@shared-{number}@@"


@cache
def shared_parts() -> list[str]:
    """Texts that nilearn puts into every view: its scripts (jQuery, plotly, its own), the two meshes of the cortex, and the
    inflated one of both hemispheres.
    """
    empty = plotting.view_markers(np.zeros((1, 3))).html
    scripts = [text for text in re.findall(r"<script>.*?</script>", empty, re.DOTALL) if "connectomeInfo" not in text]
    mesh = fetch_surf_fsaverage()  # fsaverage5, which nilearn ships
    meshes = [*(mesh[f"pial_{side}"] for side in SIDES), inflated()]
    return [*scripts, *(json.dumps(mesh_to_plotly(one)) for one in meshes)]


@cache
def inflated() -> InMemoryMesh:
    """The inflated surface of fsaverage5, both hemispheres in one mesh, moved apart: as they come, they cut into each other."""
    left, right = (load_fsaverage("fsaverage5")["inflated"].parts[side] for side in SIDES)
    faces = np.vstack([left.faces, right.faces + len(left.coordinates)])
    apart = [left.coordinates - [left.coordinates[:, 0].max() + GAP, 0, 0],
             right.coordinates - [right.coordinates[:, 0].min() - GAP, 0, 0]]  # fmt: skip
    return InMemoryMesh(np.vstack(apart), faces)


def vertices_of(atlas: Atlas) -> np.ndarray:
    """Row in the atlas of the region at each vertex (V,) of `inflated`, -1 where there is none."""
    meshes = load_fsaverage("fsaverage5")
    found = [[meshes[name].parts[side].coordinates for name in ("pial", "white_matter")] for side in SIDES]
    return np.concatenate([vertex_regions(pial, white, atlas) for pial, white in found])


def plain(text: str) -> str:
    """Text that can't end the script it stands in, nor be markup in a label."""
    return text.replace("<", "‹").replace(">", "›").replace("&", "+")


def slim(page: str, parts: list[str]) -> str:
    """A view's page with tokens in place of the shared parts."""
    for number, text in enumerate(parts):
        page = page.replace(text, token(number))
    return page


def packed(page: str) -> str:
    """A view's page with the colours of its vertices as few colours and their numbers: regions have one colour each."""

    def short(found: re.Match) -> str:
        names = json.loads(found[2])
        palette = list(dict.fromkeys(names))
        number = {name: i for i, name in enumerate(palette)}
        at = ",".join(str(number[name]) for name in names)
        return f"{found[1]}((colours, at) => at.map(i => colours[i]))({json.dumps(palette)}, [{at}])"

    return re.sub(r'("vertexcolor_both": )(\[[^\]]*\])', short, page)


def _known(atlas: Atlas) -> dict[str, np.ndarray]:
    return {name: place for name, place in zip(atlas.names, atlas.coordinates) if not np.isnan(place).any()}


def regions_view(shares: pd.Series, atlas: Atlas, title: str, caption: str, parts: list[str]) -> View | None:
    """Regions (index: names) as markers, larger and darker with their share of relevance; None where places are unknown."""
    places = _known(atlas)
    own = shares[[name for name in shares.index if name in places]] * len(shares)
    if len(own) < LEAST_REGIONS:
        return None
    named = set(own.sort_values(ascending=False, kind="stable").head(N_NAMED).index)
    scaled = (own - own.min()) / max(float(own.max() - own.min()), 1e-12)
    view = plotting.view_markers(
        np.array([places[name] for name in own.index]),
        marker_color=[mpl.colors.to_hex(c) for c in mpl.colormaps[COLOURS](scaled.to_numpy())],
        marker_size=(3 + 12 * scaled).round(1).tolist(),
        marker_labels=[plain(f"{name}: {value:.2f}") if name in named else "" for name, value in own.items()],
    )
    return View(title, caption, slim(view.html, parts))


def edges_view(shares: pd.Series, atlas: Atlas, title: str, caption: str, parts: list[str]) -> View | None:
    """The strongest edges (index: 'a|b') in the brain, in per mille of relevance; None where places are unknown."""
    places = _known(atlas)
    top = shares.sort_values(ascending=False, kind="stable").head(N_EDGES)
    pairs = {tuple(name.split("|")): 1000 * value for name, value in top.items()}
    pairs = {pair: value for pair, value in pairs.items() if all(name in places for name in pair)}
    names = sorted({name for pair in pairs for name in pair})
    if len(names) < LEAST_REGIONS:
        return None
    matrix = np.zeros((len(names), len(names)))
    for (a, b), value in pairs.items():
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = value
    view = plotting.view_connectome(
        matrix,
        np.array([places[name] for name in names]),
        edge_cmap=COLOURS,
        symmetric_cmap=False,
        node_color="#333333",
        node_size=5,
        linewidth=5,
        colorbar_fontsize=14,
    )
    return View(title, caption, slim(view.html, parts))


def surface_view(
    shares: pd.Series, atlas: Atlas, vertices: np.ndarray, title: str, caption: str, parts: list[str]
) -> View | None:
    """Regions (index: names) on the inflated cortex, coloured by their share of relevance; None where none is seen there.
    `vertices`: `vertices_of` the atlas.
    """
    own = (shares * len(shares)).reindex(atlas.names).to_numpy()
    values = np.where(vertices >= 0, np.maximum(own[vertices], LEAST_SHARE), np.nan)
    if np.isnan(values).all():
        return None
    sulci = np.concatenate([load_fsaverage_data("fsaverage5", data_type="sulcal").data.parts[side] > 0 for side in SIDES])
    view = plotting.view_surf(
        inflated(),
        np.nan_to_num(values),  # 0, and so below the threshold, where no region is
        bg_map=np.where(sulci, *GREYS[::-1]),
        threshold=float(np.nanmin(values)) / 2,
        cmap=COLOURS,
        symmetric_cmap=False,
        vmin=float(np.nanmin(values)),
        vmax=float(np.nanmax(values)),
        colorbar_fontsize=14,
    )
    return View(title, caption, packed(slim(view.html, parts)))
