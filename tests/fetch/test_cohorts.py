"""The ready study files, from the buckets to the table of subjects: on small mirrors with the real names and layouts."""

import io
import json
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import scipy.io
import yaml
from nilearn.datasets import fetch_abide_pcp

from mcsp.atlas import load_atlas
from mcsp.domains.spectra import run as spectra
from mcsp.eeg.stage import run as eeg_stage
from mcsp.errors import McspError
from mcsp.fetch.cohort import run as fetch
from mcsp.fmri.series import read_roi_series
from mcsp.options.domains import SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.store import Store
from mcsp.study import Study, parse_study, read_yaml
from mcsp.workflow import overlay
from tests.bids.small_datasets import Ingested, ingest_all, make_cohort
from tests.conftest import PROJECT
from tests.eeg.nets import HYDROCEL, NET_128, field_raw
from tests.fetch import mirrors, simulated
from tests.fetch.bucket_server import Bucket, serve
from tests.workflow.conftest import checkout  # noqa: F401

COHORTS = ("abide", "adhd200", "hbn", "embarc")
ATHENA = {"10001": ("NYU", "ADHD", 2.0), "21009": ("NYU", "", 2.0), "1018959": ("KKI", "control", 2.5)}  # site, label, TR in s


def study_at(name: str, root: Path, url: str = "") -> Study:
    """A ready study file with its data below `root`, its buckets at `url`, and its terms accepted."""
    values = overlay(read_yaml(PROJECT / "config/config.yaml"), mirrors.at_mirror(name, url))
    for dataset in values["datasets"].values():
        fetch_options = json.dumps(dataset.pop("fetch")).replace('"package": "data/', f'"package": "{root}/')
        local = json.dumps(dataset).replace('"data/', f'"{root}/')
        dataset |= {**json.loads(local), "fetch": json.loads(fetch_options)}
    return parse_study(values, name)


def fetched(study: Study, root: Path) -> dict[str, pd.DataFrame]:
    """Fetch every dataset of a study; the lists of files."""
    lists = {}
    for name, dataset in study.datasets.items():
        out = root / f"{name}.tsv"
        fetch(name=name, options=dataset.fetch, path=Path(dataset.path), out=out, threads=4, wait=0.01)
        lists[name] = pd.read_csv(out, sep="\t")
    return lists


def ingested(study: Study, root: Path) -> dict:
    return {
        name: ingest_all(dataset, Path(dataset.path), root / "out", name, raw_too=True)
        for name, dataset in study.datasets.items()
    }


def of_archives(name: str, root: Path, files: dict[str, bytes]) -> Ingested:
    """ADHD-200 as a ready study file ingests it, after `files` were put into its directory and fetched."""
    study = study_at(name, root)
    place = Path(study.datasets["adhd200"].path)
    place.mkdir(exist_ok=True)
    for path, content in files.items():
        (place / path).write_bytes(content)
    fetched(study, root)
    return ingested(study, root)["adhd200"]


def by_label(found) -> dict[str, dict]:
    return found.subjects.set_index("subject").to_dict("index")


def site_label_t_r(found: Ingested) -> dict[str, tuple[str, str, float]]:
    """Site, labels and repetition time in s by subject."""
    both = found.subjects.merge(found.recordings[["uid", "t_r"]], on="uid", how="outer", validate="one_to_one")
    return {own.subject: (own.site, own.labels, own.t_r) for own in both.itertuples()}


def test_abide_from_the_buckets_to_the_table(tmp_path):
    with serve(Bucket(mirrors.abide(), page=5)) as bucket:
        study = study_at("abide", tmp_path, bucket.url)
        lists = fetched(study, tmp_path)
    assert {name: len(table) for name, table in lists.items()} == {"abide1": 11, "abide2": 10}
    found = ingested(study, tmp_path)
    one, two = by_label(found["abide1"]), by_label(found["abide2"])
    assert one["0050952"]["labels"] == "control"
    assert (one["0050952"]["site"], one["0050952"]["iq"], one["0050952"]["handedness"]) == ("NYU", 110.0, "R")
    assert (one["0051456"]["labels"], one["0051456"]["sex"], one["0051456"]["medication"]) == ("ASD", "F", None)
    assert np.isnan(one["0051456"]["iq"])
    assert (two["29178"]["labels"], two["29178"]["age"], two["29178"]["site"]) == ("control", 8.2, "ABIDEII-NYU_1")
    assert found["abide1"].recordings["t_r"].tolist() == [2.0] * 3
    people, exclusions = make_cohort(list(found.values()), tmp_path / "cohort")
    assert len(people) == 5  # 50999 stands in both
    again = exclusions.set_index("uid")["reason"]
    assert again["abide2/sub-50999"] == "same person as abide1/sub-0050999, by the label (option people)"


