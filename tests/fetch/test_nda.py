"""A package of the NIMH Data Archive: which files are wanted, where they lie, where they go."""

from pathlib import Path

import pytest

from mcsp.errors import McspError
from mcsp.fetch.nda import Package, kind_of, lay_out, wanted_files
from mcsp.options.fetch import NdaPackage
from mcsp.store import read_json
from tests.fetch import mirrors


def test_files_are_found_by_the_ends_of_their_urls(tmp_path):
    for place in ("image03/s1/scan.nii", "image03/s2/scan.nii", "alone.nii"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    package = Package(tmp_path)
    assert package.find("s3://bucket/submission_1/s2/scan.nii") == tmp_path / "image03/s2/scan.nii"
    assert package.find("C:\\data\\s1\\scan.nii") == tmp_path / "image03/s1/scan.nii"
    assert package.find("s3://elsewhere/alone.nii") == tmp_path / "alone.nii"
    assert package.find("s3://bucket/other/scan.nii") is None  # two fit alike
    assert package.find("s3://bucket/none.nii") is None
    assert package.find("../../etc/passwd") is None


@pytest.mark.parametrize(
    ("table", "row", "kind"),
    [
        ("image03", {"scan_type": "MR structural (T1)"}, "T1w"),
        ("image03", {"scan_type": "fMRI", "image_description": "Resting BOLD"}, "bold"),
        ("image03", {"scan_type": "fMRI", "image_description": "reward"}, ""),
        ("image03", {"scan_type": "MR diffusion", "image_description": "rest"}, ""),
        ("eeg_sub_files01", {"task_name": "REST_EC"}, "eeg"),
        ("eeg_sub_files01", {"task_name": "LDAEP"}, ""),
    ],
)
def test_what_is_wanted(table, row, kind):
    assert kind_of(row, table, "x/y.nii.gz", NdaPackage(package="p")) == kind


def test_laid_out_once_with_seconds(tmp_path):
    mirrors.nda_package(tmp_path / "package")
    options = NdaPackage(package=str(tmp_path / "package"))
    rows = lay_out("embarc", options, tmp_path / "bids")
    assert [row[1] for row in rows].count("fetched") == 4
    stem = tmp_path / "bids/sub-CU0001/ses-Baseline/func/sub-CU0001_ses-Baseline_task-rest_run-2_bold"
    assert read_json(f"{stem}.json") == {"TaskName": "rest", "RepetitionTime": 2.0}  # told in ms
    source = tmp_path / "package/image03/CU0001/b/scan.nii.gz"
    assert stem.with_name(f"{stem.name}.nii.gz").read_bytes() == source.read_bytes()
    assert source.is_file()
    again = [row[1] for row in lay_out("embarc", options, tmp_path / "bids")]
    assert again.count("there") == 4


def test_visits_and_faults_in_one_line(tmp_path):
    mirrors.nda_package(tmp_path / "package")
    options = NdaPackage(package=str(tmp_path / "package"), visits=["Week 1"])
    assert not list(wanted_files(options))
    with pytest.raises(McspError, match=r"package: nothing to lay out: no row of image03 or eeg_sub_files01 tells of T1w"):
        lay_out("embarc", options, tmp_path / "bids")
    (tmp_path / "package/image03/CU0001/T1.nii.gz").unlink()
    gone = [found for found in wanted_files(NdaPackage(package=str(tmp_path / "package"))) if found.kind == "T1w"]
    assert gone[0].trouble.startswith("not in the package, or two fit: download its associated files")


def test_a_file_that_arrives_later_has_its_own_name(tmp_path):
    """Numbers of runs are the tables', and equal sizes are no equal recordings."""
    package, bids = tmp_path / "package", tmp_path / "bids"
    mirrors.nda_package(package)
    first, second = (package / f"image03/CU0001/{folder}/scan.nii.gz" for folder in "ab")
    content = {1: first.read_bytes(), 2: second.read_bytes()}
    stem = bids / "sub-CU0001/ses-Baseline/func/sub-CU0001_ses-Baseline_task-rest_run-"
    first.unlink()
    options = NdaPackage(package=str(package))
    rows = lay_out("embarc", options, bids)
    assert rows[1][:2] == ("s3://NDAR_Central_1/submission_19221/CU0001/a/scan.nii.gz", "left out")
    assert not Path(f"{stem}1_bold.nii.gz").exists()
    first.write_bytes(content[1])
    lay_out("embarc", options, bids)
    assert {run: Path(f"{stem}{run}_bold.nii.gz").read_bytes() for run in content} == content
    second.unlink()
    second.write_bytes(bytes(len(content[2])))  # another recording of the same size
    assert {row[0]: row[1] for row in lay_out("embarc", options, bids)}[
        f"{stem}2_bold.nii.gz".removeprefix(f"{bids}/")
    ] == "fetched"
    assert Path(f"{stem}2_bold.nii.gz").read_bytes() == second.read_bytes()


def test_tables_that_are_damaged_are_named(tmp_path):
    mirrors.nda_package(tmp_path / "package")
    table = tmp_path / "package/image03.txt"
    table.write_text(table.read_text() + "a\tcell\ttoo\tmany\tin\tthis\trow\n")
    with pytest.raises(McspError, match=r"image03\.txt: table of the archive not readable .*: download it again"):
        lay_out("embarc", NdaPackage(package=str(tmp_path / "package")), tmp_path / "bids")
