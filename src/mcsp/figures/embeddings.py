"""Test subjects in the encoders' space, before and after pre-training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from mcsp.figures.style import PALETTE, new_figure, nothing, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "uid": "Subject",
    "modality": "Modality",
    "stage": "untrained or pretrained encoder",
    "x": "First principal component",
    "y": "Second principal component",
    "label": "Labels",
    "site": "Dataset and site",
}


def _plane(own: pd.DataFrame) -> pd.DataFrame:
    """Subjects of one modality and stage in the plane of their two first components, all domains side by side."""
    wide = own.pivot(index="uid", columns="domain", values="embedding").sort_index()
    values = np.array([np.concatenate(list(row)) for row in wide.to_numpy()])
    plane = PCA(2, svd_solver="full").fit_transform(values)
    return pd.DataFrame({"uid": wide.index, "x": plane[:, 0], "y": plane[:, 1]})


def run(*, embeddings: Path, cohort: Path, out: Path, options: FigureOptions) -> None:
    """Fold 0's test subjects by label and by site; folds have encoders of their own and can't share a plane."""
    table = read_table(embeddings)
    people = read_table(cohort).set_index("uid")
    table = table[table["fold"] == table["fold"].min()]
    parts = []
    for (modality, stage), own in table.groupby(["modality", "stage"]):
        if own["uid"].nunique() > 2:
            parts.append(_plane(own).assign(modality=modality, stage=stage))
    if not parts:
        return nothing(out, "too few test subjects in the first fold to draw their embeddings", options)
    rows = pd.concat(parts, ignore_index=True)
    rows["label"] = rows["uid"].map(people["labels"]).replace("", "no label").str.replace(";", " + ")
    rows["site"] = rows["uid"].map(people["dataset"] + "/" + people["site"])
    modalities = [m for m in ("fmri", "eeg") if m in set(rows["modality"])]
    figure, axes = new_figure(options, 0.27 * len(modalities) + 0.06, nrows=len(modalities), ncols=4, squeeze=False)
    for line, modality in zip(axes, modalities):
        for column, (stage, colour_by) in enumerate([(s, c) for c in ("label", "site") for s in ("untrained", "pretrained")]):
            own = rows[(rows["modality"] == modality) & (rows["stage"] == stage)]
            for i, value in enumerate(sorted(rows[colour_by].unique())):
                dots = own[own[colour_by] == value]
                marker = "os^vDP*X"[(i + i // 8) % 8]  # the ninth has the first one's colour, but not its shape
                line[column].scatter(dots["x"], dots["y"], s=12, marker=marker, color=PALETTE[i % 8], label=value, linewidths=0)
            name = {"fmri": "fMRI", "eeg": "EEG"}[modality]
            line[column].set_title(
                f"{name}, {'before' if stage == 'untrained' else 'after'}, by {colour_by}", loc="left", fontsize=8
            )
            line[column].set_xticks([])
            line[column].set_yticks([])
            line[column].set_xlabel("component 1")
        line[0].set_ylabel("component 2")
    for place, column in (("outside lower left", 0), ("outside lower right", 2)):
        handles, labels = max((line[column].get_legend_handles_labels() for line in axes), key=lambda pair: len(pair[1]))
        figure.legend(handles, labels, loc=place, ncol=3, columnspacing=1, handletextpad=0.2)
    caption = (
        f"{rows['uid'].nunique()} test subjects of fold 0 in the plane of the two first principal components of "
        "their embeddings (the three "
        "domains side by side), before and after pre-training, by label and by site. Clusters by site are a "
        "warning. Components of "
        "different panels can't be compared."
    )
    save(figure, out, rows[list(COLUMNS)], COLUMNS, caption, options)
    return None
