"""Maps of a classifier by every method, also with its weights reset from the head downwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from mcsp.explain.attribution import Forward, Reference
from mcsp.explain.models import explain_subjects, reset_weights
from mcsp.explain.summaries import Summary
from mcsp.explain.truth import auprc, chance_of, relevance_mass, relevance_rank
from mcsp.model.batch import Key
from mcsp.model.mcsp import Classifier
from mcsp.options.results import ExplainOptions
from mcsp.training.data import Subjects

SCORES = {"relevance mass": relevance_mass, "relevance rank": relevance_rank, "AUPRC": auprc}
ENTRIES = ("enter", "edges", "filters", "place")  # parts of an encoder that touch its input
LEVELS = ("head", "head and upper layers", "everything")

Maps = dict[tuple[str, Key], dict[str, Summary]]  # (method, domain) -> uid -> summary
Inputs = dict[Key, torch.Tensor]  # of a batch's subjects
Questions = Callable[[Inputs, Inputs], Iterable[tuple[dict, Inputs]]]  # own inputs, training subjects' mean -> (names, inputs)


def maps_of(
    forward: Forward,
    subjects: Subjects,
    reference: Reference,
    metas: dict[Key, dict],
    methods: Sequence[str],
    options: ExplainOptions,
) -> Maps:
    """Summaries of all subjects by every method."""
    found: Maps = {}
    for method in methods:
        for uid, key, summary in explain_subjects(forward, subjects, reference, metas, method, options):
            found.setdefault((method, key), {})[uid] = summary
    return found


def _level_of(name: str) -> int:
    """From which level on a weight is reset: 0 the head, 1 the encoders' upper layers, 2 what reads the input."""
    if not name.startswith("backbone."):
        return 0
    _, part, _, layer, *_ = name.split(".")
    return 2 if part == "encoders" and layer in ENTRIES else 1  # projectors have entries too, behind the encoders


def cascade(model: Classifier, level: int, seed: int) -> Classifier:
    """The classifier with fresh weights from the head down to `level` (of LEVELS), and its own below."""
    fresh, own = reset_weights(model, seed), model.state_dict()
    with torch.no_grad():
        for name, values in fresh.state_dict().items():
            if _level_of(name) > level:
                values.copy_(own[name])
    return fresh.requires_grad_(False)


def mean_map(maps: dict[str, Summary], unit: str) -> np.ndarray:
    """Mean shares over subjects."""
    return np.mean([summary[unit] for summary in maps.values()], axis=0)


def score_rows(maps: Maps, key: Key, masks: dict[str, np.ndarray], **labels) -> list[dict]:
    """Scores of each subject's map in one domain against the masks of what was planted (unit -> (K,) bool)."""
    rows = []
    for (method, own), people in maps.items():
        if own != key:
            continue
        base = {**labels, "method": method, "modality": key[0], "domain": key[1]}
        for unit, mask in masks.items():
            if unit not in next(iter(people.values())):
                continue
            shares = np.array([summary[unit] for summary in people.values()])
            for score, function in SCORES.items():
                chance = chance_of(score, mask)
                for uid, value in zip(people, function(shares, mask)):
                    rows.append({**base, "unit": unit, "score": score, "uid": uid, "value": float(value), "chance": chance})
    return rows


def logits_of(forward: Forward, subjects: Subjects, reference: Reference, questions: Questions) -> pd.DataFrame:
    """What the model says of each subject from other inputs than its own: uid, what `questions` calls each of them, logit."""
    rows = []
    with torch.no_grad():
        for uids, batch in subjects.everyone(16):
            mean = {key: reference.mean[key][None].expand_as(x) for key, x in batch.x.items()}
            for labels, x in questions(batch.x, mean):
                logits = forward(type(batch)(x, batch.present, batch.n_valid))
                rows += [{"uid": uid, **labels, "logit": float(value)} for uid, value in zip(uids, logits)]
    return pd.DataFrame(rows)


def logits_alone(forward: Forward, subjects: Subjects, reference: Reference) -> pd.DataFrame:
    """What the model says of each subject from one domain alone, all others at the training subjects' mean, and from all
    domains: uid, modality, domain ('all' both), logit. It tells whether the model holds anything in a domain.
    """

    def questions(own: Inputs, mean: Inputs) -> Iterator[tuple[dict, Inputs]]:
        yield {"modality": "all", "domain": "all"}, own
        for key in own:
            yield {"modality": key[0], "domain": key[1]}, mean | {key: own[key]}

    return logits_of(forward, subjects, reference, questions)
