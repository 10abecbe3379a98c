"""What the validation plants, and that the decoys are what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from mcsp.atlas import load_atlas
from mcsp.errors import McspError
from mcsp.evaluation.metrics import auroc
from mcsp.validation.planted import (
    DECOY,
    PERSON,
    TASKS,
    draw_labels,
    draw_sites,
    draw_sizes,
    largest_networks,
    plan_effects,
    task_of,
)


@pytest.fixture
def planned(atlas_table):
    atlas = load_atlas(atlas_table)
    plan, labels = plan_effects(atlas), draw_labels(400, 0)
    sites = draw_sites(labels["site"], 0)
    return atlas, plan, labels, sites, draw_sizes(plan, labels, sites, 1.0, 0)


def test_the_suppressor_tells_nothing_of_the_label_and_much_of_the_signal(planned):
    _, plan, labels, _, sizes = planned
    signal, suppressor = sizes[:, plan.of("suppressor")[0]], sizes[:, plan.of("suppressor" + DECOY)[0]]
    y = labels["suppressor"]
    assert abs(np.corrcoef(suppressor, y)[0, 1]) < 0.1
    assert np.corrcoef(signal, y)[0, 1] > 0.5
    assert auroc(y, signal) == pytest.approx(7 / 8, abs=0.03)
    assert auroc(y, signal - suppressor) > 0.97
    for case in (False, True):
        assert np.corrcoef(signal[y == case], suppressor[y == case])[0, 1] > 0.6
    together = np.linalg.lstsq(np.column_stack([signal, suppressor, np.ones(400)]), y.astype(float), rcond=None)[0]
    assert together[1] < 0 < together[0]  # a linear model takes the suppressor away


def test_the_artefact_belongs_to_the_site_and_the_site_to_most_cases(planned):
    _, plan, labels, sites, sizes = planned
    artefact = sizes[:, plan.of("site" + DECOY)[0]]
    assert (artefact[sites] > 0).all()
    assert not artefact[~sites].any()
    assert sites[labels["site"]].mean() == pytest.approx(0.8)
    assert sites[~labels["site"]].mean() == pytest.approx(0.2)


def test_labels_are_independent_and_noise_plants_nothing(planned):
    _, plan, labels, _, sizes = planned
    for name in TASKS:
        assert labels[name].mean() == 0.5
    assert plan.of("noise") == []
    for name in TASKS[:4]:
        own = sizes[:, plan.of(name)]
        assert (own[labels[name]] != 0).all()
        assert not own[~labels[name]].any()
    np.testing.assert_allclose(draw_sizes(plan, labels, planned[3], 2.0, 0), 2 * sizes)
    assert task_of("edge").control == [PERSON]


def test_no_two_tasks_share_a_pair_of_networks(planned):
    atlas, plan, *_ = planned
    pairs = [frozenset(e.networks) for e in plan.effects if e.kind == "edge"]
    assert len(set(pairs)) == len(pairs) == 3
    places = [e.network for e in plan.effects if e.kind == "amplitude"]
    assert len(set(places)) == len(places) == 3
    with pytest.raises(McspError, match="four are needed"):
        largest_networks(type(atlas)(atlas.names, ["a"] * 160, atlas.codes, atlas.coordinates, atlas.index, None))
