"""How all figures look, and how they are written: vector, bitmap, source data, caption; equal data give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mcsp.options.results import FigureOptions
from mcsp.store import atomic_path, write_tsv

# Okabe & Ito 2008: told apart by colour-blind eyes, and in grey by their order of lightness.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
GREY = "#777777"
OURS = "#D55E00"

STYLE = {
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "svg.fonttype": "path",  # letters as shapes: looks the same everywhere
    "svg.hashsalt": "mcsp",
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
}
mpl.rcParams.update(STYLE)


def new_figure(options: FigureOptions, height: float, **layout) -> tuple[Figure, object]:
    """A figure of full width and `height` (as a share of the width), and its axes (`plt.subplots`' layout)."""
    width = options.width_mm / 25.4
    return plt.subplots(figsize=(width, width * height), **layout)


def save(
    figure: Figure, stem: Path, source: pd.DataFrame, descriptions: Mapping[str, str], caption: str, options: FigureOptions
) -> None:
    """Write `stem`.svg, .png, .tsv with .json, .caption.txt; `options.note` stands in the figure and in the caption."""
    if options.note:
        strip = 0.12 / figure.get_figwidth()  # in, right of everything else
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            figure.get_layout_engine().set(rect=(0, 0, 1 - strip, 1))
        figure.text(1 - 0.1 * strip, 0.55, options.note, rotation=90, ha="right", va="center", fontsize=6, color=GREY)
        caption = f"{caption.strip()} {options.note}."
    for suffix, metadata in ((".svg", {"Date": None, "Creator": "mcsp"}), (".png", {"Software": "mcsp"})):
        with atomic_path(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, dpi=options.dpi, metadata=metadata)
    plt.close(figure)
    write_tsv(source, stem.with_name(stem.name + ".tsv"), descriptions)
    with atomic_path(stem.with_name(stem.name + ".caption.txt")) as temporary:
        temporary.write_text(caption.strip() + "\n", encoding="utf-8")


def say(axes, text: str) -> None:
    """Write words where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY, wrap=True)


def nothing(stem: Path, text: str, options: FigureOptions) -> None:
    """A figure that says why there is none."""
    figure, axes = new_figure(options, 0.15)
    say(axes, text)
    save(figure, stem, pd.DataFrame({"note": [text]}), {"note": "Why there is no figure"}, text, options)
