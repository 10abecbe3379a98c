"""Small mirrors of the public buckets: the real names and layouts, made-up content."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import yaml

from tests.conftest import PROJECT
from tests.eeg.nets import NET_128

INDI = "fcp-indi/data/Projects"
HBN_RELEASES = [f"ds00{number}" for number in (*range(5505, 5513), *range(5514, 5517))]  # EEG, on OpenNeuro
_SEEDS = itertools.count()


def at_mirror(study: str, url: str, *, accept: bool = True, n_shards: int | None = None) -> dict:
    """Values of a ready study file: its buckets at `url`, its terms accepted or not, `n_shards` in place of its own."""
    text = (PROJECT / f"config/studies/{study}.yaml").read_text(encoding="utf-8")
    text = text.replace("https://nmdatasets.s3.amazonaws.com", f"{url}/nmdatasets").replace("https://s3.amazonaws.com", url)
    values = yaml.safe_load(text)
    for dataset in values["datasets"].values():
        dataset["n_shards"] = n_shards or dataset["n_shards"]
        dataset["fetch"]["accept_terms"] = accept
    return values


def image(shape: tuple[int, ...], t_r: float | None = None) -> bytes:
    """A compressed NIfTI image with noise of its own."""
    data = np.random.default_rng(next(_SEEDS)).normal(size=shape).astype(np.float32)
    picture = nib.Nifti1Image(data, np.diag([3.0, 3.0, 3.0, 1.0]))
    if t_r:
        picture.header.set_zooms((3.0, 3.0, 3.0, t_r))
        picture.header.set_xyzt_units("mm", "sec")
    return gzip.compress(picture.to_bytes(), mtime=0)


def table(separator: str, **columns) -> bytes:
    """A table as text."""
    buffer = io.StringIO()
    pd.DataFrame(columns).to_csv(buffer, sep=separator, index=False)
    return buffer.getvalue().encode()


def scan_keys(folder: str, label: str, session: str, task: str, run: str = "_run-1") -> tuple[str, str]:
    """Beginnings of the keys of a T1w and of a run below `folder`."""
    inside = f"{folder}/sub-{label}/" + (f"{session}/" if session else "")
    stem = f"sub-{label}" + (f"_{session}" if session else "")
    return f"{inside}anat/{stem}", f"{inside}func/{stem}_task-{task}{run}"


def scans(folder: str, label: str, *, session: str = "", task: str = "rest", run: str = "_run-1", t_r: float = 2.0) -> dict:
    """T1w and resting BOLD of a subject, by key."""
    anat, func = scan_keys(folder, label, session, task, run)
    return {f"{anat}_T1w.nii.gz": image((6, 6, 6)), f"{func}_bold.nii.gz": image((4, 4, 4, 8), t_r)}


def abide() -> dict[str, bytes]:
    """ABIDE I: sites without sessions, the table of the preprocessed release. ABIDE II: sessions, a table per site, and a
    longitudinal collection with the labels of ABIDE I.
    """
    one, two = f"{INDI}/ABIDE/RawDataBIDS", f"{INDI}/ABIDE2/RawData"
    found = {
        f"{INDI}/ABIDE_Initiative/Phenotypic_V1_0b_preprocessed1.csv": table(
            ",",
            SUB_ID=["50952", "51456", "50999"],
            SITE_ID=["NYU", "CALTECH", "NYU"],
            DX_GROUP=["2", "1", "1"],
            DSM_IV_TR=["0", "-9999", "1"],
            AGE_AT_SCAN=["10.5", "20.1", "12"],
            SEX=["1", "2", "1"],
            HANDEDNESS_CATEGORY=["R", "", "L"],
            FIQ=["110.0", "-9999.0", "99.0"],
            CURRENT_MED_STATUS=["0", "", "1"],
        )
    }
    for site, label, t_r in (("NYU", "0050952", 2.0), ("NYU", "0050999", 2.0), ("Caltech", "0051456", 2.0)):
        found |= scans(f"{one}/{site}", label, t_r=t_r)
        found[f"{one}/{site}/task-rest_bold.json"] = json.dumps({"RepetitionTime": t_r, "TaskName": "Resting State"}).encode()
        found[f"{one}/{site}/T1w.json"] = json.dumps({"Manufacturer": site}).encode()
    for site, label, session in (
        ("ABIDEII-NYU_1", "29177", "ses-1"),
        ("ABIDEII-NYU_1", "29178", "ses-1"),
        ("ABIDEII-UCLA_Long", "50999", "ses-baseline"),
    ):
        found |= scans(f"{two}/{site}", label, session=session)
        found[f"{two}/{site}/task-rest_bold.json"] = json.dumps({"RepetitionTime": 2.0}).encode()
    header = {"participant_id": ["29177", "29178"], "site_id": ["ABIDEII-NYU_1"] * 2, "dx_group": ["1", "2"]}
    more = {"age_at_scan ": ["9.1", "8.2"], "sex": ["1", "2"], "fiq": ["112", ""]}
    found[f"{two}/ABIDEII-NYU_1/participants.tsv"] = table("\t", **header, **more)
    header = {"participant_id": ["50999"], "site_id": ["ABIDEII-UCLA_Long"], "dx_group": ["1"]}
    found[f"{two}/ABIDEII-UCLA_Long/participants.tsv"] = table(
        "\t", **header, **{"age_at_scan ": ["14"], "sex": ["1"], "fiq": [""]}
    )
    return found


def abide_series() -> dict[str, bytes]:
    """Ready ROI series of the Preprocessed Connectomes Project, one file a subject, and the table beside."""
    root = f"{INDI}/ABIDE_Initiative"
    found = {key: content for key, content in abide().items() if key.startswith(f"{root}/")}
    for number, name in enumerate(("NYU_0050952", "Caltech_0051456", "NYU_0050999")):
        text = "#2001\t#2101\n" + "".join(f"{number}.{frame}\t{frame}\n" for frame in range(5))
        found[f"{root}/Outputs/cpac/filt_noglobal/rois_ho/{name}_rois_ho.1D"] = text.encode()
        found[f"{root}/Outputs/cpac/filt_global/rois_ho/{name}_rois_ho.1D"] = b"not wanted"
    key = f"{root}/Phenotypic_V1_0b_preprocessed1.csv"
    own = pd.read_csv(io.BytesIO(found[key]), dtype=str).assign(func_mean_fd="0.1")
    return {**found, key: own.to_csv(index=False).encode()}


def abide_volumes() -> dict[str, bytes]:
    """Preprocessed volumes of the Preprocessed Connectomes Project and their masks, in the names of its pipelines."""
    found = {key: content for key, content in abide_series().items() if key.endswith(".csv")}
    root = f"{INDI}/ABIDE_Initiative/Outputs/cpac/filt_noglobal"
    for name in ("NYU_0050952", "Caltech_0051456", "UM_1_0050999"):
        found[f"{root}/func_preproc/{name}_func_preproc.nii.gz"] = image((4, 4, 4, 8), 2.0)
        found[f"{root}/func_mask/{name}_func_mask.nii.gz"] = image((4, 4, 4))
    return found


def athena_series(label: str, value: float) -> bytes:
    """Athena's CC200 series of three frames, under AFNI's header."""
    codes = "\t".join(f"Mean_{number}" for number in range(1, 201))
    rows = [f"sfnwmrda{label}.nii.gz\t{frame}[?]\t" + "\t".join([str(value)] * 200) for frame in range(3)]
    return ("\n".join([f"File\tSub-brick\t{codes}", *rows]) + "\n").encode()


def athena() -> bytes:
    """The archive of Athena's CC200 series: sites, subjects of seven digits, series, the sites' tables."""
    content = {}
    for site, label in (("KKI", "1018959"), ("NYU", "0010001"), ("NYU", "0021009")):
        content[f"{site}/{label}/sfnwmrda{label}_session_1_rest_1_cc200_TCs.1D"] = athena_series(label, 1.5)
        content[f"{site}/{label}/snwmrda{label}_session_1_rest_1_cc200_TCs.1D"] = b"not filtered"
    ids = {"ScanDir ID": ["10001", "21009"], "Site": ["5"] * 2, "Gender": ["1"] * 2, "Age": ["9"] * 2}
    content["NYU/NYU_phenotypic.csv"] = table(",", **ids, DX=["3", "pending"])
    content["KKI/KKI_phenotypic.csv"] = table(
        ",", **{"ScanDir ID": ["1018959"]}, Site=["3"], Gender=["0"], Age=["12"], DX=["0"]
    )
    return archive_of({f"ADHD200_CC200_TCs_filtfix/{name}": data for name, data in content.items()}, "w:gz")


def archive_of(content: dict[str, bytes], mode: str) -> bytes:
    """A tar archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def athena_test_release() -> bytes:
    """The archive of the test set: sites at its top, diagnoses withheld, WashU's spelling of the subject's column elsewhere."""
    content = {}
    for site, code, label in (("OHSU", "6", "2054438"), ("Brown", "2", "0026001")):
        content[f"{site}/{label}/sfnwmrda{label}_session_1_rest_1_cc200_TCs.1D"] = athena_series(label, 2.5)
        ids = {"ScanDirID": [label.lstrip("0")], "Site": [code], "Gender": ["0"], "Age": ["9"], "DX": ["pending"]}
        content[f"{site}/{site}_TestRelease_phenotypic.csv"] = table(",", **ids)
    return archive_of(content, "w")


