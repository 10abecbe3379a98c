"""Who somebody is: phenotype tables, read as the study file says."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pandas as pd

from mcsp import text_tables
from mcsp.errors import McspError
from mcsp.options.datasets import CONTROL, FOLDER, Phenotype, alike, plain_column
from mcsp.shards import plain_label

# The columns that the simulator writes. Its labels need no map: 'ADHD+ASD' means both.
SIMULATED_TABLE = Phenotype(site="site", family="family", labels={"diagnosis": {}})
# Names that columns of an option usually have, in small letters.
USUAL_NAMES = {
    "age": r"age(_?at_?scan|_years|_yrs)?",
    "sex": r"sex|gender",
    "family": r"family(_?id)?",
    "handedness": r"hand(edness)?|dominant_hand",
}
NOBODY = {
    "age": math.nan,
    "sex": None,
    "handedness": None,
    "iq": math.nan,
    "medication": None,
    "family": None,
    "labels": "",
}


def _plain_value(text: str) -> str:
    """A cell for comparison: '1.0', as programs write whole numbers beside missing ones, is '1'."""
    text = text.strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


@cache
def _plain_values(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(_plain_value, texts))


def known(text: str, phenotype: Phenotype) -> str | None:
    """A cell's text for comparison, None when it means 'not known'."""
    value = _plain_value(text)
    return None if not value or value in _plain_values(tuple(phenotype.missing)) else value


def cell(row: pd.Series, column: str | None, phenotype: Phenotype) -> str | None:
    """Value of a cell as text; None when there is no such column or the value is missing."""
    return known(row[column], phenotype) if column and column in row else None


def _as_number(text: str | None) -> float:
    try:
        value = float(text.rstrip("+")) if text else math.nan  # BIDS has ages above 89 as '89+'
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _handedness(text: str | None, phenotype: Phenotype) -> str | None:
    """R, L or A by the study's map, else by the laterality quotient (Oldfield 1971) where the study gives its limit."""
    if text is None or text in phenotype.handedness_map:
        return phenotype.handedness_map.get(text) if text else None
    quotient = _as_number(text)
    if phenotype.right_from is None or math.isnan(quotient):
        return None
    return "R" if quotient >= phenotype.right_from else "L" if quotient <= -phenotype.right_from else "A"


def _fields(row: pd.Series, phenotype: Phenotype, name: str) -> dict:
    def of(column: str | None) -> str | None:
        return cell(row, column, phenotype)

    site = next((told for column in phenotype.site_columns() if (told := of(column))), None)
    scores = [_as_number(of(column)) for column in phenotype.iq]
    return {
        "site": phenotype.site_map.get(site, site) if site else "unknown" if phenotype.site else name,
        "age": _as_number(of(phenotype.age)) / (12 if phenotype.age_unit == "months" else 1),
        "sex": phenotype.sex_map.get(of(phenotype.sex) or ""),
        "handedness": _handedness(of(phenotype.handedness), phenotype),
        "iq": next((score for score in scores if not math.isnan(score)), math.nan),
        "medication": phenotype.medication_map.get(of(phenotype.medication) or ""),
        "family": of(phenotype.family),
        "labels": "",
    }


def _joined(labels: set[str]) -> str:
    """Whoever has a disorder by one column is no control, even when another column says so of another disorder."""
    return ";".join(sorted(labels - {CONTROL} or labels))


def label_columns(columns: Sequence[str], wanted: str) -> list[str]:
    """Columns that a key of the label map means: the one of this name, or those that its wildcards fit."""
    if wanted in columns:
        return [wanted]
    pattern, own = plain_column(wanted), [column for column in columns if not column.startswith(("_", FOLDER))]
    return [column for column in own if fnmatchcase(plain_column(column), pattern)]


def _meaning(value: str, mapping: dict[str, list[str]], missing: bool) -> tuple[list[str] | None, str]:
    """(labels that a value means, or None; where the map can't tell, why, else ''). Wildcards never fit what is missing.

    The value itself goes before wildcards, and '*' is the rest; others that fit must agree, whatever their length.
    """
    exact = {_plain_value(key): labels for key, labels in mapping.items()}
    if value in exact or missing:
        return exact.get(value), ""
    fitting = sorted(key for key in mapping if fnmatchcase(value.lower(), key.lower()))
    written = [key for key in fitting if key.lower() == value.lower()]
    telling = written or [key for key in fitting if key.strip("*")] or fitting
    if not telling:
        return None, "is not in the study's map"
    other = next((key for key in telling if set(mapping[key]) != set(mapping[telling[0]])), None)
    if other:
        return None, f"fits '{telling[0]}' and '{other}' of the study's map, which mean different labels"
    return mapping[telling[0]], ""


