"""One shard of EEG, and the real recordings on their whole way from BIDS to the spectral store."""

import numpy as np
import pandas as pd
import pytest

from mcsp.bids.recordings import COLUMNS
from mcsp.domains import connectivity, spectra
from mcsp.eeg.stage import run
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
