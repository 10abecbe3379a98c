"""What a lab's admin asks: nothing unpickled, nothing handed to a shell unquoted, nothing beside the umask."""

import ast
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import PROJECT

SOURCES = sorted((PROJECT / "src/mcsp").rglob("*.py"))
RULES = sorted((PROJECT / "workflow/rules").glob("*.smk"))
ARCHIVES = {"tarfile", "zipfile"}  # in one module alone, whose tests ask that nothing leaves its directory
UNSAFE_MODULES = {"joblib", "dill", "cloudpickle", "shelve", "marshal", *ARCHIVES}
NETWORK = {"requests", "urllib", "urllib3", "http", "socket", "ftplib", "smtplib", "aiohttp", "httpx", "boto3"}
# Wildcards hold letters, digits, '-' and '_' (their constraints, and the study's names); the others are words of ours.
SAFE = re.compile(r"(wildcards\.\w+|threads|resources\.mem_mb|params\.(raw|route))")


def calls(path):
    """(dotted name, keyword arguments) of every call in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def imports(path):
    """First parts of the names of modules that a module imports, anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_nothing_is_unpickled_or_handed_to_a_shell(path):
    allowed = ARCHIVES if path.relative_to(PROJECT).as_posix() == "src/mcsp/fetch/archives.py" else set()
    assert not imports(path) & (UNSAFE_MODULES - allowed)
    for name, keywords in calls(path):
        assert name not in ("pickle.load", "pickle.loads", "os.system", "eval", "exec", "yaml.load"), name
        assert name != "torch.load" or keywords["weights_only"] == "True"
        assert keywords.get("allow_pickle") in (None, "False"), name
        assert keywords.get("shell") in (None, "False"), name


def test_only_fetching_talks_to_the_network():
    """No other module of ours can: no telemetry, and nothing leaves the machine. (nilearn downloads the Schaefer atlas.)"""
    talking = {path.relative_to(PROJECT / "src/mcsp").as_posix() for path in SOURCES if imports(path) & NETWORK}
    assert talking == {"fetch/bucket.py", "fetch/cohort.py", "fetch/transfer.py"}


def test_no_file_is_moved_from_another_disk():
    """A move between file systems is a copy, which a kill may cut: `os.replace` refuses it, and renames within one."""
    moving = {"shutil.move", "os.rename", "os.renames"}
    assert not [(path.name, name) for path in SOURCES for name, _ in calls(path) if name in moving]


@pytest.mark.parametrize("path", RULES, ids=lambda p: p.name)
def test_rules_quote_what_they_hand_to_the_shell(path):
    for block in re.findall(r"    shell:\n((?:        .*\n?)+)", path.read_text()):
        for inner in re.findall(r"(?<!\{)\{([^{}]+)\}", block):
            assert inner.endswith(":q") or SAFE.fullmatch(inner), f"{path.name}: {{{inner}}} is not quoted"


def test_files_obey_the_umask(tmp_path):
    command = [sys.executable, str(PROJECT / "src/mcsp"), "atlas", "--options", "{}", "--out", str(tmp_path / "made/atlas.tsv")]
    subprocess.run(command, umask=0o027, check=True, capture_output=True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "made", *(tmp_path / "made").iterdir())}
    assert modes.pop("made") == 0o750
    assert set(modes.values()) == {0o640}
    assert "atlas.tsv" in modes


def test_files_get_the_group_of_a_directory_that_gives_its_own(tmp_path):
    own, others = os.getegid(), [12345] if os.geteuid() == 0 else [g for g in os.getgroups() if g != os.getegid()]
    if not others:
        pytest.skip("this user has one group only")
    os.chown(tmp_path, -1, others[0])
    os.chmod(tmp_path, 0o2775)
    command = [sys.executable, str(PROJECT / "src/mcsp"), "atlas", "--options", "{}", "--out", str(tmp_path / "made/atlas.tsv")]
    subprocess.run(command, umask=0o002, check=True, capture_output=True)
    made = [tmp_path / "made", *(tmp_path / "made").iterdir()]
    assert {path.stat().st_gid for path in made} == {others[0]} != {own}
    assert {path.stat().st_mode & 0o2777 for path in made} == {0o2775, 0o664}
