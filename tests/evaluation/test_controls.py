"""Controls: labels that say nothing land at chance, and every planted leak is caught."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation import control, control_labels, controls
from mcsp.evaluation.control_labels import permuted, random_labels, shuffle_strata
from mcsp.evaluation.controls import COLUMNS, against_chance, auroc_within, control_rows
from mcsp.evaluation.metrics import auroc
from mcsp.evaluation.rivals import predictions
from mcsp.evaluation.rivals.phenotype import Phenotype
from mcsp.evaluation.splits import load_splits, part
from mcsp.options.controls import RANDOM_LABELS
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, read_tsv
from tests.evaluation.test_evaluate import TASK, ready  # noqa: F401

OPTIONS = EvaluateOptions(rivals=["phenotype", "linear", "svm"], n_bootstrap=10, n_permutations=10)


@pytest.fixture
def labelled(ready):  # noqa: F811
    """(cohort, folds) with some subjects of another diagnosis."""
    cohort = read_table(ready.study.cohort).sort_values("uid").reset_index(drop=True)
    cohort.loc[::9, "labels"] = "MDD"
    return cohort, load_splits(ready.splits)


def test_shuffled_labels_leave_test_subjects_strata_and_other_diagnoses_alone(labelled):
    cohort, folds = labelled
    table = permuted(cohort, folds, 0, TASK, np.random.default_rng(0))
    assert table["uid"].tolist() == cohort["uid"].tolist()
    changed = set(table.loc[table["labels"] != cohort["labels"], "uid"])
    assert len(changed) > 5
    assert changed <= set(part(folds, 0, "train", "val"))
    assert ((table["labels"] == "MDD") == (cohort["labels"] == "MDD")).all()
    columns = ["dataset", "site", "labels"]
    assert table[columns].value_counts().sort_index().equals(cohort[columns].value_counts().sort_index())
    pd.testing.assert_frame_equal(table.drop(columns="labels"), cohort.drop(columns="labels"))


def test_what_the_task_asks_for_is_shuffled(labelled):
    """A control of sex with the true sexes would teach what it must not."""
    cohort, folds = labelled
    table = permuted(cohort, folds, 0, Task(column="sex", case=["F"], control=["M"]), np.random.default_rng(0))
    changed = set(table.loc[table["sex"] != cohort["sex"], "uid"])
    assert len(changed) > 5
    assert changed <= set(part(folds, 0, "train", "val"))
    pd.testing.assert_frame_equal(table.drop(columns="sex"), cohort.drop(columns="sex"))


def test_sites_of_one_class_are_shuffled_with_each_other():
    """Else their labels would stay, and what tells their scanners apart would tell the classes apart."""
    people = pd.DataFrame({"dataset": list("aaaaaabb"), "site": list("xxyyzzuu")}, index=[f"s{i}" for i in range(8)])
    y = pd.Series([0, 0, 1, 1, 0, 1, 1, 1], index=people.index)  # x: controls, y: cases, z: both; u: cases
    strata = shuffle_strata(people, y)
    assert strata.tolist() == ["a/ one class"] * 4 + ["a/z"] * 2 + ["one class"] * 2


def test_random_labels_are_a_coin_for_everybody(labelled):
    cohort, _ = labelled
    tables = [random_labels(cohort, RANDOM_LABELS, np.random.default_rng(seed)) for seed in range(40)]
    y = np.array([task_labels(table, RANDOM_LABELS).to_numpy() for table in tables])
    assert y.shape == (40, len(cohort))
    assert y.mean() == pytest.approx(0.5, abs=0.03)
    real = (cohort["labels"] == "ASD").to_numpy()
    assert abs(y[:, real].mean() - y[:, ~real].mean()) < 0.06


def test_every_draw_task_and_fold_has_labels_of_its_own_and_the_seed_decides(ready, tmp_path):  # noqa: F811
    def run(name, kind="permuted-0", task="asd", seed=0):
        control_labels.run(
            control=kind, cohort=ready.study.cohort, splits=ready.splits, task_name=task,
            task=TASK if kind.startswith("p") else RANDOM_LABELS, seed=seed, out=tmp_path / name,
        )  # fmt: skip
        return [tuple(read_table(tmp_path / name / f"cohort_fold-{fold}.parquet")["labels"]) for fold in range(2)]

    tables = [*run("a"), *run("b", "permuted-1"), *run("c", task="other"), *run("d", seed=1)]
    tables += [*run("e", "random-0"), *run("f", "random-1")]
    assert len(set(tables)) == len(tables)
    assert run("g") == tables[:2]


def test_pairs_of_one_stratum_by_hand():
    y, p, strata = np.array([1, 0, 0, 1, 0, 1]), np.array([0.9, 0.5, 0.9, 0.1, 0.3, 0.7]), np.array([0, 0, 0, 1, 1, 2])
    assert auroc_within(y, p, strata) == pytest.approx((1 + 0.5 + 0) / 3)  # 2 pairs in 0, 1 in 1, none in 2
    assert auroc_within(y, p, np.zeros(6)) == pytest.approx(auroc(y, p))
    assert np.isnan(auroc_within(y, p, np.arange(6)))


def test_sites_that_differ_in_their_cases_are_no_failure():
    """Shuffling within sites keeps each site's share of cases, and a method may say it: pairs within sites know better."""
    rng, site = np.random.default_rng(0), np.repeat([0, 1], 200)
    y = (rng.random(400) < np.where(site == 1, 0.8, 0.2)).astype(int)
    p = 0.5 * site + 0.3 * rng.random(400)
    assert auroc(y, p) > 0.7
    assert auroc_within(y, p, site) == pytest.approx(0.5, abs=0.06)


