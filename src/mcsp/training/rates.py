"""Learning rates by fan-in."""

from __future__ import annotations

from torch import nn


def by_fan_in(model: nn.Module, lr: float, width: int, wide: float = 1.0) -> list[dict]:
    """Parameter groups for AdamW: a linear map from more than `width` features learns at lr * `wide` * width / features.

    Adam moves each weight by about lr whatever its gradient, so a map's output moves in proportion to its features: at one
    rate for all, the map from thousands of edges has learnt its training subjects by heart before the others have begun.
    Source: Yang et al. 2021 (maximal update parametrisation), rates of hidden layers. `wide` below 1 is for maps that start
    where they should be, at principal components: they hold nearly all weights, and would learn pairs by heart.
    """
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    factor = {id(m.weight): 1.0 if m.in_features <= width else wide * width / m.in_features for m in linear}
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        groups.setdefault(factor.get(id(parameter), 1.0), []).append(parameter)
    return [{"params": parameters, "lr": lr * share} for share, parameters in groups.items() if parameters]
