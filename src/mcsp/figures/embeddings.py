"""Test subjects in the encoders' space, before and after pre-training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.decomposition import PCA

from mcsp.figures.people import groups, sites
from mcsp.figures.style import GREY, PALETTE, new_figure, nothing, save, short
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "uid": "Subject",
    "panel": "fmri, eeg, or both: two modalities in one plane",
    "modality": "Modality of the recording",
    "stage": "untrained or pretrained encoder",
    "x": "First principal component",
    "y": "Second principal component",
    "label": "Labels",
    "site": "Site, with its dataset where there are several",
}
NAMES = {"fmri": "fMRI", "eeg": "EEG"}


def _values(own: pd.DataFrame) -> tuple[pd.Index, np.ndarray]:
    """(uids, embeddings (N, domains * dim)) of one modality and stage, all domains side by side."""
    wide = own.pivot(index="uid", columns="domain", values="embedding").sort_index()
    return wide.index, np.array([np.concatenate(list(row)) for row in wide.to_numpy()])


def _plane(values: np.ndarray) -> np.ndarray:
    """Rows of `values` in the plane of their two first principal components, whose signs are fixed: the largest is positive."""
    plane = PCA(2, svd_solver="full").fit_transform(values)
    return plane * np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])


def planes(table: pd.DataFrame) -> pd.DataFrame:
    """Each modality and stage in its own plane, and both modalities in one ('both'), where there are three subjects or more."""
    parts = []
    for stage, at_stage in table.groupby("stage"):
        known = {modality: _values(own) for modality, own in at_stage.groupby("modality") if own["uid"].nunique() > 2}
        for modality, (uids, values) in known.items():
            x, y = _plane(values).T
            parts.append(pd.DataFrame({"uid": uids, "x": x, "y": y, "of": modality, "panel": modality, "stage": stage}))
        if len(known) == 2:
            x, y = _plane(np.concatenate([values for _, values in known.values()])).T
            of = np.concatenate([np.full(len(uids), modality) for modality, (uids, _) in known.items()])
            uids = np.concatenate([uids for uids, _ in known.values()])
            parts.append(pd.DataFrame({"uid": uids, "x": x, "y": y, "of": of, "panel": "both", "stage": stage}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _dots(axes: Axes, own: pd.DataFrame, colour_by: str, values: list[str]) -> None:
    for i, value in enumerate(values):
        dots = own[own[colour_by] == value]
        marker = "os^vDP*X"[(i + i // 8) % 8]  # the ninth has the first one's colour, but not its shape
        axes.scatter(
            dots["x"], dots["y"], s=12, marker=marker, color=PALETTE[i % 8], label=value, linewidths=0.25, edgecolors="#444444"
        )
    axes.set_xticks([])
    axes.set_yticks([])


def _pairs(axes: Axes, own: pd.DataFrame) -> None:
    """Lines between the two recordings of a subject."""
    for _, pair in own.groupby("uid"):
        if len(pair) == 2:
            axes.plot(pair["x"], pair["y"], color=GREY, linewidth=0.4, alpha=0.6, zorder=0)


def run(*, embeddings: Path, cohort: Path, out: Path, options: FigureOptions) -> None:
    """Fold 0's test subjects by label, site and modality; folds have encoders of their own and can't share a plane."""
    table = read_table(embeddings)
    people = read_table(cohort)
    people = people.assign(label=groups(people).astype(str), place=sites(people)).set_index("uid")
    table = table[table["fold"] == table["fold"].min()]
    rows = planes(table)
    if rows.empty:
        return nothing(out, "too few test subjects in the first fold to draw their embeddings", options)
    rows["label"], rows["site"] = rows["uid"].map(people["label"]), rows["uid"].map(people["place"])
    rows["modality"] = rows["of"].map(NAMES)
    lines = [name for name in ("fmri", "eeg", "both") if name in set(rows["panel"])]
    kinds = {name: sorted(rows[name].unique(), key=str) for name in ("label", "site", "modality")}
    columns = {name: 3 if max(map(len, kinds[name])) <= 18 else 2 for name in ("label", "site")}
    n_rows = max(-(-len(kinds[name]) // columns[name]) for name in columns)
    figure, axes = new_figure(options, 0.24 * len(lines) + 0.05 + 0.02 * n_rows, nrows=len(lines), ncols=4, squeeze=False)
    for line, panel in zip(axes, lines):
        first = ["modality" if panel == "both" else "label"] * 2
        for place, (colour_by, stage) in enumerate(zip([*first, "site", "site"], ["untrained", "pretrained"] * 2)):
            own = rows[(rows["panel"] == panel) & (rows["stage"] == stage)]
            if colour_by == "modality":
                _pairs(line[place], own)
            _dots(line[place], own, colour_by, kinds[colour_by])
            when = "before" if stage == "untrained" else "after"
            line[place].set_title(f"{NAMES.get(panel, 'Both')}, {when}, by {colour_by}", loc="left", fontsize=7)
        line[0].set_ylabel("component 2")
    for panel in axes[-1]:
        panel.set_xlabel("component 1")
    if lines[-1] == "both":
        axes[-1][0].legend(loc="best", handletextpad=0.1, borderpad=0.1)
    for place, column, name in (("outside lower left", 0, "label"), ("outside lower right", 2, "site")):
        handles, names = axes[0][column].get_legend_handles_labels()
        names = [short(value, 30) for value in names]
        figure.legend(handles, names, loc=place, ncol=columns[name], columnspacing=1, handletextpad=0.2, fontsize=6)
    caption = (
        f"{rows['uid'].nunique()} test subjects of fold 0 in the plane of the two first principal components of their "
        f"embeddings (the {table['domain'].nunique()} domain(s) side by side), before and after pre-training, by label, by "
        "site and, both modalities in one plane, by modality; grey lines join the two recordings of a subject. Clusters by "
        "site are a warning. Components of different panels can't be compared. No test is made here."
    )
    save(figure, out, rows[list(COLUMNS)], COLUMNS, caption, options)
    return None
