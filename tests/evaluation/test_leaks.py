"""Leaks that are planted on purpose, one for each rule, and the guard that catches each.

Where a rule is that fitting must not see test subjects, the guard is a test: change the recordings of test subjects, fit again,
and the bytes must be the same. Here the leak is planted, and that test must see it. What the rivals fit has tests of its own
beside them; recordings under two names are in test_duplicates.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nilearn.connectome import ConnectivityMeasure
from sklearn.preprocessing import StandardScaler

from mcsp.bids.cohort import doubles
from mcsp.cohort import read_domain, task_labels
from mcsp.errors import McspError
from mcsp.evaluation import duplicates, frozen, statistics
from mcsp.evaluation.combat import Combat
from mcsp.evaluation.frozen import check_unseen
from mcsp.evaluation.rivals import screening
from mcsp.evaluation.rivals.catalogue import rival_maker
from mcsp.evaluation.rivals.features import series, vectors
from mcsp.evaluation.splits import content_hash, load_splits, make_splits, part
from mcsp.options.tasks import Task
from mcsp.options.training import FinetuneOptions, PretrainOptions, SplitOptions
from mcsp.store import Store, StoreWriter, read_table, write_json, write_table
from mcsp.training import finetune, pretrain
from mcsp.training.data import Subjects, fit_scalers, start_at_components_of
from mcsp.training.record import seen_hash, traces
from tests.training.conftest import frozen as frozen_folds  # noqa: F401
from tests.training.test_pretrain import disturb, train

TASK = Task(case=["ASD"])
MODEL = {"width": 16, "dim": 16, "depth": 1, "heads": 2, "patch": 8}
UNTRAINED = PretrainOptions(epochs=0, batch_size=16, model=MODEL)


@pytest.fixture
def folds(frozen_folds) -> Path:  # noqa: F811
    """Path of the study's frozen folds."""
    return frozen_folds


def reseal(path: Path, splits: pd.DataFrame) -> None:
    """Write changed folds with the right hash, as somebody would who makes them with code of their own."""
    splits.to_csv(path, sep="\t", index=False, lineterminator="\n")
    record = json.loads(path.with_suffix(".json").read_text())
    record["Splits"]["sha256"] = content_hash(splits)
    write_json(path.with_suffix(".json"), record)


# --- one subject on both sides ---------------------------------------------------------------------------------------------


def test_segments_of_one_subject_as_rows_of_their_own_are_refused(stored_study):
    """A store that holds the halves of a recording as two rows of the subject."""
    path = stored_study.stores / "cap" / "eeg" / "temporal" / "shard-000.arrow"
    store = Store(path)
    rows = [(uid, np.array(store.row(i)), store.n_valid[i]) for i, uid in enumerate(store.uids)]
    with StoreWriter(path, store.shape, store.meta) as writer:
        for row in [*rows, rows[0]]:
            writer.add(*row)
    cohort = read_table(stored_study.cohort)
    with pytest.raises(McspError, match="cap/sub-000 stands twice"):
        read_domain(stored_study.stores, cohort, "eeg", "temporal")
    with pytest.raises(McspError, match="cap/sub-000 stands twice"):
        Subjects(stored_study.stores, cohort, ["cap/sub-000"], [("eeg", "temporal")])


def test_a_subject_in_training_and_test_is_refused_whatever_the_hash_says(folds):
    splits = load_splits(folds)
    uid = part(splits, 0, "test")[0]
    row = splits[(splits["fold"] == 0) & (splits["uid"] == uid)].assign(part="train")
    reseal(folds, pd.concat([splits, row], ignore_index=True))
    with pytest.raises(McspError, match=f"{uid} stands in two parts: leakage"):
        load_splits(folds)


# --- relatives and sessions ------------------------------------------------------------------------------------------------


def test_siblings_on_two_sides_are_refused_whatever_the_hash_says(folds):
    splits = load_splits(folds)
    one, other = part(splits, 0, "train")[0], part(splits, 0, "test")[0]
    splits.loc[splits["uid"].isin([one, other]), "family"] = "siblings"
    reseal(folds, splits)
    with pytest.raises(McspError, match="family siblings is split over parts: leakage"):
        load_splits(folds)


