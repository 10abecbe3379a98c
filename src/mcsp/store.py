"""Stores (Arrow IPC, memory-mapped) and tables (Parquet, TSV with a JSON sidecar), written atomically.

A store holds one row per subject: `uid`, `n_valid` (frames or segments that are data, the rest is padding), a fixed-shape
tensor, `top_hz`, above which the recording holds nothing while others of its store do (infinite where it lacks nothing), and
`frames`, the numbers of the frames that are data where some between them were left out (null where none was).
Knows nothing of torch.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mcsp.errors import McspError

_META_KEY = b"mcsp"
HOST = platform.node().split(".")[0] or "here"
DAY = 86_400  # s


def _is_dead(part: Path, host: str, pid: int) -> bool:
    """Whether the process that wrote a part has ended; of another machine's it is believed after a day."""
    if host != HOST:
        return time.time() - part.stat().st_mtime > DAY
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and alive
        return False
    return False


def _remove(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Give a name beside `path` for a file or directory that is not whole yet; what then still lies there is removed. What
    killed processes left of earlier tries is removed first; others that write the same path keep theirs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = re.compile(rf"\.part-([^.]+)-(\d+)\.{re.escape(path.name)}")
    for entry in path.parent.glob(".part-*"):
        with suppress(FileNotFoundError):  # its writer has just finished
            if (of := name.fullmatch(entry.name)) and _is_dead(entry, of[1], int(of[2])):
                _remove(entry)
    part = path.with_name(f".part-{HOST}-{os.getpid()}.{path.name}")
    try:
        yield part
    finally:
        _remove(part)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it replaces `path`, on error it is removed."""
    path = Path(path)
    with part_of(path) as temporary:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


def copy_file(source: str | Path, out: str | Path) -> None:
    """Copy the file `source` to `out`, atomically. No link: Snakemake sets the time of outputs, and a link would make the
    source look new.
    """
    with atomic_path(out) as temporary:
        shutil.copyfile(source, temporary)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON. Raises McspError that names the file when it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise McspError(f"{path}: not readable as JSON ({error}): mend or replace the file") from error


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as Parquet, atomically. Equal tables give equal bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary, compression="zstd")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet table; missing text is None."""
    table = pq.read_table(path).to_pandas()
    for column in table.select_dtypes(include=["object", "string"]):
        table[column] = table[column].astype(object).where(table[column].notna(), None)
    return table


def write_tsv(table: pd.DataFrame, path: str | Path, descriptions: Mapping[str, str]) -> None:
    """Write a table for people: TSV ('n/a' where empty, as BIDS has it), and a JSON sidecar that says what each
    column means. Raises ValueError when a column has no description.
    """
    missing = [column for column in table.columns if column not in descriptions]
    if missing:
        raise ValueError(f"{path}: no description for column(s) {', '.join(map(str, missing))}")
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.6g", lineterminator="\n")
    sidecar = {str(column): {"Description": descriptions[column]} for column in table.columns}
    write_json(Path(path).with_suffix(".json"), sidecar)


def read_tsv(path: str | Path) -> pd.DataFrame:
    """Read a BIDS-style TSV: 'n/a' is missing; columns named like ids stay strings."""
    return pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False, dtype={"uid": str, "subject": str})


class StoreWriter:
    """Write a store row by row (memory: one row). Use as a context manager; the file appears when it is whole.

    `shape`: of one row's tensor. `meta`: JSON-able: `units`, `axes` (name per axis), `sfreq` or `t_r`, `names`,
    `coordinates`, `networks`, ... and `code` (version of the code that wrote it).
    """

    def __init__(self, path: str | Path, shape: Sequence[int], meta: Mapping[str, Any]):
        self._context = atomic_path(path)
        self._tensor_type = pa.fixed_shape_tensor(pa.float32(), list(shape))
        fields = [pa.field("uid", pa.string()), pa.field("n_valid", pa.int32()), pa.field("tensor", self._tensor_type)]
        fields += [pa.field("top_hz", pa.float64()), pa.field("frames", pa.list_(pa.int32()))]
        self._schema = pa.schema(fields, metadata={_META_KEY: json.dumps(dict(meta)).encode()})
        self._shape = tuple(shape)

    def __enter__(self) -> StoreWriter:
        with ExitStack() as stack:
            sink = stack.enter_context(pa.OSFile(str(stack.enter_context(self._context)), "wb"))
            self._writer = stack.enter_context(pa.ipc.new_file(sink, self._schema))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)  # each part, also where the file's end finds no room on the disk

    def add(
        self,
        uid: str,
        tensor: np.ndarray,
        n_valid: int,
        top_hz: float = np.inf,
        frames: np.ndarray | None = None,
        *,
        lacks: bool = False,
    ) -> None:
        """Append one subject. Raises ValueError on another shape or on values that are not finite; NaN is for what a recording
        with a finite `top_hz`, or that `lacks` something else, does not hold.
        """
        tensor = np.ascontiguousarray(tensor, dtype=np.float32)
        if tensor.shape != self._shape:
            raise ValueError(f"{uid}: tensor of shape {tensor.shape}, store of {self._shape}")
        known = ~np.isnan(tensor) if lacks or np.isfinite(top_hz) else np.ones_like(tensor, bool)
        if not np.isfinite(tensor[known]).all() or not known.any():
            raise ValueError(f"{uid}: values that are not finite")
        storage = pa.FixedSizeListArray.from_arrays(pa.array(tensor.reshape(-1)), tensor.size)
        column = pa.ExtensionArray.from_storage(self._tensor_type, storage)
        arrays = [pa.array([uid]), pa.array([n_valid], pa.int32()), column, pa.array([float(top_hz)])]
        arrays.append(pa.array([frames], pa.list_(pa.int32())))
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))


class Store:
    """A store opened by memory map: nothing is read until a row is asked for, and rows are views of the file."""

    def __init__(self, path: str | Path):
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise McspError(f"{path}: not a whole Arrow store ({error}): delete it and rerun its stage") from error
        self.path = Path(path)
        self.meta: dict[str, Any] = json.loads(self._reader.schema.metadata[_META_KEY])
        self.shape: tuple[int, ...] = tuple(self._reader.schema.field("tensor").type.shape)
        batches = [self._reader.get_batch(i) for i in range(self._reader.num_record_batches)]
        self.uids: list[str] = [batch.column("uid")[0].as_py() for batch in batches]
        self.n_valid: list[int] = [batch.column("n_valid")[0].as_py() for batch in batches]
        told = "top_hz" in self._reader.schema.names  # not in stores of before this column
        self.top_hz: list[float] = [batch.column("top_hz")[0].as_py() if told else np.inf for batch in batches]
        self._frames = [batch.column("frames") if "frames" in self._reader.schema.names else None for batch in batches]
        self._tensors = [batch.column("tensor") for batch in batches]

    def __len__(self) -> int:
        return len(self.uids)

    def frames(self, index: int) -> np.ndarray | None:
        """Numbers (n_valid,) of the frames that are data in row `index`; None: one after the other."""
        column = self._frames[index]
        return None if column is None or not column[0].is_valid else np.array(column[0].as_py())

    def row(self, index: int) -> np.ndarray:
        """Row `index` as a read-only float32 view of the file, of `self.shape`."""
        return self._tensors[index].storage.flatten().to_numpy(zero_copy_only=True).reshape(self.shape)
