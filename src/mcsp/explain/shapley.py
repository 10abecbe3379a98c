"""Shapley values of the tabular rivals, by groups of features, beside the model's saliency: where do they agree?

A Shapley value shares out the rival's logit of a subject, less its mean over training subjects, among groups of features. What
is missing is taken from training subjects, whatever the rest is (interventional): features count as independent, which edges
of a brain are not, so that correlated groups may share what one of them holds. The groups are pairs of networks (FC) and
bands or channels in a band (EEG power): numbers that can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mcsp.cohort import domain_meta, of_modalities, task_labels, without_answer
from mcsp.evaluation.resampling import once_each
from mcsp.evaluation.rivals.catalogue import rival_maker
from mcsp.evaluation.rivals.features import POWER_BANDS
from mcsp.evaluation.rivals.tuning import filled
from mcsp.evaluation.splits import guard, load_splits, part
from mcsp.explain.models import rank_correlation
from mcsp.explain.truth import interval
from mcsp.options.results import ExplainOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, read_tsv, write_tsv

PERMUTATIONS = 8  # orders of the groups, each with its reverse, each against one training subject
BACKGROUND = 8  # subjects learnt from that stand for what is missing, where all coalitions are worked out
SUBJECTS = 24  # test subjects of a fold, of a rival that has to be asked many times
EXACT = 4  # groups that are worked out over all coalitions
KINDS = {"fmri": "network_pair", "eeg": "channel_band"}
COLUMNS = {
    "rival": "linear or random_forest: the study's rival, fitted anew on each fold's training and validation subjects",
    "modality": "fmri (FC) or eeg (log band power)",
    "kind": "network_pair: all edges between (or within) two networks; channel_band; band",
    "name": "Pair of networks a|b, band/channel, or band",
    "size": "Features in the group",
    "value": "Mean |Shapley value| over test subjects, in logits; with repeats, of each subject's mean over these",
    "low": "Lower end of the 95 % bootstrap interval over subjects",
    "high": "Upper end of the 95 % bootstrap interval over subjects",
    "cases": "Mean Shapley value over cases less that over controls, in logits: above 0, the group speaks for the truth",
    "saliency": "Summed share of the model's relevance on the group (first method and domain of the agreement table)",
    "n": "Test subjects",
}
AGREEMENT_COLUMNS = {
    "rival": "Rival whose Shapley values are compared",
    "modality": "fmri or eeg",
    "kind": "Groups that are compared",
    "method": "Attribution method of the model's map",
    "domain": "Domain of the model's map",
    "rho": "Spearman's correlation of mean |Shapley value| and the model's summed relevance over groups; large groups have "
    "much of both",
    "rho_mean": "The same per feature (both divided by the group's size), so that size alone makes no agreement",
    "n_groups": "Groups",
}

Predict = Callable[[np.ndarray], np.ndarray]


def linear_weights(pipeline: Pipeline) -> np.ndarray:
    """Weights (F) of the features in the logit of a pipeline that fills in, scales, rotates and is a logistic regression."""
    _, scaler, rotation, last = (step for _, step in pipeline.steps)
    return (last.coef_[0] @ rotation.components_) / scaler.scale_


def linear_shapley(weights: np.ndarray, x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Exact interventional Shapley values (N, F) of a linear model: w (x - E x). Source: Štrumbelj & Kononenko 2014."""
    return weights * (x - mean)


