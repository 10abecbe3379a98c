"""One shard of EEG, and the real recordings on their whole way from BIDS to the spectral store."""

import numpy as np
import pandas as pd
import pytest

from mcsp.bids.check import check_eeg
from mcsp.bids.recordings import COLUMNS
from mcsp.domains import connectivity, spectra
from mcsp.eeg.stage import run
from mcsp.errors import McspError
from mcsp.options.datasets import BidsDataset
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.store import Store, read_tsv, write_table
from tests.bids.small_datasets import ingest_all
from tests.eeg.test_read import write
from tests.eeg.test_segments import make_raw
from tests.eeg_bids import write_eeg_bids


def recording(folder, uid, **options):
    raw = make_raw(seed=len(uid), **options)
    path = write(raw, folder, f"{uid.replace('/', '_')}_eeg.edf")
    row = dict.fromkeys(COLUMNS, "") | {"uid": uid, "modality": "eeg", "kind": "raw", "path": str(path)}
    return row | {"t_r": np.nan, "sfreq": raw.info["sfreq"], "line_freq": 50.0, "size": 0}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bad_recording_never_stops_a_shard(tmp_path, threads):
    rows = [recording(tmp_path, "d/sub-a"), recording(tmp_path, "d/sub-bb", sfreq=500.0)]
    rows.append(recording(tmp_path, "d/sub-short", duration=8.0))
    rows.append(recording(tmp_path, "d/sub-gone") | {"path": str(tmp_path / "gone_eeg.vhdr")})
    write_table(pd.DataFrame(rows), tmp_path / "r.parquet")
    store, status = tmp_path / "s.arrow", tmp_path / "s.tsv"
    options = EegOptions(n_segments=20)
    run(
        dataset="d", recordings=tmp_path / "r.parquet", options=options, store=store, status=status,
        runs=tmp_path / "runs.tsv", threads=threads,
    )  # fmt: skip
    opened = Store(store)
    assert opened.uids == ["d/sub-a", "d/sub-bb"]
    assert opened.shape == (20, 19, 200)
    assert opened.meta["sfreq"] == 250.0
    assert np.median(np.abs(opened.row(0))) == pytest.approx(1 / 1.4826, rel=1e-3)
    lines = read_tsv(status).set_index("uid")
    assert "too short: 8 s, 16 s are needed" in lines.loc["d/sub-short", "reason"]
    assert "can't be read" in lines.loc["d/sub-gone", "reason"]
    used = read_tsv(tmp_path / "runs.tsv").set_index("uid")
    assert used["state"].tolist() == ["used", "used"]
    assert used["sfreq"].tolist() == [250, 500]  # before resampling


def test_a_channel_that_the_montage_lacks_concerns_everybody(tmp_path):
    places = {name: tmp_path / name for name in ("recordings", "store", "status", "runs")}
    write_table(pd.DataFrame([recording(tmp_path, "d/sub-a")]), places["recordings"])
    with pytest.raises(McspError, match=r"eeg\.ch_names: not in standard_1020: FP1 \(Fp1\?\)"):
        run(dataset="d", options=EegOptions(ch_names=["FP1", "Cz", "Pz", "Oz"]), threads=1, **places)
    assert not places["store"].exists()


