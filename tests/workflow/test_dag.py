"""What runs, and what does not: the graph, reruns after edits, errors before any job starts."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcsp.study import parse_study
from mcsp.workflow import Plan

PROJECT = Path(__file__).resolve().parents[2]
STAGES = [
    "simulate",
    "ingest",
    "fmri",
    "eeg",
    "connectivity",
    "spectra",
    "splits",
    "pretrain",
    "finetune",
    "evaluate",
    "explain",
    "cards",
    "figures",
    "report",
]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("stage", [*STAGES, "tables", "controls", "validation", "check", "prefetch"])
def test_every_stage_is_a_target_of_its_name(stage, checkout):
    assert checkout.planned(stage)


def test_each_rival_is_a_job_of_its_own(checkout):
    planned = checkout.planned("evaluate")
    assert planned["rival_task"] == 4  # three, and linear after ComBat
    assert checkout.planned("evaluate", "--config", "evaluate={rivals: all}")["rival_task"] == 15


def test_sweeps_declare_all_that_they_read_of_models(checkout):
    """What is no input is absent where results live in a storage of Snakemake's."""
    text = checkout.snakemake("-n", "sweep")
    inputs = re.search(r"Who is found across modalities, \S+\n(Reason: .*)", text)[1]
    for fold in (0, 1):
        for name in ("config.json", "model.safetensors"):
            assert re.search(rf"sweep/[^/]+/pretrain/fold-{fold}/{name}", inputs)


def test_dry_run_says_why(checkout):
    assert "Missing output files" in checkout.snakemake("-n", "ingest")


@pytest.mark.parametrize("profile", [[], ["--profile", "slurm"]], ids=["local", "slurm"])
def test_no_study_given_is_the_demo(profile, checkout):
    command = [sys.executable, "-m", "snakemake", *profile, "-n", "--quiet", "host"]
    done = subprocess.run(command, cwd=checkout.root, capture_output=True, text=True, check=True)
    assert "simulate_dataset" in done.stdout + done.stderr


def test_a_wrong_study_is_one_line_before_any_job(checkout):
    edit(checkout.root / "config/studies/tiny.yaml", "n_folds: 2", "n_fold: 2")
    text = checkout.snakemake(check=False)
    assert "tiny.yaml: splits.n_fold is not an option: did you mean n_folds?" in text
    assert "Traceback" not in text
    assert not checkout.results.exists()


def test_rules_are_complete():
    """log, benchmark, conda, threads, memory, run time and code version on every rule that runs something."""
    for path in sorted((PROJECT / "workflow/rules").glob("*.smk")):
        for rule in re.split(r"\n(?= *(?:use )?rule[ :])", path.read_text())[1 if path.name == "common.smk" else 0 :]:
            if "shell:" in rule:
                for word in ("log:", "benchmark:", "conda:", "threads:", "mem_mb=", "runtime=", "message:", '"""'):
                    assert word in rule, f"{path.name}: {rule.splitlines()[0]} lacks {word}"
                trains = re.search(r'"mcsp (pretrain|embed|finetune|explain|validate run) ', rule)
                assert bool(trains) <= ("gpu=" in rule or "**PLAN.gpus" in rule), (
                    f"{path.name}: {rule.splitlines()[0]} trains, and asks for no GPU"
                )
                assert rule.count('"mcsp ') == 1, f"{path.name}: one mcsp call per rule"


def test_series_of_a_study_with_a_pattern_are_planned(checkout, tmp_path):
    """The braces of the pattern are no wildcard; `--config` says where the data lies, for one run."""
    data = tmp_path / "abide"
    (data / "cpac/filt_noglobal/rois_ho").mkdir(parents=True)
    (data / "cpac/filt_noglobal/rois_ho/NYU_0050952_rois_ho.1D").write_text("#2001\n1\n")
    (data / "p.csv").write_text("SUB_ID,SITE_ID,AGE_AT_SCAN,SEX,DX_GROUP,func_mean_fd\n50952,NYU,10,1,1,0.1\n")
    place = f"datasets={{abide: {{path: {data}, phenotype: {{table: {data}/p.csv}}}}}}"
    planned = checkout.planned("--config", place, study="config/studies/abide-roi.yaml")
    assert planned["ingest_shard"] == planned["fmri_shard"] == 8
    assert planned["pretrain_fold"] == 5
    assert "eeg_shard" not in planned
    study = checkout.root / "config/studies/abide-roi.yaml"  # without the word on how it is fetched, it must be there
    study.write_text(re.sub(r"    fetch:\n.*?\n(?=\S)", "", study.read_text(), flags=re.DOTALL))
    text = checkout.snakemake("-n", study="config/studies/abide-roi.yaml", check=False)
    assert "abide-roi.yaml: datasets.abide.path = data/abide_pcp" in text


