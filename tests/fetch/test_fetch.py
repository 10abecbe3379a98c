"""Fetching over plain HTTP: what comes is whole, what breaks goes on, what is there is left alone."""

import hashlib
import json
import time
from pathlib import Path

import pytest

from mcsp.bids.recordings import sidecar_of
from mcsp.errors import McspError
from mcsp.fetch import cohort
from mcsp.fetch.bucket import Remote, list_remotes, place, take_subset, unwanted_directory
from mcsp.fetch.cohort import run, run_study
from mcsp.options.fetch import FetchOptions, Source
from mcsp.store import read_tsv
from tests.fetch.bucket_server import Bucket, serve

PREFIX = "data/Projects/X/RawDataBIDS/"


def objects(prefix: str = f"b/{PREFIX}") -> dict[str, bytes]:
    """Two sites of BIDS data, a derivative, a table beside them, and a directory's marker."""
    found = {f"{prefix}A_phenotypic.csv": b"ScanDir ID,DX\n1,0\n", f"{prefix}A/": b"", f"{prefix}A/README": b"of A"}
    for site, t_r in (("A", 2.0), ("B", 1.5)):
        found[f"{prefix}{site}/task-rest_bold.json"] = json.dumps({"RepetitionTime": t_r}).encode()
        found[f"{prefix}{site}/participants.tsv"] = f"participant_id\n{site}1\n".encode()
        for number in (1, 2):
            stem = f"{prefix}{site}/sub-{site}{number}"
            body = hashlib.sha256(stem.encode()).digest() * 3000
            found[f"{stem}/func/sub-{site}{number}_task-rest_bold.nii.gz"] = body
            found[f"{stem}/anat/sub-{site}{number}_T1w.nii.gz"] = body[::-1]
    found[f"{prefix}A/derivatives/x/sub-A1/sub-A1_x.nii.gz"] = b"no"
    return found


@pytest.fixture
def bucket():
    with serve(Bucket(objects())) as served:
        yield served


def options(bucket: Bucket, **changes) -> FetchOptions:
    source = Source(bucket=f"{bucket.url}/b", prefix=PREFIX, sites=True, exclude=["derivatives/*"])
    given = {"terms": "https://terms", "accept_terms": True, "sources": [source], "retries": 3, **changes}
    return FetchOptions.model_validate(given)


def fetch(bucket: Bucket, root: Path, name: str = "d", **changes):
    out = root / "out.tsv"
    run(name=name, options=options(bucket, **changes), path=root / "data", out=out, threads=4, wait=0.01)
    return read_tsv(out).set_index("path")


BOLD = f"b/{PREFIX}A/sub-A1/func/sub-A1_task-rest_bold.nii.gz"
LOCAL = "sub-A1/func/sub-A1_task-rest_bold.nii.gz"


def test_two_sites_become_one_bids_dataset(bucket, tmp_path, capsys):
    table = fetch(bucket, tmp_path)
    root = tmp_path / "data"
    assert (root / LOCAL).read_bytes() == bucket.objects[BOLD]
    assert (root / LOCAL).stat().st_mtime == 1_400_000_000.0
    assert set(table["state"]) == {"fetched"}
    assert not list(root.rglob("*derivatives*"))
    assert not list(root.rglob("*phenotypic*"))  # lies in no site
    assert not list(root.rglob("*.part"))
    assert (root / "sourcedata/A/README").read_bytes() == b"of A"
    assert (root / "sourcedata/B/participants.tsv").is_file()
    assert json.loads((root / "dataset_description.json").read_text())["BIDSVersion"] == "1.8.0"
    # What a site's top says of its recordings is found from each of them, and not mixed up.
    for subject, t_r in (("A1", 2.0), ("B2", 1.5)):
        path = root / f"sub-{subject}/func/sub-{subject}_task-rest_bold.nii.gz"
        assert sidecar_of(path)["RepetitionTime"] == t_r
    printed = capsys.readouterr().out
    assert "d: terms of use: https://terms" in printed
    assert "d: 13 files of 4 subjects, 768.1 kB, into" in printed
    assert printed.index("to fetch now: 13 files") < printed.index("/s, about")