def test_ready_series_from_the_bucket_to_the_table(tmp_path):
    with serve(Bucket(mirrors.abide_series())) as bucket:
        study = study_at("abide-roi", tmp_path, bucket.url)
        (table,) = fetched(study, tmp_path).values()
    assert len(table) == 4
    found = ingested(study, tmp_path)["abide"]
    assert found.recordings.set_index("uid")["t_r"].to_dict() == {f"abide/sub-{n}": 2.0 for n in (50952, 50999, 51456)}
    assert by_label(found)["51456"]["labels"] == "ASD"


def test_what_nilearn_fetched_is_read_as_it_lies(tmp_path):
    """nilearn's own client on the same mirror: abide-roi reads its directory without a change."""
    objects = mirrors.abide_series()
    (key,) = (name for name in objects if name.endswith(".csv"))
    told = pd.read_csv(io.BytesIO(objects[key]), dtype=str)
    told = told.assign(FILE_ID=["NYU_0050952", "Caltech_0051456", "NYU_0050999"])
    objects[key] = told.to_csv().encode()  # the real one begins with a column without a name, too
    with serve(Bucket(objects)) as bucket:
        fetch_abide_pcp(
            data_dir=tmp_path, pipeline="cpac", band_pass_filtering=True, global_signal_regression=False,
            derivatives=["rois_ho"], quality_checked=False, url=f"{bucket.url}/{mirrors.INDI}/ABIDE_Initiative", verbose=0,
        )  # fmt: skip
    (tmp_path / "ABIDE_pcp").rename(tmp_path / "abide_pcp")
    found = ingested(study_at("abide-roi", tmp_path), tmp_path)["abide"]
    assert len(found.recordings) == 3
    assert by_label(found)["50999"]["labels"] == "ASD"


def test_adhd200_from_the_bucket_to_the_table(tmp_path):
    with serve(Bucket(mirrors.adhd200(), page=5)) as bucket:
        study = study_at("adhd200", tmp_path, bucket.url)
        fetched(study, tmp_path)
    found = ingested(study, tmp_path)["adhd200"]
    people = by_label(found)
    assert {label: own["labels"] for label, own in people.items()} == {
        "0015026": "control", "1018959": "control", "1019436": "ADHD", "2054438": "ADHD", "1050975": "control", "0026001": "",
    }  # fmt: skip
    assert {label: own["site"] for label, own in people.items()} == {
        "0015026": "WashU", "1018959": "KKI", "1019436": "KKI", "2054438": "OHSU", "1050975": "Peking_2", "0026001": "Brown",
    }  # fmt: skip
    assert [people[label]["handedness"] for label in ("1018959", "1019436", "0015026")] == ["R", "A", None]
    assert [people[label]["medication"] for label in ("1018959", "1019436", "0015026")] == ["no", None, "yes"]
    assert set(found.recordings["task"]) == {"rest", "reststudy3"}
    assert set(found.status["state"]) == {"done"}


