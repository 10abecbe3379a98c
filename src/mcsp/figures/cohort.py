"""Who is in the study, and who is not, and why."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from mcsp.figures.people import groups, short_reason
from mcsp.figures.style import PALETTE, new_figure, save, say
from mcsp.options.results import FigureOptions
from mcsp.store import read_table, read_tsv

COLUMNS = {"panel": "Panel of the figure", "group": "Row", "part": "Colour, or reason", "n": "Subjects"}


def _modality(row: pd.Series) -> str:
    return "fMRI + EEG" if row["has_fmri"] and row["has_eeg"] else "fMRI only" if row["has_fmri"] else "EEG only"


def _stacked(axes, table: pd.DataFrame, title: str) -> None:
    left = pd.Series(0, index=table.index)
    for colour, column in zip(PALETTE, table):
        axes.barh(table.index, table[column], left=left, color=colour, label=column, edgecolor="white", linewidth=0.4)
        left = left + table[column]
    axes.set_xlabel("subjects")
    axes.set_title(title, loc="left")
    axes.set_xlim(0, left.max() * 1.12)
    for i, total in enumerate(left):
        axes.text(total, i, f" {total}", va="center", fontsize=7)
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncol=2)


def _reasons(axes: Axes, reasons: pd.Series) -> None:
    """Bars with the reason written above each."""
    shown = reasons.head(8)
    axes.barh(range(len(shown)), shown.to_numpy(), color="#999999", height=0.3)
    for i, (reason, n) in enumerate(shown.items()):
        axes.text(0, i - 0.22, textwrap.shorten(f"({n}) {reason}", 42, placeholder=" …"), fontsize=6, va="bottom")
    axes.set_yticks([])
    axes.set_ylim(max(3.5, len(shown) - 0.5), -0.9)
    axes.set_xlabel(
        "recordings or subjects" + (f"\n({len(reasons) - 8} rarer reasons: see the table)" if len(reasons) > 8 else "")
    )
    axes.xaxis.get_major_locator().set_params(integer=True)


def run(*, cohort: Path, exclusions: Path, out: Path, options: FigureOptions) -> None:
    """Subjects by dataset and modality, labels by dataset, exclusions by reason."""
    people, left_out = read_table(cohort), read_tsv(exclusions)
    by_modality = pd.crosstab(people["dataset"], people.apply(_modality, axis=1))
    by_label = pd.crosstab(people["dataset"], groups(people))
    figure, axes = new_figure(options, 0.42, ncols=3, width_ratios=[1, 1, 1.1])
    _stacked(axes[0], by_modality, f"Modalities, n = {len(people)}")
    _stacked(axes[1], by_label, "Labels")
    reasons = (left_out["stage"] + ": " + left_out["reason"].map(short_reason)).value_counts()
    rows = [("modality", d, m, int(n)) for d, own in by_modality.iterrows() for m, n in own.items()]
    rows += [("label", d, m, int(n)) for d, own in by_label.iterrows() for m, n in own.items()]
    rows += [("exclusion", "all", reason, int(n)) for reason, n in reasons.items()]
    if len(reasons):
        _reasons(axes[2], reasons)
    else:
        say(axes[2], "nothing was excluded")
    axes[2].set_title("Exclusions", loc="left")
    caption = (
        f"Cohort of {len(people)} subjects (datasets: {people['dataset'].nunique()}, sites: "
        f"{(people['dataset'] + people['site']).nunique()}): modalities and labels, and {len(left_out)} exclusions of "
        "recordings or subjects with their reasons. A subject that loses one modality stays with the other."
    )
    save(figure, out, pd.DataFrame(rows, columns=list(COLUMNS)), COLUMNS, caption, options)
