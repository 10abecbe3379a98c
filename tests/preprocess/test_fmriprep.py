"""fMRIPrep's command line, read by the real parsers; its failures, played by a stand-in.

No container engine runs on test machines: `stand_in` writes a script in the place of docker or apptainer, which notes
how it was called and then makes the files that a test wants. So the whole way from the options to fMRIPrep's own parser
is tested, and what we do with results and failures; a real container is not.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from mcsp.errors import Exclusion, McspError
from mcsp.options.fmriprep import FmriprepOptions
from mcsp.preprocess.fmriprep import crash_essence, fmriprep_command, preprocessed_bold, run_fmriprep, show_commands

needs_parser = pytest.mark.skipif(
    importlib.util.find_spec("fmriprep") is None, reason="fMRIPrep's parser is not installed: make setup installs it"
)
SCRIPT = '''#!{python}
"""A STAND-IN for a container engine, made by a test: it runs no container."""
import json, os, pathlib, sys, time
words = sys.argv[1:]
with open({calls!r}, "a") as file:
    file.write(json.dumps(words) + "\\n")
if words[0] in ("version", "images"):
    sys.exit(print("28.0"))
if "--entrypoint=free" in words:
    sys.exit(print("Mem: 4000 0 0"))  # a small machine: fmriprep-docker would ask whether to go on
binds = {{w.split(":")[1]: w.split(":")[0] for flag, w in zip(words, words[1:]) if flag in ("-v", "-B")}}
label = words[words.index("--participant-label") + 1]
subject = pathlib.Path(binds["/out"]) / f"sub-{{label}}"
{does}
'''
WRITES_BOLD = """
(subject / "func").mkdir(parents=True, exist_ok=True)
name = f"sub-{label}_task-rest_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"
(subject / "func" / name).write_bytes(b"bold")
"""


class Dataset:
    """A BIDS dataset of empty files, under a path with spaces, and the options that go with it."""

    def __init__(self, root, labels=("01", "02")):
        self.bids, self.out, self.log = (
            root / "my data" / "bids set",
            root / "my results" / "fmriprep",
            root / "log s" / "x.log",
        )
        for label in labels:
            for name in (f"anat/sub-{label}_T1w.nii.gz", f"func/sub-{label}_task-rest_bold.nii.gz"):
                path = self.bids / f"sub-{label}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
        self.licence, self.filters = root / "my licence.txt", root / "filter file.json"
        self.licence.write_text("licence")
        self.filters.write_text(json.dumps({"bold": {"task": "rest"}}))
        self.calls, self.bin, self.work = root / "calls", root / "bin", root / "scratch disk"

    def options(self, **changes):
        return FmriprepOptions(**{"fs_license": str(self.licence), "work_dir": str(self.work)} | changes)

    def places(self, label="01"):
        return {"bids_dir": self.bids, "out_dir": self.out, "label": label, "threads": 4, "mem_mb": 16000}

    def run(self, label="01", **changes):
        return run_fmriprep(self.options(**changes), **self.places(label), log=self.log)

    def stand_in(self, name, does=WRITES_BOLD):
        self.bin.mkdir(exist_ok=True)
        (self.bin / name).write_text(SCRIPT.format(python=sys.executable, calls=str(self.calls), does=does))
        (self.bin / name).chmod(0o755)

    def called(self):
        return [json.loads(line) for line in self.calls.read_text().splitlines()] if self.calls.exists() else []


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    made = Dataset(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin))  # no engine but the stand-in
    monkeypatch.delenv("FS_LICENSE", raising=False)
    return made


def read_by_fmriprep(words, tmp_path):
    """What fMRIPrep's own parser makes of the words behind the image, paths of the container turned back by its binds.

    In a process of its own: importing fMRIPrep changes warnings, logging and multiprocessing of the whole process.
    """
    binds = {w.split(":")[1]: w.split(":")[0] for flag, w in pairwise(words) if flag in ("-v", "-B")}
    image = next(i for i, word in enumerate(words) if "nipreps/fmriprep" in word or word.endswith(".sif"))
    arguments = [binds.get(word, word) for word in words[image + 1 :]]
    script = (
        "import json, sys; from fmriprep.cli.parser import _build_parser as build; r = vars(build().parse_args(sys.argv[1:]));"
        "r['output_spaces'] = [str(s) for s in r['output_spaces'].references]; print(json.dumps(r, default=str))"
    )
    env = os.environ | {"HOME": str(tmp_path), "TEMPLATEFLOW_HOME": str(tmp_path / "tf"), "TEMPLATEFLOW_AUTOUPDATE": "off"}
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ALL = {
    "output_spaces": ["MNI152NLin2009cAsym:res-2", "T1w", "MNI152NLin6Asym"],
    "extra_args": ["--ignore", "fieldmaps", "slicetiming", "--dummy-scans", "4"],
    "seed": 7,
}


def check_all_arrived(read, dataset, label):
    assert read["bids_dir"] == str(dataset.bids)
    assert read["output_dir"] == str(dataset.out)
    assert read["analysis_level"] == "participant"
    assert read["participant_label"] == [label]
    assert read["output_spaces"] == ["MNI152NLin2009cAsym:res-2", "T1w", "MNI152NLin6Asym:res-native"]  # fMRIPrep fills in
    assert read["work_dir"] == str(dataset.work / f"fmriprep_sub-{label}")
    assert read["bids_filters"] == {"bold": {"task": "rest"}}
    assert read["bids_database_dir"] is None  # else each run indexes the whole dataset
    assert (read["nprocs"], read["omp_nthreads"]) == (4, 3)
    assert read["memory_gb"] == pytest.approx(14.4)
    assert (read["_random_seed"], read["skull_strip_fixed_seed"]) == (7, True)
    assert read["ignore"] == ["fieldmaps", "slicetiming"]
    assert read["dummy_scans"] == 4
    assert read["output_layout"] == "bids"
    assert read["notrack"]
    assert read["stop_on_first_crash"]
    assert read["skip_bids_validation"]
    assert not read["run_reconall"]


@needs_parser
def test_every_docker_option_reaches_fmriprep_through_its_real_wrapper(dataset, tmp_path):
    dataset.stand_in("docker")
    found = dataset.run("02", bids_filter_file=str(dataset.filters), **ALL | {"output_spaces": ["MNI152NLin2009cAsym:res-2"]})
    assert [path.name for path in found] == ["sub-02_task-rest_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"]
    dataset.calls.unlink()
    with pytest.raises(Exclusion, match="no BOLD in MNI152NLin2009cAsym or MNI152NLin6Asym"):
        dataset.run("02", bids_filter_file=str(dataset.filters), **ALL)
    words = dataset.called()[-1]
    check_all_arrived(read_by_fmriprep(words, tmp_path), dataset, "02")
    assert words[:2] == ["run", "--rm"]
    assert words[words.index("-u") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert "-it" not in words
    assert f"{dataset.bids}:/data:ro" in words
    # fmriprep-docker puts the licence where fMRIPrep looks for it, without an argument.
    assert f"{dataset.licence}:/opt/freesurfer/license.txt:ro" in words
    assert "nipreps/fmriprep:25.2.7" in words


@needs_parser
@pytest.mark.parametrize("name", ["apptainer", "singularity"])
def test_every_apptainer_option_reaches_fmriprep(dataset, tmp_path, name):
    dataset.stand_in(name)
    changes = ALL | {"bids_filter_file": str(dataset.filters), "templateflow_home": str(tmp_path / "tf home")}
    with pytest.raises(Exclusion, match="no BOLD in"):
        dataset.run("01", container="apptainer", image=str(tmp_path / "fmriprep 25.2.7.sif"), **changes)
    (words,) = dataset.called()
    read = read_by_fmriprep(words, tmp_path)
    check_all_arrived(read, dataset, "01")
    assert read["fs_license_file"] == str(dataset.licence)
    assert words[:3] == ["run", "--cleanenv", "--containall"]
    assert words[words.index("--workdir") + 1] == str(dataset.work / "fmriprep_sub-01" / "container")
    assert f"{dataset.bids}:/data:ro" in words
    assert f"{tmp_path / 'tf home'}:/templateflow" in words
    assert "TEMPLATEFLOW_HOME=/templateflow" in words
    assert str(tmp_path / "fmriprep 25.2.7.sif") in words


def test_the_wrapper_reads_its_own_options_and_leaves_the_rest(dataset):
    from fmriprep_docker.__main__ import get_parser

    options = dataset.options(bids_filter_file=str(dataset.filters), **ALL)
    command = fmriprep_command(options, **dataset.places(), program=["p"], licence=dataset.licence, user="5:6")
    read, rest = get_parser().parse_known_args(command[1:])
    assert (read.bids_dir, read.output_dir, read.analysis_level) == (str(dataset.bids), str(dataset.out), "participant")
    assert (read.image, read.user, read.no_tty) == ("nipreps/fmriprep:25.2.7", "5:6", True)
    assert read.work_dir == str(dataset.work / "fmriprep_sub-01")
    assert (read.fs_license_file, read.bids_filter_file) == (str(dataset.licence), str(dataset.filters))
    assert read.output_spaces == options.output_spaces
    assert read.bids_database_dir is None
    assert rest[:2] == ["--participant-label", "01"]
    assert rest[-5:] == ["--ignore", "fieldmaps", "slicetiming", "--dummy-scans", "4"]


def test_the_default_version_is_the_one_whose_parsers_are_pinned():
    version = FmriprepOptions().version
    root = Path(__file__).resolve().parents[2]
    assert f"fmriprep-docker=={version}" in (root / "requirements.lock").read_text().splitlines()
    assert f"fmriprep=={version}" in (root / "requirements-fmriprep.lock").read_text().splitlines()


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_one_thread_does_not_become_all_cores(dataset, threads):
    places = dataset.places() | {"threads": threads}
    command = fmriprep_command(dataset.options(), **places, program=["p"], licence=dataset.licence, user="5:6")
    assert int(command[command.index("--omp-nthreads") + 1]) <= threads


@pytest.mark.parametrize("label", ["", "-w", "01 02", "01;rm", "../01", "01\n", "a+b", "ä"])
def test_labels_that_are_none_are_excluded(dataset, label):
    with pytest.raises(Exclusion, match="letters and digits"):
        fmriprep_command(dataset.options(), **dataset.places(label), program=["p"], licence=dataset.licence, user="5:6")


@pytest.mark.parametrize("container", ["docker", "apptainer"])
@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b"])
def test_paths_that_cant_be_bound_are_named(dataset, tmp_path, container, name):
    options = dataset.options(container=container, work_dir=str(tmp_path / name))
    with pytest.raises(McspError, match="containers can't bind"):
        fmriprep_command(options, **dataset.places(), program=["p"], licence=dataset.licence, user="5:6")


def test_intermediate_files_stay_out_of_the_dataset(dataset):
    options = dataset.options(work_dir=str(dataset.bids / "work"))
    with pytest.raises(McspError, match=r"fmriprep\.work_dir"):
        fmriprep_command(options, **dataset.places(), program=["p"], licence=dataset.licence, user="5:6")


def test_intermediate_files_lie_where_the_job_says(dataset, tmp_path, monkeypatch):
    """As in the embedded route: variables and ~ are the job's."""
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "node"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    more = {"program": ["p"], "licence": dataset.licence, "user": "5:6"}
    for given, place in (("$NODE_DISK/mine", "node/mine"), ("~/mine", "home/mine")):
        command = fmriprep_command(dataset.options(work_dir=given), **dataset.places(), **more)
        assert command[command.index("-w") + 1] == str(tmp_path / place / "fmriprep_sub-01")
    with pytest.raises(McspError, match=r"^fmriprep\.work_dir = \$NO_SUCH_THING/mine: not set in this job"):
        fmriprep_command(dataset.options(work_dir="$NO_SUCH_THING/mine"), **dataset.places(), **more)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"output_spaces": ["fsaverage", "T1w"]}, "add a standard volume"),
        ({"output_spaces": ["MNI152NLin2009cAsym res-2"]}, "write a template"),
        ({"output_spaces": ["--shell"]}, "write a template"),
        ({"version": "latest"}, "version"),
        ({"templateflow_home": "/tf"}, "is for container: apptainer"),
        ({"extra_args": ["--participant-label", "02"]}, "each subject by itself"),
        ({"extra_args": ["--output-spaces=T1w"]}, "output_spaces"),
        ({"extra_args": ["fieldmaps"]}, "belongs to no option"),
    ],
)
def test_options_that_cant_work_are_named(changes, says):
    with pytest.raises(ValidationError, match=says):
        FmriprepOptions(**changes)


