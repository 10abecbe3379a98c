"""`mcsp init`: what a dataset shows is in the study file, what it doesn't is marked, and the file works as written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mcsp.errors import McspError
from mcsp.init import SANITY, choose_tasks, diagnosis_score, meaning_of, run
from mcsp.study import check_paths, load_study, parse_study
from mcsp.workflow import Plan
from tests.bids.small_datasets import ingest_all, write_bold, write_participants
from tests.conftest import PROJECT
from tests.simulate.test_simulated_datasets import SMALL
from tests.simulate.tiny_study import simulate


def written(root: Path, out: Path) -> tuple[dict, str]:
    """The study file of a dataset as values and as text, after the checks that Snakemake makes of it. Where the user must fill
    in the tasks first, with a sanity task.
    """
    run(bids_dir=root, out=out)
    text = out.read_text()
    values = yaml.safe_load(text)
    assert ("tasks" in values) == ("FILL IN tasks" not in text)
    study = parse_study({"tasks": SANITY, **values}, out.name)
    check_paths(study, out.name)
    assert Plan(study).shards
    return values, text


@pytest.mark.parametrize(
    ("name", "modalities", "words"),
    [
        ("eeg_rest_fmri", None, ["TR 2.16 s", "5000 Hz; mains 50 Hz", "preprocess: embedded # guess", "raw BOLD only"]),
        ("ds000001-fmriprep", ["fmri"], ["preprocessed BOLD of 4 subjects", "no participants.tsv"]),
        ("synthetic", ["fmri"], ["sessions: 01, 02", "tasks: [rest] # guess", "rest (5), nback (5); TR 2.5 s"]),
        ("ds116", ["fmri"], ["17 subjects", "preprocess: embedded", "FILL IN phenotype.labels"]),
        ("eeg_matchingpennies", ["eeg"], ["matchingpennies (7); 5000 Hz"]),
        ("eeg_cbm", ["eeg"], ["protmap (20); 200 Hz; mains 60 Hz"]),
        ("atlas-4S", ["fmri"], ["FILL IN space: preprocessed BOLD is in MNIInfant+1, MNIInfant+2, boldref"]),
    ],
)
def test_layouts_of_bids_examples(real_data, tmp_path, name, modalities, words):
    values, text = written(real_data / "bids-examples" / name, tmp_path / "study.yaml")
    (dataset,) = values["datasets"].values()
    assert dataset.get("modalities") == modalities
    assert [word for word in words if word not in text] == []
    assert len([line for line in text.splitlines() if not line.strip().startswith("#")]) <= 14


def snakemake_plans(study: Path, folder: Path) -> str:
    """What a dry run prints; it must succeed."""
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "host", "--snakefile", str(PROJECT / "Snakefile")]
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / ".cache")}
    command += ["--directory", str(folder), "--configfile", str(PROJECT / "config/config.yaml"), str(study)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_simulated_dataset_needs_no_word_of_the_user(atlas_table, tmp_path):
    """Sites, families and diagnoses (two at once among them) come out as the simulator put them in."""
    simulated = simulate(tmp_path, atlas_table, dataset=SMALL.model_copy(update={"n_subjects": 8}))
    people = simulated.participants.reset_index()
    people["diagnosis"] = ["control", "ASD", "ADHD+ASD", "control", "ASD", "control", "ADHD", "ADHD"]
    people.to_csv(simulated.root / "participants.tsv", sep="\t", index=False)
    values, text = written(simulated.root, tmp_path / "study.yaml")
    phenotype = values["datasets"]["sim"]["phenotype"]
    assert phenotype["labels"] == {
        "diagnosis": {"ADHD": ["ADHD"], "ADHD+ASD": ["ADHD", "ASD"], "ASD": ["ASD"], "control": ["control"]}
    }
    assert phenotype["site"] == "site"
    assert values["tasks"] == {"adhd": {"case": ["ADHD"]}, "asd": {"case": ["ASD"]}}
    assert "FILL IN" not in text
    assert "TR 2, 2.5 s" in text
    assert "200, 250 Hz; mains 50, 60 Hz" in text
    planned = snakemake_plans(tmp_path / "study.yaml", tmp_path)
    assert "fmri_shard" in planned
    assert "eeg_shard" in planned
    dataset = load_study(tmp_path / "study.yaml").datasets["sim"]
    found = ingest_all(dataset, simulated.root, tmp_path / "out")
    assert sorted(found.subjects["labels"]) == sorted(
        ["control"] * 3 + ["ASD"] * 2 + ["ADHD"] * 2 + ["ADHD;ASD"],
    )


def clinic(root: Path, **columns) -> Path:
    """Three subjects with preprocessed BOLD and these columns of participants.tsv."""
    for label in ("1", "2", "3", "4"):
        write_bold(root / "derivatives/fmriprep", label)
    write_participants(root, **{"participant_id": ["sub-1", "sub-2", "sub-3", "sub-4"], **columns})
    return root


def test_numbers_are_guessed_by_their_levels_only(tmp_path):
    columns = {"group": ["0", "1", "1", "0"], "gender": ["1", "2", "1", "2"], "Age": ["9", "8", "7", "n/a"]}
    root = clinic(tmp_path / "my clinic", **columns)
    values, text = written(root, tmp_path / "bare.yaml")
    phenotype = values["datasets"]["my-clinic"]["phenotype"]
    assert phenotype == {"sex": "gender", "labels": {"group": {"0": ["group-0"], "1": ["group-1"]}}}
    assert values["tasks"] == {"groups": {"case": ["group-0"], "control": ["group-1"]}}
    assert "FILL IN phenotype.labels.group: what 0, 1 mean" in text
    assert "FILL IN phenotype.sex_map: {1, 2: M or F}" in text
    levels = {
        "group": {"Levels": {"0": "Typically developing", "1": "Autism"}},
        "gender": {"Levels": {"1": "male", "2": "female"}},
    }
    (root / "participants.json").write_text(json.dumps(levels))
    values, text = written(root, tmp_path / "told.yaml")
    phenotype = values["datasets"]["my-clinic"]["phenotype"]
    assert phenotype["labels"] == {"group": {"0": ["control"], "1": ["ASD"]}}
    assert phenotype["sex_map"] == {"1": "M", "2": "F"}
    assert values["tasks"] == {"asd": {"case": ["ASD"]}}
    assert "FILL IN" not in text


def test_what_lies_elsewhere_is_found(tmp_path):
    """Derivatives of another name, another space, another column of subjects, a table read as latin letters."""
    path = write_bold(tmp_path / "d/derivatives/fmriprep-23", "1")
    for file in list(path.parent.iterdir()):
        file.rename(file.with_name(file.name.replace("MNI152NLin2009cAsym", "MNI152NLin6Asym")))
    (tmp_path / "d/sub-1/func").mkdir(parents=True)
    write_participants(tmp_path / "d", ID=["001"], centre=["A"])
    values, text = written(tmp_path / "d", tmp_path / "study.yaml")
    dataset = values["datasets"]["d"]
    assert dataset["derivatives"].endswith("d/derivatives/fmriprep-23")
    assert dataset["space"] == "MNI152NLin6Asym"
    assert dataset["phenotype"] == {"subject": "ID"}
    assert "FILL IN tasks" in text


def test_errors_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer/inner/sub-1/anat").mkdir(parents=True)
    clinic(tmp_path / "odd", ID=list("abcd")).joinpath("participants.tsv").write_text("who\nx\n")
    out = tmp_path / "study.yaml"
    for name, words in {
        "nowhere": "nowhere: no such directory",
        "empty": "no directory sub-\\* is there: give the directory that holds",
        "outer": "no directory sub-\\* is there: give .*inner$",
        "outer/inner": "neither BOLD .* nor EEG",
        "odd": "no column participant_id, and none that names",
    }.items():
        with pytest.raises(McspError, match=words) as caught:
            run(bids_dir=tmp_path / name, out=out)
        assert "\n" not in str(caught.value)
        assert not out.exists()
    out.write_text("mine")
    with pytest.raises(McspError, match=r"study\.yaml: is there already"):
        run(bids_dir=clinic(tmp_path / "fine"), out=out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("table", "sidecar", "words"),
    [
        (b"", None, "FILL IN phenotype: .*participants.tsv: phenotype table not readable (No columns to parse from file)"),
        (b"participant_id\tgroup\nsub-1\tASD\textra\nsub-2\tTD\n", None, "FILL IN phenotype: .*not readable"),
        (b"participant_id,group\nsub-1,ASD\nsub-2,TD\n", None, "FILL IN phenotype: .*separated by commas? BIDS wants tabs"),
        (b"participant_id\tage\n", None, "FILL IN phenotype.labels: no column looks like a diagnosis"),
        (b"participant_id\tgroup: #1\nsub-1\tASD: yes # no\nsub-2\tTD\n", b"[1]", "labels: {'group: #1': {'ASD: yes # no'"),
        ("\ufeffparticipant_id\tGroupe\nsub-1\tt\xe9moin\nsub-2\tAutiste\n".encode(), None, "Groupe: {Autiste: [ASD], "),
        (
            "participant_id\tgroupe\nsub-1\tt\xe9moin\nsub-2\tautiste\n".encode("latin-1"),
            None,
            "FILL IN phenotype.labels.groupe",
        ),
        (b"participant_id\tgroup\tgroup\nsub-1\tASD\tx\nsub-2\tTD\ty\n", None, "labels: {group: {ASD: [ASD], TD: [control]}}"),
    ],
)
def test_hostile_tables(tmp_path, table, sidecar, words):
    """The study file is written, can be read again, and says what could not be seen."""
    root = tmp_path / "odd d\xe4ta (1)"
    for label in ("1", "2"):
        write_bold(root / "derivatives/fmriprep", label)
    (root / "participants.tsv").write_bytes(table)
    if sidecar:
        (root / "participants.json").write_bytes(sidecar)
    _, text = written(root, tmp_path / "study.yaml")
    before, _, after = words.partition(".*")
    assert before in text
    assert after in text


def test_derivatives_alone_without_a_table(tmp_path):
    """fMRIPrep's output as the dataset itself."""
    write_bold(tmp_path / "out", "1")
    values, text = written(tmp_path / "out", tmp_path / "study.yaml")
    assert "preprocess" not in values
    assert "preprocessed BOLD of 1 subjects" in text
    assert "FILL IN phenotype: no participants.tsv here" in text
    assert "tasks" not in values
    assert "FILL IN tasks: {asd: {case: [ASD]}}: no column tells of diagnosis or sex" in text


