"""`check`: all problems at once, before anything runs, and a forecast that adds up."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mcsp.bids.check import check_bold, check_length, n_regions, run, show, store_bytes
from mcsp.cli import app
from mcsp.errors import Exclusion
from mcsp.fmri.series import standard_length, to_common_rate
from mcsp.init import SANITY
from mcsp.options.atlas import AtlasOptions
from mcsp.options.datasets import BidsDataset, Phenotype
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.fmriprep import FmriprepOptions
from mcsp.store import StoreWriter, read_tsv
from tests.bids.small_datasets import write_bold, write_brainvision, write_participants
from tests.fmri.test_surface import places, write_dlabel, write_dtseries

ANY_LENGTH = FmriOptions(confounds="none", min_frames=8)


def check(datasets, out=None, fmri=None, eeg=None, **options):
    return run(
        datasets=datasets,
        paths={name: Path(d.path) for name, d in datasets.items()},
        fmri=fmri or ANY_LENGTH,
        eeg=eeg or EegOptions(),
        atlas=AtlasOptions(),
        report=out / "problems.tsv" if out else None,
        forecast=out / "forecast.tsv" if out else None,
        **options,
    )


def lines(problems, severity):
    return problems[problems["severity"] == severity]["problem"].tolist()


def test_raw_subject_of_a_real_scanner(real_data, tmp_path):
    problems, forecast = check({"pumi": BidsDataset(kind="bids", path=str(real_data / "pumi_minitest"))}, tmp_path)
    assert lines(problems, "error") == [
        "fmri: raw BOLD only: set preprocess: embedded or fmriprep, or point derivatives at fMRIPrep's output"
    ]
    notes = lines(problems, "note")
    assert "raw BOLD 46x46x26x20, 5x5x5 mm, TR 2.52 s: sound, needs preprocessing" in notes
    assert "T1w, 2x2x2 mm: sound" in notes
    warnings = "\n".join(lines(problems, "warning"))
    assert "field maps have names that BIDS does not know" in warnings
    assert "not readable as JSON" in warnings  # a JSON at the top that is a path of git-annex
    assert forecast["subjects"].tolist() == [0]
    assert len(read_tsv(tmp_path / "problems.tsv")) == len(problems)
    assert (tmp_path / "forecast.json").is_file()


def test_real_eeg(eeg_bids):
    dataset = BidsDataset(kind="bids", path=str(eeg_bids), modalities=["eeg"])
    problems, forecast = check({"eeg": dataset})
    errors = problems[problems["severity"] == "error"].groupby("uid")["problem"].agg("; ".join)
    assert set(errors.index) == {"eeg/sub-open", "eeg/sub-closed", "eeg/sub-corrupt"}
    assert "s long, 100 s are needed" in errors["eeg/sub-open"]
    assert "every LF byte became CR LF (text mode)" in errors["eeg/sub-corrupt"]
    assert forecast.loc[0, ["subjects", "fmri", "eeg"]].tolist() == [1, 0, 1]
    short = EegOptions(n_segments=60)
    assert check({"eeg": dataset}, eeg=short)[1].loc[0, "eeg"] == 3
    strange = EegOptions(n_segments=60, montage="GSN-HydroCel-32")
    assert "rename, or add an electrodes.tsv" in "; ".join(lines(check({"eeg": dataset}, eeg=strange)[0], "error"))


def test_bold_by_its_header(tmp_path):
    good = write_bold(tmp_path, "a")
    assert check_bold(good, ANY_LENGTH) == ([], [])
    assert "2 s in the sidecar, 3 s in the header" in check_bold(write_bold(tmp_path, "b", header_t_r=3.0), ANY_LENGTH)[1][0]
    cut = write_bold(tmp_path, "c", suffix=".nii")
    cut.write_bytes(cut.read_bytes()[:-100])
    assert check_bold(cut, ANY_LENGTH)[0] == ["100 bytes shorter than its header says: the file is cut: copy it again"]
    gone = write_bold(tmp_path, "d")
    gone.write_bytes(gzip.compress(gzip.decompress(gone.read_bytes())[:200]))
    assert "header not readable" in check_bold(gone, ANY_LENGTH)[0][0]
    flat = write_bold(tmp_path, "e")
    nib.Nifti1Image(np.ones((3, 3, 3)), np.eye(4)).to_filename(flat)
    assert "an image of 3 dimensions" in check_bold(flat, ANY_LENGTH)[0][0]


@pytest.mark.parametrize(
    ("n", "t_r", "options", "errors", "warnings"),
    [
        (60, 2.0, {}, 0, 0),
        (59, 2.0, {}, 1, 0),
        (40, 3.0, {}, 1, 0),  # 59 frames of 2 s, from the first to the last
        (41, 3.0, {}, 0, 0),
        (59, 2.0, {"min_frames": 59}, 0, 0),
        (59, 2.0, {"runs": "join"}, 0, 1),
    ],
)
def test_runs_that_are_too_short_for_the_study(n, t_r, options, errors, warnings):
    """Against what the stage does with such a run: the frames at the common rate, and whether they are enough."""
    fmri = FmriOptions(**options)
    told = check_length(n, t_r, fmri)
    assert tuple(map(len, told)) == (errors, warnings)
    series, _ = to_common_rate(np.random.default_rng(0).normal(size=(n, 2)), np.arange(n), t_r, fmri.t_r)
    if errors + warnings:
        assert f"{len(series)} at 2 s (fmri.t_r)" in (told[0] + told[1])[0]
        with pytest.raises(Exclusion, match=f"too short: {len(series)} frames"):
            standard_length(series, fmri)
    else:
        assert standard_length(series, fmri)[1] == len(series)


def test_who_is_certain_to_be_left_out_does_not_count(tmp_path):
    cut = write_bold(tmp_path, "cut")
    write_bold(tmp_path, "good")
    table = next(cut.parent.glob("*_desc-confounds_timeseries.tsv"))
    table.write_text("\n".join(table.read_text().splitlines()[:-2]) + "\n")
    dataset = {"x": BidsDataset(kind="bids", path=str(tmp_path))}
    problems, forecast = check(dataset)
    assert lines(problems, "error") == ["confounds have 6 rows, the run 8 frames: fetch both again"]
    assert forecast["subjects"].tolist() == [1]
    problems, forecast = check(dataset, fmri=FmriOptions(confounds="none"))
    assert "8 frames of 2 s are 16 s: 8 at 2 s (fmri.t_r), 60 are needed (fmri.min_frames)" in lines(problems, "error")
    assert forecast["subjects"].tolist() == [0]


def test_grayordinates_by_their_header(tmp_path):
    def recording(label):
        folder = tmp_path / f"sub-{label}" / "func"
        folder.mkdir(parents=True)
        return write_dtseries(folder / f"sub-{label}_task-rest_space-fsLR_den-91k_bold.dtseries.nii", places(), n=100)

    path = recording("a")
    assert check_bold(path, ANY_LENGTH) == ([], [])
    path.write_bytes(path.read_bytes()[:-10])
    assert "is cut off" in check_bold(path, ANY_LENGTH)[0][0]
    path = recording("b")
    path.with_name(path.name.replace(".dtseries.nii", ".json")).write_text('{"RepetitionTime": 0.7}')
    assert "0.7 s in the sidecar, 2 s in the header" in check_bold(path, ANY_LENGTH)[1][0]
    image = write_dlabel(tmp_path / "a.dlabel.nii", places(), np.resize([0, 1, 2], len(places())))
    assert n_regions(AtlasOptions(image=str(image))) == 2


def test_all_problems_at_once(tmp_path):
    root = tmp_path / "data"
    write_bold(root, "tr", t_r=2000)
    write_bold(root, "noconf", confounds=False)
    write_bold(root, "poor")
    write_bold(root, "nine")
    (root / "sub-empty").mkdir()
    people = ["tr", "noconf", "poor", "nine", "empty", "elsewhere"]
    write_participants(root, participant_id=people, group=["asd", "asd", "asd", "9", "asd", "asd"])
    datasets = {
        "x": BidsDataset(
            kind="bids", path=str(root), derivatives=str(root), phenotype=Phenotype(labels={"group": {"asd": ["ASD"]}})
        ),
        "gone": BidsDataset(kind="bids", path=str(tmp_path / "gone")),
    }
    problems, forecast = check(datasets, fmri=FmriOptions(min_frames=8))
    by = problems[problems["severity"] == "error"].set_index("uid")["problem"]
    assert "it looks like ms" in by["x/sub-tr"]
    assert "no confounds table beside the run" in by["x/sub-noconf"]
    assert "confounds lack trans_y" in by["x/sub-poor"]
    assert "label group=9" in by["x/sub-nine"]
    assert by["x/sub-empty"] == "no recording of fmri or eeg found"
    of_people = problems[problems["uid"].notna()]
    assert lines(of_people, "note") == ["no recording of fmri or eeg found: in the phenotype table only"]
    assert "no such directory" in by[by.index.isna()].item()
    assert forecast["subjects"].tolist() == [0, 0]


def test_a_directory_of_derivatives_without_a_recording_is_an_error(tmp_path):
    root, derivatives = tmp_path / "data", tmp_path / "derivatives"
    write_bold(derivatives, "a")
    (derivatives / "sub-b").mkdir()
    write_participants(root, participant_id=["a", "b", "c"])
    problems, forecast = check({"x": BidsDataset(kind="bids", path=str(root), derivatives=str(derivatives))})
    told = problems[problems["severity"] == "error"].set_index("uid")["problem"].to_dict()
    assert told == {"x/sub-b": "no recording of fmri or eeg found"}
    assert problems[problems["severity"] == "note"]["uid"].dropna().tolist() == ["x/sub-c"]
    assert forecast["subjects"].tolist() == [1]


def test_sex_and_age_are_not_lost_without_a_word(tmp_path):
    def told(**phenotype):
        datasets = {"x": BidsDataset(kind="bids", path=str(tmp_path), phenotype=Phenotype(**phenotype))}
        problems, _ = check(datasets)
        whole = problems[problems["uid"].isna() & problems["problem"].str.startswith("phenotype.")]
        return [f"{severity}: {problem}" for severity, problem in zip(whole["severity"], whole["problem"])]

    (tmp_path / "sub-a").mkdir()
    who = ["a", "b", "c", "d"]
    write_participants(tmp_path, participant_id=who, gender=["F", "femme", "n/a", "femme"], age=["26Y", "89+", "30.5", ""])
    age = "warning: phenotype.age: 1 cell (26Y): no number: mend the table: unknown till then"
    sex = "phenotype.sex: no table has a column sex: unknown for all"
    assert told() == [age, f"warning: {sex} (there is gender: set phenotype.sex: gender)"]
    unread = "warning: phenotype.sex: 2 cells (femme): not in phenotype.sex_map: add it: unknown till then"
    assert told(sex="gender") == [age, unread]
    assert told(sex="gender", sex_map={"F": "F", "femme": "F"}, where={"participant_id": ["b", "c"]}) == []
    write_participants(tmp_path, participant_id=who)
    assert told() == ["note: phenotype.age: no table has a column age: unknown for all", f"note: {sex}"]
    assert told(age=None, sex=None) == []


@pytest.mark.parametrize("folder", [None, "data/sub-a", "derivatives/sub-a"])
def test_where_nobody_can_be_used_an_error_says_why(folder, tmp_path, capsys):
    root, derivatives = tmp_path / "data", tmp_path / "derivatives"
    write_participants(root, participant_id=["a", "b"])
    if folder:
        (tmp_path / folder).mkdir(parents=True)
    problems, _ = check({"x": BidsDataset(kind="bids", path=str(root), derivatives=str(derivatives))})
    (error,) = lines(problems, "error")
    assert error == "no recording of fmri or eeg found" if folder else "empty, no directory sub-* is there" in error
    assert "\n1 error, " in (told := capsys.readouterr().out)
    assert "nobody can be used in x: mend the errors above" in told


def command_line(place, study):
    """(exit status, output) of `mcsp check` on a study file."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "x.yaml").write_text(json.dumps(study))
    done = CliRunner().invoke(app, ["check", str(place / "x.yaml")])
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def lab_study(root, **options):
    """A study of the simulated BOLD at `root`, without confounds."""
    phenotype = {"labels": {"group": {"asd": ["ASD"], "td": ["control"]}}}
    dataset = {"kind": "bids", "path": str(root), "derivatives": str(root), "modalities": ["fmri"], "phenotype": phenotype}
    tasks, fmri = {"asd": {"case": ["ASD"]}}, {"confounds": "none", "min_frames": 8}
    return {"study": "x", "datasets": {"lab": dataset}, "tasks": tasks, "fmri": fmri, **options}


