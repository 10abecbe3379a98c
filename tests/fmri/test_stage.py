"""One shard of fMRI: what can be used is stored, what can't is excluded, nothing is written half."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from mcsp import atlas as atlas_stage
from mcsp.atlas import load_atlas
from mcsp.bids.cohort import displacement_used
from mcsp.bids.recordings import COLUMNS
from mcsp.fmri.stage import run, subject_series
from mcsp.options.atlas import AtlasOptions
from mcsp.options.fmri import FmriOptions
from mcsp.store import Store, read_tsv, write_table
from tests.fmri.test_series import confounds_table, write_confounds


@pytest.fixture
def regions(tmp_path):
    labels = np.zeros((6, 6, 6), np.int16)
    labels[:3], labels[3:, :3], labels[3:, 3:] = 1, 2, 3
    nib.Nifti1Image(labels, np.eye(4)).to_filename(tmp_path / "labels.nii.gz")
    (tmp_path / "labels.tsv").write_text("index\tname\n1\tA\n2\tB\n3\tC\n")
    options = AtlasOptions(image=str(tmp_path / "labels.nii.gz"), table=str(tmp_path / "labels.tsv"))
    atlas_stage.run(options=options, out=tmp_path / "atlas" / "atlas.tsv")
    return tmp_path / "atlas" / "atlas.tsv"


def recording(folder, uid, *, n=150, t_r=2.0, confounds=True, run=1):
    rng = np.random.default_rng(len(uid) + run)
    path = folder / f"{uid.replace('/', '_')}_run-{run}_bold.nii.gz"
    nib.Nifti1Image(rng.normal(100, 5, (6, 6, 6, n)).astype(np.float32), np.eye(4)).to_filename(path)
    beside = write_confounds(folder / f"{path.stem}.tsv", confounds_table(n)) if confounds else ""
    row = dict.fromkeys(COLUMNS, "") | {"uid": uid, "modality": "fmri", "kind": "bold", "path": str(path), "t_r": t_r}
    return row | {"confounds": str(beside), "mask": "", "sfreq": np.nan, "line_freq": np.nan, "size": 0}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_bad_run_never_stops_a_shard(tmp_path, regions, threads):
    rows = [recording(tmp_path, f"d/sub-{c}") for c in "abc"]
    rows.append(recording(tmp_path, "d/sub-noconf", confounds=False))
    rows.append(recording(tmp_path, "d/sub-tr", t_r=np.nan))
    rows.append(recording(tmp_path, "d/sub-tr2", t_r=2000.0))
    rows.append(recording(tmp_path, "d/sub-short", n=50))
    cut = recording(tmp_path, "d/sub-cut")
    whole = Path(cut["path"]).read_bytes()
    Path(cut["path"]).write_bytes(whole[: len(whole) // 2])
    second = recording(tmp_path, "d/sub-second", n=50)
    rows += [cut, second, recording(tmp_path, "d/sub-second", run=2)]
    table = tmp_path / "recordings.parquet"
    write_table(pd.DataFrame(rows), table)
    store, status = tmp_path / "store.arrow", tmp_path / "status.tsv"
    run(
        dataset="d",
        recordings=table,
        atlas=regions,
        options=FmriOptions(),
        store=store,
        status=status,
        runs=tmp_path / "runs.tsv",
        threads=threads,
    )
    opened = Store(store)
    assert opened.uids == ["d/sub-a", "d/sub-b", "d/sub-c", "d/sub-second"]  # its first run is too short, its second not
    assert opened.shape == (3, 120)
    assert opened.meta["names"] == ["A", "B", "C"]
    assert opened.meta["t_r"] == 2.0
    lines = read_tsv(status).set_index("uid")
    assert set(lines["state"]) == {"done", "excluded"}
    unusable = lines.loc["d/sub-second"].set_index("stage")
    assert unusable["state"].to_dict() == {"fmri": "done", "fmri-run": "excluded"}  # the run that could not be used is named
    assert "too short: 50 frames" in unusable.loc["fmri-run", "reason"]
    for uid, text in {
        "noconf": "no confounds table",
        "tr": "repetition time nan s",
        "tr2": "repetition time 2000 s",
        "short": "too short: 50 frames",
        "cut": "is cut off or damaged",
    }.items():
        assert text in lines.loc[f"d/sub-{uid}", "reason"]


def test_an_empty_shard_is_an_empty_store(tmp_path, regions):
    write_table(pd.DataFrame([], columns=COLUMNS), tmp_path / "r.parquet")
    run(
        dataset="d", recordings=tmp_path / "r.parquet", atlas=regions, options=FmriOptions(), store=tmp_path / "s.arrow",
        status=tmp_path / "s.tsv", runs=tmp_path / "u.tsv", threads=1,
    )  # fmt: skip
    assert len(Store(tmp_path / "s.arrow")) == 0
    assert json.loads((tmp_path / "s.json").read_text())


def test_a_planted_sinusoid_comes_through(tmp_path, regions):
    """0.05 Hz in region A only, in a run of TR 2.5 s: a sinusoid of unit variance in the store at TR 2 s."""
    row = recording(tmp_path, "d/sub-x", t_r=2.5)
    t = 2.5 * np.arange(150)
    data = np.random.default_rng(0).normal(100, 0.1, (6, 6, 6, 150))
    data[:3] += 5 * np.sin(2 * np.pi * 0.05 * t)
    nib.Nifti1Image(data.astype(np.float32), np.eye(4)).to_filename(row["path"])
    series, n_valid, *_ = subject_series([row | {"confounds": ""}], load_atlas(regions), FmriOptions(confounds="none"))
    wave = np.sin(2 * np.pi * 0.05 * 2.0 * np.arange(n_valid))
    assert np.corrcoef(series[0, 5:-5], wave[5:-5])[0, 1] > 0.98
    assert abs(np.corrcoef(series[1, 5:-5], wave[5:-5])[0, 1]) < 0.5


def runs_of(tmp_path, regions, rows, **options):
    write_table(pd.DataFrame(rows), tmp_path / "r.parquet")
    run(
        dataset="d", recordings=tmp_path / "r.parquet", atlas=regions, options=FmriOptions(**options), threads=1,
        store=tmp_path / "s.arrow", status=tmp_path / "s.tsv", runs=tmp_path / "u.tsv",
    )  # fmt: skip
    return Store(tmp_path / "s.arrow"), read_tsv(tmp_path / "u.tsv")


def test_runs_are_chosen_or_joined_by_the_stated_rule(tmp_path, regions):
    rows = [
        recording(tmp_path, "d/sub-a", n=80, run=i) | {"task": task, "run": str(i)}
        for i, task in enumerate(["rest"] * 2 + ["go"])
    ]
    first, table = runs_of(tmp_path, regions, rows)
    assert table["state"].tolist() == ["used", "not needed", "not needed"]
    assert first.n_valid == [80]
    joined, table = runs_of(tmp_path, regions, rows, runs="join")
    assert table["state"].tolist() == ["used", "used", "not needed"]  # another task is never joined to rest
    assert joined.n_valid == [120]  # 160 frames, cut at n_frames
    alone = [runs_of(tmp_path, regions, [row])[0].row(0)[:, :80].copy() for row in rows[:2]]
    both = np.concatenate(alone, axis=1)[:, :120].astype(float)
    both = (both - both.mean(axis=1, keepdims=True)) / both.std(axis=1, keepdims=True)
    np.testing.assert_allclose(joined.row(0), both, atol=1e-5)  # each run denoised and scaled by itself


def test_short_runs_make_a_subject_when_joined(tmp_path, regions):
    rows = [recording(tmp_path, "d/sub-a", n=50, run=i) | {"task": "rest"} for i in (1, 2)]
    none, _ = runs_of(tmp_path, regions, rows)
    assert len(none) == 0
    joined, table = runs_of(tmp_path, regions, rows, runs="join")
    assert joined.n_valid == [100]
    assert table["n_frames"].tolist() == [50, 50]


def test_motion_of_a_subject_is_that_of_the_runs_used(tmp_path, regions):
    rows = [recording(tmp_path, "d/sub-a", n=n, run=i) | {"task": "rest"} for i, n in ((1, 40), (2, 100), (3, 80))]
    for row, fd in zip(rows, (0.9, 0.1, 0.3)):
        table = confounds_table(pd.read_csv(row["confounds"], sep="\t").shape[0])
        table["framewise_displacement"] = [np.nan, *[fd] * (len(table) - 1)]
        row["confounds"] = str(write_confounds(Path(row["confounds"]), table))
    _, runs = runs_of(tmp_path, regions, rows, runs="join")
    assert runs["state"].tolist() == ["excluded", "used", "used"]
    people = pd.DataFrame({"uid": ["d/sub-a", "d/sub-b"], "mean_fd": [0.9, 0.2]})
    used = (0.1 * 99 / 100 * 100 + 0.3 * 79 / 80 * 80) / 180  # the first frame of each run counts as 0
    assert displacement_used(people, runs)["mean_fd"].tolist() == pytest.approx([used, 0.2])


def test_raw_bold_that_nobody_preprocessed_is_excluded_by_name(tmp_path, regions):
    store, _ = runs_of(tmp_path, regions, [recording(tmp_path, "d/sub-a") | {"kind": "raw"}])
    assert len(store) == 0
    assert "raw BOLD that nobody preprocessed" in read_tsv(tmp_path / "s.tsv")["reason"][0]
