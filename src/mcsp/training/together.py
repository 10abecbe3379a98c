"""Several processes, one batch: each rank embeds its share, and all see everybody's embeddings."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from mcsp.model.batch import Key
from mcsp.training.data import rank_and_world


class _Everyones(torch.autograd.Function):
    """Rows of all ranks, one rank after the other: (n, d) -> (world n, d).

    Every rank works out the same loss from the same rows, so the gradient of its own rows is at hand and is not
    exchanged. It is multiplied by the number of ranks, because DDP takes the mean over them and the sum is wanted.
    """

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        rank, world = rank_and_world()
        ctx.own, ctx.world = slice(rank * len(own), (rank + 1) * len(own)), world
        rows = [torch.empty_like(own) for _ in range(world)]
        dist.all_gather(rows, own)
        return torch.cat(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient[ctx.own] * ctx.world


def everyones(parts: list[dict[Key, Tensor]], present: dict[str, Tensor]) -> tuple[list[dict[Key, Tensor]], dict[str, Tensor]]:
    """(`parts`, `present`) with the rows (n, ...) of all ranks, in one exchange; unchanged where one process trains alone.

    The gradient of a loss that every rank computes from them, averaged over ranks, is that of one process with the joined
    batch. Ranks must hold equally many rows; those of `present` False are left out by the losses.
    """
    _, world = rank_and_world()
    if world == 1:
        return parts, present
    columns = [value.float() for part in parts for value in part.values()]
    widths = [value.shape[1] for value in columns] + [1] * len(present)
    wide = torch.cat([*columns, *(mask.to(columns[0])[:, None] for mask in present.values())], dim=1)
    found = iter(_Everyones.apply(wide).split(widths, dim=1))
    joined = [{key: next(found) for key in part} for part in parts]
    return joined, {m: next(found)[:, 0].cpu() > 0.5 for m in present}