def test_the_exit_status_tells_a_study_that_can_t_run(tmp_path):
    root = tmp_path / "data"
    for label in "abcd":
        write_bold(root, label)
    write_participants(root, participant_id=list("abcd"), group=["asd", "td", "asd", "td"])
    study = lab_study(root, splits={"n_folds": 2})
    status, told = command_line(tmp_path, study)
    assert status == 0, told
    (root / "participants.tsv").write_text("participant_id\tgroup\na\tx\nb\tx\nc\tx\nd\tx\n")
    status, told = command_line(tmp_path, study)
    assert status == 1
    assert "nobody can be used in lab: mend the errors above" in told


def test_a_study_that_is_still_to_be_simulated_can_run(tmp_path):
    """As in a fresh clone: nothing is known of who is in it, and nothing is wrong."""
    simulated = {"kind": "simulate", "n_subjects": 8, "groups": {"control": 0.5, "ASD": 0.5}, "sites": [{"name": "A"}]}
    simulated["modalities"] = ["fmri"]
    status, told = command_line(tmp_path, {"study": "s", "datasets": {"x": simulated}, "tasks": {"asd": {"case": ["ASD"]}}})
    assert status == 0, told
    assert "note: x: not simulated yet: the run does so" in told
    assert "0 errors, 0 warnings, 1 note" in told


