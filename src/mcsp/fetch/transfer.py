"""One file over HTTPS: cut transfers go on where they stopped, and nothing but whole, checked files gets its name."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests
import urllib3

from mcsp.errors import Exclusion
from mcsp.fetch.bucket import TIMEOUT, Remote

CHUNK = 1 << 17  # bytes between two looks at whether to go on


class Missing(Exclusion):
    """The server lists a file and has it not."""


BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _has_sum(remote: Remote) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", remote.etag) is not None


def is_there(remote: Remote, target: Path) -> bool:
    """Whether a file was fetched before, and the server's has not changed since: size and time, as `wget -N` has it; where
    the time differs, the checksum if the server tells one.
    """
    if not target.is_file() or (remote.size >= 0 and target.stat().st_size != remote.size):
        return False
    if remote.modified and abs(target.stat().st_mtime - remote.modified) < 2:
        return True
    if _has_sum(remote) and _md5(target) == remote.etag:
        os.utime(target, (remote.modified, remote.modified))
        return True
    return False


def _append(session: requests.Session, remote: Remote, part: Path, tell: Callable[[int], None]) -> bool:
    """Fetch what `part` lacks. Returns whether the ETag is a checksum: it is none of objects that S3 keeps under a key.

    Raises Missing when the server has it not, Exclusion when it has another one by now.
    """
    have = part.stat().st_size if part.exists() else 0
    if 0 <= remote.size == have:
        return _has_sum(remote)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code in (403, 404, 410):
            raise Missing(f"the server has it in its list, and answers HTTP {response.status_code}")
        if response.status_code == 416:
            part.unlink()
            raise requests.ConnectionError("more is here than there")
        response.raise_for_status()
        etag = response.headers.get("ETag", "").removeprefix("W/").strip('"')
        if remote.etag and etag and etag != remote.etag:
            raise Exclusion("it changed on the server since it was listed: fetch again")
        goes_on = response.status_code == 206 and have
        if not goes_on:
            tell(-have)
        with open(part, "ab" if goes_on else "wb") as file:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                tell(len(chunk))
            os.fsync(file.fileno())
        return _has_sum(remote) and "kms" not in response.headers.get("x-amz-server-side-encryption", "")


def _check(remote: Remote, part: Path, has_sum: bool) -> None:
    """Raises ConnectionError when a file is cut, or damaged; a damaged one is removed."""
    size = part.stat().st_size
    if remote.size >= 0 and size < remote.size:
        raise requests.ConnectionError(f"cut after {size} of {remote.size} bytes")
    if (remote.size >= 0 and size != remote.size) or (has_sum and _md5(part) != remote.etag):
        part.unlink()
        raise requests.ConnectionError("its checksum is not the server's")


def fetch_file(
    session: requests.Session,
    remote: Remote,
    target: Path,
    *,
    retries: int,
    tell: Callable[[int], None] = lambda n: None,
    wait: float = 1.0,
) -> None:
    """Fetch a file to `target`, with the server's time. `tell` hears of every byte, `wait`: s before the first new try.

    Raises Missing when the server has it not, Exclusion when it can't be had otherwise: what came of it stays beside it, and
    the next call goes on there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    version = hashlib.sha256(f"{remote.etag} {remote.size} {remote.modified}".encode()).hexdigest()[:8]
    part = target.with_name(f".{target.name}.{version}.part")
    tell(part.stat().st_size if part.exists() else 0)
    for attempt in range(retries + 1):
        try:
            has_sum = _append(session, remote, part, tell)
            _check(remote, part, has_sum)
            break
        except BROKEN as error:
            if attempt == retries:
                reason = " ".join(str(error).split())[:150]
                raise Exclusion(f"{type(error).__name__} after {retries + 1} tries ({reason})") from error
            time.sleep(wait * 2**attempt)
    os.replace(part, target)
    for old in target.parent.glob(f".{target.name}.*.part"):  # of other versions
        old.unlink()
    if remote.modified:
        os.utime(target, (remote.modified, remote.modified))