def test_commands_are_shown_one_per_line_without_an_engine(dataset):
    options, places = dataset.options(), dataset.places()
    del places["label"]
    text = show_commands(options, **places, labels=["01", "02"])
    user = f"{os.getuid()}:{os.getgid()}"
    program = [sys.executable, "-m", "fmriprep_docker"]
    assert [shlex.split(line) for line in text.splitlines()] == [
        fmriprep_command(options, **places, label=label, program=program, licence=dataset.licence, user=user)
        for label in ("01", "02")
    ]
    assert "'" in text  # the paths have spaces


@pytest.mark.parametrize("container", ["docker", "apptainer"])
def test_a_machine_without_an_engine_is_named(dataset, container):
    with pytest.raises(McspError, match=rf"needs {container}.*install it.*preprocess: embedded"):
        dataset.run(container=container)


def test_a_missing_licence_is_named(dataset, monkeypatch):
    dataset.stand_in("docker")
    with pytest.raises(McspError, match="needs a FreeSurfer licence"):
        dataset.run(fs_license=None)
    with pytest.raises(McspError, match=r"nowhere\.txt: no FreeSurfer licence"):
        dataset.run(fs_license="/nowhere.txt")
    monkeypatch.setenv("FS_LICENSE", str(dataset.licence))
    assert dataset.run(fs_license=None)


