"""What a lab's admin asks: nothing unpickled, nothing handed to a shell unquoted, nothing beside the umask."""

import ast
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


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_nothing_is_unpickled_or_handed_to_a_shell(path):
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    allowed = ARCHIVES if path.relative_to(PROJECT).as_posix() == "src/mcsp/fetch/archives.py" else set()
    assert not imported & (UNSAFE_MODULES - allowed)
    for name, keywords in calls(path):
        assert name not in ("pickle.load", "pickle.loads", "os.system", "eval", "exec", "yaml.load"), name
        assert name != "torch.load" or keywords["weights_only"] == "True"
        assert keywords.get("allow_pickle") in (None, "False"), name
        assert keywords.get("shell") in (None, "False"), name


def imports(path):
    """Modules that a module imports, anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_fetching_talks_to_the_network():
    """No other module of ours can: no telemetry, and nothing leaves the machine. (nilearn downloads the Schaefer atlas.)"""
    talking = {path.name for path in SOURCES if {name.split(".")[0] for name in imports(path)} & NETWORK}
    assert talking == {"bucket.py", "cohort.py", "transfer.py"}
    assert {path.parent.name for path in SOURCES if path.name in ("bucket.py", "transfer.py")} == {"fetch"}


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
