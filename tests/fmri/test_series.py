"""Denoising, common rate, length: against nilearn, closed forms and bad input."""

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.signal import clean

from mcsp.atlas import Atlas
from mcsp.confounds import MOTION, displacement, read_confounds, select
from mcsp.errors import Exclusion
from mcsp.fmri.series import check_regions, denoise, keep_frames, read_roi_series, standard_length, to_common_rate
from mcsp.options.fmri import FmriOptions


def confounds_table(n, seed=0, fd=0.1):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({name: rng.normal(size=n).cumsum() * 0.01 for name in MOTION})
    for name in MOTION:
        table[f"{name}_derivative1"] = table[name].diff()
        table[f"{name}_power2"] = table[name] ** 2
        table[f"{name}_derivative1_power2"] = table[name].diff() ** 2
    table["csf"], table["white_matter"] = rng.normal(size=n), rng.normal(size=n)
    table["global_signal"] = rng.normal(size=n)
    table["framewise_displacement"] = [np.nan, *([fd] * (n - 1))]
    return table


def write_confounds(path, table):
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


def test_denoising_is_nilearns(tmp_path):
    series = np.random.default_rng(1).normal(size=(150, 4)) + np.linspace(0, 5, 150)[:, None]
    table = confounds_table(150)
    path = write_confounds(tmp_path / "confounds.tsv", table)
    cleaned, kept = denoise(series, 2.0, FmriOptions(), path)
    names = [c for c in table if c not in ("global_signal", "framewise_displacement")]
    expected = clean(
        series, detrend=True, standardize=None, confounds=table[names].bfill().to_numpy(), low_pass=0.1, high_pass=0.01, t_r=2.0
    )
    np.testing.assert_allclose(cleaned, expected, atol=1e-9)
    assert len(kept) == 150


def test_columns_are_those_of_load_confounds(real_data, tmp_path):
    """nilearn reads the same columns, demeaned, of a real table (it wants the image's name, not the image)."""
    source = real_data / "confounds_samples" / "test-v21_desc-confounds_timeseries.tsv"
    stem = tmp_path / "sub-1_task-rest_desc-"
    (tmp_path / "sub-1_task-rest_desc-confounds_timeseries.tsv").write_bytes(source.read_bytes())
    (tmp_path / "sub-1_task-rest_desc-confounds_timeseries.json").write_bytes(source.with_suffix(".json").read_bytes())
    image = f"{stem}preproc_bold.nii.gz".replace("_desc-preproc", "_space-MNI152NLin2009cAsym_desc-preproc")
    open(image, "wb").close()
    theirs, _ = load_confounds(image, strategy=("motion", "wm_csf"), motion="full", wm_csf="basic", demean=False)
    ours = select(read_confounds(source), "24motion+wmcsf")
    assert ours.shape == theirs.shape
    by_name = dict(zip(theirs.columns, theirs.to_numpy().T))
    from mcsp.confounds import STRATEGIES

    for name, column in zip(STRATEGIES["24motion+wmcsf"], ours.T):
        np.testing.assert_allclose(column, by_name[name], atol=1e-12)


@pytest.mark.parametrize("strategy", ["24motion+wmcsf", "6motion+wmcsf", "acompcor"])
def test_real_confounds_of_48_people_are_usable(real_data, strategy):
    found = sorted((real_data / "ds000030_fmriprep_confounds").glob("sub-*/**/*.tsv"))
    tables = [path for path in found if "confounds" in path.name]
    assert len(tables) == 48
    for path in tables:
        table = read_confounds(path)
        assert np.isfinite(select(table, strategy)).all()
        assert len(displacement(table)) == len(table)


def test_old_names_of_columns_are_known(tmp_path):
    old = {"X": "trans_x", "Y": "trans_y", "Z": "trans_z", "RotX": "rot_x", "RotY": "rot_y", "RotZ": "rot_z"}
    table = confounds_table(20)[[*old.values(), "csf", "white_matter", "framewise_displacement"]]
    new = {v: k for k, v in {**old, "CSF": "csf", "WhiteMatter": "white_matter"}.items()}
    path = write_confounds(
        tmp_path / "old.tsv", table.rename(columns={**new, "framewise_displacement": "FramewiseDisplacement"})
    )
    np.testing.assert_allclose(select(read_confounds(path), "24motion+wmcsf"), select(confounds_table(20), "24motion+wmcsf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:-1], "149 rows, the run 150 frames"),
        (lambda t: t.drop(columns="csf"), "lack csf for strategy"),
        (lambda t: t.assign(csf=np.where(np.arange(150) == 7, np.nan, 1.0)), "missing values beyond the first frame"),
        (lambda t: t.assign(framewise_displacement=0.9), "mean framewise displacement 0.90 mm is above"),
        (lambda t: t.assign(framewise_displacement=np.where(np.arange(150) % 3, 0.55, 0.1)), "left after scrubbing"),
    ],
)
def test_confounds_that_do_not_fit_exclude_with_a_reason(tmp_path, change, message):
    path = write_confounds(tmp_path / "confounds.tsv", change(confounds_table(150)))
    with pytest.raises(Exclusion, match=message):
        denoise(np.random.default_rng(0).normal(size=(150, 3)), 2.0, FmriOptions(), path)


