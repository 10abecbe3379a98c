"""ROC, precision-recall, calibration and confusion of one task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from mcsp.figures.style import GREY, OURS, PALETTE, new_figure, save
from mcsp.options.results import FigureOptions
from mcsp.store import read_table

COLUMNS = {
    "panel": "Panel",
    "method": "Method",
    "x": "Horizontal value",
    "y": "Vertical value",
    "n": "Subjects of a calibration bin or cell",
}


def _calibration(y: np.ndarray, p: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean probability, share of cases, n) in fifths of the probabilities."""
    order = np.argsort(p, kind="stable")
    return [(float(p[i].mean()), float(y[i].mean()), len(i)) for i in np.array_split(order, min(5, len(p)))]


def run(*, predictions: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """Four panels from the pooled test predictions, mean over seeds."""
    table = read_table(predictions).groupby(["method", "uid", "y"], as_index=False)["p"].mean()
    methods = sorted(table["method"].unique(), key=lambda name: (not name.startswith("mcsp"), name))
    columns = len(methods) if len(methods) <= 5 else 3  # of the legend: more names don't fit beside each other
    figure, axes = new_figure(options, 0.3 + 0.02 * (-(-len(methods) // columns) - 1), ncols=4)
    rows: list[tuple] = []
    for i, method in enumerate(methods):
        own = table[table["method"] == method].sort_values("uid")
        y, p = own["y"].to_numpy(), own["p"].to_numpy()
        colour, style = (OURS, "-") if method.startswith("mcsp") else (PALETTE[i % 5], ("--", "-.", ":")[i % 3])
        x, up, _ = roc_curve(y, p)
        axes[0].plot(x, up, style, color=colour, label=f"{method}: {roc_auc_score(y, p):.2f}")
        rows += [("ROC", method, a, b, np.nan) for a, b in zip(x, up)]
        precision, recall, _ = precision_recall_curve(y, p)
        axes[1].plot(recall, precision, style, color=colour)
        rows += [("precision-recall", method, a, b, np.nan) for a, b in zip(recall, precision)]
        bins = _calibration(y, p)
        axes[2].plot([b[0] for b in bins], [b[1] for b in bins], style, marker="o", markersize=3, color=colour)
        rows += [("calibration", method, *b) for b in bins]
    first = table[table["method"] == methods[0]]
    cells = np.array([[((first["y"] == a) & ((first["p"] >= 0.5) == b)).sum() for b in (0, 1)] for a in (0, 1)])
    axes[3].imshow(cells / cells.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
    for a in (0, 1):
        for b in (0, 1):
            share = cells[a, b] / cells[a].sum()
            axes[3].text(
                b, a, f"{cells[a, b]}\n{share:.0%}", ha="center", va="center", color="white" if share > 0.6 else "black"
            )
            rows.append(("confusion", methods[0], b, a, int(cells[a, b])))
    axes[3].set_xticks([0, 1], ["control", "case"])
    axes[3].set_yticks([0, 1], ["control", "case"])
    for panel, (title, x, up) in zip(
        axes,
        [
            ("ROC", "1 - specificity", "sensitivity"),
            ("Precision-recall", "recall", "precision"),
            ("Calibration", "mean probability", "share of cases"),
            ("Decisions of MCSP", "decided", "true"),
        ],
    ):
        panel.set_title(title, loc="left", fontsize=8)
        panel.set_xlabel(x)
        panel.set_ylabel(up)
    for panel in (axes[0], axes[2]):
        panel.plot([0, 1], [0, 1], ":", color=GREY, linewidth=0.8)
    axes[1].axhline(first["y"].mean(), linestyle=":", color=GREY, linewidth=0.8)
    axes[1].set_ylim(0, 1.02)
    figure.legend(loc="outside lower center", ncol=columns, title="AUROC")
    some = sorted(method for method, own in table.groupby("method") if len(own) < len(first))
    apart = f" On the subjects that have their modality only: {', '.join(some)}." if some else ""
    caption = (
        f"{task_name}: {len(first)} test subjects ({int(first['y'].sum())} cases) pooled over folds, probabilities averaged "
        "over seeds. Dotted lines: chance (ROC, precision-recall) and perfect calibration. Calibration in fifths of the "
        f"probabilities.{apart}"
    )
    save(figure, out, pd.DataFrame(rows, columns=list(COLUMNS)), COLUMNS, caption, options)
