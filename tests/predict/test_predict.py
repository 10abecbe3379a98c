"""A trained model applied: its own probabilities, nobody seen is predicted in silence, what it can't read is refused."""

import copy
import json

import numpy as np
import pandas as pd
import pytest

from mcsp.errors import McspError
from mcsp.evaluation.splits import load_splits, part
from mcsp.model.mcsp import MCSP, Classifier
from mcsp.predict import stage
from mcsp.store import Store, read_json, read_table, read_tsv, write_table
from mcsp.training.record import seen_hash


def apply(trained, out, cohort=None, models=None):
    stage.run(
        stores=trained.study.stores, cohort=cohort or trained.study.cohort,
        models=models or [trained.classifiers / "fold-0_seed-0"], out=out / "predictions.tsv",
        embeddings=out / "embeddings.parquet", threads=1,
    )  # fmt: skip
    return read_tsv(out / "predictions.tsv").set_index("uid"), read_table(out / "embeddings.parquet")


@pytest.fixture(scope="module")
def applied(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("applied")
    return (*apply(trained, out), out)


def test_everybody_gets_the_classifiers_own_probability(trained, applied):
    found, _, out = applied
    assert set(found.index) == set(read_table(trained.study.cohort)["uid"])
    model = Classifier.from_pretrained(trained.classifiers / "fold-0_seed-0")
    store = {d: Store(trained.study.stores / f"mri/fmri/{d}/shard-000.arrow") for d in ("temporal", "spatial", "spectral")}
    given = {d: np.stack([s.row(i) for i in range(len(s))]) for d, s in store.items()}
    p = model.predict_proba(fmri=given, n_valid=store["temporal"].n_valid)
    np.testing.assert_allclose(found.loc[store["temporal"].uids, "p"], p, atol=1e-4)
    assert found["p_sd"].isna().all()  # one model
    assert found.loc["cap/sub-000", "modalities"] == "eeg"
    assert found.loc["both/sub-000", "modalities"] == "fmri+eeg"
    record = read_json(out / "predictions.json")["Models"]
    assert record["task"]["case"] == ["ASD"]
    assert record["weights_sha256"] == {"fold-0_seed-0": model.config["weights_sha256"]}
    np.testing.assert_allclose(read_table(out / "predictions.parquet")["p"], found["p"], rtol=1e-5)


def test_subjects_of_the_training_are_named(trained, applied):
    found, _, _ = applied
    splits = load_splits(trained.splits)
    unseen = part(splits, 0, "test")
    assert (found.loc[unseen, "n_seen"] == 0).all()
    assert not found.loc[unseen, "warnings"].str.contains("training data of").any()
    seen = part(splits, 0, "train", "val")
    assert (found.loc[seen, "n_seen"] == 1).all()
    assert found.loc[seen, "warnings"].str.contains("in the training data of 1 of 1 models").all()
    assert found["warnings"].str.contains("simulated data").all()


def test_the_configuration_holds_no_names(trained):
    text = (trained.classifiers / "fold-0_seed-0/config.json").read_text()
    assert "sub-0" not in text
    config = json.loads(text)
    uids = part(load_splits(trained.splits), 0, "train", "val")
    assert {seen_hash(config["splits"]["sha256"], uid) for uid in uids} <= set(config["seen"])
    assert config["data"]["fmri"]["names"] == [f"roi{i}" for i in range(12)]
    assert config["data"]["eeg"]["ch_names"] == ["Fz", "Cz", "Pz", "Oz"]
    assert config["ranges"]["t_r"] == [2.0, 2.5]
    assert config["about"]["datasets"]["mri"]["licence"] == "terms of mri"


def test_a_recording_is_known_under_another_name(trained):
    cohort = read_table(trained.study.cohort)
    config = read_json(trained.classifiers / "fold-0_seed-0/config.json")
    uid = part(load_splits(trained.splits), 0, "train")[0]
    row = cohort[cohort["uid"] == uid].assign(uid="other/sub-x", dataset="other")
    table = stage.predictions_table(row, [config], [{"other/sub-x": 0.7}])
    assert table["n_seen"].tolist() == [1]
    assert table["p"].tolist() == [0.7]
    fresh = stage.predictions_table(row.assign(fingerprints="never seen"), [config], [{"other/sub-x": 0.7}])
    assert fresh["n_seen"].tolist() == [0]


def test_several_models_are_averaged():
    config = {"kind": "Classifier", "splits": {"sha256": "a"}, "seen": [], "ranges": {}, "data": {"fmri": {}}}
    cohort = pd.DataFrame([{"uid": "d/sub-1", "dataset": "d", "site": "s", "has_fmri": True, "has_eeg": False}])
    row = stage.predictions_table(cohort, [config] * 3, [{"d/sub-1": p} for p in (0.2, 0.4, 0.9)]).iloc[0]
    assert row["p"] == pytest.approx(0.5)
    assert row["p_sd"] == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert row["n_models"] == 3
    alone = stage.predictions_table(cohort.assign(has_fmri=False, has_eeg=True), [config], [{}]).iloc[0]
    assert np.isnan(alone["p"])
    assert "has no modality that the model reads" in alone["warnings"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"t_r": 0.8}, "repetition time 0.8 s, in training 2 to 2.5 s"),
        ({"t_r": 2.51}, None),
        ({"sfreq": 500.0}, "sampling rate 500 Hz, in training 250 Hz"),
        ({"gap_mm": 60.0}, "a channel's distance to the nearest good electrode 60 mm, in training at most 20 mm"),
        ({"gap_mm": 0.0}, None),
        ({"age": 70.0}, "age 70 years, in training 8 to 40 years"),
        ({"t_r": np.nan, "age": None}, None),
    ],
)
def test_what_lies_outside_is_said(row, text):
    ranges = {"t_r": (2.0, 2.5), "sfreq": (250.0, 250.0), "gap_mm": (5.0, 20.0), "age": (8.0, 40.0)}
    assert stage.outside(row, ranges, ["fmri", "eeg"]) == ([text] if text else [])
    assert stage.outside(row, ranges, []) == ([text] if text and "age" in row else [])  # no recording of it is used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["data"]["fmri"]["names"].reverse(), "fmri: names is roi0, roi1, .* here, roi11"),
        (lambda c: c["data"]["fmri"]["coordinates"][3].__setitem__(0, 99.0), "fmri: coordinates"),
        (lambda c: c["data"]["eeg"].update(sfreq=250.0), "eeg: sfreq is 50.0 here, 250.0 in the model's training"),
        (lambda c: c["data"]["fmri"]["options"]["fmri"].update(low_pass=0.08), "fmri.low_pass is 0.1 here, 0.08"),
        (lambda c: c["data"]["fmri"]["options"]["fmri"].update(max_mean_fd=9.0), None),
    ],
)
def test_other_inputs_are_refused(trained, change, message):
    config = copy.deepcopy(read_json(trained.classifiers / "fold-0_seed-0/config.json"))
    change(config)
    cohort = read_table(trained.study.cohort)
    if message is None:
        return stage.check_inputs(trained.study.stores, cohort, config)
    with pytest.raises(McspError, match=message):
        stage.check_inputs(trained.study.stores, cohort, config)


