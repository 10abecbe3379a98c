"""Conda environments: valid match specs, in step with the lock, and able to run the checkout's `mcsp`."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from rattler import MatchSpec, Version

PROJECT = Path(__file__).resolve().parents[2]
ENVS = sorted((PROJECT / "envs").glob("*.yaml"))
PYPI = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
# What the modules of a rule import, by the environment that the rule names.
IMPORTS = {
    "yaml": "pyyaml",
    "markdown_it": "markdown-it-py",
    "PIL": "pillow",
    "ants": "antspyx",
    "sklearn": "scikit-learn",
    "isal": "isal",
    "mne_bids": "mne-bids",
    "torch": "torch",
}


def lock():
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pins), "every line of the lock pins one version"
    return {m[1].lower().replace("_", "-"): m[2] for m in pins}


def parts(path):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    conda = [MatchSpec(d) for d in dependencies if isinstance(d, str)]
    pip = [Requirement(r) for d in dependencies if isinstance(d, dict) for r in d["pip"]]
    return conda, pip


@pytest.mark.parametrize("path", ENVS, ids=lambda p: p.stem)
def test_environment_agrees_with_the_lock(path):
    pins = lock()
    conda, pip = parts(path)
    for spec in conda:
        name = spec.name.normalized if hasattr(spec.name, "normalized") else str(spec.name)
        name = PYPI.get(name, name).removeprefix("python-") if name != "python-isal" else "isal"
        if name in ("python", "pip"):
            continue
        assert str(spec.version).lstrip("=").removesuffix(".*") == pins[name], f"{name}: {spec.version}, lock {pins[name]}"
        assert Version(pins[name])
    for requirement in pip:
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_lock_holds_every_dependency_of_the_project():
    import tomllib

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    pins = lock()
    for text in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name.lower()]), text


def test_every_rule_names_an_environment_that_exists():
    text = "".join(p.read_text() for p in (PROJECT / "workflow/rules").glob("*.smk"))
    named = set(re.findall(r'ENVS / "(\w+\.yaml)"', text))
    assert named == {p.name for p in ENVS}


def third_party(entry):
    """Top-level packages outside the standard library that the module `entry` reaches."""
    import ast

    from mcsp.code import _module_path, modules_of

    found = set()
    for module in modules_of(entry):
        for node in ast.walk(ast.parse(_module_path(module).read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return {IMPORTS.get(n, n) for n in found if n not in sys.stdlib_module_names and n != "mcsp"} - extras()


def extras():
    """Packages that users install where they want them: what needs one says so."""
    import tomllib

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [text for name, texts in project["optional-dependencies"].items() if name != "test" for text in texts]
    return {Requirement(text).name for text in wanted}


def environments():
    """(stage, environment) of every rule, as the rules files pair them."""
    pairs = set()
    for path in sorted((PROJECT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"\n(?=(?:use )?rule )", path.read_text()):
            code, env = re.search(r'PLAN\.code\("(\w+)"\)', rule), re.search(r'ENVS / "(\w+)\.yaml"', rule)
            if code and env:
                pairs.add((code[1], env[1]))
    return sorted(pairs)


@pytest.mark.parametrize(("stage", "env"), environments())
def test_environment_holds_what_its_rule_imports(stage, env):
    from mcsp.workflow import ENTRIES

    conda, pip = parts(PROJECT / f"envs/{env}.yaml")
    names = {(s.name.normalized if hasattr(s.name, "normalized") else str(s.name)) for s in conda} | {r.name for r in pip}
    names = {PYPI.get(n, n) for n in names} | ({"isal"} if "python-isal" in names else set())
    missing = third_party(ENTRIES[stage]) | {"typer", "pydantic", "pyyaml"}
    assert missing - names == set(), f"envs/{env}.yaml lacks what the stage {stage} imports"


def test_mcsp_runs_from_its_directory_without_pythonpath_or_install(tmp_path):
    """What a conda job does: a Python with the dependencies but without mcsp, no PYTHONPATH, another directory."""
    venv.create(tmp_path / "env", with_pip=False)
    packages = next((tmp_path / "env/lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # its .pth files are not followed
    python = str(tmp_path / "env/bin/python")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    bare = subprocess.run([python, "-c", "import mcsp"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "No module named 'mcsp'" in bare.stderr
    command = [python, str(PROJECT / "src/mcsp"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("mcsp "), done.stderr
