"""Batches: the right rows, paired where pairs exist, in an order that the seed sets."""

import numpy as np
import pytest
import torch

from mcsp.cohort import store_path
from mcsp.errors import McspError
from mcsp.model.augment import Augmentation, augmented
from mcsp.model.batch import Batch
from mcsp.model.mcsp import MCSP
from mcsp.options.training import PretrainOptions
from mcsp.store import Store, read_table
from mcsp.training.data import PairedSampler, Subjects, fit_scalers, start_at_components_of, study_keys
from mcsp.training.engine import History
from mcsp.training.pretrain import Pretraining

DOMAINS = ["spatial", "temporal", "spectral"]


@pytest.fixture
def subjects(stored_study):
    cohort = read_table(stored_study.cohort)
    return Subjects(stored_study.stores, cohort, list(cohort["uid"]), study_keys(cohort, ["fmri", "eeg"], DOMAINS))


def test_batches_hold_the_stores_rows_and_zeros_where_a_modality_is_missing(subjects, stored_study):
    index = [subjects.uids.index(uid) for uid in ("both/sub-003", "mri/sub-001", "cap/sub-002")]
    batch = subjects.collate(index)
    assert batch.present["fmri"].tolist() == [True, True, False]
    assert batch.present["eeg"].tolist() == [True, False, True]
    for key, value in batch.x.items():
        store = Store(store_path(stored_study.stores, "both", *key, 0))
        np.testing.assert_array_equal(value[0].numpy(), store.row(store.uids.index("both/sub-003")))
        missing = 2 if key[0] == "fmri" else 1
        assert (value[missing] == 0).all()
    assert batch.n_valid["fmri"].tolist() == [48, 48, 0]


def test_every_subject_once_per_epoch_and_pairs_are_dense(subjects):
    sampler = PairedSampler(subjects.has, 8, seed=3)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(subjects)))
    assert len(batches) == len(sampler)
    both = subjects.has["fmri"] & subjects.has["eeg"]
    shares = [both[batch].mean() for batch in batches]
    assert set(shares) == {0.0, 1.0}


def test_batches_without_pairs_are_of_like_size_and_composition():
    kind = np.repeat([0, 1, 2], [23, 18, 16])  # fMRI alone, EEG alone, both
    batches = [kind[batch] for batch in PairedSampler({"fmri": kind != 1, "eeg": kind != 0}, 8, seed=1)]
    others = [np.bincount(batch, minlength=3) for batch in batches if 2 not in batch]
    assert sum(others).tolist() == [23, 18, 0]
    assert np.ptp(others, axis=0).max() <= 1
    assert np.ptp([count.sum() for count in others]) <= 1


def test_order_depends_on_seed_and_epoch_only(subjects):
    def draw(seed, epoch):
        sampler = PairedSampler(subjects.has, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)


def fit(subjects):
    """Standardisers fitted on the subjects."""
    sizes = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 8, "segment_features": 2, "density": 0.3, "dropout": 0.0}
    shapes = {"/".join(key): subjects.shapes[key] for key in subjects.keys}
    model = MCSP({"architecture": {**sizes, "shapes": shapes}})
    fit_scalers(model, subjects)
    return model.scalers()


def test_scalers_hold_unit_mean_and_deviation_of_the_subjects_given(subjects):
    fitted = fit(subjects)
    scaler = fitted["eeg", "spectral"]
    rows = np.stack(list(subjects.rows["eeg", "spectral"].values())).astype(float)
    logs = np.log(1 + rows / rows.mean()).reshape(-1, *rows.shape[-2:])
    assert scaler.unit.item() == pytest.approx(rows.mean(), rel=1e-5)
    np.testing.assert_allclose(scaler.mean.numpy(), logs.mean(axis=0), atol=1e-4)
    assert scaler.scale.item() == pytest.approx(np.sqrt((logs.std(axis=0) ** 2).mean()), rel=1e-4)
    assert fitted["fmri", "spatial"].unit == 1


def test_scaled_features_do_not_depend_on_units_and_keep_their_relative_spread(subjects):
    fitted = fit(subjects)
    scaler = fitted["eeg", "spectral"]
    x = torch.from_numpy(np.stack(list(subjects.rows["eeg", "spectral"].values())))
    before, spread = scaler(x), scaler.raw(x).flatten(0, 1).std(dim=0)
    torch.testing.assert_close(before.flatten(0, 1).std(dim=0) * scaler.scale, spread, rtol=1e-3, atol=1e-5)
    for uid, row in subjects.rows["eeg", "spectral"].items():
        subjects.rows["eeg", "spectral"][uid] = 7.0 * row
    torch.testing.assert_close(fit(subjects)["eeg", "spectral"](7.0 * x), before, rtol=1e-4, atol=1e-4)


def masked(subjects, uid):
    """What `uid` holds, as if its rate had been too low for the last bins and the last band."""
    for key, place in (("eeg", "spectral"), (..., slice(-5, None))), (("eeg", "spatial"), slice(-1, None)):
        row = np.array(subjects.rows[key][uid])
        row[place] = np.nan
        subjects.rows[key][uid] = row


def test_a_recording_tells_nothing_of_what_its_rate_could_not_hold(subjects):
    """Standardisers count each entry over those who have it."""
    uid = next(iter(subjects.rows["eeg", "spectral"]))
    masked(subjects, uid)
    fitted = fit(subjects)
    rows = np.stack(list(subjects.rows["eeg", "spectral"].values())).astype(float)
    logs = np.log1p(rows / np.mean([np.nanmean(row) for row in rows])).reshape(-1, *rows.shape[-2:])
    np.testing.assert_allclose(fitted["eeg", "spectral"].mean.numpy(), np.nanmean(logs, axis=0), atol=1e-4)
    assert fitted["eeg", "spectral"].scale.item() == pytest.approx(np.sqrt((np.nanstd(logs, axis=0) ** 2).mean()), rel=1e-4)
    matrices = np.stack(list(subjects.rows["eeg", "spatial"].values())).astype(float)
    np.testing.assert_allclose(fitted["eeg", "spatial"].mean.numpy(), np.nanmean(matrices, axis=0), atol=1e-5)


