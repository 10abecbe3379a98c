"""A copy of the checkout in which the workflow can run, be edited and be broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PROJECT = Path(__file__).resolve().parents[2]


PLANNED_RESOURCES = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

out, study, *targets = sys.argv[1:]
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    flow = api.workflow(ResourceSettings(cores=1), ConfigSettings(configfiles=[Path(study)]), snakefile=Path("Snakefile"))
    flow.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
    jobs = flow._workflow.dag.jobs
    Path(out).write_text(json.dumps({job.rule.name: dict(job.resources.items()) for job in jobs}))
"""


@dataclass
class Checkout:
    """A copy of the project's files."""

    root: Path

    def snakemake(self, *arguments: str, study: str = "config/studies/tiny.yaml", check: bool = True) -> str:
        """Run Snakemake here as a user would; returns all it printed."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", study]
        env = {**os.environ, "XDG_CACHE_HOME": str(self.root / ".cache")}
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, env=env, check=False)
        text = done.stdout + done.stderr
        if check and done.returncode:
            logs = "\n".join(f"{p}:\n{p.read_text()[-1500:]}" for p in sorted(self.root.glob("results/*/logs/*/*.log")))
            raise AssertionError(f"{text[-4000:]}\n{logs[-6000:]}")
        return text

    def planned(self, *arguments: str, study: str = "config/studies/tiny.yaml") -> dict[str, int]:
        """Rules that a dry run would run, and how often."""
        text = self.snakemake("--quiet", "host", "-n", *arguments, study=study)
        table = re.search(r"Job stats:\njob +count\n-+ +-+\n(.*?)\ntotal", text, re.DOTALL)
        return {name: int(n) for name, n in (line.split() for line in table[1].splitlines())} if table else {}

    def resources(self, *targets: str, study: str = "config/studies/tiny.yaml") -> dict[str, dict[str, int | str]]:
        """What a job of each rule asks for, in a dry run of these targets."""
        with TemporaryDirectory() as place:
            out = Path(place) / "resources.json"
            command = [sys.executable, "-c", PLANNED_RESOURCES, str(out), study, *targets]
            done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(out.read_text())

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"


def copy_checkout(root: Path) -> Checkout:
    """Copy what a clone holds, and the tiny study."""
    for name in ("Snakefile", "workflow", "config", "envs", "src"):
        source = PROJECT / name
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(source, root / name, ignore=ignore) if source.is_dir() else shutil.copy(source, root / name)
    (root / "slurm").symlink_to("workflow/profiles/slurm")
    (root / "profiles").symlink_to("workflow/profiles")
    shutil.copy(PROJECT / "tests/workflow/tiny.yaml", root / "config/studies/tiny.yaml")
    return Checkout(root)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh copy of the checkout."""
    return copy_checkout(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the checkout in which the tiny study ran from simulation to report. Leave it as it is."""
    checkout = copy_checkout(tmp_path_factory.mktemp("finished"))
    checkout.snakemake()
    return checkout
