"""Fetch a dataset: its terms, how large it is, the files, and what makes one BIDS dataset of several."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import requests

from mcsp.errors import Exclusion, McspError
from mcsp.fetch.archives import unpack
from mcsp.fetch.bucket import Remote, list_remotes, new_session
from mcsp.fetch.nda import lay_out
from mcsp.fetch.transfer import Missing, fetch_file, is_there
from mcsp.options.fetch import FetchOptions
from mcsp.store import copy_file, write_json, write_tsv

COLUMNS = {
    "path": "File below the dataset's directory",
    "state": "fetched, there (from an earlier time, unchanged), missing (the server lists it and has it not), or left out",
    "size": "Bytes",
    "etag": "The server's mark of the content: the MD5 unless it holds '-'",
    "url": "Where it comes from; of what was left out, why",
}
SIDECARS = ("_bold.json", "T1w.json", "_eeg.json")  # what a dataset's top says of all its recordings
BIDS_VERSION = "1.8.0"
SHARE = 0.05  # of the bytes between two lines of progress


class Progress:
    """Prints how much of the bytes has come, now and then, from any thread."""

    def __init__(self, total: int):
        self.total, self.done, self.next = total, 0, SHARE
        self.start, self.lock = time.monotonic(), threading.Lock()

    def tell(self, n: int) -> None:
        """Count `n` bytes more."""
        with self.lock:
            self.done += n
            if self.total and self.done >= self.next * self.total:
                rate = self.done / max(time.monotonic() - self.start, 1e-3)
                left = max(self.total - self.done, 0) / max(rate, 1)
                wait = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
                print(f"{_size(self.done)} of {_size(self.total)}, {_size(rate)}/s, about {wait} left", flush=True)
                self.next = self.done / self.total + SHARE


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


def _free(path: Path) -> int:
    """Bytes free where `path` is or will be."""
    there = next(place for place in (path, *path.absolute().parents) if place.is_dir())
    return shutil.disk_usage(there).free


def announce(name: str, options: FetchOptions, path: Path, remotes: Sequence[Remote], wanted: Sequence[Remote]) -> None:
    """Print the terms and how much will come. Raises McspError when the terms are not accepted, or the disk is too small."""
    people = {remote.subject for remote in remotes if remote.subject}
    total, coming = (sum(max(remote.size, 0) for remote in own) for own in (remotes, wanted))
    print(f"{name}: terms of use: {options.terms}")
    if options.by_hand:
        print(f"{name}: by hand: {options.by_hand}")
    print(f"{name}: {len(remotes)} files of {len(people)} subjects, {_size(total)}, into {path}")
    print(f"{name}: to fetch now: {len(wanted)} files, {_size(coming)}; {_size(_free(path))} are free", flush=True)
    if not options.accept_terms:
        remedy = f"read the terms ({options.terms}), then set datasets.{name}.fetch.accept_terms: true in the study file"
        raise McspError(f"{name}: not fetched: {remedy}")
    if coming > _free(path):
        raise McspError(f"{name}: {_size(coming)} do not fit into {path} ({_size(_free(path))} free): make room, or set subset")


def transfer(
    session: requests.Session, path: Path, wanted: Sequence[Remote], *, retries: int, threads: int, wait: float = 1.0
) -> dict[str, Exclusion]:
    """Fetch files below `path`, several at a time. Returns path -> why it could not be fetched.

    Interrupted, it begins no other file and leaves those under way where they are.
    """
    progress, stop = Progress(sum(max(remote.size, 0) for remote in wanted)), threading.Event()

    def tell(n: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        progress.tell(n)

    def one(remote: Remote) -> tuple[str, Exclusion | None]:
        try:
            fetch_file(session, remote, path / remote.path, retries=retries, tell=tell, wait=wait)
        except Exclusion as error:
            return remote.path, error
        return remote.path, None

    pool = ThreadPoolExecutor(threads)
    try:
        return {where: why for where, why in pool.map(one, wanted) if why}
    except KeyboardInterrupt:
        print("stopped: what came is kept, the same command goes on there", flush=True)
        raise
    finally:
        stop.set()  # else a pool ends all that it was given first: days, of a cohort
        pool.shutdown(cancel_futures=True)


def join_datasets(name: str, path: Path, remotes: Sequence[Remote]) -> None:
    """Make one BIDS dataset of several: what the top of each says of its recordings goes to each of its own subjects, and
    the whole gets a description.
    """
    people, tops = defaultdict(set), defaultdict(list)
    for remote in remotes:
        if remote.subject:
            people[remote.group].add(remote.subject)
        elif remote.path.startswith("sourcedata/") and remote.path.endswith(SIDECARS) and remote.path.count("/") == 2:
            tops[remote.group].append(path / remote.path)
    for group, sidecars in tops.items():
        for subject in sorted(people[group]):
            for sidecar in sidecars:
                target = path / subject / f"{subject}_{sidecar.name}"
                if sidecar.is_file() and (not target.is_file() or target.read_bytes() != sidecar.read_bytes()):
                    copy_file(sidecar, target)
    description = path / "dataset_description.json"
    if any(people.values()) and not description.is_file():
        write_json(description, {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "raw"})


def unpack_archives(name: str, options: FetchOptions, path: Path) -> None:
    """Unpack the archives that the user put below `path`. Raises McspError when one can't be trusted or is damaged."""
    for archive in sorted({found for pattern in options.archives for found in path.glob(pattern) if found.is_file()}):
        print(f"{name}: {unpack(archive, archive.parent, options.archive_names)} files unpacked from {archive}", flush=True)


