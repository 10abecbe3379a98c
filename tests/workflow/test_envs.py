"""Conda environments and the image: in step with the lock, and able to run the checkout's `mcsp`."""

import json
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

from mcsp.errors import McspError
from mcsp.study import parse_study
from mcsp.workflow import check_container

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


def recipe(section):
    """Lines of one section of the image's recipe."""
    text = (PROJECT / "envs/mcsp.def").read_text()
    return [line.strip() for line in re.search(rf"^%{section}\n((?: .*\n)+)", text, re.M)[1].splitlines()]


def test_the_image_holds_what_make_setup_installs():
    makefile = (PROJECT / "Makefile").read_text()
    wanted = [re.findall(r"--no-deps|--requirement (\S+)", line) for line in makefile.splitlines() if "--requirement" in line]
    lines = [line.replace("/opt/mcsp/", "") for line in recipe("post")]
    assert [re.findall(r"--no-deps|--requirement (\S+)", line) for line in lines] == wanted
    assert [line.split() for line in recipe("files")] == [[n, f"/opt/mcsp/{n}"] for *_, n in wanted]
    assert all((PROJECT / n).is_file() for *_, n in wanted)


def test_an_image_that_can_not_be_used_is_one_line():
    labels = {"dx": {"1": ["ASD"], "0": ["control"]}}
    study = {"study": "s", "datasets": {"d": {"kind": "bids", "path": "d", "n_shards": 1, "phenotype": {"labels": labels}}}}
    study |= {"tasks": {"asd": {"case": ["ASD"]}}, "container": "docker://lab.org/mcsp:1"}
    assert check_container(parse_study(study)) == "docker://lab.org/mcsp:1"
    with pytest.raises(McspError, match=r"nodes = 2: in an image there is no srun"):
        check_container(parse_study({**study, "pretrain": {"engine": {"nodes": 2}}}))
    with pytest.raises(McspError, match=r"container = mcsp\.sif: no such image"):
        check_container(parse_study({**study, "container": "mcsp.sif"}))


ENGINE = """#!/bin/bash
# In the place of apptainer: runs what it is given with nothing of the environment but what an image has.
if [ "$1" = --version ]; then echo "apptainer version 1.3.4"; exit; fi
echo "$@" >> {place}/calls
exec env -i PATH={place}/image:/usr/bin:/bin APPTAINER_CONTAINER=image bash -c "${{@: -1}}"
"""


def test_rules_run_in_the_image_of_the_site(checkout, tmp_path):
    """By a stand-in for the engine: the image's Python runs the checkout's package; fMRIPrep's rule, whose container can't
    start within another, stays out of it.
    """
    place = tmp_path / "site"
    (place / "image").mkdir(parents=True)
    for path, text in {
        place / "apptainer": ENGINE.format(place=place),
        place / "image/python": f'#!/bin/bash\necho "$2" >> {place}/ran\nexec {sys.executable} "$@"\n',
    }.items():
        path.write_text(text)
        path.chmod(0o755)
    (tmp_path / "bids/sub-01/anat").mkdir(parents=True)
    (tmp_path / "bids/participants.tsv").write_text("participant_id\tdx\nsub-01\t1\n")
    labels = {"dx": {"1": ["ASD"], "0": ["control"]}}
    dataset = {"kind": "bids", "path": str(tmp_path / "bids"), "n_shards": 1, "phenotype": {"labels": labels}}
    study = {"study": "site", "datasets": {"d": dataset}, "tasks": {"asd": {"case": ["ASD"]}}, "preprocess": "fmriprep"}
    (checkout.root / "config/studies/site.yaml").write_text(json.dumps(study))
    table = "results/site/preprocess/d/shard-000.recordings.parquet"
    command = [sys.executable, "-m", "snakemake", table, "--cores", "1", "--configfile", "config/studies/site.yaml"]
    command += ["--sdm", "apptainer", "--apptainer-args=--nv"]
    env = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}

    def snakemake(*more):
        return subprocess.run([*command, *more], cwd=checkout.root, env=env, capture_output=True, text=True, check=False)

    assert "mcsp.sif: no such image: make it (apptainer build" in snakemake("-n").stdout
    (checkout.root / "own.sif").touch()
    done = snakemake("--config", "container=own.sif")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "ran").read_text().split() == ["ingest"]
    (call,) = (place / "calls").read_text().splitlines()
    assert re.match(rf"exec --home {checkout.root} --nv .*own.sif bash -c set -euo pipefail", call)


def test_snakemake_within_an_image_runs_the_stages_in_its_own_python(checkout, tmp_path):
    """Somebody's container around everything is not the image of the rules."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text("#!/bin/bash\nexit 99\n")
    (tmp_path / "bin/python").chmod(0o755)
    command = [sys.executable, "-m", "snakemake", "atlas", "--cores", "1", "--configfile", "config/studies/tiny.yaml"]
    env = {**os.environ, "APPTAINER_CONTAINER": "around.sif", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=checkout.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