@pytest.mark.skipif(
    not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0,
    reason="needs a docker client without a daemon",
)
def test_a_real_docker_without_its_daemon_is_named(tmp_path):
    with pytest.raises(McspError, match="Docker does not run: start it"):
        Dataset(tmp_path).run()


FAULTS = {
    "no licence": ("sys.exit(126)", McspError, "does not accept the FreeSurfer licence"),
    "no start": ("sys.exit(125)", McspError, "could not start the container"),
    "no program": ("sys.exit(127)", McspError, "lacks a program"),
    "out of memory": ("sys.exit(137)", Exclusion, "killed, most likely because memory ran out"),
    "killed itself": ("os.kill(os.getpid(), 9)", Exclusion, "killed, most likely because memory ran out"),
    "worker killed": (
        "sys.exit('fMRIPrep failed: A process in the process pool was terminated abruptly')",
        Exclusion,
        "memory ran out",
    ),
    "stopped": ("os.kill(os.getpid(), 15)", McspError, "stopped from outside"),
    "no image": ("print('FATAL:   could not open image /x.sif'); sys.exit(255)", McspError, r"fmriprep\.image.*x\.sif"),
    "disk full": ("print('OSError: [Errno 28] No space left on device'); sys.exit(1)", McspError, "disk is full"),
    "no T1w": (
        "print('\\x1b[31mException: No T1w images found\\x1b[0m'); print('afterwards'); sys.exit(1)",
        Exclusion,
        r"status 1: Exception: No T1w images found \(",
    ),
    "says nothing": ("sys.exit(3)", Exclusion, "status 3: no word"),
    "writes nothing": ("", Exclusion, "ended well but wrote no BOLD"),
    "writes an empty file": (WRITES_BOLD.replace('b"bold"', 'b""'), Exclusion, "ended well but wrote no BOLD"),
}


