"""A study's results as the page finds them: what is not there is not shown, and said to be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from mcsp.figures.catalogue import ALL
from mcsp.report.blocks import Figure, data_address, download
from mcsp.store import read_table, read_tsv

MOST = {".tsv": 1_000_000, ".svg": 150_000}  # bytes of a gzip that is embedded; of larger ones the page names the file


@dataclass(frozen=True)
class Asked:
    """A task: its name, and how people call it."""

    name: str
    title: str


@dataclass(frozen=True)
class Results:
    """`study`: the whole study as plain values, with `source`, its file; `root`: its results; `stems`: figures
    without suffix, in the page's order.
    """

    study: Mapping[str, Any]
    root: Path
    stems: Sequence[Path]

    @cached_property
    def tasks(self) -> list[Asked]:
        return [Asked(name, task["title"] or name) for name, task in self.study["tasks"].items()]

    @cached_property
    def people(self) -> pd.DataFrame:
        """The cohort; empty where there is none yet."""
        path = self.root / "cohort/subjects.parquet"
        if path.is_file():
            table = read_table(path)
            return table.assign(labels=table["labels"].fillna(""))
        kinds = {**dict.fromkeys(("uid", "dataset", "site", "labels"), object), "has_fmri": bool, "has_eeg": bool}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})

    @property
    def modalities(self) -> list[str]:
        """Modalities that somebody has."""
        return [m for m in ("fmri", "eeg") if self.people[f"has_{m}"].any()]

    def path(self, name: str) -> Path | None:
        """A file of the results, None where it is not there."""
        path = self.root / name
        return path if path.is_file() else None

    def tsv(self, name: str) -> pd.DataFrame:
        """A table of the results; empty, without columns, where it is not there."""
        path = self.path(name)
        return read_tsv(path) if path else pd.DataFrame()

    def many(self, pattern: str) -> pd.DataFrame:
        """All tables that fit, one below the other, with `place`: the names of the two directories above each."""
        parts = [read_tsv(path).assign(place=f"{path.parts[-3]}/{path.parts[-2]}") for path in sorted(self.root.glob(pattern))]
        parts = [part for part in parts if len(part)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def trust(self, task: str) -> pd.DataFrame:
        """Which maps of a task may be believed: method, modality, domain, kind, and verdict (pass, fail or unproven); empty
        before they were judged.
        """
        told = self.tsv(f"explain/{task}/trust.tsv")
        return told if len(told) else pd.DataFrame(columns=["method", "modality", "domain", "kind", "verdict"])

    def all_trust(self) -> pd.DataFrame:
        """The same of all tasks."""
        return pd.concat([self.trust(t.name) for t in self.tasks], ignore_index=True)

    def figures(self, section: str, task: str | None = None) -> list[Figure]:
        """Figures of a section that were drawn: those of a task, or with None those of no task."""
        kinds = [name for name, kind in ALL.items() if kind.section == section and kind.per_task == bool(task)]
        names = {f"{kind}-{task}" if task else kind for kind in kinds}
        return [figure(stem) for stem in self.stems if stem.name in names and stem.with_name(f"{stem.name}.png").is_file()]


def for_screen(path: Path) -> tuple[bytes, int, int]:
    """(a figure's bitmap in 256 colours, a third of the size; its width and height in pixels)."""
    with Image.open(path) as image:
        small, out = image.convert("RGB").quantize(256, dither=Image.Dither.NONE), BytesIO()
        small.save(out, "PNG", optimize=True)
    return min(out.getvalue(), path.read_bytes(), key=len), *small.size


def figure(stem: Path) -> Figure:
    """A figure with its caption and what can be saved: vector, and source data."""
    image, width, height = for_screen(stem.with_name(f"{stem.name}.png"))
    caption = stem.with_name(f"{stem.name}.caption.txt")
    text = caption.read_text(encoding="utf-8").strip() if caption.is_file() else stem.name
    first = text.split(". ")[0]
    files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".tsv", ".svg")]
    saved = [download(path, most=MOST[path.suffix]) for path in files if path.is_file()]
    alt = f"Figure {stem.name}: {first}"
    return Figure(stem.name, data_address(image, "image/png"), width, height, alt, text, saved)
