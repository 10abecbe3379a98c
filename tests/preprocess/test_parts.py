"""Parts of the embedded route against closed forms and independent references, and what they do with bad input."""

import errno
import tempfile

import ants
import nibabel as nib
import numpy as np
import pytest

from mcsp.errors import Exclusion, McspError
from mcsp.preprocess import functional, regressors, slice_timing, stage
from mcsp.preprocess.anatomy import ball, first_guess
from mcsp.preprocess.space import Image, check_affine, map_points, matrix_of, temporary_files_in

# ---- slice timing


def test_slices_are_brought_to_one_time():
    """A slow sinusoid, sampled by each slice at its own time, becomes the same in all: that of the middle."""
    t_r, n = 2.0, 150
    times = np.linspace(0, 1.9, 12)
    t = np.arange(n) * t_r
    run = np.empty((2, 3, 12, n), np.float32)
    run[:] = np.sin(2 * np.pi * 0.08 * (t + times[:, None]))
    middle = slice_timing.correct(run, times, 2, t_r)
    assert middle == pytest.approx(0.95)
    truth = np.sin(2 * np.pi * 0.08 * (t + middle))
    before = np.abs(np.sin(2 * np.pi * 0.08 * (t + times[0])) - truth).max()
    assert before > 0.4
    assert np.abs(run[..., 2:-2] - truth[2:-2]).max() < 0.02


def test_slice_timing_on_another_axis_and_reversed():
    found, axis = slice_timing.slice_times({"SliceTiming": [0, 0.5, 1.0], "SliceEncodingDirection": "j-"}, (4, 3, 5), 2.0, "x")
    assert axis == 1
    np.testing.assert_array_equal(found, [1.0, 0.5, 0])
    assert slice_timing.slice_times({}, (4, 3, 5), 2.0, "x") is None


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ([0, 500, 1000], "they look like ms"),
        ([0, 0.5], "2 values for 3 slices"),
        ([0, 0.5, "late"], "no list of numbers"),
        ([0, -0.5, 1], "outside the repetition time of 2 s"),
        ([0, 0.5, float("nan")], "outside the repetition time"),
    ],
)
def test_slice_timing_that_does_not_fit_is_refused(times, text):
    with pytest.raises(Exclusion, match=text):
        slice_timing.slice_times({"SliceTiming": times}, (4, 5, 3), 2.0, "run")


# ---- confound regressors


def test_acompcor_is_the_principal_components_of_the_cleaned_voxels():
    rng = np.random.default_rng(0)
    n, v = 80, 300
    sources = rng.normal(size=(n, 3)) * [5, 3, 2]
    series = (sources @ rng.normal(size=(3, v)) + rng.normal(size=(n, v)) + 500).astype(np.float32)
    drifts = regressors.cosines(n, 2.0)
    found, share = regressors.compcor(series, np.arange(20, v), drifts)
    design = np.column_stack([np.ones(n), drifts])
    part = series[:, 20:].astype(float)
    part -= design @ np.linalg.lstsq(design, part, rcond=None)[0]
    u, s, _ = np.linalg.svd(part / part.std(axis=0), full_matrices=False)
    k = found.shape[1]
    np.testing.assert_allclose(np.abs(np.sum(u[:, :k] * found, axis=0)), 1, atol=1e-6)
    np.testing.assert_allclose(share, (s**2 / (s**2).sum())[:k], atol=1e-8)
    assert k >= 6
    assert share.sum() >= 0.5
    np.testing.assert_allclose(found.T @ found, np.eye(k), atol=1e-9)


def test_acompcor_of_constant_voxels_has_no_component():
    found, share = regressors.compcor(np.full((30, 40), 7.0, np.float32), np.arange(40), regressors.cosines(30, 2.0))
    assert found.shape == (30, 0)
    assert len(share) == 0


