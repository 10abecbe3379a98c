"""The model with the shapes that this study's tensors have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from mcsp.figures.style import GREY, MM, PALETTE, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_json

COLUMNS = {
    "modality": "Modality",
    "domain": "Domain",
    "input": "Shape of one subject's input",
    "axes": "What its axes are",
    "encoder": "Kind of encoder",
    "tokens": "Shape of its inner features of one subject",
    "h": "Size of the features h",
    "z": "Size of the projection z",
}
AXES = {
    "fmri/spatial": "region × region",
    "fmri/temporal": "region × frame",
    "fmri/spectral": "region × frequency",
    "eeg/spatial": "band × channel × channel",
    "eeg/temporal": "segment × channel × sample",
    "eeg/spectral": "segment × channel × frequency",
}
NAMES = {"fmri": "fMRI", "eeg": "EEG"}
ROW, GAP = 11.0, 3.0  # mm
ARROW = {"arrowstyle": "-|>,head_width=0.12,head_length=0.25", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "fc": "black"}
LOSSES = {
    "id": "views of one domain",
    "cd": "domains of one subject",
    "im": "likeness between modalities",
    "cm": "modalities, domain by domain",
    "cf": "modalities, all domains",
    "kd": "teacher of all to each",
}


def _by(*sizes: int) -> str:
    return " × ".join(map(str, sizes))


def shapes(sizes: dict) -> pd.DataFrame:
    """Shapes along the way of each modality and domain, from a model's `architecture`."""
    rows = []
    for key, shape in sizes["shapes"].items():
        modality, domain = key.split("/")
        if domain == "spatial":
            graphs = shape[:1] if len(shape) == 3 else []
            kind, tokens = "graph convolution", _by(*graphs, shape[-1], sizes["width"])
        else:
            count = shape[0] if modality == "eeg" else -(-shape[-1] // sizes["patch"])
            kind, tokens = "Transformer", _by(count, sizes["width"])
        rows.append((modality, domain, _by(*shape), AXES[key], kind, tokens, sizes["width"], sizes["dim"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _box(axes: Axes, x: float, y: float, width: float, lines: Sequence[str], colour: str, height: float = ROW - GAP) -> None:
    """A box centred at the height `y`, mm, with lines of text; the first is bold."""
    style = "round,pad=0,rounding_size=1"
    axes.add_patch(FancyBboxPatch((x, y - height / 2), width, height, boxstyle=style, facecolor="white", edgecolor=colour))
    for i, line in enumerate(lines):
        place = y + 3.0 * ((len(lines) - 1) / 2 - i)
        weight = "bold" if i == 0 and len(lines) > 1 else "normal"
        axes.text(x + width / 2, place, line, fontsize=6, fontweight=weight, ha="center", va="center")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops=ARROW)


def _way(axes: Axes, row, y: float, unit: float, sizes: dict) -> None:
    """One modality and domain, from input to projection; `unit`: mm of a page of 180 that one mm stands for."""
    colour = PALETTE[0] if row.modality == "fmri" else PALETTE[2]
    by_segment = row.modality == "eeg" and row.domain != "spatial"
    projector = ["projector", f"mean + {row.input.split()[0]} × {sizes['segment_features']}" if by_segment else "2 layers"]
    depth = f"{sizes['depth']} layer(s), {sizes['heads']} heads" if row.encoder == "Transformer" else "2 layers"
    stops = [
        (0, 46, [f"{NAMES[row.modality]} {row.domain}: {row.input}", row.axes]),
        (51, 42, [row.encoder, f"{depth}: {row.tokens}"]),
        (98, 10, ["h", str(row.h)]),
        (113, 25, projector),
        (143, 10, ["z", str(row.z)]),
    ]
    for i, (x, width, lines) in enumerate(stops):
        _box(axes, x * unit, y, width * unit, lines, colour)
        if i:
            before = stops[i - 1][0] + stops[i - 1][1]
            _arrow(axes, (before * unit, y), (x * unit, y))


def _losses(axes: Axes, weights: dict[str, float], top: float, bottom: float, unit: float) -> None:
    """What the projections are trained by, right of them."""
    axes.plot([154 * unit, 155.5 * unit, 155.5 * unit, 154 * unit], [top, top, bottom, bottom], color=GREY, linewidth=0.7)
    used = [name for name in LOSSES if weights.get(name)]
    for i, name in enumerate(used):
        y = (top + bottom) / 2 + 6.6 * ((len(used) - 1) / 2 - i)
        axes.text(157 * unit, y + 1.3, f"$L_\\mathrm{{{name.upper()}}}$, weight {weights[name]:g}", fontsize=6, va="center")
        axes.text(157 * unit, y - 1.5, LOSSES[name], fontsize=5.5, va="center", color="#444444")


def run(*, model: Path, classifier: Sequence[Path], out: Path, options: FigureOptions) -> None:
    """A line per modality and domain; below, the head that fine-tuning puts on the features."""
    config = read_json(model)
    sizes, weights = config["architecture"], config["pretrain"]["loss"]
    rows = shapes(sizes)
    figure, axes = new_figure(options, 1.0)
    figure.set_layout_engine("none")
    axes.set_axis_off()
    unit = (options.width_mm - 8) / 192
    ys = [-(i * ROW + ROW / 2) for i in range(len(rows))]
    for row, y in zip(rows.itertuples(), ys):
        _way(axes, row, y, unit, sizes)
    trained = any(weights.get(name) for name in LOSSES) and config["pretrain"]["epochs"] > 0
    if trained:
        _losses(axes, weights, ys[0] + 3, ys[-1] - 3, unit)
    bottom = ys[-1] - ROW / 2
    if classifier:
        head = read_json(classifier[0])["head"]
        read = {"features": "LayerNorm(h)", "projections": "LayerNorm(z)", "both": "LayerNorm(h), LayerNorm(z)"}
        heard = read[head.get("reads", "features")]
        y = bottom - ROW / 2 - 2
        lines = ["classifier of a task", f"{heard} of what a subject has → linear + MLP of {head['hidden']} → 1 logit"]
        _box(axes, 51 * unit, y, 102 * unit, lines, "black")
        _arrow(axes, (103 * unit, bottom + GAP / 2), (103 * unit, y + ROW / 2 - GAP / 2))
        bottom = y - ROW / 2
    figure.set_figheight((3 - bottom) * MM)
    axes.set_position((0, 0, 1, 1))
    axes.set_xlim(-2, options.width_mm - 2)
    axes.set_ylim(bottom - 1, 2)
    untrained = "" if trained else " The study does not pre-train."
    caption = (
        f"The model of this study (fold {config['fold']}), shapes of one subject's tensors. Views of each input are drawn "
        f"anew at every step. Pre-trained on {config['n_subjects']} training subjects of the fold; the losses on the right, "
        f"with their weights, compare projections z.{untrained} The classifier reads what its box says, and leaves out what a "
        "subject lacks. A drawing: no test."
    )
    save(figure, out, rows, COLUMNS, caption, options)
