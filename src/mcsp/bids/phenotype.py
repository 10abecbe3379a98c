"""Who somebody is: phenotype tables, read as the study file says."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from mcsp.errors import McspError
from mcsp.options.datasets import CONTROL, Phenotype
from mcsp.shards import plain_label

# The columns that the simulator writes. Its labels need no map: 'ADHD+ASD' means both.
SIMULATED_TABLE = Phenotype(site="site", family="family", labels={"diagnosis": {}})


def _plain_value(text: str) -> str:
    """A cell for comparison: '1.0', as programs write whole numbers beside missing ones, is '1'."""
    text = text.strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def cell(row: pd.Series, column: str | None, phenotype: Phenotype) -> str | None:
    """Value of a cell as text; None when there is no such column or the value is missing."""
    value = _plain_value(row[column]) if column and column in row else ""
    return None if not value or value in {_plain_value(text) for text in phenotype.missing} else value


def _number(row: pd.Series, column: str | None, phenotype: Phenotype) -> float:
    text = cell(row, column, phenotype)
    try:
        value = float(text.rstrip("+")) if text else math.nan  # BIDS has ages above 89 as '89+'
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _fields(row: pd.Series, phenotype: Phenotype, name: str) -> dict:
    sex = cell(row, phenotype.sex, phenotype)
    site = cell(row, phenotype.site, phenotype) or "unknown"
    return {
        "site": site if phenotype.site else name,
        "age": _number(row, phenotype.age, phenotype),
        "sex": phenotype.sex_map.get(sex) if sex else None,
        "family": cell(row, phenotype.family, phenotype),
        "labels": "",
    }


def _joined(labels: set[str]) -> str:
    """Whoever has a disorder by one column is no control, even when another column says so of another disorder."""
    return ";".join(sorted(labels - {CONTROL} or labels))


def person(row: pd.Series, phenotype: Phenotype, name: str) -> tuple[dict, str | None]:
    """(fields of the subject table, why the subject is left out or None) of one row of the table of dataset `name`."""
    fields = _fields(row, phenotype, name)
    labels: set[str] = set()
    for column, mapping in phenotype.labels.items():
        value = _plain_value(row[column])
        known = {_plain_value(key): meaning for key, meaning in mapping.items()}
        if value not in known:
            if cell(row, column, phenotype) is None:
                return fields, f"no label: column {column} of the phenotype table is empty for this subject"
            return fields, f"label {column}={value} is not in the study's map: add it to datasets.{name}.phenotype.labels"
        labels.update(known[value])
    fields["labels"] = _joined(labels)
    return fields, None


def simulated_person(row: pd.Series, name: str) -> tuple[dict, str | None]:
    """The same for a row of a simulated dataset's participants.tsv."""
    fields = _fields(row, SIMULATED_TABLE, name)
    return {**fields, "labels": _joined(set(row["diagnosis"].split("+")))}, None


def read_phenotype(table: Path, phenotype: Phenotype) -> pd.DataFrame:
    """A phenotype table as text, with `_label`: the subject's label for comparison.

    Raises McspError when it is not there or not readable, or a column is missing that the study names. The default
    columns `age` and `sex` may be missing: they are then unknown.
    """
    try:
        separator = "," if table.suffix == ".csv" else "\t"
        rows = pd.read_csv(
            table, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", encoding_errors="replace"
        )
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise McspError(f"{table}: phenotype table not readable ({reason}): set phenotype.table or mend the file") from error
    defaults = {name: Phenotype.model_fields[name].default for name in ("age", "sex")}
    named = [getattr(phenotype, name) for name in ("age", "sex") if getattr(phenotype, name) != defaults[name]]
    wanted = [phenotype.subject, phenotype.site, phenotype.family, *named, *phenotype.labels]
    missing = [column for column in wanted if column and column not in rows]
    if missing:
        has = ", ".join(map(str, rows.columns[:30]))
        raise McspError(f"{table}: no column {', '.join(missing)} (it has {has}): mend the dataset's phenotype options")
    rows = rows[rows[phenotype.subject].str.strip() != ""]
    return rows.assign(_label=rows[phenotype.subject].map(plain_label))