@pytest.mark.parametrize(("does", "kind", "says"), FAULTS.values(), ids=FAULTS)
def test_what_went_wrong_is_told_in_one_line(dataset, does, kind, says):
    dataset.stand_in("apptainer", does)
    with pytest.raises(kind, match=says) as caught:
        dataset.run(container="apptainer")
    assert "\n" not in str(caught.value)
    assert (dataset.work / "fmriprep_sub-01").is_dir()  # the next run goes on from there


def test_an_image_that_docker_cant_get_concerns_the_whole_study(dataset):
    dataset.stand_in("docker")
    script = dataset.bin / "docker"
    failing = "sys.exit(print('docker: Error response from daemon: manifest unknown', file=sys.stderr) or 125)"
    script.write_text(script.read_text().replace('sys.exit(print("Mem: 4000 0 0"))', failing))
    with pytest.raises(McspError, match=r"could not get or start the image.*manifest unknown"):
        dataset.run()


CRASHES = """
log = subject / "log" / "20260101-000000_new"
log.mkdir(parents=True)
(log / "crash-20260101-000000-user-skullstrip-uuid.txt").write_text('''Node: fmriprep_25_2_wf.sub_01_wf.anat_fit_wf.skullstrip
Working directory: /scratch

Traceback (most recent call last):
nipype.pipeline.engine.nodes.NodeExecutionError: Exception raised while executing Node skullstrip.

Stderr:
\tantsBrainExtraction.sh: line 9: Killed
Traceback:
\tRuntimeError: subprocess exited with code 1.

''')
sys.exit("fMRIPrep failed: see the crash file")
"""


def test_the_crash_of_this_run_is_told_not_an_older_one(dataset):
    old = dataset.out / "sub-01" / "log" / "20250101-000000_old" / "crash-20250101-000000-user-other-uuid.txt"
    old.parent.mkdir(parents=True)
    old.write_text("Node: a.older\n\nValueError: fixed since\n")
    os.utime(old, (time.time() + 3600,) * 2)  # clocks of file servers are not ours
    dataset.stand_in("apptainer", CRASHES)
    with pytest.raises(Exclusion) as caught:
        dataset.run(container="apptainer")
    said = str(caught.value)
    assert said.startswith("fMRIPrep crashed in skullstrip: RuntimeError: subprocess exited with code 1.: antsBrainExtraction")
    assert said.endswith("crash-20260101-000000-user-skullstrip-uuid.txt)")


