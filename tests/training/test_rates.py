"""Learning rates: every parameter once, and outputs that move alike whatever the number of features."""

import torch
from torch import nn

from mcsp.training.rates import by_fan_in


def test_every_parameter_has_one_rate_and_wide_maps_learn_slowly():
    model = nn.Sequential(nn.Linear(1000, 10), nn.LayerNorm(10), nn.Linear(10, 5))
    groups = by_fan_in(model, 0.1, 10)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(list(model.parameters()))
    assert rates[id(model[0].weight)] == 0.1 * 10 / 1000
    assert rates[id(model[0].bias)] == rates[id(model[2].weight)] == rates[id(model[1].weight)] == 0.1
    assert groups[0]["lr"] == 0.1  # what the history shows
    slower = {id(p): group["lr"] for group in by_fan_in(model, 0.1, 10, wide=0.5) for p in group["params"]}
    assert {key: slower[key] / rate for key, rate in rates.items() if slower[key] != rate} == {id(model[0].weight): 0.5}
    frozen = {id(p): group["lr"] for group in by_fan_in(model, 0.1, 10, wide=0) for p in group["params"]}
    assert frozen[id(model[0].weight)] == 0 < frozen[id(model[0].bias)]


def test_one_step_moves_the_output_alike_whatever_the_fan_in():
    moved = []
    for features in (64, 6400):
        torch.manual_seed(0)
        linear, x = nn.Linear(features, 8, bias=False), torch.randn(1, features)
        optimizer = torch.optim.AdamW(by_fan_in(linear, 0.01, 64), weight_decay=0)
        before = linear(x).detach()
        linear(x).sum().backward()
        optimizer.step()
        moved.append((linear(x) - before).abs().mean().item())
    assert 0.8 < moved[1] / moved[0] < 1.25