def test_a_run_without_confounds_is_excluded_unless_none_are_wanted():
    series = np.random.default_rng(0).normal(size=(100, 3))
    with pytest.raises(Exclusion, match="no confounds table beside the run"):
        denoise(series, 2.0, FmriOptions(), None)
    assert denoise(series, 2.0, FmriOptions(confounds="none"), None)[0].shape == (100, 3)


@pytest.mark.parametrize(
    ("changes", "needed"), [({}, 34), ({"high_pass": None}, 19), ({"low_pass": None}, 19), ({"low_pass": None, "t_r": 3.0}, 34)]
)
def test_a_run_too_short_to_filter_is_excluded(changes, needed):
    """One frame more is enough; with a slower common rate there is an edge that the study does not name."""
    options, series = FmriOptions(confounds="none", **changes), np.random.default_rng(0).normal(size=(needed, 3))
    assert denoise(series, 2.0, options, None)[0].shape == (needed, 3)
    with pytest.raises(Exclusion, match=rf"too short: {needed - 1} frames of 2 s, the filter needs {needed}$"):
        denoise(series[1:], 2.0, options, None)


def test_a_run_whose_end_is_empty_can_be_too_short_to_filter():
    series = 1000 + np.random.default_rng(0).normal(size=(60, 6))
    series[31:] = 0
    with pytest.raises(Exclusion, match="too short: 31 frames of 2 s, the filter needs 34"):
        denoise(series, 2.0, FmriOptions(confounds="none"), None)


def test_scrubbing_keeps_frames_below_the_threshold():
    table = confounds_table(100).assign(framewise_displacement=np.where(np.arange(100) % 10 == 5, 0.9, 0.1))
    kept = keep_frames(table, FmriOptions())
    np.testing.assert_array_equal(kept, [i for i in range(100) if i % 10 != 5])


def test_scrubbed_frames_do_not_reach_the_others(tmp_path):
    """A spike in a scrubbed frame leaves the rest as it is."""
    rng = np.random.default_rng(3)
    series = rng.normal(size=(150, 2))
    table = confounds_table(150).assign(framewise_displacement=np.where(np.arange(150) == 70, 3.0, 0.1))
    path = write_confounds(tmp_path / "c.tsv", table)
    spiked = series.copy()
    spiked[70] += 100
    options = FmriOptions(confounds="6motion")
    np.testing.assert_allclose(denoise(spiked, 2.0, options, path)[0], denoise(series, 2.0, options, path)[0], atol=1e-6)


@pytest.mark.parametrize("empty", [[70], [149], [20, 21, 22, 90]])
def test_empty_volumes_are_left_out_as_scrubbed_ones_are(empty):
    """One volume of zeros made all regions move together: mean connectivity 0.9999 here, 0.94 at noise of 2 % of the mean."""
    rng = np.random.default_rng(3)
    series = 1000 + rng.normal(size=(150, 6))
    series[:, 4] = 0  # a lost region
    options = FmriOptions(confounds="none")
    broken = series.copy()
    broken[empty] = 0
    cleaned, kept = denoise(broken, 2.0, options, None)
    np.testing.assert_array_equal(kept, np.delete(np.arange(150), empty))
    wanted = clean(
        series,
        detrend=True,
        standardize=None,
        low_pass=0.1,
        high_pass=0.01,
        t_r=2.0,
        sample_mask=np.delete(np.arange(150), empty),
    )
    np.testing.assert_allclose(cleaned, wanted, atol=1e-9)
    if empty == [149]:  # nothing is made up beyond the last one
        np.testing.assert_allclose(cleaned, denoise(series[:149], 2.0, options, None)[0], atol=1e-9)
    broken[:80] = 0
    with pytest.raises(Exclusion, match=r"4\d% of the frames are left without empty ones, below 50%"):
        denoise(broken, 2.0, options, None)


@pytest.mark.parametrize("t_r", [0.7, 0.8, 1.5, 2.0, 2.5, 3.0])
def test_a_sinusoid_is_the_same_at_the_common_rate(t_r):
    kept, hz = np.arange(int(300 / t_r)), 0.05
    out, frames = to_common_rate(np.sin(2 * np.pi * hz * kept * t_r)[:, None], kept, t_r, 2.0)
    np.testing.assert_array_equal(frames, np.arange(len(out)))
    expected = np.sin(2 * np.pi * hz * 2.0 * np.arange(len(out)))
    assert np.abs(out[3:-3, 0] - expected[3:-3]).max() < 0.05
    assert abs((len(out) - 1) * 2.0 - kept[-1] * t_r) < 2.0


