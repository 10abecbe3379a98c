"""The inner cross-validation: families together, the best setting, calibrated scores."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer

from mcsp.evaluation.rivals.fused import Tuned
from mcsp.evaluation.rivals.linear import LOGISTIC, logistic_steps, svm_steps
from mcsp.evaluation.rivals.screening import SHARES, screened_steps
from mcsp.evaluation.rivals.tuning import STRENGTHS, inner_folds, platt, tuned
from tests.evaluation.rivals.people import crowd


def data(n: int = 90, n_features: int = 40):
    rng = np.random.default_rng(3)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, n_features))
    x[:, :3] += 0.5 * y[:, None]
    return x, y, np.array([f"f{i // 2}" for i in range(n)])


def test_the_setting_is_the_one_that_scikit_learns_search_finds():
    x, y, families = data()
    folds = inner_folds(y, families)
    for model, grid in ((logistic_steps(), {"logisticregression__C": STRENGTHS}), (screened_steps("binned"), SHARES)):
        search = GridSearchCV(model, grid, scoring="roc_auc", cv=folds).fit(x, y)
        own = tuned(model, grid, x, y, families).pipeline
        assert {key: own.get_params()[key] for key in grid} == search.best_params_
        np.testing.assert_allclose(own.decision_function(x), search.decision_function(x), rtol=1e-6)


def test_inner_folds_keep_families_together_and_hold_both_classes():
    _, y, families = data()
    folds = inner_folds(y, families)
    assert len(folds) == 5
    for a, b in folds:
        assert not set(families[a]) & set(families[b])
        assert 0 < y[a].mean() < 1
        assert 0 < y[b].mean() < 1
    assert sorted(np.concatenate([b for _, b in folds])) == list(range(len(y)))
    assert inner_folds(np.array([0, 0, 1]), np.array(list("abc"))) == []


def test_a_fit_that_is_stopped_ends_and_is_counted(capsys):
    """Without a limit libsvm would go on and on over features whose scales differ by ten thousand."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.normal(size=(60, 20)) * np.logspace(0, 4, 20)
    families = np.array([f"f{i}" for i in range(60)])
    fitted = tuned(svm_steps(FunctionTransformer), {"svc__C": [1.0]}, x, y, families).pipeline
    assert fitted[-1].n_iter_.max() == fitted[-1].max_iter
    assert capsys.readouterr().out == "6 fits were stopped before they converged: not the optimum\n"  # 5 inner folds, and all
    tuned(svm_steps(), {"svc__C": [1e-3]}, x, y, families)
    assert capsys.readouterr().out == ""


def test_too_few_subjects_are_fitted_as_they_are():
    x, y, families = data(3)
    fitted = tuned(logistic_steps(), {"logisticregression__C": STRENGTHS}, x, y, families, calibrate=True)
    assert fitted.pipeline[-1].C == 1.0
    assert (fitted.slope, fitted.offset) == (1, 0)


def test_the_strength_is_tuned_on_training_families_only(monkeypatch):
    people, y, features = crowd()
    people["family"] = [f"f{i // 2}" for i in range(len(people))]
    seen = []
    original = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y, *a, **k: seen.append(len(x)) or original(self, x, y))
    Tuned(features={"fmri": features["fmri"]}, **LOGISTIC).fit(people.iloc[:50], y[:50])
    n_train = people["uid"].iloc[:50].isin(features["fmri"]).sum()
    assert len(seen) == 5 * len(STRENGTHS) + 1
    assert max(seen) == n_train
    assert sum(n == n_train for n in seen) == 1


def test_platts_curve_maximises_the_balanced_likelihood():
    rng = np.random.default_rng(0)
    y = (np.arange(400) % 4 == 0).astype(int)
    values = 30 * rng.normal(size=400) + 20 * y - 7
    weight = np.where(y == 1, 2.0, 2 / 3)

    def loss(curve):
        z = curve[0] * values / 30 + curve[1]
        return (weight * np.logaddexp(0, np.where(y == 1, -z, z))).sum()

    best = minimize(loss, [0, 0], tol=1e-12).x
    np.testing.assert_allclose(platt(values, y), [best[0] / 30, best[1]], rtol=1e-3, atol=1e-3)
    assert platt(np.zeros(4), np.array([0, 1, 0, 1]))[1] == 0
