"""Parcel means: equal to nilearn's masker, on any grid and file type, and honest about damaged files."""

import gzip
import struct
import threading
import warnings
from contextlib import closing

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from nilearn.maskers import NiftiLabelsMasker

from mcsp.confounds import read_confounds, select
from mcsp.errors import Exclusion
from mcsp.fmri import parcellate
from mcsp.fmri.parcellate import Parcels, parcel_series, volumes
from mcsp.fmri.series import denoise
from mcsp.options.fmri import FmriOptions
from tests.fmri.test_series import confounds_table, write_confounds

SHAPE = (9, 8, 7)


def make_atlas(folder, affine, shape=SHAPE, n=5, seed=0):
    labels = np.random.default_rng(seed).integers(0, n + 1, shape).astype(np.int16)
    path = folder / "atlas.nii.gz"
    nib.Nifti1Image(labels, affine).to_filename(path)
    return path, np.arange(1, n + 1)


def make_run(folder, affine, *, dtype=np.float32, n=11, name="run.nii.gz", mean=100.0, spread=9.0, change=None, seed=1):
    """A run of noise as uncompressed or gzipped NIfTI; `change(data, header)` may alter both before they are written."""
    data = np.random.default_rng(seed).normal(mean, spread, (*SHAPE, n)).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if str(np.dtype(dtype).str).startswith(">") else "<")
    header.set_data_dtype(dtype)
    header.set_data_shape(data.shape)
    header.set_sform(affine, code="mni")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    if change:
        change(data, header)
    raw = header.binaryblock + bytes(4) + data.tobytes(order="F")
    (folder / name).write_bytes(gzip.compress(raw, 1) if name.endswith(".gz") else raw)
    return folder / name


def scaled(slope, intercept):
    def change(_, header):
        header["scl_slope"], header["scl_inter"] = slope, intercept

    return change


def nilearn_series(run, atlas):
    """The series by nilearn, and the labels they belong to."""
    masker = NiftiLabelsMasker(atlas, resampling_target="data", strategy="mean", standardize=None, keep_masked_labels=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = masker.fit_transform(run)
    return series, [masker.region_ids_[i] for i in range(series.shape[1])]


def check(run, atlas, index, rtol=1e-5):
    """Both agree on the covered parcels, and on which those are."""
    series, covered = parcel_series(run, atlas, index)
    wanted, labels = nilearn_series(run, atlas)
    own = [labels.index(i) for i in index[covered]]
    np.testing.assert_allclose(series[:, covered], wanted[:, own], rtol=rtol)
    assert set(index[covered]) == set(labels) & set(index)
    assert (series[:, ~covered] == 0).all()
    return covered


@pytest.mark.parametrize("name", ["run.nii.gz", "run.nii"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", ">i4", "<i8", "<f4", ">f4", "<f8", ">f8"])
def test_agrees_with_nilearn_on_every_type_of_number(tmp_path, name, dtype):
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    atlas, index = make_atlas(tmp_path, affine)
    assert check(make_run(tmp_path, affine, dtype=dtype, name=name, spread=5.0), atlas, index).all()


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4"])
@pytest.mark.parametrize("scale", [(0.25, -40.0), (0.0, 7.0), (np.nan, np.nan), (-2.0, 0.0), (1e-3, 1e4)])
def test_scaling_of_the_header_is_applied_or_ignored_as_nibabel_does(tmp_path, dtype, scale):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    check(make_run(tmp_path, np.eye(4), dtype=dtype, change=scaled(*scale)), atlas, index)


def test_an_intercept_that_is_no_number_is_refused(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4), dtype="<i2", change=scaled(2.0, np.nan))
    with pytest.raises(Exclusion, match="not readable as NIfTI"):
        parcel_series(run, atlas, index)


@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.5, 30.0)])
def test_voxels_that_are_not_finite_count_as_zero_as_in_nilearn(tmp_path, scale):
    def change(data, header):
        scaled(*scale)(data, header)
        data[2, 3, 4], data[5, 5, 5, 3], data[0, 0, 0, 0] = np.nan, np.inf, -np.inf

    atlas, index = make_atlas(tmp_path, np.eye(4))
    check(make_run(tmp_path, np.eye(4), change=change), atlas, index)


def test_a_run_beside_the_atlas_is_said_to_be_so(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    away = np.eye(4)
    away[:3, 3] = 5000
    with pytest.raises(Exclusion, match="lies beside the atlas: is it in the atlas's space"):
        parcel_series(make_run(tmp_path, away), atlas, index)


def test_small_changes_on_a_large_offset_are_kept(tmp_path):
    """Signal of 0.1 % of the intensity: the changes themselves agree to 1e-4, not the sums only."""
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4), mean=10000.0, spread=10.0, n=40)
    series, _ = parcel_series(run, atlas, index)
    data, labels = nib.load(run).get_fdata(), nib.load(atlas).get_fdata()
    wanted = np.stack([data[labels == i].mean(axis=0) for i in index], axis=1)
    change = wanted - wanted.mean(axis=0)
    np.testing.assert_allclose(series - series.mean(axis=0), change, atol=1e-8 * np.abs(change).max(), rtol=1e-4)