def exact_shapley(predict: Predict, x: np.ndarray, background: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Exact interventional Shapley values (N, G) of few groups, over all coalitions and all of `background` (B, F).

    `groups` (F): number of each feature's group. Cost: 2^G N B predictions.
    """
    n_groups, worth = int(groups.max()) + 1, {}
    for size in range(n_groups + 1):
        for members in combinations(range(n_groups), size):
            inside = np.isin(groups, members)
            mixed = np.where(inside, x[:, None], background[None])
            worth[members] = predict(mixed.reshape(-1, x.shape[1])).reshape(len(x), -1).mean(axis=1)
    values = np.zeros((len(x), n_groups))
    for members, without in worth.items():
        for group in set(range(n_groups)) - set(members):
            weight = factorial(len(members)) * factorial(n_groups - len(members) - 1) / factorial(n_groups)
            values[:, group] += weight * (worth[tuple(sorted((*members, group)))] - without)
    return values


def sampled_shapley(
    predict: Predict, x: np.ndarray, background: np.ndarray, groups: np.ndarray, n_permutations: int, seed: int
) -> np.ndarray:
    """The same by random orders of the groups, each with its reverse, each against one subject of `background`: unbiased, and
    each order shares out exactly logit(x) - logit(that subject). Source: Štrumbelj & Kononenko 2014; pairs of orders: Mitchell
    et al. 2022.
    """
    rng, n_groups = np.random.default_rng(seed), int(groups.max()) + 1
    values = np.zeros((len(x), n_groups))
    for _ in range(n_permutations):
        order, other = rng.permutation(n_groups), background[rng.integers(len(background))]
        for path in (order, order[::-1]):
            place = np.argsort(path)[groups]  # when each feature joins
            steps = np.stack([np.where(place < k, x, other) for k in range(n_groups + 1)])
            told = predict(steps.reshape(-1, x.shape[1])).reshape(n_groups + 1, len(x))
            values[:, path] += np.diff(told, axis=0).T
    return values / (2 * n_permutations)


def network_pairs(meta: dict) -> tuple[np.ndarray, list[str]]:
    """(number of the pair of networks of each edge of the upper triangle, names of the pairs)."""
    of = [str(n) for n in meta["networks"]]
    pairs = ["|".join(sorted((of[i], of[j]))) for i, j in zip(*np.triu_indices(len(of), 1))]
    names = sorted(set(pairs))
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[pair] for pair in pairs]), names


def groupings(modality: str, meta: dict) -> dict[str, tuple[np.ndarray, list[str]]]:
    """kind -> (group of each of the rivals' features, names of the groups). `meta`: fmri/spatial, or eeg/spectral."""
    if modality == "fmri":
        return {"network_pair": network_pairs(meta)}
    n, bands = len(meta["ch_names"]), list(POWER_BANDS)
    each = [f"{band}/{name}" for band in bands for name in meta["ch_names"]]
    return {"band": (np.repeat(np.arange(len(bands)), n), bands), "channel_band": (np.arange(len(each)), each)}


def _summed(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums (N, G) of features' values (N, F) by group."""
    return values @ np.eye(int(groups.max()) + 1)[groups]


def fold_values(rival: str, fitted: Any, x: np.ndarray, background: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Shapley values (N, G) of test subjects `x` by one fold's fitted rival; `background`: those that it learnt from.

    Linear: against all of these, exactly; few groups: exactly against BACKGROUND of them; else sampled.
    """
    if rival == "linear":
        return _summed(linear_shapley(linear_weights(fitted.pipeline), x, background.mean(axis=0)), groups)
    if int(groups.max()) < EXACT:
        few = background[np.random.default_rng(seed).permutation(len(background))[:BACKGROUND]]
        return exact_shapley(fitted.logit, x, few, groups)
    return sampled_shapley(fitted.logit, x, background, groups, PERMUTATIONS, seed)


def rivals_metas(stores: Path, cohort: pd.DataFrame) -> dict[str, dict]:
    """Metadata of the stores that the tabular rivals read, by modality."""
    read = (("fmri", "spatial"), ("eeg", "spectral"))
    return {m: domain_meta(stores, cohort, m, d) for m, d in read if cohort[f"has_{m}"].any()}


def rival_values(rival: str, stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series, seed: int) -> dict:
    """(modality, kind) -> (values (N, G), labels (N), group of each feature, names of groups) of the folds' N test subjects."""
    maker, people = rival_maker(rival, stores, cohort, seed), cohort.set_index("uid", drop=False)
    found: dict[tuple[str, str], list] = {}
    metas = rivals_metas(stores, cohort)
    for fold in sorted(set(splits["fold"])):
        train, test = ([uid for uid in part(splits, fold, *names) if uid in y.index] for names in (("train", "val"), ("test",)))
        guard(splits, fold, train, "train", "val")
        fitted = maker().fit(people.loc[train].assign(part="train"), y.loc[train].to_numpy())
        order = np.random.default_rng([seed, fold]).permutation(test).tolist()
        for modality, model in fitted.models.items():
            known, asked = (rows[rows[f"has_{modality}"]] for rows in (people.loc[train], people.loc[order]))
            asked = asked if rival == "linear" else asked.head(SUBJECTS)
            if asked.empty:
                continue
            background, x = (fitted.read(modality, rows).astype(float) for rows in (known, asked))
            fill = filled().fit(background)
            background, x = fill.transform(background), fill.transform(x)
            for kind, (groups, names) in groupings(modality, metas[modality]).items():
                if rival != "linear" and kind == "channel_band":
                    continue  # too many groups to ask a forest about
                values = fold_values(rival, model, x, background, groups, seed)
                found.setdefault((modality, kind), []).append((pd.DataFrame(values, asked["uid"]), groups, names))
    tables = {place: pd.concat([p[0] for p in parts]) for place, parts in found.items()}
    tested = {place: once_each(own, own.index) for place, own in tables.items()}
    return {place: (own.to_numpy(), y.loc[own.index].to_numpy(), *found[place][0][1:]) for place, own in tested.items()}


def saliency(maps: pd.DataFrame, kind: str, names: list[str], meta: dict) -> dict[tuple[str, str], np.ndarray]:
    """(method, domain) -> the model's relevance on each group: edges summed to pairs of networks; bands; channels in bands."""
    source = {"network_pair": ("fmri", "edge"), "band": ("eeg", "band"), "channel_band": ("eeg", "channel_band")}[kind]
    own = maps[(maps["modality"] == source[0]) & (maps["kind"] == source[1])]
    found = {}
    for (method, domain), rows in own.groupby(["method", "domain"], sort=False):
        shares = rows.set_index("name")["mean"]
        if kind == "network_pair":
            of = dict(zip(meta["names"], (str(n) for n in meta["networks"])))
            ends = [sorted(of[region] for region in name.split("|")) for name in shares.index]
            shares = shares.groupby(["|".join(pair) for pair in ends]).sum()
        found[method, domain] = shares.reindex(names).to_numpy()
    return found


def tables(rival: str, found: dict, maps: pd.DataFrame, metas: dict[str, dict], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(values, agreement) of one rival."""
    frames, agreement = [], []
    for (modality, kind), (values, y, groups, names) in found.items():
        size = np.bincount(groups)
        low, high = interval(np.abs(values), seed)
        own = {"rival": rival, "modality": modality, "kind": kind, "name": names, "size": size}
        own |= {"value": np.abs(values).mean(axis=0), "low": low, "high": high}
        own |= {"cases": values[y == 1].mean(axis=0) - values[y == 0].mean(axis=0), "saliency": np.nan, "n": len(values)}
        frame = pd.DataFrame(own)
        for number, ((method, domain), shares) in enumerate(saliency(maps, kind, names, metas[modality]).items()):
            if not number:
                frame["saliency"] = shares
            mine = frame["value"].to_numpy()
            row = {"rival": rival, "modality": modality, "kind": kind, "method": method, "domain": domain}
            row |= {"rho": rank_correlation(mine, shares), "rho_mean": rank_correlation(mine / size, shares / size)}
            agreement.append(row | {"n_groups": len(names)})
        frames.append(frame.sort_values("value", ascending=False))
    values = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    return values, pd.DataFrame(agreement, columns=list(AGREEMENT_COLUMNS))


def run(
    *, rivals: Sequence[str], stores: Path, cohort: Path, splits: Path, task: Task, maps: Path, options: ExplainOptions,
    values: Path, agreement: Path,
) -> None:  # fmt: skip
    """Write mean |Shapley value| of each group of features of each rival, and the rank agreement with the model's maps."""
    people, group = read_table(cohort), read_tsv(maps)
    y, folds = task_labels(people, task), load_splits(splits)
    seen = without_answer(of_modalities(people, set(group["modality"])), task)  # what the model reads
    y = y[y.index.isin(seen["uid"])]
    work = partial(tables, maps=group, metas=rivals_metas(stores, seen), seed=options.seed)
    found = [work(rival, rival_values(rival, stores, seen, folds, y, options.seed)) for rival in rivals]
    write_tsv(pd.concat([own[0] for own in found], ignore_index=True), values, COLUMNS)
    together = pd.concat([own[1] for own in found], ignore_index=True)
    write_tsv(together, agreement, AGREEMENT_COLUMNS)
    print(together.round(2).to_string(index=False))