def test_what_no_training_subject_holds_does_not_shrink_the_scale(subjects):
    """A corpus of one low rate: the scale is that of the entries that are there."""
    for uid in list(subjects.rows["eeg", "spectral"]):
        masked(subjects, uid)
    fitted = fit(subjects)
    rows = np.stack(list(subjects.rows["eeg", "spatial"].values())).astype(float)
    assert np.isnan(rows[:, -1]).all()
    assert fitted["eeg", "spatial"].scale.item() == pytest.approx(np.sqrt(rows[:, :-1].var(axis=0).mean()), rel=1e-4)
    kept = np.stack(list(subjects.rows["eeg", "spectral"].values()))[..., :-5].astype(float)
    logs = np.log1p(kept / kept.mean()).reshape(-1, *kept.shape[-2:])
    assert fitted["eeg", "spectral"].scale.item() == pytest.approx(np.sqrt(logs.var(axis=0).mean()), rel=1e-4)
    assert (fitted["eeg", "spatial"].mean[-1] == 0).all()


def test_the_model_reads_what_is_missing_as_the_training_mean(subjects):
    """Not as zeros: a recording with the mean there gives the same embedding, one with zeros another, and views are finite."""
    sizes = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 8, "segment_features": 2, "density": 0.3, "dropout": 0.0}
    shapes = {"/".join(key): subjects.shapes[key] for key in subjects.keys}
    torch.manual_seed(0)
    model = MCSP({"architecture": {**sizes, "shapes": shapes}})
    uid = next(iter(subjects.rows["eeg", "spectral"]))
    masked(subjects, uid)
    fit_scalers(model, subjects)
    start_at_components_of(model, subjects, 0)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    batch = subjects.collate([subjects.uids.index(uid)])
    assert batch.x["eeg", "spectral"].isnan().any()
    given = batch.filled(model.centres())
    found, meant = model.embed(batch), model.embed(given)
    for key, value in found.items():
        assert value.isfinite().all()
        torch.testing.assert_close(value, meant[key])
    zeros = Batch({key: x.nan_to_num(0.0) for key, x in batch.x.items()}, batch.present, batch.n_valid)
    assert not torch.allclose(model.embed(zeros)["eeg", "spectral"], found["eeg", "spectral"], atol=1e-3)
    views = augmented(given, Augmentation(), torch.Generator().manual_seed(0), model.centres())
    assert all(x.isfinite().all() for x in views.x.values())


def test_a_step_fills_what_is_missing_once(subjects, monkeypatch):
    """Its losses are those of a batch that holds the mean there, and neither views nor forwards look again."""
    sizes = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 8, "segment_features": 2, "density": 0.3, "dropout": 0.0}
    shapes = {"/".join(key): subjects.shapes[key] for key in subjects.keys}
    torch.manual_seed(0)
    model = MCSP({"architecture": {**sizes, "shapes": shapes}})
    masked(subjects, next(iter(subjects.rows["eeg", "spectral"])))
    fit_scalers(model, subjects)
    step = Pretraining(model, PretrainOptions(), 1, History()).eval()
    batch = subjects.collate(range(8))
    meant, _ = step.losses(batch.filled(model.centres()), 0)
    calls, original = [], torch.where
    monkeypatch.setattr(torch, "where", lambda *a: calls.append(a[0].shape) or original(*a))
    found, _ = step.losses(batch, 0)
    assert len(calls) == 4  # spectra and graphs of both modalities
    assert {"id_eeg", "cd_eeg", "kd_eeg", "cf_all"} <= set(found)
    for name, value in found.items():
        assert value.isfinite()
        assert torch.equal(value, meant[name])
    assert batch.filled(model.centres()).rows(slice(2)).to("cpu").whole
    assert not batch.rows(slice(2)).whole


def test_a_subject_that_is_not_in_its_store_is_named(stored_study):
    cohort = read_table(stored_study.cohort)
    cohort.loc[0, "uid"] = "both/sub-999"
    with pytest.raises(McspError, match="both/sub-999"):
        Subjects(stored_study.stores, cohort, ["both/sub-999"], [("fmri", "spatial")])


def test_components_start_the_wide_maps_of_the_subjects_given(subjects):
    sizes = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 8, "segment_features": 2, "density": 0.3, "dropout": 0.0}
    shapes = {"/".join(key): subjects.shapes[key] for key in subjects.keys}

    def start(seed):
        torch.manual_seed(seed)
        model = MCSP({"architecture": {**sizes, "shapes": shapes}})
        fit_scalers(model, subjects)
        drawn = {name: value.clone() for name, value in model.state_dict().items()}
        start_at_components_of(model, subjects, seed)
        return model, {name for name, value in model.state_dict().items() if not torch.equal(value, drawn[name])}

    model, changed = start(0)
    places = {"fmri_spatial": "edges", "eeg_spatial": "edges", "fmri_spectral": "enter", "eeg_spectral": "enter"}
    series = {"encoders.fmri_temporal.filters.weight"} | {f"encoders.eeg_temporal.filters.{p}" for p in ("weight", "bias")}
    assert changed == series | {f"encoders.{key}.{name}.{p}" for key, name in places.items() for p in ("weight", "bias")}
    again, _ = start(0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
