"""The embedded route on a simulated head with known motion and deformation: it finds both, and downstream can't tell it
from fMRIPrep."""

import json
import subprocess
import sysconfig
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.affines import apply_affine
from nilearn.interfaces.fmriprep import load_confounds

from mcsp.confounds import STRATEGIES, read_confounds, select
from mcsp.fingerprints import fingerprint
from mcsp.fmri.parcellate import parcel_series
from mcsp.fmri.stage import run_series
from mcsp.motion import MOTION, framewise_displacement, rigid_matrix, rigid_parameters
from mcsp.nifti import write_run
from mcsp.options.fmri import FmriOptions
from mcsp.preprocess import functional, head_motion
from mcsp.preprocess.anatomy import prepare
from mcsp.preprocess.embedded import frames_of
from mcsp.preprocess.functional import output_grid
from mcsp.preprocess.space import SPACE, Image, map_points, matrix_of
from mcsp.preprocess.stage import describe
from mcsp.simulate.raw import labels_of, tissues
from tests.preprocess.conftest import DT, N_FRAMES, OPTIONS, T_R, load, made


def relative(motion, centre):
    """Motion as it looks from the reference: the frames in the run's middle."""
    first = max(0, len(motion) // 2 - head_motion.REFERENCE_FRAMES // 2)
    middle = np.median(motion[first : first + head_motion.REFERENCE_FRAMES], axis=0)
    back = np.linalg.inv(rigid_matrix(middle, centre))
    return np.stack([rigid_parameters(rigid_matrix(m, centre) @ back, centre) for m in motion])


def test_motion_is_recovered(subject):
    table = pd.read_csv(made(subject, "_desc-confounds_timeseries.tsv"), sep="\t", na_values=["n/a"])
    centre = head_motion.centre_of(Image.of(load(subject.bold).slicer[..., 0]))
    truth = relative(subject.motion, centre)
    error = np.abs(table[list(MOTION)].to_numpy() - truth)
    assert np.abs(truth[:, :3]).mean() > 0.1  # there is something to find
    assert error[:, :3].mean() < 0.2  # mm
    assert np.degrees(error[:, 3:]).mean() < 0.2
    fd = table["framewise_displacement"].to_numpy()
    assert np.corrcoef(fd[1:], framewise_displacement(subject.motion)[1:])[0, 1] > 0.9


@pytest.fixture(scope="module")
def anatomy(subject, tmp_path_factory):
    return prepare(subject.t1w, OPTIONS, f"{tmp_path_factory.mktemp('t1w')}/")


def test_the_same_head_gives_the_same_tissues(subject, anatomy):
    """The fixture prepares once more what the whole route prepared before."""
    for name, label in {"csf": "CSF", "grey": "GM", "white": "WM"}.items():
        (path,) = subject.derivatives.rglob(f"*_label-{label}_probseg.nii.gz")
        np.testing.assert_array_equal(nib.load(path).get_fdata(dtype=np.float32), anatomy.tissues[name].values)


def test_deformation_is_recovered_and_parcels_overlap(subject, anatomy):
    grid = output_grid(3.0)
    places = apply_affine(grid.affine, np.argwhere(grid.values > 0))
    back = subject.head.to_mni(map_points(places, anatomy.forward))  # where a place of MNI space truly comes from
    assert np.linalg.norm(subject.head.to_mni(places) - places, axis=1).mean() > 5  # mm, before
    assert np.linalg.norm(back - places, axis=1).mean() < 1.5
    labels = labels_of(subject.atlas.image)
    ours, truth = (labels.at(p, order=0).astype(int) for p in (places, back))
    dice = [2 * ((ours == k) & (truth == k)).sum() / ((ours == k).sum() + (truth == k).sum()) for k in subject.atlas.index]
    assert np.mean(dice) >= 0.8


def test_brain_and_tissues(subject, anatomy):
    head, affine = subject.head, anatomy.t1w.affine
    places = head.to_mni(apply_affine(affine, np.moveaxis(np.indices(anatomy.t1w.values.shape), 0, -1)))
    share = {name: volume.at(places) for name, volume in tissues().items()}
    truth = share["grey"] + share["white"] + share["csf"] > 0.5
    ours = anatomy.brain.values > 0
    assert 2 * (truth & ours).sum() / (truth.sum() + ours.sum()) > 0.95
    for name in ("grey", "white"):
        a, b = anatomy.tissues[name].values > 0.5, (share[name] > 0.5) & ours
        # The template's own tissues have soft borders, which no intensity tells apart: 0.79 is found for grey matter.
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.78, name


def test_regional_signals_come_back(subject):
    row = subject.record["rows"][0]
    raw, covered = parcel_series(Path(row["path"]), subject.atlas.image, subject.atlas.index, Path(row["mask"]))
    middle = T_R * (1 - 1 / load(subject.bold).shape[2]) / 2  # what slice timing brings all slices to
    t = np.arange(N_FRAMES) * T_R + middle
    truth = np.stack([np.interp(t, np.arange(subject.roi.shape[1]) * DT, row) for row in subject.roi], axis=1)
    r = [np.corrcoef(raw[2:-2, i], truth[2:-2, i])[0, 1] for i in np.flatnonzero(covered)]
    assert np.median(r) > 0.7
    assert covered.mean() > 0.95


def test_files_are_named_as_fmriprep_names_them(subject):
    names = {p.relative_to(subject.derivatives).as_posix() for p in subject.derivatives.rglob("*.*")}
    for name in (
        f"sub-01/func/sub-01_task-rest_space-{SPACE}_desc-preproc_bold.nii.gz",
        f"sub-01/func/sub-01_task-rest_space-{SPACE}_desc-preproc_bold.json",
        f"sub-01/func/sub-01_task-rest_space-{SPACE}_desc-brain_mask.nii.gz",
        "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv",
        "sub-01/func/sub-01_task-rest_desc-confounds_timeseries.json",
        "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "sub-01.html",
    ):
        assert name in names
    assert not [name for name in names if ".part-" in name]
    image = load(made(subject, "_desc-preproc_bold.nii.gz"))
    assert image.shape[3] == N_FRAMES
    assert image.header.get_zooms()[3] == T_R
    assert image.header.get_xyzt_units() == ("mm", "sec")
    sidecar = json.loads(made(subject, f"_space-{SPACE}_desc-preproc_bold.json").read_text())
    assert sidecar["SliceTimingCorrected"] is True
    assert sidecar["RepetitionTime"] == T_R


def test_every_confound_strategy_works_here_and_in_nilearn(subject):
    path = made(subject, "_desc-confounds_timeseries.tsv")
    table = read_confounds(path)
    for name, columns in STRATEGIES.items():
        values = select(table, name)
        assert (values is None) == (not columns)
        assert values is None or (
            np.isfinite(values).all() and np.linalg.matrix_rank(values - values.mean(0)) == values.shape[1]
        )
    found, kept = load_confounds(
        str(made(subject, "_desc-preproc_bold.nii.gz")),
        strategy=("motion", "high_pass", "wm_csf", "global_signal", "compcor", "scrub"),
        motion="full", wm_csf="full", global_signal="full", compcor="anat_combined", n_compcor=5,
    )  # fmt: skip
    assert {"a_comp_cor_00", "rot_z_derivative1_power2", "csf_power2"} <= set(found)
    assert kept is None or len(kept) <= N_FRAMES


def test_the_fmri_stage_takes_it_like_any_other_run(subject):
    options = FmriOptions(n_frames=30, min_frames=20, fd_threshold=None, max_mean_fd=5.0)
    row = subject.record["rows"][0]
    row |= {"fingerprint": fingerprint(Path(row["path"]))}  # as the recordings table has it
    series, _, quality = run_series(row, subject.atlas, options)
    assert series.shape == (N_FRAMES, 160)
    assert quality["mean_fd"] > 0.1


def test_the_validator_accepts_the_derivatives(subject):
    describe(subject.derivatives, "d", "simulated data")
    program = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"
    done = subprocess.run([program, str(subject.derivatives), "--format", "json"], capture_output=True, text=True, check=False)
    errors = [e for e in json.loads(done.stdout)["issues"]["issues"] if e["severity"] == "error"]
    assert errors == []


def test_the_page_shows_what_to_look_at(subject):
    page = (subject.derivatives / "sub-01.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.split("<style>")[1].split("data:image")[0]  # nothing is fetched
    assert "SIMULATED DATA" in page
    assert "<tr><th>Mean framewise displacement</th><td>" in page
    assert len(list((subject.derivatives / "sub-01" / "figures").glob("*.png"))) == 3


def test_equal_seeds_give_equal_estimates(subject):
    data = load(subject.bold)
    run = np.asarray(data.dataobj[..., 15:19], np.float32)
    fixed = Image(head_motion.reference(run), data.affine)
    brain = fixed.values > 300
    first, again = (np.stack(list(head_motion.estimate(run, fixed, brain, 3))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = np.stack(list(head_motion.estimate(run, fixed, brain, 4)))
    assert not np.array_equal(first, other)  # another sample of voxels
    np.testing.assert_allclose(first, other, atol=0.1)


def test_a_run_is_written_frame_by_frame_as_nibabel_reads_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    affine = np.array([[3.0, 0, 0, -10], [0, 3, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]])
    brain = Image((rng.uniform(size=(5, 6, 7)) > 0.4).astype(np.float32), affine)
    series = rng.normal(100, 10, (4, int(brain.values.sum()))).astype(np.float32)
    write_run(tmp_path / "r.nii.gz", frames_of(series, brain.values > 0), 4, affine, 1.5)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_run(tmp_path / "later.nii.gz", frames_of(series, brain.values > 0), 4, affine, 1.5)
    assert (tmp_path / "later.nii.gz").read_bytes() == (tmp_path / "r.nii.gz").read_bytes()
    image = nib.load(tmp_path / "r.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj)[brain.values > 0].T, series)
    assert not np.asarray(image.dataobj)[brain.values == 0].any()
    np.testing.assert_allclose(image.affine, affine)
    assert image.header.get_zooms() == (3, 3, 3, 1.5)


def test_bold_and_t1w_that_the_scanner_puts_apart_still_meet(subject, anatomy, tmp_path):
    """From another day, with another origin: nothing overlaps where the scanner says, so the centres of mass decide."""
    data = load(subject.bold)
    reference = Image(head_motion.reference(np.asarray(data.dataobj[..., 15:24], np.float32)), data.affine)
    far = Image(reference.values, np.array(data.affine))
    far.affine[:3, 3] += [300.0, -250.0, 200.0]
    brain = functional.rough_brain(reference, "x")
    near = matrix_of(functional.coregister(reference, brain, anatomy, OPTIONS, f"{tmp_path}/a_"))
    found = matrix_of(functional.coregister(far, brain, anatomy, OPTIONS, f"{tmp_path}/b_"))
    middle = head_motion.centre_of(reference)
    gap = apply_affine(found, middle) - apply_affine(near, middle)
    np.testing.assert_allclose(gap, [300.0, -250.0, 200.0], atol=1.0)
