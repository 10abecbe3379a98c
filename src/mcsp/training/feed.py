"""Batches on the device. Where the subjects fit into its memory they are uploaded once and gathered there; else a thread
gathers the next batches from the memory maps. Both ways give the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from mcsp.errors import McspError
from mcsp.model.batch import Batch, Key
from mcsp.training.data import Subjects, as_tensor

T = TypeVar("T")
AHEAD = 2  # batches that wait, at most
SHARE = 0.5  # of the device's free memory that subjects may take; the rest is for the step


def table_bytes(subjects: Subjects, dtype: torch.dtype) -> int:
    """Bytes of all rows of all subjects, and of the row of zeros that stands for missing ones."""
    return sum((len(rows) + 1) * int(np.prod(subjects.shapes[key])) * dtype.itemsize for key, rows in subjects.rows.items())


def fits(subjects: Subjects, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the subjects take less than half of a GPU's free memory. On the CPU never: the memory maps are its memory."""
    return device.type == "cuda" and table_bytes(subjects, dtype) < SHARE * torch.cuda.mem_get_info(device)[0]


class Resident:
    """All rows in device memory; a batch is an `index_select`. Who lacks a modality reads its last row, of zeros."""

    def __init__(self, subjects: Subjects, device: torch.device, dtype: torch.dtype):
        self.subjects, self.device = subjects, device
        self.tables = {key: self._upload(key, dtype) for key in subjects.keys}
        # the last place is nobody's: ABSENT is -1
        self.places = {m: np.append(np.where(has, np.cumsum(has) - 1, has.sum()), has.sum()) for m, has in subjects.has.items()}

    def _upload(self, key: Key, dtype: torch.dtype) -> torch.Tensor:
        rows = self.subjects.rows[key]
        table = torch.zeros((len(rows) + 1, *self.subjects.shapes[key]), dtype=dtype, device=self.device)
        for place, row in enumerate(rows.values()):
            table[place].copy_(as_tensor(row))
        return table

    def __call__(self, index: list[int]) -> Any:
        """The subjects of these numbers, on the device."""
        facts = Batch({}, *self.subjects.facts(index)).to(self.device)
        places = {m: torch.from_numpy(place[index]).to(self.device, non_blocking=True) for m, place in self.places.items()}
        x = {key: table.index_select(0, places[key[0]]).float() for key, table in self.tables.items()}
        return self.subjects.finish(index, Batch(x, facts.present, facts.n_valid))


def prefetched(make: Callable[[list[int]], T], order: Iterable[list[int]]) -> Iterator[T]:
    """`make` of each item, worked out ahead by a thread. What the thread raises is raised here; it ends with the iterator."""
    waiting: Queue = Queue(AHEAD)
    stop = threading.Event()

    def put(item: tuple[str, Any]) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except Full:
                continue

    def work() -> None:
        try:
            for index in order:
                if stop.is_set():
                    return
                put(("batch", make(index)))
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
            del value  # not held while the next one is awaited: memory is `AHEAD` batches and the one in use
    finally:
        stop.set()
        while True:  # let go of what waits, and of the thread
            try:
                waiting.get_nowait()
            except Empty:
                break
        thread.join()


class Feed:
    """Batches of `subjects` for Lightning, as `batches` (a sampler, or a list) draws them. Its position is part of checkpoints.

    `data`: where batches are gathered, `auto` is by what fits. `dtype`: of the rows on their way; batches are float32.
    `device` is set by `engine.fit`.
    """

    def __init__(
        self,
        subjects: Subjects,
        batches: Any,
        data: Literal["auto", "device", "stream"] = "auto",
        dtype: torch.dtype = torch.float32,
    ):
        self.subjects, self.data, self.dtype = subjects, data, dtype
        self.batch_sampler = batches  # the name under which Lightning looks for what wants to know the epoch
        self.device = torch.device("cpu")
        self.position = self._start = 0
        self._resident: Resident | None = None

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def _is_resident(self) -> bool:
        return self.data == "device" or (self.data == "auto" and fits(self.subjects, self.device, self.dtype))

    def _upload(self) -> Resident:
        try:
            return Resident(self.subjects, self.device, self.dtype)
        except torch.OutOfMemoryError:
            size = table_bytes(self.subjects, self.dtype) / 1e9
            raise McspError(
                f"engine.data = device: the subjects' {size:.1f} GB do not fit on {self.device}: use auto or stream"
            ) from None

    def _gather(self, index: list[int]) -> Batch:
        pin = self.device.type == "cuda"
        x = {key: self.subjects.tensor(index, key, self.dtype, pin) for key in self.subjects.keys}
        return Batch(x, *self.subjects.facts(index))

    def _streamed(self, order: list[list[int]]) -> Iterator[Any]:
        for index, batch in zip(order, prefetched(self._gather, order)):
            here = batch.to(self.device)
            yield self.subjects.finish(index, Batch({k: v.float() for k, v in here.x.items()}, here.present, here.n_valid))

    def __iter__(self) -> Iterator[Any]:
        order = list(self.batch_sampler)[self._start :]
        self.position, self._start = self._start, 0
        if self._resident is None and self._is_resident():
            self._resident = self._upload()
        for batch in self._streamed(order) if self._resident is None else map(self._resident, order):
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches of this epoch that are done."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind these batches."""
        self._start = state["position"] % len(self)
