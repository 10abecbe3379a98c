"""SIGKILL at random moments: a study that is killed again and again must end as one that nobody disturbed.

By hand: `python -m tests.workflow.kills FOLDER --kills 50 --seed 0 [--study STUDY.yaml]`. The jobs hit least come first:
fewer kills than jobs leave some out. Moments are drawn in CPU time, up to what the job took undisturbed, so that a busy machine
changes nothing; one in three is when the job has written its first file, which on several cores may be that of a job beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.workflow.conftest import PROJECT, Checkout, copy_checkout

TIMED = {"logs", "benchmarks"}  # they say how long things took
STAMP = ".snakemake_timestamp"  # Snakemake's, in directories that a rule made
LOG = re.compile(r"(?:> |tee )\S*/logs/(\S+)\.log")  # where a job's command writes to
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


def jobs_of(run: psutil.Process) -> dict[str, psutil.Process]:
    """Snakemake's jobs that run: log file, without directory of logs and ending -> the job's shell."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for process in run.children():
            if log := LOG.search(" ".join(process.cmdline())):
                found[log[1]] = process
    return found


def kill(run: psutil.Process, job: psutil.Process, victim: str, rng: random.Random) -> bool:
    """SIGKILL to Snakemake, to a process of a job, or to everything; False when that had ended by itself."""
    with suppress(psutil.NoSuchProcess):
        below = run.children(recursive=True)
        own = [job, *job.children(recursive=True)]
        chosen = {"all": [run, *below], "snakemake": [run], "job": [rng.choice(own)]}[victim]
        if not job.is_running():
            return False
        for process in chosen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return True
    return False


def used(process: psutil.Process) -> float:
    """CPU seconds of a process and all that it started."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:4])  # its own, and of its children that have ended
    return total


def written(results: Path) -> set[Path]:
    """Files of a study's results as they are named now, parts too, but for logs and the like."""
    found = set()
    for folder, below, names in os.walk(results):
        if Path(folder) == results:
            below[:] = [name for name in below if name not in TIMED]
        found |= {Path(folder, name) for name in names}
    return found


class Study:
    """A study in a checkout of its own, that runs and can be killed."""

    def __init__(self, checkout: Checkout, name: str, targets: Sequence[str], cores: int):
        self.checkout, self.name, self.targets, self.cores = checkout, name, targets, cores
        self.results = checkout.root / "results" / name

    def start(self) -> psutil.Popen:
        """Snakemake, as after a crash."""
        if list((self.checkout.root / ".snakemake/locks").glob("*")):
            self.checkout.snakemake("--unlock", study=f"config/studies/{self.name}.yaml")
        command = [sys.executable, "-m", "snakemake", "--cores", str(self.cores), *self.targets, "--retries", "5"]
        with open(self.checkout.root / "run.log", "ab") as log:
            return psutil.Popen(
                [*command, "--rerun-incomplete", "--configfile", f"config/studies/{self.name}.yaml"],
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

    def undisturbed(self) -> dict[str, float]:
        """Run the study; CPU seconds of each job, by the name of its log."""
        found: dict[str, float] = {}
        run = self.start()
        while run.poll() is None:
            found |= {name: max(found.get(name, 0), used(job)) for name, job in jobs_of(run).items()}
            time.sleep(0.2)
        assert run.returncode == 0, (self.checkout.root / "run.log").read_text()[-5000:]
        return found

    def reach(self, job: psutil.Process, seconds: float | None) -> bool:
        """Wait until a job has used so much CPU time, or for None until it has written something; False when it ends before."""
        before = written(self.results) if seconds is None else set()
        while job.is_running() and job.status() != psutil.STATUS_ZOMBIE:
            if used(job) >= seconds if seconds is not None else written(self.results) - before:
                return True
            time.sleep(0.1 if seconds is not None else 0.01)  # looking costs time too
        return False

    def disturb(self, due: Counter[str], durations: Mapping[str, float], rng: random.Random) -> Counter[tuple[str, str]]:
        """Kill each job of `due` so often, until the study is done; for one that ends before it is hit, another that is still
        to come is hit once more. Counts (victim, job).
        """
        hit: Counter[tuple[str, str]] = Counter()
        run, due, coming = self.start(), Counter(due), set(durations)
        while True:
            if run.poll() is not None:
                if run.returncode == 0:
                    return hit
                run = self.start()
            name, job = next(((name, job) for name, job in jobs_of(run).items() if due[name]), ("", None))
            if job is None:
                time.sleep(0.1)
                continue
            moment = None if rng.random() < 1 / 3 else rng.uniform(0, 0.8 * durations[name])  # it may be quicker now
            victim = rng.choices(VICTIMS, weights=(3, 5, 1))[0]
            due[name] -= 1
            coming.discard(name)
            with suppress(psutil.NoSuchProcess):
                if not (self.reach(job, moment) and kill(run, job, victim, rng)):
                    due.update(rng.sample(sorted(coming), min(1, len(coming))))
                else:
                    hit[victim, name] += 1
                    print(f"{victim} in {name}", "at its first file" if moment is None else f"after {moment:.1f} s", flush=True)
                    run.wait() if victim != "job" else job.wait()


def make(folder: Path, study: Path, targets: Sequence[str], cores: int) -> Study:
    """A checkout at `folder` with a study file."""
    folder.mkdir(parents=True)
    checkout = copy_checkout(folder)
    (checkout.root / "config/studies" / study.name).write_text(study.read_text())
    return Study(checkout, study.stem, targets, cores)


def plan(jobs: Iterable[str], hit: Mapping[str, int], kills: int, rng: random.Random) -> Counter[str]:
    """`kills` hits spread over jobs: those that had the fewest come first, chance decides between equals."""
    order = sorted(jobs, key=lambda job: (hit.get(job, 0), rng.random()))
    return Counter(order[i % len(order)] for i in range(kills))


def trial(
    folder: Path, study: Path, *, kills: int, seed: int, targets: Sequence[str] = (), cores: int = 1
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """(how often which (victim, job) was killed, files that differ from the undisturbed run's) of a study that is killed
    `kills` times; where jobs end before they are hit, it begins anew for the rest.
    """
    whole = make(folder / "study", study, targets, cores)  # tables hold paths: all rounds run in one place
    durations, wanted = whole.undisturbed(), contents(whole.results)
    print(f"{len(durations)} jobs, {sum(durations.values()):.0f} CPU s, undisturbed", flush=True)
    hit, different, rng, round_ = Counter(), [], random.Random(seed), 0
    while hit.total() < kills:
        round_ += 1
        shutil.rmtree(folder / "study")
        killed = make(folder / "study", study, targets, cores)
        so_far = Counter(job for _, job in hit.elements())
        hit += killed.disturb(plan(durations, so_far, kills - hit.total(), rng), durations, rng)
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
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--study", type=Path, default=PROJECT / "tests/workflow/kills.yaml")
    given = parser.parse_args()
    os.nice(5)
    started = time.monotonic()
    hit, different = trial(given.folder, given.study, kills=given.kills, seed=given.seed, cores=given.cores)
    for victim in VICTIMS:
        print(f"{sum(n for (who, _), n in hit.items() if who == victim):4d}  {victim}")
    stages = Counter(job.split("/")[0] for (_, job) in hit.elements())
    print(*(f"{count:4d}  {stage}" for stage, count in stages.items()), sep="\n")
    seconds = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(
        f"{hit.total()} kills, {seconds:.0f} CPU s, {time.monotonic() - started:.0f} s, {len(different)} files differ",
        *different,
        sep="\n",
    )
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
