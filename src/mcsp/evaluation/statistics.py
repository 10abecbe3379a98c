"""What the predictions of a task tell beyond their metrics: calibration, uncertainty, subgroups, all pairs of methods.

Nothing is predicted here: the test part was opened by `evaluate`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mcsp.errors import McspError
from mcsp.evaluation.calibration import (
    CALIBRATION_COLUMNS,
    RELIABILITY_COLUMNS,
    TEMPERATURE_COLUMNS,
    calibration_tables,
    temperatures,
)
from mcsp.evaluation.comparisons import PAIR_COLUMNS, all_pairs, by_subject, pooled
from mcsp.evaluation.subgroups import GAP_COLUMNS, SUBGROUP_COLUMNS, subgroup_tables
from mcsp.evaluation.uncertainty import SELECTIVE_COLUMNS, UNCERTAINTY_COLUMNS, selective_table, uncertainties
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_table, write_tsv


def check_apart(validation: pd.DataFrame, predictions: pd.DataFrame) -> None:
    """Raises McspError when a fold's validation subjects, on whom its temperature is fitted, are tested by that fold."""
    tested = set(zip(predictions["fold"], predictions["uid"]))
    both = sorted(tested.intersection(zip(validation["fold"], validation["uid"])))
    if both:
        fold, uid = both[0]
        raise McspError(f"fold {fold}: {uid} is tested, and would choose the temperature: leakage: rerun `evaluate`")


def run(
    *, predictions: Path, validation: Path, dropout: Path, cohort: Path, task_name: str, options: EvaluateOptions, out: Path
) -> None:
    """Write temperatures, calibration, reliability, uncertainty, selective, subgroups, gaps and pairs (.tsv, .json) of a task
    to the directory `out`, from what `evaluate` wrote of it.
    """
    folds, chosen = pooled(read_table(predictions)), read_table(validation)
    check_apart(chosen, folds)
    means = by_subject(folds)
    ours = means[means["method"].str.startswith("mcsp")]
    heat = temperatures(task_name, chosen)
    scores, points = calibration_tables(task_name, folds, heat, options)
    known = uncertainties(task_name, ours, read_table(dropout))
    subgroups, gaps = subgroup_tables(task_name, means, read_table(cohort), options)
    selective = selective_table(task_name, means, known, options)
    for name, table, columns in (
        ("temperatures", heat, TEMPERATURE_COLUMNS),
        ("calibration", scores, CALIBRATION_COLUMNS),
        ("reliability", points, RELIABILITY_COLUMNS),
        ("uncertainty", known, UNCERTAINTY_COLUMNS),
        ("selective", selective, SELECTIVE_COLUMNS),
        ("subgroups", subgroups, SUBGROUP_COLUMNS),
        ("gaps", gaps, GAP_COLUMNS),
        ("pairs", all_pairs(task_name, means, options), PAIR_COLUMNS),
    ):
        write_tsv(table, out / f"{name}.tsv", columns)
    shown = scores[(scores["metric"] == "calibration_error") & scores["method"].isin(ours["method"])]
    print(shown[["method", "state", "value", "low", "high", "expected"]].to_string(index=False))
