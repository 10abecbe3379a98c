"""Download everything that a later stage would, for clusters whose nodes have no network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from mcsp.options.atlas import AtlasOptions
from mcsp.schaefer import fetch_schaefer
from mcsp.store import write_tsv

COLUMNS = {
    "what": "What was downloaded",
    "path": "Where it lies; later stages find it there by themselves",
    "size": "Bytes",
    "sha256": "Checksum of the file",
}


def atlas_files(atlas: AtlasOptions) -> list[Path]:
    """Files of the atlas that are fetched from the network; none when it is built in or given by the study.

    Raises McspError when the download fails.
    """
    if atlas.image or atlas.table or atlas.name == "dosenbach160":
        return []
    image, _ = fetch_schaefer(atlas.name)
    return sorted(path for path in image.parent.iterdir() if path.is_file() and image.name.split("_FSL")[0] in path.name)


def run(*, atlas: AtlasOptions, out: Path) -> None:
    """Download, and write the list of files with their checksums at `out`. Raises McspError when a download fails."""
    rows = []
    for path in atlas_files(atlas):
        content = path.read_bytes()
        rows.append((f"atlas {atlas.name}", str(path.resolve()), len(content), hashlib.sha256(content).hexdigest()))
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), out, COLUMNS)
    print(f"{len(rows)} files downloaded: {out}" if rows else f"atlas {atlas.name}: nothing to download")
