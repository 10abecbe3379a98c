"""Do MCSP's probabilities mean what they say? Reliability before and after the temperature, and all methods' error."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from mcsp.figures.style import GREY, OURS, PALETTE, height_of, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "panel": "reliability: a bin of the first panel; n: a bar of the second; error: a line of the third",
    "method": "Method",
    "state": "as it is, or after scaling by the fold's temperature",
    "x": "Mean probability of the bin; calibration error of the method",
    "y": "Share of cases of the bin; n/a elsewhere",
    "low": "Lower end of the interval (of the share: Wilson; of the error: bootstrap over subjects)",
    "high": "Upper end of the interval",
    "n": "Test subjects of the bin or of the method",
    "expected": "Error of a perfectly calibrated method with these subjects; n/a elsewhere",
}
LOOKS = {"as it is": (OURS, "D", "-"), "temperature": (PALETTE[0], "o", "--")}


def _diagram(axes: Axes, points: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=0.8)
    for state, own in points.groupby("state", sort=False):
        colour, marker, line = LOOKS[state]
        axes.plot(own["mean_p"], own["share"], line, marker=marker, markersize=3.5, color=colour, label=state)
        axes.vlines(own["mean_p"], own["low"], own["high"], color=colour, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("mean probability of the bin")
    axes.set_ylabel("share of cases")


def _counts(axes: Axes, points: pd.DataFrame) -> None:
    for i, (state, own) in enumerate(points.groupby("state", sort=False)):
        axes.bar(own["bin_low"] + 0.03 + 0.045 * i, own["n"], 0.04, color=LOOKS[state][0], label=state)
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability, in tenths")
    axes.set_ylabel("test subjects")


def _errors(axes: Axes, rows: pd.DataFrame) -> None:
    labels = [f"{r.method}, {r.state}" if r.method.startswith("mcsp") else r.method for r in rows.itertuples()]
    for place, row in enumerate(rows.itertuples()):
        ours = row.method.startswith("mcsp")
        colour, marker, _ = LOOKS[row.state] if ours else (GREY, "s", "-")
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(row.value, place, marker, color=colour, markersize=4)
        axes.plot(row.expected, place, "|", color="black", markersize=8)
    axes.set_yticks(range(len(rows)), labels)
    axes.yaxis.tick_right()
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("calibration error")


def run(*, calibration: Path, reliability: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """Three panels from a task's tables of calibration and reliability."""
    points, scores = read_tsv(reliability), read_tsv(calibration)
    points = points[points["method"].str.startswith("mcsp")]
    rows = scores[(scores["metric"] == "calibration_error") & (scores["state"] != "change")]
    rows = rows.assign(rival=~rows["method"].str.startswith("mcsp")).sort_values("rival", kind="stable")
    figure, axes = new_figure(options, max(0.38, height_of(len(rows), 3.3, 32)), ncols=3)
    _diagram(axes[0], points)
    _counts(axes[1], points)
    _errors(axes[2], rows)
    for panel, title in zip(axes, ("Reliability of MCSP", "n of each bin", "All methods")):
        panel.set_title(title, loc="left", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=2, title="MCSP")
    bins = points.rename(columns={"mean_p": "x", "share": "y"})
    lines = rows.rename(columns={"value": "x"})
    source = [bins.assign(panel="reliability"), lines.assign(panel="error")]
    first = rows.iloc[0]
    caption = (
        f"{task_name}: {first['n']} test subjects ({first['n_case']} cases) pooled over folds. Left: share of cases among "
        "subjects of like probability, with Wilson intervals; dotted: perfect calibration. Middle: subjects of each bin. "
        "Right: calibration error (ten bins of equal width) with bootstrap intervals over subjects; black ticks: what a "
        "perfectly calibrated method would get with as many subjects. Temperatures were fitted on each fold's validation "
        "subjects, where there were enough; these had chosen the epoch too. They change neither ranks nor decisions at 0.5."
    )
    save(figure, out, pd.concat(source).reindex(columns=list(COLUMNS)), COLUMNS, caption, options)
