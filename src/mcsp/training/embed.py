"""Test subjects in the encoders' space, before and after pre-training, and retrieval across modalities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mcsp.errors import McspError
from mcsp.evaluation.splits import guard, load_splits, part, splits_hash
from mcsp.model.batch import Key, best_device
from mcsp.model.losses import fuse
from mcsp.model.mcsp import MCSP
from mcsp.store import read_table, write_table, write_tsv
from mcsp.training.data import Subjects, start_at_components_of
from mcsp.training.engine import step_seed

COLUMNS = {
    "fold": "Fold; its test subjects are embedded",
    "stage": "untrained (as pre-training begins: at the training subjects' components) or pretrained",
    "scope": "inductive, or transductive: pre-training saw these subjects' recordings",
    "domain": "Domain whose embeddings are compared; all: the three side by side; fused: their mean directions, as in L_CF",
    "query": "Modality that asks; the other one is searched",
    "n": "Subjects with both modalities, the size of the search",
    "top1": "Share of queries whose own subject came first",
    "top5": "Share of queries whose own subject was among the first five",
    "mrr": "Mean reciprocal rank of the own subject",
    "chance_top1": "top1 expected by chance",
    "chance_mrr": "mrr expected by chance",
}
RANKS = ["fold", "stage", "scope", "domain", "query", "uid", "n", "rank"]


def untrained(model: MCSP, seed: int, trained_on: Subjects) -> MCSP:
    """A model of the same sizes and standardisers as pre-training begins with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MCSP(model.config)
        for key, scaler in fresh.scalers().items():
            scaler.load_state_dict(model.scalers()[key].state_dict())
        start_at_components_of(fresh, trained_on, seed)
    return fresh.eval()


def embed_subjects(model: MCSP, subjects: Subjects) -> tuple[dict[Key, np.ndarray], dict[str, np.ndarray]]:
    """(embeddings (N, dim) by modality and domain, presence (N) by modality) of all subjects, in their order."""
    z: dict[Key, list[np.ndarray]] = {key: [] for key in model.keys}
    device = best_device()
    model.to(device)
    for _, batch in subjects.everyone():
        for key, values in model.embed(batch.to(device)).items():
            z[key].append(values.cpu().numpy())
    return {key: np.concatenate(parts) for key, parts in z.items()}, subjects.has


def ranks(query: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank (N), from 1, of row i of `target` (N, d) among all of its rows by cosine similarity to row i of `query`; ties count
    half.
    """
    similarity = query @ target.T
    own = np.diag(similarity)[:, None]
    return 1 + (similarity > own).sum(axis=1) + 0.5 * ((similarity == own).sum(axis=1) - 1)


def retrieval(rank: np.ndarray) -> dict[str, float]:
    """How well subjects found their own recording of the other modality, by the `ranks` (N) of it among N."""
    n = len(rank)
    return {
        "n": n,
        "top1": float((rank <= 1).mean()),
        "top5": float((rank <= 5).mean()),
        "mrr": float((1 / rank).mean()),
        "chance_top1": 1 / n,
        "chance_mrr": float((1 / np.arange(1, n + 1)).mean()),
    }


def _rows(fold: int, stage: str, uids: list[str], z: dict[Key, np.ndarray], has: dict[str, np.ndarray]) -> list[dict]:
    return [
        {"uid": uid, "fold": fold, "stage": stage, "modality": m, "domain": d, "embedding": values[i].tolist()}
        for (m, d), values in z.items()
        for i, uid in enumerate(uids)
        if has[m][i]
    ]


def searches(uids: Sequence[str], z: dict[Key, np.ndarray], has: dict[str, np.ndarray]) -> pd.DataFrame:
    """Everybody with both modalities asks by one of them, and the other is searched: domain, query, uid, n, rank (`ranks`)."""
    columns = ["domain", "query", "uid", "n", "rank"]
    both = np.logical_and.reduce(list(has.values()))
    if len(has) < 2 or both.sum() < 2:
        return pd.DataFrame(columns=columns)
    domains, own, found = list(dict.fromkeys(d for _, d in z)), np.array(uids)[both], []
    seen = {m: torch.from_numpy(both) for m in has}
    fused = {m: fuse({key: torch.from_numpy(v) for key, v in z.items() if key[0] == m}, seen).numpy()[both] for m in has}
    for query, target in (("fmri", "eeg"), ("eeg", "fmri")):
        pairs = {d: (z[query, d][both], z[target, d][both]) for d in domains}
        pairs["all"] = tuple(np.concatenate([pairs[d][side] for d in domains], axis=1) for side in (0, 1))
        pairs["fused"] = fused[query], fused[target]
        for d, pair in pairs.items():
            found.append(pd.DataFrame({"domain": d, "query": query, "uid": own, "n": len(own), "rank": ranks(*pair)}))
    return pd.concat(found, ignore_index=True)[columns]


def run(
    *, stores: Path, cohort: Path, splits: Path, models: Sequence[Path], out: Path, ranks_only: bool = False, threads: int
) -> None:
    """Embed the test subjects of every fold with that fold's model: at `out` who was found at which rank. Beside it, unless
    `ranks_only`, all embeddings in a long table (`embeddings.parquet`) and the means of the ranks (`retrieval.tsv`), of
    untrained models too.
    """
    torch.set_num_threads(threads)
    table, folds = read_table(cohort), load_splits(splits)
    rows, found = [], []
    for folder in models:
        model = MCSP.from_pretrained(folder)
        if model.config["splits"]["sha256"] != splits_hash(splits):
            raise McspError(f"{folder}: pre-trained for other folds than {splits}: rerun `snakemake pretrain`")
        fold = model.config["fold"]
        uids = part(folds, fold, "test")
        guard(folds, fold, uids, "test")
        subjects = Subjects(stores, table, uids, model.keys)
        if not len(subjects):  # nobody in this fold's test part has a modality of the model
            continue
        stages = {"pretrained": model}
        if not ranks_only:
            seen = ("train", "test") if model.config["scope"] == "transductive" else ("train",)
            first = untrained(model, step_seed(fold, 9), Subjects(stores, table, part(folds, fold, *seen), model.keys))
            stages = {"untrained": first, **stages}
        for stage, own in stages.items():
            z, has = embed_subjects(own, subjects)
            if not ranks_only:
                rows += _rows(fold, stage, subjects.uids, z, has)
            found.append(searches(subjects.uids, z, has).assign(fold=fold, stage=stage, scope=model.config["scope"]))
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=RANKS)
    write_table(table[RANKS], out)
    by = ["fold", "stage", "scope", "domain", "query"]
    means = [{**dict(zip(by, key)), **retrieval(own["rank"].to_numpy(float))} for key, own in table.groupby(by, sort=False)]
    summary = pd.DataFrame(means, columns=list(COLUMNS))
    if not ranks_only:
        columns = ["uid", "fold", "stage", "modality", "domain", "embedding"]
        write_table(pd.DataFrame(rows, columns=columns), out.with_name("embeddings.parquet"))
        write_tsv(summary, out.with_name("retrieval.tsv"), COLUMNS)
    if means:
        shown = ["top1", "chance_top1", "mrr", "chance_mrr"]
        print(summary.groupby(["stage", "domain"])[shown].mean().round(3).to_string())