@pytest.mark.parametrize(("sexes", "tasks"), [(["F", "M"], SANITY), (["F", "F"], None), (["n/a", "n/a"], None)])
def test_a_sanity_task_needs_a_column_of_the_sex(tmp_path, sexes, tasks):
    for label in "12":
        write_bold(tmp_path / "d", label)
    write_participants(tmp_path / "d", participant_id=["sub-1", "sub-2"], gender=sexes, score=["7", "9"])
    assert written(tmp_path / "d", tmp_path / "study.yaml")[0].get("tasks") == tasks


def test_sessions_of_eeg_without_sidecars(tmp_path):
    for label, session in (("1", "pre"), ("1", "post"), ("2", "pre")):
        folder = tmp_path / f"d/sub-{label}/ses-{session}/eeg"
        folder.mkdir(parents=True)
        (folder / f"sub-{label}_ses-{session}_task-eyesclosed_eeg.edf").touch()
    write_participants(tmp_path / "d", participant_id=["sub-1", "sub-2"], diagnosis=["MDD", "healthy"], centre=["x", "y"])
    values, text = written(tmp_path / "d", tmp_path / "study.yaml")
    assert values["datasets"]["d"]["phenotype"] == {
        "site": "centre", "labels": {"diagnosis": {"MDD": ["MDD"], "healthy": ["control"]}},
    }  # fmt: skip
    assert "sessions: post, pre; the first usable recording" in text
    assert "FILL IN line_freq: 50" in text