def competition_diagnoses() -> bytes:
    """The competition's table of the test set's diagnoses, `allSubs_testSet_phenotypic_dx.csv`: its subjects are `ID`."""
    return table(",", ID=["2054438", "26001"], Site=["6", "2"], Gender=["0", "0"], Age=["9"] * 2, DX=["1", "pending"])


def neurobureau_phenotypes() -> bytes:
    """The Neuro Bureau's one table of both releases of ADHD-200: with the test set's diagnoses, but for Brown's."""
    ids = {"ScanDir ID": ["10001", "2054438", "26001"], "Site": ["5", "6", "2"], "Gender": ["1", "0", "0"], "Age": ["9"] * 3}
    more = {"Handedness": ["1", "0", "2"], "DX": ["3", "0", "pending"], "Full4 IQ": ["103", "-999", "99"], "QC_NIAK": ["1"] * 3}
    return table("\t", **ids, **more)


def niak(labels: tuple[str, ...] = ("0010001", "2054438", "0026001")) -> bytes:
    """An archive of NIAK's volumes: first and second runs, an anatomy, a picture of quality control."""
    content = {}
    for label in labels:
        for run in (1, 2):
            content[f"NYU_output_nifty/fmri/fmri_X_{label}_session_1_run{run}.nii.gz"] = image((4, 4, 4, 8), 2.0)
        content[f"NYU_output_nifty/anat/X_{label}/anat_X_{label}_nuc_stereonl.nii.gz"] = image((4, 4, 4))
    content["NYU_output_nifty/quality_control/group.pdf"] = b"%PDF"
    return archive_of(content, "w")