def test_hbn_from_the_buckets_to_the_table(tmp_path):
    """MRI and EEG of the same children, from two buckets, are one subject; diagnoses come by hand."""
    with serve(Bucket(mirrors.hbn(), page=50)) as bucket:
        study = study_at("hbn", tmp_path, bucket.url)
        (table,) = fetched(study, tmp_path).values()
    assert not table["path"].str.contains("DespicableMe|movieDM|derivatives").any()
    place = tmp_path / "hbn" / "phenotype"
    place.mkdir()
    stem = "Diagnosis_ClinicianConsensus,DX"
    labels = ["NDARAA,assessment", "NDARAB,assessment", "NDARAD,assessment"]
    names = {"Identifiers": ["", *labels]}
    dx = ["Diagnosis 01", "ADHD-Combined Type", "No Diagnosis Given", "Major Depressive Disorder"]
    more = ["Diagnosis 02", "Autism Spectrum Disorder", "", "Autism Spectrum Disorder"]
    out = ["Rule out", "0", "", "1"]
    columns = {f"{stem}_01": dx, f"{stem}_02": more, f"{stem}_02_RuleOut": out, f"{stem}_01_Cat": ["x"] * 4}
    pd.DataFrame(names | columns).to_csv(place / "Diagnosis_ClinicianConsensus.csv", index=False)
    demos = {"Basic_Demos,Sex": ["0= Male", "0", "1", "1"], "Basic_Demos,Age": ["", "7.06", "8", "9"]}
    pd.DataFrame(names | demos | {"Basic_Demos,Study_Site": ["", "1", "3", "4"]}).to_csv(place / "Basic_Demos.csv", index=False)
    found = ingested(study, tmp_path)["hbn"]
    people = by_label(found)
    assert {label: people[f"NDARA{label}"]["labels"] for label in "ABCD"} == {
        "A": "ADHD;ASD",
        "B": "control",
        "C": "",
        "D": "MDD",
    }
    assert (people["NDARAA"]["sex"], people["NDARAA"]["age"], people["NDARAA"]["handedness"]) == ("M", 7.06, "R")
    modalities = found.recordings.groupby("uid")["modality"].agg(lambda own: "+".join(sorted(own))).to_dict()
    assert modalities == {
        "hbn/sub-NDARAA": "eeg+fmri", "hbn/sub-NDARAB": "eeg+fmri", "hbn/sub-NDARAC": "eeg", "hbn/sub-NDARAD": "fmri",
    }  # fmt: skip
    assert set(found.recordings["sfreq"].dropna()) == {500.0}


def test_hbn_eeg_from_the_bucket_to_the_store(tmp_path):
    """EEGLAB files of the 128-channel net, with its own names, at 100 Hz, on the montage of all cohorts."""
    raw = field_raw({name: HYDROCEL[name] for name in NET_128}, noise=2e-6, sfreq=100.0, duration=20.0)
    with serve(Bucket(mirrors.hbn(simulated.exported(raw, ".set")), page=50)) as bucket:
        study = study_at("hbn", tmp_path, bucket.url)
        fetched(study, tmp_path)
    dataset = study.datasets["hbn"]
    public = {"table": f"{tmp_path}/hbn/sourcedata/*/participants.tsv", "site": None, "age": "age", "sex": "sex", "labels": {}}
    dataset = dataset.model_copy(update={"phenotype": dataset.phenotype.model_copy(update=public), "n_shards": 1})
    ingest_all(dataset, Path(dataset.path), tmp_path / "out", "hbn", raw_too=True)
    options = EegOptions(n_segments=15)
    eeg_stage(
        dataset="hbn", recordings=tmp_path / "out/ingest/hbn/shard-000.recordings.parquet", options=options,
        store=tmp_path / "s.arrow", status=tmp_path / "s.tsv", runs=tmp_path / "runs.tsv", threads=1,
    )  # fmt: skip
    store = Store(tmp_path / "s.arrow")
    assert store.uids == ["hbn/sub-NDARAA", "hbn/sub-NDARAB", "hbn/sub-NDARAC"]
    assert store.shape == (15, 19, 200)
    runs = pd.read_csv(tmp_path / "runs.tsv", sep="\t")
    assert runs["n_channels"].tolist() == [129] * 3
    assert runs["sfreq"].tolist() == [100.0] * 3
    assert runs["top_hz"].tolist() == [45.0] * 3
    assert runs["spline_error"].between(0.01, 0.5).all()