def test_what_is_there_is_left_alone(bucket, tmp_path, capsys):
    fetch(bucket, tmp_path)
    before = dict(bucket.asked)
    table = fetch(bucket, tmp_path)
    assert set(table["state"]) == {"there"}
    assert dict(bucket.asked) == before
    assert "to fetch now: 0 files, 0 B" in capsys.readouterr().out


def test_changes_on_either_side_are_fetched_again(bucket, tmp_path):
    fetch(bucket, tmp_path)
    path = tmp_path / "data" / LOCAL
    bucket.objects[BOLD] = b"another recording" * 100
    path.with_name("sub-A1_task-rest_bold.nii.gz").touch()  # its time tells nothing any more
    (tmp_path / "data/sub-B1/anat/sub-B1_T1w.nii.gz").write_bytes(b"cut")
    table = fetch(bucket, tmp_path)
    assert sorted(table.index[table["state"] == "fetched"]) == [
        "sub-A1/func/sub-A1_task-rest_bold.nii.gz",
        "sub-B1/anat/sub-B1_T1w.nii.gz",
    ]
    assert path.read_bytes() == bucket.objects[BOLD]


def test_copies_with_another_time_are_known_by_their_checksum(bucket, tmp_path):
    fetch(bucket, tmp_path)
    (tmp_path / "data" / LOCAL).touch()
    before = dict(bucket.asked)
    assert set(fetch(bucket, tmp_path)["state"]) == {"there"}
    assert dict(bucket.asked) == before
    (tmp_path / "data" / LOCAL).write_bytes(bytes(len(bucket.objects[BOLD])))  # of the same size
    assert fetch(bucket, tmp_path).loc[LOCAL, "state"] == "fetched"


def test_cut_transfers_go_on_where_they_stopped(bucket, tmp_path):
    bucket.cut[BOLD] = 3
    fetch(bucket, tmp_path)
    size = len(bucket.objects[BOLD])
    assert (tmp_path / "data" / LOCAL).read_bytes() == bucket.objects[BOLD]
    assert bucket.ranges == [f"bytes={size // 2}-", f"bytes={size * 3 // 4}-", f"bytes={size * 7 // 8}-"]


def test_a_server_without_ranges_starts_again(bucket, tmp_path):
    bucket.cut[BOLD], bucket.no_ranges = 1, True
    fetch(bucket, tmp_path)
    assert (tmp_path / "data" / LOCAL).read_bytes() == bucket.objects[BOLD]


def test_the_next_run_goes_on(bucket, tmp_path):
    bucket.cut[BOLD] = 10
    with pytest.raises(McspError, match=rf"d: 1 of 13 files were not fetched \(first: {LOCAL}: .*4 tries.*run it again"):
        fetch(bucket, tmp_path)
    assert not (tmp_path / "data" / LOCAL).exists()
    assert len(list((tmp_path / "data").rglob("*.part"))) == 1
    bucket.cut.clear()
    table = fetch(bucket, tmp_path)
    assert table["state"].value_counts().to_dict() == {"there": 12, "fetched": 1}
    assert (tmp_path / "data" / LOCAL).read_bytes() == bucket.objects[BOLD]
    assert bucket.ranges[-1] == f"bytes={len(bucket.objects[BOLD]) * 15 // 16}-"


def test_damaged_transfers_are_noticed_by_the_checksum(bucket, tmp_path):
    bucket.garbled[BOLD] = 2
    fetch(bucket, tmp_path)
    assert (tmp_path / "data" / LOCAL).read_bytes() == bucket.objects[BOLD]
    assert bucket.asked[BOLD] == 3


