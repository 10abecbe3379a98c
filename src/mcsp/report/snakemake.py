"""Snakemake's own report, called from a rule."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mcsp.errors import McspError
from mcsp.store import atomic_path


def run(*, snakefile: Path, study: Mapping[str, Any], source: str, out: Path) -> None:
    """Write Snakemake's report of the summary page and all that it shows, as one HTML file at `out`.

    `study` is the whole study as it was run, options of the command line included; `source` is its file.
    Raises McspError with Snakemake's last line when it fails.
    """
    with TemporaryDirectory() as folder, atomic_path(out) as temporary:
        configfile = Path(folder) / Path(source).name  # which may lie anywhere
        configfile.write_text(json.dumps(study))  # JSON is YAML
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "1", "--nolock"]
        command += [f"--configfile={configfile}", "--report", str(temporary), "--", "page"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr, flush=True)
        if done.returncode or not temporary.is_file():
            raise McspError(f"Snakemake wrote no report: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
