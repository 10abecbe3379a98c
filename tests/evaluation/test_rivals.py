"""Rivals: what they fit, they fit on training subjects; they find what is planted and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import welch
from sklearn.linear_model import LogisticRegression

from mcsp.evaluation.combat import Combat
from mcsp.evaluation.metrics import auroc
from mcsp.evaluation.rivals import Linear, Phenotype, band_power, edge_features, make_rivals
from mcsp.store import read_table


def crowd(n: int = 80, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """People, labels, and features of two modalities; half of the people lack one of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    uid = [f"a/sub-{i:03d}" for i in range(n)]
    people = pd.DataFrame({"uid": uid, "dataset": "a", "site": rng.choice(["x", "y"], n), "family": uid})
    people["age"], people["mean_fd"] = rng.uniform(8, 40, n), rng.uniform(0, 0.3, n) + 0.2 * y
    people["sex"] = rng.choice(["M", "F"], n)
    x = rng.normal(size=(n, 12))
    x[:, 0] += 1.5 * y
    has = {"fmri": np.arange(n) % 4 != 0, "eeg": np.arange(n) % 4 != 1}
    features = {m: {u: x[i] + rng.normal(size=12) for i, u in enumerate(uid) if has[m][i]} for m in has}
    return people.set_index("uid", drop=False), y, features


def artefact(model) -> list[np.ndarray]:
    """All that a fitted rival has learnt, as arrays."""
    found = []
    if isinstance(model, Phenotype):
        columns, last = model.model[0], model.model[-1]
        numbers, names = columns.named_transformers_["numbers"], columns.named_transformers_["names"]
        found += [numbers[0].statistics_, numbers[1].mean_, numbers[1].scale_, *names.categories_]
        return [*found, last.coef_, last.intercept_, np.array(last.C)]
    for own in model.models.values():
        scaler, last = own[-2:]
        found += [scaler.mean_, scaler.scale_, last.coef_, last.intercept_, np.array(last.C)]
        if model.combat:
            found += [getattr(own[0].combat_, name) for name in ("mean", "betas", "variance", "gamma", "delta", "median")]
    return found


@pytest.mark.parametrize("kind", ["phenotype", "linear", "combat"])
def test_changed_test_subjects_leave_the_fitted_rival_bit_identical(kind):
    people, y, features = crowd()
    train, test = np.arange(50), np.arange(50, 80)

    def fitted():
        rival = Phenotype() if kind == "phenotype" else Linear("linear", features, combat=kind == "combat")
        return artefact(rival.fit(people.iloc[train], y[train]))

    before = fitted()
    for i in test:
        people.iloc[i, people.columns.get_loc("age")] = 1e6
        people.iloc[i, people.columns.get_loc("mean_fd")] = np.nan
        people.iloc[i, people.columns.get_loc("site")] = "elsewhere"
        for own in features.values():
            if people["uid"].iloc[i] in own:
                own[people["uid"].iloc[i]] = np.full(12, 1e6)
    after = fitted()
    assert len(before) == len(after)
    assert all(np.array_equal(a, b) for a, b in zip(before, after))
    people.iloc[0, people.columns.get_loc("age")] = 1e6  # and the comparison sees a change of training data
    for own in features.values():
        own.update({uid: own[uid] + 1 for uid in list(own)[:1]})
    assert not all(np.array_equal(a, b) for a, b in zip(before, fitted()))


def test_rivals_find_what_is_there():
    people, y, features = crowd(200)
    train, test = np.arange(140), np.arange(140, 200)
    for rival in (Phenotype(), Linear("linear", features)):
        p = rival.fit(people.iloc[train], y[train]).predict(people.iloc[test])
        assert ((p >= 0) & (p <= 1)).all()
        assert auroc(y[test], p) > 0.7


@pytest.mark.parametrize("kind", ["phenotype", "linear"])
def test_permuted_labels_land_on_chance(kind):
    people, y, features = crowd(120)
    areas = []
    for seed in range(12):
        permuted = np.random.default_rng(seed).permutation(y)
        rival = Phenotype() if kind == "phenotype" else Linear("linear", features)
        rival.fit(people.iloc[:80], permuted[:80])
        areas.append(auroc(permuted[80:], rival.predict(people.iloc[80:])))
    assert 0.42 < np.mean(areas) < 0.58


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


def test_linear_averages_the_logits_of_what_a_subject_has():
    people, y, features = crowd()
    rival = Linear("linear", features).fit(people.iloc[:50], y[:50])
    p = rival.predict(people)
    for i, uid in enumerate(people["uid"]):
        logits = [model.decision_function(features[m][uid][None])[0] for m, model in rival.models.items() if uid in features[m]]
        assert p[i] == pytest.approx(1 / (1 + np.exp(-np.mean(logits))))


def test_each_modality_alone_speaks_of_its_own_subjects():
    people, y, features = crowd()
    rival = Linear("both", features).fit(people.iloc[:50], y[:50])
    fmri, eeg = rival.parts()
    assert (fmri.name, eeg.name) == ("linear FC", "linear band power")
    has = people["uid"].isin(features["fmri"]).to_numpy()
    assert np.array_equal(np.isfinite(fmri.predict(people)), has)
    only = has & ~people["uid"].isin(features["eeg"]).to_numpy()
    assert only.any()
    np.testing.assert_array_equal(fmri.predict(people)[only], rival.predict(people)[only])
    assert Linear("one", {"fmri": features["fmri"]}).parts() == []


