"""A study of new data has the model's options, and may not contradict them."""

import json

import pytest

from mcsp.errors import McspError
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.predict.adopt import adopted, model_folders
from mcsp.study import default_config, load_study, parse_study, read_yaml
from mcsp.workflow import Plan, load_plan, overlay
from tests.conftest import PROJECT


@pytest.fixture
def study(trained, tmp_path):
    """A study of new data, laid over the defaults as Snakemake does it."""
    (tmp_path / "defaults.yaml").write_text(default_config())
    (tmp_path / "data").mkdir()

    def make(**more):
        own = {
            "study": "new",
            "datasets": {"lab": {"kind": "bids", "path": str(tmp_path / "data")}},
            "predict": {"model": str(trained.classifiers)},
        }
        return overlay(read_yaml(tmp_path / "defaults.yaml"), overlay(own, more))

    return make


def test_options_are_the_models(study):
    found = parse_study(adopted(study(), "new.yaml"), "new.yaml")
    assert (found.fmri.n_frames, found.fmri.min_frames) == (48, 20)
    assert (found.eeg.sfreq, found.eeg.n_segments) == (50, 10)
    assert found.eeg.ch_names == ["Fz", "Cz", "Pz", "Oz"]
    assert found.atlas.name == "dosenbach160"
    assert found.pretrain.model.modalities == ["fmri", "eeg"]
    assert not found.tasks


def test_limits_of_quality_are_the_studys_where_it_sets_them(study):
    found = parse_study(adopted(study(fmri={"max_mean_fd": 1.0}, eeg={"short": "overlap"}), "new.yaml"), "new.yaml")
    assert found.fmri.max_mean_fd == 1.0
    assert found.eeg.short == "overlap"
    assert found.fmri.n_frames == 48


def test_contradictions_are_a_line_each(study):
    with pytest.raises(McspError) as caught:
        adopted(study(fmri={"n_frames": 99}, eeg={"ch_names": ["Fz", "Cz", "Pz", "Fp1"]}), "new.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith('new.yaml: eeg.ch_names = ["Fz", "Cz", "Pz", "Fp1"], but the model was trained with ["Fz", "Cz"')
    assert lines[1] == "new.yaml: fmri.n_frames = 99, but the model was trained with 48: leave it out"


def test_an_atlas_of_a_file_must_be_given(study, trained, tmp_path):
    config = json.loads((trained.classifiers / "fold-0_seed-0/config.json").read_text())
    config["about"]["atlas"] |= {"name": "mine", "own": True}
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    with pytest.raises(McspError, match=r"new\.yaml: atlas: the model's own \(mine\) came from a file: give"):
        adopted(study(predict={"model": str(tmp_path / "model")}), "new.yaml")
    given = study(predict={"model": str(tmp_path / "model")}, atlas={"name": "mine", "image": "/a.nii.gz"})
    assert adopted(given, "new.yaml")["atlas"]["image"] == "/a.nii.gz"


def test_a_wrong_key_is_still_told(study):
    with pytest.raises(McspError, match=r"new\.yaml: fmri\.n_frame is not an option: did you mean n_frames\?"):
        parse_study(adopted(study(fmri={"n_frame": 99}), "new.yaml"), "new.yaml")


def test_no_model_there_is_one_line(study, tmp_path):
    with pytest.raises(McspError, match=r"predict\.model = .*data: no model there"):
        adopted(study(predict={"model": str(tmp_path / "data")}), "new.yaml")


def test_a_study_trains_or_applies(study):
    with pytest.raises(McspError, match=r"new\.yaml: predict\.model applies a trained model, tasks train new ones"):
        parse_study(adopted(study(tasks={"asd": {"case": ["ASD"]}}), "new.yaml"), "new.yaml")


def test_without_a_model_nothing_is_touched():
    values = {"study": "x", "fmri": {"n_frames": 7}}
    assert adopted(values, "x.yaml") == values


def test_the_plan_reads_the_models(study, trained, tmp_path):
    (tmp_path / "new.yaml").write_text(json.dumps({k: study()[k] for k in ("study", "datasets", "predict")}))
    plan = load_plan(tmp_path / "new.yaml", tmp_path)
    assert plan.applied() == [trained.classifiers / "fold-0_seed-0"] == model_folders(trained.classifiers)
    assert model_folders(trained.pretrained) == [trained.pretrained]
    assert json.loads(plan.options("fmri"))["n_frames"] == 48
    with pytest.raises(McspError, match=r"predict\.model is not set: name a trained model"):
        Plan(load_study(PROJECT / "config/studies/demo.yaml")).applied()


def test_options_that_are_free_exist():
    from mcsp.predict.adopt import FREE

    assert FREE["fmri"] <= set(FmriOptions.model_fields)
    assert FREE["eeg"] <= set(EegOptions.model_fields)
