"""Ingestion: who is in, with what, and everybody who is out has a reason that names what is wrong."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsp.bids.recordings import header_t_r, nifti_header
from mcsp.errors import McspError
from mcsp.fingerprints import fingerprint
from mcsp.options.datasets import BidsDataset, Phenotype, RoiDataset
from mcsp.options.simulate import SimulatedDataset
from mcsp.shards import shard_of
from mcsp.study import parse_study, read_yaml
from mcsp.workflow import overlay
from tests.bids.small_datasets import ingest_all, write_bold, write_brainvision, write_participants
from tests.fmri.test_surface import places, write_dtseries

PROJECT = Path(__file__).resolve().parents[2]
LABELS = Phenotype(labels={"group": {"control": ["control"], "asd": ["ASD"]}})


def bids(root, **options):
    return BidsDataset(kind="bids", path=str(root), derivatives=str(root), n_shards=options.pop("n_shards", 1), **options)


# ---- layouts


@pytest.mark.parametrize(
    ("name", "n_subjects", "n_recordings", "reason"),
    [
        ("eeg_rest_fmri", 3, 0, "sub-32_task-rest_eeg.eeg: file is empty"),
        ("ds000001-fmriprep", 4, 0, "file is empty"),
        ("synthetic", 5, 30, ""),
        ("ds116", 17, 0, "raw BOLD only: set preprocess: embedded or fmriprep, or point derivatives at fMRIPrep's output"),
        ("eeg_matchingpennies", 7, 0, "_task-matchingpennies_eeg.eeg: file is empty"),
        ("eeg_cbm", 20, 0, "_task-protmap_eeg.edf: file is empty"),
        ("atlas-4S", 1, 0, "preprocessed BOLD in space MNIInfant+1, MNIInfant+2, boldref only, not in MNI152NLin2009cAsym"),
    ],
)
def test_layouts_of_bids_examples(real_data, tmp_path, name, n_subjects, n_recordings, reason):
    root = real_data / "bids-examples" / name
    found = ingest_all(BidsDataset(kind="bids", path=str(root), n_shards=2), root, tmp_path)
    assert len(found.subjects) == n_subjects
    assert len(found.recordings) == n_recordings
    states = found.status[found.status["stage"] == "ingest"]
    assert sorted(states["uid"]) == sorted(found.subjects["uid"])  # nobody is lost
    assert set(states["state"]) == {"excluded" if reason else "done"}
    assert reason in found.reason(sorted(states["uid"])[0])


def test_derivatives_of_the_synthetic_example(real_data, tmp_path):
    """Old confounds and mask names are paired with their own run; rest goes first; t_r is inherited from the root."""
    root = real_data / "bids-examples" / "synthetic"
    found = ingest_all(bids(root, tasks=["rest"]).model_copy(update={"derivatives": None}), root, tmp_path)
    assert set(found.recordings["task"]) == {"rest"}
    raw = json.loads((root / "task-rest_bold.json").read_text())
    assert set(found.recordings["t_r"]) == {raw["RepetitionTime"]}
    first = found.recordings.iloc[0]
    assert (first["session"], first["kind"]) == ("01", "bold")
    stem = Path(first["path"]).name.split("_space-")[0]
    assert Path(first["confounds"]).name == f"{stem}_timeseries.tsv"
    assert Path(first["mask"]).name == f"{stem}_space-MNI152NLin2009cAsym_label-brain_mask.nii"
    fd = pd.read_csv(first["confounds"], sep="\t")["FramewiseDisplacement"]
    expected = pd.to_numeric(fd, errors="coerce").fillna(0).mean()
    assert found.subjects.iloc[0]["mean_fd"] == pytest.approx(expected)


def test_a_filter_of_tasks_that_leaves_nothing_says_what_there_is(tmp_path):
    root = tmp_path / "data"
    write_bold(root, "a")
    write_bold(root, "a", task="nback")
    write_brainvision(root, "a")
    write_brainvision(root, "b")
    raw = root / "sub-c" / "func"
    raw.mkdir(parents=True)
    (raw / "sub-c_task-nback_bold.nii.gz").touch()
    (root / "sub-d").mkdir()
    dataset = BidsDataset(kind="bids", path=str(root), derivatives=str(root), n_shards=1, tasks=["restt"])
    for raw_too in (False, True):
        found = ingest_all(dataset, root, tmp_path, raw_too=raw_too)
        remedy = "mend the dataset's option tasks"
        there = "no recording of task restt (there are: {}): " + remedy
        assert found.reason("d/sub-a") == f"{there.format('rest')}; {there.format('nback, rest')}"
        assert found.reason("d/sub-b") == there.format("rest")
        assert found.reason("d/sub-c") == there.format("nback")
        assert found.reason("d/sub-d") == "no recording of fmri or eeg found"
    some = ingest_all(dataset.model_copy(update={"tasks": ["nback"]}), root, tmp_path)
    assert some.recordings["task"].tolist() == ["nback"]
    assert some.state("d/sub-a") == "done"
    assert not some.status["reason"].fillna("").str.contains("no recording of task").loc[some.status["uid"] == "d/sub-a"].any()


def test_raw_subject_of_a_real_scanner(real_data, tmp_path):
    root = real_data / "pumi_minitest"
    found = ingest_all(BidsDataset(kind="bids", path=str(root), n_shards=1), root, tmp_path)
    assert found.state("d/sub-001") == "excluded"
    assert found.reason("d/sub-001").startswith("raw BOLD only")
    assert found.subjects.iloc[0][["age", "sex", "labels"]].tolist() == [26.0, "F", ""]


def test_real_eeg_of_two_formats(eeg_bids, tmp_path):
    phenotype = Phenotype(labels={"group": {"control": ["control"], "case": ["ASD"]}})
    found = ingest_all(bids(eeg_bids, phenotype=phenotype), eeg_bids, tmp_path)
    table = found.recordings.set_index("uid")
    assert table["sfreq"].to_dict() == {"d/sub-closed": 160, "d/sub-eeglab": 128, "d/sub-open": 160}
    assert "every LF byte became CR LF (text mode), its samples are garbage" in found.reason("d/sub-corrupt")
    assert set(table["line_freq"]) == {60.0}
    assert table.loc["d/sub-eeglab", "montage"].endswith("sub-eeglab_space-CapTrak_electrodes.tsv")
    assert table.loc["d/sub-open", "montage"] == ""
    assert found.subjects.set_index("uid")["labels"].to_dict() == {
        "d/sub-closed": "ASD", "d/sub-corrupt": "ASD", "d/sub-eeglab": "control", "d/sub-open": "control",
    }  # fmt: skip


# ---- files


def test_preprocessed_runs_in_the_order_stages_try_them(tmp_path):
    for task, run in (("nback", None), ("rest", 10), ("rest", 2)):
        write_bold(tmp_path, "a", task=task, run=run)
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert found.recordings[["task", "run"]].fillna("").values.tolist() == [["rest", "2"], ["rest", "10"], ["nback", ""]]


def test_the_coarser_resolution_is_one_run_not_two(tmp_path):
    path = write_bold(tmp_path, "a")
    path.with_name(path.name.replace("res-2", "res-1")).write_bytes(path.read_bytes())
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert [Path(p).name for p in found.recordings["path"]] == [path.name]


@pytest.mark.parametrize(
    ("sidecar", "header", "reason"),
    [
        (2000.0, 2.0, "desc-preproc_bold.nii.gz: it looks like ms, write 2 (BIDS wants s)"),
        (0.05, 2.0, "repetition time of 0.05 s"),
        (17.0, 2.0, "repetition time of 17 s"),
        ("n/a", 30.0, "repetition time of 30 s in the header"),
        (None, 1.0, "repetition time unknown: add RepetitionTime (s) to its JSON sidecar"),
    ],
)  # fmt: skip
def test_repetition_time_that_can_not_be(tmp_path, sidecar, header, reason):
    write_bold(tmp_path, "a", t_r=sidecar, header_t_r=header)
    write_bold(tmp_path, "b")
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert reason in found.reason("d/sub-a")
    assert found.state("d/sub-b") == "done"
    assert list(found.recordings["uid"]) == ["d/sub-b"]


def test_repetition_time_of_the_header_in_its_own_unit(tmp_path):
    path = write_bold(tmp_path, "a", t_r=None, header_t_r=2.5)
    header = nifti_header(path)
    assert header_t_r(header) == 2.5
    header["pixdim"][4] = 2500
    header.set_xyzt_units("mm", "msec")
    assert header_t_r(header) == pytest.approx(2.5)
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert found.recordings["t_r"].tolist() == [2.5]


def test_damaged_files_are_named(tmp_path):
    write_bold(tmp_path, "ok")
    write_bold(tmp_path, "empty").write_bytes(b"")
    write_bold(tmp_path, "noise", t_r=None).write_bytes(b"no image at all")
    broken = write_bold(tmp_path, "json")
    broken.with_name(broken.name.replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 2,,}')
    annex = write_bold(tmp_path, "annex")
    annex.unlink()
    annex.symlink_to("nowhere")
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert "file is empty" in found.reason("d/sub-empty")
    assert "header not readable" in found.reason("d/sub-noise")
    assert "_bold.json is not readable as JSON" in found.reason("d/sub-json")
    assert "link to nowhere: fetch the file (datalad get)" in found.reason("d/sub-annex")
    assert list(found.recordings["uid"]) == ["d/sub-ok"]


def test_brainvision_header_whose_data_is_gone(tmp_path):
    folder = tmp_path / "sub-a" / "eeg"
    folder.mkdir(parents=True)
    (folder / "sub-a_task-rest_eeg.vhdr").write_text("Brain Vision Data Exchange Header File Version 1.0\nDataFile=other.eeg\n")
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert found.reason("d/sub-a") == "sub-a_task-rest_eeg.vhdr: its data file other.eeg is missing: copy it beside the header"


def test_unusable_modality_of_a_subject_that_stays_is_listed(eeg_bids, tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    (root / "sub-open").symlink_to(eeg_bids / "sub-open")
    write_bold(tmp_path / "derivatives", "open").write_bytes(b"")
    dataset = BidsDataset(kind="bids", path=str(root), derivatives=str(tmp_path / "derivatives"), n_shards=1)
    found = ingest_all(dataset, root, tmp_path / "out")
    assert found.state("d/sub-open") == "done"
    assert "file is empty" in found.reason("d/sub-open", "ingest-fmri")


def test_fingerprint_tells_files_apart_by_data_and_by_size(tmp_path):
    big = np.random.default_rng(0).bytes(1_200_000)
    (tmp_path / "a").write_bytes(big)
    (tmp_path / "b").write_bytes(big)
    (tmp_path / "c").write_bytes(big + b"x")
    (tmp_path / "e").write_bytes(b"y" + big[1:])
    prints = [fingerprint(tmp_path / name) for name in "abce"]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


# ---- people


def test_phenotype_is_read_as_the_study_says(tmp_path):
    for label in ("001", "002", "003", "004"):
        write_bold(tmp_path, label)
    write_participants(
        tmp_path,
        participant_id=["sub-1", "2", "sub-003", "4"],
        adhd=["0", "1", "1.0", "0"],
        asd=["0", "0", "1", "0"],
        centre=["A", "B", "n/a", "A"],
        age=["12.5", "89+", "n/a", "old"],
        sex=["male", "F", "x", "n/a"],
        mother=["m1", "m1", "n/a", "m2"],
    )
    maps = {"adhd": {"0": ["control"], "1": ["ADHD"]}, "asd": {"0": ["control"], "1": ["ASD"]}}
    phenotype = Phenotype(site="centre", family="mother", labels=maps)
    table = ingest_all(bids(tmp_path, phenotype=phenotype), tmp_path, tmp_path / "out").subjects.set_index("subject")
    assert table["labels"].to_dict() == {"001": "control", "002": "ADHD", "003": "ADHD;ASD", "004": "control"}
    assert table["site"].to_dict() == {"001": "A", "002": "B", "003": "unknown", "004": "A"}
    assert table["age"].fillna(-1).to_dict() == {"001": 12.5, "002": 89.0, "003": -1.0, "004": -1.0}
    assert table["sex"].fillna("?").to_dict() == {"001": "M", "002": "F", "003": "?", "004": "?"}
    assert table.loc["001", "family"] == table.loc["002", "family"] != table.loc["004", "family"]
    assert table.loc["003", "family"] == "d/sub-003"


def test_people_that_can_not_be_used(tmp_path):
    for label in ("ok", "nine", "gap", "stranger", "agree", "disagree", "5", "05"):
        write_bold(tmp_path, label)
    ids = ["ok", "nine", "gap", "ghost", "agree", "agree", "disagree", "disagree", "5"]
    write_participants(
        tmp_path,
        participant_id=[f"sub-{i}" for i in ids],
        group=["asd", "9", "n/a", "asd", "asd", "asd", "asd", "control", "asd"],
        comment=list("abcdefghi"),
    )
    found = ingest_all(bids(tmp_path, phenotype=LABELS, n_shards=3), tmp_path, tmp_path / "out")
    assert found.reason("d/sub-nine") == "label group=9 is not in the study's map: add it to datasets.d.phenotype.labels"
    assert "column group of the phenotype table is empty" in found.reason("d/sub-gap")
    assert "not in the phenotype table (column participant_id)" in found.reason("d/sub-stranger")
    assert found.reason("d/sub-disagree") == "2 rows in the phenotype table that disagree: keep one"
    assert found.reason("d/sub-ghost") == "no recording of fmri or eeg found"
    assert found.reason("d/sub-5") == found.reason("d/sub-05") == "stands twice, as 05 and 5: remove the copy, or rename one"
    done = found.status[(found.status["stage"] == "ingest") & (found.status["state"] == "done")]
    assert sorted(done["uid"]) == ["d/sub-agree", "d/sub-ok"] == sorted(found.recordings["uid"])
    assert len(found.subjects) == 9
    assert all(shard_of(s, 3) == n for s, n in found.subjects[["subject", "shard"]].itertuples(index=False))


def test_without_labels_everybody_stays(tmp_path):
    write_bold(tmp_path, "a")
    write_participants(tmp_path, participant_id=["b"])
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert found.state("d/sub-a") == "done"
    assert set(found.subjects["labels"]) == {""}


@pytest.mark.parametrize(
    ("phenotype", "message"),
    [
        (Phenotype(labels={"dx": {"1": ["ASD"]}}), r"participants\.tsv: no column dx \(it has participant_id, group\)"),
        (Phenotype(site="centre"), "no column centre"),
        (Phenotype(subject="id"), "no column id"),
    ],
)
def test_a_column_that_is_not_there_stops_with_one_line(tmp_path, phenotype, message):
    write_bold(tmp_path, "a")
    write_participants(tmp_path, participant_id=["a"], group=["asd"])
    with pytest.raises(McspError, match=message) as caught:
        ingest_all(bids(tmp_path, phenotype=phenotype), tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_empty_or_absent_datasets_stop_with_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(McspError, match=r"datasets\.d: .*empty: empty, no directory sub-\* is there"):
        ingest_all(bids(tmp_path / "empty"), tmp_path / "empty", tmp_path / "out")
    with pytest.raises(McspError, match="no such directory"):
        ingest_all(bids(tmp_path / "no"), tmp_path / "no", tmp_path / "out")
    write_bold(tmp_path / "x", "a")
    with pytest.raises(McspError, match=r"participants\.tsv: not there: fetch the dataset, put its"):
        ingest_all(bids(tmp_path / "x", phenotype=LABELS), tmp_path / "x", tmp_path / "out")


def test_simulated_diagnoses_are_split(tmp_path):
    root = tmp_path / "bids"
    for label in ("a", "b", "c"):
        write_bold(root / "derivatives" / "fmriprep", label)
    write_participants(
        root,
        participant_id=["sub-a", "sub-b", "sub-c"],
        age=[10, 20, 30],
        sex=["M", "F", "F"],
        site=["n", "n", "s"],
        diagnosis=["ADHD+ASD", "control", "MDD"],
        family=["f1", "f1", "n/a"],
    )
    dataset = SimulatedDataset(kind="simulate", n_subjects=3, n_shards=1, modalities=["fmri"], sites=[{"name": "n"}])
    found = ingest_all(dataset, root, tmp_path / "out")
    assert found.subjects["labels"].tolist() == ["ADHD;ASD", "control", "MDD"]
    assert found.subjects["family"].tolist() == ["d:f1", "d:f1", "d/sub-c"]
    assert len(found.recordings) == 3


# ---- ready series


def abide_study(root: Path):
    """The ABIDE study of the project, pointed at `root`."""
    values = overlay(read_yaml(PROJECT / "config/config.yaml"), read_yaml(PROJECT / "config/studies/abide-roi.yaml"))
    table = str(root / "Phenotypic_V1_0b_preprocessed1.csv")
    return parse_study(overlay(values, {"datasets": {"abide": {"path": str(root), "phenotype": {"table": table}}}}))


def write_abide(root: Path) -> Path:
    """A few made-up subjects in ABIDE's layout."""
    folder = root / "cpac" / "filt_noglobal" / "rois_ho"
    folder.mkdir(parents=True)
    people = [
        (50001, "PITT", "1"),
        (50002, "UM_1", "2"),
        (50003, "CMU", "1"),
        (50004, "CMU", "2"),
        (50005, "MARS", "2"),
        (50006, "NYU", "2"),
    ]
    files = ["Pitt_0050001", "UM_1_0050002", "CMU_a_0050003", "CMU_b_0050004", "Mars_0050005", "NYU_0050099"]
    for i, name in enumerate(files):
        np.savetxt(folder / f"{name}_rois_ho.1D", np.full((4, 2), i), delimiter="\t", header="#10\t#11", comments="")
    columns = ["SUB_ID", "SITE_ID", "DX_GROUP"]
    table = pd.DataFrame(people, columns=columns).assign(
        AGE_AT_SCAN="-9999", SEX="2", func_mean_fd="0.25", FILE_ID="no_filename"
    )
    table.to_csv(root / "Phenotypic_V1_0b_preprocessed1.csv", index=False)
    return root


