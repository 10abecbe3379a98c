"""What a page is made of: tables, figures, downloads. Plain values; the template alone writes HTML."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcsp.store import read_json, read_tsv

EMBED_PLAIN = 60_000  # bytes; larger files are embedded as gzip
EMBED_MOST = 2_000_000  # bytes of a gzip; what is larger stays in the results and is named
SHOWN_ROWS = 2_000  # of a table; more would make the page slow
NAMED = ("metric", "modality", "method", "rival", "kind", "unit")  # columns whose values are names of ours
MEDIA = {".tsv": "text/tab-separated-values", ".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}
SHORT = {
    "n": "n", "n_case": "cases", "n_control": "controls", "p": "p", "p_holm": "p (Holm)", "p_chance": "p, chance",
    "p_phenotype": "p, phenotype", "p_chance_holm": "p, chance (Holm)", "auroc": "AUROC", "auprc": "AUPRC", "uid": "subject",
    "n_fmri": "fMRI", "n_eeg": "EEG", "n_sites": "sites", "age_mean": "age, mean", "age_sd": "age, SD", "n_age": "age known",
    "n_male": "male", "n_female": "female", "n_sex_unknown": "sex not known", "wall_s": "wall time, s", "cpu_s": "CPU time, s",
    "peak_mb": "largest memory, MB", "gap_mm": "gap in montage, mm", "roi": "region",
    "mean_fd": "mean FD, mm", "t_r": "TR, s", "sfreq": "sampling rate, Hz", "fmri": "fMRI", "eeg": "EEG", "mcsp": "MCSP",
    "integrated_gradients": "Integrated gradients", "smoothgrad": "SmoothGrad", "times_even": "times even",
}  # fmt: skip


@dataclass(frozen=True)
class Download:
    """A file inside the page: `href` is a data: address; '' where it was too large, and stays at `place`."""

    name: str
    href: str
    size: int
    place: str = ""


@dataclass(frozen=True)
class Cell:
    """`text` as shown; `value` for sorting, None for words."""

    text: str
    value: float | None = None


class Shown:
    """What stands in a section; the template has a way of showing each kind."""

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Table(Shown):
    """`columns`: (heading, what it means); `folded`: closed until it is asked for."""

    title: str
    columns: list[tuple[str, str]]
    rows: list[list[Cell]]
    folded: bool = False
    note: str = ""
    download: Download | None = None


@dataclass(frozen=True)
class Figure(Shown):
    """`image`: data address; `alt`: what it shows, in a few words."""

    name: str
    image: str
    width: int
    height: int
    alt: str
    caption: str
    downloads: list[Download]


@dataclass(frozen=True)
class Text(Shown):
    """A paragraph; `tone`: '', 'good', 'warn' or 'note'."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Heading(Shown):
    text: str
    id: str


@dataclass(frozen=True)
class Pre(Shown):
    """Text to copy as it stands, folded under `title` when there is one to open."""

    title: str
    text: str
    folded: bool = True
    wrap: bool = False


@dataclass(frozen=True)
class Fold(Shown):
    """Blocks that are closed until they are asked for."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Card(Shown):
    """A model card; `html` comes from the renderer, which escapes."""

    title: str
    html: str
    download: Download


@dataclass(frozen=True)
class View(Shown):
    """An interactive view; `page` holds tokens for what all views share."""

    title: str
    caption: str
    page: str


Block = Table | Figure | Text | Heading | Pre | Card | View | Fold


@dataclass(frozen=True)
class Section:
    id: str
    name: str
    group: str
    blocks: list[Block]


def data_address(content: bytes, media: str) -> str:
    """A data: address of `content`."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def download(path: Path, most: int = EMBED_MOST) -> Download:
    """A file to save from the page, as gzip where it is large; named only where that has more than `most` bytes."""
    content, name, media = path.read_bytes(), path.name, MEDIA.get(path.suffix, "text/plain")
    if len(content) > EMBED_PLAIN:
        content, name, media = gzip.compress(content, 9, mtime=0), f"{name}.gz", "application/gzip"
    fits = len(content) <= most
    place = "" if fits else "/".join(path.parts[-3:])
    return Download(name if fits else path.name, data_address(content, media) if fits else "", len(content), place)


def heading(column: str) -> str:
    """A column's name for people."""
    return SHORT.get(column, column.replace("_", " "))


def number(value: float) -> str:
    """Three digits that say something; no more."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return f"{value:.0e}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"


def p_value(value: float) -> str:
    """A p value as papers print it."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def cell(value: object, column: str = "") -> Cell:
    """What a table shows of a value; missing ones are empty."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return Cell("")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(heading(str(value)) if column in NAMED else str(value))
    if isinstance(value, int):
        return Cell(str(value), float(value))
    return Cell(p_value(value) if column.split("_")[0] == "p" else number(value), value)


def _with_interval(value: Cell, low: Cell, high: Cell) -> Cell:
    """Value and interval, with two digits of the interval's width."""
    if None in (value.value, low.value, high.value):
        return value
    width = high.value - low.value
    digits = min(max(1 - math.floor(math.log10(width)), 0), 7) if width > 0 else 2
    return Cell(f"{value.value:.{digits}f} [{low.value:.{digits}f}, {high.value:.{digits}f}]", value.value)


def _ends(column: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """The columns that hold the ends of a column's interval: name_low and name_high, or low and high of the first of value,
    mean, difference, gap, auroc."""
    if f"{column}_low" in columns and f"{column}_high" in columns:
        return f"{column}_low", f"{column}_high"
    plain = next((c for c in ("value", "mean", "difference", "gap", "auroc") if c in columns), None)
    return ("low", "high") if column == plain and {"low", "high"} <= set(columns) else None


def table(
    title: str,
    rows: pd.DataFrame,
    descriptions: Mapping[str, str] | None = None,
    *,
    folded: bool = False,
    note: str = "",
    source: Download | None = None,
) -> Table:
    """A table for reading: intervals stand behind their values, columns that hold nothing are left out."""
    names = [str(c) for c in rows.columns]
    ends = {c: pair for c in names if (pair := _ends(c, names))}
    hidden = {end for pair in ends.values() for end in pair}
    told = [c for c in names if c not in hidden and (rows.empty or rows[c].notna().any())]
    plain = rows.head(SHOWN_ROWS).astype(object)
    columns = {c: [cell(v, c) for v in plain[c]] for c in names}
    for name, (low, high) in ends.items():
        columns[name] = [_with_interval(*own) for own in zip(columns[name], columns[low], columns[high])]
    cut = f" The first {SHOWN_ROWS} of {len(rows)} rows." if len(rows) > SHOWN_ROWS else ""
    texts = descriptions or {}
    shown = [(heading(c), texts.get(c, "") + (" [in brackets: its interval]" if c in ends else "")) for c in told]
    return Table(title, shown, [list(row) for row in zip(*(columns[c] for c in told))], folded, note + cut, source)


def file_table(
    title: str, path: Path, *, folded: bool = False, drop: Sequence[str] = (), rows: pd.DataFrame | None = None, note: str = ""
) -> Table:
    """A TSV of the results with what its sidecar says of the columns; `rows`: the part of it to show."""
    own = (read_tsv(path) if rows is None else rows).drop(columns=list(drop), errors="ignore")
    sidecar = path.with_suffix(".json")
    texts = read_json(sidecar) if sidecar.is_file() else {}
    described = {c: v.get("Description", "") for c, v in texts.items() if isinstance(v, dict)}
    return table(title, own, described, folded=folded, note=note, source=download(path))
