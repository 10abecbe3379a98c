"""Snakemake's own report, called from a rule."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mcsp.errors import McspError
from mcsp.store import atomic_path


def run(*, snakefile: Path, configfiles: Sequence[Path], out: Path) -> None:
    """Write Snakemake's report of the summary page and all that it shows, as one HTML file at `out`.

    Raises McspError with Snakemake's last line when it fails.
    """
    with atomic_path(out) as temporary:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "1", "--nolock"]
        command += [f"--configfile={path}" for path in configfiles]
        command += ["--report", str(temporary), "--", "page"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr, flush=True)
        if done.returncode or not temporary.is_file():
            raise McspError(f"Snakemake wrote no report: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