def test_interrupted_it_stops_at_once_and_the_next_run_goes_on(bucket, tmp_path, monkeypatch, capsys):
    """Files that wait are not begun, one under way stays as a part."""
    large, real = f"b/{PREFIX}B/sub-B1/func/sub-B1_task-rest_bold.nii.gz", cohort.fetch_file
    bucket.objects[large], bucket.rate = bytes(4_000_000), 1_000_000.0

    def interrupted(session, remote, target, **options):
        if target.name.startswith("sub-A1"):  # as if the key was pressed while the large file comes
            until = time.monotonic() + 20
            while not list((tmp_path / "data").rglob("*sub-B1_task*.part")) and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.3)
            raise KeyboardInterrupt
        real(session, remote, target, **options)

    def first(remote: Remote) -> tuple:
        return not remote.path.startswith("sub-A1"), -remote.size

    monkeypatch.setattr(cohort, "fetch_file", interrupted)
    monkeypatch.setattr(cohort, "list_remotes", lambda *given: sorted(list_remotes(*given), key=first))
    with pytest.raises(KeyboardInterrupt):
        fetch(bucket, tmp_path)
    assert "stopped: what came is kept" in capsys.readouterr().out
    (part,) = (tmp_path / "data").rglob("*sub-B1_task*.part")
    assert 0 < part.stat().st_size < 4_000_000
    begun = sum(bucket.asked.values())
    assert begun < 11  # of 13 files, the two of sub-A1 are never asked for here: some of the others were not begun
    monkeypatch.undo()
    bucket.rate = 0.0
    fetch(bucket, tmp_path)
    assert bucket.ranges[-1].startswith("bytes=")
    assert (tmp_path / "data/sub-B1/func/sub-B1_task-rest_bold.nii.gz").stat().st_size == 4_000_000


def test_objects_in_parts_have_no_checksum(bucket, tmp_path):
    bucket.etags[BOLD] = "0123456789abcdef0123456789abcdef-2"
    table = fetch(bucket, tmp_path)
    assert table.loc[LOCAL, "etag"].endswith("-2")
    assert (tmp_path / "data" / LOCAL).read_bytes() == bucket.objects[BOLD]


def test_objects_under_a_key_have_no_checksum(bucket, tmp_path):
    bucket.etags[BOLD] = "0123456789abcdef0123456789abcdef"
    with pytest.raises(McspError, match="its checksum is not the server's"):
        fetch(bucket, tmp_path / "plain")
    bucket.encrypted = True
    fetch(bucket, tmp_path / "under a key")
    assert (tmp_path / "under a key" / "data" / LOCAL).read_bytes() == bucket.objects[BOLD]


def test_missing_objects_are_noted_and_stop_nothing(bucket, tmp_path, capsys):
    bucket.gone.add(BOLD)
    table = fetch(bucket, tmp_path)
    assert table["state"].value_counts().to_dict() == {"fetched": 12, "missing": 1}
    assert table.loc[LOCAL, "state"] == "missing"
    assert f"d: {LOCAL}: the server has it in its list, and answers HTTP 404" in capsys.readouterr().out
    assert bucket.asked[BOLD] == 1  # not tried again
    bucket.gone |= set(bucket.objects)
    with pytest.raises(McspError, match="13 of 13 files were not fetched"):
        fetch(bucket, tmp_path / "again")


def test_a_busy_server_is_waited_for(bucket, tmp_path):
    bucket.busy = 2
    assert set(fetch(bucket, tmp_path)["state"]) == {"fetched"}


def test_changed_while_it_is_fetched(bucket, tmp_path, monkeypatch):
    real = cohort.transfer

    def late(*arguments, **named):
        bucket.objects[BOLD] = b"new"
        return real(*arguments, **named)

    monkeypatch.setattr(cohort, "transfer", late)
    with pytest.raises(McspError, match="it changed on the server since it was listed: fetch again"):
        fetch(bucket, tmp_path)
    monkeypatch.undo()
    fetch(bucket, tmp_path)
    assert (tmp_path / "data" / LOCAL).read_bytes() == b"new"
    assert not list((tmp_path / "data").rglob("*.part"))


def test_terms_are_accepted_in_the_study_file_only(bucket, tmp_path, capsys):
    with pytest.raises(
        McspError, match=r"d: not fetched: read the terms \(https://terms\), then set datasets\.d\.fetch\.accept"
    ):
        fetch(bucket, tmp_path, accept_terms=False)
    assert "d: 13 files of 4 subjects" in capsys.readouterr().out  # the estimate comes first
    assert not bucket.asked
    assert not (tmp_path / "data").exists()


