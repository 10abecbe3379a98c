"""Explain a task's frozen classifiers on their test subjects, and say which methods can be believed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from scipy.stats import spearmanr

from mcsp.cohort import domain_meta, task_labels
from mcsp.errors import McspError
from mcsp.evaluation.splits import guard, load_splits, part, splits_hash
from mcsp.explain.attribution import METHODS
from mcsp.explain.summaries import Summary, summarise
from mcsp.explain.truth import interval, masks, planted, relevance_mass, relevance_rank
from mcsp.model.batch import Key
from mcsp.model.mcsp import Classifier
from mcsp.options.results import ExplainOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table, write_tsv
from mcsp.training.data import Subjects

MAIN_KIND = {"fmri": "roi", "eeg": "channel"}
TOP_EDGES = 200
MAP_COLUMNS = {
    "method": "Attribution method",
    "modality": "fmri or eeg",
    "domain": "spatial, temporal or spectral: where the attribution was taken",
    "kind": "roi, network, edge, channel, band or channel_band",
    "name": "Name of the region, network, edge (a|b), channel, band, or band/channel",
    "mean": "Mean share of relevance over subjects and folds; shares of a kind add up to 1",
    "low": "Lower end of the 95 % interval over subjects",
    "high": "Upper end of the 95 % interval over subjects",
    "stability": "Mean rank correlation of the map between folds and seeds",
    "n": "Subjects",
}
VERDICT_COLUMNS = {
    "method": "Attribution method",
    "modality": "fmri or eeg",
    "domain": "Domain where the attribution was taken",
    "unit": "What is scored: edges, regions, channels, bands",
    "score": "relevance mass or rank accuracy on the planted truth; similarity to the map of a model with reset weights",
    "value": "Mean over subjects",
    "low": "Lower end of the 95 % interval over subjects",
    "high": "Upper end of the 95 % interval over subjects",
    "chance": "Value expected by chance",
    "n": "Subjects",
    "verdict": "pass: above chance (or, for reset weights, below 0.5); fail; no truth: nothing was planted, so unproven",
}


def training_mean(stores: Path, cohort: pd.DataFrame, uids: Sequence[str], keys: list[Key]) -> dict[Key, torch.Tensor]:
    """Mean input of the training subjects in each domain, the baseline of the attributions."""
    subjects = Subjects(stores, cohort, uids, keys)
    means = {}
    for key in keys:
        rows = list(subjects.rows[key].values())
        total = np.zeros(subjects.shapes[key])
        for row in rows:
            total += row
        means[key] = torch.from_numpy((total / max(len(rows), 1)).astype(np.float32))
    return means


def reset_weights(model: Classifier, seed: int) -> Classifier:
    """The classifier with fresh weights and the same standardisers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Classifier(model.config)
    for key, scaler in fresh.backbone.scalers().items():
        scaler.load_state_dict(model.backbone.scalers()[key].state_dict())
    return fresh.eval()


