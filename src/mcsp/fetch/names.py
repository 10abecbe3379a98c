"""Names of files that a study changes to those that BIDS knows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mcsp.errors import McspError


def new_name(rename: Mapping[str, str], path: str, where: str, option: str) -> str | None:
    """The new path of a file by the one pattern of `rename` that fits the whole `path`; None where none does.

    Raises McspError, which names `where` it lies and the `option` of the study file that says so, when several fit.
    """
    found = {pattern: fit.expand(to) for pattern, to in rename.items() if (fit := re.fullmatch(pattern, path))}
    if len(found) > 1:  # options travel as JSON with sorted keys: their order means nothing
        raise McspError(f"{where}: of {option}, {' and '.join(sorted(found))} fit {path!r}: let one fit")
    return next(iter(found.values()), None)