def test_a_full_disk_is_told_before_it_is_full(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "_free", lambda path: 1000)
    with pytest.raises(McspError, match=r"d: 768\.1 kB do not fit into .* \(1\.0 kB free\): make room, or set subset"):
        fetch(bucket, tmp_path)
    assert not bucket.asked


def test_a_subset_takes_every_site(bucket, tmp_path):
    fetch(bucket, tmp_path, subset=1)
    assert sorted(path.name for path in (tmp_path / "data").glob("sub-*")) == ["sub-A1", "sub-B1"]
    assert (tmp_path / "data/sourcedata/B/participants.tsv").is_file()


def test_a_subset_prefers_who_has_both_modalities():
    remotes = [Remote(f"{who}/x", "", 1, "", 0.0, group, who) for group, who in
               [("0/R1", "sub-a"), ("0/R1", "sub-z"), ("1/RU", "sub-b"), ("1/RU", "sub-z")]]  # fmt: skip
    assert [(r.group, r.subject) for r in take_subset(remotes, 1)] == [("0/R1", "sub-z"), ("1/RU", "sub-z")]


def test_single_files_and_ready_series(bucket, tmp_path):
    bucket.objects["b/table.csv"] = b"SUB_ID\n"
    for number in range(3):
        bucket.objects[f"b/Outputs/rois_ho/NYU_{number}_rois_ho.1D"] = b"#1\n%d\n" % number
        bucket.objects[f"b/Outputs/rois_ho/{number}_phenotypic.csv"] = b"SUB_ID\n"
    source = {"bucket": f"{bucket.url}/b", "prefix": "Outputs/rois_ho/", "into": "cpac/rois_ho"}
    table = fetch(bucket, tmp_path, sources=[source], files={"p.csv": f"{bucket.url}/b/table.csv"}, subset=2)
    series = [path for path in table.index if path.endswith(".1D")]
    assert series == ["cpac/rois_ho/NYU_0_rois_ho.1D", "cpac/rois_ho/NYU_1_rois_ho.1D"]
    assert len(table) == 2 + 3 + 1  # tables are nobody's
    assert (tmp_path / "data/p.csv").read_bytes() == b"SUB_ID\n"
    assert set(fetch(bucket, tmp_path, sources=[source], files={"p.csv": f"{bucket.url}/b/table.csv"})["state"]) == {
        "there",
        "fetched",
    }


def test_directories_that_are_not_wanted_are_not_listed(bucket, tmp_path):
    for number in range(400):
        bucket.objects[f"b/{PREFIX}A/derivatives/freesurfer/sub-A{number}/stats"] = b"x"
    found = fetch(bucket, tmp_path)
    assert len(found) == 13
    assert bucket.lists < 10  # of pages of four; there are 416 objects
    assert not found.index.str.contains("freesurfer").any()
    for pattern, left_out in (("derivatives/*", f"{PREFIX}A/derivatives/"), ("*/x_*", None), ("*.md", None)):
        source = Source(bucket="b", prefix=PREFIX, sites=True, exclude=[pattern])
        assert unwanted_directory(source, f"{PREFIX}A/derivatives/x/x_1.md") == left_out


def test_errors_in_one_line(bucket, tmp_path):
    for changes, words in [
        ({"sources": [{"bucket": f"{bucket.url}/b", "prefix": "nowhere/"}]}, "nothing that is wanted below nowhere/"),
        (
            {"sources": [{"bucket": "http://127.0.0.1:9/b", "prefix": "x"}], "retries": 0},
            r"can't be listed \(ConnectionError\)",
        ),
        ({"sources": [], "files": {"a.csv": f"{bucket.url}/b/nowhere.csv"}}, r"can't be fetched \(HTTP 404\)"),
    ]:
        with pytest.raises(McspError, match=words) as caught:
            fetch(bucket, tmp_path, **changes)
        assert "\n" not in str(caught.value)
    with pytest.raises(McspError, match=r"leads out of the dataset"):
        place(Source(bucket="b", prefix="p/"), "p/sub-1/../../etc/passwd")


