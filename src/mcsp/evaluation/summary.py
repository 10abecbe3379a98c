"""All tasks in one table, for the terminal and the report's first page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from mcsp.evaluation.comparisons import over_subjects
from mcsp.store import read_tsv, write_tsv

COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "n": "Test subjects, over all folds",
    "n_case": "Cases among them",
    "auroc": "Area under the ROC curve, pooled test subjects",
    "auroc_low": "Lower end of its bootstrap interval over subjects",
    "auroc_high": "Upper end of its bootstrap interval over subjects",
    "balanced_accuracy": "Mean of sensitivity and specificity, pooled test subjects",
    "balanced_accuracy_low": "Lower end of its bootstrap interval over subjects",
    "balanced_accuracy_high": "Upper end of its bootstrap interval over subjects",
    "p_phenotype": "p of the AUROC against phenotype, site and motion alone (DeLong, Holm-corrected)",
    "verdict": "Whether it beats phenotype, site and motion alone",
}
WORDS = {
    "better": "beats phenotype",
    "worse": "FAILS: worse than phenotype",
    "not told apart": "FAILS: does not beat phenotype",
}


def run(*, metrics: Sequence[Path], comparisons: Sequence[Path], out: Path) -> None:
    """Write one line per task and method."""
    rows = []
    for metric_file, comparison_file in zip(metrics, comparisons):
        values, pairs = read_tsv(metric_file), over_subjects(read_tsv(comparison_file))
        pairs = pairs[(pairs["rival"] == "phenotype") & (pairs["metric"] == "auroc")].set_index("method")
        for method, own in values.groupby("method", sort=False):
            own = own.set_index("metric")
            row = {"task": own["task"].iloc[0], "method": method, "n": own["n"].iloc[0], "n_case": own["n_case"].iloc[0]}
            for name in ("auroc", "balanced_accuracy"):
                row |= {
                    name: own.loc[name, "value"],
                    f"{name}_low": own.loc[name, "low"],
                    f"{name}_high": own.loc[name, "high"],
                }
            if method in pairs.index:
                row |= {"p_phenotype": pairs.loc[method, "p_holm"], "verdict": WORDS[pairs.loc[method, "verdict"]]}
            rows.append(row)
    write_tsv(pd.DataFrame(rows, columns=list(COLUMNS)), out, COLUMNS)
    show(out)


def show(path: Path) -> None:
    """Print the table on the terminal."""
    table = Table("task", "method", title="Test subjects of all folds, intervals over subjects")
    for name in ("n", "AUROC", "balanced accuracy", "p against phenotype"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in read_tsv(path).itertuples():
        auroc = f"{row.auroc:.2f} [{row.auroc_low:.2f}, {row.auroc_high:.2f}]"
        accuracy = f"{row.balanced_accuracy:.2f} [{row.balanced_accuracy_low:.2f}, {row.balanced_accuracy_high:.2f}]"
        p = "" if pd.isna(row.p_phenotype) else f"{row.p_phenotype:.2g}"
        table.add_row(row.task, row.method, str(row.n), auroc, accuracy, p, "" if pd.isna(row.verdict) else row.verdict)
    Console(width=130).print(table)