def nda_file(root: Path, path: str, content: bytes) -> str:
    """Lay a file of an NDA package below `root`; returns where the archive had it."""
    (root / "image03" / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "image03" / path).write_bytes(content)
    return f"s3://NDAR_Central_1/submission_19221/{path}"


def nda_tables(root: Path, people: dict[str, list[str]], images: list[tuple[str, ...]], eeg: list[str]) -> None:
    """Tables of an NDA package below `root`, their second rows describing the columns. `people`: columns of ndar_subject01;
    `images`: (subject, type, description, repetition time, file) of each; `eeg`: a file of each of the people.
    """
    names = ("src_subject_id", "scan_type", "image_description", "mri_repetition_time_pd", "image_file")
    told = {"task_name": ["Rest, eyes closed"] * len(eeg), "visit": ["Baseline"] * len(eeg)}
    structures = {
        "ndar_subject01": people,
        "image03": {**dict(zip(names, map(list, zip(*images)))), "visit": ["Baseline"] * len(images)},
        "eeg_sub_files01": {"src_subject_id": people["src_subject_id"], "data_file1": eeg, **told},
    }
    for name, columns in structures.items():
        described = {column: [f"about {column}", *values] for column, values in columns.items()}
        (root / f"{name}.txt").write_bytes(table("\t", **described))


