"""Parcel means: equal to nilearn's masker, on any grid and file type, and honest about damaged files."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from nilearn.maskers import NiftiLabelsMasker

from mcsp.errors import Exclusion
from mcsp.fmri.parcellate import parcel_series

SHAPE = (9, 8, 7)


def make_atlas(folder, affine, shape=SHAPE, n=5, seed=0):
    labels = np.random.default_rng(seed).integers(0, n + 1, shape).astype(np.int16)
    path = folder / "atlas.nii.gz"
    nib.Nifti1Image(labels, affine).to_filename(path)
    return path, np.arange(1, n + 1)


def make_run(folder, affine, *, dtype=np.float32, n=11, name="run.nii.gz", slope=None, seed=1):
    data = np.random.default_rng(seed).normal(1000, 50, (*SHAPE, n))
    image = nib.Nifti1Image(data.astype(dtype), affine)
    image.header.set_data_dtype(dtype)
    if slope:
        image.header.set_slope_inter(*slope)
    image.to_filename(folder / name)
    return folder / name


def nilearn_series(run, atlas):
    masker = NiftiLabelsMasker(atlas, resampling_target="data", strategy="mean", standardize=None, keep_masked_labels=False)
    return masker.fit_transform(run)


@pytest.mark.parametrize("name", ["run.nii.gz", "run.nii"])
@pytest.mark.parametrize(("dtype", "slope"), [(np.float32, None), (np.int16, None), (np.int16, (0.25, -40.0)), (">f4", None)])
def test_agrees_with_nilearn(tmp_path, name, dtype, slope):
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    atlas, index = make_atlas(tmp_path, affine)
    run = make_run(tmp_path, affine, dtype=dtype, slope=slope, name=name)
    series, covered = parcel_series(run, atlas, index)
    np.testing.assert_allclose(series, nilearn_series(run, atlas), rtol=1e-5)
    assert covered.all()


def test_atlas_on_another_grid_agrees_with_nilearn(tmp_path):
    coarse = np.diag([4.0, 4.0, 4.0, 1.0])
    atlas, index = make_atlas(tmp_path, coarse, shape=(8, 7, 6))
    shifted = np.diag([-2.5, 2.5, 2.5, 1.0])
    shifted[0, 3] = 24.0
    run = make_run(tmp_path, shifted)
    series, covered = parcel_series(run, atlas, index)
    np.testing.assert_allclose(series[:, covered], nilearn_series(run, atlas), rtol=1e-5)


def test_regions_come_in_the_order_of_the_table(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    forward, _ = parcel_series(run, atlas, index)
    backward, _ = parcel_series(run, atlas, index[::-1].copy())
    np.testing.assert_array_equal(forward[:, ::-1], backward)


def test_a_parcel_outside_the_mask_or_the_image_is_not_covered(tmp_path):
    labels = np.ones(SHAPE, np.int16)
    labels[:, :4], labels[0, 0, 0] = 2, 3
    nib.Nifti1Image(labels, np.eye(4)).to_filename(tmp_path / "atlas.nii.gz")
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :4] = 0
    nib.Nifti1Image(mask, np.eye(4)).to_filename(tmp_path / "mask.nii.gz")
    run = make_run(tmp_path, np.eye(4))
    series, covered = parcel_series(run, tmp_path / "atlas.nii.gz", np.array([1, 2, 3, 9]), tmp_path / "mask.nii.gz")
    assert covered.tolist() == [True, False, False, False]
    assert (series[:, 3] == 0).all()
    nib.Nifti1Image(mask[:-1], np.eye(4)).to_filename(tmp_path / "mask.nii.gz")
    with pytest.raises(Exclusion, match="its grid differs"):
        parcel_series(run, tmp_path / "atlas.nii.gz", np.array([1]), tmp_path / "mask.nii.gz")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_file_names_what_is_left(tmp_path, share):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    whole = run.read_bytes()
    run.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(Exclusion, match=r"run.nii.gz is cut off or damaged: \d+ of 11 volumes are readable: copy it again"):
        parcel_series(run, atlas, index)


def test_a_flipped_bit_is_noticed(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    raw = bytearray(gzip.decompress(run.read_bytes()))
    packed = bytearray(gzip.compress(bytes(raw), compresslevel=0))  # stored: any byte can be changed, the sum notices
    packed[len(packed) // 2] ^= 1
    run.write_bytes(bytes(packed))
    with pytest.raises(Exclusion, match="damaged"):
        parcel_series(run, atlas, index)


def test_other_files_are_refused(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(Exclusion, match="not readable as NIfTI"):
        parcel_series(tmp_path / "text.nii.gz", atlas, index)
    with pytest.raises(Exclusion, match="3 dimensions"):
        parcel_series(atlas, atlas, index)
    run = make_run(tmp_path, np.eye(4), name="run.nii")
    run.write_bytes(run.read_bytes()[:-1])
    with pytest.raises(Exclusion, match="10 of 11 volumes"):
        parcel_series(run, atlas, index)
