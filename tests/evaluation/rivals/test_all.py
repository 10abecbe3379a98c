"""Every rival by the same rules: learns from training subjects only, finds what is planted, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import joblib
import numpy as np
import pandas as pd
import pytest
from torch import nn

from mcsp.errors import McspError
from mcsp.evaluation.metrics import auroc
from mcsp.evaluation.rivals import networks, trees
from mcsp.evaluation.rivals.catalogue import CATALOGUE, rival_maker
from mcsp.evaluation.rivals.features import connectivity
from mcsp.options.results import EEG_NETWORKS, FMRI_ONLY, EvaluateOptions, RivalName
from mcsp.store import Store, StoreWriter, read_table
from tests.conftest import write_stored_study

SEEDED = {"random_forest", "gradient_boosting", "mlp", "fc_transformer", *EEG_NETWORKS}


@pytest.fixture(params=list(CATALOGUE))
def name(request) -> str:
    """Of every rival; those of braindecode skip where it is not installed."""
    if request.param in EEG_NETWORKS:
        from mcsp.evaluation.rivals.eeg_networks import zoo

        try:
            zoo()
        except McspError as error:
            pytest.skip(str(error))
    return request.param


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer trees and rounds."""
    for module, name, value in ((networks, "ROUNDS", 25), (trees, "TREES", 60), (trees, "BOOSTS", 30)):
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A simulated study with a strong effect in FC and band power, and in nothing else."""
    return write_stored_study(tmp_path_factory.mktemp("rivals"), n_per_group=26)


def learners(study) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Cohort with a column `part`, labels, and who trains or validates; the rest are test subjects."""
    people = read_table(study.cohort).set_index("uid", drop=False)
    y = (people["labels"] == "ASD").to_numpy().astype(int)
    place = np.random.default_rng(0).permutation(len(people)) % 10
    return people.assign(part=np.where(place < 5, "train", np.where(place < 7, "val", "test"))), y, place < 7


def learnt(value):
    """Everything in a fitted model, in a form whose hash is of its content."""
    if isinstance(value, nn.Module):
        return {k: v.numpy() for k, v in value.state_dict().items()}
    if isinstance(value, dict):
        return {k: learnt(v) for k, v in value.items()}
    return tuple(map(learnt, value)) if isinstance(value, (tuple, list)) else value


def altered(study, folder: Path, uids: set[str]) -> Path:
    """Copy of the stores in which these subjects have other recordings."""
    for path in sorted(study.stores.rglob("*.arrow")):
        store = Store(path)
        with StoreWriter(folder / path.relative_to(study.stores), store.shape, store.meta) as writer:
            for i, uid in enumerate(store.uids):
                row = store.row(i)
                writer.add(uid, (np.roll(row, 3, axis=-1) * 1.5 + 0.3) if uid in uids else row, store.n_valid[i])
    return folder


@pytest.fixture(scope="module")
def changed(study, tmp_path_factory) -> dict[str, Path]:
    """Stores with other test recordings, and with other ones of a training subject of each dataset."""
    people, _, inside = learners(study)
    one = people[people["part"] == "train"].groupby("dataset")["uid"].first()
    folder = tmp_path_factory.mktemp("changed")
    return {
        "test": altered(study, folder / "test", set(people["uid"][~inside])),
        "train": altered(study, folder / "train", set(one)),
    }


def test_the_options_name_every_rival():
    assert set(CATALOGUE) == {*get_args(RivalName), "linear_combat"}
    assert EvaluateOptions(rivals="all").rivals_of(["fmri", "eeg"]) == list(get_args(RivalName))
    assert not {*EEG_NETWORKS} & set(EvaluateOptions(rivals="all").rivals_of(["fmri"]))
    assert not {*FMRI_ONLY} & set(EvaluateOptions(rivals="all").rivals_of(["eeg"]))
    both = EvaluateOptions(rivals=["phenotype", "linear", "svm"], harmonise="combat").rivals_of(["fmri"])
    assert both == ["phenotype", "linear", "linear_combat", "svm"]
    for wrong in (["linear"], ["phenotype", "svm", "svm"], ["phenotype", "magic"], []):
        with pytest.raises(ValueError, match="rival"):
            EvaluateOptions(rivals=wrong)


def test_changed_test_subjects_leave_the_fitted_rival_bit_identical(name, study, changed, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 4)
    people, y, inside = learners(study)

    def fitted(stores, table):
        return joblib.hash(learnt(rival_maker(name, stores, table)().fit(table[inside], y[inside]).models))

    before = fitted(study.stores, people)
    other = people.copy()
    other.loc[~inside, ["age", "mean_fd"]] = 1e6
    other.loc[~inside, ["site", "sex"]] = "elsewhere"
    other.loc[~inside, "labels"] = "control"
    assert fitted(changed["test"], other) == before
    trained = people.copy()
    trained.loc[people[inside].index[0], ["age", "mean_fd"]] = 1e6
    assert fitted(changed["train"], trained) != before  # the comparison sees a change of training data