def test_the_size_of_a_recording_is_that_of_its_data_too(tmp_path):
    header = write_brainvision(tmp_path, "a", seconds=60.0)
    data = header.with_suffix(".eeg").stat().st_size
    assert data == 4 * 19 * 60 * 200
    dataset = BidsDataset(kind="bids", path=str(tmp_path), modalities=["eeg"])
    _, forecast = check({"x": dataset}, eeg=EegOptions(n_segments=50))
    assert forecast["input_mb"].item() == pytest.approx((data + header.stat().st_size) / 1e6, abs=0.05)


def test_channels_that_the_montage_lacks_are_told_once(tmp_path):
    (tmp_path / "sub-a").mkdir()
    options = {"eeg": EegOptions(ch_names=["FP1", "Cz", "Pz", "E17"])}
    wrong = "eeg.ch_names: not in standard_1020: FP1 (Fp1?), E17: write them as there, or leave them out"
    assert wrong in lines(check({"x": BidsDataset(kind="bids", path=str(tmp_path))}, **options)[0], "error")
    without = BidsDataset(kind="bids", path=str(tmp_path), modalities=["fmri"])
    assert wrong not in lines(check({"x": without}, **options)[0], "error")


def test_a_wrong_path_is_told_first_and_once(tmp_path):
    study = lab_study(tmp_path, atlas={"image": "/nowhere.nii.gz", "table": "/nowhere.tsv"})
    study["datasets"]["lab"]["derivatives"] = str(tmp_path / "fmriprp")
    status, told = command_line(tmp_path, study)
    assert status == 1
    assert [line.split(": no such file or directory")[0] for line in told.splitlines() if line] == [
        f"x.yaml: datasets.lab.derivatives = {tmp_path / 'fmriprp'}",
        "x.yaml: atlas.image = /nowhere.nii.gz",
        "x.yaml: atlas.table = /nowhere.tsv",
    ]


