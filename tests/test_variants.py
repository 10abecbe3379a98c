"""Variants of a study: each changes one thing, and none changes nothing."""

import json
from pathlib import Path

import pytest

from mcsp.study import Study, parse_study, read_yaml
from mcsp.variants import variants
from mcsp.workflow import Plan, overlay

PROJECT = Path(__file__).resolve().parents[1]


def study(**changes) -> Study:
    values = overlay(
        read_yaml(PROJECT / "config" / "config.yaml"), {**read_yaml(PROJECT / "tests/workflow/tiny.yaml"), "sweep": {}}
    )
    return parse_study(overlay(values, {"study": "x", **changes}))


def difference(a, b, path=""):
    """Names of the options that differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return sorted(name for key in a for name in difference(a[key], b[key], f"{path}{key}."))
    return [] if a == b else [path.rstrip(".")]


def test_tfc_is_what_its_name_says():
    """Two domains that agree with their views and with each other; it stands beside `scratch` as a rival."""
    base = study()
    found = variants(base)
    assert found["tfc"].kind == found["scratch"].kind == "pre-training"
    own = parse_study(overlay(base.model_dump(mode="json"), found["tfc"].changes)).pretrain
    assert own.model.domains == ["temporal", "spectral"]
    assert own.loss.model_dump() == {**base.pretrain.loss.model_dump(), "im": 0, "cm": 0, "cf": 0, "kd": 0}
    assert own.loss.id > 0 < own.loss.cd
    assert own.model.modalities == base.pretrain.model.modalities
    alike = {"model": {"domains": ["temporal", "spectral"]}, "loss": {"im": 0, "cm": 0, "cf": 0, "kd": 0}}
    for changes in (alike, {"model": {"domains": ["spatial", "temporal"]}}, {"epochs": 0}, {"loss": {"id": 0, "cd": 0}}):
        assert "tfc" not in variants(study(pretrain=changes))


def test_each_variant_changes_one_thing():
    whole = study(sweep={"segment_samples": [50, 100, 200, 400]})
    base = whole.model_dump(mode="json")
    found = variants(whole)
    changed = {
        name: difference(base, parse_study(overlay(base, v.changes)).model_dump(mode="json")) for name, v in found.items()
    }
    assert changed["scratch"] == ["pretrain.epochs"]
    assert changed["scope-transductive"] == ["pretrain.scope"]
    assert changed["tfc"] == [f"pretrain.{name}" for name in ("loss.cf", "loss.cm", "loss.im", "loss.kd", "model.domains")]
    assert changed["no-cm"] == ["pretrain.loss.cm"]
    assert changed["no-cf"] == ["pretrain.loss.cf"]
    assert changed["only-eeg"] == ["pretrain.model.modalities"]
    assert changed["no-spatial"] == changed["only-spatial"] == ["pretrain.model.domains"]
    assert changed["subjects-25"] == ["pretrain.subject_share"]
    assert changed["segment-50"] == ["eeg.n_segments", "eeg.segment_samples"]
    assert "segment-200" not in found  # that is the study itself
    assert all(changed.values())
    lengths = {
        v.changes["eeg"]["n_segments"] * v.changes["eeg"]["segment_samples"] for v in found.values() if "eeg" in v.changes
    }
    assert lengths == {whole.eeg.n_segments * whole.eeg.segment_samples}


def test_what_a_study_does_not_have_is_not_left_out():
    fmri_only = {"datasets": {"duo": {"modalities": ["fmri"], "defects": {"short_eeg": 0}}}}
    names = variants(study(**fmri_only))
    assert not [name for name in names if name.startswith("segment") or name in ("only-eeg", "only-fmri")]
    alone = variants(study(pretrain={"model": {"domains": ["spatial"]}}))
    assert not [name for name in alone if name.endswith("spatial")]
    assert variants(study(pretrain={"scope": "transductive"}))["scope-inductive"].changes == {
        "pretrain": {"scope": "inductive"}
    }
    untrained = variants(study(pretrain={"epochs": 0}))
    assert not [name for name in untrained if name == "scratch" or name.startswith(("no-id", "subjects", "scope"))]
    assert variants(study(sweep={
        "scratch": False, "scope": False, "tfc": False,
        "losses": False, "domains": False, "modalities": False, "corpus": False, "subject_shares": [], "segment_samples": [],
    })) == {}  # fmt: skip


def test_the_corpus_is_taken_apart_dataset_by_dataset():
    """Of two datasets, one without the other says it all; of three, each is left out and each stands alone."""
    two = {k: v for k, v in variants(study(sweep={"corpus": True})).items() if v.kind == "pre-training corpus"}
    assert {name: v.changes["pretrain"]["corpus"] for name, v in two.items()} == {
        "without-duo": ["mri"],
        "without-mri": ["duo"],
    }
    third = read_yaml(PROJECT / "tests/workflow/tiny.yaml")["datasets"]["mri"]
    three = variants(study(sweep={"corpus": True}, datasets={"more-2": third}))
    assert {"without-more-2", "from-more-2", "from-duo"} <= set(three)
    assert three["without-more-2"].changes["pretrain"]["corpus"] == ["duo", "mri"]
    assert three["from-more-2"].changes["pretrain"]["corpus"] == ["more-2"]
    assert not [v for v in variants(study(sweep={"corpus": True}, pretrain={"epochs": 0})).values() if "corpus" in v.kind]
    with pytest.raises(Exception, match=r"pretrain.corpus: elsewhere is no dataset \(there are duo, mri\)"):
        study(pretrain={"corpus": ["elsewhere", "duo"]})


def corpora(found: dict) -> dict[str, list[str]]:
    return {name: v.changes["pretrain"]["corpus"] for name, v in found.items() if v.kind == "pre-training corpus"}


def test_folds_that_leave_datasets_out_have_no_corpus_variants():
    """The fold that tests the only dataset that is left would have nobody to learn from."""
    assert corpora(variants(study(sweep={"corpus": True})))
    left_out = {"protocol": "leave-one-dataset-out", "n_folds": 2}
    assert corpora(variants(study(sweep={"corpus": True}, splits=left_out))) == {}


def test_a_dataset_that_the_model_cannot_read_is_no_corpus():
    """`mri` holds no EEG: a model of EEG has one dataset, and nothing to take apart."""
    assert corpora(variants(study(sweep={"corpus": True}, pretrain={"model": {"modalities": ["eeg"]}}))) == {}
    third = read_yaml(PROJECT / "tests/workflow/tiny.yaml")["datasets"]["duo"]
    found = variants(study(sweep={"corpus": True}, datasets={"more-2": third}, pretrain={"model": {"modalities": ["eeg"]}}))
    assert corpora(found) == {"without-duo": ["more-2"], "without-more-2": ["duo"]}


def test_only_variants_with_both_modalities_search_one_for_the_other():
    plan = Plan(study())
    assert set(plan.variants) - set(plan.searched) == {"only-fmri", "only-eeg"}
    assert json.loads(plan.searched_names()) == plan.searched
    assert Plan(study(pretrain={"model": {"modalities": ["fmri"]}})).searched == []


@pytest.mark.parametrize("sweep", [{"subject_shares": [1.0]}, {"subject_shares": [0.5, 0.5]}, {"segment_samples": [4]}])
def test_nonsense_is_refused(sweep):
    with pytest.raises(Exception, match="sweep"):
        study(sweep=sweep)


def test_a_variant_has_results_of_its_own_and_reads_the_study_s_stores():
    plan = Plan(study(sweep={"segment_samples": [100]}))
    assert plan.variant("scratch").pretrained(0) == plan.root / "sweep" / "scratch" / "pretrain" / "fold-0"
    assert plan.variant_stores("scratch") == plan.stores()
    assert all((plan.root / "sweep" / "segment-100") in path.parents for path in plan.variant_stores("segment-100"))
    assert not any("fmri" in path.parts for path in plan.variant_stores("only-eeg"))
