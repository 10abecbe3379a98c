"""A shard of raw BOLD: who can't be preprocessed is left out with the reason, and what is done is not done again."""

import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from mcsp.bids.recordings import bids_recordings, recordings_table
from mcsp.errors import Exclusion, McspError
from mcsp.options.datasets import BidsDataset
from mcsp.options.embedded import EmbeddedOptions
from mcsp.options.fmriprep import FmriprepOptions
from mcsp.preprocess.dry_run import show
from mcsp.preprocess.stage import embedded_subject, raw_key, run
from mcsp.store import read_json, read_table, read_tsv, write_table
from tests.preprocess.conftest import OPTIONS, raw_rows


def shard(tmp_path, rows, derivatives, options=OPTIONS):
    write_table(recordings_table(rows), tmp_path / "in.parquet")
    run(
        dataset="d", recordings=tmp_path / "in.parquet", options=options, bids_dir=tmp_path, derivatives=derivatives,
        out=tmp_path / "out.parquet", status=tmp_path / "status.tsv", note="SIMULATED DATA", mem_mb=4000, threads=1,
    )  # fmt: skip
    return read_table(tmp_path / "out.parquet"), read_tsv(tmp_path / "status.tsv")


@pytest.fixture
def copies(tmp_path, subject):
    """A place where a subject's raw files can be damaged: label -> (bold, t1w)."""

    def make(label):
        anat, func = tmp_path / f"sub-{label}" / "anat", tmp_path / f"sub-{label}" / "func"
        anat.mkdir(parents=True)
        func.mkdir()
        bold, t1w = func / f"sub-{label}_task-rest_bold.nii.gz", anat / f"sub-{label}_T1w.nii.gz"
        shutil.copy(subject.bold, bold)
        shutil.copy(subject.t1w, t1w)
        shutil.copy(str(subject.bold).replace(".nii.gz", ".json"), str(bold).replace(".nii.gz", ".json"))
        return bold, t1w

    return make


def test_bad_subjects_are_left_out_and_the_others_stay(tmp_path, subject, copies):
    derivatives = tmp_path / "derivatives"
    shutil.copytree(subject.derivatives, derivatives)
    ready = {"uid": "d/sub-ready", "modality": "fmri", "kind": "bold", "path": str(subject.bold), "t_r": 2.0}
    eeg = {"uid": "d/sub-eeg", "modality": "eeg", "kind": "eeg", "path": str(subject.bold)}
    rows = [ready, eeg, {k: subject.rows[0][k] for k in ("uid", "modality", "kind", "path", "t_r", "task", "t1w")}]
    bold, t1w = copies("noimage")
    nib.Nifti1Image(np.full((64, 64, 64), 3, np.int16), np.eye(4)).to_filename(t1w)
    rows += raw_rows("d/sub-noimage", bold, t1w)
    bold, t1w = copies("noise")
    noise = np.abs(np.random.default_rng(0).normal(size=(64, 64, 64))) * 100
    nib.Nifti1Image(noise.astype(np.int16), np.diag([3.0, 3, 3, 1])).to_filename(t1w)
    rows += raw_rows("d/sub-noise", bold, t1w)
    bold, t1w = copies("broken")
    t1w.write_bytes(t1w.read_bytes()[:20000])
    rows += raw_rows("d/sub-broken", bold, t1w)
    table, status = shard(tmp_path, rows, derivatives)
    lines = status.set_index("uid")
    assert lines["state"].to_dict() == {
        "d/sub-01": "done", "d/sub-ready": "done", "d/sub-noimage": "excluded", "d/sub-noise": "excluded",
        "d/sub-broken": "excluded",
    }  # fmt: skip
    assert "no image in it" in lines.loc["d/sub-noimage", "reason"]
    assert "sub-noise_T1w.nii.gz: does not fit the template" in lines.loc["d/sub-noise", "reason"]
    assert "copy it again" in lines.loc["d/sub-broken", "reason"]
    assert set(lines["stage"]) == {"preprocess-fmri"}
    assert set(table["kind"]) == {"bold", "eeg"}  # nothing raw is left
    own = table[table["uid"] == "d/sub-01"].iloc[0]
    assert all(Path(own[key]).is_file() for key in ("path", "mask", "confounds"))
    assert "Left out: sub-broken_T1w.nii.gz" in (derivatives / "sub-broken.html").read_text()  # a page also when it failed


def test_a_cut_run_is_named_and_leaves_no_scraps(tmp_path, subject, copies):
    bold, t1w = copies("cut")
    bold.write_bytes(gzip.compress(gzip.decompress(bold.read_bytes())[:3_000_000], 1))
    _, status = shard(tmp_path, raw_rows("d/sub-cut", bold, t1w), tmp_path / "derivatives")
    assert "cut off or damaged" in status["reason"][0]
    assert not list((tmp_path / "derivatives" / "sub-cut").glob(".part-*"))


def test_intermediate_files_lie_where_the_job_says(tmp_path, subject, monkeypatch):
    """Variables are the job's; one that is not set is no directory's name."""
    seen = []

    def anatomy(t1w, out, options, scratch):
        seen.append((scratch.parent, tempfile.gettempdir() == str(scratch)))
        raise Exclusion("enough")

    monkeypatch.setattr("mcsp.preprocess.stage.run_anatomy", anatomy)
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "node"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for place in (None, "$NODE_DISK/mine", "~/mine", "$NO_SUCH_THING/mine"):
        options = OPTIONS.model_copy(update={"work_dir": place})
        with pytest.raises(McspError if "NO_SUCH" in str(place) else Exclusion, match=r"enough|\$NO_SUCH_THING/mine: not set"):
            embedded_subject(subject.rows, derivatives=tmp_path / "derivatives", options=options, note=None)
    assert seen == [(tmp_path / "derivatives/sub-01", True), (tmp_path / "node/mine", True), (tmp_path / "home/mine", True)]
    assert not list(tmp_path.rglob(".part-*"))