@pytest.mark.parametrize(
    ("change", "severity", "text"),
    [
        ({}, "note", "tasks.asd: 2 cases, 6 controls look usable"),
        ({"tasks": SANITY}, "error", "tasks.sex: task has one class only: no subject left with control sex M: mend the task"),
        ({"splits": {"protocol": "leave-one-site-out"}}, "error", "folds: splits.n_folds = 5, but there are 1 sites"),
        ({"splits": {"n_folds": 9}}, "error", "folds: splits.n_folds = 9 is more than the 8 families"),
        ({"splits": {"n_folds": 4}}, "warning", "tasks.asd: 2 of 4 folds test one class or nobody"),
        (
            {"splits": {"protocol": "leave-one-site-out", "n_folds": 2}, "site": "group"},
            "error",
            "tasks.asd: nobody of one of its classes is left to train on in fold 0 (2 of 2)",
        ),
        ({"other_tasks": {"age": {"column": "age"}}}, "note", "tasks.age: age is known of 8 who look usable"),
    ],
)
def test_questions_that_nobody_can_answer(tmp_path, change, severity, text):
    root, labels = tmp_path / "data", [f"s{i}" for i in range(8)]
    for label in labels:
        write_bold(root, label)
    write_participants(root, participant_id=labels, group=["asd"] * 2 + ["td"] * 6, sex=["F"] * 8, age=range(20, 28))
    study = lab_study(root, **{"splits": {"n_folds": 2}, **change})
    if site := study.pop("site", None):
        study["datasets"]["lab"]["phenotype"]["site"] = site
    status, told = command_line(tmp_path, study)
    assert f"{severity}: {text}" in told
    assert status == (severity == "error")