def test_default_place_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(bids_dir=clinic(tmp_path / "my_bids"), out=None) == Path("config/studies/my-bids.yaml")
    assert Path("config/studies/my-bids.yaml").is_file()


@pytest.mark.parametrize(
    ("value", "levels", "labels"),
    [
        ("HC", {}, ["control"]),
        ("Healthy_Control", {}, ["control"]),
        ("No Diagnosis Given", {}, ["control"]),
        ("ADHD-Combined Type", {}, ["ADHD"]),
        ("Autism Spectrum Disorder", {}, ["ASD"]),
        ("depressed", {}, ["MDD"]),
        ("2", {"2": "Major depression"}, ["MDD"]),
        ("2", {"2": {"Description": "control subject"}}, ["control"]),
        ("SCHZ", {}, []),
        ("1", {}, []),
    ],
)
def test_meanings_of_values(value, levels, labels):
    assert meaning_of(value, levels) == labels


def test_columns_that_are_no_diagnosis():
    assert diagnosis_score("group", ["a"], 10, {}) == 0  # one value
    assert diagnosis_score("diagnosis", [str(i) for i in range(30)], 30, {}) == 0  # a value each
    assert diagnosis_score("medication", ["none", "yes"], 10, {}) == 0
    assert diagnosis_score("x", ["ASD", "TD"], 10, {}) > diagnosis_score("group", ["1", "2"], 10, {}) > 0


def test_tasks_of_labels():
    assert choose_tasks({"a": ["control"], "b": ["ASD"], "c": ["SCHZ"]}) == {
        "asd": {"case": ["ASD"]},
        "schz": {"case": ["SCHZ"]},
    }
    assert choose_tasks({"a": ["control"]}) == {}


def test_command_line(tmp_path):
    root = clinic(tmp_path / "d", dx=["ASD", "TD", "TD", "ASD"])
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, "-m", "mcsp", "init", str(root)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "written: config/studies/d.yaml; next: mcsp check config/studies/d.yaml" in done.stdout
    assert pd.Series(yaml.safe_load(done.stdout.split("written:")[0])["tasks"]).to_dict() == {"asd": {"case": ["ASD"]}}
    again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("error: config/studies/d.yaml: is there already")
