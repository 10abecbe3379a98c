"""Which EEG belongs to which fMRI: recall at k of the embeddings, beside chance, by domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import rankdata

from mcsp.evaluation.retrieval import hits
from mcsp.figures.style import GREY, OURS, new_figure, nothing, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "stage": "untrained or pretrained encoders",
    "domain": "Domain whose embeddings are compared; fused: the domains' mean directions, as in L_CF",
    "k": "How many of the most similar are looked at",
    "recall": "Share of subjects found among them, by fMRI and by EEG; with repeats, of each subject's mean over these",
    "low": "Lower end of the 95 % bootstrap interval over subjects",
    "high": "Upper end of the interval",
    "chance": "Recall expected by chance",
    "n": "Subjects with both modalities, over all folds",
    "p": "Permutation test of the mean reciprocal rank against chance, one-sided; not corrected. With repeats, of the first",
}
N_DRAWS = 999
MOST = 20  # of the most similar that are looked at
LOOKS = {"untrained": (GREY, "--", "before pre-training"), "pretrained": (OURS, "-", "after pre-training")}


def similarities(table: pd.DataFrame, domain: str) -> list[np.ndarray]:
    """fMRI x EEG cosines (N, N) of each fold's subjects that have both; `domain` fused: of the domains' mean directions.

    Of repeats the first: partners that are shuffled in each anew would make one subject several.
    """
    own, found = table[table["domain"].eq(domain) | (domain == "fused")], []
    for _, fold in own[own["fold"] == own.groupby("uid")["fold"].transform("min")].groupby("fold"):
        wide = fold.pivot(index="uid", columns=["modality", "domain"], values="embedding").dropna()
        if len(wide) > 1 and {"fmri", "eeg"} <= set(fold["modality"]):
            sums = (sum(np.stack(list(own)).astype(float) for _, own in wide[m].items()) for m in ("fmri", "eeg"))
            x, y = (side / np.linalg.norm(side, axis=1, keepdims=True).clip(1e-12) for side in sums)
            found.append(x @ y.T)
    return found


def p_of(blocks: list[np.ndarray], rng: np.random.Generator) -> float:
    """Share of draws whose mean reciprocal rank, both ways, is as high when partners are shuffled within folds.

    NaN without a block: in the first repeat, no fold has two subjects.
    """
    if not blocks:
        return float("nan")
    scores = [1 / rankdata(-block, axis=1) + 1 / rankdata(-block, axis=0) for block in blocks]

    def mean(partners: list[np.ndarray]) -> float:
        return np.concatenate([own[np.arange(len(own)), at] for own, at in zip(scores, partners)]).mean()

    drawn = [mean([rng.permutation(len(own)) for own in scores]) for _ in range(N_DRAWS)]
    return (1 + int(np.sum(np.array(drawn) >= mean([np.arange(len(own)) for own in scores])))) / (N_DRAWS + 1)


def curve(found: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Recall at k = 1 ... 20 with intervals, and what chance gives, by the ranks at which subjects were `found` both ways."""
    k = np.arange(1, min(MOST, found["n"].max()) + 1)
    each = hits(found, {f"top{i}": i for i in k}).loc[found.sort_values(["fold", "uid"])["uid"].unique()]
    hit, chance = (np.ascontiguousarray(each[[f"{what}top{i}" for i in k]]) for what in ("", "chance_"))
    drawn = np.stack([hit[rng.integers(0, len(hit), len(hit))].mean(axis=0) for _ in range(N_DRAWS)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    columns = {"k": k, "recall": hit.mean(axis=0), "low": low, "high": high, "chance": chance.mean(axis=0)}
    return pd.DataFrame({**columns, "n": len(each)})


def _panel(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    for stage, (colour, line, label) in LOOKS.items():
        own = rows[rows["stage"] == stage]
        if len(own):
            axes.fill_between(own["k"], own["low"], own["high"], color=colour, alpha=0.18, linewidth=0)
            axes.plot(own["k"], own["recall"], line, color=colour, label=label)
            axes.plot(
                own["k"], own["chance"], ":", color="black", linewidth=0.9, label="chance" if stage == "pretrained" else None
            )
    p = rows.loc[rows["stage"] == "pretrained", "p"].dropna()
    axes.set_title(title + (f"\np = {p.iloc[0]:.3f}" if len(p) else ""), loc="left", fontsize=8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("k")
    axes.xaxis.get_major_locator().set_params(integer=True)


def run(*, embeddings: Path, ranks: Path, out: Path, options: FigureOptions) -> None:
    """A panel per domain and one of the fused ones; before and after pre-training."""
    table, found = read_table(embeddings), read_table(ranks)
    domains = [d for d in ("spatial", "temporal", "spectral") if d in set(found["domain"])]
    rng, parts = np.random.default_rng(0), []
    for domain in [*domains, "fused"] if len(domains) > 1 else domains:
        for stage in LOOKS:
            own = found[(found["stage"] == stage) & (found["domain"] == domain)]
            if len(own):
                p = p_of(similarities(table[table["stage"] == stage], domain), rng)
                parts.append(curve(own, rng).assign(stage=stage, domain=domain, p=p))
    if not parts:
        return nothing(out, "no retrieval: fewer than two test subjects of any fold have both modalities", options)
    rows = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    shown = list(dict.fromkeys(rows["domain"]))
    figure, axes = new_figure(options, 0.32, ncols=len(shown), sharey=True, squeeze=False)
    for panel, domain in zip(axes[0], shown):
        _panel(panel, rows[rows["domain"] == domain], {"fused": "Fused domains"}.get(domain, domain.capitalize()))
    axes[0][0].set_ylabel("found among the first k")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    again = ", of the first repeat" if found.duplicated(["stage", "domain", "query", "uid"]).any() else ""
    caption = (
        f"Recall at k of {rows['n'].max()} test subjects with both modalities, each searched among those of its fold "
        f"({found['fold'].nunique()} folds) by the cosine similarity of embeddings, fMRI asking for EEG and EEG for fMRI; the "
        "mean of both. Fused: the domains' mean directions, as in the loss L_CF. Bands: 95 % bootstrap intervals over "
        "subjects. p: permutation test of the mean reciprocal rank after "
        f"pre-training ({N_DRAWS} shuffles of partners within folds{again}, one-sided, not corrected for the panels)."
    )
    save(figure, out, rows, COLUMNS, caption, options)
    return None
