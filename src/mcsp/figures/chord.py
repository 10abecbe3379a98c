"""Model-relevant connections by network: a chord diagram, and the same numbers as a matrix."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Wedge
from matplotlib.path import Path as Line

from mcsp.atlas import Atlas, load_atlas
from mcsp.figures.style import new_figure, nothing, save, short
from mcsp.figures.verdict import best_method, standing
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "a": "Network",
    "b": "The same or another network",
    "edges": "Connections between regions of the two",
    "share": "Their share of relevance (sum over connections of the mean over subjects)",
    "relative": "Mean relevance of one of these connections over that of any: 1 is even",
    "n": "Subjects",
}
MOST = 14  # networks; the rest is one
OTHER = "others"
COLOURS = "viridis_r"
SPACE = 2.5  # degrees between networks


def by_network(edges: pd.DataFrame, atlas: Atlas) -> pd.DataFrame:
    """Edges ('a|b', mean) summed by pairs of networks: columns a, b, edges, share, relative."""
    networks = dict(zip(atlas.names, (str(name) for name in atlas.networks)))
    ends = edges["name"].str.split("|", expand=True)
    pairs = pd.DataFrame({"a": ends[0].map(networks), "b": ends[1].map(networks), "mean": edges["mean"].to_numpy()}).fillna(
        "n/a"
    )
    ends = pd.concat([pairs["a"], pairs["b"]])
    weight = pd.concat([pairs["mean"], pairs["mean"]]).groupby(ends).sum().sort_values(ascending=False, kind="stable")
    kept = set(weight.index if len(weight) <= MOST else weight.index[: MOST - 1])
    for column in "ab":
        pairs[column] = pairs[column].where(pairs[column].isin(kept), OTHER)
    pairs[["a", "b"]] = np.sort(pairs[["a", "b"]].to_numpy(str), axis=1)
    found = pairs.groupby(["a", "b"])["mean"].agg(edges="size", share="sum").reset_index()
    return found.assign(relative=found["share"] / found["edges"] * found["edges"].sum() / found["share"].sum())


def _matrix(rows: pd.DataFrame, names: list[str], column: str) -> np.ndarray:
    matrix = np.full((len(names), len(names)), np.nan)
    for row in rows.itertuples():
        i, j = names.index(row.a), names.index(row.b)
        matrix[i, j] = matrix[j, i] = getattr(row, column)
    return matrix


def _at(degrees: float, radius: float = 1.0) -> tuple[float, float]:
    return radius * np.cos(np.deg2rad(degrees)), radius * np.sin(np.deg2rad(degrees))


def _arc(start: float, end: float) -> list[tuple[float, float]]:
    return [_at(angle) for angle in np.linspace(start, end, max(2, int(abs(end - start)) + 2))]


def _ribbon(axes: Axes, first: tuple[float, float], second: tuple[float, float], colour, order: int) -> None:
    """A band from one piece of the circle to another (or to itself), in degrees."""
    one, two = _arc(*first), _arc(*second)
    points = [*one, (0, 0), *two, (0, 0), one[0]]
    codes = [
        Line.MOVETO,
        *[Line.LINETO] * (len(one) - 1),
        Line.CURVE3,
        Line.CURVE3,
        *[Line.LINETO] * (len(two) - 1),
        Line.CURVE3,
        Line.CURVE3,
    ]
    axes.add_patch(PathPatch(Line(points, codes), facecolor=colour, edgecolor="white", linewidth=0.3, zorder=order))


def _chord(axes: Axes, rows: pd.DataFrame, names: list[str], norm: mpl.colors.Normalize) -> None:
    share = np.nan_to_num(_matrix(rows, names, "share"))
    relative = _matrix(rows, names, "relative")
    sizes = share.sum(axis=1)
    scale = (360 - SPACE * len(names)) / sizes.sum()
    starts = 90 - np.concatenate([[0], np.cumsum(sizes * scale + SPACE)[:-1]])  # clockwise from the top
    pieces: dict[tuple[int, int], tuple[float, float]] = {}
    for i in range(len(names)):
        place = starts[i]
        for j in sorted(range(len(names)), key=lambda other, i=i: (i - other) % len(names)):
            pieces[i, j] = (place, place - share[i, j] * scale)
            place -= share[i, j] * scale
        axes.add_patch(Wedge((0, 0), 1.07, place, starts[i], width=0.05, facecolor="#444444", linewidth=0))
        middle = (place + starts[i]) / 2
        left = np.cos(np.deg2rad(middle)) < 0
        axes.text(*_at(middle, 1.11), short(names[i], 18), fontsize=6.5, rotation=middle + 180 * left, rotation_mode="anchor",
                  ha="right" if left else "left", va="center")  # fmt: skip
    drawn = sorted((relative[i, j], i, j) for i in range(len(names)) for j in range(i, len(names)) if share[i, j] > 0)
    for order, (value, i, j) in enumerate(drawn):  # strong ones above
        if i == j:
            start, end = pieces[i, i]
            _ribbon(axes, (start, (start + end) / 2), ((start + end) / 2, end), mpl.colormaps[COLOURS](norm(value)), order)
        else:
            _ribbon(axes, pieces[i, j], pieces[j, i], mpl.colormaps[COLOURS](norm(value)), order)
    axes.set_xlim(-1.95, 1.95)
    axes.set_ylim(-1.85, 1.9)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _squares(axes: Axes, rows: pd.DataFrame, names: list[str], norm: mpl.colors.Normalize) -> object:
    values = _matrix(rows, names, "relative")
    image = axes.imshow(values, cmap=COLOURS, norm=norm)
    labels = [short(name, 18) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=6)
    axes.set_yticks(range(len(names)), labels, fontsize=6)
    axes.tick_params(length=0)
    for i in range(len(names)):
        for j in range(len(names)):
            if len(names) <= 10 and not np.isnan(values[i, j]):
                shade = "white" if norm(values[i, j]) > 0.55 else "black"
                axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=5.5, color=shade)
    return image


def run(*, maps: Path, trust: Path, atlas: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """Relevance of the connections within and between networks, for the method that stands best."""
    table, judged, regions = read_tsv(maps), read_tsv(trust), load_atlas(atlas)
    method = best_method(table, judged, "fmri")
    edges = table[(table["method"] == method) & (table["kind"] == "edge")]
    if method is None or edges.empty:
        why = "no fMRI in this study" if method is None else "no spatial domain in the model, so no connections"
        return nothing(out, f"{task_name}: {why}", options)
    rows = by_network(edges, regions)
    names = sorted({*rows["a"], *rows["b"]} - {OTHER}) + [OTHER] * (OTHER in {*rows["a"], *rows["b"]})
    low, high = float(rows["relative"].min()), float(rows["relative"].max())
    norm = mpl.colors.Normalize(low, max(high, low + 0.1))
    figure, axes = new_figure(options, 0.55, ncols=2, width_ratios=[1.25, 1])
    _chord(axes[0], rows, names, norm)
    image = _squares(axes[1], rows, names, norm)
    figure.colorbar(image, ax=axes[1], shrink=0.6, label="relevance of a connection, 1 = even")
    axes[0].set_title(f"Connections by network\n{standing(judged, method, 'fmri', 'spatial', 'edge')}", loc="left", fontsize=8)
    n = int(edges["n"].max())
    caption = (
        f"{task_name}: model-relevant connections by {method.replace('_', ' ')}, {n} explained test subjects over folds and "
        "seeds, summed by network. Left: width is the share of relevance of all connections between two networks (large "
        "networks have more of them), colour is the mean relevance of one connection over that of any (1 = even), as in the "
        "matrix on the right. Relevance to the model is not causation; the title has the verdict on the method, its "
        "reasons are in the table of trust."
    )
    save(figure, out, rows.assign(n=n)[list(COLUMNS)], COLUMNS, caption, options)
    return None
