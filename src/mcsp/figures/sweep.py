"""Variants of a study beside the whole model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mcsp.figures.style import GREY, OURS, PALETTE, height_of, new_figure, save, short
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "task": "Task",
    "kind": "What is varied",
    "variant": "To what",
    "scope": "inductive, or transductive: pre-training saw test subjects' recordings",
    "n": "Test subjects of all folds that the variant can speak of",
    "auroc": "AUROC over pooled test subjects",
    "auroc_low": "Lower end of the bootstrap interval over subjects",
    "auroc_high": "Upper end of the bootstrap interval over subjects",
    "p_holm": "DeLong's test against the whole model, Holm-corrected over the variants of the task",
}


def _panel(axes: Axes, rows: pd.DataFrame, order: list[tuple[str, str]]) -> None:
    whole = rows[rows["kind"] == "whole"].iloc[0]
    axes.axvspan(whole["auroc_low"], whole["auroc_high"], color=OURS, alpha=0.12, linewidth=0)
    axes.axvline(whole["auroc"], color=OURS, linewidth=1)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    for place, (kind, value) in enumerate(order):
        own = rows[(rows["kind"] == kind) & (rows["variant"].astype(str) == value)]
        if own.empty:
            continue
        row = own.iloc[0]
        colour = OURS if kind == "whole" else PALETTE[0]
        axes.plot([row["auroc_low"], row["auroc_high"]], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(row["auroc"], place, "D" if kind == "whole" else "o", color=colour, markersize=4)
        star = " *" if row["p_holm"] < 0.05 else ""
        axes.text(1.02, place, f"{row['auroc']:.2f}{star}", va="center", fontsize=7)
    axes.set_xlim(0.2, 1)
    axes.set_title(f"{short(rows['task'].iloc[0], 16)}\nn = {whole['n']}", fontsize=8)


def run(*, variants: Path, out: Path, options: FigureOptions) -> None:
    """AUROC of the whole model and of every variant, a panel per task."""
    rows = read_tsv(variants)
    tasks = list(dict.fromkeys(rows["task"]))
    order = list(dict.fromkeys(zip(rows["kind"], rows["variant"].astype(str))))
    figure, axes = new_figure(options, height_of(len(order), 4.7, 29), ncols=len(tasks), sharey=True, squeeze=False)
    for panel, task in zip(axes[0], tasks):
        _panel(panel, rows[rows["task"] == task], order)
    figure.supxlabel("AUROC (interval over subjects)", fontsize=8)
    marked = rows[rows["scope"] == "transductive"]
    seen = set(zip(marked["kind"], marked["variant"].astype(str)))
    names = ["whole model" if kind == "whole" else f"{kind}: {value}" for kind, value in order]
    labels = [f"{name} †" if pair in seen and "transductive" not in name else name for name, pair in zip(names, order)]
    axes[0][0].set_yticks(np.arange(len(order)), labels)
    axes[0][0].invert_yaxis()
    caption = (
        "The model with one thing changed at a time, on the same folds. Points: AUROC over pooled test subjects (mean "
        "probability over seeds); bars: bootstrap intervals over subjects; orange line and band: the whole model; dotted: "
        "chance. * differs from the whole model on the subjects that both predict (DeLong, Holm-corrected per task, p < "
        "0.05). Variants of one modality speak of the subjects that have it; n is in the table. Nothing was chosen by this "
        f"figure.{' Transductive and †: pre-training saw the recordings of test subjects.' if seen else ''}"
    )
    save(figure, out, rows[list(COLUMNS)].astype({"variant": str}), COLUMNS, caption, options)