def test_sessions_that_are_subjects_of_their_own_stay_together_by_their_family():
    """Some datasets number a person's sessions as subjects; the phenotype's family column holds them together."""
    uid = [f"a/sub-{i:02d}{s}" for i in range(30) for s in "ab"]
    cohort = pd.DataFrame({"uid": uid, "dataset": "a", "site": "x", "family": [u[:-1] for u in uid]})
    cohort["labels"] = ["ASD" if int(u[6:8]) % 2 else "control" for u in uid]
    for _, own in make_splits(cohort, SplitOptions(n_folds=3)).groupby("fold"):
        assert (own.groupby("family")["part"].nunique() == 1).all()
    apart = make_splits(cohort.assign(family=uid), SplitOptions(n_folds=3))  # the leak: nobody says who belongs together
    assert (apart[apart["fold"] == 0].groupby(apart["uid"].str[:-1])["part"].nunique() > 1).any()


# --- what is fitted --------------------------------------------------------------------------------------------------------


def untrained_weights(study, folds, out) -> bytes:
    """A model with fitted standardisers and started maps, and nothing else."""
    return train(study, folds, UNTRAINED, out)


def everybody(study, model) -> Subjects:
    """What a leak reads: the whole cohort."""
    cohort = read_table(study.cohort)
    return Subjects(study.stores, cohort, list(cohort["uid"]), model.keys)


@pytest.mark.parametrize("leak", [None, "scalers", "components"])
def test_scalers_and_components_of_all_subjects_are_noticed(stored_study, folds, tmp_path, monkeypatch, leak):
    if leak == "scalers":
        monkeypatch.setattr(pretrain, "fit_scalers", lambda model, _: fit_scalers(model, everybody(stored_study, model)))
    if leak == "components":
        monkeypatch.setattr(
            pretrain, "start_at_components_of",
            lambda model, _, seed: start_at_components_of(model, everybody(stored_study, model), seed),
        )  # fmt: skip
    before = untrained_weights(stored_study, folds, tmp_path / "a")
    disturb(stored_study, set(part(load_splits(folds), 0, "test")))
    assert (untrained_weights(stored_study, folds, tmp_path / "b") == before) == (leak is None)


@pytest.mark.parametrize("leak", [False, True])
def test_combat_fitted_on_all_subjects_is_noticed(leak):
    rng = np.random.default_rng(0)
    x, sites, covariates = rng.normal(size=(60, 8)), np.arange(60) % 3, rng.normal(size=(60, 2))
    fitted_on = np.arange(60) if leak else np.arange(40)

    def harmonised() -> np.ndarray:
        combat = Combat().fit(x[fitted_on], sites[fitted_on], covariates[fitted_on])
        return combat.transform(x[:40], sites[:40], covariates[:40])

    before = harmonised()
    x[40:] = 100 * rng.normal(size=(20, 8))
    assert np.array_equal(harmonised(), before) == (not leak)


