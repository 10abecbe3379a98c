"""Methods that learnt labels which say nothing: at chance, or not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mcsp.figures.style import GREY, OURS, PALETTE, height_of, new_figure, save
from mcsp.options.controls import RANDOM_TASK
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "control": "Control",
    "task": "Task",
    "method": "Method",
    "n": "Test subjects, over all folds",
    "n_runs": "Folds times draws",
    "auroc": "Mean AUROC over runs, pairs of one site where labels were shuffled within sites",
    "low": "Lower end of its t interval over runs",
    "high": "Upper end of its t interval over runs",
    "verdict": "passed or FAILED, after Holm's correction over all rows",
}


def _groups(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of each panel's block: a control and a task."""
    parts = rows.groupby(["control", "task"], sort=False)
    names = {(control, task): control if task == RANDOM_TASK else f"{control}, {task}" for (control, task), _ in parts}
    return [(f"{names[key]}, n = {own['n'].max()}", own) for key, own in parts]


def run(*, controls: Path, out: Path, options: FigureOptions) -> None:
    """A line per control, task and method, with chance as a line."""
    rows = read_tsv(controls)
    groups = _groups(rows)
    n_lines = len(rows) + 1.5 * len(groups)
    figure, axes = new_figure(options, height_of(n_lines, 4.0, 18.0))
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    place, ticks, labels = 0.0, [], []
    for title, own in groups:
        axes.text(0.01, place, title, fontweight="bold", fontsize=7 if n_lines < 60 else 6, va="center")
        for row in own.itertuples():
            place += 1
            failed = row.verdict.startswith("FAILED")
            colour = OURS if failed else PALETTE[0]
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(row.auroc, place, "X" if failed else "o", color=colour, markersize=4)
            if failed:
                axes.text(1.01, place, "FAILED", fontsize=6, va="center")
            ticks.append(place)
            labels.append(row.method)
        place += 1.5
    axes.set_yticks(ticks, labels, fontsize=7 if n_lines < 60 else 5.5)
    axes.set_ylim(place - 0.5, -1)
    axes.set_xlim(0, 1)
    axes.set_xlabel("AUROC (t interval over folds and draws)")
    failed = int(rows["verdict"].str.startswith("FAILED").sum())
    caption = (
        "Methods that learnt labels which say nothing. Permuted: training and validation labels shuffled within dataset and "
        "site, true test labels; cases and controls of one site are compared. Random label: a coin tossed for each subject. "
        "Points: mean AUROC over folds and draws, each with labels of its own; bars: t intervals; dotted: chance. "
        f"{failed} of {len(rows)} failed (crosses), after Holm's correction over all of them. Pre-training reads no labels, so "
        "the encoders are the study's own."
    )
    save(figure, out, rows[list(COLUMNS)], COLUMNS, caption, options)
