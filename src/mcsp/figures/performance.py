"""MCSP beside its rivals, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mcsp.figures.style import GREY, OURS, PALETTE, height_of, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "task": "Task",
    "method": "Method",
    "metric": "Metric",
    "n": "Test subjects over all folds",
    "n_case": "Cases among them",
    "value": "Over pooled test subjects",
    "low": "Lower end of the bootstrap interval over subjects",
    "high": "Upper end of the bootstrap interval over subjects",
}
NAMES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}


def _label(rows: pd.DataFrame, task: str, method: str) -> str:
    """A method's name, with its subjects where it can't speak of all."""
    own = rows[rows["task"] == task].drop_duplicates("method").set_index("method")["n"]
    return f"{method}, n = {own[method]}" if method in own and own[method] < own.max() else method


def run(*, metrics: Sequence[Path], out: Path, options: FigureOptions) -> None:
    """AUROC and balanced accuracy of every method and task, chance as a line."""
    rows = pd.concat([read_tsv(path) for path in metrics], ignore_index=True)
    rows = rows.loc[rows["metric"].isin(NAMES), list(COLUMNS)]
    tasks, methods = list(dict.fromkeys(rows["task"])), list(dict.fromkeys(rows["method"]))
    methods.sort(key=lambda name: (not name.startswith("mcsp"), name))
    colours = {m: OURS if m.startswith("mcsp") else PALETTE[i % 5] for i, m in enumerate(methods)}
    height = height_of(len(tasks) * (len(methods) + 1), 6.3, 21.6)
    small = len(tasks) * (len(methods) + 1) > 45  # letters that fit into the rows of a page
    figure, axes = new_figure(options, height, ncols=2, sharey=True)
    for panel, metric in zip(axes, NAMES):
        panel.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
        for i, task in enumerate(tasks):
            for j, method in enumerate(methods):
                own = rows[(rows["task"] == task) & (rows["method"] == method) & (rows["metric"] == metric)]
                if own.empty:
                    continue
                row, place = own.iloc[0], i * (len(methods) + 1) + j
                marker = "D" if method.startswith("mcsp") else "os^v"[j % 4]
                panel.plot(
                    [row["low"], row["high"]],
                    [place, place],
                    color=colours[method],
                    linewidth=1.4 if small else 2,
                    solid_capstyle="round",
                )
                panel.plot(row["value"], place, marker, color=colours[method], markersize=3 if small else 5)
                panel.text(1.02, place, f"{row['value']:.2f}", va="center", fontsize=5.5 if small else 7)
        panel.set_xlim(0, 1)
        panel.set_xlabel(f"{NAMES[metric]} (interval over subjects)")
    ticks = [i * (len(methods) + 1) + j for i in range(len(tasks)) for j in range(len(methods))]
    axes[0].set_yticks(ticks, [_label(rows, task, method) for task in tasks for method in methods])
    axes[0].tick_params(axis="y", labelsize=5.5 if small else 7)
    axes[0].invert_yaxis()
    for i, task in enumerate(tasks):
        own = rows[rows["task"] == task].sort_values("n").iloc[-1]
        label = f"{task}: n = {own['n']} ({own['n_case']} cases)"
        axes[0].text(0.0, i * (len(methods) + 1) - 0.75, label, fontweight="bold", fontsize=6 if small else 8, va="center")
    axes[0].set_ylim(len(tasks) * (len(methods) + 1) - 1.4, -1.3)
    caption = (
        "Test subjects of all folds, each predicted by the models of the fold that tests it. Points: pooled value; bars: "
        "bootstrap interval over subjects; dotted: chance. Rivals: phenotype = age, sex, site and mean framewise "
        "displacement; linear = logistic "
        "regression on functional connectivity and band power; ComBat = after harmonising these over sites, fitted on training "
        "subjects; other rivals by their model and what it reads (see Method)."
    )
    save(figure, out, rows, COLUMNS, caption, options)
