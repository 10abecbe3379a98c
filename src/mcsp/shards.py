"""Shards: which subject belongs where, and how a stage works through one without ever stopping at a bad recording."""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pandas as pd
from rich.progress import track

from mcsp.errors import Exclusion, McspError
from mcsp.store import write_tsv

STATUS_COLUMNS = {
    "uid": "Subject: dataset/sub-label",
    "dataset": "Dataset's name in the study file",
    "stage": "Stage and modality that this line speaks of",
    "state": "done, excluded (unusable, with reason) or failed (an unexpected error; the log has the traceback)",
    "reason": "Why the subject is not in the store; n/a when done",
}
RUN_COLUMNS = {
    "uid": "Subject: dataset/sub-label",
    "session": "BIDS session",
    "run": "BIDS run",
    "task": "BIDS task",
    "file": "Recording",
    "state": "used, excluded (unusable, with reason), or not needed (one run of a subject is enough)",
    "reason": "Why it is excluded",
}


def plain_label(text: str) -> str:
    """Subject label for comparison: without 'sub-', leading zeros and what follows a comma ('sub-0051', '51' and LORIS'
    '51,assessment' are one subject).
    """
    return text.split(",")[0].strip().removeprefix("sub-").lstrip("0") or "0"


def shard_of(subject: str, n_shards: int) -> int:
    """Shard of a subject: a hash of the plain label alone, so that adding a subject moves no other, and a subject whose
    table writes '51' for 'sub-0051' is in one place.
    """
    return int.from_bytes(hashlib.sha256(plain_label(subject).encode()).digest()[:8], "big") % n_shards


class Outcome(NamedTuple):
    """What became of one item: `value` when state is 'done', else `reason`."""

    key: str
    state: str
    reason: str | None
    value: Any


def _attempt(work: Callable[[Any], Any], key: str, item: Any) -> Outcome:
    try:
        value, state, reason = work(item), "done", None
    except McspError:
        raise  # it concerns the study, not this subject
    except Exclusion as error:
        value, state, reason = None, "excluded", " ".join(str(error).split())
    except Exception as error:
        # A reader can fail in any way on a damaged file; the shard goes on and the log keeps the traceback.
        print(f"{key}: unexpected error\n{traceback.format_exc()}", flush=True)
        value, state, reason = None, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    return Outcome(key, state, reason, value)


def _end_with_parent() -> None:
    """In a worker: end when the process that started it has died. By themselves, workers of one that was killed wait for ever
    (each holds both ends of the queue), with all their memory.
    """

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def work_through(
    work: Callable[[Any], Any], items: Sequence[tuple[str, Any]], *, threads: int, label: str
) -> Iterator[Outcome]:
    """Run `work(item)` on each (key, item), yielding outcomes in the order of `items`.

    With `threads` > 1, in that many processes; at most 2 x `threads` results are held at once, so memory does not
    grow with the number of items. `work` must be a module-level function or a partial of one. Raises McspError when `work`
    does.
    """
    if threads <= 1 or len(items) <= 1:
        for key, item in track(items, description=label):
            yield _attempt(work, key, item)
        return
    spawn = get_context("spawn")
    with ProcessPoolExecutor(min(threads, len(items)), mp_context=spawn, initializer=_end_with_parent) as pool:
        waiting = list(items)
        running: dict[Any, int] = {}
        ready: dict[int, Outcome] = {}
        submitted = 0
        for position in track(range(len(waiting)), description=label):
            while position not in ready:
                while submitted < len(waiting) and submitted - position < 2 * threads:
                    key, item = waiting[submitted]
                    running[pool.submit(_attempt, work, key, item)] = submitted
                    submitted += 1
                done = next(as_completed(running))
                ready[running.pop(done)] = done.result()
            yield ready.pop(position)


def run_record(row: dict, state: str, reason: str | None = None, **quality: float) -> dict:
    """What the runs table says of one recording: RUN_COLUMNS, and what the stage measured. `row`: of the recordings table."""
    named = {key: row[key] for key in ("uid", "session", "run", "task")}
    reason = " ".join(reason.split()) if reason else None
    return {**named, "file": Path(row["path"]).name, "state": state, "reason": reason, **quality}


def write_runs(path: Path, records: Sequence[dict], measured: dict[str, str]) -> None:
    """Write the runs table; `measured` describes the stage's own columns."""
    columns = RUN_COLUMNS | measured
    write_tsv(pd.DataFrame(records, columns=list(columns)), path, columns)


def write_status(path: str | Path, stage: str, dataset: str, outcomes: Sequence[Outcome], runs: Sequence[dict] = ()) -> None:
    """Write what became of each subject of a shard, without the values; of `runs` (as `run_record` gives them) those that
    can't be used, of subjects that stay.
    """
    rows = [(o.key, dataset, stage, o.state, o.reason) for o in outcomes]
    rows += [(run["uid"], dataset, f"{stage}-run", "excluded", run["reason"]) for run in runs if run["state"] == "excluded"]
    write_tsv(pd.DataFrame(rows, columns=list(STATUS_COLUMNS)), path, STATUS_COLUMNS)