def obtained(name: str, options: FetchOptions, path: Path) -> list[tuple]:
    """Start from what only the user can obtain: archives, a package, or a ready dataset. Returns rows of the list of files.

    Raises McspError, with what to do, when it is not there.
    """
    print(f"{name}: terms of use: {options.terms}")
    something = any(path.glob("[!.]*"))  # an empty directory holds nothing that was obtained
    if not (something or (options.nda and Path(options.nda.package).is_dir())):
        raise McspError(f"{name}: can't be fetched by a program. {options.by_hand}")
    unpack_archives(name, options, path)
    if not options.nda or not Path(options.nda.package).is_dir():
        print(f"{name}: {path} is there; by hand: {options.by_hand}")
        return []
    rows = lay_out(name, options.nda, path)
    for where, _, _, _, why in (row for row in rows if row[1] == "left out"):
        print(f"{name}: {where}: {why}")
    done = Counter(row[1] for row in rows)
    counts = f"{done['fetched']} files laid out, {done['there']} there, {done['left out']} left out"
    print(f"{name}: of {options.nda.package}: {counts}")
    return rows


def run(*, name: str, options: FetchOptions, path: Path, out: Path, threads: int = 8, wait: float = 1.0) -> None:
    """Fetch dataset `name` into `path`, and write the list of its files at `out`.

    What is there and unchanged is not fetched again. Objects that the server lists and has not are noted. Raises McspError
    when the terms are not accepted, nothing can be fetched by a program, the disk is too small, or transfers fail: those that
    succeeded stay, and the next run goes on.
    """
    if not (options.sources or options.files):
        write_tsv(pd.DataFrame(obtained(name, options, path), columns=list(COLUMNS)), out, COLUMNS)
        return
    session = new_session(options.retries)
    remotes = list_remotes(session, options)
    wanted = [remote for remote in remotes if not is_there(remote, path / remote.path)]
    announce(name, options, path, remotes, wanted)
    failed = transfer(session, path, wanted, retries=options.retries, threads=threads, wait=wait)
    missing = {where for where, why in failed.items() if isinstance(why, Missing)}
    for where, why in sorted(failed.items()):
        print(f"{name}: {where}: {why}")
    if failed and (len(failed) > len(missing) or len(missing) == len(wanted)):
        first = min(failed.keys() - missing or missing)
        raise McspError(
            f"{name}: {len(failed)} of {len(wanted)} files were not fetched (first: {first}: {failed[first]}): "
            "run it again: what came is kept"
        )
    join_datasets(name, path, remotes)
    unpack_archives(name, options, path)
    fetched = {remote.path for remote in wanted}
    rows = [
        (r.path, "missing" if r.path in missing else "fetched" if r.path in fetched else "there", r.size, r.etag, r.url)
        for r in remotes
    ]
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), out, COLUMNS)
    print(f"{name}: {len(fetched - missing)} files fetched, {len(remotes) - len(wanted)} there, {len(missing)} missing: {out}")


def run_study(
    datasets: Mapping[str, tuple[FetchOptions, Path]], folder: Path, *, subset: int | None, threads: int, wait: float = 1.0
) -> None:
    """Fetch all datasets (name -> options, directory) of a study, each `subset` subjects of each source and site where given.
    Their lists go to `folder`, under names of their own: the workflow must not take a try for the whole.

    Raises McspError, after all were tried, with what hindered each.
    """
    if not datasets:
        raise McspError("this study fetches nothing: none of its datasets has the option fetch")
    trouble = []
    for name, (options, path) in datasets.items():
        wanted = options.model_copy(update={"subset": subset}) if subset else options
        try:
            run(name=name, options=wanted, path=path, out=folder / f"{name}.try.tsv", threads=threads, wait=wait)
        except McspError as error:
            trouble.append(str(error))
    if trouble:
        raise McspError("; ".join(trouble))
