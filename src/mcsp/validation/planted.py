"""What the validation plants: four effects, one for each way a disorder may show, and three decoys."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mcsp.atlas import Atlas
from mcsp.errors import McspError
from mcsp.options.simulate import AmplitudeEffect, BandEffect, EdgeEffect, NetworkEffect
from mcsp.options.tasks import Task
from mcsp.simulate.signals import Effect

PERSON = "person"  # label of everybody: whoever lacks a task's label is its control
DECOY = "-decoy"  # suffix of what is planted beside a task's truth
PLANTED = ("edge", "amplitude", "band", "network")
TASKS = (*PLANTED, "suppressor", "site", "noise")
ARTEFACT_SHARE = 0.8  # of the cases come from the site with the artefact, and of the controls from the other
SUBJECT_SD = 0.15  # between subjects, relative to an effect's size
WITHIN = 2.0  # range of what signal and suppressor share, relative to the effect's size


@dataclass(frozen=True)
class Plan:
    """`effects` in a fixed order, each with its task (or task + DECOY) in `disorder`."""

    effects: list[Effect] = field(default_factory=list)

    def of(self, name: str) -> list[int]:
        """Numbers of a task's effects, or of its decoys (`name` + DECOY)."""
        return [i for i, effect in enumerate(self.effects) if effect.disorder == name]


def largest_networks(atlas: Atlas) -> list[str]:
    """The four networks with most regions, largest first. Raises McspError for an atlas with fewer."""
    names, counts = np.unique([n for n in atlas.networks if n != "n/a"], return_counts=True)
    order = [str(names[i]) for i in np.lexsort((names, -counts)) if counts[i] > 1]
    if len(order) < 4:
        raise McspError(f"validation: the atlas has {len(order)} networks of two regions or more, four are needed: use another")
    return order[:4]


def plan_effects(atlas: Atlas) -> Plan:
    """What is planted at snr 1. Edges act between networks, bands under electrodes; no two tasks share an edge or a place.

    `suppressor`: signal and suppressor carry the same noise, only the signal carries the label. They are no edges: each
    coupling thins out those that share a network with it, so that strong ones in everybody would bury the effect `edge`.
    `site`: a small true effect, and an artefact of the site that most cases come from. `noise`: nothing.
    """
    a, b, c, d = largest_networks(atlas)

    def edge(name: str, first: str, second: str, size: float) -> EdgeEffect:
        return EdgeEffect(kind="edge", disorder=name, networks=(first, second), size=size)

    def band(name: str, rhythm: str, electrode: str, size: float) -> BandEffect:
        return BandEffect(kind="band", disorder=name, band=rhythm, position=electrode, size=size)

    def amplitude(name: str, network: str, size: float) -> AmplitudeEffect:
        return AmplitudeEffect(kind="amplitude", disorder=name, network=network, size=size)

    return Plan(
        [
            edge("edge", a, b, 2.0),
            amplitude("amplitude", c, 1.2),
            band("band", "theta", "Fz", 1.6),
            NetworkEffect(kind="network", disorder="network", network=d, size=0.6),
            amplitude("suppressor", a, 0.6),
            band("suppressor", "alpha", "P4", 0.75),
            amplitude("suppressor" + DECOY, b, 0.6),
            band("suppressor" + DECOY, "alpha", "F3", 0.75),
            edge("site", c, d, 1.0),
            band("site", "beta", "C3", 0.8),
            edge("site" + DECOY, a, c, 2.0),
            band("site" + DECOY, "beta", "T8", 1.6),
        ]
    )


def task_of(name: str) -> Task:
    """The task that asks for a label."""
    return Task(case=[name], control=[PERSON])


def draw_labels(n: int, seed: int) -> dict[str, np.ndarray]:
    """Task -> who is a case (n, bool): half of all, each task drawn on its own."""
    rng = np.random.default_rng([seed, 11])
    return {name: rng.permutation(n) < n // 2 for name in TASKS}


def draw_sites(y: np.ndarray, seed: int) -> np.ndarray:
    """Who comes from the site with the artefact (n, bool): most cases of the site task, few of its controls."""
    rng, out = np.random.default_rng([seed, 12]), np.zeros(len(y), bool)
    for case, share in ((True, ARTEFACT_SHARE), (False, 1 - ARTEFACT_SHARE)):
        own = np.flatnonzero(y == case)
        out[rng.permutation(own)[: round(share * len(own))]] = True
    return out


def draw_sizes(plan: Plan, labels: dict[str, np.ndarray], sites: np.ndarray, snr: float, seed: int) -> np.ndarray:
    """Planted size (n, effects) in each subject.

    The signal's size is (u + label) times the effect's size, the suppressor's u times, with u uniform from 0 to WITHIN: an
    eighth of the pairs of a case and a control stand the wrong way round by the signal alone, none by the difference.
    """
    n, rng = len(sites), np.random.default_rng([seed, 13])
    base = snr * np.array([effect.size for effect in plan.effects])
    shared = rng.uniform(0, WITHIN, n)
    weights = np.zeros((n, len(plan.effects)))
    for name in TASKS:
        weights[:, plan.of(name)] = labels[name][:, None]
    for name, own in (("suppressor", shared), ("suppressor" + DECOY, shared), ("site" + DECOY, sites)):
        weights[:, plan.of(name)] += np.asarray(own, float)[:, None]
    return base * weights * (1 + SUBJECT_SD * rng.normal(size=weights.shape))