@pytest.mark.parametrize("reader", ["phenotype", "linear_combat"])
def test_handedness_iq_and_medication_are_not_read(reader, study):
    """The cohort table carries them; the label itself stands in them here. Those are the rivals that read the table."""
    people, y, inside = learners(study)

    def fitted(table):
        return joblib.hash(learnt(rival_maker(reader, study.stores, table)().fit(table[inside], y[inside]).models))

    told = people.assign(iq=100.0 + 20 * y, handedness=np.where(y, "L", "R"), medication=np.where(y, "yes", "no"))
    assert fitted(told) == fitted(people)


def test_a_rival_finds_what_is_planted(name, study):
    people, y, inside = learners(study)
    if name == "phenotype":
        assert _area(name, study, people, y, inside) < 0.7  # nothing is planted there
        people["age"] += 12 * y
    assert _area(name, study, people, y, inside) > 0.75


def test_random_labels_land_on_chance(name, study, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 8)
    people, _, inside = learners(study)
    areas = []
    for seed in range(3):
        y = np.random.default_rng(seed).permutation(len(people)) % 2
        areas.append(_area(name, study, people, y, inside))
    assert 0.36 < np.mean(areas) < 0.64  # 47 subjects or fewer are tested, three times: more than two standard errors


def _area(name: str, study, people: pd.DataFrame, y: np.ndarray, inside: np.ndarray) -> float:
    p = rival_maker(name, study.stores, people)().fit(people[inside], y[inside]).predict(people[~inside])
    reads = people["has_fmri"] if name in FMRI_ONLY else people["has_eeg"] if name in EEG_NETWORKS else people["uid"] != ""
    assert np.array_equal(np.isfinite(p), reads[~inside])
    assert ((p[np.isfinite(p)] >= 0) & (p[np.isfinite(p)] <= 1)).all()
    return auroc(y[~inside][np.isfinite(p)], p[np.isfinite(p)])


def test_a_subjects_probability_does_not_depend_on_the_others(name, study, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 2)
    people, y, inside = learners(study)
    rival = rival_maker(name, study.stores, people)().fit(people[inside], y[inside])
    p = rival.predict(people[~inside])
    i = int(np.flatnonzero(np.isfinite(p))[3])
    assert rival.predict(people[~inside].iloc[[i]])[0] == pytest.approx(p[i], abs=1e-6)


def with_region(study, folder: Path, uid: str, values: np.ndarray) -> Path:
    """Copy of the stores in which a subject has these values (R) in the second region's row of the FC."""
    for path in sorted(study.stores.rglob("*.arrow")):
        store = Store(path)
        with StoreWriter(folder / path.relative_to(study.stores), store.shape, store.meta) as writer:
            for i, own in enumerate(store.uids):
                row = np.array(store.row(i))
                if own == uid and path.parts[-3:-1] == ("fmri", "spatial"):
                    row[1] = row[:, 1] = values
                writer.add(own, row, store.n_valid[i], lacks=True)
    return folder


@pytest.mark.parametrize("rival", ["linear", "linear_combat", "mi_binned", "random_forest", "mlp", "fc_transformer"])
def test_a_region_that_is_lost_counts_as_the_mean_of_who_is_learnt_from(rival, study, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 2)
    people, y, inside = learners(study)
    fits = people["part"] == "train" if rival in ("mlp", "fc_transformer") else inside
    mean = np.mean([*connectivity(study.stores, people[fits & people["has_fmri"]]).values()], axis=0)[1]
    asked = people[~inside & people["has_fmri"] & ~people["has_eeg"]].iloc[[0]]
    answers = []
    for number, values in enumerate((np.full(len(mean), np.nan), mean)):
        stores = with_region(study, tmp_path / str(number), asked["uid"].iloc[0], values)
        answers.append(rival_maker(rival, stores, people)().fit(people[inside], y[inside]).predict(asked)[0])
    assert answers[0] == pytest.approx(answers[1], abs=1e-5)


def test_the_seed_is_used_where_there_is_chance(name, study, monkeypatch):
    monkeypatch.setattr(networks, "ROUNDS", 2)
    people, y, inside = learners(study)
    first, again, other = (
        rival_maker(name, study.stores, people, seed)().fit(people[inside], y[inside]).predict(people[~inside])
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other, equal_nan=True) == (name not in SEEDED)
