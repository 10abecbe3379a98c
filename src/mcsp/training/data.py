"""From memory-mapped stores to batches. Only the rows of a batch are copied, whatever the study's size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mcsp.cohort import read_domain
from mcsp.model.batch import Batch, Key
from mcsp.model.encoders import start_at_components
from mcsp.store import Store


def _view(row: np.ndarray) -> np.ndarray:
    return row


class Subjects(Dataset):
    """Subjects of a study by number. `keys`: the modalities and domains to read; rows are views of the stores' files."""

    def __init__(self, stores: Path, cohort: pd.DataFrame, uids: Sequence[str], keys: Sequence[Key]):
        table = cohort.set_index("uid").loc[list(uids)].reset_index()
        modalities = list(dict.fromkeys(m for m, _ in keys))
        table = table[table[[f"has_{m}" for m in modalities]].any(axis=1)].reset_index(drop=True)
        self.uids: list[str] = list(table["uid"])
        self.keys = list(keys)
        self.has = {m: table[f"has_{m}"].to_numpy(bool) for m in modalities}
        self.rows = {key: read_domain(stores, table, *key, reduce=_view) for key in self.keys}
        self.n_valid = {m: self._valid(stores, table, m) for m in modalities}
        self.shapes = {key: self._shape(stores, cohort, key) for key in self.keys}

    @staticmethod
    def _stores(stores: Path, table: pd.DataFrame, modality: str, domain: str) -> Iterator[Store]:
        own = table[table[f"has_{modality}"]]
        for dataset, shard in sorted(set(zip(own["dataset"], own["shard"]))):
            yield Store(Path(stores) / dataset / modality / domain / f"shard-{shard:03d}.arrow")

    def _valid(self, stores: Path, table: pd.DataFrame, modality: str) -> dict[str, int]:
        domain = next(d for m, d in self.keys if m == modality)
        return {uid: n for store in self._stores(stores, table, modality, domain) for uid, n in zip(store.uids, store.n_valid)}

    def _shape(self, stores: Path, cohort: pd.DataFrame, key: Key) -> tuple[int, ...]:
        return next(self._stores(stores, cohort, *key)).shape

    def __len__(self) -> int:
        return len(self.uids)

    def __getitem__(self, index: int) -> int:
        return index  # rows are gathered once per batch, in `collate`

    def collate(self, index: Sequence[int]) -> Batch:
        """The subjects of these numbers as a batch."""
        uids = [self.uids[i] for i in index]
        present = {m: torch.from_numpy(has[list(index)]) for m, has in self.has.items()}
        x = {}
        for key in self.keys:
            out = np.zeros((len(uids), *self.shapes[key]), np.float32)
            for row, uid in enumerate(uids):
                if uid in self.rows[key]:
                    out[row] = self.rows[key][uid]
            x[key] = torch.from_numpy(out)
        n_valid = {m: torch.tensor([own.get(uid, 0) for uid in uids]) for m, own in self.n_valid.items()}
        return Batch(x, present, n_valid)

    def everyone(self, batch_size: int = 32) -> Iterator[tuple[list[str], Batch]]:
        """All subjects in order, in batches, with their uids."""
        for start in range(0, len(self), batch_size):
            index = range(start, min(start + batch_size, len(self)))
            yield [self.uids[i] for i in index], self.collate(index)


def study_keys(cohort: pd.DataFrame, modalities: Sequence[str], domains: Sequence[str]) -> list[Key]:
    """The modalities that somebody in the cohort has, by the domains wanted."""
    return [(m, d) for m in modalities if cohort[f"has_{m}"].any() for d in domains]


class PairedSampler(Sampler[list[int]]):
    """Batches of numbers: subjects with both modalities share batches, so that cross-modal pairs are dense where they
    exist; drawn anew each epoch from (seed, epoch), so that a resumed run goes on with the same batches.
    """

    def __init__(self, has: dict[str, np.ndarray], batch_size: int, seed: int):
        both = np.logical_and.reduce(list(has.values()))
        self.groups = [np.flatnonzero(both), np.flatnonzero(~both)]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    @property
    def sampler(self) -> PairedSampler:
        """Itself: Lightning looks for `set_epoch` on the sampler inside a batch sampler, and nowhere else."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def _count(self, size: int) -> int:
        return max(1, round(size / self.batch_size)) if size else 0

    def __len__(self) -> int:
        return sum(self._count(len(group)) for group in self.groups)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = [b for g in self.groups if len(g) for b in np.array_split(rng.permutation(g), self._count(len(g)))]
        for i in rng.permutation(len(batches)):
            yield batches[i].tolist()


def loader(subjects: Subjects, batches: Sampler[list[int]] | list[list[int]]) -> DataLoader:
    """Batches of subjects: as a sampler draws them, or (a list) the same ones each time."""
    return DataLoader(subjects, batch_sampler=batches, collate_fn=subjects.collate)


def fit_scalers(model, subjects: Subjects) -> None:
    """Fit the model's standardisers on these subjects: unit, mean and standard deviation over subjects (and segments), in
    float64, one subject at a time.
    """
    for key, scaler in model.scalers().items():
        rows = [subjects.rows[key][uid] for uid in subjects.uids if uid in subjects.rows[key]]
        if not rows:
            continue
        if scaler.amplitude:
            scaler.unit.fill_(float(np.mean([row.mean(dtype=float) for row in rows])) or 1.0)
        total, squares, count = 0.0, 0.0, 0
        for row in rows:
            values = scaler.raw(torch.from_numpy(np.array(row))).double().reshape(-1, *scaler.mean.shape)
            total, squares, count = total + values.sum(0), squares + values.square().sum(0), count + len(values)
        mean = total / count
        scaler.mean.copy_(mean)
        scaler.scale.copy_((squares / count - mean.square()).clamp_min(0).mean().sqrt() or 1.0)


def start_at_components_of(model, subjects: Subjects, seed: int, limit: int = 512) -> None:
    """Start the encoders' widest maps at the principal components of these subjects; of more than `limit` rows, those of
    some subjects, drawn by `seed`. The standardisers must have been fitted.
    """
    for key in model.keys:
        encoder = model.encoders["_".join(key)]
        if encoder.wide() is None:
            continue
        own = [uid for uid in subjects.uids if uid in subjects.rows[key]]
        rows: list[torch.Tensor] = []
        for i in np.random.default_rng(seed).permutation(len(own)):
            if sum(map(len, rows)) < limit:
                row = torch.from_numpy(np.array(subjects.rows[key][own[i]]))
                rows.append(encoder.wide_inputs(row[None]).flatten(0, -2))
        if len(own) > 2:
            start_at_components(encoder.wide(), torch.cat(rows))