def write_set_with_fdt(path: Path, raw: mne.io.BaseRaw) -> None:
    """An EEGLAB dataset in two files: the header names that of the samples: float32, channels within a sample."""
    data = (raw.get_data() * 1e6).astype("<f4")
    data.T.tofile(path.with_suffix(".fdt"))
    places = np.zeros(len(raw.ch_names), [("labels", "O"), ("X", "O"), ("Y", "O"), ("Z", "O")])
    for number, name in enumerate(raw.ch_names):
        x, y, z = raw.info["chs"][number]["loc"][:3]
        places[number] = (name, y, -x, z)  # EEGLAB's first axis points to the nose
    head = {
        "setname": "x", "nbchan": len(data), "trials": 1, "pnts": data.shape[1], "srate": raw.info["sfreq"], "xmin": 0.0,
        "xmax": raw.times[-1], "chanlocs": places, "data": path.with_suffix(".fdt").name, "event": [], "epoch": [],
        "icawinv": [],
    }  # fmt: skip
    scipy.io.savemat(path, {"EEG": head})


@pytest.mark.parametrize("form", ["bdf", "set+fdt"])
def test_hbn_at_100_hz_from_the_bucket_to_the_store(form, tmp_path):
    """The competition's form. What lies above 50 Hz was never there, and a study that asks for it is told so, not given it."""
    raw = field_raw({name: HYDROCEL[name] for name in NET_128}, noise=2e-6, sfreq=100.0, duration=20.0)
    stem = "nmdatasets/NeurIPS25/{0}/sub-NDARAA/eeg/sub-NDARAA_task-RestingState_eeg"
    if form == "bdf":
        files = {"bdf": simulated.exported(raw, ".bdf")}
    else:
        write_set_with_fdt(tmp_path / "sub-NDARAA_task-RestingState_eeg.set", raw)
        files = {end: (tmp_path / f"sub-NDARAA_task-RestingState_eeg.{end}").read_bytes() for end in ("set", "fdt")}
    name = {"bdf": "R1_L100_bdf", "set+fdt": "R1_L100"}[form]
    objects = {f"{stem.format(name)}.{end}": content for end, content in files.items()}
    objects[f"{stem.format(name)}.json"] = b'{"SamplingFrequency": 100, "PowerLineFrequency": 60}'
    objects[f"nmdatasets/NeurIPS25/{name}/participants.tsv"] = mirrors.table("\t", participant_id=["sub-NDARAA"], sex=["M"])
    with serve(Bucket(objects)) as bucket:
        study = study_at("hbn-eeg", tmp_path, bucket.url)
        dataset = study.datasets["hbn"]
        source = dataset.fetch.sources[0].model_copy(update={"prefix": f"NeurIPS25/{name}/"})
        options = dataset.fetch.model_copy(update={"sources": [source]})
        fetch(name="hbn", options=options, path=Path(dataset.path), out=tmp_path / "hbn.tsv", threads=4, wait=0.01)
    public = {"table": f"{tmp_path}/hbn_100hz/sourcedata/*/participants.tsv", "site": None, "age": None, "sex": "sex"}
    phenotype = dataset.phenotype.model_copy(update={**public, "labels": {}})
    dataset = dataset.model_copy(update={"phenotype": phenotype, "n_shards": 1})
    ingest_all(dataset, Path(dataset.path), tmp_path / "out", "hbn")
    for low_pass in (45.0, 60.0):
        place = tmp_path / f"{low_pass:g}"
        place.mkdir()
        eeg_stage(
            dataset="hbn", recordings=tmp_path / "out/ingest/hbn/shard-000.recordings.parquet",
            options=EegOptions(n_segments=15, low_pass=low_pass), store=place / "s.arrow", status=place / "s.tsv",
            runs=place / "runs.tsv", threads=1,
        )  # fmt: skip
        (run,) = pd.read_csv(place / "runs.tsv", sep="\t").to_dict("records")
        assert (run["n_channels"], run["sfreq"], run["top_hz"]) == (129, 100.0, 45.0)
        assert 0.01 < run["spline_error"] < 0.5  # the net's places were known
        spectra(
            dataset="hbn", modality="eeg", temporal=place / "s.arrow", options=SpectraOptions(), store=place / "f.arrow",
            status=place / "f.tsv", threads=1,
        )  # fmt: skip
        store = Store(place / "f.arrow")
        missing = np.isnan(store.row(0)).all(axis=(0, 1))
        assert (missing == (np.array(store.meta["freqs"]) > (45.0 if low_pass == 60.0 else np.inf))).all()


