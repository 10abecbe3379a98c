from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import datasets

from mcsp.atlas import REACH_MM, load_atlas, read_regions, run
from mcsp.errors import McspError
from mcsp.fetch.prefetch import run as prefetch
from mcsp.options.atlas import AtlasOptions

ATLASES = Path(__file__).resolve().parents[1] / "config" / "atlases"


@pytest.fixture(scope="module")
def dosenbach(tmp_path_factory):
    out = tmp_path_factory.mktemp("dosenbach") / "atlas.tsv"
    run(options=AtlasOptions(), out=out)
    return load_atlas(out)


def small(tmp_path, labels=(0, 1, 2, 7), names=("a", "b", "c"), index=(1, 2, 7)):
    """A label image of four voxels and its table."""
    image, table = tmp_path / "labels.nii.gz", tmp_path / "table.tsv"
    nib.Nifti1Image(np.array(labels, np.int16).reshape(-1, 1, 1), np.diag([2.0, 2, 2, 1])).to_filename(image)
    pd.DataFrame({"index": index, "name": names}).to_csv(table, sep="\t", index=False)
    return AtlasOptions(name="mine", image=str(image), table=str(table))


def test_dosenbach_is_named_and_local(dosenbach):
    published = datasets.fetch_coords_dosenbach_2010(ordered_regions=True)
    assert dosenbach.names == [str(label) for label in published["labels"]]
    assert set(dosenbach.networks) == {
        "default", "fronto-parietal", "cingulo-opercular", "sensorimotor", "occipital", "cerebellum"
    }  # fmt: skip
    np.testing.assert_array_equal(dosenbach.coordinates, published["rois"][["x", "y", "z"]].to_numpy(float))
    image = nib.load(dosenbach.image)
    labels = np.asanyarray(image.dataobj)
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(np.unique(labels), np.arange(161))
    voxels = np.argwhere(labels)
    places = nib.affines.apply_affine(image.affine, voxels)
    distance = np.linalg.norm(places[:, None] - dosenbach.coordinates[None], axis=2)
    own = distance[np.arange(len(voxels)), labels[tuple(voxels.T)] - 1]
    assert own.max() <= REACH_MM
    np.testing.assert_allclose(own, distance.min(axis=1))  # Voronoi: no other centre is nearer


def test_cerebellar_nodes_are_marked(dosenbach):
    marked = [name for name, network in zip(dosenbach.names, dosenbach.networks) if network == "cerebellum"]
    assert len(marked) == 18
    assert all("cerebellum" in name for name in marked)


def test_rewriting_changes_no_byte(tmp_path, dosenbach):
    run(options=AtlasOptions(), out=tmp_path / "atlas.tsv")
    for name in ("atlas.tsv", "atlas.json", "atlas.nii.gz"):
        assert (tmp_path / name).read_bytes() == dosenbach.image.with_name(name).read_bytes()


def test_schaefer_volume_and_table(tmp_path, real_data):
    folder = real_data / "schaefer2018"
    options = AtlasOptions(
        name="schaefer100",
        image=str(folder / "Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.nii.gz"),
        table=str(folder / "schaefer100_labels.tsv"),
    )
    run(options=options, out=tmp_path / "atlas.tsv")
    atlas = load_atlas(tmp_path / "atlas.tsv")
    assert len(atlas.names) == 100
    assert len(set(atlas.networks)) == 7
    original = nib.load(options.image)
    written = nib.load(atlas.image)
    np.testing.assert_array_equal(written.get_fdata(), original.get_fdata())
    np.testing.assert_allclose(written.affine, original.affine)
    left = np.array([name.startswith("7Networks_LH") for name in atlas.names])
    assert (atlas.coordinates[left, 0] < 0).all()
    assert (atlas.coordinates[~left, 0] > 0).all()


