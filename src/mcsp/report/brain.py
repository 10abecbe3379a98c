"""Interactive brains (nilearn's), each small: what all of them share is in the page once."""

from __future__ import annotations

import json
import re
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
from nilearn import plotting
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.plotting.js_plotting_utils import mesh_to_plotly

from mcsp.atlas import Atlas
from mcsp.report.blocks import View

N_EDGES = 40
N_NAMED = 8  # regions whose names stand in the brain
LEAST_REGIONS = 3
COLOURS = "viridis_r"


def token(number: int) -> str:
    """Stands in a view's page for shared part `number`."""
    return f"@@shared-{number}@@"


@cache
def shared_parts() -> list[str]:
    """Texts that nilearn puts into every view: its scripts (jQuery, plotly, its own) and the two meshes of the cortex."""
    empty = plotting.view_markers(np.zeros((1, 3))).html
    scripts = [text for text in re.findall(r"<script>.*?</script>", empty, re.DOTALL) if "connectomeInfo" not in text]
    mesh = fetch_surf_fsaverage()  # fsaverage5, which nilearn ships
    return [*scripts, *(json.dumps(mesh_to_plotly(mesh[f"pial_{side}"])) for side in ("left", "right"))]


def plain(text: str) -> str:
    """Text that can't end the script it stands in, nor be markup in a label."""
    return text.replace("<", "‹").replace(">", "›").replace("&", "+")


def slim(page: str, parts: list[str]) -> str:
    """A view's page with tokens in place of the shared parts."""
    for number, text in enumerate(parts):
        page = page.replace(text, token(number))
    return page


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
