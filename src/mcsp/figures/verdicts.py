"""Which attribution methods found what was planted: a heat map of all verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mcsp.figures.style import height_of, new_figure, nothing, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "task": "Task",
    "method": "Attribution method",
    "modality": "Modality",
    "domain": "Domain",
    "unit": "What was planted: edges, regions, channels, ...",
    "score": "relevance mass or relevance rank",
    "value": "Mean score over subjects",
    "low": "Lower end of its bootstrap interval over subjects",
    "high": "Upper end of the interval",
    "chance": "Score expected by chance",
    "n": "Subjects",
    "verdict": "pass or fail: see Method",
}
NAMES = {"fmri": "fMRI", "eeg": "EEG"}
MOST = 4.0  # times chance, where the colours end


def _panel(axes: Axes, rows: pd.DataFrame, columns: list[str], lines: list[str]) -> object:
    shade = np.full((len(lines), len(columns)), np.nan)
    for row in rows.itertuples():
        i, j = lines.index(row.line), columns.index(row.column)
        ratio = row.value / row.chance if row.chance > 0 else np.nan
        shade[i, j] = np.log2(ratio) if ratio > 0 else -np.log2(MOST)
        dark = abs(shade[i, j]) > 0.7 * np.log2(MOST)
        passed = row.verdict == "pass"
        text = f"{'✓' if passed else '✗'} {ratio:.{1 if ratio < 10 else 0}f}"
        look = {"fontsize": 6.5 if len(columns) < 7 else 5.5, "fontweight": "bold" if passed else "normal"}
        axes.text(j, i, text, ha="center", va="center", color="white" if dark else "black", **look)
    axes.set_facecolor("#EEEEEE")
    span = np.log2(MOST)
    image = axes.imshow(np.ma.masked_invalid(shade), cmap="PuOr_r", vmin=-span, vmax=span, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor", fontsize=6)
    axes.set_yticks(range(len(lines)), lines, fontsize=6.5)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(lines) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return image


def run(*, all_verdicts: Sequence[Path], out: Path, options: FigureOptions) -> None:
    """Lines are tasks and methods, columns modality, domain and unit; the colour is the score over its chance level."""
    parts = [read_tsv(path).assign(task=path.parent.name) for path in all_verdicts]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    rows = rows[rows["score"].astype(str).str.startswith("relevance") & rows["verdict"].isin(["pass", "fail"])]
    if rows.empty:
        return nothing(out, "no verdicts: nothing was planted in these recordings, and every map is unproven", options)
    rows = rows.assign(
        line=rows["task"] + ", " + rows["method"].str.replace("_", " "),
        column=rows["modality"].map(NAMES) + " " + rows["domain"] + ", " + rows["unit"].astype(str).str.replace("_", " "),
    )
    lines = list(dict.fromkeys(rows["line"]))
    columns = sorted(rows["column"].unique(), key=lambda name: (not name.startswith("fMRI"), name))
    scores = list(dict.fromkeys(rows["score"]))
    figure, axes = new_figure(options, height_of(len(lines), 5.5, 34), ncols=len(scores), sharey=True, squeeze=False)
    for panel, score in zip(axes[0], scores):
        image = _panel(panel, rows[rows["score"] == score], columns, lines)
        panel.set_title(score.capitalize() + " over chance", loc="left", fontsize=8)
    bar = figure.colorbar(mpl.cm.ScalarMappable(image.norm, image.cmap), ax=list(axes[0]), shrink=0.8, pad=0.01)
    bar.set_ticks([-2, -1, 0, 1, 2], labels=["¼", "½", "1", "2", "≥ 4"])
    n_pass = int((rows["verdict"] == "pass").sum())
    caption = (
        f"Verdicts on attribution methods where effects were planted: {n_pass} of {len(rows)} pass (✓); "
        f"{int(rows['n'].min())} to {int(rows['n'].max())} explained test subjects each. Numbers and colours: mean score over "
        "its chance level. A method passes where its bootstrap interval over subjects lies above chance, and falls with "
        "reset weights (see Method). Grey: nothing was planted there."
    )
    figure.get_layout_engine().set(w_pad=0.02)
    save(figure, out, rows[list(COLUMNS)], COLUMNS, caption, options)
    return None