@pytest.mark.parametrize("leak", [None, "start", "classes"])
def test_a_head_that_starts_from_test_subjects_is_noticed(stored_study, folds, tmp_path, monkeypatch, leak):
    """Their recordings, in the ridge model that the head starts at, and their labels, in the weights of the classes."""
    untrained_weights(stored_study, folds, tmp_path / "base")
    start, objective, table = finetune.start_at_linear_model, finetune.Objective, read_table(stored_study.cohort)
    if leak == "start":
        y = task_labels(table, TASK)
        monkeypatch.setattr(
            finetune, "start_at_linear_model",
            lambda model, own, seed: start(model, finetune.Labelled(stored_study.stores, table, y, own.keys), seed),
        )  # fmt: skip
    if leak == "classes":
        monkeypatch.setattr(
            finetune, "Objective", lambda task, _: objective(task, task_labels(read_table(stored_study.cohort), task))
        )
    before = tune(stored_study, folds, tmp_path / "base", tmp_path / "a")
    test = set(part(load_splits(folds), 0, "test"))
    disturb(stored_study, test)
    write_table(table.assign(labels=table["labels"].mask(table["uid"].isin(test), "control")), stored_study.cohort)
    assert (tune(stored_study, folds, tmp_path / "base", tmp_path / "b") == before) == (leak is None)


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize(
    ("rival", "step"), [("tangent", ConnectivityMeasure), ("mi_binned", screening.Screen), ("linear", StandardScaler)]
)
def test_what_a_rival_fits_on_all_subjects_is_noticed(stored_study, monkeypatch, rival, step, leak):
    """The tangent mean, the choice of features, the scaler: with the leak, each is fitted on everybody, whoever is given."""
    people = read_table(stored_study.cohort).query("dataset == 'mri'").set_index("uid", drop=False)
    y, train = (people["labels"] == "ASD").to_numpy().astype(int), np.arange(len(people)) % 5 > 0
    monkeypatch.setitem(screening.SHARES, "screen__share", [0.3])  # the planted edge alone would be chosen with and without
    honest, everybody = step.fit, []

    def leaking(self, x, *_):
        return honest(self, everybody if rival == "tangent" else np.stack(everybody), y)

    def fitted() -> np.ndarray:
        if rival == "tangent":
            rows = series(stored_study.stores, people, "fmri")
            everybody[:] = [rows[uid].T.astype(float) for uid in people["uid"]]
        else:
            rows = vectors(stored_study.stores, people)["fmri"]
            everybody[:] = [rows[uid] for uid in people["uid"]]
        own = rival_maker(rival, stored_study.stores, people)().fit(people[train], y[train])
        return own.predict(people[train])

    if leak:
        monkeypatch.setattr(step, "fit", leaking)
    before = fitted()
    disturb(stored_study, set(people["uid"][~train]))
    assert np.array_equal(fitted(), before) == (not leak)


def test_a_temperature_of_test_subjects_is_refused():
    tested = pd.DataFrame({"fold": [0, 0, 1], "uid": ["a", "b", "c"]})
    chosen = pd.DataFrame({"fold": [0, 1], "uid": ["c", "b"]})
    statistics.check_apart(chosen, tested)
    with pytest.raises(McspError, match="fold 1: c is tested, and would choose the temperature: leakage"):
        statistics.check_apart(pd.concat([chosen, tested[2:]]), tested)


# --- who is trained on, and who chooses ------------------------------------------------------------------------------------


def test_pretraining_on_test_subjects_is_refused(stored_study, folds, tmp_path, monkeypatch):
    """The leak: code that draws from everybody, after the parts were read rightly."""
    everyone = sorted(read_table(stored_study.cohort)["uid"])
    monkeypatch.setattr(pretrain, "drawn", lambda uids, share, seed: everyone)
    with pytest.raises(McspError, match="where only train may be: leakage"):
        untrained_weights(stored_study, folds, tmp_path / "a")


def tune(study, folds, base, out) -> bytes:
    finetune.run(
        stores=study.stores, cohort=study.cohort, splits=folds, fold=0, seed=0, task=TASK, pretrained=base,
        options=FinetuneOptions(epochs=1, hidden=4), out=out, history=out / "history.tsv", threads=1,
    )  # fmt: skip
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("name", "taken"), [("val", "test"), ("train", "test"), ("val", "train")])
def test_choosing_or_training_on_another_part_is_refused(stored_study, folds, tmp_path, monkeypatch, name, taken):
    """Selection on test: the leak hands test subjects over as those that choose the epoch."""
    untrained_weights(stored_study, folds, tmp_path / "base")
    y, splits = task_labels(read_table(stored_study.cohort), TASK), load_splits(folds)
    honest = finetune.labelled_parts

    def leaking(*arguments):
        return {**honest(*arguments), name: y.loc[part(splits, 0, taken)]}

    monkeypatch.setattr(finetune, "labelled_parts", leaking)
    with pytest.raises(McspError, match=f"is {taken}, where only {name} may be: leakage"):
        tune(stored_study, folds, tmp_path / "base", tmp_path / "a")


