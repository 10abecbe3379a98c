"""Subgroups by hand, gaps that are there and gaps that small groups make, and groups too small to score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mcsp.evaluation.metrics import METRICS
from mcsp.evaluation.subgroups import SHOWN, UNKNOWN, age_bands, grouping_rows, in_order, scores_within, subgroup_tables
from mcsp.options.results import EvaluateOptions

OPTIONS = EvaluateOptions(n_bootstrap=100, n_permutations=100)


def people(n=120, seed=0, blind="e"):
    """Cohort and probabilities of a method that knows nothing about dataset `blind`."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    cohort = pd.DataFrame(
        {
            "uid": [f"{'de'[i // 2 % 2]}/{i:03d}" for i in range(n)],
            "dataset": ["de"[i // 2 % 2] for i in range(n)],
            "site": "s",
            "sex": [("M", "F", None)[min(i // 4 % 15, 2) if i % 60 < 12 else i // 4 % 2] for i in range(n)],
            "age": np.where(np.arange(n) < 3, np.nan, rng.uniform(8, 40, n)),
        }
    )
    strength = np.where(cohort["dataset"] == blind, 0, 2.5)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + strength * (y - 0.5))))
    means = pd.DataFrame({"method": "mcsp", "fold": 0, "uid": cohort["uid"], "y": y, "p": p})
    return cohort, means


def test_a_subgroups_row_is_that_of_its_subjects():
    cohort, means = people()
    table, _ = subgroup_tables("t", means, cohort, OPTIONS)
    row = table[(table["grouping"] == "site") & (table["group"] == "d/s")].iloc[0]
    own = means[means["uid"].str.startswith("d/")]
    assert (row["n"], row["n_case"]) == (len(own), own["y"].sum())
    for name in SHOWN:
        assert row[name] == pytest.approx(METRICS[name](own["y"].to_numpy(), own["p"].to_numpy()))
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert (table.groupby("grouping")["n"].sum() == 120).all()


def test_a_planted_gap_is_found_and_no_gap_is_not():
    cohort, means = people()
    gaps = subgroup_tables("t", means, cohort, OPTIONS)[1].set_index(["grouping", "metric"])
    found = gaps.loc["site", "auroc"]
    assert (found["best"], found["worst"], found["n_groups"]) == ("d/s", "e/s", 2)
    assert found["p"] == 1 / 101
    assert found["p_holm"] == pytest.approx(12 / 101)
    assert found["low"] > found["expected"]
    p = []
    for seed in range(20):
        cohort, means = people(seed=seed, blind="nobody")
        y, p_, group = means["y"].to_numpy(), means["p"].to_numpy(), cohort["dataset"].to_numpy().astype(str)
        p.append(grouping_rows(y, p_, group, OPTIONS.model_copy(update={"n_bootstrap": 5}))[1][0]["p"])
    assert np.mean(np.array(p) < 0.05) < 0.25
    assert 0.25 < np.mean(p) < 0.75


def test_small_subgroups_are_named_and_not_scored():
    y = np.array([0, 1] * 20 + [0] * 6 + [1] * 4)
    group = np.array(["big"] * 20 + ["other"] * 20 + ["small"] * 10)
    rows, gaps = grouping_rows(y, np.linspace(0, 1, 50), group, OPTIONS)
    found = {row["group"]: row for row in rows}
    assert found["small"]["state"] == "too few"
    assert "auroc" not in found["small"]
    assert found["big"]["state"] == "scored"
    assert {gap["n_groups"] for gap in gaps} == {2}
    assert "small" not in {gap["best"] for gap in gaps} | {gap["worst"] for gap in gaps}
    assert grouping_rows(y[40:], np.linspace(0, 1, 10), group[40:], OPTIONS)[1] == []


def test_the_unknown_are_a_row_but_no_side_of_a_gap():
    y = np.arange(60) % 2
    group = np.repeat(["a", "b", UNKNOWN], 20)
    rows, gaps = grouping_rows(y, np.where(group == UNKNOWN, y, 0.5), group, OPTIONS)
    assert {row["group"]: row["state"] for row in rows}[UNKNOWN] == "scored"
    assert {gap["n_groups"] for gap in gaps} == {2}
    assert all(gap["gap"] == 0 for gap in gaps)


def test_age_bands_are_thirds_and_say_so():
    ages = pd.Series([8.0, 10, 12, 20, 22, 24, 40, 50, 60, np.nan])
    assert age_bands(ages).tolist() == ["8-12 years"] * 3 + ["20-24 years"] * 3 + ["40-60 years"] * 3 + [UNKNOWN]
    assert age_bands(pd.Series([9.0, 9.0])).tolist() == ["9 years"] * 2
    assert age_bands(pd.Series([np.nan, np.nan])).tolist() == [UNKNOWN] * 2
    assert in_order(["8.5-9 years", UNKNOWN, "20-30 years", "10 years"]) == [
        "8.5-9 years", "10 years", "20-30 years", UNKNOWN,
    ]  # fmt: skip
    assert in_order(["d/10 years", "b", "a"]) == ["a", "b", "d/10 years"]


def test_all_subgroups_at_once_are_each_by_itself():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        group, p = rng.integers(0, 4, 200), rng.random(200)
        p, y = np.round(p, 1) if ties else p, rng.integers(0, 2, 200)
        expected = [[METRICS[name](y[group == g], p[group == g]) for name in SHOWN] for g in range(4)]
        np.testing.assert_allclose(scores_within(y, p, group, 4), expected)
