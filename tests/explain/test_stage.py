"""The whole stage on a small stored study: a trained model is explained, and verdicts can't be had for free."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mcsp.cohort import task_labels
from mcsp.errors import McspError
from mcsp.evaluation.splits import load_splits, part
from mcsp.evaluation.splits import run as write_splits
from mcsp.explain.stage import (
    Part,
    by_subject,
    explain_model,
    map_rows,
    run,
    stabilities,
    training_reference,
    truth_row,
    verdict_rows,
)
from mcsp.options.results import ExplainOptions
from mcsp.options.tasks import Task
from mcsp.options.training import FinetuneOptions, ModelOptions, PretrainOptions, SplitOptions
from mcsp.store import read_table, read_tsv
from mcsp.training import finetune, pretrain
from mcsp.training.data import Subjects
from tests.conftest import StoredStudy, lose_region, write_stored_study

TASK = Task(case=["ASD"], control=["control"])
OPTIONS = ExplainOptions(n_steps=8, n_samples=4, max_subjects=20, n_permutations=200)
MODEL = ModelOptions(
    width=8, depth=1, heads=2, dim=8, patch=12, segment_features=2, dropout=0.0, domains=["spatial", "temporal"]
)
KEY = ("fmri", "spatial")


def train_classifier(study: StoredStudy, splits: Path, fold: int, folder: Path) -> None:
    """A classifier, trained as the workflow trains it, without pre-training."""
    common = {"stores": study.stores, "cohort": study.cohort, "splits": splits, "fold": fold, "threads": 1}
    start, histories = folder.with_name(f"start-{fold}"), folder.parent / "histories"
    pretrain.run(**common, options=PretrainOptions(epochs=0, model=MODEL), out=start, history=histories / f"start-{fold}.tsv")
    options = FinetuneOptions(epochs=20, hidden=8, dropout=0.0)
    head = {"seed": 0, "task": TASK, "pretrained": start, "options": options}
    finetune.run(**common, **head, out=folder, history=histories / f"fold-{fold}.tsv")


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """(study, splits, model folders, truth, arguments of `run`)."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("study")
    study = write_stored_study(root, effect=2.0)
    splits = root / "splits.tsv"
    write_splits(cohort=study.cohort, options=SplitOptions(n_folds=2), out=splits)
    models = [root / f"fold-{k}_seed-0" for k in range(2)]
    for k, folder in enumerate(models):
        train_classifier(study, splits, k, folder)
    truth = root / "truth.json"
    nothing = {"channels": {}, "bands": [], "freqs": [], "disorder": "ASD"}
    edge = {**nothing, "kind": "edge", "networks": ["visual", "default"], "rois": [0, 1], "edges": [[0, 1]]}
    band = {**nothing, "kind": "band", "rois": [], "edges": [], "bands": ["alpha"], "channels": {"Pz": 1.0}}
    truth.write_text(json.dumps({"rois": [f"roi{i}" for i in range(study.n_rois)], "effects": [edge, band]}))
    arguments = {
        "stores": study.stores,
        "cohort": study.cohort,
        "splits": splits,
        "task_name": "asd",
        "task": TASK,
        "models": models,
        "options": OPTIONS,
        "threads": 1,
    }
    return study, truth, arguments


def outputs(folder: Path) -> dict[str, Path]:
    return {
        name: folder / f"{name}.{'parquet' if name == 'attributions' else 'tsv'}"
        for name in ("attributions", "maps", "verdicts")
    }


def test_a_region_that_is_lost_has_no_relevance_of_its_own(explained, tmp_path):
    study, _, arguments = explained
    shutil.copytree(study.stores, tmp_path / "store")
    tested = part(load_splits(arguments["splits"]), 0, "test")
    lost = {uid for uid in tested if uid.startswith("mri/")}
    lose_region(tmp_path / "store", lost, 5)
    out = outputs(tmp_path)
    run(**{**arguments, "stores": tmp_path / "store"}, truth=[], **out)
    people = read_table(out["attributions"])
    assert np.isfinite(people["value"]).all()
    own = people[(people["domain"] == "spatial") & (people["kind"] == "roi") & (people["name"] == "roi5")]
    hit = own["uid"].isin(lost) & (own["method"] == "integrated_gradients")
    assert hit.any()
    assert own.loc[hit, "value"].abs().max() < 1e-6
    assert np.isfinite(read_tsv(out["maps"])["mean"]).all()


