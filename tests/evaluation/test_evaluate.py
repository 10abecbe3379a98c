"""The one look at the test subjects: whose probabilities, checks of the frozen classifiers, tables, summary."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation import splits as frozen_folds
from mcsp.evaluation import stage, statistics, summary
from mcsp.evaluation.calibration import temperatures
from mcsp.evaluation.comparisons import over_subjects
from mcsp.evaluation.rivals import predictions as rival_module
from mcsp.evaluation.rivals import stage as rival_stage
from mcsp.evaluation.rivals.phenotype import Phenotype
from mcsp.model.mcsp import Classifier
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.options.training import SplitOptions
from mcsp.store import read_table, read_tsv, write_table
from mcsp.training.data import Subjects, study_keys
from mcsp.training.record import traces
from tests.training.test_pretrain import disturb

TASK = Task(case=["ASD"])
OPTIONS = EvaluateOptions(rivals=["phenotype", "linear"], n_bootstrap=40, n_permutations=40, n_dropout=4)
SIZES = {"width": 8, "depth": 1, "heads": 2, "dim": 8, "patch": 12, "segment_features": 2, "density": 0.5, "dropout": 0.1}


@dataclass
class Ready:
    """Everything that `evaluate` takes."""

    study: object
    splits: Path
    models: list[Path]

    def run(
        self, out: Path, models: list[Path] | None = None, task: Task = TASK, options: EvaluateOptions = OPTIONS
    ) -> pd.DataFrame:
        """Run the stage into `out`, after its rivals; its metrics."""
        rivals = [self.study.root / "rivals" / f"{name}.parquet" for name in options.rivals_of(["fmri", "eeg"])]
        for path in rivals:
            if not path.is_file():
                rival_stage.run(
                    rival=path.stem, stores=self.study.stores, cohort=self.study.cohort, splits=self.splits, task=TASK,
                    modalities=["fmri", "eeg"], seed=options.seed, out=path,
                )  # fmt: skip
        stage.run(
            stores=self.study.stores, cohort=self.study.cohort, splits=self.splits, task_name="asd", task=task,
            models=models or self.models, rivals=rivals, options=options, predictions=out / "predictions.parquet",
            metrics=out / "metrics.tsv", comparisons=out / "comparisons.tsv", threads=1,
            harmonisation=out / "harmonisation.tsv", validation=out / "validation.parquet", dropout=out / "dropout.parquet",
        )  # fmt: skip
        return read_tsv(out / "metrics.tsv")

    def altered(self, folder: Path, **changes) -> list[Path]:
        """Copies of the classifiers with other entries in their configuration."""
        copies = []
        for model in self.models:
            copies.append(Path(shutil.copytree(model, folder / model.name)))
            path = copies[-1] / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return copies


def learnt_from(cohort: pd.DataFrame, splits: Path, fold: int) -> list[str]:
    """A classifier's record of its fold's training and validation subjects."""
    uids = frozen_folds.part(frozen_folds.load_splits(splits), fold, "train", "val")
    own = traces(cohort[cohort["uid"].isin(uids)], frozen_folds.splits_hash(splits))
    return sorted(set().union(*own.values()))


@pytest.fixture
def ready(stored_study, tmp_path) -> Ready:
    """Folds, and classifiers of two seeds with weights as they are drawn: untrained, but frozen."""
    splits = tmp_path / "splits.tsv"
    frozen_folds.run(cohort=stored_study.cohort, options=SplitOptions(n_folds=2), out=splits)
    cohort = read_table(stored_study.cohort)
    keys = study_keys(cohort, ["fmri", "eeg"], ["spatial", "temporal", "spectral"])
    shapes = Subjects(stored_study.stores, cohort, cohort["uid"][:1], keys).shapes
    models = []
    for fold in range(2):
        for seed in range(2):
            torch.manual_seed(10 * fold + seed)
            config = {
                "architecture": {**SIZES, "shapes": {"/".join(key): list(shape) for key, shape in shapes.items()}},
                "head": {"hidden": 8, "dropout": 0.1},
                "fold": fold,
                "seed": seed,
                "scope": "inductive",
                "splits": frozen_folds.read_record(splits),
                "task": TASK.model_dump(mode="json"),
                "seen": learnt_from(cohort, splits, fold),
            }
            models.append(tmp_path / "models" / f"fold-{fold}_seed-{seed}")
            Classifier(config).save_pretrained(models[-1])
    return Ready(stored_study, splits, models)


def test_tables_tell_of_every_test_subject_once(ready, tmp_path):
    metrics = ready.run(tmp_path / "out")
    predictions = read_table(tmp_path / "out" / "predictions.parquet")
    cohort, folds = read_table(ready.study.cohort), frozen_folds.load_splits(ready.splits)
    y = task_labels(cohort, TASK)
    assert list(metrics["method"].unique()) == [
        "mcsp", "phenotype", "linear FC + band power", "linear FC", "linear band power",
    ]  # fmt: skip
    ours = predictions[predictions["method"] == "mcsp"]
    assert len(ours) == 2 * len(cohort)
    assert not ours.duplicated(["uid", "seed"]).any()
    tested = folds[folds["part"] == "test"].set_index("uid")["fold"]
    assert (predictions["fold"] == predictions["uid"].map(tested)).all()
    assert (predictions["y"] == predictions["uid"].map(y)).all()
    assert predictions["p"].between(0, 1).all()
    only = cohort.set_index("uid")["has_fmri"] & ~cohort.set_index("uid")["has_eeg"]
    assert set(predictions.loc[predictions["uid"].map(only), "modalities"]) == {"fmri"}
    n = metrics.drop_duplicates("method").set_index("method")["n"]
    assert n["mcsp"] == n["phenotype"] == len(cohort)
    assert n["linear FC"] == cohort["has_fmri"].sum()


def test_metrics_are_those_of_the_mean_probability_over_seeds(ready, tmp_path):
    metrics = ready.run(tmp_path / "out").set_index(["method", "metric"])
    predictions = read_table(tmp_path / "out" / "predictions.parquet")
    mean = predictions[predictions["method"] == "mcsp"].groupby("uid")[["y", "p", "fold"]].mean()
    row = metrics.loc["mcsp", "auroc"]
    assert row["value"] == pytest.approx(roc_auc_score(mean["y"], mean["p"]), abs=1e-5)
    within = [roc_auc_score(own["y"], own["p"]) for _, own in mean.groupby("fold")]
    assert row["fold_mean"] == pytest.approx(np.mean(within), abs=1e-5)
    assert row["fold_sd"] == pytest.approx(np.std(within, ddof=1), abs=1e-5)
    assert (metrics["low"] <= metrics["high"]).all()
    assert (metrics["fold_low"] <= metrics["fold_high"]).all()
    assert row["chance"] == 0.5
    assert metrics.loc["mcsp", "brier"]["chance"] == pytest.approx(0.25, abs=0.01)


def test_a_probability_is_the_frozen_classifiers_own(ready, tmp_path):
    ready.run(tmp_path / "out")
    predictions = read_table(tmp_path / "out" / "predictions.parquet")
    one = predictions[(predictions["method"] == "mcsp") & (predictions["fold"] == 1) & (predictions["seed"] == 0)].iloc[3]
    model = Classifier.from_pretrained(ready.models[2])
    subjects = Subjects(ready.study.stores, read_table(ready.study.cohort), [one["uid"]], model.backbone.keys)
    assert float(model.predict_proba(subjects.collate([0]))[0]) == pytest.approx(one["p"], abs=1e-5)


def test_the_planted_effect_is_found_and_the_verdict_says_so(ready, tmp_path):
    metrics = ready.run(tmp_path / "out").set_index(["method", "metric"])
    assert metrics.loc["linear FC + band power", "auroc"]["value"] > 0.85
    pairs = over_subjects(read_tsv(tmp_path / "out" / "comparisons.tsv")).set_index(["method", "rival", "metric"])
    against = pairs.loc["linear FC + band power", "phenotype", "auroc"]
    assert against["verdict"] == "better"
    assert against["p_holm"] >= against["p"]
    assert against["low"] > 0
    assert pairs.loc["mcsp", "phenotype", "auroc"]["verdict"] == "not told apart"  # its weights are random
    means = stage.pooled(read_table(tmp_path / "out" / "predictions.parquet"))
    both = means.pivot(index="uid", columns="method", values="p")[["linear FC", "phenotype"]].dropna()
    y = means.drop_duplicates("uid").set_index("uid")["y"].loc[both.index]
    expected = roc_auc_score(y, both["linear FC"]) - roc_auc_score(y, both["phenotype"])
    assert pairs.loc["linear FC", "phenotype", "auroc"]["difference"] == pytest.approx(expected, abs=1e-5)


def test_two_runs_write_the_same_bytes(ready, tmp_path):
    ready.run(tmp_path / "one")
    ready.run(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    tables = ("comparisons", "harmonisation", "metrics")
    texts = [f"{table}.{suffix}" for table in tables for suffix in ("json", "tsv")]
    assert names == sorted([*texts, "predictions.parquet", "validation.parquet", "dropout.parquet"])
    assert read_tsv(tmp_path / "one" / "harmonisation.tsv").empty  # nothing is harmonised unless asked for
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_classifiers_of_other_folds_are_refused(ready, tmp_path):
    others = ready.altered(tmp_path / "others", splits={"sha256": "0" * 64})
    with pytest.raises(McspError, match="other folds"):
        ready.run(tmp_path / "out", others)
    assert not (tmp_path / "out").exists()


def test_classifiers_of_another_task_are_refused(ready, tmp_path):
    with pytest.raises(McspError, match="another task"):
        ready.run(tmp_path / "out", ready.altered(tmp_path / "others", task={"case": ["MDD"], "control": ["control"]}))


def test_missing_and_repeated_classifiers_are_refused(ready, tmp_path):
    with pytest.raises(McspError, match=r"seed 1 are of folds \[0\], not of \[0, 1\]"):
        ready.run(tmp_path / "out", ready.models[:3])
    with pytest.raises(McspError, match=r"seed 0 are of folds \[0, 0, 1\]"):
        ready.run(tmp_path / "out", [*ready.models, ready.models[0]])


def test_a_classifier_without_probabilities_is_refused(ready, tmp_path):
    model = Classifier.from_pretrained(ready.models[0])
    with torch.no_grad():
        model.head[-1].bias.fill_(float("nan"))
    model.save_pretrained(ready.models[0])
    with pytest.raises(McspError, match="not finite"):
        ready.run(tmp_path / "out")


def test_changed_folds_stop_the_evaluation(ready, tmp_path):
    text = ready.splits.read_text()
    ready.splits.write_text(text.replace("\ttest\t", "\ttrain\t", 1))
    with pytest.raises(McspError, match="changed since it was frozen"):
        ready.run(tmp_path / "out")


def test_transductive_pretraining_is_marked_everywhere(ready, tmp_path):
    models = ready.altered(tmp_path / "others", scope="transductive")
    metrics = ready.run(tmp_path / "out", models)
    ours = metrics[metrics["method"].str.startswith("mcsp")]
    assert set(ours["method"]) == {"mcsp (transductive)"}
    assert ours["protocol"].str.contains("saw test subjects").all()
    assert not metrics.loc[metrics["method"] == "phenotype", "protocol"].str.contains("saw").any()
    for name in ("comparisons.tsv",):
        assert "mcsp" not in set(read_tsv(tmp_path / "out" / name)["method"])
    mixed = [*models[:2], *ready.models[2:]]
    with pytest.raises(McspError, match=r"one pretrain\.scope"):
        ready.run(tmp_path / "mixed", mixed)


def test_a_task_with_one_class_is_one_clear_line(ready, tmp_path):
    with pytest.raises(McspError, match="one class only"):
        ready.run(
            tmp_path / "out", ready.altered(tmp_path / "o", task={"case": ["XYZ"], "control": ["control"]}), Task(case=["XYZ"])
        )


def test_a_perfect_method_is_not_called_no_better(monkeypatch):
    """DeLong has no variance there; the permutation test has the word."""
    y = np.arange(40) % 2
    uid = [f"a/sub-{i:02d}" for i in range(40)]
    methods = {"mcsp": y * 0.8 + 0.1, "phenotype": np.full(40, 0.5)}
    means = pd.concat([pd.DataFrame({"method": m, "fold": 0, "uid": uid, "y": y, "p": p}) for m, p in methods.items()])
    table = stage.comparison_rows("t", means, "mcsp", EvaluateOptions(n_bootstrap=20, n_permutations=400), 0.5)
    row = table[table["metric"] == "auroc"].iloc[0]
    assert row["test"] == "permutation"
    assert row["verdict"] == "better"
    assert row["difference"] == 0.5


def test_repeats_count_every_subject_once_and_show_their_spread():
    """Three repeats of two folds: a subject's probability is the mean over its three tests."""
    rng = np.random.default_rng(0)
    y, uid = np.arange(80) % 2, [f"a/sub-{i:02d}" for i in range(80)]
    frames = []
    for repeat in range(3):
        fold = 2 * repeat + rng.permutation(80) % 2
        for method, strength in (("mcsp", 0.4), ("phenotype", 0.1)):
            p = np.clip(strength * y + rng.random(80) * 0.6, 0, 1)
            frames.append(pd.DataFrame({"method": method, "fold": fold, "uid": uid, "y": y, "p": p}))
    means = pd.concat(frames, ignore_index=True)
    protocols = {"mcsp": "kfold, 2 folds, 3 repeats", "phenotype": "kfold, 2 folds, 3 repeats"}
    rows = stage.metric_rows("t", means, protocols, OPTIONS, n_folds=2).set_index(["method", "metric"])
    own = means[means["method"] == "mcsp"]
    row = rows.loc["mcsp", "auroc"]
    mean = own.groupby("uid")[["y", "p"]].mean()
    assert row["n"] == 80
    assert row["n_case"] == 40
    assert row["value"] == pytest.approx(roc_auc_score(mean["y"], mean["p"]))
    within = [roc_auc_score(o["y"], o["p"]) for _, o in own.groupby("fold")]
    assert row["fold_mean"] == pytest.approx(np.mean(within))
    repeats = [roc_auc_score(o["y"], o["p"]) for _, o in own.groupby(own["fold"] // 2)]
    assert row["repeat_sd"] == pytest.approx(np.std(repeats, ddof=1))
    table = stage.comparison_rows("t", means, "mcsp", OPTIONS, 0.5)
    pair = table.iloc[0]
    assert pair["n"] == 80
    other = means[means["method"] == "phenotype"].groupby("uid")["p"].mean()
    assert pair["difference"] == pytest.approx(roc_auc_score(mean["y"], mean["p"]) - roc_auc_score(mean["y"], other))
    over_folds = table[(table["test"] == "nadeau-bengio") & (table["metric"] == "auroc")].iloc[0]
    assert over_folds["df"] == 5  # six folds
    without = [roc_auc_score(o["y"], o["p"]) for _, o in means[means["method"] == "phenotype"].groupby("fold")]
    assert over_folds["difference"] == pytest.approx(np.mean(within) - np.mean(without))
    one = stage.metric_rows("t", means[means["fold"] < 2], protocols, OPTIONS, n_folds=2)
    assert one["repeat_sd"].isna().all()


def test_the_interval_of_a_difference_follows_the_confidence():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    uid = [f"a/sub-{i:02d}" for i in range(60)]
    methods = {"mcsp": y * 0.3 + rng.random(60) * 0.6, "phenotype": rng.random(60)}
    means = pd.concat([pd.DataFrame({"method": m, "fold": 0, "uid": uid, "y": y, "p": p}) for m, p in methods.items()])
    widths = []
    for confidence in (0.8, 0.95):
        options = EvaluateOptions(n_bootstrap=50, n_permutations=20, confidence=confidence)
        row = stage.comparison_rows("t", means, "mcsp", options, 0.5).iloc[0]
        widths.append(row["high"] - row["low"])
    assert widths[1] / widths[0] == pytest.approx(1.959964 / 1.281552, rel=1e-5)


def test_a_site_without_anybody_of_the_task_is_passed_over(stored_study, tmp_path):
    cohort = read_table(stored_study.cohort)
    site = cohort["site"] == "mri1"
    cohort.loc[site, "labels"] = "MDD"
    options = SplitOptions(protocol="leave-one-site-out", n_folds=6)
    folds = frozen_folds.make_splits(cohort, options)
    y = task_labels(cohort, TASK)
    rows = rival_module.rival_predictions("phenotype", stored_study.stores, cohort, folds, y)
    assert sorted(rows["uid"]) == sorted(y.index)
    assert rows["fold"].nunique() == 5


def test_predictions_of_a_training_subject_or_a_stranger_to_the_task_are_refused(ready, tmp_path):
    """A leak is planted: a rival's table says something of somebody whom its fold trained on."""
    ready.run(tmp_path / "out")
    path = ready.study.root / "rivals" / "linear.parquet"
    rows, folds = read_table(path), frozen_folds.load_splits(ready.splits)
    trained = frozen_folds.part(folds, 0, "train")[0]
    write_table(pd.concat([rows, rows[:1].assign(uid=trained, fold=0)]), path)
    with pytest.raises(McspError, match=f"{trained} is train, where only test may be: leakage"):
        ready.run(tmp_path / "again")
    cohort = read_table(ready.study.cohort)
    y = task_labels(cohort, TASK).drop(rows["uid"].iloc[0])
    write_table(rows, path)
    with pytest.raises(McspError, match="is not in the task"):
        stage.read_rivals([path], folds, y)


def test_every_rival_is_fitted_on_the_training_part_and_nobody_else(stored_study, monkeypatch):
    """Whom a rival is given, fold by fold; validation subjects are marked."""
    cohort = read_table(stored_study.cohort)
    folds = frozen_folds.make_splits(cohort, SplitOptions(n_folds=2))
    seen = []

    class Spy(Phenotype):
        def fit(self, people, y):
            seen.append((people, y))
            return super().fit(people, y)

    monkeypatch.setattr(rival_module, "rival_maker", lambda *a: Spy)
    rival_module.rival_predictions("spy", stored_study.stores, cohort, folds, task_labels(cohort, TASK))
    for fold, (people, y) in enumerate(seen):
        assert sorted(people["uid"]) == frozen_folds.part(folds, fold, "train", "val")
        assert sorted(people.loc[people["part"] == "val", "uid"]) == frozen_folds.part(folds, fold, "val")
        assert (y == (people["labels"] == "ASD")).all()


def test_a_rival_never_reads_the_column_that_is_asked_for(ready, tmp_path, monkeypatch):
    """Sex predicted from sex would be a perfect phenotype."""
    seen = []

    class Spy(Phenotype):
        def fit(self, people, y):
            seen.append(people["sex"])
            return super().fit(people, y)

    monkeypatch.setattr(rival_module, "rival_maker", lambda *a: Spy)
    rival_stage.run(
        rival="phenotype", stores=ready.study.stores, cohort=ready.study.cohort, splits=ready.splits, seed=0,
        task=Task(column="sex", case=["F"], control=["M"]), modalities=["fmri", "eeg"], out=tmp_path / "phenotype.parquet",
    )  # fmt: skip
    assert len(seen) == 2
    assert all(sex.isna().all() for sex in seen)


def test_harmonised_rivals_stand_beside_the_others_on_the_same_folds(ready, tmp_path):
    metrics = ready.run(tmp_path / "out", options=OPTIONS.model_copy(update={"harmonise": "combat"}))
    plain = ready.run(tmp_path / "plain")
    combat = metrics["method"].str.endswith(", ComBat")
    own = metrics[~combat].reset_index(drop=True)
    corrected = ["p_chance_holm"]  # over more methods
    pd.testing.assert_frame_equal(own.drop(columns=corrected), plain.drop(columns=corrected))
    assert list(metrics.loc[combat, "method"].unique()) == [
        "linear FC + band power, ComBat", "linear FC, ComBat", "linear band power, ComBat",
    ]  # fmt: skip
    assert metrics.loc[combat, "protocol"].str.contains("ComBat corrected 96 of 96 test recordings").all()
    pairs = over_subjects(read_tsv(tmp_path / "out" / "comparisons.tsv")).set_index(["method", "rival", "metric"])
    for name in ("FC + band power", "FC", "band power"):
        assert (f"linear {name}, ComBat", f"linear {name}", "auroc") in pairs.index
        assert (f"linear {name}, ComBat", "phenotype", "auroc") in pairs.index
    predictions = read_table(tmp_path / "out" / "predictions.parquet").set_index(["method", "uid"])
    a, b = (predictions.loc[f"linear FC{end}"] for end in ("", ", ComBat"))
    assert a["fold"].equals(b["fold"])
    assert not np.allclose(a["p"], b["p"])
    sites = read_tsv(tmp_path / "out" / "harmonisation.tsv")
    cohort = read_table(ready.study.cohort)
    assert set(sites["state"]) == {"fitted"}
    for modality in ("fmri", "eeg"):
        own = sites[sites["modality"] == modality]
        assert own["n_test"].sum() == cohort[f"has_{modality}"].sum()
        assert (own.groupby("fold")[["n_train", "n_test"]].sum().sum(axis=1) == cohort[f"has_{modality}"].sum()).all()
        assert set(own["site"]) == set((cohort["dataset"] + "/" + cohort["site"])[cohort[f"has_{modality}"]])


def test_left_out_sites_are_unseen_and_the_table_says_so(stored_study):
    cohort = read_table(stored_study.cohort)
    folds = frozen_folds.make_splits(cohort, SplitOptions(protocol="leave-one-site-out", n_folds=6))
    y = task_labels(cohort, TASK)
    sites = stage.harmonised_sites(cohort, folds, y)
    tested = sites["n_test"] > 0
    assert (sites.loc[tested, "state"] == "unseen").all()
    assert (sites.loc[tested, "n_train"] == 0).all()
    assert (sites.loc[~tested, "state"] == "fitted").all()
    n = cohort[["has_fmri", "has_eeg"]].to_numpy().sum()
    assert stage.combat_text(sites, stage.recordings_tested(cohort, folds, y)) == (
        f"ComBat corrected 0 of {n} test recordings; {n} are of sites unseen in training, and left as they are"
    )


def test_tests_of_repeats_are_not_called_recordings(stored_study):
    cohort = read_table(stored_study.cohort)
    folds = frozen_folds.make_splits(cohort, SplitOptions(n_folds=3, repeats=2))
    y = task_labels(cohort, TASK)
    n = int(cohort[["has_fmri", "has_eeg"]].to_numpy().sum())
    assert stage.recordings_tested(cohort, folds, y) == n
    text = stage.combat_text(stage.harmonised_sites(cohort, folds, y), n)
    assert text == f"ComBat corrected {2 * n} of {2 * n} tests of {n} recordings"


def test_the_summary_has_a_line_per_task_and_method_and_names_failures(ready, tmp_path, capsys):
    for name in ("asd", "again"):
        ready.run(tmp_path / name)
    files = [tmp_path / name / "metrics.tsv" for name in ("asd", "again")]
    out = tmp_path / "summary.tsv"
    summary.run(metrics=files, comparisons=[path.with_name("comparisons.tsv") for path in files], out=out)
    table = read_tsv(out)
    assert len(table) == 10
    assert out.with_suffix(".json").is_file()
    one = table.drop_duplicates("method").set_index("method")
    assert one.loc["mcsp", "verdict"].startswith("FAILS")
    assert one.loc["linear FC", "verdict"] == "beats phenotype"
    assert pd.isna(one.loc["phenotype", "verdict"])
    values = read_tsv(files[0]).set_index(["method", "metric"])
    assert one.loc["mcsp", "auroc"] == values.loc["mcsp", "auroc"]["value"]
    shown = capsys.readouterr().out
    assert "FAILS" in shown
    assert "beats phenotype" in shown
    assert "linear FC + band power" in shown


def test_comparisons_over_folds_stand_beside_those_over_subjects(ready, tmp_path):
    ready.run(tmp_path / "out")
    table = read_tsv(tmp_path / "out" / "comparisons.tsv")
    folds = table[table["test"] == "nadeau-bengio"]
    assert len(folds) == len(over_subjects(table))  # every pair and metric once each way
    assert (folds["df"] == 1).all()
    assert over_subjects(table)["df"].isna().all()
    means = stage.pooled(read_table(tmp_path / "out" / "predictions.parquet"))
    wide = means.pivot(index=["fold", "uid", "y"], columns="method", values="p").reset_index()
    d = [roc_auc_score(w["y"], w["mcsp"]) - roc_auc_score(w["y"], w["phenotype"]) for _, w in wide.groupby("fold")]
    row = folds[(folds["method"] == "mcsp") & (folds["rival"] == "phenotype") & (folds["metric"] == "auroc")].iloc[0]
    assert row["difference"] == pytest.approx(np.mean(d), abs=1e-5)
    error = np.sqrt((1 / 2 + 1) * np.var(d, ddof=1))  # two folds: as many tested as learnt from
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(np.mean(d)) / error, 1), rel=1e-4)


