"""One recording under two names is found whatever was done to its file; different recordings of one person are not."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, sosfiltfilt

from mcsp.bids.cohort import doubles
from mcsp.domains.graphs import band_connectivity, correlation
from mcsp.errors import McspError
from mcsp.evaluation import duplicates
from mcsp.evaluation.duplicates import SAME, SHOWN, alignment, connectivity_of, run, similar_pairs, sketch
from mcsp.store import StoreWriter, read_json, read_tsv

SFREQ, BANDS = 100.0, {"alpha": (8.0, 13.0), "beta": (13.0, 30.0)}


def bold(person: int, session: int = 0, n: int = 150, n_rois: int = 20) -> np.ndarray:
    """Series (R, n) of band-limited noise: a person's regions couple in their own way, a session draws its own time course."""
    mix = np.eye(n_rois) + 0.5 * np.random.default_rng(person).normal(size=(n_rois, n_rois)) / np.sqrt(n_rois) * 2
    noise = np.random.default_rng([person, session, 7]).normal(size=(n_rois, n + 60))
    return mix @ sosfiltfilt(butter(2, (0.01, 0.1), "bandpass", fs=0.5, output="sos"), noise)[:, 30:-30]


def eeg(person: int, session: int = 0, n: int = 4000, n_channels: int = 8) -> np.ndarray:
    """Signals (C, n) of a person's own sources and alpha rhythm."""
    mix = np.random.default_rng(person).normal(size=(n_channels, n_channels))
    noise = np.random.default_rng([person, session, 9]).normal(size=(n_channels, n))
    alpha = sosfiltfilt(butter(2, (9, 11), "bandpass", fs=SFREQ, output="sos"), noise) * 3
    return mix @ (noise + alpha)


def write_fmri(root: Path, dataset: str, people: dict[str, np.ndarray], n_frames: int = 150) -> Path:
    """Temporal and spatial store of z-scored series, as the stages write them; the spatial one's path."""
    n_rois = len(next(iter(people.values())))
    paths = [root / dataset / "fmri" / domain / "shard-000.arrow" for domain in ("temporal", "spatial")]
    with StoreWriter(paths[0], (n_rois, n_frames), {"t_r": 2.0}) as series, StoreWriter(paths[1], (n_rois,) * 2, {}) as edges:
        for uid, x in people.items():
            x = (x - x.mean(axis=1, keepdims=True)) / np.maximum(x.std(axis=1, keepdims=True), 1e-9)  # some regions are empty
            padded = np.zeros((n_rois, n_frames))
            padded[:, : x.shape[1]] = x
            series.add(uid, padded, x.shape[1])
            edges.add(uid, correlation(x, x.shape[1]), x.shape[1], lacks=True)
    return paths[1]


def write_eeg(root: Path, dataset: str, people: dict[str, np.ndarray], width: int = 100, n_segments: int = 35) -> Path:
    """The same of EEG: segments, divided by the recording's scale."""
    n_channels = len(next(iter(people.values())))
    paths = [root / dataset / "eeg" / domain / "shard-000.arrow" for domain in ("temporal", "spatial")]
    shapes = (n_segments, n_channels, width), (len(BANDS), n_channels, n_channels)
    with StoreWriter(paths[0], shapes[0], {"sfreq": SFREQ}) as series, StoreWriter(paths[1], shapes[1], {}) as edges:
        for uid, x in people.items():
            segments = x[:, : n_segments * width].reshape(n_channels, n_segments, width).transpose(1, 0, 2)
            segments = segments / (1.4826 * np.median(np.abs(segments)))
            series.add(uid, segments, n_segments)
            edges.add(uid, band_connectivity(segments, n_segments, BANDS, SFREQ), n_segments)
    return paths[1]


