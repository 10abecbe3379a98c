"""Run ready study files end to end, as a user does, on small mirrors filled with simulated recordings. By hand, for minutes:

    python -m tests.fetch.run_cohorts abide adhd200 hbn embarc paper --place /tmp/cohorts

The study files are those of the project; only the buckets' address, the terms' acceptance and sizes (below) differ, and raw
BOLD goes through a stand-in for fMRIPrep's container. With --embedded it goes through the embedded route, as the files have
it: heads cost some 40 CPU seconds each. What is done stays done: the same command goes on after a stop. What came out is told
at the end, and stands in docs/cohorts/README.md.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from mcsp.workflow import overlay
from tests.fetch import simulated
from tests.fetch.bucket_server import Bucket, serve
from tests.fetch.mirrors import at_mirror
from tests.workflow.conftest import Checkout, copy_checkout

PARTS = {
    "abide": ("abide",), "adhd200": ("adhd200",), "hbn": ("hbn",), "embarc": ("embarc",), "hbn-eeg": ("hbn-eeg",),
    "paper": ("abide", "adhd200", "hbn", "embarc"),
}  # fmt: skip
MIRRORS = {  # EMBARC comes as a package
    "abide": simulated.abide, "adhd200": simulated.adhd200, "hbn": simulated.hbn, "hbn-eeg": simulated.hbn_100hz,
}  # fmt: skip
SMALL = {
    "embedded": {"registration": "quick", "voxel_size": 6},
    "fmri": {"n_frames": 40, "min_frames": 20, "confounds": "6motion"},  # 28 regressors of 40 frames leave nothing
    "eeg": {"n_segments": 20},
    "splits": {"n_folds": 2},
    "pretrain": {"epochs": 1, "batch_size": 16, "model": {"width": 8, "depth": 1, "heads": 2, "dim": 8}},
    "finetune": {"epochs": 1, "hidden": 8},
    "evaluate": {"rivals": ["phenotype"], "n_bootstrap": 100, "n_permutations": 100, "n_dropout": 2},
    "explain": {"n_steps": 4, "n_samples": 2, "max_subjects": 4, "methods": ["integrated_gradients"]},
    "figures": {"dpi": 72},
}


def cpu_seconds() -> float:
    """Of this process and of all children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def write_study(checkout: Checkout, name: str, url: str, changes: dict) -> str:
    """Write the study file with its buckets at `url` and `changes` (tasks in place of the file's). Returns its path."""
    values = overlay(at_mirror(name, url, n_shards=1), changes) | ({"tasks": changes["tasks"]} if "tasks" in changes else {})
    path = f"config/studies/{name}.yaml"
    (checkout.root / path).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def by_hand(checkout: Checkout, part: str, scan: simulated.Scanner) -> None:
    """What only a user can obtain."""
    data = checkout.root / "data"
    if part in ("hbn", "hbn-eeg"):
        simulated.hbn_tables(data / "hbn/phenotype")
    if part == "embarc" and not (data / "embarc-package").is_dir():
        simulated.embarc_package(data / "embarc-package", scan)


def told(checkout: Checkout, name: str) -> None:
    """Print what came out."""
    results = checkout.root / "results" / name
    people = pd.read_csv(results / "cohort/subjects.tsv", sep="\t", na_values="n/a")
    print(people.groupby("dataset")[["has_fmri", "has_eeg"]].agg(["size", "sum"]).to_string())
    exclusions = pd.read_csv(results / "cohort/exclusions.tsv", sep="\t")
    print(exclusions.to_string(index=False))
    for path in sorted(results.glob("evaluate/*/metrics.tsv")):
        metrics = pd.read_csv(path, sep="\t", na_values="n/a")
        own = metrics[metrics["metric"] == "auroc"]
        print(path.parent.name, "auroc", dict(zip(own["method"], own["value"].round(2))), "n", own["n"].max())


def run(checkout: Checkout, name: str, target: str, objects: dict[str, bytes], changes: dict, cores: str = "1") -> str:
    """One study, from the mirror that holds `objects` to `target`, with `changes` to its file; returns what `check` printed."""
    with serve(Bucket(objects, page=1000)) as bucket:
        study = write_study(checkout, name, bucket.url, changes)
        checkout.snakemake("fetch", study=study)
        check = [sys.executable, "-m", "mcsp", "check", study]
        done = subprocess.run(check, cwd=checkout.root, capture_output=True, text=True, check=False)
        # The mirror's address changes from run to run, and with it the parameters of `fetch`.
        checkout.snakemake(target, "--cores", cores, "--rerun-triggers", "mtime", "code", "input", study=study)
    return done.stdout + done.stderr


def run_all(names: list[str], place: Path, target: str, cores: str, embedded: bool) -> None:
    """Several studies in one checkout at `place`, which share their data."""
    fresh = not (place / "Snakefile").exists()
    place.mkdir(parents=True, exist_ok=True)
    checkout = copy_checkout(place) if fresh else Checkout(place)
    container = simulated.Container(place.absolute() / "container")
    scan: simulated.Scanner = simulated.heads if embedded else container
    changes = SMALL if embedded else {**SMALL, "preprocess": "fmriprep", "fmriprep": container.options}
    contents: dict[str, dict[str, bytes]] = {}
    for name in names:
        for part in PARTS[name]:
            by_hand(checkout, part, scan)
            if part in MIRRORS and part not in contents:
                contents[part] = MIRRORS[part](scan)
        objects = {key: content for part in PARTS[name] for key, content in contents.get(part, {}).items()}
        started = cpu_seconds()
        print(run(checkout, name, target, objects, changes, cores))
        told(checkout, name)
        print(f"{name}: {target}: {cpu_seconds() - started:.0f} CPU seconds", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", choices=list(PARTS))
    parser.add_argument("--place", type=Path, required=True, help="directory to work in; kept")
    parser.add_argument("--target", default="report")
    parser.add_argument("--cores", default="1")
    parser.add_argument("--embedded", action="store_true", help="preprocess whole heads, without a container")
    arguments = parser.parse_args()
    run_all(arguments.studies, arguments.place, arguments.target, arguments.cores, arguments.embedded)


if __name__ == "__main__":
    main()