def _column_labels(row: pd.Series, column: str, mapping: dict, phenotype: Phenotype) -> tuple[set[str] | None, str]:
    """(labels that a cell means, or None when it tells nothing; where the map can't tell, why)."""
    value, told = _plain_value(row[column]), cell(row, column, phenotype)
    for other, values in phenotype.ignore.items():
        if cell(row, alike(row.index, other.replace("{column}", column)), phenotype) in values:
            return None, ""
    labels, trouble = _meaning(value, mapping, told is None)
    return None if labels is None else set(labels), f"label {column}={value} {trouble}" if trouble else ""


def person(row: pd.Series, phenotype: Phenotype, name: str) -> tuple[dict, str | None]:
    """(fields of the subject table, why the subject is left out or None) of one row of the table of dataset `name`."""
    fields = _fields(row, phenotype, name)
    labels: set[str] = set()
    for wanted, mapping in phenotype.labels.items():
        told = []
        for column in label_columns(list(row.index), wanted):
            meant, trouble = _column_labels(row, column, mapping, phenotype)
            if trouble:
                return fields, f"{trouble}: add it to datasets.{name}.phenotype.labels"
            told += [] if meant is None else [meant]
        if not told and phenotype.unlabelled == "exclude":
            why = "is empty for this subject" + (", or to be ignored" if phenotype.ignore else "")
            return fields, f"no label: column {wanted} of the phenotype table {why}"
        labels = labels.union(*told)
    fields["labels"] = _joined(labels)
    return fields, None


def simulated_person(row: pd.Series, name: str) -> tuple[dict, str | None]:
    """The same for a row of a simulated dataset's participants.tsv."""
    fields = _fields(row, SIMULATED_TABLE, name)
    return {**fields, "labels": _joined(set(row["diagnosis"].split("+")))}, None


def _unfit(rows: pd.DataFrame, phenotype: Phenotype) -> pd.Series:
    """Why a row does not count by `where`, '' for those that do."""
    reasons = pd.Series("", index=rows.index)
    for column, values in phenotype.where.items():
        if column in rows:
            cells = rows[column].map(_plain_value)
            out = ~cells.isin(_plain_values(tuple(values))) & (reasons == "")
            reasons[out] = f"{column}=" + cells[out].replace("", "empty") + " is not in phenotype.where"
    return reasons


def _named(phenotype: Phenotype) -> list[str]:
    """Columns that the study names, but for wildcards and the subject's."""
    one = [phenotype.age, phenotype.sex, phenotype.family]
    carried = [column for columns in phenotype.carried().values() for column in columns]
    return [column for column in (*phenotype.site_columns(), *one, *carried, *phenotype.where, *phenotype.labels) if column]


def _as_named(rows: pd.DataFrame, phenotype: Phenotype) -> pd.DataFrame:
    """The table with columns under the names that the study has for them: 'dx' and 'DX ' are one. Of several that may have a
    name, the one that is written so has it, else the first.
    """
    names = [*_named(phenotype), *phenotype.subject_columns()]
    stripped: list[str] = []
    for column in rows:
        plain = column.strip()
        stripped.append(column if plain in rows or plain in stripped else plain)
    renamed = {alike(stripped, name): name for name in names}
    return rows.set_axis([renamed.get(column, column) for column in stripped], axis=1)


def read_text(table: Path) -> pd.DataFrame:
    """A phenotype table as text. Raises McspError when it can't be read, or a row has more cells than the header."""
    return text_tables.read_text(
        table, what="phenotype table", obtain="fetch the dataset, put its phenotype table there, or set phenotype.table",
        mend="set phenotype.table or mend the file",
    )  # fmt: skip


def _read_table(table: Path, phenotype: Phenotype) -> pd.DataFrame:
    """One table as text, with `_subject` and `_unfit`. Raises McspError when it can't be read or lacks the subject's column."""
    rows = _as_named(read_text(table), phenotype)
    subject = next((name for name in phenotype.subject_columns() if name in rows), None)
    if subject is None:
        raise _no_column(table, phenotype.subject_columns()[:1], rows)
    rows = rows if table.match("participants*.tsv") else rows.iloc[phenotype.description_rows :]
    rows = rows[rows[subject].str.strip() != ""]
    if FOLDER in phenotype.site_columns():
        rows = rows.assign(**{FOLDER: table.absolute().parent.name})
    return rows.assign(
        _unfit=_unfit(rows, phenotype), _subject=rows[subject].str.split(",").str[0].str.strip().str.removeprefix("sub-")
    )