@pytest.mark.parametrize("t_r", [0.8, 2.0, 2.5])
def test_no_frame_is_made_up_where_frames_were_scrubbed(t_r):
    kept = np.delete(np.arange(200), np.r_[60:75, 100])
    out, frames = to_common_rate(np.sin(2 * np.pi * 0.05 * kept * t_r)[:, None], kept, t_r, 2.0)
    times = 2.0 * np.arange(int(199 * t_r / 2.0) + 1)
    measured = np.array([np.abs(kept * t_r - t).min() <= t_r / 2 + 1e-9 for t in times])
    assert abs(len(out) - measured.sum()) <= 1
    assert len(out) < len(times) - 14 * t_r / 2.0
    assert np.abs(out).max() < 1.1  # a spline across the gap would overshoot
    assert np.abs(out[:, 0] - np.sin(2 * np.pi * 0.05 * 2.0 * frames))[3:-3].max() < 0.1  # they are where they are said to be


def test_scrubbing_does_not_raise_connectivity():
    """Independent regions; bursts of a third of the frames scrubbed: no more spurious correlation than so few frames give."""
    rng = np.random.default_rng(0)
    kept = np.flatnonzero(np.arange(240) % 18 >= 6)
    filled, few = [], []
    for _ in range(30):
        white = rng.normal(size=(240, 6))
        series = clean(white, detrend=True, standardize=None, low_pass=0.1, high_pass=0.01, t_r=2.0)
        out, _ = to_common_rate(series[kept], kept, 2.0, 2.0)
        filled.append(np.abs(np.corrcoef(out.T)[np.triu_indices(6, 1)]).mean())
        few.append(np.abs(np.corrcoef(series[kept].T)[np.triu_indices(6, 1)]).mean())
    assert np.mean(filled) <= np.mean(few) + 1e-9


@pytest.mark.parametrize(("t_r", "freq"), [(0.7, 0.3), (0.7, 0.45), (0.7, 0.65), (0.8, 0.4), (1.5, 0.3)])
def test_nothing_folds_back_from_a_faster_rate(t_r, freq):
    """E.g. 0.4 Hz would show at 0.1 Hz when read every 2 s; no other low-pass is asked for."""
    t = t_r * np.arange(400)
    series = np.stack([np.sin(2 * np.pi * freq * t), np.sin(2 * np.pi * 0.05 * t)], 1)
    cleaned, kept = denoise(series, t_r, FmriOptions(confounds="none", low_pass=None, high_pass=None), None)
    out = to_common_rate(cleaned, kept, t_r, 2.0)[0][5:-5]
    assert out[:, 0].std() < 0.05 * out[:, 1].std()


def test_standard_length_crops_pads_and_scores():
    rng = np.random.default_rng(0)
    options = FmriOptions()
    for n in (60, 119, 120, 200):
        out, n_valid = standard_length(rng.normal(3, 2, (n, 5)), options)
        assert out.shape == (5, 120)
        assert n_valid == min(n, 120)
        np.testing.assert_allclose(out[:, :n_valid].mean(1), 0, atol=1e-6)
        np.testing.assert_allclose(out[:, :n_valid].std(1), 1, atol=1e-5)
        assert (out[:, n_valid:] == 0).all()
    with pytest.raises(Exclusion, match="too short: 59 frames of 2 s"):
        standard_length(rng.normal(size=(59, 5)), options)


def test_lost_regions_are_zero_and_too_many_exclude():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(80, 20))
    series[:, 3] = 7.0
    names = [f"r{i}" for i in range(20)]
    checked = check_regions(series, np.ones(20, bool), names)
    assert (checked[:, 3] == 0).all()
    np.testing.assert_array_equal(np.delete(checked, 3, 1), np.delete(series, 3, 1))
    with pytest.raises(Exclusion, match=r"3 of 20 regions .*\(r3, r4, r5"):
        check_regions(series, np.isin(np.arange(20), [4, 5], invert=True), names)
    series[5, 2] = np.nan
    with pytest.raises(Exclusion, match=r"missing values in 1 regions \(r2\)"):
        check_regions(series, np.ones(20, bool), names)


def atlas_of(codes):
    n = len(codes)
    return Atlas([f"n{c}" for c in codes], ["x"] * n, codes, np.zeros((n, 3)), np.arange(1, n + 1), None)


def test_ready_series_are_read_by_name_in_any_dialect(tmp_path):
    values = np.round(np.random.default_rng(0).normal(size=(12, 3)), 4)
    rows = {sep: "\n".join(sep.join(map(str, row)) for row in values) for sep in ("\t", ",")}
    (tmp_path / "a.1D").write_text("#101\t#102\t#103\n" + rows["\t"])
    (tmp_path / "b.tsv").write_text("101\t102\t103\n" + rows["\t"])
    (tmp_path / "c.csv").write_text("101, 102, 103\n" + rows[","])
    atlas = atlas_of(["103", "101"])
    for name in ("a.1D", "b.tsv", "c.csv"):
        np.testing.assert_allclose(read_roi_series(tmp_path / name, atlas), values[:, [2, 0]])
    with pytest.raises(Exclusion, match=r"no column 7 \(1 of 2 regions\): another atlas"):
        read_roi_series(tmp_path / "a.1D", atlas_of(["101", "7"]))
    (tmp_path / "empty.1D").write_text("")
    with pytest.raises(Exclusion, match="not readable as a table"):
        read_roi_series(tmp_path / "empty.1D", atlas)
