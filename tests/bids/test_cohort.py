"""The cohort: nobody is lost, nobody is in twice, and an empty dataset stops the run."""

import shutil

import pandas as pd
import pytest

from mcsp.bids.cohort import as_recorded
from mcsp.errors import McspError
from mcsp.options.datasets import BidsDataset, Phenotype
from mcsp.shards import Outcome, write_status
from mcsp.store import read_json, read_table
from tests.bids.small_datasets import ingest_all, make_cohort, write_bold, write_participants

LABELS = Phenotype(labels={"group": {"control": ["control"], "asd": ["ASD"]}})


def dataset(root, **options):
    return BidsDataset(kind="bids", path=str(root), derivatives=str(root), n_shards=2, **options)


@pytest.fixture
def three(tmp_path):
    """Three subjects with BOLD, one of whom has EEG too; ingested."""
    root = tmp_path / "data"
    for label in ("a", "b", "c"):
        write_bold(root, label)
    (root / "sub-a" / "eeg").mkdir()
    (root / "sub-a" / "eeg" / "sub-a_task-rest_eeg.set").write_bytes(b"not empty")
    return ingest_all(dataset(root), root, tmp_path)


def test_before_any_stage_recordings_count(three, tmp_path):
    people, exclusions = make_cohort([three], tmp_path / "out")
    assert people[["uid", "has_fmri", "has_eeg"]].values.tolist() == [
        ["d/sub-a", True, True], ["d/sub-b", True, False], ["d/sub-c", True, False],
    ]  # fmt: skip
    assert exclusions.empty
    written = pd.read_csv(tmp_path / "out" / "subjects.tsv", sep="\t")
    assert list(written["uid"]) == list(people["uid"])
    assert set(read_json(tmp_path / "out" / "subjects.json")) == set(people.columns)


def test_how_it_was_recorded_is_the_used_runs_word_else_the_recordings(three, tmp_path):
    people, _ = make_cohort([three], tmp_path / "out")
    assert people["t_r"].tolist() == [2.0, 2.0, 2.0]
    assert people["fingerprints"].str.split(";").str.len().tolist() == [2, 1, 1]
    recordings = pd.DataFrame({"uid": ["a", "a", "b"], "t_r": [2.0, 3.0, 1.0], "sfreq": None, "fingerprint": ["y", "x", "z"]})
    runs = pd.DataFrame({"uid": ["a", "a"], "state": ["excluded", "used"], "t_r": [2.0, 3.0], "gap_mm": [None, None]})
    table = as_recorded(pd.DataFrame({"uid": ["a", "b"]}), recordings, runs)
    assert table["t_r"].tolist() == [3.0, 1.0]
    assert table["fingerprints"].tolist() == ["x;y", "z"]
    assert table[["sfreq", "gap_mm"]].isna().all(axis=None)


def test_stages_decide_who_stays(three, tmp_path):
    def status(stage, states):
        path = tmp_path / "status" / f"{stage}.tsv"
        outcomes = [Outcome(uid, state, None if state == "done" else f"{stage} says no", None) for uid, state in states.items()]
        write_status(path, stage, "d", outcomes)
        return path

    later = [
        status("fmri", {"d/sub-a": "excluded", "d/sub-b": "done", "d/sub-c": "done"}),
        status("eeg", {"d/sub-a": "done"}),
        status("connectivity-fmri", {"d/sub-b": "done", "d/sub-c": "failed"}),
        status("connectivity-eeg", {"d/sub-a": "done"}),
    ]
    people, exclusions = make_cohort([three], tmp_path / "out", later)
    assert people[["uid", "has_fmri", "has_eeg"]].values.tolist() == [["d/sub-a", False, True], ["d/sub-b", True, False]]
    assert exclusions[["uid", "stage", "state", "reason"]].values.tolist() == [
        ["d/sub-a", "fmri", "excluded", "fmri says no"],  # stays, with its EEG
        ["d/sub-c", "connectivity-fmri", "failed", "connectivity-fmri says no"],
    ]
    before = [status("preprocess-fmri", {"d/sub-c": "excluded"}), status("fmri", {"d/sub-a": "done", "d/sub-b": "done"})]
    people, exclusions = make_cohort([three], tmp_path / "raw", before)  # who needed no preprocessing has no line there
    assert people["uid"].tolist() == ["d/sub-a", "d/sub-b"]
    assert exclusions["stage"].tolist() == ["preprocess-fmri"]
    left = make_cohort([three], tmp_path / "more", [later[0], later[1], status("spectra-fmri", {"d/sub-b": "done"})])
    assert left[1].set_index("uid").loc["d/sub-c", "reason"].startswith("no stage reports a usable recording")


def test_the_same_recording_twice_keeps_one_with_labels(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    path = write_bold(first, "a")
    write_bold(first, "b")
    shutil.copytree(first / "sub-a", first / "sub-z")
    copy = first / "sub-z" / "func" / path.name
    copy.rename(copy.with_name(copy.name.replace("sub-a", "sub-z")))
    shutil.copytree(first / "sub-b", second / "sub-b")
    write_bold(second, "own", seed=3)
    write_participants(second, participant_id=["b", "own"], group=["asd", "control"])
    parts = [
        ingest_all(dataset(first), first, tmp_path, "one"),
        ingest_all(dataset(second, phenotype=LABELS), second, tmp_path, "two"),
    ]
    people, exclusions = make_cohort(parts, tmp_path / "out")
    assert list(people["uid"]) == ["one/sub-a", "two/sub-b", "two/sub-own"]
    reasons = exclusions.set_index("uid")["reason"]
    assert reasons["one/sub-b"].startswith("same recording as two/sub-b")  # that one has a label
    assert reasons["one/sub-z"].startswith("same recording as one/sub-a")


def test_a_dataset_of_which_nobody_is_left_stops_the_run(three, tmp_path):
    root = tmp_path / "bad"
    for label in ("a", "b", "c"):
        write_bold(root, label, seed=7).write_bytes(b"")
    bad = ingest_all(dataset(root), root, tmp_path, "bad")
    with pytest.raises(McspError) as caught:
        make_cohort([three, bad], tmp_path / "out")
    assert str(caught.value).startswith("dataset bad: nobody is left: sub-*: file is empty: copy it again (3x)")
    assert not (tmp_path / "out").exists()  # nothing half


def test_the_same_input_gives_the_same_bytes(three, tmp_path):
    make_cohort([three], tmp_path / "x")
    make_cohort([three], tmp_path / "y")
    names = sorted(path.name for path in (tmp_path / "x").iterdir())
    assert names == ["exclusions.json", "exclusions.tsv", "subjects.json", "subjects.parquet", "subjects.tsv"]
    assert all((tmp_path / "x" / n).read_bytes() == (tmp_path / "y" / n).read_bytes() for n in names)
    assert read_table(tmp_path / "x" / "subjects.parquet")["has_fmri"].dtype == bool