def _no_column(table: Path | str, columns: list[str], rows: pd.DataFrame) -> McspError:
    has = ", ".join([str(column) for column in rows.columns if not str(column).startswith("_")][:30])
    return McspError(f"{table}: no column {', '.join(columns)} (it has {has}): mend the dataset's phenotype options")


def read_phenotype(tables: Sequence[Path], phenotype: Phenotype) -> pd.DataFrame:
    """The rows of all phenotype tables as text, '' in columns that a table lacks, with `_table` (number of the row's table),
    `_subject` (label as written there), `_label` (label for comparison) and `_unfit` (why the row does not count, or '').

    Raises McspError when one is not there or not readable, or no table has a column that the study names. The default
    columns `age` and `sex` may be missing, and those that are only carried along: they are then unknown.
    """
    parts = [_read_table(table, phenotype).assign(_table=number) for number, table in enumerate(tables)]
    rows = pd.concat(parts, ignore_index=True).fillna("")
    defaults = {name: Phenotype.model_fields[name].default for name in ("age", "sex")}
    named = [getattr(phenotype, name) for name in ("age", "sex") if getattr(phenotype, name) != defaults[name]]
    missing = [column for column in (phenotype.family, *named, *phenotype.where) if column and column not in rows]
    sites = phenotype.site_columns()
    missing += [] if not sites or set(sites) & set(rows) else sites[:1]
    missing += [column for column in phenotype.labels if not label_columns(list(rows), column)]
    if missing:
        raise _no_column(" and ".join(map(str, tables)), missing, rows)
    return rows.assign(_label=rows["_subject"].map(plain_label))


def absent(phenotype: Phenotype, columns: Sequence[str]) -> dict[str, list[str]]:
    """Option -> columns that the study names for it and no table has, of what is only carried along."""
    wanted = phenotype.carried()
    return {option: names for option, names in wanted.items() if names and not set(names) & set(columns)}


def overlooked(phenotype: Phenotype, columns: Sequence[str]) -> dict[str, list[str]]:
    """Age or sex, where no table has the column of it -> columns that look like it."""
    lost = [option for option in ("age", "sex") if (name := getattr(phenotype, option)) and name not in columns]
    return {option: [column for column in columns if re.fullmatch(USUAL_NAMES[option], column.lower())] for option in lost}


def unread(rows: pd.DataFrame, phenotype: Phenotype) -> dict[str, list[str]]:
    """Age or sex -> cells of the rows that count, which tell neither that nor that it is missing."""
    readable = {"age": lambda text: not math.isnan(_as_number(text)), "sex": phenotype.sex_map.__contains__}
    found = {}
    for option, fits in readable.items():
        column = getattr(phenotype, option)
        cells = rows.loc[rows["_unfit"] == "", column] if column in rows else []
        found[option] = [text for own in cells if (text := known(own, phenotype)) and not fits(text)]
    return found


def used_columns(phenotype: Phenotype, columns: Sequence[str]) -> list[str]:
    """Columns of the tables that decide on a subject."""
    labels = [column for wanted in phenotype.labels for column in label_columns(columns, wanted)]
    beside = [alike(columns, other.replace("{column}", column)) for other in phenotype.ignore for column in labels]
    names = [*phenotype.site_columns(), phenotype.age, phenotype.sex, phenotype.family]
    carried = [column for own in phenotype.carried().values() for column in own]
    return [column for column in dict.fromkeys([*names, *carried, *labels, *beside]) if column and column in columns]


def rows_that_count(own: pd.DataFrame) -> tuple[pd.DataFrame, str | None]:
    """(the rows of one subject that count, or why the subject is left out: of a table that has it, no row counts)."""
    counts = own["_unfit"] == ""
    for _, reasons in own["_unfit"].groupby(own["_table"]):
        if (reasons != "").all():
            return own, reasons.iloc[0]
    return own[counts], None


def one_row(own: pd.DataFrame, phenotype: Phenotype, used: Sequence[str]) -> tuple[pd.Series, str | None]:
    """(one row of what is known of a subject, the first that knows a column counting; why it can't be believed: rows of one
    table that disagree in a column that is `used`).
    """
    row, trouble = own.iloc[0].copy(), None
    for column in used if len(own) > 1 else ():
        values = own[column].map(lambda text: known(text, phenotype))
        if (values.groupby(own["_table"]).nunique() > 1).any():
            trouble = f"{len(own)} rows in the phenotype table that disagree: keep one"
        if values.notna().any():
            row[column] = values.dropna().iloc[0]
    return row, trouble