def test_validation_and_dropout_tell_of_the_right_part_of_the_right_fold(ready, tmp_path):
    ready.run(tmp_path / "out")
    folds = frozen_folds.load_splits(ready.splits)
    for name, part in (("validation", "val"), ("dropout", "test")):
        table = read_table(tmp_path / "out" / f"{name}.parquet")
        for (fold, _), own in table.groupby(["fold", "seed"]):
            assert sorted(own["uid"]) == frozen_folds.part(folds, fold, part)
        assert (table["y"] == table["uid"].map(task_labels(read_table(ready.study.cohort), TASK))).all()
    predictions = read_table(tmp_path / "out" / "predictions.parquet").query("method == 'mcsp'")
    both = predictions.merge(table, on=["fold", "seed", "uid"])
    assert (both["p_x"] - both["p_y"]).abs().max() < 0.2  # the same model, with dropout


def test_test_subjects_move_neither_validation_probabilities_nor_temperatures(ready, tmp_path):
    """Every test subject of fold 0 gets other recordings; fold 0's validation file and temperature stay, bit for bit."""
    ready.run(tmp_path / "a")
    tested = set(frozen_folds.part(frozen_folds.load_splits(ready.splits), 0, "test"))
    disturb(ready.study, tested)
    ready.run(tmp_path / "b")
    before, after = (read_table(tmp_path / side / "validation.parquet").query("fold == 0") for side in "ab")
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    first, second = (temperatures("t", table)["temperature"].tolist() for table in (before, after))
    assert first == second
    changed = [read_table(tmp_path / side / "predictions.parquet").query("method == 'mcsp' and fold == 0") for side in "ab"]
    assert not np.allclose(changed[0]["p"], changed[1]["p"])  # the disturbance was real