def test_the_planted_edge_is_found_by_a_trained_model(explained, tmp_path):
    _, truth, arguments = explained
    out = outputs(tmp_path)
    run(**arguments, truth=[truth], **out)
    verdicts = read_tsv(out["verdicts"])
    own = verdicts[(verdicts["domain"] == "spatial") & (verdicts["unit"] == "edge") & (verdicts["score"] == "relevance mass")]
    assert set(own["method"]) == {"integrated_gradients", "smoothgrad"}
    assert (own["verdict"] == "pass").all()
    assert (own["low"] > own["chance"]).all()
    maps = read_tsv(out["maps"])
    edges = maps[(maps["kind"] == "edge") & (maps["method"] == "integrated_gradients")]
    assert len(edges) == 12 * 11 / 2  # the whole map
    assert edges.loc[edges["mean"].idxmax(), "name"] == "roi0|roi1"
    assert (edges["low"] <= edges["mean"]).all()
    assert (edges["mean"] <= edges["high"]).all()
    people = read_table(out["attributions"])
    assert set(people["kind"]) == {"roi", "network", "channel", "band", "channel_band"}  # edges would be too many
    per_subject = people.groupby(["uid", "method", "domain", "kind"])["value"].sum()
    np.testing.assert_allclose(per_subject, 1)
    splits = load_splits(arguments["splits"])
    tested = {(fold, uid) for fold in (0, 1) for uid in part(splits, fold, "test")}
    assert set(zip(people["fold"], people["uid"])) <= tested


def test_the_same_run_writes_the_same_bytes_and_no_truth_is_said_so(explained, tmp_path):
    _, _, arguments = explained
    first, second = outputs(tmp_path / "a"), outputs(tmp_path / "b")
    for out in (first, second):
        run(**arguments, truth=[], **out)
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes()
    verdicts = read_tsv(first["verdicts"])
    unproven = verdicts[verdicts["score"] == "planted truth"]
    assert (unproven["verdict"] == "no truth").all()
    assert unproven["value"].isna().all()
    assert not verdicts["score"].str.startswith("relevance").any()


def test_models_of_other_folds_are_refused(explained, tmp_path):
    study, _, arguments = explained
    other = tmp_path / "other.tsv"
    write_splits(cohort=study.cohort, options=SplitOptions(n_folds=2, seed=3), out=other)
    with pytest.raises(McspError, match="trained for other folds"):
        run(**{**arguments, "splits": other}, truth=[], **outputs(tmp_path))
    assert not outputs(tmp_path)["maps"].exists()


def test_changing_test_subjects_leaves_the_reference_alone(explained):
    """What inputs are compared with comes from training subjects only: numpy over their rows gives the same."""
    study, _, arguments = explained
    table, splits = read_table(study.cohort), load_splits(arguments["splits"])
    train = part(splits, 0, "train")
    reference = training_reference(study.stores, table, train, [KEY])
    subjects = Subjects(study.stores, table, train, [KEY])
    rows = np.array([subjects.rows[KEY][uid] for uid in subjects.uids if uid in subjects.rows[KEY]], np.float64)
    np.testing.assert_allclose(reference.mean[KEY].numpy(), rows.mean(0), atol=1e-6)
    assert reference.spread[KEY] == pytest.approx(rows.std(), rel=1e-5)


def test_the_reference_of_a_fold_sees_its_training_subjects_only(explained, tmp_path, monkeypatch):
    seen = []

    def watched(stores, cohort, uids, keys):
        seen.append(set(uids))
        return training_reference(stores, cohort, uids, keys)

    monkeypatch.setattr("mcsp.explain.stage.training_reference", watched)
    _, _, arguments = explained
    run(**arguments, truth=[], **outputs(tmp_path))
    splits = load_splits(arguments["splits"])
    assert seen == [set(part(splits, fold, "train")) for fold in (0, 1)]


def test_a_fold_explains_its_test_subjects_only_and_at_most_so_many(explained):
    study, _, arguments = explained
    table, splits = read_table(study.cohort), load_splits(arguments["splits"])
    y = task_labels(table, TASK)
    metas = {
        KEY: {"names": [f"roi{i}" for i in range(12)], "networks": ["n"] * 12},
        ("fmri", "temporal"): {"names": [f"roi{i}" for i in range(12)], "networks": ["n"] * 12},
        ("eeg", "spatial"): {"ch_names": list(study.ch_names), "bands": ["delta", "theta", "alpha", "beta"]},
        ("eeg", "temporal"): {"ch_names": list(study.ch_names)},
    }
    options = ExplainOptions(methods=["smoothgrad"], n_samples=1, max_subjects=7)
    parts, resets = explain_model(arguments["models"][0], study.stores, table, splits, y, metas, options)
    assert len({p.uid for p in parts}) == 7
    assert {p.uid for p in parts} <= set(part(splits, 0, "test"))
    assert {p.uid for p in resets} <= {p.uid for p in parts}


