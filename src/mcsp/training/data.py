"""Who is in a batch, and in which order. Rows are views of the memory-mapped stores; `feed` brings them to the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor

from mcsp.cohort import read_domain
from mcsp.model.batch import Batch, Key, fill
from mcsp.model.encoders import start_at_components
from mcsp.store import Store


def _view(row: np.ndarray) -> np.ndarray:
    return row


def as_tensor(row: np.ndarray) -> Tensor:
    """A row of a store as a tensor that shares the file's memory. It must not be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch can't mark a tensor read-only, and says so
        return torch.from_numpy(row)


ROWS = 64  # of one subject that say where a wide map starts
ABSENT = -1  # number of nobody: a row without any modality, which fills up a rank's share of a batch


class Subjects:
    """Subjects of a study by number. `keys`: the modalities and domains to read; `rows` are views of the stores' files.

    `has`, `n_valid`: modality -> array (N) over subjects.
    """

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

    def _valid(self, stores: Path, table: pd.DataFrame, modality: str) -> np.ndarray:
        domain = next(d for m, d in self.keys if m == modality)
        valid = {uid: n for store in self._stores(stores, table, modality, domain) for uid, n in zip(store.uids, store.n_valid)}
        return np.array([valid[uid] if has else 0 for uid, has in zip(self.uids, self.has[modality])], np.int64)

    def _shape(self, stores: Path, cohort: pd.DataFrame, key: Key) -> tuple[int, ...]:
        return next(self._stores(stores, cohort, *key)).shape

    def __len__(self) -> int:
        return len(self.uids)

    def facts(self, index: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(presence, valid frames or segments) by modality of the subjects of these numbers."""
        number = np.asarray(index, np.int64)
        somebody = number != ABSENT
        present = {m: torch.from_numpy(has[number] & somebody) for m, has in self.has.items()}
        return present, {m: torch.from_numpy(n[number] * somebody) for m, n in self.n_valid.items()}

    def tensor(self, index: Sequence[int], key: Key, dtype: torch.dtype = torch.float32, pin: bool = False) -> Tensor:
        """Rows (B, ...) of one modality and domain, zeros where a subject lacks it. One copy, from the memory map."""
        rows = self.rows[key]
        out = torch.empty((len(index), *self.shapes[key]), dtype=dtype, pin_memory=pin)
        for place, i in enumerate(index):
            row = rows.get(self.uids[i]) if i != ABSENT else None
            out[place].zero_() if row is None else out[place].copy_(as_tensor(row))
        return out

    def finish(self, index: Sequence[int], batch: Batch) -> Batch:
        """What is handed to training: the batch (subclasses add to it)."""
        return batch

    def collate(self, index: Sequence[int]) -> Batch:
        """The subjects of these numbers as a batch."""
        x = {key: self.tensor(index, key) for key in self.keys}
        return self.finish(index, Batch(x, *self.facts(index)))

    def everyone(self, batch_size: int = 32) -> Iterator[tuple[list[str], Batch]]:
        """All subjects in order, in batches, with their uids."""
        for start in range(0, len(self), batch_size):
            index = range(start, min(start + batch_size, len(self)))
            yield [self.uids[i] for i in index], self.collate(index)


def study_keys(cohort: pd.DataFrame, modalities: Sequence[str], domains: Sequence[str]) -> list[Key]:
    """The modalities that somebody in the cohort has, by the domains wanted."""
    return [(m, d) for m in modalities if cohort[f"has_{m}"].any() for d in domains]


def rank_and_world() -> tuple[int, int]:
    """This process's number among those that train together, and how many they are."""
    together = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if together else (0, 1)


class PairedSampler:
    """Batches of numbers: subjects with both modalities share batches, so that cross-modal pairs are dense where they
    exist, and the others' batches hold as many of each kind, to one subject: a GPU prepares for every new shape anew. Drawn
    anew each epoch from (seed, epoch), so that a resumed run goes on with the same batches.

    With several ranks, each takes an equal share of every batch, filled up with `ABSENT`: together they see the batches
    that one process alone would see.
    """

    def __init__(self, has: dict[str, np.ndarray], batch_size: int, seed: int):
        kind = sum(2**place * own.astype(int) for place, own in enumerate(has.values()))
        both = 2 ** len(has) - 1
        others = [np.flatnonzero(kind == k) for k in np.unique(kind) if k != both]
        self.groups = [group for group in ([np.flatnonzero(kind == both)], others) if sum(map(len, group))]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    @property
    def sampler(self) -> PairedSampler:
        """Itself: Lightning looks for `set_epoch` on the sampler inside a batch sampler, and nowhere else."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def _count(self, group: list[np.ndarray]) -> int:
        return max(1, round(sum(map(len, group)) / self.batch_size))

    def __len__(self) -> int:
        return sum(map(self._count, self.groups))

    def _batches(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for group in self.groups:
            shares = [np.array_split(rng.permutation(kind), self._count(group)) for kind in group]
            shares[1:] = [share[::-1] for share in shares[1:]]  # one more of the one, one less of the other
            yield from map(np.concatenate, zip(*shares))

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rank, world = rank_and_world()
        batches = list(self._batches(rng))
        for i in rng.permutation(len(batches)):
            share = batches[i][rank::world].tolist()
            yield share + [ABSENT] * (-(-len(batches[i]) // world) - len(share))


def fit_scalers(model, subjects: Subjects) -> None:
    """Fit the model's standardisers on these subjects: unit, mean and standard deviation over subjects (and segments), in
    float64, one subject at a time.
    """
    for key, scaler in model.scalers().items():
        rows = [subjects.rows[key][uid] for uid in subjects.uids if uid in subjects.rows[key]]
        if not rows:
            continue
        if scaler.amplitude:
            scaler.unit.fill_(float(np.mean([np.nanmean(row, dtype=float) for row in rows])) or 1.0)
        total, squares, count = 0.0, 0.0, 0
        for row in rows:
            values = scaler.raw(as_tensor(row)).double().reshape(-1, *scaler.mean.shape)
            total, squares = total + values.nansum(0), squares + values.square().nansum(0)
            count = count + (~values.isnan()).sum(0)  # a recording tells nothing of what it does not hold
        known, count = (count > 0).sum(), count.clamp_min(1)
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)  # 0 of what nobody holds, which counts for nothing
        scaler.mean.copy_(mean)
        scaler.scale.copy_((variance.sum() / known).sqrt() or 1.0)


def start_at_components_of(model, subjects: Subjects, seed: int, limit: int = 512) -> None:
    """Start the encoders' widest maps at the principal components of these subjects, of at most `limit` of them, drawn by
    `seed`, and of at most ROWS rows of each, evenly spaced. The standardisers must have been fitted.

    EEG series start at each component apart, because what tells people apart is the power of single rhythms; all others at
    mixtures, because in fMRI it is how regions move together.
    """
    centres = model.centres()
    for key in model.keys:
        encoder = model.encoders["_".join(key)]
        own = [uid for uid in subjects.uids if uid in subjects.rows[key]]
        rows: list[torch.Tensor] = []
        for i in np.random.default_rng(seed).permutation(len(own))[:limit]:
            row = fill(key, as_tensor(subjects.rows[key][own[i]])[None], centres)
            found = encoder.wide_inputs(row).flatten(0, -2)
            rows.append(found[:: -(-len(found) // ROWS)].clone())
        if len(own) > 2:
            start_at_components(encoder.wide(), torch.cat(rows), apart=key == ("eeg", "temporal"))
