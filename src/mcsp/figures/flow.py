"""Who was found, who was left out and why, who is left for each task: a flow diagram whose numbers add up."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mcsp.figures.people import short_reason, sides
from mcsp.figures.style import MM, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_table, read_tsv

COLUMNS = {
    "box": "Box of the diagram",
    "part": "Part of the box; all: its total",
    "n": "Subjects",
}
TITLES = {
    "ingest": "Files and labels",
    "preprocess": "Preprocessing",
    "fmri": "fMRI",
    "eeg": "EEG",
    "cohort": "Doubles, and the same person again",
}
STAY = "Lost one modality, and stay"
N_REASONS = 4
LINE = 3.1  # mm
GAP = 5.0  # mm between boxes


def _stage(name: str) -> str:
    """The step of the diagram that a stage belongs to; what became of single runs counts with their modality."""
    own = re.sub(r"^(connectivity|spectra)-", "", name.removesuffix("-run"))
    return own if own in TITLES else "cohort"


def left_out(exclusions: pd.DataFrame, kept: set[str]) -> pd.DataFrame:
    """One row for each subject that is not in the cohort: uid, dataset, stage and reason. A subject counts at the last stage
    that took something from it: nothing was left then.
    """
    lost = exclusions[~exclusions["uid"].isin(kept)].assign(run=lambda t: t["stage"].str.endswith("-run"))
    lost = lost.assign(stage=lost["stage"].map(_stage), reason=lost["reason"].map(short_reason))
    order = {name: i for i, name in enumerate(TITLES)}
    lost = lost.assign(place=lost["stage"].map(order)).sort_values(["uid", "run", "place"], ascending=[True, False, True])
    return lost.drop_duplicates("uid", keep="last")[["uid", "dataset", "stage", "reason"]]


def _counted(values: pd.Series, what: str = "reasons", most: int = N_REASONS) -> list[tuple[str, int]]:
    """(value, n) of the commonest, the rest as one: other `what`."""
    counts = values.value_counts(sort=True).sort_index().sort_values(ascending=False, kind="stable")
    shown = [(str(name), int(n)) for name, n in counts.head(most).items()]
    rest = int(counts.iloc[most:].sum())
    return shown + ([(f"{len(counts) - most} other {what}", rest)] if rest else [])


def boxes(people: pd.DataFrame, exclusions: pd.DataFrame, counts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """All numbers of the diagram: columns box, part, n."""
    lost = left_out(exclusions, set(people["uid"]))
    datasets = pd.concat([people["dataset"], lost["dataset"]])
    rows = [("Found", "all", len(datasets)), *(("Found", *pair) for pair in _counted(datasets, "datasets", 12))]
    for stage, title in TITLES.items():
        own = lost[lost["stage"] == stage]
        if len(own):
            rows += [(title, "all", len(own)), *((title, *pair) for pair in _counted(own["reason"]))]
    rows += [("Cohort", "all", len(people)), *(("Cohort", *pair) for pair in sides(people))]
    stay = exclusions[exclusions["uid"].isin(people["uid"]) & ~exclusions["stage"].str.endswith("-run")]
    if len(stay):
        why = stay["stage"].map(lambda name: TITLES[_stage(name)]) + ": " + stay["reason"].map(short_reason)
        rows += [(STAY, "all", stay["uid"].nunique()), *((STAY, *pair) for pair in _counted(why))]
    for task, own in counts.items():
        case, control = int(own["n_case"].sum()), int(own["n_control"].sum())
        rows += [
            (f"Task {task}", "all", case + control),
            (f"Task {task}", "cases", case),
            (f"Task {task}", "controls", control),
        ]
        rows.append((f"Task {task}", "not of this task", len(people) - case - control))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _lines(rows: pd.DataFrame, title: str, width_mm: float) -> list[str]:
    """What stands in a box: its title with n, and its parts, wrapped."""
    total = rows.loc[rows["part"] == "all", "n"].item()
    found, letters = textwrap.wrap(f"{title}: n = {total}", int(width_mm / 1.45)), int(width_mm / 1.3)
    for row in rows[rows["part"] != "all"].itertuples():
        found += textwrap.wrap(f"{row.part}: {row.n}", letters, subsequent_indent="   ")
    return found


def _height(lines: Sequence[str]) -> float:
    return LINE * len(lines) + 2.4


def _box(axes: Axes, x: float, top: float, width: float, lines: Sequence[str], height: float | None = None) -> float:
    """A box of these lines below `top`; returns its lower edge. All in mm."""
    height = height or _height(lines)
    axes.add_patch(Rectangle((x, top - height), width, height, facecolor="white", edgecolor="black", linewidth=0.7))
    bold = next((i for i, line in enumerate(lines) if "n = " in line), 0)
    for i, line in enumerate(lines):
        weight = "bold" if i <= bold else "normal"
        axes.text(x + 1.6, top - 1.2 - LINE * i, line, fontsize=6.5, fontweight=weight, va="top")
    return top - height


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>,head_width=0.15,head_length=0.3", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops={**look, "facecolor": "black"})


def _draw(axes: Axes, parts: dict[str, pd.DataFrame], width: float) -> float:
    """All boxes and arrows on axes in mm, from 0 downwards; returns where they end."""
    tasks = [name for name in parts if name.startswith("Task ")]
    sides = [name for name in parts if name not in ("Found", "Cohort", STAY, *tasks)]
    wide, middle = 0.46 * width, 0.23 * width
    bottom = last = _box(axes, 0, -1, wide, _lines(parts["Found"], "Found", wide))
    for name in sides:
        lines = _lines(parts[name], f"Left out. {name}", wide)
        _arrow(axes, (middle, bottom - GAP / 2 - _height(lines) / 2), (0.5 * width, bottom - GAP / 2 - _height(lines) / 2))
        bottom = _box(axes, 0.5 * width, bottom - GAP / 2, wide, lines)
    top = bottom - GAP
    _arrow(axes, (middle, last), (middle, top))
    bottom = lower = _box(axes, 0, top, wide, _lines(parts["Cohort"], "Cohort", wide))
    if STAY in parts:
        bottom = min(bottom, _box(axes, 0.5 * width, top, wide, _lines(parts[STAY], STAY, wide)))
    for start in range(0, len(tasks), 4):
        row, top = tasks[start : start + 4], bottom - GAP
        each = width / min(4, len(tasks))
        texts = [_lines(parts[name], name, each - 3) for name in row]
        height = max(map(_height, texts))
        if start == 0:
            axes.plot([min(middle, each / 2), (len(row) - 0.5) * each], [top + GAP / 2] * 2, color="black", linewidth=0.7)
            axes.plot([middle, middle], [lower, top + GAP / 2], color="black", linewidth=0.7)
        for i, lines in enumerate(texts):
            if start == 0:
                _arrow(axes, ((i + 0.5) * each, top + GAP / 2), ((i + 0.5) * each, top))
            bottom = _box(axes, i * each, top, each - 3, lines, height)
    return bottom


def run(*, cohort: Path, exclusions: Path, counts: Sequence[Path], out: Path, options: FigureOptions) -> None:
    """From everybody who was found to the subjects of each task."""
    people, excluded = read_table(cohort), read_tsv(exclusions)
    tasks = {path.stem.removeprefix("task-"): read_tsv(path) for path in counts}
    rows = boxes(people, excluded, tasks)
    figure, axes = new_figure(options, 1.0)
    figure.set_layout_engine("none")
    axes.set_axis_off()
    width = options.width_mm - 8.0
    bottom = _draw(axes, dict(list(rows.groupby("box", sort=False))), width)
    figure.set_figheight((2 - bottom) * MM)
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(-2, options.width_mm - 2)
    axes.set_ylim(bottom - 1, 1)
    found, lost = rows.iloc[0]["n"], rows.iloc[0]["n"] - len(people)
    caption = (
        f"Flow of subjects: {found} found in {rows['box'].eq('Found').sum() - 1} dataset(s), {lost} left out, {len(people)} "
        "in the cohort. A subject with two modalities is left out when it has lost both, and counts once, at the last step "
        "that took something from it. Tasks share controls, so their numbers do not add up to the cohort; those of one task "
        "and those not of it do."
    )
    save(figure, out, rows, COLUMNS, caption, options)
