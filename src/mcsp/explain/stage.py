"""Explain a task's frozen classifiers on their test subjects, and say which methods can be believed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from mcsp.cohort import domain_meta, task_labels
from mcsp.errors import McspError
from mcsp.evaluation.splits import guard, load_splits, part, splits_hash
from mcsp.explain.models import MAIN_KIND, explain_subjects, rank_correlation, reset_weights, training_reference
from mcsp.explain.permutation import sign_flip
from mcsp.explain.summaries import Summary, names_of, top_of
from mcsp.explain.truth import LEARNED_SHARE, MIN_SUBJECTS, RESET_LIMIT, SCORES, interval, masks, planted
from mcsp.model.batch import Key, best_device
from mcsp.model.mcsp import Classifier
from mcsp.options.results import ExplainOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table, write_tsv
from mcsp.training.data import Subjects

RESET_SUBJECTS = 16  # per model, for the comparison with reset weights
MAP_COLUMNS = {
    "method": "Attribution method",
    "modality": "fmri or eeg",
    "domain": "spatial, temporal or spectral: where the attribution was taken",
    "kind": "roi, network, edge, channel, band, channel_band or frequency",
    "name": "Name of the region, network, edge (a|b), channel, band, band/channel or frequency",
    "mean": "Mean share of relevance over subjects; shares of a kind add up to 1 (a network or band: mean of its members). "
    "Within a subject, contributions over time and of the two entries of an edge are added with their signs before their size "
    "is taken",
    "low": "Lower end of the 95 % bootstrap interval over subjects; n/a below 5",
    "high": "Upper end of the 95 % bootstrap interval over subjects; n/a below 5",
    "stability": "Mean rank correlation of the whole map between models (folds and seeds); n/a with one model",
    "stability_folds": "The same between models of one seed and other folds: other people learnt from, and explained; "
    "n/a with one fold",
    "stability_seeds": "The same between models of one fold and other seeds: the same people; n/a with one seed",
    "top_share": "Share of the models (folds and seeds) in whose own mean map the entry is among the highest (as many as the "
    "biomarker table names: `top`, at most a quarter)",
    "top_folds": "Share of the folds in whose map, averaged over seeds, the entry is among the highest; n/a with one fold",
    "top_seeds": "Share of the seeds in whose map, averaged over folds, the entry is among the highest; n/a with one seed",
    "n": "Subjects",
    "reset": "Mean share of the same subjects' maps with reset weights (up to 16 subjects per model)",
    "p_maxt": "One-sided p that the share is higher than with reset weights, over all entries of the kind (max-T, sign flips "
    "of subjects). Null: for each subject the trained and the untrained model's maps could be exchanged. It is about these "
    "models and new subjects, not about new trainings",
    "q_fdr": "The same as false discovery rate (Benjamini and Hochberg)",
}
VERDICT_COLUMNS = {
    "method": "Attribution method",
    "modality": "fmri or eeg",
    "domain": "Domain where the attribution was taken",
    "unit": "What is scored: edge, roi, channel, band or frequency",
    "score": "relevance mass or rank accuracy on the planted truth; reset similarity: rank correlation with the map of the "
    "same model with reset weights",
    "value": "Mean over subjects (reset similarity: over models)",
    "low": "Lower end of the 95 % bootstrap interval over subjects; n/a below 5",
    "high": "Upper end of the 95 % bootstrap interval over subjects; n/a below 5",
    "chance": "Value when relevance is spread evenly",
    "reset": "Value of the same subjects' maps with reset weights (up to 16 subjects per model): what the inputs alone give",
    "n": "Subjects (reset similarity: models)",
    "verdict": "pass: the interval lies above chance, that of the paired difference to reset weights above 0, and more than "
    "half of what lies above chance is gone with reset weights (reset similarity: below 0.5); fail; no truth: no planted "
    "effect reaches this domain, so unproven",
}


@dataclass(frozen=True)
class Part:
    """What one model says of one subject in one domain, by one method."""

    uid: str
    fold: int
    seed: int
    method: str
    key: Key
    summary: Summary


def explain_model(
    folder: Path,
    stores: Path,
    cohort: pd.DataFrame,
    splits: pd.DataFrame,
    y: pd.Series,
    metas: dict[Key, dict],
    options: ExplainOptions,
) -> tuple[list[Part], list[Part]]:
    """What one frozen classifier says of its test subjects, and what it says of some of them with its weights reset."""
    model = Classifier.from_pretrained(folder)
    fold, seed, keys = model.config["fold"], model.config["seed"], model.backbone.keys
    train, test = part(splits, fold, "train"), [uid for uid in part(splits, fold, "test") if uid in y.index]
    guard(splits, fold, test, "test")
    order = np.random.default_rng([options.seed, fold]).permutation(test)[: options.max_subjects].tolist()
    device = best_device()
    reference = training_reference(stores, cohort, train, keys).to(device)
    found: list[list[Part]] = []
    for forward, chosen in ((model, order), (reset_weights(model, options.seed), order[:RESET_SUBJECTS])):
        forward.requires_grad_(False).to(device)
        subjects = Subjects(stores, cohort, sorted(chosen), keys)
        found.append(
            [
                Part(uid, fold, seed, method, key, summary)
                for method in options.methods
                for uid, key, summary in explain_subjects(forward, subjects, reference, metas, method, options)
            ]
        )
    return found[0], found[1]


def by_subject(parts: Sequence[Part], value: Callable[[Part], np.ndarray]) -> dict[str, np.ndarray]:
    """uid -> `value`, averaged over the seeds that explained the subject: subjects are what intervals are drawn over."""
    found: dict[str, list[np.ndarray]] = {}
    for p in parts:
        found.setdefault(p.uid, []).append(value(p))
    return {uid: np.mean(found[uid], axis=0) for uid in sorted(found)}


def by_model(parts: Sequence[Part], kind: str) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """(fold, seed) -> uid -> shares of one kind."""
    found: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for p in parts:
        found.setdefault((p.fold, p.seed), {})[p.uid] = p.summary[kind]
    return found


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else np.nan


def stabilities(models: dict[tuple[int, int], np.ndarray], top: int) -> dict:
    """How alike the mean maps (K) of models are, by (fold, seed): over all, over folds and over seeds."""
    pairs = [(a, b, rank_correlation(models[a], models[b])) for a, b in itertools.combinations(sorted(models), 2)]
    folds, seeds = ({key[i] for key in models} for i in (0, 1))

    def top_share(groups: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        means = [np.mean(group, axis=0) for group in groups]
        return np.mean([np.argsort(np.argsort(-m, kind="stable")) < top_of(len(m), top) for m in means], axis=0)

    def of(i: int, values: set[int]) -> list[list[np.ndarray]]:
        return [[own for key, own in models.items() if key[i] == value] for value in sorted(values)]

    return {
        "stability": _mean([value for *_, value in pairs]),
        "stability_folds": _mean([value for a, b, value in pairs if a[1] == b[1]]),
        "stability_seeds": _mean([value for a, b, value in pairs if a[0] == b[0]]),
        "top_share": top_share([[own] for own in models.values()]),
        "top_folds": top_share(of(0, folds)) if len(folds) > 1 else np.nan,
        "top_seeds": top_share(of(1, seeds)) if len(seeds) > 1 else np.nan,
    }


def beyond_reset(values: dict[str, np.ndarray], resets: Sequence[Part], kind: str, options: ExplainOptions) -> dict:
    """Columns of the test against reset weights: `values`: uid -> shares (K)."""
    reset = by_subject(resets, lambda p: p.summary[kind])
    if len(reset) < MIN_SUBJECTS:
        return dict.fromkeys(("reset", "p_maxt", "q_fdr"), np.nan)
    differences = np.array([values[uid] - own for uid, own in reset.items()])
    tested = sign_flip(differences, options.n_permutations, options.seed)
    return {"reset": np.mean(list(reset.values()), axis=0), "p_maxt": tested.p_maxt, "q_fdr": tested.q_fdr}


def map_rows(parts: Sequence[Part], resets: Sequence[Part], meta: dict, options: ExplainOptions) -> pd.DataFrame:
    """Group maps of one method and domain, all kinds."""
    first, frames = parts[0], []
    names = names_of(*first.key, meta)
    for kind in first.summary:
        people = by_subject(parts, lambda p, kind=kind: p.summary[kind])
        values = np.array(list(people.values()))
        models = {key: np.mean(list(own.values()), axis=0) for key, own in by_model(parts, kind).items()}
        low, high = interval(values, options.seed, 500)
        own = {"method": first.method, "modality": first.key[0], "domain": first.key[1], "kind": kind, "name": names[kind]}
        own |= {"mean": values.mean(axis=0), "low": low, "high": high}
        own |= {"n": len(values), **stabilities(models, options.top)}
        own |= beyond_reset(people, resets, kind, options)
        frames.append(pd.DataFrame(own))
    return pd.concat(frames, ignore_index=True)[list(MAP_COLUMNS)]


def truth_row(parts: Sequence[Part], resets: Sequence[Part], unit: str, mask: np.ndarray, score: str, seed: int) -> dict:
    """How much relevance lies where something was planted, against chance and against reset weights."""

    def scored(p: Part) -> np.ndarray:
        return SCORES[score](p.summary[unit][None], mask)[0]

    values, reset = by_subject(parts, scored), by_subject(resets, scored)
    learned = np.array([values[uid] - reset[uid] for uid in reset])
    excess = np.array([values[uid] for uid in reset]) - mask.mean()
    low, high = interval(np.array(list(values.values())), seed)
    above = low > mask.mean() and interval(learned, seed)[0] > 0 and learned.mean() > LEARNED_SHARE * excess.mean()
    row = {"unit": unit, "score": score, "value": np.mean(list(values.values())), "low": low, "high": high}
    row |= {"chance": mask.mean(), "reset": np.mean(list(reset.values())), "n": len(values)}
    return row | {"verdict": "pass" if above else "fail"}


def reset_row(parts: Sequence[Part], resets: Sequence[Part]) -> dict:
    """Rank correlation of the mean map with that of the reset model, over the same subjects, averaged over models."""
    unit = MAIN_KIND[parts[0].key[0]]
    mine, similar = by_model(parts, unit), []
    for model, reset in by_model(resets, unit).items():
        a, b = (np.mean([side[uid] for uid in reset], axis=0) for side in (mine[model], reset))
        similar.append(rank_correlation(a, b))
    value = _mean(similar)
    row = {"unit": unit, "score": "reset similarity", "value": value, "low": np.nan, "high": np.nan, "chance": 0.0}
    return row | {"reset": np.nan, "n": len(similar), "verdict": "pass" if value < RESET_LIMIT else "fail"}


def verdict_rows(parts: Sequence[Part], resets: Sequence[Part], effects: list[dict], meta: dict, seed: int) -> pd.DataFrame:
    """Verdicts on one method in one domain."""
    first = parts[0]
    found = masks(effects, *first.key, meta)
    rows = [truth_row(parts, resets, unit, mask, score, seed) for unit, mask in found.items() for score in SCORES]
    if not rows:
        nothing = dict.fromkeys(("value", "low", "high", "chance", "reset"), np.nan)
        n = len({p.uid for p in parts})
        rows = [{"unit": MAIN_KIND[first.key[0]], "score": "planted truth", **nothing, "n": n, "verdict": "no truth"}]
    rows.append(reset_row(parts, resets))
    own = {"method": first.method, "modality": first.key[0], "domain": first.key[1]}
    return pd.DataFrame([own | row for row in rows])[list(VERDICT_COLUMNS)]


def subject_rows(parts: Sequence[Part], metas: dict[Key, dict]) -> pd.DataFrame:
    """Long table of the summaries of each subject; edges are left out for their number."""
    frames = []
    names = {key: names_of(*key, meta) for key, meta in metas.items()}
    for p in parts:
        own = {"uid": p.uid, "fold": p.fold, "seed": p.seed, "method": p.method, "modality": p.key[0], "domain": p.key[1]}
        for kind, shares in p.summary.items():
            if kind != "edge":
                frames.append(pd.DataFrame({**own, "kind": kind, "name": names[p.key][kind], "value": shares}))
    return pd.concat(frames, ignore_index=True)


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    task_name: str,
    task: Task,
    models: Sequence[Path],
    truth: Sequence[Path],
    options: ExplainOptions,
    attributions: Path,
    maps: Path,
    verdicts: Path,
    threads: int,
) -> None:
    """Write attributions per subject, group maps, and verdicts on the methods. Raises McspError for models of other folds,
    and when no test subject of the task is left.
    """
    torch.set_num_threads(threads)
    table, folds = read_table(cohort), load_splits(splits)
    y = task_labels(table, task)
    first = Classifier.from_pretrained(models[0])
    metas = {key: domain_meta(stores, table, *key) for key in first.backbone.keys}
    effects = planted(truth, [*task.case, *task.control])  # against another disorder, its effects tell too
    parts: list[Part] = []
    resets: list[Part] = []
    for folder in track(models, description=f"explaining {task_name}"):
        if Classifier.from_pretrained(folder).config["splits"]["sha256"] != splits_hash(splits):
            raise McspError(f"{folder}: trained for other folds: rerun `snakemake finetune`")
        own, reset = explain_model(folder, stores, table, folds, y, metas, options)
        parts += own
        resets += reset
    if not parts:
        raise McspError(f"{task_name}: no test subject to explain: see exclusions.tsv")
    group, verdict = [], []
    for method, key in itertools.product(options.methods, metas):
        mine, fresh = ([p for p in side if (p.method, p.key) == (method, key)] for side in (parts, resets))
        if mine:
            group.append(map_rows(mine, fresh, metas[key], options))
            verdict.append(verdict_rows(mine, fresh, effects, metas[key], options.seed))
    write_table(subject_rows(parts, metas), attributions)
    write_tsv(pd.concat(group, ignore_index=True), maps, MAP_COLUMNS)
    results = pd.concat(verdict, ignore_index=True)
    write_tsv(results, verdicts, VERDICT_COLUMNS)
    print(results.round(3).to_string(index=False))
