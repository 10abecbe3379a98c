"""Tables of others, as text: nothing is guessed of types, and what is wrong with a file is said in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from mcsp.errors import McspError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def read_text(table: Path, *, what: str, obtain: str, mend: str) -> pd.DataFrame:
    """A table (CSV, else tabs) as text, blank cells ''. `what` it is, how to `obtain` it and how to `mend` it are for messages.

    Raises McspError when it can't be read, a row has more cells than the header, or cells are separated by something else.
    """
    separator = "," if table.suffix == ".csv" else "\t"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            rows = pd.read_csv(
                table, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                encoding_errors="replace", index_col=False,  # else a first row with a cell too many would shift all columns
            )  # fmt: skip
    except FileNotFoundError as error:
        raise McspError(f"{table}: not there: {obtain}") from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise McspError(f"{table}: {what} not readable ({reason}): {mend}") from error
    others = [
        name for sign, name in SEPARATORS.items() if sign != separator and len(rows.columns) == 1 and sign in rows.columns[0]
    ]
    if others:
        wanted = "a .csv has commas" if separator == "," else "BIDS wants tabs"
        raise McspError(f"{table}: one column only, are cells separated by {others[0]}? {wanted}: write the {what} so")
    return rows
