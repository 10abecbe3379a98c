"""Loss terms of pre-training over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mcsp.figures.style import PALETTE, new_figure, nothing, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "fold": "Fold",
    "epoch": "Epoch",
    "split": "train or val subjects",
    "term": "Loss term",
    "value": "Mean loss over the epoch, in nats",
}
TITLES = {
    "id": "L_ID\nviews",
    "cd": "L_CD\ndomains",
    "im": "L_IM\nlikeness",
    "cm": "L_CM\nmodalities",
    "cf": "L_CF\nfused",
    "kd": "L_KD\nteacher",
    "total": "weighted\ntotal",
}


def run(*, histories: Sequence[Path], out: Path, options: FigureOptions) -> None:
    """One panel per family of terms and the total; thin lines are folds, thick ones their mean."""
    parts = []
    for number, path in enumerate(histories):
        table = read_tsv(path)
        terms = [c for c in table.columns if c not in ("epoch", "split", "lr")]
        long = table.melt(["epoch", "split"], terms, "term", "value").dropna(subset=["value"])
        parts.append(long.assign(fold=number))
    rows = pd.concat(parts, ignore_index=True)[list(COLUMNS)]
    if rows.empty:
        return nothing(out, "no pre-training: pretrain.epochs is 0", options)
    families = ["total", *dict.fromkeys(t.split("_")[0] for t in rows["term"] if t != "total")]
    figure, axes = new_figure(options, 0.28, ncols=len(families), squeeze=False)
    for panel, family in zip(axes[0], families):
        own = rows[rows["term"].str.split("_").str[0] == family]
        own = own.groupby(["fold", "epoch", "split"], as_index=False)["value"].sum()
        for colour, split in zip((PALETTE[0], PALETTE[1]), ("train", "val")):
            side = own[own["split"] == split]
            for _, fold in side.groupby("fold"):
                panel.plot(fold["epoch"], fold["value"], color=colour, alpha=0.3, linewidth=0.7)
            mean = side.groupby("epoch")["value"].mean()
            panel.plot(mean.index, mean, color=colour, label={"train": "training", "val": "validation"}[split])
        panel.set_title(TITLES[family], loc="left", fontsize=8)
        panel.set_xlabel("epoch")
    axes[0][0].set_ylabel("loss, nats")
    axes[0][0].legend(loc="upper right", handlelength=1, borderaxespad=0)
    caption = (
        f"Pre-training losses of {len(histories)} folds, summed over modalities and domains: training and validation "
        "subjects; thin "
        "lines are folds, thick lines their mean. Cross-modal terms exist only for subjects with both modalities."
    )
    save(figure, out, rows, COLUMNS, caption, options)
    return None