def test_the_interval_is_that_of_a_t_test_over_runs():
    values = np.array([0.5, 0.62, 0.44, 0.58])
    low, high, p = against_chance(values, 0.9)
    reference = stats.ttest_1samp(values, 0.5)
    assert p == pytest.approx(reference.pvalue)
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval(0.9)))
    assert against_chance(np.full(3, 0.5), 0.95)[2] == 1
    assert against_chance(np.full(3, 1.0), 0.95)[2] == 0  # a leak that nothing disturbs
    assert np.isnan(against_chance(np.array([0.9]), 0.95)[2])


def test_directions_of_noise_in_data_with_a_real_effect_fail_no_more_often_than_promised():
    """Noise learnt on one strong feature gives an AUROC of 0.8 or 0.2: nine runs of both are no leak."""
    rng, failed = np.random.default_rng(0), 0
    for _ in range(400):
        values = 0.5 + 0.3 * rng.choice([-1, 1], 9) + rng.normal(0, 0.05, 9)
        failed += against_chance(values, 0.95)[2] < 0.05
    assert failed / 400 < 0.08


class Leaky:
    """A rival into whose features the labels of the table leaked, for training and test subjects."""

    name, parts = "leaky", tuple

    def fit(self, people, y):
        return self

    def predict(self, people):
        return (people["labels"].isin(["ASD", "random case"])).to_numpy() * 0.9 + 0.05


class Nearest:
    """A rival that says of each subject what its nearest training subject was, by age and head motion."""

    name, parts = "nearest", tuple

    def fit(self, people, y):
        self.x, self.y = people[["age", "mean_fd"]].to_numpy(), y
        return self

    def predict(self, people):
        far = np.abs(people[["age", "mean_fd"]].to_numpy()[:, None] - self.x).sum(axis=2)
        return self.y[far.argmin(axis=1)] * 0.9 + 0.05


def run_controls(ready, folder, draws=3):  # noqa: F811
    """The table of controls, by control and method."""
    files = []
    for kind, task in (("permuted", TASK), ("random", RANDOM_LABELS)):
        models = ready.altered(folder / kind, task=task.model_dump(mode="json"))[::2]  # one seed
        for draw in range(draws):
            place = folder / f"{kind}-{draw}" / "asd"
            common = {"cohort": ready.study.cohort, "splits": ready.splits, "task": task}
            control_labels.run(control=f"{kind}-{draw}", task_name="asd", seed=0, out=place, **common)
            files.append(place / "predictions.parquet")
            control.run(
                stores=ready.study.stores, labels=place, models=models, options=OPTIONS, out=files[-1], threads=1, **common
            )
    controls.run(predictions=files, options=OPTIONS, out=folder / "controls.tsv")
    table = read_tsv(folder / "controls.tsv")
    assert list(table) == list(COLUMNS)
    assert (table["n_runs"] == 2 * draws).all()
    return table.set_index(["control", "method"])


def test_leaked_labels_fail_and_honest_methods_pass(ready, tmp_path, monkeypatch):  # noqa: F811
    made = {"phenotype": Phenotype, "linear": Nearest, "svm": Leaky}
    monkeypatch.setattr(predictions, "rival_maker", lambda name, *_: made[name])
    table = run_controls(ready, tmp_path)
    for name in ("permuted labels", "random label"):
        for method in ("mcsp", "phenotype", "nearest"):
            assert table.loc[(name, method), "verdict"] == "passed"
        assert table.loc[(name, "leaky"), "auroc"] == 1
        assert table.loc[(name, "leaky"), "verdict"] == "FAILED: above chance"
    assert (table.loc["permuted labels", "changed"].between(0.2, 0.8)).all()


def test_training_on_test_subjects_fails_and_is_refused_before(ready, tmp_path, monkeypatch):  # noqa: F811
    def everybody(splits, fold, *parts):
        return part(splits, fold, *parts, *(["test"] if "train" in parts else []))

    made = {"phenotype": Phenotype, "linear": Nearest}
    monkeypatch.setattr(predictions, "rival_maker", lambda name, *_: made.get(name))
    monkeypatch.setattr(predictions, "part", everybody)
    with pytest.raises(McspError, match="leakage"):  # the guard stands before the control
        run_controls(ready, tmp_path / "guarded")
    monkeypatch.setattr(predictions, "guard", lambda *_: None)
    table = run_controls(ready, tmp_path / "open")
    for name in ("permuted labels", "random label"):
        assert table.loc[(name, "nearest"), "verdict"] == "FAILED: above chance"
        assert table.loc[(name, "mcsp"), "verdict"] == "passed"


def test_p_values_are_corrected_over_the_whole_table():
    rng, rows = np.random.default_rng(0), []
    for kind in ("permuted", "random"):
        for method in ("a", "b", "c"):
            for draw in range(4):
                y = np.arange(40) % 2
                rows.append(
                    pd.DataFrame({"kind": kind, "task": "t", "method": method, "draw": draw, "fold": 0, "site": "s", "y": y,
                                  "uid": [f"{i}" for i in range(40)], "p": rng.random(40), "changed": 0.5})
                )  # fmt: skip
    table = control_rows(pd.concat(rows), 0.95)
    assert len(table) == 6
    smallest = table.loc[table["p"].idxmin()]
    assert smallest["p_holm"] == pytest.approx(min(1, 6 * smallest["p"]))
    assert (table["n"] == 40).all()
