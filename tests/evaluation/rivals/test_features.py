"""What rivals read of the stores."""

from __future__ import annotations

import numpy as np
from scipy.signal import welch

from mcsp.cohort import store_path
from mcsp.evaluation.rivals.features import Reduced, band_power, connectivity, edge_features, series, vectors
from mcsp.store import Store, StoreWriter, read_table


def test_edges_are_the_upper_triangle():
    fc = np.arange(16.0).reshape(4, 4)
    assert edge_features(fc).tolist() == [1, 2, 3, 6, 7, 11]


def test_band_power_agrees_with_welch():
    """Amplitudes |FFT| / n of segments; Welch with the same segments, a boxcar window and no overlap."""
    rng, sfreq, n = np.random.default_rng(0), 100.0, 200
    x = rng.normal(size=(20, 2, n))
    freqs = np.fft.rfftfreq(n, 1 / sfreq)
    own = band_power(np.abs(np.fft.rfft(x)) / n, freqs).reshape(4, 2)
    flat = x.transpose(1, 0, 2).reshape(2, -1)
    f, density = welch(flat, sfreq, "boxcar", n, 0, detrend=False)
    for row, (low, high) in enumerate([(1, 4), (4, 8), (8, 13), (13, 30)]):
        inside = (f >= low) & (f < high)
        # one-sided density doubles the power of both signs, over a bin of sfreq / n
        expected = np.log(density[:, inside].sum(axis=1) * sfreq / n / 2)
        np.testing.assert_allclose(own[row], expected, rtol=1e-6)


def test_features_are_worked_out_when_they_are_asked_for():
    calls = []

    def double(x):
        calls.append(x)
        return 2 * x

    for keep, expected in ((False, 2), (True, 1)):
        calls.clear()
        lazy = Reduced({"a": np.ones(2), "b": np.zeros(2)}, double, keep)
        assert set(lazy) == {"a", "b"}
        assert "c" not in lazy
        assert not [c for c in calls if c is None]
        calls.clear()
        assert lazy["a"].tolist() == lazy["a"].tolist() == [2, 2]
        assert len(calls) == expected


def test_rows_stay_in_their_files(stored_study):
    """Views of the memory maps can't be written to; copies could."""
    cohort = read_table(stored_study.cohort)
    for rows in (connectivity(stored_study.stores, cohort), series(stored_study.stores, cohort, "eeg")):
        assert all(not row.flags.writeable and not row.flags.owndata for row in rows.values())
    own = vectors(stored_study.stores, cohort)
    edges = stored_study.n_rois * (stored_study.n_rois - 1) // 2
    assert {v.shape for v in own["fmri"].values()} == {(edges,)}
    assert {v.shape for v in own["eeg"].values()} == {(4 * len(stored_study.ch_names),)}
    assert set(own["eeg"]) == set(cohort.loc[cohort["has_eeg"], "uid"])
    assert list(vectors(stored_study.stores, cohort[cohort["dataset"] == "mri"])) == ["fmri"]


def test_padding_is_cut_off(stored_study):
    cohort = read_table(stored_study.cohort)
    uid = {"fmri": cohort.loc[cohort["has_fmri"], "uid"].iloc[0], "eeg": cohort.loc[cohort["has_eeg"], "uid"].iloc[0]}
    for modality, n, shape in (("fmri", 30, (12, 30)), ("eeg", 7, (7, 4, 40))):
        path = store_path(stored_study.stores, uid[modality].split("/")[0], modality, "temporal", 0)
        old = Store(path)
        rows = [(u, old.row(i).copy(), n if u == uid[modality] else old.n_valid[i]) for i, u in enumerate(old.uids)]
        with StoreWriter(path, old.shape, old.meta) as writer:
            for row in rows:
                writer.add(*row)
        found = series(stored_study.stores, cohort, modality)
        assert found[uid[modality]].shape == shape
        assert sum(row.shape == shape for row in found.values()) == 1
