"""Parcel means of grayordinates: matched by vertex and voxel, equal to plain numpy and to nilearn's surface masker."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, LabelAxis, ScalarAxis, SeriesAxis

from mcsp.atlas import load_atlas, run
from mcsp.bids.recordings import COLUMNS
from mcsp.errors import Exclusion, McspError
from mcsp.fmri.stage import subject_series
from mcsp.fmri.surface import grayordinate_series, run_means
from mcsp.grayordinates import open_series, read_labels, series_t_r
from mcsp.options.atlas import AtlasOptions
from mcsp.options.fmri import FmriOptions

N = 40  # vertices of a small hemisphere


def places(left=range(N), right=range(N), voxels=((1, 1, 1), (2, 1, 1), (2, 2, 1)), n=N, shape=(4, 4, 4), affine=None):
    """A brain model of two hemispheres and some voxels of the thalamus."""
    axis = BrainModelAxis.from_surface(np.array(left), n, "CortexLeft")
    axis += BrainModelAxis.from_surface(np.array(right), n, "CortexRight")
    if len(voxels):
        mask = np.zeros(shape, bool)
        mask[tuple(np.transpose(voxels))] = True
        axis += BrainModelAxis.from_mask(mask, "ThalamusLeft", np.eye(4) if affine is None else affine)
    return axis


def write_dlabel(path, axis, values, table=None):
    table = table or {k: (f"parcel {k}", (1.0, 0.5, 0.25, 1.0)) for k in np.unique(values).tolist() if k}
    labels = LabelAxis(["map"], [{0: ("???", (0.0, 0.0, 0.0, 0.0)), **table}])
    nib.save(nib.Cifti2Image(np.asarray(values)[None].astype(np.int32), (labels, axis)), path)
    return path


def write_dtseries(path, axis, n=30, t_r=2.0, data=None, unit="SECOND", seed=0):
    data = np.random.default_rng(seed).normal(10000, 10, (n, len(axis))) if data is None else data
    nib.save(nib.Cifti2Image(data.astype(np.float32), (SeriesAxis(0, t_r, len(data), unit), axis)), path)
    return path


def keys(axis):
    """What a grayordinate is, wherever it stands in the file."""
    return [
        (structure, int(vertex)) if vertex >= 0 else tuple(voxel.tolist())
        for structure, vertex, voxel in zip(axis.name, axis.vertex, axis.voxel)
    ]


def reference(series, series_axis, labels, label_axis, index):
    """Means by a dictionary of grayordinates, in float64."""
    label_of = dict(zip(keys(label_axis), labels))
    own = np.array([label_of.get(key, 0) for key in keys(series_axis)])
    return np.stack([series[:, own == i].astype(float).mean(axis=1) for i in index], axis=1)


def test_grayordinates_are_matched_by_what_they_are_not_by_where_they_stand(tmp_path):
    rng = np.random.default_rng(3)
    of_run = places(left=rng.permutation(N)[:35], right=rng.permutation(N)[:33])
    of_atlas = places(left=rng.permutation(N), voxels=((2, 2, 1), (3, 3, 3), (1, 1, 1), (2, 1, 1)))
    of_atlas = of_atlas[::-1]
    values = rng.integers(0, 6, len(of_atlas))
    atlas = write_dlabel(tmp_path / "a.dlabel.nii", of_atlas, values)
    path = write_dtseries(tmp_path / "r.dtseries.nii", of_run)
    index = np.array([4, 1, 5, 3])
    series, covered = grayordinate_series(path, atlas, index)
    raw = nib.load(path).get_fdata(dtype=np.float32)
    np.testing.assert_allclose(series, reference(raw, of_run, values, of_atlas, index), rtol=1e-9)
    assert covered.all()


def test_agrees_with_nilearns_surface_masker(tmp_path):
    from nilearn.maskers import SurfaceLabelsMasker
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    rng = np.random.default_rng(1)
    axis = places(voxels=())
    values = rng.integers(0, 5, 2 * N)
    atlas = write_dlabel(tmp_path / "a.dlabel.nii", axis, values)
    path = write_dtseries(tmp_path / "r.dtseries.nii", axis)
    raw = nib.load(path).get_fdata(dtype=np.float32).T
    mesh = PolyMesh(*(InMemoryMesh(rng.normal(size=(N, 3)), rng.integers(0, N, (60, 3))) for _ in "lr"))
    parts = [{"left": a[:N], "right": a[N:]} for a in (values, raw)]
    wanted = SurfaceLabelsMasker(SurfaceImage(mesh, parts[0]), standardize=None).fit_transform(SurfaceImage(mesh, parts[1]))
    series, _ = grayordinate_series(path, atlas, np.arange(1, 5))
    np.testing.assert_allclose(series, wanted, rtol=1e-6)


def fs_lr_91k(seed=0):
    """Grayordinates in the numbers of the 91k standard: 29696 and 29716 of 32492 vertices, 31870 voxels."""
    rng = np.random.default_rng(seed)
    left, right = (np.sort(rng.choice(32492, n, replace=False)) for n in (29696, 29716))
    voxels = np.array(np.unravel_index(np.sort(rng.choice(91 * 109 * 91, 31870, replace=False)), (91, 109, 91))).T
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    return places(left, right, voxels, 32492, (91, 109, 91), affine)


@pytest.mark.parametrize("cortex", ["whole", "without the medial wall", "with the medial wall"])
def test_91k_with_a_parcellation_of_all_or_of_the_cortex_alone(tmp_path, cortex):
    axis = fs_lr_91k()
    assert len(axis) == 91282
    of_atlas = {
        "whole": axis,
        "without the medial wall": axis[axis.surface_mask],
        "with the medial wall": places(range(32492), range(32492), (), 32492),
    }[cortex]
    assert len(of_atlas) == {"whole": 91282, "without the medial wall": 59412, "with the medial wall": 64984}[cortex]
    values = np.random.default_rng(1).integers(0, 101, len(of_atlas))
    atlas = write_dlabel(tmp_path / "a.dlabel.nii", of_atlas, values)
    path = write_dtseries(tmp_path / "r.dtseries.nii", axis, n=12)
    series, covered = grayordinate_series(path, atlas, np.arange(1, 101))
    raw = nib.load(path).get_fdata(dtype=np.float32)
    np.testing.assert_allclose(series, reference(raw, axis, values, of_atlas, range(1, 101)), rtol=1e-9)
    assert covered.all()


def test_the_true_91k_grayordinates(tmp_path, real_data):
    """Brain models and label table of a published parcellation (4S156); the example holds no data, they are made up."""
    folder = real_data / "bids-examples/atlas-4S/sourcedata/atlas-4S/tpl-fsLR/anat"
    source = folder / "tpl-fsLR_atlas-4S_scale-156_den-91k_dseg.dlabel.nii"
    with pytest.raises(McspError, match="could the file be damaged") as caught:
        read_labels(source)
    assert "\n" not in str(caught.value)
    header = nib.load(source).header
    table, axis = header.get_axis(0).label[0], header.get_axis(1)
    assert [(n, int((axis.name == n).sum())) for n in axis.nvertices] == [
        ("CIFTI_STRUCTURE_CORTEX_LEFT", 29696),
        ("CIFTI_STRUCTURE_CORTEX_RIGHT", 29716),
    ]
    assert len(axis) == 91282
    values = np.random.default_rng(0).choice(list(table), len(axis))
    run(
        options=AtlasOptions(image=str(write_dlabel(tmp_path / "a.dlabel.nii", axis, values, table))),
        out=tmp_path / "atlas.tsv",
    )
    atlas = load_atlas(tmp_path / "atlas.tsv")
    assert atlas.names == [table[i][0] for i in atlas.index]
    assert len(atlas.names) == 156
    path = write_dtseries(tmp_path / "r.dtseries.nii", axis, n=10)
    series, covered = run_means(path, atlas.image, atlas.index)
    raw = nib.load(path).get_fdata(dtype=np.float32)
    np.testing.assert_allclose(series, reference(raw, axis, values, axis, atlas.index), rtol=1e-9)
    assert covered.all()


def test_a_parcel_needs_half_of_its_grayordinates(tmp_path):
    values = np.repeat([1, 2, 3, 4], [10, 10, 20, N])  # 1-3 on the left
    atlas = write_dlabel(tmp_path / "a.dlabel.nii", places(voxels=()), values)
    path = write_dtseries(tmp_path / "r.dtseries.nii", places(left=[*range(5), *range(10, 14)], voxels=()))
    series, covered = grayordinate_series(path, atlas, np.arange(1, 5))
    assert covered.tolist() == [True, False, False, True]
    assert (series[:, 2] == 0).all()


def test_values_that_are_not_finite_count_as_zero_and_scaling_is_applied(tmp_path):
    axis = places(voxels=())
    data = np.random.default_rng(0).normal(100, 5, (30, len(axis)))
    data[3, 7], data[:, 9] = np.nan, np.inf
    atlas = write_dlabel(tmp_path / "a.dlabel.nii", axis, np.full(len(axis), 1))
    path = write_dtseries(tmp_path / "r.dtseries.nii", axis, data=data)
    wanted = np.where(np.isfinite(data), data, 0).mean(axis=1)
    np.testing.assert_allclose(grayordinate_series(path, atlas, np.array([1]))[0][:, 0], wanted, rtol=1e-6)
    raw = bytearray(path.read_bytes())
    raw[176:192] = np.array([2.0, 30.0]).tobytes()  # scl_slope and scl_inter of NIfTI-2
    path.write_bytes(bytes(raw))
    wanted = np.where(np.isfinite(data), data * 2 + 30, 0).mean(axis=1)
    np.testing.assert_allclose(grayordinate_series(path, atlas, np.array([1]))[0][:, 0], wanted, rtol=1e-6)


def test_what_does_not_belong_together_is_one_line(tmp_path):
    axis = places()
    atlas = write_dlabel(tmp_path / "a.dlabel.nii", axis, np.ones(len(axis)))
    for other, message in (
        (places(n=N + 1), r"cortex_left has 41 vertices, in the atlas 40"),
        (places(shape=(5, 4, 4)), "another grid"),
        (places(affine=np.diag([2.0, 2, 2, 1])), "another grid"),
    ):
        with pytest.raises(Exclusion, match=message):
            grayordinate_series(write_dtseries(tmp_path / "r.dtseries.nii", other), atlas, np.array([1]))
    with pytest.raises(Exclusion, match=r"lies on the surface, the atlas in a volume: set atlas\.image"):
        run_means(tmp_path / "r.dtseries.nii", tmp_path / "atlas.nii.gz", np.array([1]))
    with pytest.raises(Exclusion, match="is a volume, the atlas lies on the surface"):
        run_means(tmp_path / "r.nii.gz", atlas, np.array([1]))


def test_damaged_and_other_files_are_refused(tmp_path):
    axis = places()
    path = write_dtseries(tmp_path / "r.dtseries.nii", axis)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(Exclusion, match=r"r.dtseries.nii is cut off: \d+ of \d+ bytes"):
        open_series(path)
    for broken in (b"no image", whole[:700]):
        path.write_bytes(broken)
        with pytest.raises(Exclusion, match="not readable as CIFTI-2") as caught:
            open_series(path)
        assert "\n" not in str(caught.value)
    nib.Nifti2Image(np.zeros((2, 2, 2, 5), np.float32), np.eye(4)).to_filename(path)
    with pytest.raises(Exclusion, match="without a CIFTI-2 header"):
        open_series(path)
    nib.save(nib.Cifti2Image(np.zeros((1, len(axis)), np.float32), (ScalarAxis(["x"]), axis)), path)
    with pytest.raises(Exclusion, match="no series of grayordinates"):
        open_series(path)


def test_repetition_time_is_in_seconds_or_unknown(tmp_path):
    assert series_t_r(write_dtseries(tmp_path / "r.dtseries.nii", places(), t_r=0.8)) == pytest.approx(0.8)
    assert np.isnan(series_t_r(write_dtseries(tmp_path / "r.dtseries.nii", places(), unit="HERTZ")))


# ---- the atlas stage


def test_a_dlabel_brings_its_own_names(tmp_path):
    axis = places()
    values = np.resize([0, 3, 7, 9], len(axis))
    table = {3: ("V1", (1.0, 0, 0, 1.0)), 7: ("M1", (0, 1.0, 0, 1.0)), 8: ("nowhere", (0, 0, 1.0, 1.0))}
    source = write_dlabel(tmp_path / "a.dlabel.nii", axis, values, table)
    out = tmp_path / "atlas" / "atlas.tsv"
    out.parent.mkdir()
    out.with_name("atlas.nii.gz").write_bytes(b"of an earlier run")
    options = AtlasOptions(image=str(source), exclude=["M1"])
    run(options=options, out=out)
    atlas = load_atlas(out)
    assert atlas.image == out.with_name("atlas.dlabel.nii")
    assert (atlas.names, atlas.index.tolist()) == (["V1", "label 9"], [3, 9])
    assert np.isnan(atlas.coordinates).all()
    written = read_labels(atlas.image)
    np.testing.assert_array_equal(written.values, np.where(values == 7, 0, values))
    assert written.places == axis
    before = atlas.image.read_bytes()
    run(options=options, out=out)
    assert atlas.image.read_bytes() == before
    run(options=AtlasOptions(), out=out)
    assert load_atlas(out).image == out.with_name("atlas.nii.gz")


def test_a_dlabel_with_a_table(tmp_path):
    axis = places()
    source = write_dlabel(tmp_path / "a.dlabel.nii", axis, np.resize([0, 1, 2], len(axis)))
    table = tmp_path / "t.tsv"
    table.write_text("index\tname\tnetwork\tx\ty\tz\n1\tA\tvisual\t1\t2\t3\n2\tB\tmotor\t4\t5\t6\n")
    run(options=AtlasOptions(image=str(source), table=str(table)), out=tmp_path / "atlas.tsv")
    atlas = load_atlas(tmp_path / "atlas.tsv")
    assert (atlas.networks, atlas.coordinates[1].tolist()) == (["visual", "motor"], [4, 5, 6])
    table.write_text("index\tname\n1\tA\n5\tB\n")
    with pytest.raises(McspError, match="the image lacks 1 label"):
        run(options=AtlasOptions(image=str(source), table=str(table)), out=tmp_path / "atlas.tsv")


def test_other_cifti_files_are_no_parcellation(tmp_path):
    axis, path = places(), tmp_path / "a.dlabel.nii"
    nib.save(nib.Cifti2Image(np.ones((1, len(axis)), np.float32), (ScalarAxis(["thickness"]), axis)), path)
    with pytest.raises(McspError, match=r"holds scalar by brainmodel: a parcellation is a \.dlabel\.nii"):
        run(options=AtlasOptions(image=str(path)), out=tmp_path / "atlas.tsv")
    two = LabelAxis(["a", "b"], [{0: ("???", (0.0,) * 4), 1: ("x", (1.0,) * 4)}] * 2)
    nib.save(nib.Cifti2Image(np.ones((2, len(axis)), np.int32), (two, axis)), path)
    with pytest.raises(McspError, match="holds 2 parcellations"):
        run(options=AtlasOptions(image=str(path)), out=tmp_path / "atlas.tsv")
    path.write_bytes(b"nothing")
    with pytest.raises(McspError, match="not readable as CIFTI-2"):
        run(options=AtlasOptions(image=str(path)), out=tmp_path / "atlas.tsv")


def test_the_stage_takes_grayordinates(tmp_path):
    """A sinusoid on the vertices of one parcel comes through as it does in volumes."""
    axis = places()
    values = np.resize([1, 2, 3], len(axis))
    source = write_dlabel(tmp_path / "a.dlabel.nii", axis, values)
    run(options=AtlasOptions(image=str(source)), out=tmp_path / "atlas.tsv")
    data = np.random.default_rng(0).normal(100, 0.1, (150, len(axis)))
    data[:, values == 2] += 5 * np.sin(2 * np.pi * 0.05 * 2.0 * np.arange(150))[:, None]
    path = write_dtseries(tmp_path / "r.dtseries.nii", axis, data=data)
    row = dict.fromkeys(COLUMNS, "") | {"path": str(path), "kind": "bold", "t_r": 2.0}
    series, n_valid, *_ = subject_series([row], load_atlas(tmp_path / "atlas.tsv"), FmriOptions(confounds="none"))
    wave = np.sin(2 * np.pi * 0.05 * 2.0 * np.arange(n_valid))
    correlations = [np.corrcoef(one[5:-5], wave[5:-5])[0, 1] for one in series]
    assert correlations[1] > 0.98
    assert max(np.abs(correlations)[[0, 2]]) < 0.5
