"""What rivals read: views of the memory-mapped stores, reduced when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.cohort import domain_meta, read_domain, store_path
from mcsp.store import Store

WORDS = {"fmri": "FC", "eeg": "band power"}  # what most rivals read of a modality
POWER_BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0)}

Features = Mapping[str, np.ndarray]  # uid -> array, for those who have the modality


class Reduced(Mapping[str, np.ndarray]):
    """uid -> `reduce(row)`, worked out when it is asked for; the rows are views of files. With `keep` results are held: for
    those that are far smaller than their rows.
    """

    def __init__(self, rows: Features, reduce: Callable[[np.ndarray], np.ndarray], keep: bool = False):
        self._rows, self._reduce, self._kept, self._keep = rows, reduce, {}, keep

    def __getitem__(self, uid: str) -> np.ndarray:
        if uid in self._kept:
            return self._kept[uid]
        value = self._reduce(self._rows[uid])
        if self._keep:
            self._kept[uid] = value
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _view(row: np.ndarray) -> np.ndarray:
    return row


def edge_features(fc: np.ndarray) -> np.ndarray:
    """Upper triangle of a connectivity matrix (R, R)."""
    return np.array(fc[np.triu_indices(len(fc), 1)])


def band_power(amplitude: np.ndarray, freqs: np.ndarray) -> np.ndarray:
    """Log power of each channel in delta, theta, alpha and beta. `amplitude` (segment, C, F), `freqs` (F) in Hz. None of it
    is missing: recordings that can't hold beta are left out (`eeg.segments.LEAST_TOP`).
    """
    power = (amplitude.astype(float) ** 2).mean(axis=0)
    bands = [power[:, (freqs >= low) & (freqs < high)].sum(axis=1) for low, high in POWER_BANDS.values()]
    return np.log(np.concatenate(bands) + 1e-12)


def vectors(stores: Path, cohort: pd.DataFrame) -> dict[str, Features]:
    """Modality -> uid -> vector: edges of the FC, log band power; of the modalities that somebody in the cohort has."""
    found: dict[str, Features] = {}
    if cohort["has_fmri"].any():
        found["fmri"] = Reduced(connectivity(stores, cohort), edge_features)
    if cohort["has_eeg"].any():
        freqs = np.array(domain_meta(stores, cohort, "eeg", "spectral")["freqs"])
        rows = read_domain(stores, cohort, "eeg", "spectral", _view)
        found["eeg"] = Reduced(rows, partial(band_power, freqs=freqs), keep=True)
    return found


def connectivity(stores: Path, cohort: pd.DataFrame) -> Features:
    """uid -> Fisher-z correlations (R, R)."""
    return read_domain(stores, cohort, "fmri", "spatial", _view)


def series(stores: Path, cohort: pd.DataFrame, modality: str) -> Features:
    """uid -> the valid part of the temporal row: (R, frame) of fMRI, (segment, C, sample) of EEG."""
    rows = read_domain(stores, cohort, modality, "temporal", _view)
    own = cohort[cohort[f"has_{modality}"]]
    paths = [store_path(stores, d, modality, "temporal", s) for d, s in sorted(set(zip(own["dataset"], own["shard"])))]
    valid = {uid: n for store in map(Store, paths) for uid, n in zip(store.uids, store.n_valid)}
    return {uid: row[:, : valid[uid]] if modality == "fmri" else row[: valid[uid]] for uid, row in rows.items()}
