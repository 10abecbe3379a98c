"""Archives that users put beside a dataset: unpacked file by file, each whole or not at all, and nothing outside."""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from mcsp.errors import McspError
from mcsp.fetch.names import new_name
from mcsp.store import atomic_path

# A gzip that is cut ends early, a zip under a password is a RuntimeError.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


@contextmanager
def opened(path: Path) -> Iterator[Iterator[tuple[str, int, IO[bytes] | None]]]:
    """Give (name, bytes, content) of each member of a tar or zip in order; None as content of what is no plain file.

    Raises McspError when it is no archive, damaged or cut.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield ((m.filename, m.file_size, archive.open(m)) for m in archive.infolist() if not m.is_dir())
        else:
            with tarfile.open(path, "r|*") as archive:
                yield ((m.name, m.size, archive.extractfile(m) if m.isreg() else None) for m in archive if not m.isdir())
    except DAMAGED as error:
        raise McspError(f"{path}: no whole tar or zip ({' '.join(str(error).split())}): download it again") from error


def inside(archive: Path, name: str) -> PurePosixPath:
    """A member's path. Raises McspError when it leads out of the directory that it is unpacked to."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise McspError(f"{archive}: its member {name!r} leads out of the directory: don't trust this archive")
    return path


def unpack(archive: Path, into: Path, rename: Mapping[str, str] | None = None) -> int:
    """Unpack an archive below `into`; files that are there with their size are left alone. Returns how many are new.

    `rename`: regular expression that fits a member's whole path -> its path below `into`; what none fits keeps its own.
    Raises McspError when the archive is damaged, a member would lie outside or is a link or device, or the disk is too small.
    """
    new = 0
    with opened(archive) as members:
        for name, size, content in members:
            own = inside(archive, name)
            target = into / inside(archive, new_name(rename or {}, str(own), str(archive), "archive_names") or name)
            if content is None:
                raise McspError(f"{archive}: its member {name!r} is a link or a device: don't trust this archive")
            if target.is_file() and target.stat().st_size == size:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if size > shutil.disk_usage(target.parent).free:
                raise McspError(f"{archive}: {name} ({size / 1e6:.1f} MB) does not fit on the disk: make room")
            with atomic_path(target) as temporary, open(temporary, "wb") as file:
                shutil.copyfileobj(content, file)
            new += 1
    return new