def made_up(shares: np.ndarray, seed: int = 0) -> list[Part]:
    return [Part(f"s{i}", 0, seed, "smoothgrad", KEY, {"roi": row}) for i, row in enumerate(shares)]


def test_relevance_that_reset_weights_have_too_does_not_pass():
    """Far above chance, but so is the model that learned nothing: it is the inputs that speak."""
    shares = np.random.default_rng(0).dirichlet([30, 1, 1, 1], size=20)
    mask = np.array([True, False, False, False])
    same = truth_row(made_up(shares), made_up(shares), "roi", mask, "relevance mass", 0)
    assert same["low"] > same["chance"]
    assert same["verdict"] == "fail"
    even = truth_row(made_up(shares), made_up(np.full((20, 4), 0.25)), "roi", mask, "relevance mass", 0)
    assert even["verdict"] == "pass"
    assert even["reset"] == 0.25
    mostly = 0.9 * shares + 0.1 * np.full(4, 0.25)  # reset weights have nine tenths of it
    assert truth_row(made_up(shares), made_up(mostly), "roi", mask, "relevance mass", 0)["verdict"] == "fail"
    few = truth_row(made_up(shares[:4]), made_up(np.full((4, 4), 0.25)), "roi", mask, "relevance mass", 0)
    assert few["verdict"] == "fail"


def test_stability_tells_folds_from_seeds():
    """Two folds that agree on nothing, whose seeds agree: a new seed changes little, new people everything."""
    up, down = np.arange(8) / 28, np.arange(8)[::-1] / 28
    found = stabilities({(fold, seed): (up, down)[fold] for fold in range(2) for seed in range(3)}, 2)
    assert found["stability_seeds"] == pytest.approx(1)
    assert found["stability_folds"] == pytest.approx(-1)
    assert found["stability"] == pytest.approx((6 - 9) / 15)
    assert found["top_folds"].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0.5, 0.5]
    np.testing.assert_array_equal(found["top_share"], found["top_folds"])
    by_seed = stabilities({(fold, seed): (up, down)[seed] for fold in range(2) for seed in range(2)}, 2)
    assert by_seed["stability_seeds"] == pytest.approx(-1)
    assert by_seed["stability_folds"] == pytest.approx(1)
    assert by_seed["top_seeds"].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0.5, 0.5]


def test_seeds_of_one_subject_are_not_more_subjects():
    shares = np.random.default_rng(0).dirichlet(np.ones(4), size=8)
    once, thrice = made_up(shares), [p for seed in range(3) for p in made_up(shares, seed)]
    meta = {"names": list("abcd"), "networks": ["n"] * 4}
    even = made_up(np.full((8, 4), 0.25))
    mine = [map_rows(parts, even, meta, OPTIONS) for parts in (once, thrice)]
    assert (mine[1]["n"] == 8).all()
    apart = ["stability", "stability_seeds", "top_seeds"]
    assert mine[1][["stability_folds", "top_folds"]].isna().all(axis=None)  # one fold
    pd.testing.assert_frame_equal(mine[0].drop(columns=apart), mine[1].drop(columns=apart))
    assert mine[0][apart].isna().all(axis=None)
    np.testing.assert_allclose(mine[1][["stability", "stability_seeds"]], 1)
    assert by_subject(thrice, lambda p: p.summary["roi"]).keys() == {p.uid for p in once}


def test_a_map_that_reset_weights_give_too_fails_the_sanity_check():
    shares = np.random.default_rng(0).dirichlet(np.ones(6), size=8)
    meta = {"names": list("abcdef"), "networks": ["n"] * 6}
    same = verdict_rows(made_up(shares), made_up(shares), [], meta, 0).iloc[-1]
    assert (same["score"], same["verdict"]) == ("reset similarity", "fail")
    assert same["value"] == pytest.approx(1)
    order = np.argsort(np.argsort(-shares.mean(0)))
    other = verdict_rows(made_up(shares), made_up(np.tile(order / order.sum(), (8, 1))), [], meta, 0).iloc[-1]
    assert other["value"] == pytest.approx(-1)
    assert other["verdict"] == "pass"
