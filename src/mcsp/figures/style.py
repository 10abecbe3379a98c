"""How all figures look, and how they are written: vector, bitmap, source data, caption; equal data give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from mcsp.options.results import FigureOptions
from mcsp.store import atomic_path, write_tsv

# Okabe & Ito 2008: told apart by colour-blind eyes, and in grey by their order of lightness.
OKABE_ITO = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
PALETTE = [f"C{i}" for i in range(8)]  # places in the palette that the options choose
GREY = "#777777"
OURS = "C5"
FULL_MM = 180.0  # a page's width: heights are shares of it, so that a narrower figure keeps its lines' height
PAGE_MM = 235.0  # its height, with room for a caption
MM = 1 / 25.4  # inches
FORMATS = {
    ".svg": {"Date": None, "Creator": "mcsp"},
    ".pdf": {"CreationDate": None, "Creator": "mcsp"},
    ".png": {"Software": None},
}

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
    "svg.fonttype": "path",  # letters as shapes: looks the same everywhere. Text to edit and to search is in the PDF
    "svg.hashsalt": "mcsp",
    "pdf.fonttype": 42,  # fonts are embedded, as TrueType
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
}
mpl.rcParams.update(STYLE)


def new_figure(options: FigureOptions, height: float, *, column: bool = False, **layout) -> tuple[Figure, object]:
    """A figure over two columns (one with `column`) of a `height` given as a share of a page's width (180 mm), and its axes
    (`plt.subplots`' layout).
    """
    mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=options.palette or OKABE_ITO)
    width = options.column_mm if column else options.width_mm
    return plt.subplots(figsize=(width * MM, height * FULL_MM * MM), **layout)


def height_of(rows: float, each_mm: float, other_mm: float) -> float:
    """Height (share of a page's width) of a figure with so many rows beside `other_mm`: rows get lower where a page ends."""
    return (other_mm + rows * min(each_mm, (PAGE_MM - other_mm) / max(rows, 1))) / FULL_MM


def short(text: str, most: int) -> str:
    """A name of at most `most` letters; long ones lose their middle, since beginning and end tell names apart."""
    head = (most - 1) * 3 // 5
    return text if len(text) <= most else f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _renamed(text: str, labels: Mapping[str, str]) -> str:
    """`text` with whole words replaced, the longest first."""
    names = "|".join(re.escape(name) for name in sorted(labels, key=len, reverse=True))
    return re.sub(rf"(?<!\w)({names})(?!\w)", lambda found: labels[found[1]], text)


def rename(figure: Figure, labels: Mapping[str, str]) -> None:
    """Print `labels`' values where their keys stand in any text of the figure."""
    if not labels:
        return
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            texts = [label.get_text() for label in axis.get_ticklabels()]
            if (wanted := [_renamed(text, labels) for text in texts]) != texts:
                axis.set_ticks(axis.get_ticklocs(), wanted)
    for artist in figure.findobj(Text):
        artist.set_text(_renamed(artist.get_text(), labels))


def _head(figure: Figure, title: str) -> None:
    """A title above everything: what is not laid out by matplotlib moves down."""
    if figure.get_layout_engine() is None:
        height = figure.get_figheight()
        share = height / (height + 7 * MM)
        figure.set_figheight(height + 7 * MM)
        for axes in figure.axes:
            x, y, w, h = axes.get_position(original=True).bounds
            axes.set_position((x, y * share, w, h * share))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", fontweight="bold")


def _note(figure: Figure, note: str) -> None:
    strip = 0.12 / figure.get_figwidth()  # in, right of everything else
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.get_layout_engine().set(rect=(0, 0, 1 - strip, 1))
    figure.text(1 - 0.1 * strip, 0.55, note, rotation=90, ha="right", va="center", fontsize=6, color=GREY)


def _number_clips(svg: Path, name: str) -> None:
    """Name the clip paths of an SVG by their order. Matplotlib's names are hashes of coordinates to the last bit, and there
    the layout's solver differs, if rarely, from one process to the next.
    """
    text = svg.read_text(encoding="utf-8")
    numbers = {old: f"{name}-clip{i}" for i, old in enumerate(re.findall(r'<clipPath id="(p[0-9a-f]{10})"', text))}
    text = re.sub(r"(?<=url\(#| id=\")p[0-9a-f]{10}\b", lambda found: numbers.get(found[0], found[0]), text)
    svg.write_text(text, encoding="utf-8")


def save(
    figure: Figure, stem: Path, source: pd.DataFrame, descriptions: Mapping[str, str], caption: str, options: FigureOptions
) -> None:
    """Write `stem`.svg, .pdf, .png, .tsv with .json, .caption.txt; `options.note` stands in the figure and in the caption."""
    rename(figure, options.labels)
    if title := options.titles.get(stem.name):
        _head(figure, title)
    if options.note:
        _note(figure, options.note)
        caption = f"{caption.strip()} {options.note}."
    for suffix, metadata in FORMATS.items():
        with atomic_path(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, dpi=options.dpi, metadata=metadata)
            if suffix == ".svg":
                _number_clips(temporary, stem.name)
    plt.close(figure)
    write_tsv(source, stem.with_name(stem.name + ".tsv"), descriptions)
    with atomic_path(stem.with_name(stem.name + ".caption.txt")) as temporary:
        temporary.write_text(caption.strip() + "\n", encoding="utf-8")


def say(axes: Axes, text: str) -> None:
    """Write words where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=GREY, wrap=True)


def nothing(stem: Path, text: str, options: FigureOptions) -> None:
    """A figure that says why there is none."""
    figure, axes = new_figure(options, 0.15)
    say(axes, text)
    save(figure, stem, pd.DataFrame({"note": [text]}), {"note": "Why there is no figure"}, text, options)