@needs_parser
@pytest.mark.parametrize(
    ("node", "essence"),
    [
        ("Node(Function(function=bad), name='check')", "check: ValueError: fewer than 5 volumes"),
        (
            "Node(CommandLine('ls /nowhere'), name='look')",
            r"look: RuntimeError: subprocess exited with code 2.: ls: .*/nowhere.*",
        ),
    ],
)
def test_crash_files_of_the_real_nipype_are_understood(tmp_path, node, essence):
    script = f"""
from nipype import Node, Workflow, config
from nipype.interfaces.base import CommandLine
from nipype.interfaces.utility import Function
def bad():
    raise ValueError("fewer than 5 volumes")
config.update_config({{"execution": {{"crashdump_dir": "crashes", "crashfile_format": "txt", "check_version": False}}}})
flow = Workflow("single_subject_01_wf", base_dir="work")
flow.add_nodes([{node}])
flow.run()
"""
    (tmp_path / "script.py").write_text(script)
    env = os.environ | {"HOME": str(tmp_path), "NO_ET": "1", "NIPYPE_NO_ET": "1"}
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, check=False)
    (crash,) = (tmp_path / "crashes").glob("crash-*.txt")
    assert re.fullmatch(essence, crash_essence(crash))


def test_a_done_subject_is_run_again_only_when_files_or_options_change(dataset):
    dataset.stand_in("apptainer")
    first = dataset.run(container="apptainer")
    assert not (dataset.work / "fmriprep_sub-01").exists()
    assert dataset.run(container="apptainer", work_dir=str(dataset.work / "other")) == first
    assert len(dataset.called()) == 1
    (dataset.bids / "sub-01/func/sub-01_task-rest_bold.nii.gz").write_bytes(b"another")
    dataset.run(container="apptainer")
    dataset.run(container="apptainer", seed=1)
    assert len(dataset.called()) == 3
    first[0].unlink()
    assert dataset.run(container="apptainer", seed=1) == first
    assert len(dataset.called()) == 4


def test_all_volumes_that_were_asked_for_are_needed(dataset):
    options = dataset.options(output_spaces=["MNI152NLin2009cAsym", "MNI152NLin6Asym:res-2", "T1w", "fsaverage"])
    folder = dataset.out / "sub-01" / "ses-1" / "func"
    folder.mkdir(parents=True)
    spaces = ("MNI152NLin2009cAsym", "MNI152NLin6Asym_res-2", "T1w")
    files = [folder / f"sub-01_ses-1_space-{space}_desc-preproc_bold.nii.gz" for space in spaces]
    for number, path in enumerate(files):
        assert bool(preprocessed_bold(options, dataset.out, "01")) == (number > 1)
        path.write_bytes(b"x")
    assert preprocessed_bold(options, dataset.out, "01") == files[:2]


def test_links_out_of_the_dataset_and_unknown_subjects_are_excluded(dataset, tmp_path):
    dataset.stand_in("apptainer")
    with pytest.raises(Exclusion, match="no anat, func or fmap files"):
        dataset.run("99", container="apptainer")
    (tmp_path / "elsewhere.nii.gz").write_bytes(b"x")
    link = dataset.bids / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere.nii.gz")
    with pytest.raises(Exclusion, match="containers can't follow"):
        dataset.run("01", container="apptainer")
    assert dataset.called() == []


def test_a_subject_that_takes_too_long_is_interrupted_and_excluded(dataset, tmp_path):
    dataset.stand_in(
        "apptainer",
        f"""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background of a shell inherit that it is ignored
try:
    time.sleep(60)
    pathlib.Path({str(tmp_path / "finished")!r}).touch()
except KeyboardInterrupt:
    pathlib.Path({str(tmp_path / "interrupted")!r}).write_text(str(os.getpid()))
""",
    )
    began = time.monotonic()
    with pytest.raises(Exclusion, match=r"took longer than .* hours \(fmriprep.timeout_hours\)"):
        dataset.run(container="apptainer", timeout_hours=5 / 3600)
    assert time.monotonic() - began < 30
    assert not (tmp_path / "finished").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "interrupted").read_text()), 0)  # nothing of it is left