def test_ready_series_in_abides_layout(tmp_path):
    root = write_abide(tmp_path / "abide")
    dataset = abide_study(root).datasets["abide"]
    found = ingest_all(dataset, root, tmp_path / "out")
    assert found.recordings.set_index("uid")["t_r"].to_dict() == {
        "d/sub-50001": 1.5, "d/sub-50002": 2.0, "d/sub-50003": 2.0, "d/sub-50004": 1.5,
    }  # fmt: skip
    assert "no repetition time for site MARS" in found.reason("d/sub-50005")
    assert "no file fits cpac/filt_noglobal/**/*_50006_rois_ho.1D" in found.reason("d/sub-50006")
    assert "not in the phenotype table (column SUB_ID)" in found.reason("d/sub-0050099")
    people = found.subjects.set_index("uid").loc["d/sub-50001"]
    assert np.isnan(people["age"])
    assert people[["sex", "labels", "mean_fd", "site"]].tolist() == ["F", "ASD", 0.25, "PITT"]
    again = RoiDataset.model_validate({**dataset.model_dump(), "motion": "fd"})
    with pytest.raises(McspError, match=r"datasets\.d\.motion: no column fd"):
        ingest_all(again, root, tmp_path / "out")


def test_a_pattern_that_fits_two_files(tmp_path):
    root = write_abide(tmp_path / "abide")
    folder = root / "cpac" / "filt_noglobal" / "rois_ho"
    (folder / "Pitt_50001_rois_ho.1D").write_text("#10\n1\n")
    found = ingest_all(abide_study(root).datasets["abide"], root, tmp_path / "out")
    assert "2 files fit" in found.reason("d/sub-50001")


