"""Linear rivals: fused over modalities, harmonised, on tangent vectors."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.connectome import ConnectivityMeasure
from scipy.linalg import logm, sqrtm
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mcsp.evaluation.combat import Combat
from mcsp.evaluation.metrics import auroc
from mcsp.evaluation.rivals.fused import Tuned
from mcsp.evaluation.rivals.linear import (
    LOGISTIC,
    SVM,
    Harmonised,
    OneScale,
    Tangent,
    harmonised_steps,
    logistic_steps,
    svm_steps,
)  # fmt: skip
from mcsp.evaluation.rivals.phenotype import Phenotype
from tests.evaluation.rivals.people import crowd


def linear(features) -> Tuned:
    return Tuned(features=features, **LOGISTIC)


def harmonised(features) -> Harmonised:
    return Harmonised(features=features, **{**LOGISTIC, "make": harmonised_steps})


def test_phenotype_takes_unseen_sites_and_missing_values():
    people, y, _ = crowd()
    people.loc[people.index[:10], "age"] = np.nan
    people["sex"] = people["sex"].astype(object)
    people.loc[people.index[:5], "sex"] = None
    rival = Phenotype().fit(people.iloc[:50], y[:50])
    strangers = people.iloc[50:].assign(site="elsewhere", age=np.nan)
    assert np.isfinite(rival.predict(strangers)).all()
    # a missing age is the training median, an unseen site counts for nothing
    median = people["age"].iloc[:50].median()
    np.testing.assert_allclose(rival.predict(strangers), rival.predict(strangers.assign(age=median)))
    assert Phenotype().fit(people.iloc[:50].assign(mean_fd=np.nan), y[:50]).predict(people.iloc[50:]).shape == (30,)


def test_the_logits_of_what_a_subject_has_are_averaged():
    people, y, features = crowd()
    rival = linear(features).fit(people.iloc[:50], y[:50])
    p = rival.predict(people)
    for i, uid in enumerate(people["uid"]):
        logits = [model.logit(features[m][uid][None])[0] for m, model in rival.models.items() if uid in features[m]]
        assert p[i] == pytest.approx(1 / (1 + np.exp(-np.mean(logits))))


def test_each_modality_alone_speaks_of_its_own_subjects():
    people, y, features = crowd()
    rival = linear(features).fit(people.iloc[:50], y[:50])
    fmri, eeg = rival.parts()
    assert (rival.name, fmri.name, eeg.name) == ("linear FC + band power", "linear FC", "linear band power")
    has = people["uid"].isin(features["fmri"]).to_numpy()
    assert np.array_equal(np.isfinite(fmri.predict(people)), has)
    only = has & ~people["uid"].isin(features["eeg"]).to_numpy()
    assert only.any()
    np.testing.assert_array_equal(fmri.predict(people)[only], rival.predict(people)[only])
    assert linear({"fmri": features["fmri"]}).parts() == []
    names = [one.name for one in harmonised(features).fit(people.iloc[:50], y[:50]).parts()]
    assert names == ["linear FC, ComBat", "linear band power, ComBat"]


def test_a_modality_whose_training_subjects_are_of_one_class_is_left_out():
    people, y, features = crowd()
    features["eeg"] = {uid: v for uid, v in features["eeg"].items() if int(uid[-3:]) % 2 == 0 or int(uid[-3:]) >= 50}
    rival = linear(features).fit(people.iloc[:50], y[:50])
    assert set(rival.models) == {"fmri"}
    lost = ~people["uid"].isin(features["fmri"]).to_numpy()
    assert np.isnan(rival.predict(people)[lost]).all()
    assert np.isnan(rival.parts()[1].predict(people)).all()


@pytest.mark.parametrize(
    ("steps", "plain"),
    [
        (logistic_steps, LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000, tol=1e-10)),
        (svm_steps, SVC(C=0.01, kernel="linear", class_weight="balanced", tol=1e-8)),
    ],
)
def test_principal_axes_do_not_change_the_solution(steps, plain):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 300)), np.arange(60) % 2
    x[:, 0] += y
    model = steps().set_params(**{f"{type(plain).__name__.lower()}__{k}": v for k, v in plain.get_params().items()})
    new = rng.normal(size=(30, 300))
    scaler = StandardScaler().fit(x)
    expected = plain.fit(scaler.transform(x), y).decision_function(scaler.transform(new))
    np.testing.assert_allclose(model.fit(x, y).decision_function(new), expected, atol=1e-5)


def test_combat_finds_what_is_there_under_strong_site_effects():
    """Cases are most at one site, and sites differ by far more than cases from controls."""
    people, y, features = crowd(400)
    people["site"] = np.where(np.random.default_rng(1).random(400) < 0.3 + 0.4 * y, "x", "y")
    features = {"fmri": features["fmri"]}
    rng = np.random.default_rng(2)
    shift, spread = {s: rng.normal(0, 10, 12) for s in "xy"}, {"x": 0.5, "y": 3.0}
    for uid, values in features["fmri"].items():
        features["fmri"][uid] = shift[people.loc[uid, "site"]] + spread[people.loc[uid, "site"]] * values
    train, test = np.arange(250), np.arange(250, 400)
    area, site = {}, (people["site"].iloc[test] == "x").to_numpy().astype(int)
    for combat, make in ((False, linear), (True, harmonised)):
        p = make(features).fit(people.iloc[train], y[train]).predict(people.iloc[test])
        has = np.isfinite(p)
        area[combat] = auroc(y[test][has], p[has]), auroc(site[has], p[has])
    assert area[True][0] > 0.7
    assert area[False][1] > 0.75 > area[True][1]  # the plain model reads the site, the harmonised one hardly


def test_combat_is_fitted_on_the_inner_training_subjects_once_each(monkeypatch):
    people, y, features = crowd()
    seen = []
    original = Combat.fit
    monkeypatch.setattr(Combat, "fit", lambda self, x, *rest: seen.append(len(x)) or original(self, x, *rest))
    harmonised({"fmri": features["fmri"]}).fit(people.iloc[:50], y[:50])
    n_train = people["uid"].iloc[:50].isin(features["fmri"]).sum()
    assert len(seen) == 6
    assert seen[-1] == n_train
    assert all(n < n_train for n in seen[:-1])


def test_combat_reads_site_age_and_sex_of_each_subject():
    """The pipeline's first step gives what ComBat gives when it is called with the same subjects."""
    people, y, features = crowd()
    people["sex"] = people["sex"].astype(object)
    people.loc[people.index[:5], "sex"] = None
    people.loc[people.index[3:9], "age"] = np.nan
    people.loc[people.index[60:], "site"] = "elsewhere"
    rival = harmonised({"fmri": features["fmri"]}).fit(people.iloc[:50], y[:50])
    own = people[people["uid"].isin(features["fmri"])]
    train, x = own["uid"].isin(people["uid"].iloc[:50]).to_numpy(), np.stack([features["fmri"][uid] for uid in own["uid"]])
    sex = own["sex"].map({"M": 1.0, "F": -1.0, None: 0.0}).fillna(0)
    covariates = np.column_stack([own["age"], sex])
    site = ("a/" + own["site"]).to_numpy()
    model = Combat().fit(x[train], site[train], covariates[train])
    new = rival.models["fmri"].pipeline[0].transform(rival.read("fmri", own))
    np.testing.assert_allclose(new, model.transform(x, site, covariates), rtol=1e-12)