def test_abide_s_preprocessed_volumes_become_bids(tmp_path):
    with serve(Bucket(mirrors.abide_volumes())) as bucket:
        study = study_at("abide-func", tmp_path, bucket.url)
        (table,) = fetched(study, tmp_path).values()
    stem = "sub-0050999/func/sub-0050999_task-rest_space-MNI152NLin6Asym_desc"
    assert {f"{stem}-preproc_bold.nii.gz", f"{stem}-brain_mask.nii.gz"} <= set(table["path"])
    found = ingested(study, tmp_path)["abide"]
    assert {label: own["labels"] for label, own in by_label(found).items()} == {
        "0050952": "control", "0050999": "ASD", "0051456": "ASD",
    }  # fmt: skip
    assert found.recordings["kind"].tolist() == ["bold"] * 3
    assert found.recordings["mask"].str.endswith("mask.nii.gz").all()


def test_athena_s_archive_to_the_table(tmp_path):
    """What the user downloaded is unpacked, once; the withheld test set stays without a label."""
    study = study_at("adhd200-roi", tmp_path)
    with pytest.raises(
        McspError, match=r"adhd200: can't be fetched by a program\. Register with NITRC, download ADHD200_CC200"
    ):
        fetched(study, tmp_path)
    found = of_archives("adhd200-roi", tmp_path, {"ADHD200_CC200_TCs_filtfix.tar.gz": mirrors.athena()})
    assert site_label_t_r(found) == ATHENA
    atlas = load_atlas(PROJECT / "config/atlases/cc200_athena.tsv")
    assert read_roi_series(Path(found.recordings["path"].iloc[0]), atlas).shape == (3, 190)


def test_athena_s_test_release_gets_its_diagnoses(tmp_path):
    """Of the Neuro Bureau's table, which counts before the sites' own, else of the competition's; without both, they are kept
    without a label.
    """
    archives = {"filtfix.tar.gz": mirrors.athena(), "TestRelease.tar": mirrors.athena_test_release()}
    found = of_archives("adhd200-roi", tmp_path, {f"ADHD200_CC200_TCs_{name}": content for name, content in archives.items()})
    people = by_label(found)
    assert (people["2054438"]["labels"], people["2054438"]["site"]) == ("", "OHSU")
    found = of_archives("adhd200-roi", tmp_path, {"allSubs_testSet_phenotypic_dx.csv": mirrors.competition_diagnoses()})
    people = by_label(found)
    assert [(people[label]["labels"], people[label]["site"]) for label in ("2054438", "26001")] == [
        ("ADHD", "OHSU"),
        ("", "Brown"),
    ]
    found = of_archives("adhd200-roi", tmp_path, {"adhd200_preprocessed_phenotypics.tsv": mirrors.neurobureau_phenotypes()})
    people = by_label(found)
    assert site_label_t_r(found) == {**ATHENA, "2054438": ("OHSU", "control", 2.5), "26001": ("Brown", "", 2.0)}
    assert (people["2054438"]["handedness"], people["10001"]["iq"]) == ("L", 103.0)


def test_niak_s_volumes_become_bids(tmp_path):
    files = {"NYU.tar": mirrors.niak(), "adhd200_preprocessed_phenotypics.tsv": mirrors.neurobureau_phenotypes()}
    found = of_archives("adhd200-niak", tmp_path, files)
    assert {label: own["labels"] for label, own in by_label(found).items()} == {
        "0010001": "ADHD", "2054438": "control", "0026001": "",
    }  # fmt: skip
    assert found.recordings["kind"].tolist() == ["bold"] * 3  # the first runs
    assert found.recordings["t_r"].tolist() == [2.0] * 3
    assert (
        tmp_path / "adhd200_niak/NYU_output_nifty/fmri/fmri_X_0010001_session_1_run2.nii.gz"
    ).is_file()  # what is not renamed stays


def test_athena_s_real_series(real_data):
    atlas = load_atlas(PROJECT / "config/atlases/cc200_athena.tsv")
    (path,) = (real_data / "adhd200_athena_sample").glob("*_TCs.1D")
    series = read_roi_series(path, atlas)
    assert series.shape[1] == 190
    assert np.isfinite(series).all()


