"""Does fusion help? Each single modality against both, on the test subjects that have both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from mcsp.evaluation.comparisons import by_subject, holm_of_known, pooled, subject_row, verdict
from mcsp.evaluation.metrics import auroc, bootstrap
from mcsp.options.results import EvaluateOptions

BOTH = "fmri+eeg"
COLUMNS = {
    "task": "Task of the study",
    "method": "Method that reads both modalities",
    "single": "The same method with one modality: MCSP pre-trained and fine-tuned on it alone, or that part of the rival",
    "n": "Test subjects of all folds that have both modalities",
    "n_case": "Cases among them",
    "fused": "AUROC with both, over pooled test subjects",
    "fused_low": "Lower end of its bootstrap interval over subjects",
    "fused_high": "Upper end of its bootstrap interval over subjects",
    "alone": "AUROC with the one",
    "alone_low": "Lower end of its bootstrap interval over subjects",
    "alone_high": "Upper end of its bootstrap interval over subjects",
    "difference": "fused less alone",
    "low": "Lower end of the interval of the difference",
    "high": "Upper end of the interval of the difference",
    "p": "DeLong's test of the difference, or permutation where it has no variance",
    "p_holm": "p corrected over the comparisons of the task (Holm)",
    "verdict": "fused is better, worse, or not told apart, at 0.05 after correction",
}


def parts_of(method: str, methods: Iterable[str]) -> list[str]:
    """The rivals that read one modality of what `method` reads: 'linear FC + band power' has 'linear FC' and 'linear band
    power'; what follows a comma is common to all.
    """
    name, comma, rest = method.partition(",")
    first, plus, second = name.partition(" + ")
    label = first.rpartition(" ")[0]
    parts = [f"{first}{comma}{rest}", f"{label} {second}{comma}{rest}"]
    return parts if plus and set(parts) <= set(methods) else []


def _area(y: np.ndarray, p: np.ndarray, options: EvaluateOptions) -> tuple[float, float, float]:
    ends = bootstrap(y, p, options.n_bootstrap, options.seed, options.confidence, ("auroc",))["auroc"]
    return auroc(y, p), *ends


def fusion_row(fused: pd.DataFrame, alone: pd.DataFrame, options: EvaluateOptions) -> dict | None:
    """One comparison, from columns y and p by uid of those with both modalities; None where a class has fewer than two."""
    both = fused.join(alone["p"].rename("other"), how="inner").sort_index()
    y, a, b = (both[column].to_numpy() for column in ("y", "p", "other"))
    if min(np.sum(y == 1), np.sum(y == 0)) < 2:
        return None
    row = {"n": len(y), "n_case": int(y.sum()), **subject_row(y, a, b, "auroc", options)}
    for name, values in (("fused", a), ("alone", b)):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), _area(y, values, options)))
    return row


def fusion_rows(
    task: str, predictions: pd.DataFrame, alone: Mapping[str, pd.DataFrame], options: EvaluateOptions
) -> pd.DataFrame:
    """The table COLUMNS of one task. `predictions`: of MCSP and its rivals, as `evaluate` writes them; `alone`: words for a
    modality -> predictions (fold, seed, uid, y, p) of MCSP trained on it alone.
    """
    seen = by_subject(pooled(predictions[predictions["modalities"] == BOTH]))
    by_method = {str(method): own.set_index("uid")[["y", "p"]] for method, own in seen.groupby("method")}
    own = [name for name in by_method if name.startswith("mcsp")]
    singles = {words: by_subject(pooled(table.assign(method=words))).set_index("uid") for words, table in alone.items()}
    pairs = [(name, words, table) for name in own for words, table in singles.items()]
    pairs += [(name, part, by_method[part]) for name in by_method for part in parts_of(name, by_method)]
    rows = []
    for method, single, table in pairs:
        row = fusion_row(by_method[method], table, options)
        rows += [{"task": task, "method": method, "single": single, **row}] if row else []
    found = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in ("p_holm", "verdict")])
    found["p_holm"] = holm_of_known(found["p"])
    found["verdict"] = [verdict(d, p) for d, p in zip(found["difference"], found["p_holm"])]
    return found[list(COLUMNS)]


def fusion_text(table: pd.DataFrame) -> str:
    """In plain words, method by method: in which tasks both modalities are better than each alone."""
    if table.empty:
        return "Whether fusion helps can't be told: nobody has both modalities, or no model was trained on each alone."
    sentences = []
    for method, own in table.groupby("method", sort=False):
        verdicts = own.groupby("task", sort=False)["verdict"].agg(list)
        helped = [task for task, words in verdicts.items() if len(words) > 1 and set(words) == {"better"}]
        worse = [task for task, words in verdicts.items() if "worse" in words]
        found = f"helps in {', '.join(helped)}" if helped else "is not shown to help"
        sentence = f"Fusion {found} ({method}: better than each modality alone in {len(helped)} of {len(verdicts)} tasks"
        sentences.append(sentence + (f", worse than one of them in {', '.join(worse)}" if worse else "") + ").")
    n = table.groupby("task")["n"].max()
    counts = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    return (
        f"{' '.join(sentences)} Only test subjects with both modalities count ({counts} a task): with few, a small gain does "
        "not show. DeLong's test, Holm-corrected within the task, 0.05."
    )
