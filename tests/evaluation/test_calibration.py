"""Temperatures against a logistic regression, reliability and scores by hand, and who may move a temperature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_loss

from mcsp.evaluation.calibration import (
    CHANGE,
    PLAIN,
    SCALED,
    WARMEST,
    calibration_tables,
    expected_scores,
    fit_temperature,
    log_loss,
    logit,
    reliability,
    scaled,
    temperatures,
)
from mcsp.evaluation.metrics import METRICS, calibration_error
from mcsp.options.results import EvaluateOptions

OPTIONS = EvaluateOptions(n_bootstrap=100)


def overconfident(n=400, factor=3.0, seed=0):
    """Labels of true logits, and the probabilities of a model whose logits are `factor` times too large."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    return (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int), 1 / (1 + np.exp(-factor * z))


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_a_logistic_regression_without_intercept(factor):
    y, p = overconfident(factor=factor)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logit(p)[:, None], y)
    assert fit_temperature(y, p) == pytest.approx(1 / model.coef_.item(), rel=1e-4)
    assert fit_temperature(y, p) == pytest.approx(factor, rel=0.3)


def test_scaling_keeps_ranks_and_decisions_and_lowers_the_loss_it_was_fitted_on():
    y, p = overconfident()
    q = scaled(p, fit_temperature(y, p))
    assert METRICS["auroc"](y, q) == METRICS["auroc"](y, p)
    assert ((q >= 0.5) == (p >= 0.5)).all()
    assert log_loss(y, q) < log_loss(y, p)
    assert calibration_error(y, q) < calibration_error(y, p)
    np.testing.assert_allclose(scaled(p, 1.0), p, rtol=1e-9)
    assert log_loss(y, p) == pytest.approx(reference_loss(y, p), rel=1e-9)
    assert np.isfinite(log_loss(np.array([0, 1]), np.array([1.0, 0.0])))


def validation(folds=(0, 1), n=60):
    tables = []
    for fold in folds:
        y, p = overconfident(n, 1.0 + fold, fold)
        for seed in (0, 1):
            tables.append(pd.DataFrame({"fold": fold, "seed": seed, "uid": [f"v{i}" for i in range(n)], "y": y, "p": p}))
    return pd.concat(tables, ignore_index=True)


def test_each_fold_has_the_temperature_of_its_own_validation_subjects():
    table = validation()
    found = temperatures("t", table).set_index("fold")
    assert found["n_val"].tolist() == [60, 60]  # subjects, not seeds
    for fold in (0, 1):
        own = table[(table["fold"] == fold) & (table["seed"] == 0)]
        assert found.loc[fold, "temperature"] == pytest.approx(fit_temperature(own["y"].to_numpy(), own["p"].to_numpy()))
    assert (found["state"] == "fitted").all()


def test_few_subjects_make_no_temperature_and_separable_ones_no_extreme_one():
    uids, p = list("abcdefghij"), np.linspace(0.3, 0.7, 10)
    perfect = pd.DataFrame({"fold": 0, "seed": 0, "uid": uids, "y": (p > 0.5).astype(int), "p": p})
    row = temperatures("t", perfect).iloc[0]
    assert row["state"] == "at its bound"
    assert row["temperature"] == pytest.approx(1 / WARMEST, rel=1e-3)
    for few in (perfect.assign(y=1), perfect[:9]):
        row = temperatures("t", few).iloc[0]
        assert (row["temperature"], row["state"]) == (1.0, "too few")


def test_reliability_by_hand():
    y, p = np.array([1, 0, 1, 1, 0]), np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    points = reliability(y, p, 0.95)
    assert points["n"].tolist() == [2, 3]
    assert points["share"].tolist() == pytest.approx([0.5, 2 / 3])
    assert points["mean_p"].tolist() == pytest.approx([0.05, 2.9 / 3])
    assert points["bin_low"].tolist() == pytest.approx([0.0, 0.9])
    z, n, k = 1.959964, 3, 2  # Wilson 1927
    middle, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    assert points[["low", "high"]].iloc[1].tolist() == pytest.approx([middle - half, middle + half], abs=1e-6)
    error = (points["n"] * (points["share"] - points["mean_p"]).abs()).sum() / 5
    assert error == pytest.approx(calibration_error(y, p))


def test_the_expected_error_is_that_of_labels_drawn_from_the_probabilities():
    """Brier's expectation is known: mean p (1 - p). A calibrated model's own error lies about the expected one."""
    rng = np.random.default_rng(0)
    p = rng.random(300)
    expected = expected_scores(p, 400, 1)
    assert expected["brier"] == pytest.approx(np.mean(p * (1 - p)), abs=0.003)
    own = np.mean([calibration_error((rng.random(300) < p).astype(int), p) for _ in range(200)])
    assert expected["calibration_error"] == pytest.approx(own, abs=0.004)
    assert expected["calibration_error"] > 0.02  # though nothing is miscalibrated


def test_tables_show_mcsp_before_and_after_and_rivals_as_they_are():
    y, p = overconfident(240)
    uid = [f"d/{i:03d}" for i in range(240)]
    own = pd.DataFrame({"fold": np.arange(240) % 2, "uid": uid, "y": y, "p": p})
    means = pd.concat([own.assign(method="mcsp"), own.assign(method="phenotype", p=0.5)])
    heat = pd.DataFrame({"fold": [0, 1], "temperature": [3.0, 3.0]})
    scores, points = calibration_tables("t", means, heat, OPTIONS)
    table = scores.set_index(["method", "state", "metric"])
    assert set(scores.loc[scores["method"] == "phenotype", "state"]) == {PLAIN}
    before, after = (table.loc[("mcsp", state, "calibration_error"), "value"] for state in (PLAIN, SCALED))
    change = table.loc[("mcsp", CHANGE, "calibration_error")]
    assert change["value"] == pytest.approx(after - before)
    assert change["high"] < 0  # the model was three times too sure
    assert after == pytest.approx(calibration_error(y, scaled(p, 3.0)))
    assert (points.groupby(["method", "state"])["n"].sum() == 240).all()
    again = means.sample(frac=1, random_state=0)
    assert calibration_tables("t", again, heat, OPTIONS)[0].sort_values(["method", "state", "metric"])["value"].tolist() == (
        scores.sort_values(["method", "state", "metric"])["value"].tolist()
    )


def test_repeats_are_scaled_fold_by_fold_and_then_every_subject_counts_once():
    y, p = overconfident(240)
    uid = [f"d/{i:03d}" for i in range(240)]
    again = np.clip(p + 0.1, 0, 1)
    tests = [(np.arange(240) % 2, p), (2 + np.arange(240) // 120, again)]
    means = pd.concat([pd.DataFrame({"method": "mcsp", "fold": fold, "uid": uid, "y": y, "p": q}) for fold, q in tests])
    heat = pd.DataFrame({"fold": range(4), "temperature": [3.0, 2.0, 1.5, 4.0]})
    scores, points = calibration_tables("t", means, heat, OPTIONS)
    values = scores.set_index(["state", "metric"])["value"]
    assert set(scores["n"]) == {240}
    assert (points.groupby("state")["n"].sum() == 240).all()
    assert values[PLAIN, "brier"] == pytest.approx(np.mean(((p + again) / 2 - y) ** 2))
    warm = [scaled(q, heat["temperature"].to_numpy()[fold]) for fold, q in tests]
    assert values[SCALED, "brier"] == pytest.approx(np.mean((np.mean(warm, axis=0) - y) ** 2))
