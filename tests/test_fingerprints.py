"""Recordings that are not the ones that were ingested are found before they are read."""

from types import SimpleNamespace

import pytest

from mcsp.eeg.stage import recording_segments
from mcsp.errors import McspError
from mcsp.fingerprints import check_unchanged, fingerprint
from mcsp.fmri.stage import run_series
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "sub-1_eeg.edf"
    path.write_bytes(b"signal")
    return {"path": str(path), "fingerprint": fingerprint(path), "t_r": 2.0, "montage": "", "kind": "bold"}


def test_a_changed_or_lost_recording_stops_the_stage(row, tmp_path):
    check_unchanged(row)
    (tmp_path / "sub-1_eeg.edf").write_bytes(b"Signal")
    with pytest.raises(McspError, match=r"sub-1_eeg.edf: changed since it was ingested: .* --forcerun ingest_shard"):
        check_unchanged(row)
    with pytest.raises(McspError, match="changed"):
        recording_segments(row, EegOptions())
    with pytest.raises(McspError, match="changed"):
        run_series(row, SimpleNamespace(), FmriOptions())
    (tmp_path / "sub-1_eeg.edf").unlink()
    with pytest.raises(McspError, match="is gone since"):
        check_unchanged(row)