def test_a_classifier_that_saw_its_test_subjects_is_refused(stored_study, folds):
    """By its own record, so that weights from elsewhere are caught too: a subject, or its recording under another name."""
    cohort, splits = read_table(stored_study.cohort), load_splits(folds)
    salt, uid = content_hash(splits), part(splits, 1, "test")[0]
    seen = traces(cohort[cohort["uid"].isin(part(splits, 1, "train", "val"))], salt)
    config = {"fold": 1, "seed": 0, "scope": "inductive", "splits": {"sha256": salt}}
    honest = sorted(set().union(*seen.values()))
    check_unseen([{**config, "seen": honest}], cohort, splits)
    for unknown in (config, {**config, "seen": []}):
        with pytest.raises(McspError, match="no record of whom it was trained on"):
            check_unseen([unknown], cohort, splits)
    recording = cohort.set_index("uid").loc[uid, "fingerprints"]
    for trace in (uid, recording):
        leaked = {**config, "seen": [*honest, seen_hash(salt, trace)]}
        with pytest.raises(McspError, match=f"{uid}, whom it is tested on, .* leakage"):
            check_unseen([leaked], cohort, splits)
        check_unseen([{**leaked, "scope": "transductive"}], cohort, splits)  # marked so, not refused


def test_the_look_at_the_test_part_asks_for_it(stored_study, folds, tmp_path, monkeypatch):
    """`evaluate` and the sweep's variants open the test part by this one function."""
    untrained_weights(stored_study, folds, tmp_path / "base")
    tune(stored_study, folds, tmp_path / "base", tmp_path / "a")
    asked = []
    monkeypatch.setattr(frozen, "check_models", lambda *_: None)
    monkeypatch.setattr(frozen, "check_unseen", lambda configs, *_: asked.append(configs[0]["seen"]))
    frozen.open_test_part([tmp_path / "a"], stored_study.stores, stored_study.cohort, folds, TASK)
    assert asked
    assert asked[0]


# --- one recording under two names -----------------------------------------------------------------------------------------


def test_a_recording_under_two_names_never_comes_to_stand_on_two_sides(stored_study, tmp_path):
    """A test subject's series, resaved with another gain under a new name: found before the folds are made."""
    for domain in ("temporal", "spatial"):
        path = stored_study.stores / "mri" / "fmri" / domain / "shard-000.arrow"
        store = Store(path)
        rows = [(uid, np.array(store.row(i)), store.n_valid[i]) for i, uid in enumerate(store.uids)]
        twin = np.float32(1.001) * rows[0][1] if domain == "temporal" else rows[0][1]
        with StoreWriter(path, store.shape, store.meta) as writer:
            for row in [*rows, ("mri/sub-twin", twin, rows[0][2])]:
                writer.add(*row)
    spatial = [stored_study.stores / d / "fmri" / "spatial" / "shard-000.arrow" for d in ("both", "mri")]
    duplicates.run(spatial=spatial, out=tmp_path / "duplicates.tsv")
    table = pd.read_csv(tmp_path / "duplicates.tsv", sep="\t")
    found = table[table["state"] == "double"]
    assert set(found[["uid", "other"]].to_numpy().ravel()) == {"mri/sub-000", "mri/sub-twin"}
    cohort = read_table(stored_study.cohort)
    twin = cohort[cohort["uid"] == "mri/sub-000"].assign(uid="mri/sub-twin", family="mri/sub-twin", fingerprints="new")
    both = pd.concat([cohort, twin], ignore_index=True)
    files = both[["uid", "fingerprints"]].rename(columns={"fingerprints": "fingerprint"})
    out = {line[0] for line in doubles(both, files, found)}
    assert out == {"mri/sub-twin"}
    splits = make_splits(both[~both["uid"].isin(out)], SplitOptions(n_folds=3))
    assert "mri/sub-twin" not in set(splits["uid"])
