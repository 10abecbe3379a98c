"""Which EEG belongs to which fMRI: recall at k of the embeddings, beside chance, by domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mcsp.figures.style import GREY, OURS, new_figure, nothing, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "stage": "untrained or pretrained encoders",
    "domain": "Domain whose embeddings are compared; all: side by side",
    "k": "How many of the most similar are looked at",
    "recall": "Share of subjects found among them, by fMRI and by EEG",
    "low": "Lower end of the 95 % bootstrap interval over subjects",
    "high": "Upper end of the interval",
    "chance": "Recall expected by chance",
    "n": "Subjects with both modalities, over all folds",
    "p": "Permutation test of the mean reciprocal rank against chance, one-sided; not corrected",
}
N_DRAWS = 999
LOOKS = {"untrained": (GREY, "--", "before pre-training"), "pretrained": (OURS, "-", "after pre-training")}


def ranks(similarity: np.ndarray) -> np.ndarray:
    """Rank of the own partner in each row of `similarity` (N, N), 1 the first; ties count half."""
    own = np.diag(similarity)[:, None]
    return 1 + (similarity > own).sum(axis=1) + 0.5 * ((similarity == own).sum(axis=1) - 1)


def similarities(table: pd.DataFrame, domain: str) -> list[np.ndarray]:
    """fMRI x EEG similarities (N, N) of each fold's subjects that have both; `domain` all: domains side by side."""
    found = []
    for _, fold in table.groupby("fold"):
        wide = fold.pivot(index="uid", columns=["modality", "domain"], values="embedding").dropna()
        domains = [domain] if domain != "all" else sorted(fold["domain"].unique())
        if len(wide) < 2 or not {("fmri", d) for d in domains} | {("eeg", d) for d in domains} <= set(wide.columns):
            continue
        x, y = (
            np.concatenate([np.stack(list(wide[modality, d])) for d in domains], axis=1).astype(float)
            for modality in ("fmri", "eeg")
        )
        found.append(x @ y.T)
    return found


def _reciprocal(blocks: list[np.ndarray]) -> float:
    """Mean reciprocal rank, both ways."""
    return float(np.concatenate([1 / ranks(side) for block in blocks for side in (block, block.T)]).mean())


def p_of(blocks: list[np.ndarray], rng: np.random.Generator) -> float:
    """Share of draws whose mean reciprocal rank is as high, when partners are shuffled within folds."""
    drawn = [_reciprocal([block[:, rng.permutation(len(block))] for block in blocks]) for _ in range(N_DRAWS)]
    return (1 + int(np.sum(np.array(drawn) >= _reciprocal(blocks)))) / (N_DRAWS + 1)


def curve(blocks: list[np.ndarray], most: int, rng: np.random.Generator) -> pd.DataFrame:
    """Recall at k = 1 ... `most` with intervals, and what chance gives."""
    both = np.concatenate([np.stack([ranks(block), ranks(block.T)], axis=1) for block in blocks])  # (subjects, 2)
    sizes = np.concatenate([np.full(len(block), len(block)) for block in blocks])
    k = np.arange(1, most + 1)
    hits = (both[:, :, None] <= k).mean(axis=1)
    drawn = np.stack([hits[rng.integers(0, len(hits), len(hits))].mean(axis=0) for _ in range(N_DRAWS)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    chance = np.minimum(k / sizes[:, None], 1).mean(axis=0)
    return pd.DataFrame({"k": k, "recall": hits.mean(axis=0), "low": low, "high": high, "chance": chance, "n": len(both)})


def _panel(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    for stage, (colour, line, label) in LOOKS.items():
        own = rows[rows["stage"] == stage]
        if len(own):
            axes.fill_between(own["k"], own["low"], own["high"], color=colour, alpha=0.18, linewidth=0)
            axes.plot(own["k"], own["recall"], line, color=colour, label=label)
            axes.plot(
                own["k"], own["chance"], ":", color="black", linewidth=0.9, label="chance" if stage == "pretrained" else None
            )
    p = rows.loc[rows["stage"] == "pretrained", "p"]
    axes.set_title(title + (f"\np = {p.iloc[0]:.3f}" if len(p) else ""), loc="left", fontsize=8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("k")
    axes.xaxis.get_major_locator().set_params(integer=True)


def run(*, embeddings: Path, out: Path, options: FigureOptions) -> None:
    """A panel per domain and one for all; before and after pre-training."""
    table = read_table(embeddings)
    domains = [d for d in ("spatial", "temporal", "spectral") if d in set(table["domain"])]
    rng, parts = np.random.default_rng(0), []
    for domain in [*domains, "all"] if len(domains) > 1 else domains:
        for stage in LOOKS:
            blocks = similarities(table[table["stage"] == stage], domain)
            if blocks:
                most = min(20, max(map(len, blocks)))
                parts.append(curve(blocks, most, rng).assign(stage=stage, domain=domain, p=p_of(blocks, rng)))
    if not parts:
        return nothing(out, "no retrieval: fewer than two test subjects of any fold have both modalities", options)
    rows = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    shown = list(dict.fromkeys(rows["domain"]))
    figure, axes = new_figure(options, 0.32, ncols=len(shown), sharey=True, squeeze=False)
    for panel, domain in zip(axes[0], shown):
        _panel(panel, rows[rows["domain"] == domain], {"all": "All domains"}.get(domain, domain.capitalize()))
    axes[0][0].set_ylabel("found among the first k")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    sizes = table.loc[table["modality"] == "eeg"].groupby("fold")["uid"].nunique()
    caption = (
        f"Recall at k of {rows['n'].max()} test subjects with both modalities, each searched among those of its fold "
        f"({len(sizes)} folds) by the cosine similarity of embeddings, fMRI asking for EEG and EEG for fMRI; the mean of "
        "both. Bands: 95 % bootstrap intervals over subjects. p: permutation test of the mean reciprocal rank after "
        f"pre-training ({N_DRAWS} shuffles of partners within folds, one-sided, not corrected for the panels)."
    )
    save(figure, out, rows, COLUMNS, caption, options)
    return None
