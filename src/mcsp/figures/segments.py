"""Length of EEG segments: the model trained and tested with each, on the same folds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mcsp.figures.style import GREY, OURS, PALETTE, new_figure, nothing, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_json, read_tsv

COLUMNS = {
    "task": "Task",
    "samples": "Samples of a segment",
    "seconds": "Length of a segment, s",
    "whole": "Whether this is the study as it is",
    "n": "Test subjects of all folds",
    "auroc": "AUROC over pooled test subjects",
    "auroc_low": "Lower end of the bootstrap interval over subjects",
    "auroc_high": "Upper end of the bootstrap interval over subjects",
    "p_holm": "DeLong's test against the study's own length, Holm-corrected over the variants of the task",
}
KIND = "samples per segment"


def lengths(variants: pd.DataFrame, config: dict) -> pd.DataFrame:
    """The rows of the sweep that differ in segment length, and the whole model, by length; `config`: the whole model's."""
    own = variants[variants["kind"].isin([KIND, "whole"])].copy()
    whole = own["kind"] == "whole"
    own["samples"] = own["variant"].where(~whole, config["architecture"]["shapes"]["eeg/temporal"][-1]).astype(int)
    own["seconds"] = own["samples"] / config["data"]["eeg"]["sfreq"]
    return own.assign(whole=whole).sort_values(["task", "samples"])[list(COLUMNS)]


def run(*, variants: Path, model: Path, out: Path, options: FigureOptions) -> None:
    """AUROC over segment length, a line per task."""
    table, config = read_tsv(variants), read_json(model)
    if KIND not in set(table["kind"]) or "eeg/temporal" not in config["architecture"]["shapes"]:
        return nothing(out, "no other segment length was tried (sweep.segment_samples)", options)
    rows = lengths(table, config)
    tasks = list(dict.fromkeys(rows["task"]))
    figure, axes = new_figure(options, 0.4 + 0.022 * (len(tasks) // 2), column=True)
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
    for i, task in enumerate(tasks):
        own = rows[rows["task"] == task]
        x = own["samples"] * 1.03 ** (i - (len(tasks) - 1) / 2)  # beside each other
        colour, marker = PALETTE[i % 5], "os^vD"[i % 5]
        axes.plot(x, own["auroc"], "-", marker=marker, color=colour, markersize=4, label=f"{task}, n = {own['n'].max()}")
        axes.vlines(x, own["auroc_low"], own["auroc_high"], color=colour, linewidth=1)
        for at, row in zip(x, own.itertuples()):
            if row.p_holm < 0.05:
                axes.text(at, row.auroc_high + 0.01, "*", ha="center", fontsize=8)
    axes.axvline(rows.loc[rows["whole"], "samples"].iloc[0], color=OURS, linewidth=0.8, alpha=0.6, zorder=0)
    axes.set_xscale("log")
    ticks = rows.drop_duplicates("samples").sort_values("samples")
    axes.set_xticks(ticks["samples"], [f"{s} ({t:.2g} s)" for s, t in zip(ticks["samples"], ticks["seconds"])])
    axes.tick_params(axis="x", labelrotation=45)
    axes.minorticks_off()
    axes.set_ylim(0.2, 1.02)
    axes.set_xlabel("samples of a segment")
    axes.set_ylabel("AUROC")
    figure.legend(loc="outside lower center", ncol=min(2, len(tasks)))
    caption = (
        "The model with EEG segments of other lengths, as many segments as the same recording gives, trained and tested on "
        "the same folds. Points: AUROC over pooled test subjects; bars: bootstrap intervals over subjects; line in orange: "
        "the study's own length; dotted: chance. * differs from the study's own length (DeLong, Holm-corrected per task over "
        "all variants, p < 0.05). Nothing was chosen by this figure."
    )
    save(figure, out, rows, COLUMNS, caption, options)
    return None