def test_statistics_are_written_from_what_evaluate_wrote(ready, tmp_path):
    out = tmp_path / "out"
    ready.run(out)
    for folder in ("a", "b"):
        statistics.run(
            predictions=out / "predictions.parquet", validation=out / "validation.parquet", dropout=out / "dropout.parquet",
            cohort=ready.study.cohort, task_name="asd", options=OPTIONS, out=tmp_path / folder,
        )  # fmt: skip
    names = ["calibration", "gaps", "pairs", "reliability", "selective", "subgroups", "temperatures", "uncertainty"]
    assert sorted(p.name for p in (tmp_path / "a").glob("*.tsv")) == [f"{name}.tsv" for name in names]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    tables = {name: read_tsv(tmp_path / "a" / f"{name}.tsv") for name in names}
    methods = set(read_table(out / "predictions.parquet")["method"])
    for name in ("calibration", "reliability", "selective", "subgroups"):
        assert set(tables[name]["method"]) == methods
    values = read_tsv(out / "metrics.tsv").set_index(["method", "metric"])["value"]
    own = tables["calibration"].query("state == 'as it is' and metric == 'calibration_error'").set_index("method")["value"]
    for method in methods:
        assert own[method] == pytest.approx(values[method, "calibration_error"], abs=1e-5)
    assert set(tables["selective"].query("method == 'mcsp'")["order"]) == {"probability", "entropy", "mutual information"}
    assert set(tables["uncertainty"]["n_passes"]) == {2 * OPTIONS.n_dropout}
    assert len(tables["pairs"]) == 10
