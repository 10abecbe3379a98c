"""fMRIPrep (https://fmriprep.org, Esteban et al. 2019, doi:10.1038/s41592-018-0235-4), one subject at a time in a container.

Each run names one subject and no PyBIDS database, because fMRIPrep then indexes that subject's files only; a shared
database would be built from the whole dataset first, and by all jobs at once. What is wrong with a subject is an
Exclusion; what is wrong with the machine (no engine, no image, no licence, full disk) would exclude everybody for no
fault of theirs, and is an McspError.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mcsp.errors import Exclusion, McspError
from mcsp.options.fmriprep import FmriprepOptions, volumes
from mcsp.preprocess.work_dir import work_dir
from mcsp.store import read_json, write_json

LICENCE_INSIDE = "/opt/freesurfer/license.txt"
TEMPLATES_INSIDE = "/home/fmriprep/.cache/templateflow"  # where the image keeps its own
# Lines of the log that tell of the machine and not of the subject.
MACHINE_FAULTS = {
    r"Cannot connect to the Docker daemon": "Docker does not run: start it",
    r"permission denied while trying to connect": "this user may not use Docker: join the group docker, or use apptainer",
    r"requires a `tpl-` prefix": "fmriprep-docker does not know one of output_spaces: choose another, or use apptainer",
    r"(?:pull access denied|manifest unknown|Error response from daemon|Could not detect memory)": (
        "Docker could not get or start the image: look at fmriprep.version, fmriprep.image and the network"
    ),
    r"^FATAL: ": "the container could not be started: look at fmriprep.image and the paths",
    r"No space left on device": "the disk is full: set fmriprep.work_dir to a larger one",
}
# What exit codes mean when there is no crash file: (who is concerned, why).
EXIT_CODES = {
    125: (McspError, "Docker could not start the container"),
    126: (McspError, "fMRIPrep does not accept the FreeSurfer licence, or the image is for another processor"),
    127: (McspError, "the image lacks a program: is it an image of fMRIPrep?"),
    130: (McspError, "interrupted"),
    137: (Exclusion, "killed, most likely because memory ran out (give the rule more mem_mb, then run it again)"),
    143: (McspError, "stopped from outside"),
    255: (McspError, "the container could not be started"),
}


def fmriprep_command(
    options: FmriprepOptions,
    *,
    bids_dir: Path,
    out_dir: Path,
    label: str,
    threads: int,
    mem_mb: int,
    program: Sequence[str],
    licence: Path,
    user: str,
) -> list[str]:
    """Command line that preprocesses the subject `label` (without 'sub-') of `bids_dir` into `out_dir`.

    `program`: words that start the container (`find_program`). `licence`: of FreeSurfer. `user`: 'uid:gid' that owns the
    files; Apptainer needs none. A tenth of `mem_mb` is left to what fMRIPrep does not count. Pure: nothing is read or
    written. Raises Exclusion for a label that is not alphanumeric (BIDS), McspError for paths that can't be bound.
    """
    if not re.fullmatch("[A-Za-z0-9]+", label):
        raise Exclusion(f"subject label {label!r} is not letters and digits only, as BIDS has it: rename the subject")
    bids_dir, out_dir, work = _absolute(bids_dir), _absolute(out_dir), _work(options, out_dir, label)
    if bids_dir == out_dir or work.is_relative_to(bids_dir):
        raise McspError(
            f"fmriprep: output and work_dir ({work}) must lie outside the dataset {bids_dir}: set fmriprep.work_dir"
        )
    binds = {"/data:ro": bids_dir, "/out": out_dir, "/scratch": work, f"{LICENCE_INSIDE}:ro": _absolute(licence)}
    if options.bids_filter_file:
        binds["/opt/bids_filter.json:ro"] = _absolute(options.bids_filter_file)
    if options.templateflow_home:
        binds["/templateflow"] = _absolute(options.templateflow_home)
    for path in binds.values():
        if re.search(r"[:,\\\n]", str(path)):
            raise McspError(f"{path}: containers can't bind paths with a colon, comma or backslash: move or link it")
    arguments = _fmriprep_arguments(options, label, threads, mem_mb)
    if options.container == "docker":
        return [*program, *_docker_arguments(options, bids_dir, out_dir, work, licence, user), *arguments]
    bound = [word for inside, path in binds.items() for word in ("-B", f"{path}:{inside}")]
    image = options.image or f"docker://nipreps/fmriprep:{options.version}"
    image = image if "://" in image else str(_absolute(image))
    templates = "/templateflow" if options.templateflow_home else TEMPLATES_INSIDE
    chosen = ["--bids-filter-file", "/opt/bids_filter.json"] if options.bids_filter_file else []
    return [
        # --workdir: else /tmp and the home directory are a few MB of memory.
        *[*program, "run", "--cleanenv", "--containall", "--workdir", str(work / "container"), *bound],
        *["--env", f"TEMPLATEFLOW_HOME={templates}", "--env", "TEMPLATEFLOW_AUTOUPDATE=off"],
        *[image, "/data", "/out", "participant"],
        *["-w", "/scratch", "--fs-license-file", LICENCE_INSIDE, *chosen, "--output-spaces", *options.output_spaces],
        *arguments,
    ]


def run_fmriprep(
    options: FmriprepOptions, *, bids_dir: Path, out_dir: Path, label: str, threads: int, mem_mb: int, log: Path
) -> list[Path]:
    """Preprocess one subject; its output goes to `log`. Returns its preprocessed BOLD files in the volumetric spaces.

    A subject that is done with the same files and options is not run again. An unfinished one goes on from its working
    directory. Raises Exclusion when fMRIPrep fails on the subject, McspError when the machine is at fault.
    """
    bids_dir, out_dir = _absolute(bids_dir), _absolute(out_dir)
    places = {"bids_dir": bids_dir, "out_dir": out_dir, "threads": threads, "mem_mb": mem_mb}
    command = fmriprep_command(options, label=label, **places, **_this_machine(options))
    request = {"options": _result_options(options), "files": _raw_files(bids_dir, label)}
    done, work = out_dir / "logs" / f"mcsp_sub-{label}.json", _work(options, out_dir, label)
    if done.exists() and read_json(done) == request and (found := preprocessed_bold(options, out_dir, label)):
        return found
    for directory in (out_dir, work / "container", log.parent):
        directory.mkdir(parents=True, exist_ok=True)
    before = _crash_files(out_dir, label)
    code = _run(command, log, options.timeout_hours)
    if code:
        raise _failure(code, log, _crash_files(out_dir, label) - before)
    found = preprocessed_bold(options, out_dir, label)
    if not found:
        raise Exclusion(f"fMRIPrep ended well but wrote no BOLD in {' or '.join(volumes(options))}: see {log}")
    write_json(done, request)
    shutil.rmtree(work, ignore_errors=True)
    return found


def show_commands(
    options: FmriprepOptions, *, bids_dir: Path, out_dir: Path, labels: Sequence[str], threads: int, mem_mb: int
) -> str:
    """One shell line per subject, for a dry run. Needs the licence file but no container engine.

    Raises like `fmriprep_command`, and McspError without a licence.
    """
    places = {"bids_dir": bids_dir, "out_dir": out_dir, "threads": threads, "mem_mb": mem_mb}
    here = _this_machine(options, required=False)
    return "".join(f"{shlex.join(fmriprep_command(options, label=label, **places, **here))}\n" for label in labels)


def _this_machine(options: FmriprepOptions, *, required: bool = True) -> dict:
    """What `fmriprep_command` wants to know of this machine. Raises McspError without a licence or a `required` engine."""
    user = f"{os.getuid()}:{os.getgid()}"
    return {"program": find_program(options, required=required), "licence": find_licence(options), "user": user}


def find_program(options: FmriprepOptions, *, required: bool = True) -> list[str]:
    """Words that start the container: fmriprep-docker by this Python, or the path of Apptainer or Singularity.

    Raises McspError when the engine is not on this machine; not `required`: gives the usual name instead.
    """
    names = ["docker"] if options.container == "docker" else [options.executable or "apptainer", "singularity"]
    found = next(filter(None, map(shutil.which, names[:1] if options.executable else names)), None)
    if not found and required:
        raise McspError(
            f"preprocess: fmriprep needs {' or '.join(names)} on this machine: install it, set fmriprep.container, "
            "or choose preprocess: embedded"
        )
    if options.container == "apptainer":
        return [found or names[0]]
    if not find_spec("fmriprep_docker"):
        raise McspError(f"preprocess: fmriprep needs fmriprep-docker: {sys.executable} -m pip install fmriprep-docker")
    return [sys.executable, "-m", "fmriprep_docker"]


def find_licence(options: FmriprepOptions) -> Path:
    """The FreeSurfer licence file. Raises McspError when none is named or it is not there."""
    named = options.fs_license or os.environ.get("FS_LICENSE")
    if not named:
        raise McspError(
            "fMRIPrep needs a FreeSurfer licence, also without FreeSurfer: get one (free) from "
            "surfer.nmr.mgh.harvard.edu/registration.html, then set fmriprep.fs_license or $FS_LICENSE"
        )
    if not _absolute(named).is_file():
        raise McspError(f"{named}: no FreeSurfer licence file there: mend fmriprep.fs_license or $FS_LICENSE")
    return _absolute(named)


def preprocessed_bold(options: FmriprepOptions, out_dir: Path, label: str) -> list[Path]:
    """Preprocessed BOLD files of a subject that are not empty, in all volumetric spaces asked for; else []."""
    files = sorted(Path(out_dir).glob(f"sub-{label}/**/func/*_desc-preproc_bold.nii.gz"))
    files = [file for file in files if file.stat().st_size]
    spaces = [[f for f in files if f"_space-{space}_" in f.name] for space in volumes(options)]
    return sorted({file for found in spaces for file in found}) if all(spaces) else []


def crash_essence(path: Path) -> str:
    """The node and the exception of one of nipype's crash files, with the last word of the program that it ran."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    node = next((line.removeprefix("Node: ").split(".")[-1] for line in lines if line.startswith("Node: ")), "unknown step")
    error = next((line for line in reversed(lines) if line), "empty crash file")
    if "Stderr:" in lines:
        start = len(lines) - lines[::-1].index("Stderr:")
        said = [line for line in lines[start : _index(lines, "Traceback:", start)] if line]
        error += f": {said[-1]}" if said else ""
    return f"{node}: {error}"