def test_embarc_starts_from_the_package(tmp_path, capsys):
    study = study_at("embarc", tmp_path)
    with pytest.raises(
        McspError, match=r"embarc: can't be fetched by a program\. Request access to EMBARC \(collection 2199\)"
    ):
        fetched(study, tmp_path)
    mirrors.nda_package(tmp_path / "embarc-package")
    (table,) = fetched(study, tmp_path).values()
    stem = "sub-CU0001/ses-Baseline/{}/sub-CU0001_ses-Baseline_"
    rest = stem.format("func") + "task-rest_run-{}_bold.nii.gz"
    assert set(table["path"][table["state"] == "fetched"]) == {
        stem.format("anat") + "run-1_T1w.nii.gz", rest.format(1), rest.format(2),
        stem.format("eeg") + "task-rest_run-1_eeg.edf",
    }  # fmt: skip
    told = capsys.readouterr().out
    assert "dicoms.zip: not .nii.gz or .nii: unpack it, convert it with dcm2niix" in told
    assert "rest_ec.cnt: not .edf or .bdf or .set: unpack it, convert it with mne-bids" in told
    assert "4 files laid out, 0 there, 2 left out" in told
    (again,) = fetched(study, tmp_path).values()
    assert again["state"].value_counts().to_dict() == {"there": 4, "left out": 2}
    found = ingested(study, tmp_path)["embarc"]
    people = by_label(found)
    assert {label: (own["labels"], own["age"], own["site"], own["handedness"]) for label, own in people.items()} == {
        "CU0001": ("MDD", 37.5, "CU", "R"), "TX0002": ("control", 33.5, "TX", "L"),
    }  # fmt: skip
    assert found.reason("embarc/sub-TX0002") == "no recording of fmri or eeg found"
    bold = found.recordings[found.recordings["modality"] == "fmri"]
    assert bold["t_r"].tolist() == [2.0, 2.0]
    assert bold["t1w"].str.endswith("T1w.nii.gz").all()


def test_the_papers_datasets_are_those_of_the_single_studies():
    paper = read_yaml(PROJECT / "config/studies/paper.yaml")
    single = {}
    for name in COHORTS:
        single |= read_yaml(PROJECT / f"config/studies/{name}.yaml")["datasets"]
    assert paper["datasets"] == single


@pytest.mark.parametrize("name", [*COHORTS, "paper"])
def test_dry_runs(name, checkout):  # noqa: F811
    """From a fresh clone, before anything is fetched: the graph, and what would be fetched."""
    study = f"config/studies/{name}.yaml"
    planned = checkout.planned("fetch", "report", study=study)
    values = read_yaml(PROJECT / study)
    assert planned["fetch_dataset"] == len(values["datasets"])
    assert planned["ingest_shard"] == planned["fmri_shard"] == sum(d["n_shards"] for d in values["datasets"].values())
    assert planned.get("evaluate_task", 0) == len(values["tasks"])


def test_fetch_as_a_target(checkout):  # noqa: F811
    """Refused in one line until the terms are accepted; then fetched and ingested, and done."""
    with serve(Bucket(mirrors.adhd200())) as bucket:
        study = "config/studies/adhd200.yaml"
        path = checkout.root / study
        path.write_text(yaml.safe_dump(mirrors.at_mirror("adhd200", bucket.url, accept=False, n_shards=2)))
        text = checkout.snakemake("fetch", study=study, check=False)
        assert (
            "error: adhd200: not fetched: read the terms (http://fcon_1000.projects.nitrc.org/indi/adhd200/), then set" in text
        )
        assert not (checkout.root / "data").exists()
        path.write_text(yaml.safe_dump(mirrors.at_mirror("adhd200", bucket.url, n_shards=2)))
        text = checkout.snakemake("fetch", study=study)
        assert "adhd200: 23 files of 6 subjects" in text
        assert "Nothing to be done" in checkout.snakemake("fetch", study=study)
    checkout.snakemake("ingest", study=study)
    table = pd.read_csv(checkout.root / "results/adhd200/ingest/subjects.tsv", sep="\t")
    assert len(table) == 6
    assert {"handedness", "iq", "medication"} <= set(table)
