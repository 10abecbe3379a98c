"""SIGKILL at random moments: a study that is killed again and again must end as one that nobody disturbed.

By hand: `python -m tests.workflow.kills FOLDER --kills 50 --seed 0 [--study STUDY.yaml]`. Moments are drawn in CPU seconds, so
that a busy machine does not keep jobs from ever ending.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.workflow.conftest import PROJECT, Checkout, copy_checkout

TIMED = {"logs", "benchmarks"}  # they say how long things took
STAMP = ".snakemake_timestamp"  # Snakemake's, in directories that a rule made
VICTIMS = ("all", "job", "snakemake")  # the machine dies; one process is killed for its memory; the terminal is closed


def contents(results: Path) -> dict[str, str]:
    """SHA-256 of every file of a study's results, but of what holds times: logs, benchmarks, and the pages that show them."""
    files = (path for path in results.rglob("*") if path.is_file() and path.suffix != ".html" and path.name != STAMP)
    return {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.relative_to(results).parts[0] not in TIMED
    }


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Files that only one has, or that differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def working(run: psutil.Process) -> list[psutil.Process]:
    """Processes of Snakemake's jobs, with their workers."""
    lines = [(process, " ".join(process.cmdline())) for process in run.children(recursive=True)]
    return [process for process, line in lines if "src/mcsp" in line or "spawn_main" in line]


def kill(run: psutil.Process, victim: str, rng: random.Random) -> str | None:
    """SIGKILL to Snakemake, to a job of it, or to all of them; gives the command of what was killed, None when that had
    ended by itself.
    """
    try:
        below, jobs = run.children(recursive=True), working(run)
        chosen = {"all": [run, *below], "snakemake": [run], "job": rng.sample(jobs, min(1, len(jobs)))}[victim]
        words = [word for process in jobs for word in process.cmdline()]
    except psutil.NoSuchProcess:
        return None
    for process in chosen:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    stage = next((words[i + 1] for i, word in enumerate(words[:-1]) if word.endswith("src/mcsp")), "between jobs")
    return f"{victim} in {stage}" if chosen else None


def used(run: psutil.Popen) -> float:
    """CPU seconds of a run and all that it started."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        for process in [run, *run.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # its own, and of its children that have ended
    return total


def wait_for_use(run: psutil.Popen, seconds: float) -> bool:
    """Wait until a run has used that much more CPU time; False when it ends before."""
    wanted = used(run) + seconds
    while run.poll() is None:
        if used(run) >= wanted:
            return True
        time.sleep(0.3)  # looking costs time too
    return False


def wait_for_work(run: psutil.Popen) -> None:
    """Wait until a job of Snakemake's runs, or it has ended."""
    while run.poll() is None:
        with suppress(psutil.NoSuchProcess):
            if working(run):
                return
        time.sleep(0.1)


class Study:
    """A study in a checkout of its own, that runs and can be killed."""

    def __init__(self, checkout: Checkout, name: str, targets: Sequence[str]):
        self.checkout, self.name, self.targets = checkout, name, targets
        self.results = checkout.root / "results" / name

    def start(self) -> psutil.Popen:
        """Snakemake, as after a crash."""
        if list((self.checkout.root / ".snakemake/locks").glob("*")):
            self.checkout.snakemake("--unlock", study=f"config/studies/{self.name}.yaml")
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *self.targets, "--rerun-incomplete", "--retries", "5"]
        with open(self.checkout.root / "run.log", "ab") as log:
            return psutil.Popen(
                [*command, "--configfile", f"config/studies/{self.name}.yaml"],
                cwd=self.checkout.root, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def finish(self, tries: int = 3) -> None:
        """Rerun until all is done. Raises AssertionError with the log's end when it never is: a job that a kill left behind
        may still be in the way of the first try.
        """
        codes = []
        while tries > len(codes) and 0 not in codes:
            codes.append(self.start().wait())
        assert 0 in codes, (self.checkout.root / "run.log").read_text()[-5000:]

    def disturb(self, kills: int, longest: float, rng: random.Random) -> Counter[str]:
        """Kill `kills` times, each after a random CPU time of at most `longest` s (half of them: four times that); count
        what was hit. Stops when the study is done before.
        """
        hit: Counter[str] = Counter()
        run = None
        while hit.total() < kills:
            if run is None or run.poll() is not None:
                if run is not None and run.returncode == 0:
                    break
                run = self.start()
            if rng.random() < 0.9:  # else also while Snakemake plans
                wait_for_work(run)
            patience = 4 if rng.random() < 0.5 else 1  # every other time long enough for the longest job to end
            if not wait_for_use(run, patience * rng.uniform(0, longest)):
                continue
            victim = rng.choices(VICTIMS, weights=(3, 5, 1))[0]
            if what := kill(run, victim, rng):
                hit[what] += 1
                print(f"{what} ({hit.total()})", flush=True)
                run.wait() if victim != "job" else time.sleep(0.1)
        if run is not None and run.poll() is None:
            run.wait()
        return hit


def make(folder: Path, study: Path, targets: Sequence[str]) -> Study:
    """A checkout at `folder` with a study file."""
    folder.mkdir(parents=True)
    checkout = copy_checkout(folder)
    (checkout.root / "config/studies" / study.name).write_text(study.read_text())
    return Study(checkout, study.stem, targets)


def trial(
    folder: Path, study: Path, *, kills: int, seed: int, longest: float, targets: Sequence[str] = ()
) -> tuple[Counter[str], list[str]]:
    """(what was killed, files that differ from the undisturbed run's) of a study that is killed `kills` times; where it ends
    before that, it begins anew.
    """
    whole = make(folder / "study", study, targets)  # tables hold paths: all rounds run in one place
    whole.finish(1)
    wanted = contents(whole.results)
    hit, different, rng, round_ = Counter(), [], random.Random(seed), 0
    while hit.total() < kills:
        round_ += 1
        shutil.rmtree(folder / "study")
        killed = make(folder / "study", study, targets)
        hit += killed.disturb(kills - hit.total(), longest, rng)
        killed.finish()
        different += [f"round {round_}: {name}" for name in differences(wanted, contents(killed.results))]
        print(f"round {round_}: {hit.total()} kills; {len(different)} files differ", flush=True)
    return hit, different


def main() -> int:
    """The trial by hand: prints what was killed, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=10, help="CPU seconds until the next kill, at most; half: 4 times")
    parser.add_argument("--study", type=Path, default=PROJECT / "tests/workflow/kills.yaml")
    given = parser.parse_args()
    os.nice(5)
    started = time.monotonic()
    hit, different = trial(given.folder, given.study, kills=given.kills, seed=given.seed, longest=given.longest)
    for what, count in sorted(hit.items()):
        print(f"{count:4d}  {what}")
    print(f"{hit.total()} kills, {time.monotonic() - started:.0f} s, {len(different)} files differ", *different, sep="\n")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
