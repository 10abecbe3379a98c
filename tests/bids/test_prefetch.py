"""`prefetch` lists what it downloaded, with checksums; a machine without a network gets one clear line."""

import hashlib
import shutil

import pytest
from nilearn import datasets

from mcsp.errors import McspError
from mcsp.fetch.prefetch import run
from mcsp.options.atlas import AtlasOptions
from mcsp.store import read_tsv


def test_nothing_to_download_for_what_is_built_in_or_given(tmp_path, capsys):
    for options in (
        AtlasOptions(),
        AtlasOptions(name="mine", table="t.tsv", kind="series"),
        AtlasOptions(name="schaefer100", image="x", table="t.tsv"),
    ):
        run(atlas=options, out=tmp_path / "downloads.tsv")
        assert read_tsv(tmp_path / "downloads.tsv").empty
        assert "nothing to download" in capsys.readouterr().out


def test_downloads_are_listed_with_checksums(tmp_path, real_data, monkeypatch):
    maps = tmp_path / "Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.nii.gz"
    shutil.copy(real_data / "schaefer2018" / maps.name, maps)
    (tmp_path / "Schaefer2018_200Parcels_7Networks_order_FSLMNI152_2mm.nii.gz").write_bytes(b"another one")
    asked = {}

    def fetch(**options):
        asked.update(options)
        return {"maps": str(maps), "labels": [f"7Networks_LH_Vis_{i}" for i in range(100)]}

    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", fetch)
    run(atlas=AtlasOptions(name="schaefer100"), out=tmp_path / "out" / "downloads.tsv")
    table = read_tsv(tmp_path / "out" / "downloads.tsv")
    assert asked["n_rois"] == 100
    assert table["path"].tolist() == [str(maps)]
    assert table["sha256"].tolist() == [hashlib.sha256(maps.read_bytes()).hexdigest()]


def test_no_network(tmp_path, monkeypatch):
    def fetch(**options):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "fetch_atlas_schaefer_2018", fetch)
    with pytest.raises(McspError, match=r"atlas\.name = schaefer200 can't be downloaded .*built in"):
        run(atlas=AtlasOptions(name="schaefer200"), out=tmp_path / "downloads.tsv")
    assert not (tmp_path / "downloads.tsv").exists()
