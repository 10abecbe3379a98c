"""Subjects of one batch, as the validation asks for them."""

from __future__ import annotations

from dataclasses import dataclass

from mcsp.model.batch import Batch


@dataclass(frozen=True)
class People:
    """Stands for `Subjects`."""

    batch: Batch

    def __len__(self) -> int:
        return len(self.batch)

    def collate(self, index: list[int]) -> Batch:
        """Some of them."""
        sides = ({k: v[index] for k, v in side.items()} for side in (self.batch.x, self.batch.present, self.batch.n_valid))
        return Batch(*sides)

    def everyone(self, size: int):
        """All of them at once."""
        yield [f"s{i}" for i in range(len(self))], self.batch