@pytest.mark.slow
def test_reruns_touch_what_changed_and_what_follows_only(checkout):
    checkout.snakemake("connectivity", "spectra")
    both = ("connectivity", "spectra")
    assert "Nothing to be done" in checkout.snakemake(*both)

    for path in [checkout.root / "Snakefile", *checkout.root.glob("workflow/**/*"), *checkout.root.glob("src/**/*.py")]:
        os.utime(path)  # a fresh checkout: new times, same content
    assert checkout.planned(*both) == {}

    spectra = checkout.root / "src/mcsp/domains/spectra.py"
    spectra.write_text("# only a comment\n" + spectra.read_text())
    assert checkout.planned(*both) == {}
    spectra.write_text(spectra.read_text() + "\n_CHANGED = True\n")
    planned = checkout.planned(*both)
    assert set(planned) == {"spectra", "spectra_shard"}
    checkout.snakemake(*both)
    assert checkout.planned(*both) == {}

    edit(checkout.root / "config/studies/tiny.yaml", "eeg: {n_segments: 40}", "eeg: {n_segments: 41}")
    planned = checkout.planned(*both)
    assert planned["eeg_shard"] == 2
    assert set(planned) == {"eeg_shard", "connectivity_shard", "spectra_shard", "connectivity", "spectra"}
    assert planned["spectra_shard"] == 2  # EEG only: fMRI stays


@pytest.mark.slow
def test_a_killed_run_goes_on(checkout):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "fmri", "--configfile", "config/studies/tiny.yaml"]
    run = subprocess.Popen(
        command, cwd=checkout.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(checkout.results.glob("bids/*.manifest.tsv")):
        time.sleep(0.2)
        assert run.poll() is None
    os.killpg(run.pid, 9)
    run.wait()
    checkout.snakemake("--unlock")
    checkout.snakemake("--rerun-incomplete", "fmri")
    assert "Nothing to be done" in checkout.snakemake("fmri")


def bids_study(n_datasets, n_shards):
    return parse_study(
        {
            "study": "scale",
            "datasets": {
                f"d{i}": {
                    "kind": "bids",
                    "path": f"/nowhere/{i}",
                    "n_shards": n_shards,
                    "phenotype": {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}},
                }
                for i in range(n_datasets)
            },
            "tasks": {"asd": {"case": ["ASD"]}},
        }
    )


def test_paths_of_a_study_do_not_depend_on_its_size():
    plan = Plan(bids_study(4, 16))
    assert len(plan.stores()) == 4 * 16 * 6
    assert len(plan.statuses()) == 4 * 16 * 6


def test_a_new_subject_changes_one_shard(tmp_path):
    root = tmp_path / "bids"
    for i in range(40):
        (root / f"sub-{i:02d}").mkdir(parents=True)
    (root / "participants.tsv").write_text("participant_id\tdx\n" + "".join(f"sub-{i:02d}\t1\n" for i in range(40)))
    study = {
        **bids_study(1, 8).model_dump(),
        "datasets": {
            "a": {
                "kind": "bids",
                "path": str(root),
                "n_shards": 8,
                "phenotype": {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}},
            }
        },
    }
    before = [Plan(parse_study(study)).listing("a", f"{i:03d}") for i in range(8)]
    (root / "sub-40").mkdir()
    with open(root / "participants.tsv", "a") as file:
        file.write("sub-40\t0\n")
    after = [Plan(parse_study(study)).listing("a", f"{i:03d}") for i in range(8)]
    assert sum(a != b for a, b in zip(before, after)) == 1


def test_repeats_add_folds_and_a_file_of_folds_is_an_input(tmp_path):
    study = bids_study(1, 2).model_dump()
    assert Plan(parse_study({**study, "splits": {"n_folds": 3, "repeats": 2}})).folds == [0, 1, 2, 3, 4, 5]
    fixed = parse_study({**study, "splits": {"protocol": "file", "file": str(tmp_path / "x.tsv"), "n_folds": 1}})
    assert Plan(fixed).split_file() == [tmp_path / "x.tsv"]
    assert Plan(fixed).folds == [0]
    assert ("splits.file", tmp_path / "x.tsv") in fixed.paths()
