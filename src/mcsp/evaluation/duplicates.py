"""Recordings that stand in a study twice under different names, found by their signals.

A copy under another name, with another gain, in another format or cropped has another fingerprint, and as a test subject
beside its twin in training it is a leak. Two steps: connectivity, which does not depend on when a recording begins, says who
may be who; the series themselves, shifted against each other, decide. At rest, the series of two people, or of one person on
two days, have nothing in common but chance, while a copy has everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.progress import track

from mcsp.domains.graphs import end_to_end
from mcsp.errors import McspError
from mcsp.store import Store, write_tsv

SIZE = 1024  # numbers in a signature
SIMILAR = 0.4  # correlation of signatures from which on the series are compared; copies of half a recording have 0.6 and more
NEIGHBOURS = 5  # that many of a subject's most similar ones are compared
SAME = 0.7  # correlation of the shifted series of one recording: copies have 0.9 and more, different recordings 0.1 to 0.4
OVERLAP = 0.5  # share of the shorter recording that must overlap
MOST_SERIES = 16  # regions or channels compared, evenly spread: more make it slower, but no surer
SHOWN = 10  # closest pairs of different recordings that the table shows, so that the gap can be seen
BLOCK = 1024  # subjects at a time whose similarity to all others is held

COLUMNS = {
    "modality": "fmri or eeg",
    "uid": "Subject: dataset/sub-label",
    "other": "Subject whose recording is compared with it",
    "state": "double (one recording under two names), or different (the closest pairs that are none)",
    "r": "Largest absolute correlation of their series over all shifts with enough overlap",
    "lag_s": "Shift in s at which that is: how much later the other one begins",
    "similarity": "Correlation of their connectivity, the study's mean taken away; approximate",
}


class Recording(NamedTuple):
    """Where a subject's series lie: store, row."""

    store: Path
    row: int


_open = lru_cache(maxsize=512)(Store)