def test_what_a_rate_can_not_hold_is_missing_and_not_zero(tmp_path):
    """Three recordings of one band up to 60 Hz, at 250, 100 and 64 Hz: the second holds nothing from 45 Hz on, which no
    spectrum and no band says otherwise; the third holds less than is compared.
    """
    rows = [recording(tmp_path, f"d/sub-{name}", sfreq=sfreq) for name, sfreq in (("a", 250.0), ("bb", 100.0), ("ccc", 64.0))]
    write_table(pd.DataFrame(rows), tmp_path / "r.parquet")
    options = EegOptions(n_segments=20, low_pass=60.0)
    named = {name: tmp_path / f"{name}.arrow" for name in ("temporal", "spectral", "spatial")}
    run(
        dataset="d", recordings=tmp_path / "r.parquet", options=options, store=named["temporal"], status=tmp_path / "s.tsv",
        runs=tmp_path / "runs.tsv", threads=1,
    )  # fmt: skip
    told = read_tsv(tmp_path / "s.tsv").set_index("uid")
    assert told.loc["d/sub-ccc", "reason"] == (
        "sampled at 64 Hz: nothing above 29 Hz was recorded, bands up to 30 Hz are compared"
    )
    checked = [check_eeg(tmp_path / f"d_sub-{name}_eeg.edf", options) for name in ("a", "bb", "ccc")]
    assert checked[0] == ([], [])
    assert checked[1][1][0].startswith("sampling rate of 100 Hz: nothing was recorded from 45 to 60 Hz (eeg.low_pass): missing")
    assert checked[2][0] == ["sampling rate of 64 Hz: nothing above 29 Hz, 30 Hz are needed"]
    series = Store(named["temporal"])
    assert dict(zip(series.uids, series.top_hz)) == {"d/sub-a": np.inf, "d/sub-bb": 45.0}
    assert np.isfinite(series.row(1)).all()
    shared = {"dataset": "d", "modality": "eeg", "temporal": named["temporal"], "status": tmp_path / "x.tsv", "threads": 1}
    spectra.run(**shared, options=SpectraOptions(), store=named["spectral"])
    bands = {"alpha": (8.0, 13.0), "low": (30.0, 45.0), "gamma": (30.0, 60.0)}
    connectivity.run(**shared, options=ConnectivityOptions(bands=bands), store=named["spatial"])
    spectral, spatial = Store(named["spectral"]), Store(named["spatial"])
    freqs = np.array(spectral.meta["freqs"])
    assert np.isfinite(spectral.row(0)).all()
    missing = np.isnan(spectral.row(1)).all(axis=(0, 1))
    np.testing.assert_array_equal(missing, freqs > 45)
    assert np.isfinite(spectral.row(1)[..., ~missing]).all()
    assert np.isnan(spatial.row(1)).all(axis=(1, 2)).tolist() == [False, False, True]
    assert np.isfinite(spatial.row(0)).all()
    assert spectral.top_hz == spatial.top_hz == series.top_hz


def test_rates_that_hold_the_whole_band_lose_nothing(tmp_path):
    """By default the band ends at 45 Hz, which 100 Hz hold: no mask, at no rate of the cohorts."""
    rows = [recording(tmp_path, "d/sub-a", sfreq=100.0), recording(tmp_path, "d/sub-bb", sfreq=1000.0)]
    write_table(pd.DataFrame(rows), tmp_path / "r.parquet")
    run(
        dataset="d", recordings=tmp_path / "r.parquet", options=EegOptions(n_segments=20), store=tmp_path / "t.arrow",
        status=tmp_path / "s.tsv", runs=tmp_path / "runs.tsv", threads=1,
    )  # fmt: skip
    assert Store(tmp_path / "t.arrow").top_hz == [np.inf, np.inf]


@pytest.fixture(scope="module")
def real_spectra(real_data, tmp_path_factory):
    """(spectral store, status of ingestion, status of the EEG stage) of the real recordings. Each lasts 60 s or more."""
    root = tmp_path_factory.mktemp("real")
    bids = write_eeg_bids(real_data / "eeg", root / "bids")
    dataset = BidsDataset(kind="bids", path=str(bids), n_shards=1, modalities=["eeg"])
    ingested = ingest_all(dataset, bids, root)
    options = EegOptions(n_segments=70)
    paths = {name: root / f"{name}.arrow" for name in ("temporal", "spatial", "spectral")}
    run(
        dataset="d", recordings=root / "ingest/d/shard-000.recordings.parquet", options=options, store=paths["temporal"],
        status=root / "eeg.tsv", runs=root / "runs.tsv", threads=1,
    )  # fmt: skip
    common = {"dataset": "d", "modality": "eeg", "temporal": paths["temporal"], "threads": 1}
    spectra.run(**common, options=SpectraOptions(), store=paths["spectral"], status=root / "x.tsv")
    connectivity.run(**common, options=ConnectivityOptions(), store=paths["spatial"], status=root / "y.tsv")
    return {name: Store(path) for name, path in paths.items()}, ingested.status, read_tsv(root / "eeg.tsv")


def test_closed_eyes_have_five_times_the_occipital_alpha(real_spectra):
    stores, _, _ = real_spectra
    store = stores["spectral"]
    freqs, names = np.array(store.meta["freqs"]), store.meta["ch_names"]
    band = (freqs >= 8) & (freqs <= 12)
    occipital = [names.index("O1"), names.index("O2")]

    def power(uid):
        return float((store.row(store.uids.index(uid))[:, occipital][..., band] ** 2).mean())

    assert power("d/sub-closed") / power("d/sub-open") >= 5


def test_the_corrupt_recording_is_named_and_the_others_stay(real_spectra):
    stores, ingest, eeg = real_spectra
    assert stores["temporal"].uids == ["d/sub-closed", "d/sub-eeglab", "d/sub-open"]
    assert (eeg["state"] == "done").all()
    reason = ingest.set_index("uid").loc["d/sub-corrupt", "reason"]
    assert "S001R01" not in reason
    assert "LF" in reason
    assert "CR LF" in reason
    for store in stores.values():
        assert all(np.isfinite(store.row(i)).all() for i in range(len(store)))
