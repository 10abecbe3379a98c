"""Code versions: what a stage reaches, and nothing else, decides whether it reruns."""

import shutil
import subprocess
import sys

import pytest

import mcsp
from mcsp.code import PACKAGE, modules_of
from mcsp.workflow import ENTRIES

PRINT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from mcsp.code import code_version; print(*map(code_version, sys.argv[2:]))"
)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "mcsp", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def versions(root, *entries):
    command = [sys.executable, "-c", PRINT, str(root), *entries]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_an_edit_changes_the_stages_that_import_it_only(copy):
    entries = ("mcsp.fmri.stage", "mcsp.eeg.stage", "mcsp.training.pretrain")
    before = versions(copy, *entries)
    path = copy / "mcsp/options/eeg.py"
    path.write_text(path.read_text() + "\nEXTRA = 1\n")
    after = versions(copy, *entries)
    assert [a == b for a, b in zip(before, after)] == [True, False, True]


def test_comments_docstrings_and_layout_do_not_count(copy):
    before = versions(copy, "mcsp.fmri.stage")
    path = copy / "mcsp/store.py"
    text = path.read_text()
    path.write_text("# a comment\n\n\n" + text.replace('"""Read a Parquet table; missing text is None."""', '"""Read."""'))
    assert path.read_text() != text
    assert versions(copy, "mcsp.fmri.stage") == before


def test_version_does_not_depend_on_where_the_checkout_lies(copy):
    assert versions(copy, "mcsp.fmri.stage") == versions(PACKAGE.parent, "mcsp.fmri.stage")


@pytest.mark.parametrize("entry", sorted(set(ENTRIES.values())))
def test_stages_import_neither_the_study_nor_other_stages(entry):
    modules = modules_of(entry)
    assert entry in modules
    assert not {"mcsp.study", "mcsp.cli", "mcsp.workflow"} & set(modules)
    stages = {other for other in ENTRIES.values() if other != entry}
    allowed = {"mcsp.atlas", "mcsp.evaluation.splits"}  # their readers are used by later stages
    if entry == "mcsp.validation.run":  # it runs the production stages, whose changes must rerun it
        allowed |= {"mcsp.domains.connectivity", "mcsp.domains.spectra", "mcsp.training.pretrain", "mcsp.training.finetune"}
    assert not (stages - allowed) & set(modules)


def test_every_module_is_reached():
    """A module that no stage and no command imports is dead."""
    reached = {m for entry in [*ENTRIES.values(), "mcsp.cli", "mcsp.__main__"] for m in modules_of(entry)}
    files = {p.relative_to(PACKAGE.parent).with_suffix("") for p in PACKAGE.rglob("*.py")}
    modules = {".".join(p.parts).removesuffix(".__init__") for p in files}
    assert modules - reached == set()
    assert mcsp.__name__ in reached