def test_schaefer_through_nilearn(tmp_path, real_data, monkeypatch):
    """The fetcher's answer (labels with a background, bytes or text) becomes table and image; centres as published."""
    folder = real_data / "schaefer2018"
    published = pd.read_csv(folder / "schaefer100_labels.tsv", sep="\t")
    image = folder / "Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.nii.gz"
    labels = ["Background", *(name.encode() for name in published["name"])]
    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", lambda **_: {"maps": str(image), "labels": labels})
    run(options=AtlasOptions(name="schaefer100"), out=tmp_path / "atlas.tsv")
    atlas = load_atlas(tmp_path / "atlas.tsv")
    assert atlas.names == list(published["name"])
    assert atlas.networks == list(published["network"])
    error = np.abs(atlas.coordinates - published[["x", "y", "z"]].to_numpy())
    assert np.median(error) < 3  # nilearn takes the largest part's centre, the published table the mean


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """nilearn's cache, with the two files of a parcellation of 100 that its fetcher looks for; no network is asked."""
    folder = tmp_path / "cache" / "schaefer_2018"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NILEARN_DATA", str(folder.parent))
    monkeypatch.delenv("NILEARN_SHARED_DATA", raising=False)
    stem = folder / "Schaefer2018_100Parcels_7Networks_order"
    names = [f"7Networks_{'LR'[i // 50]}H_{'Vis' if i % 2 else 'Default'}_{i}" for i in range(100)]
    rows = [f"{i}\t{name}\t120\t18\t131\t0\n" for i, name in enumerate(names, 1)]
    Path(f"{stem}.txt").write_text("".join(rows))
    labels = np.zeros((12, 10, 4), np.int16)
    labels[:10, :, 0] = np.arange(1, 101).reshape(10, 10)
    nib.Nifti1Image(labels, np.diag([2.0, 2, 2, 1])).to_filename(f"{stem}_FSLMNI152_2mm.nii.gz")
    return folder


def test_schaefer_from_the_cache_of_the_real_fetcher(tmp_path, cache):
    run(options=AtlasOptions(name="schaefer100"), out=tmp_path / "atlas.tsv")
    atlas = load_atlas(tmp_path / "atlas.tsv")
    assert (len(atlas.names), set(atlas.networks)) == (100, {"Vis", "Default"})
    assert atlas.names[2] == "7Networks_LH_Default_2"
    np.testing.assert_allclose(atlas.coordinates[13], [2.0, 6.0, 0.0])  # label 14, one voxel
    prefetch(atlas=AtlasOptions(name="schaefer100"), out=tmp_path / "downloads.tsv")
    listed = pd.read_csv(tmp_path / "downloads.tsv", sep="\t")
    assert sorted(listed["path"]) == sorted(str(path.resolve()) for path in cache.iterdir())
    assert all(listed["sha256"].str.len() == 64)


@pytest.mark.parametrize("damage", ["cut", "html", "labels"])
def test_a_damaged_cache_is_one_line(tmp_path, cache, damage):
    image, text = sorted(cache.iterdir(), key=lambda path: path.suffix)
    if damage == "labels":
        text.write_text("1\tonly one\t1\t1\t1\t0\n")
    else:
        image.write_bytes(image.read_bytes()[:60] if damage == "cut" else b"<html>sign in first</html>")
    with pytest.raises(McspError, match=r"cache.*delete") as caught:
        run(options=AtlasOptions(name="schaefer100"), out=tmp_path / "atlas.tsv")
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    def offline(**_):
        raise OSError("Name or service not known\nsecond line")

    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", offline)
    with pytest.raises(McspError, match=r"prefetch.*atlas\.image and atlas\.table") as caught:
        run(options=AtlasOptions(name="schaefer200"), out=tmp_path / "atlas.tsv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (AtlasOptions(table="missing.tsv", kind="series"), "missing.tsv: not readable"),
        (AtlasOptions(exclude=["nobody"]), "no region nobody"),
    ],
)
def test_wrong_files_and_regions(tmp_path, options, message):
    with pytest.raises(McspError, match=message) as caught:
        run(options=options, out=tmp_path / "atlas.tsv")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "atlas.tsv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": (0, 1, 2, 2)}, r"the image lacks 1 label\(s\) of the other \(7\)"),
        ({"labels": (0, 1, 2, 7, 9)}, r"the table lacks 1 label\(s\) of the other \(9\)"),
        ({"names": ("a", "b", "b")}, "name b stands twice"),
        ({"index": (1, 2, 2)}, "index 2 stands twice"),
        ({"index": (0, 1, 2)}, "above 0"),
        ({"index": ("1", "two", "3")}, "index = two is no number"),
    ],
)
def test_table_and_image_that_disagree(tmp_path, change, message):
    with pytest.raises(McspError, match=message):
        run(options=small(tmp_path, **change), out=tmp_path / "atlas.tsv")


