"""Recordings known by their content: doubles, and files that changed since they were ingested."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcsp.errors import McspError


def data_files(path: Path) -> list[Path]:
    """Files that hold the data of a header: what a `.vhdr` names, the `.fdt` beside a `.set`. They may be missing."""
    if path.suffix == ".vhdr":
        named = re.search(r"^DataFile=(.+)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return [path.with_name(named[1].strip().replace("$b", path.stem)) if named else path.with_suffix(".eeg")]
    fdt = path.with_suffix(".fdt")
    return [fdt] if path.suffix == ".set" and fdt.exists() else []


def fingerprint(path: Path) -> str:
    """Hash of the first MiB and the size of a recording's data: tells a changed or doubled recording by one short read.

    Headers beside the data do not count: they hold the file's own name, so those of doubles differ.
    """
    digest = hashlib.sha256()
    for part in data_files(path) or [path]:
        with open(part, "rb") as file:
            digest.update(file.read(1 << 20))
        digest.update(str(part.stat().st_size).encode())
    return digest.hexdigest()[:16]


def check_unchanged(row: Mapping[str, Any]) -> None:
    """Raise McspError where the recording of a `row` of the recordings table is not the one that was ingested: what the cohort
    says of it may be wrong by now.
    """
    path, known = Path(row["path"]), row["fingerprint"]
    try:
        if not known or fingerprint(path) == known:
            return
        what = "changed"
    except FileNotFoundError:
        what = "is gone"
    raise McspError(f"{path}: {what} since it was ingested: run snakemake again with --forcerun ingest_shard")