def explained(
    model: Classifier,
    subjects: Subjects,
    baseline: dict[Key, torch.Tensor],
    metas: dict[Key, dict],
    method: str,
    options: ExplainOptions,
) -> Iterator[tuple[str, Key, Summary]]:
    """(uid, domain, summaries) of every subject and each domain that it has."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for uids, batch in subjects.everyone(16):
        found = METHODS[method](model, batch, baseline, options)
        for key, values in found.items():
            array = values.detach().double().numpy()
            for i, uid in enumerate(uids):
                if bool(batch.present[key[0]][i]):
                    yield uid, key, summarise(*key, array[i], metas[key])


def _columns(parts: list[dict], kind: str) -> pd.DataFrame:
    """Subjects x names of one kind of summary."""
    return pd.DataFrame([part["summary"][kind] for part in parts])


def map_rows(parts: list[dict], seed: int) -> pd.DataFrame:
    """Group maps of one method and domain. `parts`: one entry per explained subject, fold and seed."""
    rows = []
    first = parts[0]
    runs = sorted({(p["fold"], p["seed"]) for p in parts})
    for kind in first["summary"]:
        table = _columns(parts, kind)
        by_run = [table[[(p["fold"], p["seed"]) == run for p in parts]].mean() for run in runs]
        pairs = [spearmanr(a, b).statistic for a, b in itertools.combinations(by_run, 2)] if len(table.columns) > 2 else []
        mean = table.mean()
        names = mean.sort_values(ascending=False, kind="stable").index[:TOP_EDGES] if kind == "edge" else mean.index
        for name in names:
            low, high = interval(table[name].to_numpy(), seed, 500)
            stability = float(np.mean(pairs)) if pairs else np.nan
            rows.append((first["method"], *first["key"], kind, name, mean[name], low, high, stability, len(table)))
    return pd.DataFrame(rows, columns=list(MAP_COLUMNS))


def _verdict_row(part: dict, unit: str, score: str, values: np.ndarray, chance: float, seed: int) -> tuple:
    low, high = interval(values, seed)
    verdict = "pass" if low > chance else "fail"
    return (part["method"], *part["key"], unit, score, float(values.mean()), low, high, chance, len(values), verdict)


def verdict_rows(parts: list[dict], effects: list[dict], meta: dict, resets: list[float], seed: int) -> pd.DataFrame:
    """Verdicts on one method in one domain."""
    first, rows = parts[0], []
    for kind, (names, chance) in masks(effects, *first["key"], meta).items():
        for score, function in (("relevance mass", relevance_mass), ("relevance rank", relevance_rank)):
            values = np.array([function(p["summary"][kind], names) for p in parts])
            rows.append(_verdict_row(first, kind, score, values, chance, seed))
    if not rows:
        nothing = (np.nan,) * 4
        rows.append(
            (first["method"], *first["key"], MAIN_KIND[first["key"][0]], "planted truth", *nothing, len(parts), "no truth")
        )
    similarity = float(np.mean(resets))
    verdict = "pass" if similarity < 0.5 else "fail"
    unit = MAIN_KIND[first["key"][0]]
    rows.append(
        (first["method"], *first["key"], unit, "reset similarity", similarity, np.nan, np.nan, 0.0, len(resets), verdict)
    )
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def subject_rows(parts: list[dict]) -> pd.DataFrame:
    """Long table of the summaries of each subject, edges left out for their number."""
    frames = []
    for p in parts:
        for kind, shares in p["summary"].items():
            if kind != "edge":
                own = {"uid": p["uid"], "fold": p["fold"], "seed": p["seed"], "method": p["method"]}
                own |= {"modality": p["key"][0], "domain": p["key"][1], "kind": kind}
                frames.append(pd.DataFrame({**own, "name": shares.index, "value": shares.to_numpy()}))
    return pd.concat(frames, ignore_index=True)


def explain_model(
    folder: Path,
    stores: Path,
    cohort: pd.DataFrame,
    splits: pd.DataFrame,
    y: pd.Series,
    metas: dict[Key, dict],
    options: ExplainOptions,
) -> tuple[list[dict], dict[tuple[str, Key], float]]:
    """(summaries per subject, method and domain; similarity to the reset model's map per method and domain) of one model."""
    model = Classifier.from_pretrained(folder)
    fold, seed, keys = model.config["fold"], model.config["seed"], model.backbone.keys
    train, test = part(splits, fold, "train"), [uid for uid in part(splits, fold, "test") if uid in y.index]
    guard(splits, fold, test, "test")
    rng = np.random.default_rng([options.seed, fold])
    chosen = sorted(rng.permutation(test)[: options.max_subjects].tolist())
    subjects, baseline = Subjects(stores, cohort, chosen, keys), training_mean(stores, cohort, train, keys)
    parts, resets = [], {}
    for method in options.methods:
        own = [
            {"uid": uid, "fold": fold, "seed": seed, "method": method, "key": key, "summary": summary}
            for uid, key, summary in explained(model, subjects, baseline, metas, method, options)
        ]
        other: dict[Key, list[pd.Series]] = {}
        for _, key, summary in explained(reset_weights(model, options.seed), subjects, baseline, metas, method, options):
            other.setdefault(key, []).append(summary[MAIN_KIND[key[0]]])
        for key, reset in other.items():
            mine = pd.DataFrame([p["summary"][MAIN_KIND[key[0]]] for p in own if p["key"] == key]).mean()
            resets[method, key] = float(spearmanr(mine, pd.DataFrame(reset).mean()).statistic)
        parts += own
    return parts, resets


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
    """Write attributions per subject, group maps, and verdicts on the methods. Raises McspError for models of other folds."""
    torch.set_num_threads(threads)
    table, folds = read_table(cohort), load_splits(splits)
    y = task_labels(table, task)
    first = Classifier.from_pretrained(models[0])
    if first.config["splits"]["sha256"] != splits_hash(splits):
        raise McspError(f"{models[0]}: trained for other folds: rerun `snakemake finetune`")
    metas = {key: domain_meta(stores, table, *key) for key in first.backbone.keys}
    effects = planted(truth, task.case)
    parts: list[dict] = []
    resets: dict[tuple[str, Key], list[float]] = {}
    for folder in track(models, description=f"explaining {task_name}"):
        own, similarity = explain_model(folder, stores, table, folds, y, metas, options)
        parts += own
        for key, value in similarity.items():
            resets.setdefault(key, []).append(value)
    group, verdict = [], []
    for (method, key), similarities in resets.items():
        mine = [p for p in parts if p["method"] == method and p["key"] == key]
        group.append(map_rows(mine, options.seed))
        verdict.append(verdict_rows(mine, effects, metas[key], similarities, options.seed))
    write_table(subject_rows(parts), attributions)
    write_tsv(pd.concat(group, ignore_index=True), maps, MAP_COLUMNS)
    results = pd.concat(verdict, ignore_index=True)
    write_tsv(results, verdicts, VERDICT_COLUMNS)
    print(results.round(3).to_string(index=False))
