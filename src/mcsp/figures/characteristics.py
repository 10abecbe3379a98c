"""The table that a paper begins with: each group's age, sex, motion and modalities, as a figure."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, kruskal

from mcsp.figures.people import NONE, groups, sites
from mcsp.figures.style import MM, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "characteristic": "Characteristic",
    "group": "Labels of the subjects; all: everybody",
    "value": "As printed: number, number and share of the group, or mean ± standard deviation [lowest, highest]",
    "n": "Subjects of whom it is known",
    "p": "Kruskal-Wallis test of numbers, chi-squared test of shares, over groups with a label; not corrected; n/a: no test",
}
NUMBERS = {"age": ("Age, years", 1), "mean_fd": ("Mean framewise displacement, mm", 2)}  # title and decimals
SHARES = {"Female": ("sex", "F"), "fMRI": ("has_fmri", True), "EEG": ("has_eeg", True)}
LINE = 4.2  # mm


def _spread(values: pd.Series, digits: int) -> str:
    if values.empty:
        return "unknown"
    sd = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{sd}\n[{values.min():.{digits}f}, {values.max():.{digits}f}]"


def _p_numbers(parts: list[np.ndarray]) -> float:
    parts = [part for part in parts if len(part)]
    varied = len(parts) > 1 and len(np.unique(np.concatenate(parts))) > 1
    return float(kruskal(*parts).pvalue) if varied else float("nan")


def _p_shares(counts: np.ndarray) -> float:
    counts = counts[counts.sum(axis=1) > 0]
    varied = len(counts) > 1 and (counts.sum(axis=0) > 0).all()
    return float(chi2_contingency(counts, correction=False).pvalue) if varied else float("nan")


def table(people: pd.DataFrame) -> pd.DataFrame:
    """Long table of `COLUMNS`; groups in the order of display after 'all'."""
    group = groups(people)
    own = {"all": people, **{name: people[group == name] for name in group.cat.categories}}
    tested = [part for name, part in own.items() if name not in ("all", NONE)]
    rows = [("Subjects", name, str(len(part)), len(part), np.nan) for name, part in own.items()]
    rows += [("Sites", name, str(sites(part).nunique()), len(part), np.nan) for name, part in own.items()]
    for column, (title, digits) in NUMBERS.items():
        known = {name: part[column].dropna().astype(float) for name, part in own.items()}
        p = _p_numbers([part[column].dropna().to_numpy(float) for part in tested])
        rows += [(title, name, _spread(values, digits), len(values), p) for name, values in known.items()]
    for title, (column, value) in SHARES.items():
        known = {name: part[column].dropna() for name, part in own.items()}
        counts = np.array([[(part[column].dropna() == value).sum(), (part[column].dropna() != value).sum()] for part in tested])
        p = _p_shares(counts) if len(tested) else float("nan")
        for name, values in known.items():
            n = int((values == value).sum())
            rows.append((title, name, f"{n} ({n / len(values):.0%})" if len(values) else "unknown", len(values), p))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def run(*, cohort: Path, out: Path, options: FigureOptions) -> None:
    """A row per characteristic, a column per group, and p."""
    rows = table(read_table(cohort))
    names, lines = list(dict.fromkeys(rows["group"])), list(dict.fromkeys(rows["characteristic"]))
    figure, axes = new_figure(options, 1.0)
    figure.set_layout_engine("none")
    axes.set_axis_off()
    width = options.width_mm - 8.0
    first, last = 0.2 * width, 0.08 * width
    each = (width - first - last) / len(names)
    heads = [textwrap.wrap(name, max(6, int(each / 1.6))) for name in names]
    y = -2 - LINE * 0.8 * max(map(len, heads))
    axes.plot([0, width], [-0.5, -0.5], color="black", linewidth=1.0)
    for i, head in enumerate(heads):
        for k, part in enumerate(head):
            axes.text(first + i * each, -1.5 - 0.8 * LINE * k, part, fontsize=7, fontweight="bold", va="top")
    axes.text(width - last, -1.5, "p", fontsize=7, fontweight="bold", fontstyle="italic", va="top")
    axes.plot([0, width], [y, y], color="black", linewidth=0.6)
    for line in lines:
        own = rows[rows["characteristic"] == line].set_index("group")
        height = LINE * (2 if own["value"].str.contains("\n").any() else 1)
        title = textwrap.wrap(line, int(first / 1.45))
        for k, part in enumerate(title):
            axes.text(0, y - 1 - 0.8 * LINE * k, part, fontsize=7, va="top")
        for i, name in enumerate(names):
            for k, part in enumerate(own.loc[name, "value"].split("\n")):
                axes.text(first + i * each, y - 1 - 0.8 * LINE * k, part, fontsize=7 if each > 20 else 6, va="top")
        p = own["p"].iloc[0]
        if not np.isnan(p):
            axes.text(width - last, y - 1, "<0.001" if p < 0.001 else f"{p:.3f}", fontsize=7, va="top")
        y -= max(height, 0.8 * LINE * len(title) + 1)
    axes.plot([0, width], [y - 0.5, y - 0.5], color="black", linewidth=1.0)
    figure.set_figheight((3 - y) * MM)
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(-2, options.width_mm - 2)
    axes.set_ylim(y - 2, 1)
    caption = (
        f"Characteristics of {rows.iloc[0]['n']} subjects by group. Numbers: mean ± standard deviation [lowest, highest] of "
        "those of whom it is known; shares are of those, too. p: Kruskal-Wallis test (numbers) or chi-squared test (shares) "
        "between groups with a label, not corrected: it warns of what a classifier could read instead of the disorder."
    )
    save(figure, out, rows.assign(value=rows["value"].str.replace("\n", " ")), COLUMNS, caption, options)
