"""Does MCSP know when it is wrong? Risk over coverage, and what each method's order is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mcsp.evaluation.uncertainty import orders_of, risk_coverage
from mcsp.figures.style import GREY, OURS, PALETTE, height_of, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "panel": "risk: a point of the first panel; gain: a line of the second",
    "method": "Method",
    "order": "What is left out first: the least certain by this measure; oracle: the wrong; random: anybody",
    "x": "Coverage: share of test subjects decided on; or the gain: area in random order less that in this one",
    "y": "Share of wrong decisions among them; n/a for gains",
    "low": "Lower end of the gain's bootstrap interval over subjects",
    "high": "Upper end of the gain's bootstrap interval over subjects",
    "n": "Test subjects, over all folds",
}
LOOKS = {
    "probability": (OURS, "-"),
    "entropy": (PALETTE[0], "--"),
    "mutual information": (PALETTE[2], "-."),
    "oracle": ("black", ":"),
    "random": (GREY, ":"),
}


def curves(subjects: pd.DataFrame) -> pd.DataFrame:
    """order, x (coverage), y (risk) of a task's uncertainty table, with oracle and random order."""
    p = subjects["p"].to_numpy()
    wrong = ((p >= 0.5) != (subjects["y"].to_numpy() == 1)).astype(float)
    orders = {**orders_of(p, subjects), "oracle": wrong, "random": np.zeros(len(p))}
    parts = []
    for order, value in orders.items():
        x, y = risk_coverage(wrong, value)
        parts.append(pd.DataFrame({"order": order, "x": x, "y": y}))
    return pd.concat(parts, ignore_index=True)


def _gains(axes: Axes, rows: pd.DataFrame) -> None:
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    for place, row in enumerate(rows.itertuples()):
        ours = row.method.startswith("mcsp")
        colour = LOOKS[row.order][0] if ours else GREY
        axes.plot([row.gain_low, row.gain_high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(row.gain, place, "D" if ours else "s", color=colour, markersize=4)
    labels = [f"{r.method}, by {r.order}" if r.method.startswith("mcsp") else r.method for r in rows.itertuples()]
    axes.set_yticks(range(len(rows)), labels)
    axes.yaxis.tick_right()
    axes.invert_yaxis()
    axes.set_xlabel("gain over random order")


def run(*, uncertainty: Path, selective: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """Two panels from a task's tables of uncertainty and selective prediction."""
    subjects, rows = read_tsv(uncertainty), read_tsv(selective)
    rows = rows.assign(rival=~rows["method"].str.startswith("mcsp")).sort_values("rival", kind="stable")
    lines = curves(subjects)
    figure, axes = new_figure(options, max(0.4, height_of(len(rows), 3.3, 29)), ncols=2)
    for order, own in lines.groupby("order", sort=False):
        colour, line = LOOKS[order]
        axes[0].plot(own["x"], own["y"], line, color=colour, label=order)
    axes[0].set_xlim(0, 1)
    axes[0].set_ylim(bottom=0)
    axes[0].set_xlabel("coverage: share of subjects decided on")
    axes[0].set_ylabel("share of wrong decisions")
    figure.legend(loc="outside lower center", ncol=len(LOOKS), title="left out first, by")
    _gains(axes[1], rows)
    for panel, title in zip(axes, ("Risk over coverage, MCSP", "What the order is worth, all methods")):
        panel.set_title(title, loc="left", fontsize=8)
    first = rows.iloc[0]
    gains = rows.drop(columns=["low", "high"]).rename(columns={"gain": "x", "gain_low": "low", "gain_high": "high"})
    source = pd.concat([lines.assign(panel="risk", method=first["method"], n=len(subjects)), gains.assign(panel="gain")])
    caption = (
        f"{task_name}: {first['n']} test subjects pooled over folds, {first['n_wrong']} of them decided wrongly by MCSP. "
        "Left: share of wrong decisions when only the most certain are decided on. Certainty: distance of the probability from "
        "0.5, or entropy and mutual information of passes with dropout; oracle: the wrong are left out first. Right: area "
        "under the curve in random order less that in the method's own, with bootstrap intervals over subjects; at 0 or "
        "below, the order is worth nothing. Rivals are ordered by their probability."
    )
    save(figure, out, source.reindex(columns=list(COLUMNS)), COLUMNS, caption, options)
