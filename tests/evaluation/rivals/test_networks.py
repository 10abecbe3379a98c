"""The training loop of networks, and our own ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch import nn

from mcsp.evaluation.rivals import networks
from mcsp.evaluation.rivals.fc_transformer import ConnectivityTransformer
from mcsp.evaluation.rivals.mlp import MLP
from mcsp.evaluation.rivals.networks import BATCH, DRAWN, STEPS, Network, Scale, cross_entropy, probabilities
from tests.evaluation.rivals.people import crowd


def made(features, build=MLP, **more) -> Network:
    return Network(label="net", features=features, build=build, **more)


def windows(n_windows: int = 1):
    """crowd() with features as windows; of several, one tells and the others don't."""
    people, y, features = crowd()
    rng = np.random.default_rng(5)
    own = {uid: np.stack([x, *rng.normal(size=(n_windows - 1, 12))]) for uid, x in features["fmri"].items()}
    return people, y, {"fmri": own}


def weights(net: nn.Module) -> list[np.ndarray]:
    return [value.numpy().copy() for value in net.state_dict().values()]


def test_entries_are_standardised_by_training_subjects():
    x = [np.random.default_rng(i).normal(3, [1, 2, 0], (4 + i, 3)) for i in range(5)]
    scale, reference = Scale.of(x, True), StandardScaler().fit(np.concatenate(x))
    np.testing.assert_allclose(scale(x[0]).numpy(), reference.transform(x[0]), atol=1e-6)


def test_a_subjects_probability_is_the_mean_over_its_windows():
    people, y, features = windows(5)
    rival = made(features).fit(people.iloc[:50], y[:50])
    scale, net = rival.models["fmri"]
    own = people[people["uid"].isin(features["fmri"])]
    with torch.inference_mode():
        expected = [net(scale(features["fmri"][uid])).sigmoid().mean() for uid in own["uid"]]
    np.testing.assert_allclose(rival.predict(own), expected, atol=1e-5)


def test_the_weights_are_those_of_the_lowest_validation_loss(monkeypatch):
    people, y, features = windows()
    monkeypatch.setattr(networks, "ROUNDS", 40)
    seen = []
    original = networks.cross_entropy
    monkeypatch.setattr(networks, "cross_entropy", lambda *a: seen.append(original(*a)) or seen[-1])
    rival = made(features).fit(people, y)
    scale, net = rival.models["fmri"]
    val = people[(people["part"] == "val") & people["uid"].isin(features["fmri"])]
    train = people[(people["part"] == "train") & people["uid"].isin(features["fmri"])]
    truth, learnt = (people.index.get_indexer(own.index) % 2 for own in (val, train))
    p = probabilities(net, scale, [features["fmri"][uid] for uid in val["uid"]])
    weight = len(learnt) / (2 * np.bincount(learnt))
    assert min(seen) == original(p, truth, weight)
    assert len(seen) < 40  # it stopped
    assert len(seen) - 1 - int(np.argmin(seen)) == networks.PATIENCE


def test_cross_entropy_is_scikit_learns():
    rng = np.random.default_rng(0)
    y, p, weight = rng.integers(0, 2, 50), rng.random(50), np.array([0.7, 1.9])
    expected = log_loss(y, p, sample_weight=weight[y], normalize=False) / 50
    assert cross_entropy(p, y, weight) == pytest.approx(expected)
    assert np.isfinite(cross_entropy(np.zeros(2), np.ones(2, int), weight))


def test_validation_subjects_choose_the_round_and_train_nothing(monkeypatch):
    people, y, features = windows()
    monkeypatch.setattr(networks, "ROUNDS", 1)
    before = made(features).fit(people, y).models["fmri"]
    for uid in set(people.loc[people["part"] == "val", "uid"]) & set(features["fmri"]):
        features["fmri"][uid] = np.full((1, 12), 1e3)
    after = made(features).fit(people, y).models["fmri"]
    assert all(map(np.array_equal, weights(before[1]), weights(after[1])))
    np.testing.assert_array_equal(before[0].mean, after[0].mean)


def test_without_validation_subjects_it_trains_to_the_end(monkeypatch):
    people, y, features = windows()
    monkeypatch.setattr(networks, "ROUNDS", 3)
    assert np.isfinite(made(features).fit(people.assign(part="train"), y).predict(people)[1])
    # and where the classes are not both among those who train, all do
    lone = people.assign(part=np.where(y == 1, "val", "train"))
    assert np.isfinite(made(features).fit(lone, y).predict(people)[1])


def test_the_setting_with_the_lower_validation_loss_is_kept(monkeypatch):
    people, y, features = windows()
    monkeypatch.setattr(networks, "ROUNDS", 4)

    class Deaf(MLP):
        def forward(self, x):
            return super().forward(0 * x)

    def build(shape, deaf):
        return Deaf(shape) if deaf else MLP(shape)

    for settings in (({"deaf": True}, {"deaf": False}), ({"deaf": False}, {"deaf": True})):
        chosen = made(features, build, settings=settings).fit(people, y).models["fmri"][1]
        assert type(chosen) is MLP


def test_the_seed_decides_and_the_surroundings_do_not():
    people, y, features = windows(20)
    first = made(features).fit(people.iloc[:40], y[:40]).models["fmri"][1]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = made(features).fit(people.iloc[:40], y[:40]).models["fmri"][1]
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(np.array_equal, weights(first), weights(again)))
    other = made(features, seed=1).fit(people.iloc[:40], y[:40]).models["fmri"][1]
    assert not all(map(np.array_equal, weights(first), weights(other)))


def test_a_step_holds_some_windows_of_some_subjects(monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 2)
    people, y, features = windows(20)
    sizes = []

    class Spy(MLP):
        def forward(self, x):
            if self.training:
                sizes.append(len(x))
            return super().forward(x)

    made(features, Spy).fit(people, y)
    assert max(sizes) <= BATCH * DRAWN
    n_train = int(((people["part"] == "train") & people["uid"].isin(features["fmri"])).sum())
    per_pass = -(-n_train // BATCH)
    assert sum(sizes) == 2 * -(-STEPS // per_pass) * n_train * DRAWN


@pytest.mark.parametrize("build", [MLP, ConnectivityTransformer])
def test_a_subjects_logit_does_not_depend_on_the_others(build):
    torch.manual_seed(0)
    shape = (9,) if build is MLP else (9, 9)
    net, x = build(shape).eval(), torch.randn(5, *shape)
    assert net(x).shape == (5,)
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]))


def test_the_transformer_has_no_order_of_regions():
    """Its readout is a sum over clusters' members: the same rows in another order say the same."""
    torch.manual_seed(0)
    net, x = ConnectivityTransformer((9, 9)).eval(), torch.randn(3, 9, 9)
    torch.testing.assert_close(net(x), net(x[:, torch.randperm(9)]))
    gram = net.centres @ net.centres.T
    torch.testing.assert_close(gram, torch.eye(len(gram)))
    assert not net.centres.requires_grad
