"""Who somebody is: phenotype tables read as the study file says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mcsp.errors import McspError
from mcsp.options.datasets import CONTROL, Phenotype


def normal_label(text: str) -> str:
    """Subject label for comparison: without 'sub-' and leading zeros ('sub-0051' and '51' are one subject)."""
    return text.strip().removeprefix("sub-").lstrip("0") or "0"


def normal_value(text: str) -> str:
    """A table's cell for comparison: '1.0', as programs write whole numbers beside missing ones, is '1'."""
    text = text.strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


@dataclass
class Person:
    """What a phenotype table says of one subject; `problem` is why the subject can't be used, None when it can."""

    site: str
    family: str
    age: float = math.nan
    sex: str | None = None
    labels: str = ""
    motion: float = math.nan
    problem: str | None = None


@dataclass
class PhenotypeTable:
    """Rows of a phenotype table by normalised subject label; `labels` are the labels as written, without 'sub-'."""

    options: Phenotype
    dataset: str
    source: Path | None = None
    rows: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    motion: str | None = None

    @property
    def labels(self) -> list[str]:
        column = self.options.subject
        return [rows[0][column].strip().removeprefix("sub-") for rows in self.rows.values()]

    def _cell(self, row: dict[str, str], column: str | None) -> str | None:
        value = normal_value(row.get(column, "")) if column else ""
        return None if value in {normal_value(text) for text in self.options.missing} | {""} else value

    def _number(self, row: dict[str, str], column: str | None) -> float:
        text = self._cell(row, column)
        try:
            value = float(text.rstrip("+")) if text else math.nan  # BIDS writes ages above 89 as '89+'
        except ValueError:
            return math.nan
        return value if math.isfinite(value) else math.nan

    def _labels_of(self, row: dict[str, str]) -> tuple[str, str | None]:
        """Labels, joined, and the problem with them."""
        found: set[str] = set()
        for column, mapping in self.options.labels.items():
            value = normal_value(row[column])
            known = {normal_value(key): labels for key, labels in mapping.items()}
            if value not in known:
                if self._cell(row, column) is None:
                    return "", f"no diagnosis: column {column} of {self.source.name} is empty for this subject"
                where = f"datasets.{self.dataset}.phenotype.labels"
                return "", f"label {column}={value} is not in the study's map: add it to {where}"
            found.update(known[value])
        # Whoever has a disorder in one column is no control, even when another column says so of another disorder.
        return ";".join(sorted(found - {CONTROL} if found - {CONTROL} else found)), None

    def person(self, label: str, uid: str) -> Person:
        """What the table says of a subject. Never raises: what is wrong stands in `problem`."""
        options = self.options
        unknown = Person(site="unknown" if options.site else self.dataset, family=uid)
        if self.source is None:
            return unknown
        rows = self.rows.get(normal_label(label), [])
        if not rows:
            if options.labels:
                unknown.problem = f"not in the phenotype table {self.source.name} (column {options.subject}): add a row"
            return unknown
        row = rows[0]
        sex = self._cell(row, options.sex)
        family = self._cell(row, options.family)
        labels, problem = self._labels_of(row)
        if len(rows) > 1 and any(self._used(other) != self._used(row) for other in rows[1:]):
            labels, problem = "", f"{len(rows)} rows of {self.source.name} speak of this subject and disagree: keep one"
        return Person(
            site=self._cell(row, options.site) or unknown.site,
            family=f"{self.dataset}/{family}" if family else uid,
            age=self._number(row, options.age),
            sex=options.sex_map.get(sex) if sex else None,
            labels=labels,
            motion=self._number(row, self.motion),
            problem=problem,
        )

    def _used(self, row: dict[str, str]) -> list[str | None]:
        o = self.options
        return [self._cell(row, column) for column in (o.site, o.age, o.sex, o.family, self.motion, *o.labels)]


def read_phenotype(options: Phenotype, dataset: str, root: Path, motion: str | None = None) -> PhenotypeTable:
    """Read the phenotype table of a dataset at `root`; `motion`: column of the mean framewise displacement.

    Raises McspError when there is none but labels are wanted, it can't be read, or a column is missing that the study
    names (the default columns `age` and `sex` may be missing: they are then unknown).
    """
    source = Path(options.table) if options.table else root / "participants.tsv"
    if not source.is_file():
        if options.labels or options.table:
            raise McspError(f"datasets.{dataset}: no phenotype table at {source}: set datasets.{dataset}.phenotype.table")
        return PhenotypeTable(options, dataset)
    try:
        table = pd.read_csv(
            source,
            sep="," if source.suffix == ".csv" else "\t",
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            encoding_errors="replace",
        )
    except (ValueError, OSError) as error:
        raise McspError(f"{source}: not readable as a table ({' '.join(str(error).split())}): mend it") from error
    defaults = {Phenotype.model_fields[name].default for name in ("age", "sex")}
    wanted = {"subject": options.subject, "site": options.site, "family": options.family, "motion": motion}
    wanted |= {name: getattr(options, name) for name in ("age", "sex") if getattr(options, name) not in defaults}
    wanted |= {f"labels.{column}": column for column in options.labels}
    missing = [f"{column} ({name})" for name, column in wanted.items() if column and column not in table]
    if missing:
        columns = ", ".join(table.columns[:40])
        raise McspError(f"{source}: no column {', '.join(missing)}; it has {columns}: mend datasets.{dataset}.phenotype")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in table.to_dict("records"):
        if row[options.subject].strip():
            rows.setdefault(normal_label(row[options.subject]), []).append(row)
    return PhenotypeTable(options, dataset, source, rows, motion)