def test_pretrained_models_only_embed(trained, tmp_path):
    cohort = read_table(trained.study.cohort)
    write_table(cohort[cohort["dataset"] == "cap"], tmp_path / "c.parquet")  # nobody has fMRI
    found, embeddings = apply(trained, tmp_path, tmp_path / "c.parquet", [trained.pretrained])
    assert found["p"].isna().all()
    assert len(found) == 16
    assert set(embeddings["modality"]) == {"eeg"}
    assert len(embeddings) == 16 * 3
    store = Store(trained.study.stores / "cap/eeg/spatial/shard-000.arrow")
    one = embeddings[(embeddings["domain"] == "spatial") & (embeddings["uid"] == store.uids[4])]["embedding"].iloc[0]
    model = MCSP.from_pretrained(trained.pretrained)
    given = {
        d: Store(trained.study.stores / f"cap/eeg/{d}/shard-000.arrow").row(4)[None]
        for d in ("temporal", "spatial", "spectral")
    }
    np.testing.assert_allclose(model.embed(eeg=given)["eeg", "spatial"][0], one, atol=1e-5)


def test_models_of_two_tasks_are_refused(trained):
    config = read_json(trained.classifiers / "fold-0_seed-0/config.json")
    with pytest.raises(McspError, match="models that differ in task lie there"):
        stage.check_alike([config, {**config, "task": {}}])