def test_cosines_are_fmriprep_s():
    """Discrete cosines below 1/128 Hz: as many as fit into the run, without the constant, of unit length."""
    found = regressors.cosines(150, 2.0)
    assert found.shape[1] == int(2 * 150 * 2.0 / 128)
    k, t = np.arange(1, found.shape[1] + 1), np.arange(150)[:, None]
    np.testing.assert_allclose(found, np.sqrt(2 / 150) * np.cos(np.pi * k * (2 * t + 1) / 300), atol=1e-6)


def test_dvars_of_white_noise_is_one_and_a_jump_stands_out():
    rng = np.random.default_rng(1)
    series = rng.normal(1000, 20, (200, 6000))
    series[120:] += 60
    plain, standard = regressors.dvars(series)
    assert np.isnan(plain[0])
    others = np.delete(standard[1:], 119)
    scale = 1000 / np.median(series.mean(axis=0))
    np.testing.assert_allclose(plain[1:], scale * np.sqrt((np.diff(series, axis=0) ** 2).mean(axis=1)), rtol=1e-6)
    assert standard[120] > 1.5 * others.max()
    quiet = regressors.dvars(rng.normal(1000, 20, (200, 6000)))[1][1:]
    # DVARS^2 is the mean of 6000 squared differences d of variance 2: relative SD of DVARS sqrt(2 / 6000) / 2, and 4.5 of
    # them hold for the largest of 199 frames with a probability of 0.999.
    np.testing.assert_allclose(quiet, 1, atol=4.5 * np.sqrt(2 / 6000) / 2)
    assert abs(quiet.mean() - 1) < 0.01


def test_dvars_agrees_with_nipype(tmp_path):
    """fMRIPrep's DVARS is nipype's."""
    confounds = pytest.importorskip("nipype.algorithms.confounds", reason="nipype is not installed")
    pytest.importorskip("nitime", reason="nipype's standardised DVARS needs nitime")
    rng = np.random.default_rng(2)
    data = rng.normal(800, 15, (6, 6, 6, 60)) + rng.normal(0, 10, 60).cumsum()
    mask = np.ones((6, 6, 6), np.uint8)
    paths = [str(tmp_path / name) for name in ("f.nii", "m.nii")]
    nib.Nifti1Image(data, np.eye(4)).to_filename(paths[0])
    nib.Nifti1Image(mask, np.eye(4)).to_filename(paths[1])
    standard, plain, _ = confounds.compute_dvars(*paths, intensity_normalization=1000)
    ours = regressors.dvars(data.reshape(-1, 60).T)
    ratio = ours[0][1:] / plain
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-5)
    assert ratio.mean() == pytest.approx(1, abs=0.01)  # its median is over all values, ours over the voxels' means
    np.testing.assert_allclose(ours[1][1:], standard, rtol=0.02)


