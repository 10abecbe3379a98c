"""Variants of a study beside the whole model, on the test subjects that both predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.evaluation.comparisons import fold_differences, holm_of_known, subject_row
from mcsp.evaluation.fusion import COLUMNS as FUSION_COLUMNS
from mcsp.evaluation.fusion import fusion_rows
from mcsp.evaluation.metrics import METRICS, bootstrap
from mcsp.evaluation.retrieval import COLUMNS as RETRIEVAL
from mcsp.evaluation.retrieval import retrieval_rows
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_table, write_tsv

SHOWN = ("auroc", "balanced_accuracy")
FOLDS = {
    "fold_difference": "AUROC of the variant minus that of the whole within one fold, the mean over folds: what the draw of "
    "training subjects changes shows in its spread, of which DeLong's test knows nothing",
    "fold_sd": "Standard deviation of that difference over folds",
    "folds_above": "Folds in which the variant's AUROC is the higher one",
    "n_folds": "Folds compared: those that test both classes",
}
COLUMNS = {
    "task": "Task of the study",
    "kind": "What is varied; whole: the study as it is",
    "variant": "To what",
    "scope": "inductive, or transductive: pre-training saw test subjects' recordings",
    "n": "Test subjects of all folds that the variant can speak of",
    "n_case": "Cases among them",
    **{
        f"{name}{end}": f"{name.replace('_', ' ')}{text}"
        for name in SHOWN
        for end, text in (
            ("", " over pooled test subjects"), ("_low", ", lower end of the bootstrap interval"), ("_high", ", upper end")
        )
    },
    "difference": "AUROC of the variant minus that of the whole, on the subjects that both predict",
    "difference_low": "Lower end of its interval (normal, by DeLong's error; bootstrap where that has no variance)",
    "difference_high": "Upper end",
    "p": "DeLong's test of the difference, or permutation where it has no variance",
    "p_holm": "Corrected for the variants of the task (Holm)",
    **FOLDS,
}  # fmt: skip


def _means(predictions: pd.DataFrame) -> pd.DataFrame:
    """One probability per subject, the mean over seeds: columns y, p; index uid."""
    return predictions.groupby("uid").agg(y=("y", "first"), p=("p", "mean")).sort_index()


def within_folds(own: pd.DataFrame, whole: pd.DataFrame) -> dict[str, float]:
    """Differences of AUROC from the whole model within folds: mean, standard deviation, how many are above 0, how many there
    are. Tables of predictions (fold, seed, uid, y, p); probabilities are means over seeds.
    """
    means = [part.groupby(["fold", "uid"]).agg(y=("y", "first"), p=("p", "mean")) for part in (own, whole)]
    both = means[0].join(means[1]["p"].rename("whole"), how="inner").reset_index()
    found = np.array(fold_differences(*(both[c].to_numpy() for c in ("y", "p", "whole", "fold")), "auroc"))
    return {
        "fold_difference": found.mean() if len(found) else np.nan,
        "fold_sd": found.std(ddof=1) if len(found) > 1 else np.nan,
        "folds_above": int((found > 0).sum()),
        "n_folds": len(found),
    }


def _scope(predictions: pd.DataFrame) -> str:
    return ", ".join(sorted(set(predictions["scope"])))


def variant_row(own: pd.DataFrame, whole: pd.DataFrame | None, options: EvaluateOptions) -> dict:
    """Metrics of one variant and, against the `whole` model, difference and p. Tables as `_means` gives them."""
    y, p = own["y"].to_numpy(), own["p"].to_numpy()
    ends = bootstrap(y, p, options.n_bootstrap, options.seed, options.confidence, SHOWN)
    row = {"n": len(own), "n_case": int(y.sum())}
    row |= dict.fromkeys(("difference", "difference_low", "difference_high", "p"), float("nan"))
    for name in SHOWN:
        row |= {name: METRICS[name](y, p), f"{name}_low": ends[name][0], f"{name}_high": ends[name][1]}
    if whole is not None:
        both = own.join(whole["p"].rename("whole"), how="inner")
        if len(both):
            found = subject_row(*(both[c].to_numpy() for c in ("y", "p", "whole")), "auroc", options)
            row |= {"difference": found["difference"], "p": found["p"]}
            row |= {"difference_low": found["low"], "difference_high": found["high"]}
    return row


def sweep_rows(
    task: str,
    whole: pd.DataFrame,
    variants: Mapping[str, tuple[str, str, pd.DataFrame]],
    options: EvaluateOptions,
) -> pd.DataFrame:
    """The whole model, then its variants (name -> kind, value, predictions), with Holm's correction over these."""
    reference = _means(whole)
    rows = [{"kind": "whole", "variant": "as it is", "scope": _scope(whole), **variant_row(reference, None, options)}]
    rows[0] |= {"fold_difference": np.nan, "fold_sd": np.nan, "folds_above": None, "n_folds": whole["fold"].nunique()}
    for kind, value, predictions in variants.values():
        named = {"kind": kind, "variant": value, "scope": _scope(predictions)}
        rows.append({**named, **variant_row(_means(predictions), reference, options), **within_folds(predictions, whole)})
    table = pd.DataFrame(rows).astype({"folds_above": "Int64"})
    return table.assign(task=task, p_holm=holm_of_known(table["p"]))[list(COLUMNS)]


def run(
    *,
    results: Path,
    tasks: Sequence[str],
    variants: Mapping[str, tuple[str, str]],
    searched: Sequence[str],
    options: EvaluateOptions,
    out: Path,
    fusion: Path,
    retrieval: Path,
) -> None:
    """Write the table of all tasks, at `fusion` that of single modalities against both, and at `retrieval` who found whom
    across modalities. `variants`: name -> (kind, value); `searched`: those with both modalities. Predictions and ranks are
    read below `results`.
    """
    tables, fused = [], []
    for task in tasks:
        predictions = read_table(results / "evaluate" / task / "predictions.parquet")
        whole = predictions[predictions["method"].str.startswith("mcsp")]
        whole = whole.assign(scope=whole["method"].str.contains("transductive").map({True: "transductive", False: "inductive"}))
        found = {
            name: (kind, value, read_table(results / "sweep" / name / "predictions" / f"{task}.parquet"))
            for name, (kind, value) in variants.items()
        }
        tables.append(sweep_rows(task, whole, found, options))
        alone = {value: own for kind, value, own in found.values() if kind == "modality"}
        fused.append(fusion_rows(task, predictions, alone, options))
    table = pd.concat(tables, ignore_index=True)
    write_tsv(table, out, COLUMNS)
    write_tsv(pd.concat(fused, ignore_index=True), fusion, FUSION_COLUMNS)
    shown = ["task", "kind", "variant", "scope", "n", "auroc", "difference", "p_holm", *FOLDS]
    print(table[shown].to_string(index=False, float_format="%.3f"))
    ranks = {name: (*variants[name], read_table(results / "sweep" / name / "embeddings/ranks.parquet")) for name in searched}
    rows = retrieval_rows(read_table(results / "embeddings/ranks.parquet"), ranks, options)
    write_tsv(rows, retrieval, RETRIEVAL)