def nda_package(root: Path, eeg: bytes = b"edf") -> None:
    """A package of EMBARC as the archive's client leaves it below `root`: tables in NDA's columns, files where the ends of
    their URLs say. CU0001 has NIfTI and EEG, TX0002 has DICOM and an EEG of an amplifier that BIDS does not know.
    """
    people = {
        "subjectkey": ["NDAR_1", "NDAR_2"], "src_subject_id": ["CU0001", "TX0002"], "interview_age": ["450", "402"],
        "sex": ["F", "M"], "phenotype": ["MDD", "Healthy control"], "site": ["CU", "TX"], "ca243": ["1", "2"],
    }  # fmt: skip
    images = [
        ("CU0001", "MR structural (MPRAGE)", "MPRAGE", "", nda_file(root, "CU0001/T1.nii.gz", image((6, 6, 6)))),
        ("CU0001", "fMRI", "resting state 1", "2", nda_file(root, "CU0001/a/scan.nii.gz", image((4, 4, 4, 8), 2.0))),
        ("CU0001", "fMRI", "resting state 2", "2000", nda_file(root, "CU0001/b/scan.nii.gz", image((4, 4, 4, 8), 2.0))),
        ("CU0001", "fMRI", "reward task", "2", nda_file(root, "CU0001/c/scan.nii.gz", b"not wanted")),
        ("CU0001", "MR diffusion", "DTI", "", nda_file(root, "CU0001/dwi.nii.gz", b"not wanted")),
        ("TX0002", "fMRI", "Rest", "2", nda_file(root, "TX0002/dicoms.zip", b"DICOM")),
    ]
    files = [nda_file(root, "CU0001/rest_ec.edf", eeg), nda_file(root, "TX0002/rest_ec.cnt", b"Neuroscan")]
    nda_tables(root, people, images, files)


def adhd200() -> dict[str, bytes]:
    """Sites with sessions, several runs, WashU's names of tasks. BIDS tables in words within sites (also of the test set, but
    for Brown, whose diagnoses were never released; test subjects twice), the competition's in codes beside some of them.
    """
    root = f"{INDI}/ADHD200/RawDataBIDS"
    found = {}
    for site, label, task, t_r in (
        ("KKI", "1018959", "rest", 2.5),
        ("KKI", "1019436", "rest", 2.5),
        ("WashU", "0015026", "reststudy3", 2.5),
        ("OHSU", "2054438", "rest", 2.5),
        ("Peking_2", "1050975", "rest", 2.0),
        ("Brown", "0026001", "rest", 2.0),
    ):
        found |= scans(f"{root}/{site}", label, session="ses-1", task=task, t_r=t_r)
        found[f"{root}/{site}/task-rest_bold.json"] = json.dumps({"RepetitionTime": t_r}).encode()

    def phenotypic(**columns):
        n = len(columns["DX"])
        rest = {"ADHD Measure": ["3"] * n, "Secondary Dx ": [""] * n, "Full2 IQ": ["-999"] * n, "QC_Rest_1": ["1"] * n}
        return table(",", **columns, **rest)

    ids = {"ScanDir ID": ["1018959", "1019436"], "Site": ["3", "3"], "Gender": ["0", "1"], "Age": ["12.36", "12.98"]}
    codes = {"Handedness": ["1", "2"], "DX": ["0", "3"], "Full4 IQ": ["103", "-999"], "Med Status": ["1", "-999"]}
    found[f"{root}/KKI_phenotypic.csv"] = phenotypic(**ids, **codes)
    ids = {"ScanDir ID": ["15026"], "Site": ["8"], "Gender": ["1"], "Age": ["9"]}
    codes = {"Handedness": ["-999"], "DX": ["0"], "Full4 IQ": ["99"], "Med Status": ["2"]}
    found[f"{root}/WashU_phenotypic.csv"] = phenotypic(**ids, **codes)
    ids = {"ScanDir ID": ["2054438"], "Site": ["6"], "Gender": ["0"], "Age": ["8.9"]}
    codes = {"Handedness": ["1"], "DX": ["pending"], "Full4 IQ": ["120"], "Med Status": ["-999"]}
    found[f"{root}/OHSU_TestRelease_phenotypic.csv"] = phenotypic(**ids, **codes)
    for site, label, dx in (("OHSU", "2054438", "ADHD-Combined"), ("Peking_2", "1050975", "Typically Developing Children")):
        words = {"participant_id": [label] * 2, "gender": ["Female"] * 2, "age": ["8.9"] * 2, "handedness": ["Right"] * 2}
        found[f"{root}/{site}/participants.tsv"] = table(
            "\t", **words, dx=[dx] * 2, full4_iq=["120", "120.0"], med_status=["Medication Naive"] * 2
        )
    found[f"{root}/Brown/participants.tsv"] = table("\t", participant_id=["26001"], gender=["Male"], age=["11"], full4_iq=[""])
    return found