def test_means_and_expansions():
    rng = np.random.default_rng(3)
    brain = np.zeros((8, 8, 8), bool)
    brain[1:7, 1:7, 1:7] = True
    series = rng.normal(500, 5, (50, int(brain.sum()))).astype(np.float32)
    masks = {"csf": np.zeros_like(brain), "white": np.zeros_like(brain)}
    masks["csf"][3, 3, 1:7], masks["white"][4, 1:7, 1:7] = True, True
    motion = rng.normal(size=(50, 6)) * 0.1
    table, sidecar = regressors.confounds(series, brain, masks, motion, 2.0)
    np.testing.assert_allclose(table["csf"], series[:, masks["csf"][brain]].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["white_matter"], series[:, masks["white"][brain]].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["global_signal"], series.mean(axis=1, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(table["trans_x_derivative1"][1:], np.diff(motion[:, 0]), atol=1e-12)
    np.testing.assert_allclose(table["csf_power2"], table["csf"] ** 2)
    assert sidecar["c_comp_cor_00"]["Mask"] == "CSF"


def test_masks_of_tissues_keep_off_borders():
    brain = np.zeros((40, 40, 40), bool)
    brain[4:36, 4:36, 4:36] = True
    probability = {name: np.zeros(brain.shape, np.float32) for name in ("csf", "white")}
    probability["csf"][4:6] = 1  # at the surface
    probability["csf"][18:22, 18:22, 18:22] = 1  # a ventricle
    probability["white"][10:16, 10:30, 10:30] = 1
    masks = regressors.tissue_masks(probability, brain, np.array([2.0, 2.0, 2.0]))
    assert not masks["csf"][4:6].any()
    assert masks["csf"][18:22, 18:22, 18:22].all()
    assert masks["white"].sum() == 4 * 18 * 18
    with pytest.raises(Exclusion, match="no csf found"):
        regressors.tissue_masks(probability | {"csf": np.zeros(brain.shape)}, brain, np.array([2.0, 2.0, 2.0]))


# ---- space


def test_images_go_to_ants_and_back_with_their_place(tmp_path):
    import ants

    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [2.0, 3.0, 1.5], [10, -20, 30]
    image = Image(rng.normal(size=(5, 6, 7)).astype(np.float32), affine)
    nib.Nifti1Image(image.values, affine).to_filename(tmp_path / "i.nii.gz")
    read, ours = ants.image_read(str(tmp_path / "i.nii.gz")), image.ants()
    np.testing.assert_allclose(ours.origin, read.origin, atol=1e-4)
    np.testing.assert_allclose(ours.direction, read.direction, atol=1e-5)
    np.testing.assert_allclose(ours.spacing, read.spacing, atol=1e-5)
    np.testing.assert_array_equal(ours.numpy(), read.numpy())


def test_a_linear_transform_is_the_same_as_matrix_and_on_points(tmp_path):
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", matrix=[[0.9, 0.1, 0], [-0.1, 1.1, 0.05], [0, 0, 1.0]], translation=[3.0, -2.0, 5.0],
        center=[10.0, 20.0, 30.0],
    )  # fmt: skip
    path = str(tmp_path / "a.mat")
    ants.write_transform(transform, path)
    points = np.random.default_rng(5).normal(0, 50, (20, 3))
    matrix = matrix_of(path)
    np.testing.assert_allclose(map_points(points, [path]), points @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-4)


# ---- brain


def test_ball_counts_voxels_of_any_size():
    assert ball(0.0, np.ones(3)).shape == (1, 1, 1)
    assert ball(2.0, np.array([1.0, 2.0, 4.0])).shape == (5, 3, 1)
    assert ball(1.0, np.ones(3)).sum() == 7


def test_noise_is_no_brain():
    noise = Image(np.abs(np.random.default_rng(0).normal(size=(60, 60, 60))).astype(np.float32) * 100, np.diag([3.0, 3, 3, 1]))
    with pytest.raises(Exclusion, match="no brain found in the T1w"):
        first_guess(noise)


def test_a_place_without_signal_was_not_recorded():
    """Slices padded with zeros hold the ringing of the interpolation only; they must not count as brain."""
    values = np.full((10, 10, 10), 500.0, np.float32)
    values[:, :, 7:] = 0
    reference = Image(values, np.diag([3.0, 3, 3, 1]))
    places = np.array([[12.0, 12, 12], [12, 12, 27], [12, 12, 40], [-9, 12, 12]])
    assert functional.seen_by(reference, values > 0, places).tolist() == [True, False, False, False]


# ---- faults


def test_a_fault_of_one_run_is_a_reason_and_one_of_the_machine_stops(capsys):
    reasons: list[str] = []
    with stage.faults_of_the_run(reasons, "run 1"):
        raise Exclusion("too short")
    with stage.faults_of_the_run(reasons, "run 2"):
        raise RuntimeError("odd")
    assert reasons == ["too short", "run 2: RuntimeError: odd"]
    assert "Traceback" in capsys.readouterr().out
    with pytest.raises(McspError, match="nobody can be preprocessed"), stage.faults_of_the_run(reasons, "run 3"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_affine_that_leads_nowhere_is_refused():
    with pytest.raises(Exclusion, match="not a place in space"):
        check_affine(np.zeros((4, 4)), "x")


def test_temporary_files_go_away(tmp_path):
    before = tempfile.gettempdir()
    with temporary_files_in(tmp_path):
        assert tempfile.mktemp().startswith(str(tmp_path))
    assert tempfile.gettempdir() == before