def test_images_that_hold_no_labels(tmp_path):
    options = small(tmp_path)
    nib.Nifti1Image(np.full((2, 2, 2), 0.5), np.eye(4)).to_filename(options.image)
    with pytest.raises(McspError, match="not a label image"):
        run(options=options, out=tmp_path / "atlas.tsv")
    Path(options.image).write_bytes(b"no image")
    with pytest.raises(McspError, match="not readable as NIfTI"):
        run(options=options, out=tmp_path / "atlas.tsv")


def test_own_atlas_without_a_region(tmp_path):
    options = small(tmp_path).model_copy(update={"exclude": ["b"]})
    run(options=options, out=tmp_path / "out" / "atlas.tsv")
    atlas = load_atlas(tmp_path / "out" / "atlas.tsv")
    assert atlas.names == ["a", "c"]
    assert atlas.codes == ["a", "c"]
    assert list(atlas.index) == [1, 7]
    assert atlas.networks == ["n/a", "n/a"]
    assert np.isnan(atlas.coordinates).all()
    assert atlas.meta()["coordinates"] == [None, None]
    np.testing.assert_array_equal(np.unique(nib.load(atlas.image).get_fdata()), [0, 1, 7])


def test_series_has_no_image(tmp_path):
    """An image that an earlier kind of atlas left there must not be taken for the series'."""
    (tmp_path / "atlas.nii.gz").write_bytes(b"old")
    options = AtlasOptions(name="ho", table=str(ATLASES / "harvard_oxford_cpac.tsv"), kind="series", exclude=["3455"])
    run(options=options, out=tmp_path / "atlas.tsv")
    atlas = load_atlas(tmp_path / "atlas.tsv")
    assert atlas.image is None
    assert len(atlas.names) == 110
    assert "3455" not in atlas.codes


def test_harvard_oxford_table():
    """111 columns in C-PAC's order; left is left; both hemispheres name the same regions at mirrored places."""
    rows = read_regions(ATLASES / "harvard_oxford_cpac.tsv")
    assert len(rows) == 111
    assert list(rows["index"]) == list(range(1, 112))
    assert list(rows["code"][:15]) == [
        "10",
        "11",
        "12",
        "13",
        "17",
        "18",
        "26",
        "49",
        "50",
        "51",
        "52",
        "53",
        "54",
        "58",
        "101",
    ]
    assert [int(code) for code in rows["code"]] == sorted(int(code) for code in rows["code"])
    rows = rows[rows["code"] != "3455"].set_index("name")
    assert (rows.loc[rows.index.str.startswith("L "), "x"] < 0).all()
    assert (rows.loc[rows.index.str.startswith("R "), "x"] > 0).all()
    left = rows[rows.index.str.startswith("L ")].rename(index=lambda name: name[2:])
    right = rows[rows.index.str.startswith("R ")].rename(index=lambda name: name[2:]).loc[left.index]
    assert len(left) == len(right) == 55
    assert list(left["network"]) == list(right["network"])
    assert np.abs(left[["x", "y", "z"]].to_numpy() * [-1, 1, 1] - right[["x", "y", "z"]].to_numpy()).max() < 7