def test_what_is_done_is_not_done_again_and_what_changed_is(subject):
    stamp = subject.derivatives / "stamps" / "sub-01.json"
    before = os.stat(subject.record["rows"][0]["path"]).st_mtime_ns
    again = embedded_subject(subject.rows, derivatives=subject.derivatives, options=OPTIONS, note=None)
    assert again == read_json(stamp)
    assert os.stat(subject.record["rows"][0]["path"]).st_mtime_ns == before
    key = raw_key(subject.rows, OPTIONS)
    assert key == read_json(stamp)["key"]
    assert raw_key(subject.rows, OPTIONS.model_copy(update={"voxel_size": 3.0})) != key
    assert raw_key(subject.rows, OPTIONS.model_copy(update={"work_dir": "/elsewhere"})) == key
    assert raw_key([{**subject.rows[0], "t_r": 2.5}], OPTIONS) != key
    assert raw_key([{**subject.rows[0], "fingerprint": "x"}], OPTIONS) != key


def test_a_shard_without_raw_bold_changes_nothing(tmp_path, subject):
    row = {"uid": "d/sub-1", "modality": "fmri", "kind": "bold", "path": str(subject.bold), "t_r": 2.0, "task": "rest"}
    table, status = shard(tmp_path, [row], tmp_path / "derivatives")
    pd.testing.assert_frame_equal(table, read_table(tmp_path / "in.parquet"))
    assert status["state"].tolist() == ["done"]
    assert not (tmp_path / "derivatives").exists()


def test_ingestion_pairs_raw_bold_with_the_t1w_of_its_session(tmp_path, subject):
    for session in ("1", "2"):
        for kind, name in (("anat", "T1w"), ("func", "task-rest_bold")):
            folder = tmp_path / "sub-9" / f"ses-{session}" / kind
            folder.mkdir(parents=True)
            source = subject.t1w if kind == "anat" else subject.bold
            if not (kind == "anat" and session == "2"):
                shutil.copy(source, folder / f"sub-9_ses-{session}_{name}.nii.gz")
    dataset = BidsDataset(kind="bids", path=str(tmp_path))
    found, unusable = bids_recordings({"9": "d/sub-9"}, dataset, tmp_path, raw_too=True)
    assert [row["kind"] for row in found] == ["raw", "raw"]
    assert {Path(row["t1w"]).name for row in found} == {"sub-9_ses-1_T1w.nii.gz"}  # session 2 has none: the first
    assert unusable == []
    (tmp_path / "sub-9/ses-1/anat/sub-9_ses-1_T1w.nii.gz").unlink()
    found, unusable = bids_recordings({"9": "d/sub-9"}, dataset, tmp_path, raw_too=True)
    assert found == []
    assert "raw BOLD without a T1w" in unusable[0][2]


def test_dry_run_names_every_subject_and_runs_nothing(tmp_path, subject):
    dataset = BidsDataset(kind="bids", path=str(subject.raw))
    (tmp_path / "license.txt").write_text("x")
    options = FmriprepOptions(container="apptainer", fs_license=str(tmp_path / "license.txt"))
    text = show("fmriprep", options, {"d": (dataset, subject.raw, tmp_path / "out")})
    assert "# d: 1 of 1 subjects have raw BOLD only" in text
    assert "--participant-label 01" in text
    assert not (tmp_path / "out").exists()
    assert str(subject.bold) in show("embedded", options, {"d": (dataset, subject.raw, tmp_path / "out")})
    with pytest.raises(McspError, match="preprocess: none"):
        show("none", options, {})


def test_fmriprep_without_an_engine_stops_the_study(tmp_path, subject, monkeypatch):
    """A machine without the engine is no reason to exclude anybody."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "license.txt").write_text("x")
    options = FmriprepOptions(container="apptainer", fs_license=str(tmp_path / "license.txt"))
    with pytest.raises(McspError, match="apptainer"):
        shard(tmp_path, subject.rows, tmp_path / "derivatives", options)


def test_real_raw_recording(real_data, tmp_path):
    """A real head, 2 mm T1w and 20 frames of 5 mm: the brain fits the template and hardly moves."""
    root = real_data / "pumi_minitest"
    uid_of = {"001": "d/sub-001"}
    found, _ = bids_recordings(uid_of, BidsDataset(kind="bids", path=str(root)), root, raw_too=True)
    table, status = shard(tmp_path, found, tmp_path / "der", EmbeddedOptions(registration="quick", voxel_size=4.0))
    assert status["state"].tolist() == ["done"]
    image, mask = nib.load(table["path"][0]), nib.load(table["mask"][0])
    volume = float((mask.get_fdata() > 0).sum() * np.prod(mask.header.get_zooms()[:3]) / 1000)
    assert 1400 < volume < 1950  # of the template's brain, in ml, as far as it was recorded
    assert image.shape[3] == 20
    assert image.header.get_zooms()[3] == pytest.approx(2.52)
    confounds = pd.read_csv(table["confounds"][0], sep="\t", na_values=["n/a"])
    assert 0.02 < confounds["framewise_displacement"].mean() < 0.5
    mean, grey = image.get_fdata().mean(axis=3), mask.get_fdata() > 0
    assert (mean[grey] > 0.3 * np.median(mean[grey])).mean() > 0.85  # the mask holds brain, not air
    sidecar = json.loads(Path(table["path"][0].replace(".nii.gz", ".json")).read_text())
    assert sidecar["SliceTimingCorrected"] is True
