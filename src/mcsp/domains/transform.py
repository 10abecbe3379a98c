"""From one shard's temporal store to another domain's, row by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mcsp.options import Options
from mcsp.shards import work_through, write_status
from mcsp.store import Store, StoreWriter


class Row:
    """Work on one row of a store, by its number; picklable, so that worker processes map the file themselves."""

    def __init__(self, path: Path, function: Callable[..., np.ndarray], timed: bool):
        self.path, self.function, self.timed = path, function, timed

    def __call__(self, index: int) -> np.ndarray:
        store = Store(self.path)
        return self.function(store.row(index), store.n_valid[index], *([store.frames(index)] if self.timed else []))


def transform_store(
    *,
    temporal: Path,
    function: Callable[..., np.ndarray],
    shape: tuple[int, ...],
    meta: dict[str, Any],
    options: Options,
    store: Path,
    status: Path,
    stage: str,
    dataset: str,
    threads: int,
    above: np.ndarray | None = None,
    timed: bool = False,
) -> None:
    """Write `function(row, n_valid)` of every row of `temporal` to `store`, and the status of its subjects. Its metadata
    is the temporal one's and `meta`, with the stage's `options` beside those of the stage before.

    `timed`: it is `function(row, n_valid, frames)`.
    `above`: upper edge in Hz of each entry, of a shape that fits `shape`; entries with one above what a recording holds
    become NaN: they were not recorded, which is something else than being zero.
    """
    source = Store(temporal)
    made_by = {**source.meta.get("options", {}), stage.split("-")[0]: options.model_dump(mode="json")}
    items = [(uid, index) for index, uid in enumerate(source.uids)]
    outcomes = []
    with StoreWriter(store, shape, {**source.meta, **meta, "options": made_by}) as writer:
        for outcome in work_through(Row(temporal, function, timed), items, threads=threads, label=f"{stage} {dataset}"):
            if outcome.state == "done":
                index = source.uids.index(outcome.key)
                value, top = outcome.value, source.top_hz[index]
                if above is not None and np.isfinite(top):
                    value = np.where(above > top, np.nan, value)
                lost = stage.endswith("-fmri") and not source.row(index).any(axis=-1).all()
                writer.add(outcome.key, value, source.n_valid[index], top, lacks=lost)
            outcomes.append(outcome._replace(value=None))
    write_status(status, stage, dataset, outcomes)