def test_real_abide_series(real_data, tmp_path):
    archive = real_data / "abide_pcp.tar.xz"
    if not archive.is_file():
        pytest.skip("no abide_pcp.tar.xz")
    wanted, kept = 12, 0
    with tarfile.open(archive) as tar:  # a stream: only its beginning is unpacked
        for member in tar:
            if member.isfile() and ((member.name.endswith(".1D") and kept < wanted) or member.name.endswith(".csv")):
                tar.extract(member, tmp_path, filter="data")
                kept += member.name.endswith(".1D")
            if kept == wanted and list(tmp_path.rglob("*.csv")):
                break
    root = next(tmp_path.rglob("*.csv")).parent
    found = ingest_all(abide_study(root).datasets["abide"], root, tmp_path / "out")
    assert len(found.recordings) == wanted
    assert len(found.subjects) == 547
    usable = found.subjects[found.subjects["uid"].isin(found.recordings["uid"])]
    assert set(usable["labels"]) <= {"ASD", "control"}
    assert found.recordings["t_r"].between(1.5, 3.0).all()
    assert found.subjects["labels"].value_counts().to_dict() == {"control": 296, "ASD": 251}


# ---- rewriting


def test_only_what_changed_is_written_again(tmp_path):
    for i in range(6):
        write_bold(tmp_path, f"{i}")
    dataset = bids(tmp_path, n_shards=2)
    first = ingest_all(dataset, tmp_path, tmp_path / "out")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    ingest_all(dataset, tmp_path, tmp_path / "out")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    new = next(str(n) for n in range(10, 99) if shard_of(str(n), 2) == 0)
    write_bold(tmp_path, new)
    second = ingest_all(dataset, tmp_path, tmp_path / "out")
    changed = {path.name for path, (time, _) in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"shard-000.subjects.parquet", "shard-000.recordings.parquet", "shard-000.status.tsv"}
    assert len(second.subjects) == len(first.subjects) + 1
    assert not list((tmp_path / "out").rglob(".part-*"))