def participants(root: str, labels: list[str], columns: dict[str, list[str]]) -> dict[str, bytes]:
    """The table of a release of HBN's EEG, with `columns`; one nobody's where `labels` is empty."""
    nobody = "X" + "".join(filter(str.isalnum, root.rsplit("/", 1)[1]))
    ids = [f"sub-{label}" for label in labels or [nobody]]
    return {f"{root}/participants.tsv": table("\t", participant_id=ids, **columns)}


def resting_eeg(root: str, label: str, suffix: str, content: bytes, sfreq: float) -> dict[str, bytes]:
    """A child's EEG at rest in a release of HBN, of the 128-channel net, with its sidecars."""
    stem = f"{root}/sub-{label}/eeg/sub-{label}_task-RestingState_"
    return {
        f"{stem}eeg{suffix}": content,
        f"{stem}eeg.json": json.dumps({"SamplingFrequency": sfreq, "PowerLineFrequency": 60}).encode(),
        f"{stem}channels.tsv": table("\t", name=NET_128, type=["EEG"] * len(NET_128)),
    }


def hbn_release(
    name: str, recordings: dict[str, bytes], columns: dict[str, list[str]], sfreq: float = 500.0
) -> dict[str, bytes]:
    """A release of HBN's EEG on OpenNeuro: its table with `columns`, `recordings` at rest by label, and others."""
    root = f"openneuro.org/{name}"
    found = participants(root, list(recordings), columns)
    found[f"{root}/dataset_description.json"] = b'{"Name": "The HBN-EEG Dataset", "BIDSVersion": "1.9.0"}'
    for label, content in recordings.items():
        found |= resting_eeg(root, label, ".set", content, sfreq)
        found[f"{root}/sub-{label}/eeg/sub-{label}_task-DespicableMe_eeg.set"] = b"not wanted"
    return found


def hbn(eeg: bytes = b"") -> dict[str, bytes]:
    """EEG releases on OpenNeuro, raw MRI by site at FCP-INDI. NDARAA and NDARAB have both, NDARAC EEG only, NDARAD MRI only.

    `eeg`: what every recording at rest is, made up by default.
    """
    found, filled = {}, {"ds005505": ["NDARAA", "NDARAC"], "ds005516": ["NDARAB"]}
    for release in HBN_RELEASES:
        labels = filled.get(release, [])
        n = max(len(labels), 1)
        columns = {
            "release_number": ["R1"] * n, "sex": ["M"] * n, "age": ["7.0599"] * n, "ehq_total": ["55.63", "-70", "0"][:n],
            "commercial_use": ["Yes"] * n, "full_pheno": ["Yes"] * n, "p_factor": ["-0.636"] * n,
        }  # fmt: skip
        found |= hbn_release(release, {label: eeg or label.encode() * 50 for label in labels}, columns)
    for site, label in (("Site-RU", "NDARAA"), ("Site-CBIC", "NDARAB"), ("Site-CBIC", "NDARAD")):
        own = scans(f"{INDI}/HBN/MRI/{site}", label, run="_run-1", t_r=0.8)
        bold = next(key for key in own if key.endswith("_bold.nii.gz"))
        found |= own
        found[bold.replace(".nii.gz", ".json")] = b'{"RepetitionTime": 0.8}'
        found[bold.replace("rest_run-1", "movieDM")] = b"not wanted"
        found[f"{INDI}/HBN/MRI/{site}/derivatives/x/sub-{label}/x_T1w.nii.gz"] = b"not wanted"
    return found