def test_people_are_counted_once_however_many_files_they_have(capsys):
    rows = [("x", f"x/sub-{who}", "error", f"/x/{who}/{run}", f"sub-{who}_run-{run}: empty") for who in "ab" for run in (1, 2)]
    rows += [("x", "x/sub-a", "warning", "/x/a/1", "odd"), ("y", None, "error", None, "all of it")]
    columns = ["dataset", "uid", "severity", "file", "problem"]
    show(pd.DataFrame(rows, columns=columns), pd.DataFrame({"dataset": ["x", "y"], "subjects": [0, 1]}))
    told = capsys.readouterr().out
    assert "error: x/sub-a and 1 more (4 files): sub-*: empty\n" in told
    assert "warning: x/sub-a: odd\n" in told
    assert told.index("error: y: all of it\n") < told.index("error: x/sub-a") < told.index("warning: x/sub-a")
    assert "5 errors, 1 warning, 0 notes\nnobody can be used in x: mend the errors above" in told


@pytest.mark.parametrize("modality", ["fmri", "eeg"])
def test_forecast_of_a_store_is_its_size(tmp_path, modality):
    """Against stores really written: what the format adds is below 2 % of the tensors."""
    fmri, eeg = FmriOptions(n_frames=60, min_frames=30), EegOptions(n_segments=20, segment_samples=100)
    forecast, n = store_bytes(fmri, eeg, AtlasOptions())[modality], 3
    shapes = {
        "fmri": [(160, 60), (160, 160), (160, 31)],
        "eeg": [(20, 19, 100), (4, 19, 19), (20, 19, 51)],
    }[modality]
    written = 0
    for i, shape in enumerate(shapes):
        with StoreWriter(tmp_path / f"{i}.arrow", shape, {}) as writer:
            for k in range(n):
                writer.add(f"d/sub-{k}", np.zeros(shape), 1)
        written += (tmp_path / f"{i}.arrow").stat().st_size
    assert n * forecast <= written <= 1.03 * n * forecast


def test_a_study_that_preprocesses_reads_raw_bold_and_says_what_the_machine_lacks(real_data, tmp_path, monkeypatch):
    dataset = {"pumi": BidsDataset(kind="bids", path=str(real_data / "pumi_minitest"))}
    problems, forecast = check(dataset, tmp_path, preprocess="embedded")
    assert lines(problems, "error") == []
    assert any("sound, needs preprocessing" in note for note in lines(problems, "note"))
    assert forecast["fmri"].tolist() == [1]
    assert forecast["cpu_minutes"][0] > 0.6
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FS_LICENSE", raising=False)
    problems, _ = check(dataset, tmp_path, preprocess="fmriprep", fmriprep=FmriprepOptions(container="apptainer"))
    warnings = " ".join(lines(problems, "warning"))
    assert "needs apptainer or singularity on this machine" in warnings
    assert "FreeSurfer licence" in warnings