def test_what_only_the_user_can_obtain(tmp_path, capsys):
    by_hand = FetchOptions(terms="https://nda", by_hand="Request access.")
    with pytest.raises(McspError, match=r"^embarc: can't be fetched by a program\. Request access\.$"):
        run(name="embarc", options=by_hand, path=tmp_path / "embarc", out=tmp_path / "out.tsv")
    (tmp_path / "embarc").mkdir()
    (tmp_path / "embarc/.hidden").touch()
    with pytest.raises(McspError, match="can't be fetched by a program"):  # nothing was obtained yet
        run(name="embarc", options=by_hand, path=tmp_path / "embarc", out=tmp_path / "out.tsv")
    (tmp_path / "embarc/sub-1").mkdir()
    run(name="embarc", options=by_hand, path=tmp_path / "embarc", out=tmp_path / "out.tsv")
    assert "by hand: Request access." in capsys.readouterr().out
    assert read_tsv(tmp_path / "out.tsv").empty
    with pytest.raises(ValueError, match="give sources, files, or by_hand"):
        FetchOptions(terms="x")
    with pytest.raises(ValueError, match="leave out sources and files, or nda"):
        FetchOptions(terms="x", by_hand="y", files={"a": "https://a"}, nda={"package": "p"})


def test_names_are_changed_to_those_that_bids_knows(bucket, tmp_path):
    bucket.objects["b/Out/UM_1_0050999_func.nii.gz"] = b"x"
    bucket.objects["b/Out/readme.txt"] = b"y"
    source = {"bucket": f"{bucket.url}/b", "prefix": "Out/", "into": "in"}
    rename = {r".*_(\d{7})_func\.nii\.gz": r"sub-\1/func/sub-\1_task-rest_bold.nii.gz"}
    table = fetch(bucket, tmp_path, sources=[{**source, "rename": rename}])
    assert list(table.index) == ["in/readme.txt", "in/sub-0050999/func/sub-0050999_task-rest_bold.nii.gz"]
    for pattern, name in (("(", "x"), ("x", r"\1"), ("(x)", r"\12"), ("x", r"\g<who>"), ("x", "\\")):
        with pytest.raises(ValueError, match="no regular expression and what replaces it"):
            Source(**source, rename={pattern: name})
    assert place(Source(bucket="b", prefix="p/", rename={"(?P<who>.*)": r"in/\g<who>"}), "p/x") == ("", "in/x")
    two = Source(bucket="b", prefix="p/", rename={"x.*": "a", ".*y": "b"})
    assert place(two, "p/xz") == ("", "a")
    with pytest.raises(McspError, match=r"b: of rename, \.\*y and x\.\* fit 'xy': let one fit"):
        place(two, "p/xy")
    leads_out = Source(bucket="b", prefix="p/", rename={"(.*)": r"../\1"})
    with pytest.raises(McspError, match="leads out of the dataset"):
        place(leads_out, "p/x")


def test_a_study_at_once_and_a_subset_of_it(bucket, tmp_path, capsys):
    """Each dataset is told of before what hinders any is; a try leaves no list that the workflow takes for the whole."""
    whole, refused = options(bucket), options(bucket, accept_terms=False)
    with pytest.raises(McspError, match=r"^two: not fetched: read the terms"):
        run_study(
            {"one": (whole, tmp_path / "one"), "two": (refused, tmp_path / "two")}, tmp_path, subset=1, threads=2, wait=0.01
        )
    told = capsys.readouterr().out
    assert "one: 9 files of 2 subjects" in told
    assert "two: 9 files of 2 subjects" in told
    assert sorted(path.name for path in (tmp_path / "one").glob("sub-*")) == ["sub-A1", "sub-B1"]
    assert [path.name for path in tmp_path.glob("*.tsv")] == ["one.try.tsv"]
    with pytest.raises(McspError, match="this study fetches nothing"):
        run_study({}, tmp_path, subset=None, threads=1)
