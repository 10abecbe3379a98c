"""Batches: the right rows, paired where pairs exist, in an order that the seed sets."""

import numpy as np
import pytest
import torch

from mcsp.cohort import store_path
from mcsp.errors import McspError
from mcsp.model.mcsp import MCSP
from mcsp.store import Store, read_table
from mcsp.training.data import PairedSampler, Subjects, fit_scalers, study_keys

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


def test_order_depends_on_seed_and_epoch_only(subjects):
    def draw(seed, epoch):
        sampler = PairedSampler(subjects.has, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)


def test_scalers_hold_mean_and_deviation_of_the_subjects_given(subjects):
    sizes = {"width": 8, "depth": 1, "heads": 2, "dim": 4, "patch": 8, "segment_features": 2, "density": 0.3, "dropout": 0.0}
    shapes = {"/".join(key): subjects.shapes[key] for key in subjects.keys}
    model = MCSP({"architecture": {**sizes, "shapes": shapes}})
    fit_scalers(model, subjects)
    scaler = model.scalers()["eeg", "spectral"]
    rows = np.stack(list(subjects.rows["eeg", "spectral"].values())).astype(float)
    logs = np.log(rows + scaler.floor).reshape(-1, *rows.shape[-2:])
    np.testing.assert_allclose(scaler.mean.numpy(), logs.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(scaler.scale.numpy(), logs.std(axis=0), rtol=1e-3)
    fc = model.scalers()["fmri", "spatial"]
    assert torch.isfinite(fc.scale).all()
    assert (fc.scale > 0).all()  # the diagonal, which never varies, divides by something


def test_a_subject_that_is_not_in_its_store_is_named(stored_study):
    cohort = read_table(stored_study.cohort)
    cohort.loc[0, "uid"] = "both/sub-999"
    with pytest.raises(McspError, match="both/sub-999"):
        Subjects(stored_study.stores, cohort, ["both/sub-999"], [("fmri", "spatial")])
