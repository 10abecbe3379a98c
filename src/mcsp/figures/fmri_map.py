"""Model-relevant regions and connections of one task."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from nilearn import plotting

from mcsp.atlas import Atlas, load_atlas
from mcsp.figures.style import PALETTE, nothing, save, say, short
from mcsp.figures.verdict import best_method, standing
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "domain": "Domain where the attribution was taken",
    "kind": "roi or edge",
    "name": "Region, or edge a|b",
    "mean": "Mean share of relevance",
    "low": "Lower end of the 95 % interval over subjects",
    "high": "Upper end of the 95 % interval over subjects",
    "n": "Subjects",
}
N_EDGES = 40
DOMAINS = ("spatial", "temporal", "spectral")


def _regions(axes, bar, values: pd.Series, atlas: Atlas, title: str) -> None:
    places = {name: place for name, place in zip(atlas.names, atlas.coordinates) if not np.isnan(place).any()}
    known = [name for name in values.index if name in places]
    if len(known) < 3:
        top = values.sort_values(ascending=False).head(12)[::-1]
        axes.barh(range(len(top)), top.to_numpy() * 100, color=PALETTE[0])
        axes.set_yticks(range(len(top)), [short(name, 34) for name in top.index], fontsize=6)
        axes.set_xlabel("share of relevance, %")
        axes.set_title(title, loc="left", fontsize=8)
        return
    own = values[known].to_numpy() * len(values)
    low, high = float(own.min()), float(own.max())
    plotting.plot_markers(
        own,
        np.array([places[name] for name in known]),
        node_size=4 + 26 * (own - low) / max(high - low, 1e-12),
        node_cmap="viridis_r",
        node_vmin=low,
        node_vmax=high,
        display_mode="xz",
        axes=axes,
        colorbar=False,
        annotate=False,
    )
    _scale(bar, low, high, "relevance, 1 = even")
    axes.set_title(title, loc="left", fontsize=8)


def _scale(axes, low: float, high: float, label: str) -> None:
    """The colour bar of the brain above."""
    mappable = plt.cm.ScalarMappable(plt.Normalize(low, high), "viridis_r")
    axes.set_axis_on()
    axes.figure.colorbar(mappable, cax=axes, orientation="horizontal", label=label)


def _panels(options: FigureOptions) -> tuple[Figure, list, list]:
    """A figure of 2 x 2 panels, each with room for a colour bar below. nilearn draws brains where a panel stands when it
    is called, so that no layout may move it afterwards.
    """
    width = options.width_mm / 25.4
    figure = plt.figure(figsize=(width, 0.72 * width))
    figure.set_layout_engine("none")
    panels, bars = [], []
    for row in range(2):
        for column in range(2):
            left, bottom = 0.01 + 0.5 * column, 0.585 - 0.485 * row
            panels.append(figure.add_axes((left, bottom, 0.47, 0.34)))
            bars.append(figure.add_axes((left + 0.11, bottom - 0.01, 0.25, 0.012)))
            bars[-1].set_axis_off()
    return figure, panels, bars


def _edges(axes, bar, edges: pd.DataFrame, atlas: Atlas, title: str) -> None:
    rows = {name: i for i, name in enumerate(atlas.names)}
    known = ~np.isnan(atlas.coordinates).any(axis=1)
    placed = [all(part in rows and known[rows[part]] for part in name.split("|")) for name in edges["name"].head(N_EDGES)]
    if known.sum() < 3 or not any(placed):
        top = edges.head(12)[::-1]
        axes.barh(range(len(top)), top["mean"] * 100, color=PALETTE[1])
        axes.set_yticks(
            range(len(top)), [" - ".join(short(part, 20) for part in name.split("|")) for name in top["name"]], fontsize=5
        )
        axes.set_xlabel("share of relevance, %")
        axes.set_title(title, loc="left", fontsize=8)
        return
    matrix = np.zeros((len(rows), len(rows)))
    for name, value in zip(edges["name"].head(N_EDGES), edges["mean"].head(N_EDGES)):
        i, j = (rows[part] for part in name.split("|"))
        matrix[i, j] = matrix[j, i] = value * 1000
    used = known & (matrix.any(axis=0))
    low, high = (float(v) for v in (matrix[matrix > 0].min(), matrix.max()))
    plotting.plot_connectome(
        matrix[np.ix_(used, used)],
        atlas.coordinates[used],
        node_size=6,
        node_color="black",
        edge_cmap="viridis_r",
        edge_vmin=low,
        edge_vmax=high,
        display_mode="xz",
        axes=axes,
        annotate=False,
        edge_kwargs={"linewidth": 0.9},
        colorbar=False,
    )
    _scale(bar, low, high, "share of relevance, per mille")
    axes.set_title(title, loc="left", fontsize=8)


def run(*, maps: Path, trust: Path, atlas: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """Regions of each domain and the strongest edges, for the method that stands best."""
    table, judged, regions = read_tsv(maps), read_tsv(trust), load_atlas(atlas)
    method = best_method(table, judged, "fmri")
    if method is None:
        return nothing(out, f"{task_name}: no fMRI in this study", options)
    own = table[(table["method"] == method) & (table["modality"] == "fmri")]
    figure, panels, bars = _panels(options)
    for panel, bar, domain in zip(panels, bars, DOMAINS):
        part = own[(own["domain"] == domain) & (own["kind"] == "roi")]
        if part.empty:
            say(panel, f"no {domain} domain in the model")
            continue
        title = f"{domain.capitalize()}: regions\n{standing(judged, method, 'fmri', domain, 'roi')}"
        _regions(panel, bar, part.set_index("name")["mean"], regions, title)
    edges = own[own["kind"] == "edge"].sort_values("mean", ascending=False, kind="stable")
    if edges.empty:
        say(panels[3], "no spatial domain in the model")
    else:
        standing_text = standing(judged, method, "fmri", "spatial", "edge")
        _edges(panels[3], bars[3], edges, regions, f"Spatial: {min(N_EDGES, len(edges))} strongest edges\n{standing_text}")
    rows = pd.concat([own[own["kind"] == "roi"], edges])[list(COLUMNS)]
    caption = (
        f"{task_name}: model-relevant regions and connections by {method.replace('_', ' ')}, {int(own['n'].max())} "
        "explained test subjects "
        "over folds and seeds. Region values are shares of relevance (contributions over time added with their signs) times "
        "the number of regions (1 = even). Relevance to the model is not causation; each panel's title has the verdict on the "
        "method."
    )
    save(figure, out, rows, COLUMNS, caption, options)
    return None
