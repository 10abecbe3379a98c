"""Tasks with several classes or a number: metrics as others compute them, and the whole way from fine-tuning to tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from mcsp.cohort import store_path, task_labels
from mcsp.errors import McspError
from mcsp.evaluation import other_tasks
from mcsp.evaluation.other_tasks import METRICS, NOTHING, confusion_rows, rival_answers
from mcsp.evaluation.splits import load_splits, part
from mcsp.model.mcsp import Classifier
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.options.training import FinetuneOptions, PretrainOptions
from mcsp.predict.stage import load_model
from mcsp.store import Store, StoreWriter, read_table, read_tsv, write_table
from mcsp.training import finetune
from tests.training.conftest import SMALL
from tests.training.conftest import frozen as frozen_folds  # noqa: F401
from tests.training.test_pretrain import disturb, train

AGE = Task(column="age")
THREE = Task(classes={"adhd": ["ADHD"], "asd": ["ASD"], "well": ["control"]})
OPTIONS = EvaluateOptions(n_bootstrap=50, n_permutations=100)


def test_metrics_of_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 90), rng.dirichlet([1, 1, 1], 90)
    found = {name: metric(y, p, p[:, 0]) for name, metric in METRICS["multiclass"].items()}
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(y, p.argmax(1)))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, p.argmax(1)))
    assert found["auroc_macro"] == pytest.approx(reference.roc_auc_score(y, p, multi_class="ovr", average="macro"))


def test_metrics_of_numbers_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.uniform(8, 60, 80)
    p, known = y + rng.normal(0, 9, 80), np.full(80, y.mean())
    found = {name: metric(y, p, known) for name, metric in METRICS["regression"].items()}
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(y, p))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(y, p))
    assert found["r"] == pytest.approx(np.corrcoef(y, p)[0, 1])
    assert found["r2"] == pytest.approx(reference.r2_score(y, p))  # the test subjects' mean is what is known here
    assert METRICS["regression"]["r2"](y, known, known) == 0
    assert np.isnan(METRICS["regression"]["r"](y, known, known))


def test_confusion_counts_every_subject_once():
    y, uid = np.array([0, 0, 1, 2, 2, 2]), [f"a/sub-{i}" for i in range(6)]
    p = np.eye(3)[[0, 1, 1, 2, 2, 0]]
    means = pd.DataFrame(p, columns=["p_adhd", "p_asd", "p_well"]).assign(method="mcsp", uid=uid, y=y, known=0.0)
    table = confusion_rows(THREE, means).set_index(["true", "answered"])
    expected = reference.confusion_matrix(y, p.argmax(1))
    assert table["n"].to_numpy().reshape(3, 3).tolist() == expected.tolist()
    assert table.loc[("well", "well"), "share"] == pytest.approx(2 / 3)
    age = pd.DataFrame({"method": "mcsp", "uid": [f"a/{i}" for i in range(50)], "y": np.arange(50.0), "known": 25.0})
    fifths = confusion_rows(AGE, age.assign(value=age["y"]))
    assert fifths["n"].sum() == 50
    assert (fifths.loc[fifths["true"] == fifths["answered"], "n"] == 10).all()


@pytest.fixture(autouse=True)
def _two_penalties(monkeypatch):
    """Less to tune, so that it takes seconds."""
    monkeypatch.setattr(other_tasks, "PENALTIES", [1e2, 1e4])


def plant(study, task: Task) -> None:
    """A third class, and the answer in the recordings: in one edge and in the power of one channel at 10 Hz."""
    cohort = read_table(study.cohort)
    if task is THREE:
        cohort.loc[cohort.index % 3 == 2, "labels"] = "ADHD"
        write_table(cohort, study.cohort)
    y = task_labels(cohort, task)
    strength = ((y - y.mean()) / y.std()).to_dict()
    for dataset in ("both", "mri", "cap"):
        for modality, domain in (("fmri", "spatial"), ("eeg", "spectral")):
            path = store_path(study.stores, dataset, modality, domain, 0)
            if not path.is_file():
                continue
            store = Store(path)
            rows = [(uid, np.array(store.row(i)), store.n_valid[i]) for i, uid in enumerate(store.uids)]
            with StoreWriter(path, store.shape, store.meta) as writer:
                for uid, row, n in rows:
                    if modality == "fmri":
                        row[4:8, 4:8] += strength[uid] * (1 - np.eye(4))
                    else:
                        row[:, 0, 8:12] *= np.exp(strength[uid])
                    writer.add(uid, row, n)


@pytest.fixture(params=[AGE, THREE], ids=["age", "three"])
def task(request) -> Task:
    """Both kinds in turn."""
    return request.param


def tune(study, folds, base, out, task, fold=0, epochs=30):
    finetune.run(
        stores=study.stores, cohort=study.cohort, splits=folds, fold=fold, seed=0, task=task, pretrained=base, threads=1,
        options=FinetuneOptions(epochs=epochs, batch_size=16, hidden=16, lr=5e-3), out=out, history=out / "history.tsv",
    )  # fmt: skip
    return (out / "model.safetensors").read_bytes()


@pytest.fixture
def tuned(stored_study, frozen_folds, tmp_path, task):  # noqa: F811
    """Study, folds and models of all folds, with the answer planted."""
    plant(stored_study, task)
    options = PretrainOptions(epochs=0, batch_size=16, model=SMALL)
    for fold in range(3):
        train(stored_study, frozen_folds, options, tmp_path / f"p{fold}", fold)
        tune(stored_study, frozen_folds, tmp_path / f"p{fold}", tmp_path / f"f{fold}", task, fold)
    return stored_study, frozen_folds, [tmp_path / f"f{fold}" for fold in range(3)]


def evaluate(study, folds, models, task, out):
    other_tasks.run(
        stores=study.stores, cohort=study.cohort, splits=folds, task_name="t", task=task, models=models, options=OPTIONS,
        predictions=out / "predictions.parquet", metrics=out / "metrics.tsv", comparisons=out / "comparisons.tsv",
        confusion=out / "confusion.tsv", threads=1,
    )  # fmt: skip
    return read_tsv(out / "metrics.tsv").set_index(["method", "metric"])


def test_a_planted_answer_is_found_and_the_tables_say_so(tuned, task, tmp_path):
    study, folds, models = tuned
    table = evaluate(study, folds, models, task, tmp_path / "out")
    cohort, linear = read_table(study.cohort), "linear FC + band power"
    y = task_labels(cohort, task)
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["mcsp", NOTHING, linear, "phenotype"]
    assert (table["n"] == len(y)).all()
    assert (table["low"].dropna() <= table["high"].dropna()).all()
    predictions = read_table(tmp_path / "out" / "predictions.parquet")
    ours = predictions[predictions["method"] == "mcsp"].set_index("uid")
    assert sorted(ours.index) == sorted(y.index)
    if task is AGE:
        assert table.loc[(linear, "r"), "value"] > 0.8
        assert table.loc[("mcsp", "r"), "value"] > 0.4
        assert table.loc[("mcsp", "mae"), "value"] == pytest.approx((ours["y"] - ours["value"]).abs().mean(), rel=1e-4)
        assert table.loc[(NOTHING, "r2"), "value"] == pytest.approx(0)
        assert table.loc[("phenotype", "r"), "value"] < 0.4  # it may not read the age itself
    else:
        assert table.loc[(linear, "balanced_accuracy"), "value"] > 0.7
        assert table.loc[("mcsp", "auroc_macro"), "value"] > 0.65
        assert ours[["p_adhd", "p_asd", "p_well"]].sum(axis=1).to_numpy() == pytest.approx(1)
        assert table.loc[(NOTHING, "balanced_accuracy"), "value"] == pytest.approx(1 / 3, abs=0.1)
    pairs = read_tsv(tmp_path / "out" / "comparisons.tsv").set_index("rival")
    assert pairs.loc[NOTHING, "verdict"] == "better"
    assert set(read_tsv(tmp_path / "out" / "confusion.tsv")["method"]) == {"mcsp", NOTHING, linear, "phenotype"}
    model = Classifier.from_pretrained(models[0])
    config = json.loads((models[0] / "config.json").read_text())
    assert config["head"]["kind"] == task.kind
    with pytest.raises(McspError, match="call predict_value" if task is AGE else "call predict_proba"):
        (model.predict_proba if task is AGE else model.predict_value)()
    with pytest.raises(McspError, match=f"answers a {task.kind} task: predict applies"):
        load_model(models[0])


def test_test_subjects_leave_no_trace(stored_study, frozen_folds, tmp_path, task):  # noqa: F811
    plant(stored_study, task)
    train(stored_study, frozen_folds, PretrainOptions(epochs=0, batch_size=16, model=SMALL), tmp_path / "p")

    def fitted():
        return tune(stored_study, frozen_folds, tmp_path / "p", tmp_path / "f", task, epochs=2)

    before = fitted()
    test = part(load_splits(frozen_folds), 0, "test")
    cohort = read_table(stored_study.cohort)
    cohort.loc[cohort["uid"].isin(test), "age"] *= 3
    write_table(cohort, stored_study.cohort)
    disturb(stored_study, set(test))
    assert fitted() == before


def test_what_rivals_answer_of_one_test_subject_does_not_depend_on_the_others(stored_study, frozen_folds, task):  # noqa: F811
    plant(stored_study, task)
    cohort, splits = read_table(stored_study.cohort), load_splits(frozen_folds)
    y = task_labels(cohort, task)
    columns = ["method", "fold", "uid"]
    before = rival_answers(stored_study.stores, cohort, splits, y, task).set_index(columns)
    test = part(splits, 0, "test")
    disturb(stored_study, set(test[1:]))
    after = rival_answers(stored_study.stores, cohort, splits, y, task).set_index(columns)
    for method in {key[0] for key in before.index}:
        pd.testing.assert_series_equal(before.loc[(method, 0, test[0])], after.loc[(method, 0, test[0])])


def test_models_of_another_task_are_refused(stored_study, frozen_folds, tmp_path):  # noqa: F811
    plant(stored_study, THREE)
    train(stored_study, frozen_folds, PretrainOptions(epochs=0, batch_size=16, model=SMALL), tmp_path / "p")
    tune(stored_study, frozen_folds, tmp_path / "p", tmp_path / "f", AGE, epochs=1)
    with pytest.raises(McspError, match="trained for another task"):
        evaluate(stored_study, frozen_folds, [tmp_path / "f"], THREE, tmp_path / "out")