COPIES = {
    "same": lambda x: x,
    "gain": lambda x: 37.5 * x,
    "inverted": lambda x: -2 * x,
    "8 bits": lambda x: np.round(x / np.abs(x).max() * 127),
    "cropped": lambda x: x[:, 7:],
    "a third lost": lambda x: x[:, : 2 * x.shape[1] // 3],
    "noise of another pipeline": lambda x: x + 0.3 * x.std() * np.random.default_rng(1).normal(size=x.shape),
}


# EEG that lost a third is too short for its segments: the EEG stage excludes it.
@pytest.mark.parametrize(
    ("kind", "copy"), [(k, c) for k in ("fmri", "eeg") for c in COPIES if (k, c) != ("eeg", "a third lost")]
)
def test_a_planted_copy_is_found_under_another_name_and_nobody_else(kind, copy, tmp_path):
    make, write = (bold, write_fmri) if kind == "fmri" else (eeg, write_eeg)
    one = {f"one/sub-{i:02d}": make(i) for i in range(20)}
    again = {f"two/sub-{i:02d}": make(i, session=1) for i in range(20)}  # the same people on another day are no copies
    again["two/sub-99"] = COPIES[copy](make(3))
    run(spatial=[write(tmp_path, "one", one), write(tmp_path, "two", again)], out=tmp_path / "duplicates.tsv")
    table = read_tsv(tmp_path / "duplicates.tsv")
    found = table[table["state"] == "double"]
    assert found[["modality", "uid", "other"]].to_numpy().tolist() == [[kind, "one/sub-03", "two/sub-99"]]
    assert found["r"].item() > (0.9 if copy == "noise of another pipeline" else 0.99)
    if copy == "cropped":
        assert found["lag_s"].item() == pytest.approx(7 * 2.0 if kind == "fmri" else 7 / SFREQ)
    assert (table.loc[table["state"] != "double", "r"] < SAME - 0.2).all()
    assert set(read_json(tmp_path / "duplicates.json")) == set(table)


def test_another_day_of_the_same_person_is_compared_and_is_no_copy(tmp_path):
    """Their connectivity is alike, so that these pairs are looked at; the series tell them apart."""
    days = {f"a/sub-{i:02d}{'ab'[s]}": bold(i, s) for i in range(20) for s in (0, 1)}
    run(spatial=[write_fmri(tmp_path, "a", days)], out=tmp_path / "d.tsv")
    table = read_tsv(tmp_path / "d.tsv")
    assert (table["state"] == "different").all()
    same = table["uid"].str[:-1] == table["other"].str[:-1]
    assert same.any()


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_subjects_are_all_compared(n, tmp_path):
    people = {f"a/sub-{i}": bold(i) for i in range(n)} | {"a/sub-copy": 5 * bold(0)}
    run(spatial=[write_fmri(tmp_path, "a", people)], out=tmp_path / "d.tsv")
    table = read_tsv(tmp_path / "d.tsv")
    assert table.loc[table["state"] == "double", ["uid", "other"]].to_numpy().tolist() == [["a/sub-0", "a/sub-copy"]]
    assert len(table) == min(n * (n + 1) // 2, 1 + SHOWN)


def test_nobody_is_compared_with_nobody(tmp_path):
    path = tmp_path / "a" / "fmri" / "spatial" / "shard-000.arrow"
    for domain, shape in (("spatial", (4, 4)), ("temporal", (4, 9))):
        with StoreWriter(path.parent.parent / domain / path.name, shape, {"t_r": 2.0}):
            pass
    run(spatial=[path], out=tmp_path / "d.tsv")
    assert read_tsv(tmp_path / "d.tsv").empty


def test_the_alignment_is_the_best_of_all_shifts_by_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 40)), rng.normal(size=(3, 31))
    b[:, 3:20] += a[:, 10:27]
    best = (0.0, 0)
    for shift in range(-30, 40):
        low, high = max(shift, 0), min(40, 31 + shift)
        if high - low >= 0.5 * 31:
            x, y = a[:, low:high], b[:, low - shift : high - shift]
            r = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
            best = max(best, (r, shift), key=lambda pair: abs(pair[0]))
    assert alignment(a, b) == (pytest.approx(best[0]), best[1])
    assert best[1] == 7
    assert alignment(a, np.zeros((3, 31)))[0] == 0


def test_signatures_keep_correlations_and_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4000))
    x[30:] = x[:30] * 0.8 + 0.6 * x[30:]
    found = np.stack([sketch(row) for row in x])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    exact = np.corrcoef(x)
    assert np.abs(found @ found.T - exact).max() < 0.15
    whole = sorted(similar_pairs(found))
    assert {(i, i + 30) for i in range(30)} <= {pair[:2] for pair in whole}
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    again = sorted(similar_pairs(found))
    assert [pair[:2] for pair in again] == [pair[:2] for pair in whole]


def test_edges_of_bands_stand_one_after_the_other():
    assert connectivity_of(np.arange(18).reshape(2, 3, 3)).tolist() == [1, 2, 5, 10, 11, 14]