def _index(lines: list[str], text: str, start: int) -> int:
    return lines.index(text, start) if text in lines[start:] else len(lines)


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _work(options: FmriprepOptions, out_dir: Path, label: str) -> Path:
    """Each subject has its own: it can go when the subject is done, and parallel runs share no file."""
    out_dir = _absolute(out_dir)
    root = work_dir("fmriprep", options.work_dir) if options.work_dir else out_dir.with_name(f"{out_dir.name}-work")
    return root / f"fmriprep_sub-{label}"


def _docker_arguments(options, bids_dir: Path, out_dir: Path, work: Path, licence: Path, user: str) -> list[str]:
    """Arguments that fmriprep-docker itself reads: it binds these paths, and passes all others on."""
    chosen = ["--bids-filter-file", str(_absolute(options.bids_filter_file))] if options.bids_filter_file else []
    return [
        *[str(bids_dir), str(out_dir), "participant", "--image", options.image or f"nipreps/fmriprep:{options.version}"],
        *["--user", user, "--no-tty", "-w", str(work), "--fs-license-file", str(_absolute(licence)), *chosen],
        *["--output-spaces", *options.output_spaces],
    ]


def _fmriprep_arguments(options: FmriprepOptions, label: str, threads: int, mem_mb: int) -> list[str]:
    """Arguments of fMRIPrep itself that hold no path."""
    return [
        *["--participant-label", label, "--output-layout", "bids", "--nprocs", str(threads)],
        # With one process fMRIPrep's own default is all cores of the machine.
        *["--omp-nthreads", str(min(max(threads - 1, 1), 8))],
        # Spelt with an underscore: fmriprep-docker asks a question on small machines unless it finds this very word.
        *["--mem_mb", str(mem_mb * 9 // 10)],
        *["--random-seed", str(options.seed), "--skull-strip-fixed-seed", "--stop-on-first-crash", "--notrack"],
        *(["--fs-no-reconall"] if options.fs_no_reconall else []),
        *(["--skip_bids_validation"] if options.skip_bids_validation else []),
        *options.extra_args,
    ]


def _result_options(options: FmriprepOptions) -> dict:
    """The options that the results depend on."""
    where = {"container", "executable", "fs_license", "work_dir", "templateflow_home", "timeout_hours", "skip_bids_validation"}
    where |= {"threads", "mem_mb"}
    filters = read_json(_absolute(options.bids_filter_file)) if options.bids_filter_file else None
    return options.model_dump(mode="json", exclude=where) | {"bids_filter_file": filters}


def _raw_files(bids_dir: Path, label: str) -> list[list]:
    """[path, size in bytes, time in ns] of each file of the subject that fMRIPrep may read.

    Raises Exclusion for links that a container can't follow, or when there is no such subject.
    """
    root, files = bids_dir.resolve(), []
    for path in sorted((bids_dir / f"sub-{label}").rglob("*")):
        if path.is_dir() or path.parent.name not in ("anat", "func", "fmap"):
            continue
        if not (path.exists() and path.resolve().is_relative_to(root)):
            raise Exclusion(f"{path}: a link out of the dataset or to nothing; containers can't follow it: put the file there")
        files.append([str(path.relative_to(bids_dir)), path.stat().st_size, path.stat().st_mtime_ns])
    if not files:
        raise Exclusion(f"no anat, func or fmap files in {bids_dir / f'sub-{label}'}")
    return files


def _crash_files(out_dir: Path, label: str) -> set[Path]:
    """In sub-X/log/<run>, in sub-X/ses-Y/log/<run> when sessions are run one by one."""
    return set((out_dir / f"sub-{label}").glob("**/log/*/crash-*"))


def _run(command: list[str], log: Path, timeout_hours: float) -> int:
    """Exit status of the command, as a shell counts it. Raises Exclusion when it takes too long."""
    with open(log, "wb") as file:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}  # fmriprep-docker's lines in their place
        options = {"stdout": file, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "env": environment}
        process = subprocess.Popen(command, start_new_session=True, **options)
        try:
            code = process.wait(timeout_hours * 3600)
        except subprocess.TimeoutExpired:
            raise Exclusion(f"fMRIPrep took longer than {timeout_hours:g} hours (fmriprep.timeout_hours): see {log}") from None
        finally:
            _stop(process)
    return code if code >= 0 else 128 - code


def _stop(process: subprocess.Popen, patience: float = 30) -> None:
    """End the process and its children, if it still runs. Interrupt first: Docker passes that on to its container."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def _failure(code: int, log: Path, crashes: set[Path]) -> Exception:
    """What to raise after exit status `code`: from a crash file of this run, else from the log and the status."""
    lines = _last_lines(log)
    for pattern, remedy in MACHINE_FAULTS.items():
        if line := next((line for line in lines if re.search(pattern, line)), None):
            return McspError(f"fmriprep: {remedy} ({line}; log {log})")
    if crashes:
        newest = max(crashes, key=lambda path: path.stat().st_mtime_ns)
        return Exclusion(f"fMRIPrep crashed in {crash_essence(newest)} ({newest})")
    named = [line for line in lines if re.search(r"fMRIPrep failed: |^[\w.]*(Error|Exception): ", line)]
    said = f"{' | '.join(named[-1:] or lines[-3:]) or 'no word'} ({log})"
    if any("process pool was terminated abruptly" in line for line in lines):
        code = 137  # one of fMRIPrep's workers was killed, not fMRIPrep itself
    kind, meaning = EXIT_CODES.get(code, (Exclusion, f"ended with status {code}"))
    return kind(f"fMRIPrep: {meaning}: {said}")


def _last_lines(log: Path, n_bytes: int = 65536) -> list[str]:
    """Lines at the end of a log that say something, without colours and the wrapper's own talk."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - n_bytes))
        text = re.sub(r"\x1b\[[0-9;]*m", "", file.read().decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("RUNNING: ", "fMRIPrep: Please report errors"))]