@cache
def _buckets(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.integers(0, SIZE, n), rng.choice([-1.0, 1.0], n)


def sketch(values: np.ndarray) -> np.ndarray:
    """(SIZE,) numbers whose scalar products are those of `values` (F,), in expectation, with an error of about 1/sqrt(SIZE) of
    the lengths. Source: Charikar et al. 2002 (count sketch).
    """
    bucket, sign = _buckets(len(values))
    return np.bincount(bucket, weights=sign * values, minlength=SIZE)


def connectivity_of(row: np.ndarray) -> np.ndarray:
    """Edges (F,) of a row of a spatial store, (R, R) or (bands, C, C); 0 in bands and of regions that it does not hold."""
    upper = np.triu_indices(row.shape[-1], 1)
    return np.nan_to_num(row[..., upper[0], upper[1]].reshape(-1).astype(float))


def signatures(spatial: Sequence[Path]) -> tuple[list[str], list[Recording], np.ndarray]:
    """(uids, their recordings in the temporal stores, signatures (N, SIZE) of unit length, the mean taken away)."""
    uids: list[str] = []
    places: list[Recording] = []
    rows: list[np.ndarray] = []
    for path in spatial:
        store, series = Store(path), path.parent.parent / "temporal" / path.name
        where = {uid: i for i, uid in enumerate(Store(series).uids)}
        for i, uid in enumerate(store.uids):
            if uid not in where:
                raise McspError(f"{series}: lacks {uid}, who is in {path}: delete both and rerun their stages")
            uids.append(uid)
            places.append(Recording(series, where[uid]))
            rows.append(sketch(connectivity_of(store.row(i))).astype(np.float32))
    if not rows:
        return [], [], np.zeros((0, SIZE), np.float32)
    found = np.stack(rows)
    if len(found) > NEIGHBOURS + 1:
        found -= found.mean(axis=0)
    return uids, places, found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def similar_pairs(found: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """(i, j, similarity), i < j, of signatures (N, SIZE): of each subject the few most similar ones above the limit; all
    pairs where there are as few subjects as that. Memory: a block of rows of the (N, N) matrix.
    """
    n, seen = len(found), set()
    few = n <= NEIGHBOURS + 1
    for start in range(0, n, BLOCK):
        block = found[start : start + BLOCK] @ found.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        kept = min(NEIGHBOURS, n - 1)
        nearest = np.argpartition(-block, kept - 1, axis=1)[:, :kept] if kept else np.zeros((len(block), 0), int)
        for i, others in enumerate(nearest, start):
            for j in others.tolist():
                pair, value = (min(i, j), max(i, j)), float(block[i - start, j])
                if (few or value >= SIMILAR) and pair not in seen:
                    seen.add(pair)
                    yield *pair, value


def _standardised(x: np.ndarray) -> np.ndarray:
    """Each series with mean 0 and variance 1; 0 where it does not vary."""
    x = x - x.mean(axis=1, keepdims=True)
    spread = x.std(axis=1, keepdims=True)
    return np.divide(x, spread, out=np.zeros_like(x), where=spread > 1e-6)


def read_series(place: Recording) -> tuple[np.ndarray, float]:
    """(some regions or channels (C, n) of a recording, standardised, without their common course; s per sample)."""
    store = _open(place.store)
    row, n_valid = store.row(place.row), store.n_valid[place.row]
    x = end_to_end(row[:n_valid]) if row.ndim == 3 else row[:, :n_valid]
    x = _standardised(x.astype(np.float32))
    x -= x.mean(axis=0)  # what all regions share is a single slow course, by which chance makes people alike
    chosen = np.unique(np.linspace(0, len(x) - 1, min(MOST_SERIES, len(x))).round().astype(int))
    step = store.meta["t_r"] if row.ndim == 2 else 1 / store.meta["sfreq"]
    return _standardised(x[chosen]), step


def alignment(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """(largest absolute correlation of `a` (C, n) and `b` (C, m) over shifts, the shift: `a[:, t + shift]` meets `b[:, t]`).

    All series count together, over the samples that overlap; at least half of the shorter recording must. The sign is that
    of the correlation there. Series should have mean 0. By the Fourier transform, O((n + m) log(n + m)).
    """
    n, m = a.shape[1], b.shape[1]
    size = 1 << (n + m - 1).bit_length()
    product = (np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size))).sum(axis=0)
    shift = np.arange(1 - m, n)
    low, high = np.maximum(shift, 0), np.minimum(n, m + shift)
    power_a, power_b = (np.append(0, np.cumsum(np.square(x, dtype=float).sum(axis=0))) for x in (a, b))
    energy = (power_a[high] - power_a[low]) * (power_b[high - shift] - power_b[low - shift])
    enough = (high - low >= OVERLAP * min(n, m)) & (energy > 0)
    r = np.divide(np.fft.irfft(product, size)[shift % size], np.sqrt(energy), out=np.zeros(len(shift)), where=enough)
    best = int(np.abs(r).argmax())
    return float(r[best]), int(shift[best])


def compare(modality: str, spatial: Sequence[Path]) -> pd.DataFrame:
    """Doubles of a modality, and the closest pairs of different recordings; columns as COLUMNS has them."""
    uids, places, found = signatures(spatial)
    partners: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for i, j, similarity in similar_pairs(found):
        partners[i].append((j, similarity))
    rows = []
    for i, others in track(partners.items(), description=f"{modality}: comparing series"):
        mine, step = read_series(places[i])
        for j, similarity in others:
            r, shift = alignment(mine, read_series(places[j])[0])
            state = "double" if abs(r) >= SAME else "different"
            rows.append((modality, uids[i], uids[j], state, abs(r), shift * step, similarity))
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["r", "uid", "other"], ascending=[False, True, True])
    doubles, different = table[table["state"] == "double"], table[table["state"] != "double"]
    closest = f", the closest of different ones r = {different['r'].max():.2f}" if len(different) else ""
    print(f"{modality}: {len(uids)} recordings, {len(table)} similar pairs compared: {len(doubles)} doubles{closest}")
    return pd.concat([doubles, different.head(SHOWN)])


def run(*, spatial: Sequence[Path], out: Path) -> None:
    """Write the pairs of subjects whose recordings are one. `spatial`: all spatial stores, `.../<modality>/spatial/...`, with
    the temporal ones beside them. Raises McspError for stores that do not belong together.
    """
    by_modality: dict[str, list[Path]] = defaultdict(list)
    for path in spatial:
        by_modality[path.parent.parent.name].append(path)
    tables = [compare(modality, sorted(paths)) for modality, paths in sorted(by_modality.items())]
    write_tsv(pd.concat(tables, ignore_index=True), out, COLUMNS)
