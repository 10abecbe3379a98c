"""Who was recorded where: subjects, sex, age and motion of each site, by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mcsp.figures.people import groups, sites
from mcsp.figures.style import GREY, PALETTE, height_of, new_figure, save, short
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "site": "Site (dataset: site)",
    "group": "Labels of the subjects; all of a site for counts of sex",
    "what": "subjects, sex, age (years) or mean_fd (mm)",
    "n": "Subjects of whom it is known; of sex: those of `group`",
    "low": "Lowest value",
    "q1": "Lower quartile",
    "median": "Median",
    "q3": "Upper quartile",
    "high": "Highest value",
}
VALUES = {"age": "age, years", "mean_fd": "mean FD, mm"}
LOOKS = {"F": ("#555555", "female"), "M": ("#BBBBBB", "male"), "unknown": ("white", "unknown")}
MARKERS = "os^vDP*X"


def summary(people: pd.DataFrame) -> pd.DataFrame:
    """Counts by site and group, sex by site, and quartiles of age and motion by site and group."""
    table = people.assign(group=groups(people), site=sites(people), sex=people["sex"].fillna("unknown"))
    parts = []
    for what, by in (("subjects", "group"), ("sex", "sex")):
        counts = table.groupby(["site", by], observed=True).size().rename("n").reset_index()
        parts.append(counts.rename(columns={by: "group"}).astype({"group": str}).assign(what=what))
    for what in VALUES:
        if table[what].isna().all():
            continue
        known = table.dropna(subset=[what]).groupby(["site", "group"], observed=True)[what]
        quarters = known.quantile([0, 0.25, 0.5, 0.75, 1]).unstack()
        quarters.columns = ["low", "q1", "median", "q3", "high"]
        parts.append(quarters.assign(n=known.size(), what=what).reset_index().astype({"group": str}))
    return pd.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))


def _bars(axes: Axes, rows: pd.DataFrame, places: dict[str, int], looks: dict[str, tuple[str, str]]) -> None:
    left = dict.fromkeys(places, 0)
    for name, (colour, label) in looks.items():
        own = rows[rows["group"] == name]
        if own.empty:
            continue
        at = [places[site] for site in own["site"]]
        edge = "black" if colour == "white" else "white"
        start = [left[site] for site in own["site"]]
        axes.barh(at, own["n"], left=start, height=0.7, color=colour, label=label, edgecolor=edge, linewidth=0.4)
        left |= {site: left[site] + n for site, n in zip(own["site"], own["n"])}
    axes.set_xlabel("subjects")
    axes.set_xlim(0, 1.22 * max(left.values()))
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=4)
    for site, place in places.items():
        axes.text(left[site], place, f" {left[site]}", va="center", fontsize=6)


def _quartiles(axes: Axes, rows: pd.DataFrame, places: dict[str, int], names: list[str]) -> None:
    for i, name in enumerate(names):
        own = rows[rows["group"] == name]
        at = np.array([places[site] for site in own["site"]]) + 0.8 * ((i + 0.5) / len(names) - 0.5)
        axes.hlines(at, own["low"], own["high"], color=PALETTE[i % 8], linewidth=0.5)
        axes.hlines(at, own["q1"], own["q3"], color=PALETTE[i % 8], linewidth=1.8)
        axes.plot(own["median"], at, MARKERS[i % 8], color=PALETTE[i % 8], markersize=2.6, markeredgewidth=0)
    axes.set_xlim(left=0)


def run(*, cohort: Path, out: Path, options: FigureOptions) -> None:
    """A row per site; panels are subjects, sex, age and motion."""
    people = read_table(cohort)
    rows, names = summary(people), list(groups(people).cat.categories)
    places = {site: i for i, site in enumerate(sorted(rows["site"].unique()))}
    height = height_of(len(places), max(5.0, 1.7 * len(names)), 30 + 4 * (len(names) // 5))
    figure, axes = new_figure(options, height, ncols=4, sharey=True, width_ratios=[1, 0.8, 1.2, 1.2])
    _bars(axes[0], rows[rows["what"] == "subjects"], places, {name: (PALETTE[i % 8], name) for i, name in enumerate(names)})
    _bars(axes[1], rows[rows["what"] == "sex"], places, LOOKS)
    for panel, (what, label) in zip(axes[2:], VALUES.items()):
        own = rows[rows["what"] == what]
        _quartiles(panel, own, places, names)
        panel.set_xlabel(label)
        if own.empty:
            panel.text(0.5, 0.5, "not known", transform=panel.transAxes, ha="center", color=GREY)
    axes[0].set_yticks(range(len(places)), [short(site, 30) for site in places])
    axes[0].set_ylim(len(places) - 0.4, -0.6)
    for panel, title in zip(axes, ("Groups", "Sex", "Age", "Motion")):
        panel.set_title(title, loc="left", fontsize=8)
    handles = [axes[0].get_legend_handles_labels(), axes[1].get_legend_handles_labels()]
    figure.legend(*(a + b for a, b in zip(*handles)), loc="outside lower center", ncol=5, columnspacing=1.2)
    known = {what: int(rows.loc[rows["what"] == what, "n"].sum()) for what in VALUES}
    caption = (
        f"{len(people)} subjects of {len(places)} site(s): number by group and by sex, age (known of {known['age']}) and mean "
        f"framewise displacement (FD) of the runs used (known of {known['mean_fd']}). Thin lines: range; thick lines: "
        "quartiles; marks: median of a site's group. No test is made here: tests between groups are in the table of "
        "characteristics."
    )
    save(figure, out, rows, COLUMNS, caption, options)
