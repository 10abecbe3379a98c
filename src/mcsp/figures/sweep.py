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
SEARCHED = {
    "top5": "Retrieval: share of searches whose own subject was among five, all domains fused",
    "top5_low": "Lower end of its bootstrap interval over subjects",
    "top5_high": "Upper end",
    "searched": "Subjects among whom each was searched, mean over folds",
}
RETRIEVED = (
    "Retrieval: which EEG belongs to which fMRI, both ways, by the mean direction of all domains; * differs from the whole "
    "model (signs of subjects' differences, Holm-corrected); the table is retrieval.tsv beside sweep.tsv. "
)


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
    axes.set_xlabel("AUROC (interval\nover subjects)")


def _retrieval_panel(axes: Axes, rows: pd.DataFrame, order: list[tuple[str, str]]) -> None:
    """Share of searches that found their own subject among five, all domains fused."""
    whole = rows[rows["kind"] == "whole"].iloc[0]
    axes.axvspan(whole["top5_low"], whole["top5_high"], color=OURS, alpha=0.12, linewidth=0)
    axes.axvline(whole["top5"], color=OURS, linewidth=1)
    axes.axvline(whole["chance_top5"], color=GREY, linestyle=":", linewidth=1)
    for row in rows.to_dict("records"):
        place = order.index((row["kind"], str(row["variant"])))
        colour = OURS if row["kind"] == "whole" else PALETTE[0]
        axes.plot([row["top5_low"], row["top5_high"]], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(row["top5"], place, "D" if row["kind"] == "whole" else "o", color=colour, markersize=4)
        star = " *" if row["p_holm"] < 0.05 else ""
        axes.text(1.02, place, f"{row['top5']:.2f}{star}", va="center", fontsize=7, transform=axes.get_yaxis_transform())
    axes.set_xlim(0, min(1.0, 1.25 * float(rows["top5_high"].max())))
    axes.set_title(f"retrieval, n = {whole['n']},\namong {whole['searched']:.0f}", fontsize=8)
    axes.set_xlabel("found among\nfive (share)")


def run(*, variants: Path, variants_retrieval: Path, out: Path, options: FigureOptions) -> None:
    """AUROC of the whole model and of every variant, a panel per task; one more for retrieval across modalities."""
    rows = read_tsv(variants)
    found = read_tsv(variants_retrieval).query("domain == 'fused'")
    searched = "whole" in set(found["kind"])
    tasks = list(dict.fromkeys(rows["task"]))
    order = list(dict.fromkeys(zip(rows["kind"], rows["variant"].astype(str))))
    figure, axes = new_figure(options, height_of(len(order), 4.7, 29), ncols=len(tasks) + searched, sharey=True, squeeze=False)
    for panel, task in zip(axes[0], tasks):
        _panel(panel, rows[rows["task"] == task], order)
    if searched:
        _retrieval_panel(axes[0][-1], found, order)
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
        "0.05). Variants of one modality speak of the subjects that have it; n is in the table. "
        f"{RETRIEVED if searched else ''}Nothing was chosen by this figure."
        f"{' Transductive and †: pre-training saw the recordings of test subjects.' if seen else ''}"
    )
    source = rows[list(COLUMNS)].astype({"variant": str})
    if searched:
        source = source.merge(
            found[["kind", "variant", *SEARCHED]].astype({"variant": str}), on=["kind", "variant"], how="left"
        )
    save(figure, out, source, COLUMNS | (SEARCHED if searched else {}), caption, options)
