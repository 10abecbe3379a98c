"""Where a result comes from: versions, commit, hashes, costs. Nothing here names a machine."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

import pandas as pd

from mcsp import __version__

KEPT = ("cohort/subjects.parquet", "cohort/exclusions.tsv", "splits/splits.tsv", "evaluate/*/predictions.parquet",
        "evaluate/*/metrics.tsv", "evaluate/*/comparisons.tsv", "explain/*/maps.tsv", "explain/*/verdicts.tsv")  # fmt: skip


def licence(name: str) -> str:
    """Licence of an installed package, as its metadata state it: an expression, else classifiers, else its first line."""
    told = metadata(name)
    classes = [text.rsplit(" :: ", 1)[1] for text in told.get_all("Classifier", []) if text.startswith("License :: ")]
    words = (told.get("License") or "not stated").strip().splitlines()[0]
    return told.get("License-Expression") or ", ".join(name for name in classes if name != "OSI Approved") or words


def versions(packages: Mapping[str, str | None]) -> pd.DataFrame:
    """Software, version and licence, of what this page's environment holds. `packages`: name -> key of its citation."""
    rows = [("mcsp", __version__, "BSD-3-Clause", "mcsp"), ("Python", platform.python_version(), "PSF-2.0", None)]
    for name, key in packages.items():
        try:
            rows.append((name, version(name), licence(name), key))
        except PackageNotFoundError:
            rows.append((name, "in another environment", "see there", key))
    return pd.DataFrame(rows, columns=["software", "version", "licence", "cite"])


def commit(folder: Path) -> str:
    """Commit of the checkout that holds `folder`, and whether files differ from it; says so where there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if "src/mcsp/" not in f"{git('ls-files', '--full-name', '.')}\n":
            return "not from a git checkout"  # a copy inside somebody else's repository
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" (with uncommitted changes)" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "not from a git checkout"


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(study: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """Hashes of the study's options, of all recordings, of the folds, and of the tables that results are in. None depends on
    where the data lie.
    """
    datasets = {name: {k: v for k, v in d.items() if k != "path"} for name, d in study["datasets"].items()}
    options = json.dumps({k: v for k, v in study.items() if k != "source"} | {"datasets": datasets}, sort_keys=True)
    rows = [("all options of the study but paths of datasets (sorted JSON)", hashlib.sha256(options.encode()).hexdigest())]
    cohort = results / "cohort/subjects.parquet"
    if cohort.is_file():
        prints = pd.read_parquet(cohort, columns=["fingerprints"])["fingerprints"].fillna("")
        text = "\n".join(sorted(prints))
        rows.append(("fingerprints of the cohort's recordings (sorted)", hashlib.sha256(text.encode()).hexdigest()))
    files = [path for pattern in KEPT for path in sorted(results.glob(pattern))]
    rows += [(path.relative_to(results).as_posix(), sha256(path)) for path in files]
    return pd.DataFrame(rows, columns=["what", "SHA-256"])
