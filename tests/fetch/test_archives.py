"""Archives: nothing outside, nothing half, nothing twice."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mcsp.errors import McspError
from mcsp.fetch.archives import unpack


def tar(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_unpacked_once(tmp_path):
    for path in (
        tar(tmp_path / "a.tar.gz", ("x/1", b"one"), ("2", b"two")),
        zipped(tmp_path / "a.zip", ("x/1", b"one"), ("2", b"two")),
    ):
        into = tmp_path / path.suffix
        assert unpack(path, into) == 2
        assert (into / "x/1").read_bytes() == b"one"
        (into / "2").write_bytes(b"cut"[:1])
        assert unpack(path, into) == 1
        assert (into / "2").read_bytes() == b"two"


@pytest.mark.parametrize("name", ["../evil", "x/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("make", [tar, zipped])
def test_members_that_lead_out_are_refused(make, name, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = make(inner / "a.archive", (name, b"evil"))
    with pytest.raises(McspError, match=r"a\.archive: its member .* leads out of the directory: don't trust"):
        unpack(archive, inner)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    archive = tar(tmp_path / "a.tar.gz", ("link", b""), kind=kind)
    with pytest.raises(McspError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out/link").exists()


def test_of_new_names_one_fits(tmp_path):
    """The error speaks of the option that the study file has."""
    archive = tar(tmp_path / "a.tar", ("xy", b""))
    with pytest.raises(McspError, match=r"a\.tar: of archive_names, \.\*y and x\.\* fit 'xy': let one fit"):
        unpack(archive, tmp_path / "out", {"x.*": "a", ".*y": "b"})


def test_damaged_archives_leave_nothing_half(tmp_path):
    content = bytes(i * 7 % 251 for i in range(200_000))
    for whole in (tar(tmp_path / "t.tar.gz", ("a", b"small"), ("big", content)), zipped(tmp_path / "z.zip", ("big", content))):
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(McspError, match=r"no whole tar or zip .*: download it again"):
            unpack(whole, tmp_path / "out")
    (tmp_path / "n.zip").write_bytes(b"<html>log in</html>")
    with pytest.raises(McspError, match="no whole tar or zip"):
        unpack(tmp_path / "n.zip", tmp_path / "out")
    assert not (tmp_path / "out/big").exists()
    assert not list((tmp_path / "out").glob(".part*"))


def test_a_full_disk_is_no_damaged_archive(tmp_path, monkeypatch):
    archive = tar(tmp_path / "a.tar.gz", ("x", b"one"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1}))
    with pytest.raises(McspError, match=r"x \(0\.0 MB\) does not fit on the disk"):
        unpack(archive, tmp_path / "out")
