"""Fine-tuning: it finds a planted effect on subjects it never saw, and never reads them."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation import splits as folds
from mcsp.evaluation.frozen import check_unseen
from mcsp.evaluation.splits import load_splits, part
from mcsp.model.batch import Batch
from mcsp.model.mcsp import Classifier
from mcsp.options.tasks import Task
from mcsp.options.training import FinetuneOptions, SplitOptions
from mcsp.predict.stage import predictions_table
from mcsp.store import read_table, read_tsv, write_table
from mcsp.training import finetune
from mcsp.training.data import Subjects
from mcsp.training.finetune import drop_modalities
from mcsp.training.record import data_record_with
from tests.conftest import write_stored_study
from tests.training.test_pretrain import disturb, train

TASK = Task(case=["ASD"])


def tune(study, frozen, base, out, options=None, seed=0, fold=0):
    finetune.run(
        stores=study.stores, cohort=study.cohort, splits=frozen, fold=fold, seed=seed, task=TASK, pretrained=base,
        options=options or FinetuneOptions(epochs=3, hidden=8), out=out, history=out / "history.tsv", threads=1,
    )  # fmt: skip
    return (out / "model.safetensors").read_bytes()


@pytest.fixture
def base(stored_study, frozen, options, tmp_path):
    train(stored_study, frozen, options.model_copy(update={"epochs": 0}), tmp_path / "base")
    return tmp_path / "base"


def test_seed_decides_and_test_subjects_leave_no_trace(stored_study, frozen, base, tmp_path):
    first = tune(stored_study, frozen, base, tmp_path / "a")
    assert tune(stored_study, frozen, base, tmp_path / "b") == first
    assert tune(stored_study, frozen, base, tmp_path / "c", seed=1) != first
    disturb(stored_study, set(part(load_splits(frozen), 0, "test")))
    assert tune(stored_study, frozen, base, tmp_path / "d") == first


def test_the_epoch_with_the_lowest_validation_loss_is_kept(stored_study, frozen, base, tmp_path):
    tune(stored_study, frozen, base, tmp_path / "a", FinetuneOptions(epochs=6, hidden=8, lr=0.01))
    history = read_tsv(tmp_path / "a/history.tsv")
    val = history[history["split"] == "val"].set_index("epoch")
    assert val.index.min() == -1
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["best_epoch"] == val["loss"].idxmin()
    assert config["val_loss"] == pytest.approx(val["loss"].min(), abs=1e-5)
    model = Classifier.from_pretrained(tmp_path / "a")
    cohort = read_table(stored_study.cohort)
    y = task_labels(cohort, TASK)
    uids = part(load_splits(frozen), 0, "val")
    subjects = Subjects(stored_study.stores, cohort, uids, model.backbone.keys)
    own, batch = next(subjects.everyone(99))
    auroc = roc_auc_score(y.loc[own], model.predict_proba(batch))
    assert auroc == pytest.approx(val.loc[config["best_epoch"], "auroc"], abs=1e-5)


@pytest.mark.parametrize("reads", ["features", "both"])
def test_projectors_learn_where_the_head_reads_them(stored_study, frozen, base, tmp_path, reads):
    options = FinetuneOptions(epochs=1, hidden=8, reads=reads)
    tune(stored_study, frozen, base, tmp_path / "a", options)
    model = Classifier.from_pretrained(tmp_path / "a")
    sizes = model.backbone.sizes
    assert model.direct.in_features == 6 * (sizes.width + (sizes.dim if reads == "both" else 0))
    module = finetune.Finetuning(model, options, None, 10, 0, finetune.History())
    groups = module.configure_optimizers()["optimizer"].param_groups
    learnt = {id(p) for group in groups for p in group["params"]}
    assert all(id(p) in learnt for p in model.backbone.encoders.parameters())
    assert {id(p) in learnt for p in model.backbone.projectors.parameters()} == {reads == "both"}
    assert len(learnt) == sum(len(group["params"]) for group in groups)  # none of them twice


def configuration(folder):
    return json.loads((folder / "config.json").read_text())


def test_the_record_holds_everybody_that_a_classifier_learnt_from(stored_study, frozen, options, tmp_path):
    """Pre-training drew a few; the head was fitted to all, and its own test subjects stay unknown."""
    cohort, splits = read_table(stored_study.cohort), load_splits(frozen)
    learnt = part(splits, 0, "train")
    cohort.loc[cohort["uid"].isin(learnt), "age"] = 20.0 + np.arange(len(learnt))
    write_table(cohort, stored_study.cohort)
    train(stored_study, frozen, options.model_copy(update={"epochs": 0, "subject_share": 0.2}), tmp_path / "base")
    tune(stored_study, frozen, tmp_path / "base", tmp_path / "a")
    base, config = (configuration(tmp_path / name) for name in ("base", "a"))
    rows = predictions_table(cohort, [base], [{}]).set_index("uid")
    assert (rows.loc[learnt, "n_seen"] == 0).any()
    found = predictions_table(cohort, [config], [{}]).set_index("uid")
    assert (found.loc[learnt + part(splits, 0, "val"), "n_seen"] == 1).all()
    assert (found.loc[part(splits, 0, "test"), "n_seen"] == 0).all()
    assert base["ranges"]["age"] != config["ranges"]["age"] == [20.0, 19.0 + len(learnt)]
    check_unseen([config], cohort, splits)
    missed = sorted(uid for uid in learnt if rows.loc[uid, "n_seen"] == 0)
    moved = splits.assign(part=splits["part"].mask(splits["uid"].isin(missed[:1]), "test"))
    check_unseen([{**base, "seed": 0}], cohort, moved)
    with pytest.raises(McspError, match=f"{missed[0]}, whom it is tested on, .* leakage"):
        check_unseen([config], cohort, moved)


def test_the_record_of_pre_training_on_all_stays_as_it_is(stored_study, frozen, base, tmp_path):
    tune(stored_study, frozen, base, tmp_path / "a")
    first, config = configuration(base), configuration(tmp_path / "a")
    assert all(config[name] == first[name] for name in ("seen", "ranges", "data"))
    cohort = read_table(stored_study.cohort)
    assert data_record_with({**first, "seen": []}, cohort, cohort["uid"], []) == {}  # no half record where there is none


def test_a_model_of_other_folds_is_refused(stored_study, frozen, base, tmp_path):
    with pytest.raises(McspError, match="pre-trained for other folds"):
        tune(stored_study, frozen, base, tmp_path / "a", fold=1)
    folds.run(cohort=stored_study.cohort, options=SplitOptions(n_folds=3, seed=5), out=frozen)
    with pytest.raises(McspError, match="pre-trained for other folds"):
        tune(stored_study, frozen, base, tmp_path / "a")


def test_one_class_only_is_one_line(stored_study, frozen, base, tmp_path):
    table = read_table(stored_study.cohort)
    write_table(table.assign(labels="control"), stored_study.cohort)
    with pytest.raises(McspError, match="one class only: no subject left with case label"):
        tune(stored_study, frozen, base, tmp_path / "a")


def test_patients_without_what_the_model_reads_are_one_line(stored_study, frozen):
    table, task = read_table(stored_study.cohort), Task(case=["ASD"])
    table["has_eeg"] = False
    with pytest.raises(McspError, match=r"nobody with an answer has eeg, which this model reads: .*sweep.modalities: false"):
        finetune.labelled_parts(table, load_splits(frozen), 0, task, ["eeg"])
    assert set(finetune.labelled_parts(table, load_splits(frozen), 0, task, ["fmri", "eeg"])) == {"train", "val"}


def test_modality_dropout_hides_one_of_two_and_never_the_only_one():
    n = 4000
    present = {"fmri": torch.arange(n) % 4 > 0, "eeg": torch.arange(n) % 4 < 3}
    torch.manual_seed(0)
    dropped = drop_modalities(Batch({}, present, {}), 0.4).present
    both, either = present["fmri"] & present["eeg"], dropped["fmri"] | dropped["eeg"]
    assert either.all()
    hidden = (dropped["fmri"] != present["fmri"]) | (dropped["eeg"] != present["eeg"])
    assert not hidden[~both].any()
    assert hidden[both].float().mean().item() == pytest.approx(0.4, abs=0.04)


def whole_way(study, options, root):
    """Labels, probabilities and datasets of every subject by the model of the fold that tests it."""
    frozen = root / "splits/splits.tsv"
    folds.run(cohort=study.cohort, options=SplitOptions(n_folds=3), out=frozen)
    cohort, splits = read_table(study.cohort), load_splits(frozen)
    y, truth, found, datasets = task_labels(cohort, TASK), [], [], []
    for fold in range(3):
        train(study, frozen, options, root / f"p{fold}", fold)
        tune(study, frozen, root / f"p{fold}", root / f"f{fold}", FinetuneOptions(epochs=80, batch_size=16), fold=fold)
        model = Classifier.from_pretrained(root / f"f{fold}")
        subjects = Subjects(study.stores, cohort, part(splits, fold, "test"), model.backbone.keys)
        for own, batch in subjects.everyone(999):
            found += model.predict_proba(batch).tolist()
            truth += y.loc[own].tolist()
            datasets += [uid.split("/")[0] for uid in own]
    return np.array(truth), np.array(found), np.array(datasets)


@pytest.mark.slow
def test_a_strong_planted_effect_is_found_in_unseen_subjects(tmp_path, options):
    study = write_stored_study(tmp_path, n_per_group=24, effect=1.5)
    y, p, datasets = whole_way(study, options.model_copy(update={"epochs": 10}), tmp_path)
    assert len(y) == 144
    assert roc_auc_score(y, p) > 0.75
    for dataset in ("both", "cap"):  # one planted edge among 66 is still beyond fMRI alone at this size
        assert roc_auc_score(y[datasets == dataset], p[datasets == dataset]) > 0.6, dataset


@pytest.mark.slow
def test_permuted_labels_land_on_chance(tmp_path, options):
    """The same strong effect, but labels that belong to others: nothing on the way may give them away."""
    study = write_stored_study(tmp_path, n_per_group=24, effect=1.5)
    cohort = read_table(study.cohort)
    rng = np.random.default_rng(0)
    for _, own in cohort.groupby("dataset"):
        cohort.loc[own.index, "labels"] = rng.permutation(own["labels"].to_numpy())
    write_table(cohort, study.cohort)
    y, p, _ = whole_way(study, options.model_copy(update={"epochs": 10}), tmp_path)
    assert abs(roc_auc_score(y, p) - 0.5) < 0.145  # three standard errors of 72 against 72