def test_stores_of_different_runs_are_one_line(tmp_path):
    path = write_fmri(tmp_path, "a", {f"a/sub-{i}": bold(i) for i in range(3)})
    other = write_fmri(tmp_path / "other", "a", {"a/sub-0": bold(0)})
    (path.parent.parent / "temporal" / path.name).write_bytes((other.parent.parent / "temporal" / path.name).read_bytes())
    with pytest.raises(McspError, match="lacks a/sub-1, who is in"):
        run(spatial=[path], out=tmp_path / "d.tsv")


def crowd(labels: list[str], fmri: list[bool] | None = None) -> pd.DataFrame:
    table = pd.DataFrame({"uid": [f"a/sub-{i}" for i in range(len(labels))], "labels": labels, "has_eeg": True})
    return table.assign(has_fmri=fmri or True)


PAIRS = pd.DataFrame({"modality": "fmri", "uid": ["a/sub-0", "a/sub-1"], "other": ["a/sub-1", "a/sub-2"], "r": [0.99, 0.93]})
FILES = pd.DataFrame({"uid": [f"a/sub-{i}" for i in range(4)], "fingerprint": list("abcd")})


def test_of_doubles_one_stays_also_in_a_chain():
    out = {line[0]: line[-1] for line in doubles(crowd(["ASD", "ASD", "ASD", "control"]), FILES, PAIRS)}
    assert list(out) == ["a/sub-1", "a/sub-2"]
    assert out["a/sub-1"] == "same recording as a/sub-0 (equal signal: fmri series, r = 0.99): a double"
    more = doubles(crowd(["ASD", "", "ASD", "control"], [False, True, True, True]), FILES, PAIRS)
    assert [line[0] for line in more] == ["a/sub-1", "a/sub-0"]  # 2 has a label and both modalities: it stays


def test_doubles_with_different_labels_are_both_left_out():
    lines = doubles(crowd(["ASD", "control", "", "control"]), FILES, PAIRS)
    assert [line[0] for line in lines] == ["a/sub-0", "a/sub-1", "a/sub-2"]
    assert "labels differ (ASD and control): whose it is can't be known" in lines[0][-1]
    equal = doubles(crowd(["ASD", "control"]), FILES.assign(fingerprint="x"), PAIRS[:0])
    assert [line[0] for line in equal] == ["a/sub-0", "a/sub-1"]


def test_a_pair_of_which_one_is_out_already_concerns_nobody():
    assert doubles(crowd(["ASD", "ASD", "ASD"]).iloc[[0, 2]], FILES, PAIRS) == []


def test_real_series_of_different_people_are_told_apart_and_planted_copies_found(real_data, tmp_path):
    """ADHD-200, 3 sites."""
    archive = real_data / "adhd200_subset" / "adhd200_roi90_ts.npz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    series = {f"adhd/sub-{name}": x.T.astype(float) for name, x in np.load(archive).items() if x.ndim == 2}
    longest = max(x.shape[1] for x in series.values())
    first = next(iter(series))
    whole = {**series, "adhd/sub-twin": np.round(30 * series[first][:, 11:])}
    run(spatial=[write_fmri(tmp_path, "adhd", whole, longest)], out=tmp_path / "d.tsv")
    table = read_tsv(tmp_path / "d.tsv")
    found = table[table["state"] == "double"]
    assert [set(pair) for pair in found[["uid", "other"]].to_numpy().tolist()] == [{first, "adhd/sub-twin"}]
    assert (table.loc[table["state"] == "different", "r"] < 0.5).all()


def test_one_scan_of_two_people_in_abide_is_found(real_data, tmp_path):
    """ABIDE I as it is published gives one functional run of YALE to a control and to an ASD subject: the quality measures of
    the two in its phenotype table are equal to the last digit too.
    """
    archive = real_data / "abide_pcp.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    series = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if "Yale_" in member.name and member.name.endswith(".1D"):
                series[f"abide/sub-{member.name.split('_')[-3][-5:]}"] = np.loadtxt(tar.extractfile(member)).T
    run(spatial=[write_fmri(tmp_path, "abide", series, max(x.shape[1] for x in series.values()))], out=tmp_path / "d.tsv")
    table = read_tsv(tmp_path / "d.tsv")
    found = table[table["state"] == "double"]
    assert found[["uid", "other"]].to_numpy().tolist() == [["abide/sub-50578", "abide/sub-50602"]]
    assert (table.loc[table["state"] == "different", "r"] < 0.5).all()
