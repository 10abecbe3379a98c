"""What lies in a public S3 bucket, and where it goes in a BIDS dataset."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from mcsp.errors import McspError
from mcsp.fetch.names import new_name
from mcsp.options.fetch import FetchOptions, Source

TABLES = (".csv", ".tsv", ".json", ".txt", ".md", ".pdf")  # belong to nobody
TIMEOUT = (15, 60)  # s to connect, s without a byte


class Remote(NamedTuple):
    """A file to fetch. `etag` is the MD5 of the content unless it holds '-' (S3's objects sent in parts)."""

    path: str  # below the dataset's directory
    url: str
    size: int
    etag: str
    modified: float  # s since 1970
    group: str  # source and site it comes from
    subject: str  # '' for files that belong to nobody


def new_session(retries: int) -> requests.Session:
    """A session that tries refused connections and overloaded servers again, waiting longer each time."""
    again = Retry(
        total=retries, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=["GET", "HEAD"]
    )
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # bytes as they lie there: sizes and checksums are of those
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again, pool_maxsize=32))
    return session


def _get(session: requests.Session, url: str, **options) -> requests.Response:
    try:
        response = session.get(url, timeout=TIMEOUT, **options)
        response.raise_for_status()
    except requests.RequestException as error:
        reason = f"HTTP {error.response.status_code}" if error.response is not None else type(error).__name__
        raise McspError(f"{url}: can't be listed ({reason}): check the network, the bucket and the prefix") from error
    return response


def list_bucket(
    session: requests.Session, bucket: str, prefix: str, skip: Callable[[str], str | None] = lambda key: None
) -> Iterator[tuple[str, int, str, float]]:
    """(key, size, ETag, time of change) of all objects below a prefix (S3's ListObjectsV2, page by page, in order of keys).

    `skip`: the directory of a key that nothing is wanted of: once a page ends in it, the next one begins behind it (derivatives
    beside raw data may be millions). Raises McspError when the bucket can't be listed.
    """
    last = ""
    while True:
        wanted = {"list-type": "2", "prefix": prefix, **({"start-after": last} if last else {})}
        try:
            page = ElementTree.fromstring(_get(session, bucket, params=wanted).content)
        except ElementTree.ParseError as error:
            raise McspError(f"{bucket}: answers with no list of objects: is it the URL of an S3 bucket?") from error
        for item in page.iterfind("{*}Contents"):
            changed = datetime.fromisoformat(item.findtext("{*}LastModified", "")).replace(tzinfo=UTC).timestamp()
            etag = item.findtext("{*}ETag", "").strip('"')
            last = item.findtext("{*}Key", "")
            yield last, int(item.findtext("{*}Size", "0")), etag, changed
        if page.findtext("{*}IsTruncated") != "true":
            return
        unwanted = skip(last)
        last = f"{unwanted[:-1]}0" if unwanted else last  # '0' follows '/'


def unwanted_directory(source: Source, key: str) -> str | None:
    """The directory of a key that `exclude` leaves out as a whole ('derivatives/*'), as the beginning of its keys."""
    rest = key[len(source.prefix) :]
    rel = rest.partition("/")[2] if source.sites else rest
    whole = [pattern[:-1] for pattern in source.exclude if re.fullmatch(r"[^*?\[]+/\*", pattern)]
    return next((key[: len(key) - len(rel)] + own for own in whole if rel.startswith(own)), None)


def place(source: Source, key: str) -> tuple[str, str] | None:
    """(site or name of the source, path below the dataset) of an object; None when it is not wanted."""
    rest = key[len(source.prefix) :]
    name, _, rel = rest.partition("/") if source.sites else (source.name or "", "", rest)
    fits = [pattern for pattern in source.include if fnmatchcase(rel, pattern)]
    if not rel or rel.endswith("/") or not fits or any(fnmatchcase(rel, pattern) for pattern in source.exclude):
        return None
    joined = source.sites or source.name
    renamed = new_name(source.rename, rel, source.bucket, "rename")
    inside = renamed or (f"sourcedata/{name}/{rel}" if joined and not rel.startswith("sub-") else rel)
    if ".." in (*PurePosixPath(inside).parts, *PurePosixPath(rel).parts) or inside.startswith("/") or name in (".", ".."):
        raise McspError(f"{source.bucket}: the key {key!r} leads out of the dataset: don't trust this bucket")
    return name, str(PurePosixPath(source.into) / inside)


def _of_source(session: requests.Session, number: int, source: Source) -> list[Remote]:
    found = []
    skip = partial(unwanted_directory, source)
    for key, size, etag, modified in list_bucket(session, source.bucket, source.prefix, skip):
        placed = place(source, key)
        if placed:
            name, path = placed
            url = f"{source.bucket.rstrip('/')}/{quote(key)}"
            own = re.match(r"(.*/)?(sub-[^/]+)/", f"{path}")
            found.append(Remote(path, url, size, etag, modified, f"{number}/{name}", own[2] if own else ""))
    if not found:
        raise McspError(f"{source.bucket}: nothing that is wanted below {source.prefix}: mend prefix, include or exclude")
    if not any(remote.subject for remote in found):  # ready series: one file per subject
        return [r if r.path.lower().endswith(TABLES) else r._replace(subject=r.path) for r in found]
    return found


def _single(session: requests.Session, path: str, url: str) -> Remote:
    try:
        response = session.head(url, timeout=TIMEOUT, allow_redirects=True)
        response.raise_for_status()
    except requests.RequestException as error:
        reason = f"HTTP {error.response.status_code}" if error.response is not None else type(error).__name__
        raise McspError(f"{url}: can't be fetched ({reason}): check the network, or obtain {path} by hand") from error
    changed = response.headers.get("Last-Modified")
    modified = parsedate_to_datetime(changed).timestamp() if changed else 0.0
    etag = response.headers.get("ETag", "").removeprefix("W/").strip('"')
    return Remote(path, url, int(response.headers.get("Content-Length", -1)), etag, modified, "file", "")


def take_subset(remotes: Sequence[Remote], n: int) -> list[Remote]:
    """Files of `n` subjects of each source and site, those in most sources first; files that belong to nobody stay."""
    groups, times = defaultdict(set), defaultdict(set)
    for remote in remotes:
        if remote.subject:
            groups[remote.group].add(remote.subject)
            times[remote.subject].add(remote.group.split("/")[0])
    kept = {group: set(sorted(people, key=lambda who: (-len(times[who]), who))[:n]) for group, people in groups.items()}
    return [remote for remote in remotes if not remote.subject or remote.subject in kept[remote.group]]


def list_remotes(session: requests.Session, options: FetchOptions) -> list[Remote]:
    """All files of a dataset, each path once: of two sources that have it, the first counts. Raises McspError."""
    found = [_single(session, path, url) for path, url in options.files.items()]
    for number, source in enumerate(options.sources):
        found += _of_source(session, number, source)
    once = {remote.path: remote for remote in reversed(found)}
    remotes = sorted(once.values())
    return take_subset(remotes, options.subset) if options.subset else remotes