def test_a_modality_whose_training_subjects_are_of_one_class_is_left_out():
    people, y, features = crowd()
    features["eeg"] = {uid: v for uid, v in features["eeg"].items() if int(uid[-3:]) % 2 == 0 or int(uid[-3:]) >= 50}
    rival = Linear("both", features).fit(people.iloc[:50], y[:50])
    assert set(rival.models) == {"fmri"}
    lost = ~people["uid"].isin(features["fmri"]).to_numpy()
    assert np.isnan(rival.predict(people)[lost]).all()
    assert np.isnan(rival.parts()[1].predict(people)).all()


def test_the_strength_is_tuned_on_training_families_only(monkeypatch):
    people, y, features = crowd()
    people["family"] = [f"f{i // 2}" for i in range(len(people))]
    seen = []
    original = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y, *a, **k: seen.append(len(x)) or original(self, x, y))
    Linear("one", {"fmri": features["fmri"]}).fit(people.iloc[:50], y[:50])
    n_train = people["uid"].iloc[:50].isin(features["fmri"]).sum()
    assert len(seen) > 5
    assert max(seen) == n_train
    assert sum(n == n_train for n in seen) == 1


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
    for combat in (False, True):
        p = Linear("linear", features, combat).fit(people.iloc[train], y[train]).predict(people.iloc[test])
        has = np.isfinite(p)
        area[combat] = auroc(y[test][has], p[has]), auroc(site[has], p[has])
    assert area[True][0] > 0.7
    assert area[False][1] > 0.75 > area[True][1]  # the plain model reads the site, the harmonised one hardly


def test_combat_is_fitted_on_the_inner_training_subjects(monkeypatch):
    people, y, features = crowd()
    seen = []
    original = Combat.fit
    monkeypatch.setattr(Combat, "fit", lambda self, x, *rest: seen.append(len(x)) or original(self, x, *rest))
    Linear("one", {"fmri": features["fmri"]}, combat=True).fit(people.iloc[:50], y[:50])
    n_train = people["uid"].iloc[:50].isin(features["fmri"]).sum()
    assert sum(n == n_train for n in seen) == 1
    assert all(n < n_train for n in seen[:-1])


def test_combat_reads_site_age_and_sex_of_each_subject():
    """The pipeline's first step gives what ComBat gives when it is called with the same subjects."""
    people, y, features = crowd()
    people["sex"] = people["sex"].astype(object)
    people.loc[people.index[:5], "sex"] = None
    people.loc[people.index[3:9], "age"] = np.nan
    people.loc[people.index[60:], "site"] = "elsewhere"
    rival = Linear("one", {"fmri": features["fmri"]}, combat=True).fit(people.iloc[:50], y[:50])
    own = people[people["uid"].isin(features["fmri"])]
    train, x = own["uid"].isin(people["uid"].iloc[:50]).to_numpy(), np.stack([features["fmri"][uid] for uid in own["uid"]])
    sex = own["sex"].map({"M": 1.0, "F": -1.0, None: 0.0}).fillna(0)
    covariates = np.column_stack([own["age"], sex])
    site = ("a/" + own["site"]).to_numpy()
    model = Combat().fit(x[train], site[train], covariates[train])
    new = rival.models["fmri"][0].transform(rival._read("fmri", own))
    np.testing.assert_allclose(new, model.transform(x, site, covariates), rtol=1e-12)
    table = rival.harmonised(people.iloc[50:]).set_index("site")
    assert list(table.index) == ["a/elsewhere", "a/x", "a/y"]
    assert list(table["state"]) == ["unseen", "fitted", "fitted"]
    assert table["n_train"].to_dict() == {"a/elsewhere": 0, "a/x": model.n_train["a/x"], "a/y": model.n_train["a/y"]}
    assert table["n_test"].sum() == (~train).sum()
    assert Linear("one", features).fit(people.iloc[:50], y[:50]).harmonised(people).empty


def test_edges_are_the_upper_triangle():
    fc = np.arange(16.0).reshape(4, 4)
    assert edge_features(fc).tolist() == [1, 2, 3, 6, 7, 11]


def test_band_power_agrees_with_welch():
    """Amplitudes |FFT| / n of segments; Welch with the same segments, a boxcar window and no overlap."""
    rng, sfreq, n = np.random.default_rng(0), 100.0, 200
    x = rng.normal(size=(20, 2, n))
    freqs = np.fft.rfftfreq(n, 1 / sfreq)
    own = band_power(np.abs(np.fft.rfft(x)) / n, freqs).reshape(4, 2)
    flat = x.transpose(1, 0, 2).reshape(2, -1)
    f, density = welch(flat, sfreq, "boxcar", n, 0, detrend=False)
    for row, (low, high) in enumerate([(1, 4), (4, 8), (8, 13), (13, 30)]):
        inside = (f >= low) & (f < high)
        # one-sided density doubles the power of both signs, over a bin of sfreq / n
        expected = np.log(density[:, inside].sum(axis=1) * sfreq / n / 2)
        np.testing.assert_allclose(own[row], expected, rtol=1e-6)


def test_rivals_follow_the_cohorts_modalities(stored_study):
    cohort = read_table(stored_study.cohort)
    assert [make().name for make in make_rivals(stored_study.stores, cohort)] == ["phenotype", "linear FC + band power"]
    only = cohort[cohort["dataset"] == "mri"]
    assert [make().name for make in make_rivals(stored_study.stores, only)] == ["phenotype", "linear FC"]
    linear = make_rivals(stored_study.stores, cohort)[1]()
    edges = stored_study.n_rois * (stored_study.n_rois - 1) // 2
    assert {len(v) for v in linear.features["fmri"].values()} == {edges}
    assert {len(v) for v in linear.features["eeg"].values()} == {4 * len(stored_study.ch_names)}
    assert set(linear.features["eeg"]) == set(cohort.loc[cohort["has_eeg"], "uid"])