OBLIQUE = from_matvec(euler2mat(0.1, -0.2, 0.3) @ np.diag([2.5, -2.2, 3.0]), [-8.0, 11.0, -6.0])
GRIDS = {
    "the same": np.diag([4.0, 4.0, 4.0, 1.0]),
    "coarser": np.diag([5.5, 5.5, 5.5, 1.0]),
    "finer, a centre on each border": np.diag([2.0, 2.0, 2.0, 1.0]),
    "shifted by half a voxel": from_matvec(np.diag([4.0, 4.0, 4.0]), [2.0, 2.0, 2.0]),
    "shifted by a whole one": from_matvec(np.diag([4.0, 4.0, 4.0]), [4.0, 0.0, -4.0]),
    "from right to left": from_matvec(np.diag([-2.5, 2.5, 2.5]), [24.0, 0.0, 0.0]),
    "two axes reversed": from_matvec(np.diag([-3.0, -3.0, 3.0]), [28.0, 22.0, 0.0]),
    "axes exchanged": np.array([[0, 3.0, 0, 0], [0, 0, -3.0, 20], [3.0, 0, 0, 0], [0, 0, 0, 1]]),
    "oblique": OBLIQUE,
    "of unequal sides": np.diag([2.0, 3.0, 4.5, 1.0]),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_the_atlas_on_any_grid_agrees_with_nilearn(tmp_path, grid):
    atlas, index = make_atlas(tmp_path, np.diag([4.0, 4.0, 4.0, 1.0]), shape=(8, 7, 6))
    check(make_run(tmp_path, GRIDS[grid]), atlas, index)


def test_labels_with_gaps_lost_regions_and_labels_that_the_table_lacks(tmp_path):
    labels = np.zeros((16, 16, 16), np.int32)
    labels[:8], labels[8:, :8], labels[8:, 8:] = 7, 1000, 40000
    labels[3, 3, 3] = 12  # one voxel, which the coarse grid of the run steps over
    nib.Nifti1Image(labels, np.eye(4)).to_filename(tmp_path / "atlas.nii.gz")
    run = make_run(tmp_path, np.diag([2.0, 2.0, 2.0, 1.0]))
    covered = check(run, tmp_path / "atlas.nii.gz", np.array([7, 12, 40000, 50000]))
    assert covered.tolist() == [True, False, True, False]
    series, covered = parcel_series(run, tmp_path / "atlas.nii.gz", np.array([12]))
    assert not covered.any()
    assert (series == 0).all()


@pytest.mark.parametrize("scrubbed", [False, True])
def test_the_whole_path_agrees_with_nilearns(tmp_path, scrubbed):
    """Parcels, detrending, confounds, filter and scrubbing, against the masker with the same options."""
    n, t_r, options = 120, 2.0, FmriOptions()
    atlas, index = make_atlas(tmp_path, np.diag([4.0, 4.0, 4.0, 1.0]), shape=(8, 7, 6))
    run = make_run(tmp_path, OBLIQUE, n=n, mean=8000.0, spread=80.0)
    table = confounds_table(n)
    table["framewise_displacement"] = 0.1
    if scrubbed:
        table.loc[[30, 31, 70], "framewise_displacement"] = 0.9
    confounds = write_confounds(tmp_path / "confounds.tsv", table)
    raw, covered = parcel_series(run, atlas, index)
    cleaned, kept = denoise(raw, t_r, options, confounds)
    masker = NiftiLabelsMasker(
        atlas, resampling_target="data", standardize=None, detrend=True, low_pass=options.low_pass,
        high_pass=options.high_pass, t_r=t_r,
    )  # fmt: skip
    matrix = select(read_confounds(confounds), options.confounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = masker.fit_transform(run, confounds=matrix, sample_mask=kept if scrubbed else None)
    assert covered.all()
    assert len(kept) == n - 3 * scrubbed
    np.testing.assert_allclose(cleaned, wanted, rtol=1e-4, atol=1e-4 * wanted.std())


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
    for other in (nib.Nifti1Image(mask[:-1], np.eye(4)), nib.Nifti1Image(mask, np.diag([-1.0, 1, 1, 1]))):
        other.to_filename(tmp_path / "mask.nii.gz")
        with pytest.raises(Exclusion, match="its grid differs"):
            parcel_series(run, tmp_path / "atlas.nii.gz", np.array([1]), tmp_path / "mask.nii.gz")
    (tmp_path / "mask.nii.gz").write_bytes((tmp_path / "mask.nii.gz").read_bytes()[:-20])
    with pytest.raises(Exclusion, match=r"mask.nii.gz: not readable as NIfTI .*copy it again"):
        parcel_series(run, tmp_path / "atlas.nii.gz", np.array([1]), tmp_path / "mask.nii.gz")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_file_names_what_is_left(tmp_path, share):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    whole = run.read_bytes()
    run.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(Exclusion, match=r"run.nii.gz is cut off or damaged: \d+ of 11 volumes are readable: copy it again"):
        parcel_series(run, atlas, index)


def test_a_header_that_promises_too_much_names_what_is_there(tmp_path):
    def change(_, header):
        header["dim"][4] = 14

    atlas, index = make_atlas(tmp_path, np.eye(4))
    with pytest.raises(Exclusion, match="11 of 14 volumes are readable"):
        parcel_series(make_run(tmp_path, np.eye(4), change=change), atlas, index)


def test_members_of_gzip_one_after_another_are_one_run(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    wanted, _ = parcel_series(run, atlas, index)
    raw = gzip.decompress(run.read_bytes())
    parts = [gzip.compress(raw[i : i + 5000]) for i in range(0, len(raw), 5000)]
    run.write_bytes(b"".join(parts))
    np.testing.assert_array_equal(parcel_series(run, atlas, index)[0], wanted)
    run.write_bytes(b"".join(parts[:-1]))
    with pytest.raises(Exclusion, match=r"\d+ of 11 volumes"):
        parcel_series(run, atlas, index)


def test_a_wrong_checksum_is_noticed_at_the_end(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    packed = bytearray(run.read_bytes())
    packed[-8:-4] = struct.pack("<I", 12345)
    run.write_bytes(bytes(packed))
    with pytest.raises(Exclusion, match=r"damaged: \d+ of 11 volumes"):
        parcel_series(run, atlas, index)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, seed):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4))
    raw = gzip.decompress(run.read_bytes())
    packed = bytearray(gzip.compress(raw, seed % 2 * 6))  # stored: any byte can be changed, the sum alone notices
    packed[np.random.default_rng(seed).integers(500, len(packed))] ^= 1 << seed % 8
    run.write_bytes(bytes(packed))
    with pytest.raises(Exclusion, match="damaged"):
        parcel_series(run, atlas, index)


def inflating() -> list:
    return [thread for thread in threading.enumerate() if thread.name.startswith("inflate")]


def test_the_thread_ends_with_its_reader(tmp_path, monkeypatch):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    run = make_run(tmp_path, np.eye(4), n=50)
    with closing(volumes(run)) as stream:
        next(stream)
        assert len(inflating()) == 1
    assert not inflating()

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(Parcels, "means", broken)
    with pytest.raises(ZeroDivisionError) as caught:  # which holds on to the reader's frame
        parcel_series(run, atlas, index)
    assert caught.tb is not None
    assert not inflating()


def test_no_more_than_a_few_volumes_are_held(tmp_path, monkeypatch):
    """The reader waits for its consumer: it never reads the run ahead."""
    asked = []
    original = parcellate.igzip.IGzipFile.read

    def read(self, size=-1):
        asked.append(size)
        return original(self, size)

    monkeypatch.setattr(parcellate.igzip.IGzipFile, "read", read)
    with closing(volumes(make_run(tmp_path, np.eye(4), n=50))) as stream:
        for _ in range(3):
            next(stream)
    assert len(asked) <= 1 + 4  # the header, three volumes and one ahead


@pytest.mark.parametrize(("dtype", "message"), [([(c, "u1") for c in "RGB"], "RGB"), ("<c8", "magnitude")])
def test_what_is_no_number_is_refused(tmp_path, dtype, message):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    nib.Nifti1Image(np.zeros((*SHAPE, 3), dtype), np.eye(4)).to_filename(tmp_path / "run.nii.gz")
    with pytest.raises(Exclusion, match=message):
        parcel_series(tmp_path / "run.nii.gz", atlas, index)


def test_other_files_are_refused(tmp_path):
    atlas, index = make_atlas(tmp_path, np.eye(4))
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(Exclusion, match="not readable as NIfTI"):
        parcel_series(tmp_path / "text.nii.gz", atlas, index)
    with pytest.raises(Exclusion, match=r"3 dimensions \(9x8x7\)"):
        parcel_series(atlas, atlas, index)
    run = make_run(tmp_path, np.eye(4), name="run.nii")
    run.write_bytes(run.read_bytes()[:-1])
    with pytest.raises(Exclusion, match="10 of 11 volumes"):
        parcel_series(run, atlas, index)