# ---- grayordinates


def test_fs_lr_takes_series_of_grayordinates(tmp_path):
    """91k before 170k, denoised copies of other pipelines never; confounds of the run; TR by the sidecar or the file."""
    axis = places()
    for label, t_r in (("a", 1.5), ("b", None)):
        volume = write_bold(tmp_path, label, t_r=2.0)
        stem = volume.name.split("_space")[0]
        for name in ("den-170k_bold", "den-91k_bold", "den-91k_desc-denoised_bold"):
            write_dtseries(volume.with_name(f"{stem}_space-fsLR_{name}.dtseries.nii"), axis, n=8, t_r=0.8)
        if t_r:
            sidecar = volume.with_name(f"{stem}_space-fsLR_den-91k_bold.json")
            sidecar.write_text(json.dumps({"RepetitionTime": t_r}))
    found = ingest_all(bids(tmp_path, space="fsLR"), tmp_path, tmp_path / "out").recordings
    assert [Path(path).name.split("space-")[1] for path in found["path"]] == ["fsLR_den-91k_bold.dtseries.nii"] * 2
    assert found["t_r"].tolist() == pytest.approx([1.5, 0.8])
    assert all(Path(path).name.endswith("_desc-confounds_timeseries.tsv") for path in found["confounds"])
    assert set(found["mask"]) == {""}
    assert set(ingest_all(bids(tmp_path), tmp_path, tmp_path / "volumes").recordings["t_r"]) == {2.0}


def test_series_of_grayordinates_alone_are_named(tmp_path):
    folder = tmp_path / "sub-a" / "func"
    folder.mkdir(parents=True)
    write_dtseries(folder / "sub-a_task-rest_space-fsLR_den-91k_bold.dtseries.nii", places(), n=8)
    found = ingest_all(bids(tmp_path), tmp_path, tmp_path / "out")
    assert "preprocessed BOLD in space fsLR only" in found.reason("d/sub-a")