def networks(n: int = 40, n_regions: int = 5) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """uid -> series (R, T) of different lengths; cases have a correlation that controls lack."""
    rng = np.random.default_rng(0)
    y, found = np.arange(n) % 2, {}
    for i in range(n):
        x = rng.normal(size=(n_regions, 40 + i % 7))
        x[0] += y[i] * x[1]
        found[f"a/sub-{i:03d}"] = ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)).astype(np.float32)
    return found, y


def test_tangent_vectors_are_nilearns_with_the_mean_of_the_training_subjects():
    people, y, _ = crowd(40)
    rows, y = networks()
    rival = Tangent(features={"fmri": rows}, **LOGISTIC).fit(people.iloc[:25], y[:25])
    own = rival.read("fmri", people.iloc[25:])
    given = [rows[uid].T.astype(float) for uid in people["uid"]]
    measure = ConnectivityMeasure(kind="tangent", vectorize=True).fit(given[:25])
    np.testing.assert_allclose(own, measure.transform(given[25:]), rtol=1e-5, atol=1e-6)
    leaky = ConnectivityMeasure(kind="tangent", vectorize=True).fit(given)
    assert np.abs(own - leaky.transform(given[25:])).max() > 0.01  # the mean of all would show
    assert auroc(y[25:], rival.predict(people.iloc[25:])) > 0.8


def test_tangent_vectors_follow_their_definition():
    """log(G^-1/2 C G^-1/2) of Ledoit-Wolf covariances, G the Karcher mean: there these logarithms are zero on average."""
    people, y, _ = crowd(40)
    rows, y = networks()
    rival = Tangent(features={"fmri": rows}, **LOGISTIC).fit(people.iloc[:25], y[:25])
    covariance = [LedoitWolf().fit(rows[uid].T.astype(float)).covariance_ for uid in people["uid"]]
    mean = rival.models["fmri"][0].mean_
    white = np.linalg.inv(sqrtm(mean))
    logs = np.array([logm(white @ c @ white) for c in covariance])
    np.testing.assert_allclose(logs[:25].mean(axis=0), 0, atol=1e-4)
    lower = np.tril_indices(5)
    scale = np.where(lower[0] == lower[1], np.sqrt(0.5), 1)  # entries off the diagonal stand for two
    np.testing.assert_allclose(rival.read("fmri", people), logs[:, lower[0], lower[1]] * scale, atol=1e-4)


def test_tangent_features_share_one_scale():
    x = np.random.default_rng(0).normal(2, [1, 3, 0], (50, 3))
    scaled = OneScale().fit(x[:30]).transform(x)
    centred = x - x[:30].mean(axis=0)
    np.testing.assert_allclose(scaled, centred / np.sqrt((centred[:30] ** 2).mean()))
    assert np.isfinite(OneScale().fit(np.ones((4, 2))).transform(np.ones((4, 2)))).all()


def test_the_svms_probabilities_come_from_out_of_fold_scores():
    people, y, features = crowd(300)
    features = {"fmri": features["fmri"]}
    rival = Tuned(features=features, **SVM).fit(people.iloc[:200], y[:200])
    fitted = rival.models["fmri"]
    assert fitted.slope > 0
    has = people["uid"].isin(features["fmri"]).to_numpy()
    test = has & (np.arange(300) >= 200)
    p = rival.predict(people[test])
    assert np.mean((p - y[test]) ** 2) < 0.22
    # where the training scores themselves would be too sure of themselves
    x = rival.read("fmri", people[has])
    raw = fitted.pipeline.decision_function(x[:100])
    np.testing.assert_allclose(fitted.logit(x[:100]), fitted.slope * raw + fitted.offset)
