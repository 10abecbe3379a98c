"""The four cohorts as their buckets and packages have them, filled with simulated recordings that the workflow can use.

Small on purpose: heads of 2 mm with BOLD of 8 mm and 90 s, 20 s of EEG. Cases have a raised coupling of the
first third of regions and a raised rhythm of 10 Hz, so that something is there to be found.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import mne
import numpy as np
import pandas as pd

from mcsp.atlas import Atlas, load_atlas
from mcsp.atlas import run as write_atlas
from mcsp.montage import hydrocel_places, template_montage
from mcsp.options.atlas import AtlasOptions
from mcsp.options.eeg import CHANNELS_19
from mcsp.simulate.bold import write_bold
from mcsp.simulate.raw import bold_run, draw_head, slice_times, t1w_volume
from mcsp.simulate.signals import motion_parameters
from tests.eeg.nets import NET_128
from tests.fetch.mirrors import (
    HBN_RELEASES,
    INDI,
    hbn_release,
    image,
    nda_file,
    nda_tables,
    participants,
    resting_eeg,
    scan_keys,
    table,
)

DT, SECONDS, VOXEL_MM = 0.5, 90.0, 8.0
EEG_SECONDS = 20.0
_ATLAS = TemporaryDirectory(prefix="mcsp-mirror-")  # the atlas's image is read from it; it goes when Python ends
Person = tuple[str, str, bool]  # site, label, case


@cache
def atlas() -> Atlas:
    """The built-in atlas."""
    path = Path(_ATLAS.name, "atlas.tsv")
    write_atlas(options=AtlasOptions(), out=path)
    return load_atlas(path)


def seed_of(text: str) -> np.random.Generator:
    """A generator of somebody's own."""
    return np.random.default_rng([ord(letter) for letter in text])


def regional(rng: np.random.Generator, case: bool, n: int, n_regions: int) -> np.ndarray:
    """Slow noise (R, n) of unit variance; in cases a third of the regions share some of it."""
    kernel = np.hanning(17)
    noise = np.stack([np.convolve(row, kernel, "same") for row in rng.normal(size=(n_regions + 1, n))])
    own, shared = noise[1:], noise[0]
    own[: n_regions // 3] += (1.5 if case else 0.3) * shared
    return own / own.std(axis=1, keepdims=True)


def raw_scans(label: str, case: bool, t_r: float) -> tuple[bytes, bytes, list[float]]:
    """(T1w, BOLD, slice times) of a head of its own, as compressed NIfTI."""
    rng = seed_of(label)
    n_frames, head = int(SECONDS / t_r), draw_head(rng)
    roi = regional(rng, case, int(SECONDS / DT) + 10, len(atlas().index))
    motion = motion_parameters(rng, n_frames, t_r)
    bold = bold_run(rng, head, roi, DT, atlas(), motion, t_r=t_r, voxel_size=VOXEL_MM)
    images = (t1w_volume(rng, head), bold)
    t1w, run = (gzip.compress(picture.to_bytes(), compresslevel=1, mtime=0) for picture in images)
    return t1w, run, slice_times(bold.shape[2], t_r).tolist()


def preprocessed_scans(folder: Path, stem: str, case: bool, t_r: float) -> None:
    """The same person's BOLD as fMRIPrep would leave it, with mask and confounds, in `folder`."""
    rng = seed_of(stem)
    roi = regional(rng, case, int(SECONDS / t_r), len(atlas().index))
    write_bold(folder, stem, rng, roi, atlas(), t_r=t_r, voxel_size=10.0, gain=1.0, noise=1.0)


def eeg(label: str, case: bool, sfreq: float, *, net: bool = True) -> mne.io.RawArray:
    """Twenty seconds of the HydroCel net of 128 and Cz, or of 19 channels named by 10-20."""
    rng, n = seed_of(label), int(EEG_SECONDS * sfreq)
    places = hydrocel_places("standard_1020") if net else template_montage("standard_1020").get_positions()["ch_pos"]
    places = {name: places[name] for name in (NET_128 if net else CHANNELS_19)}
    there = np.array(list(places.values()))
    there /= np.linalg.norm(there, axis=1, keepdims=True)
    freqs = np.fft.rfftfreq(n, 1 / sfreq)
    waves = rng.normal(size=(6, len(freqs))) + 1j * rng.normal(size=(6, len(freqs)))
    waves *= 1 / np.sqrt(np.maximum(freqs, 0.5)) + (2.0 if case else 1.0) * np.exp(-((freqs - 10) ** 2))
    waves[:, 0] = 0
    sources = np.fft.irfft(waves, n)
    data = there @ rng.normal(size=(3, 6)) @ (sources / sources.std()) * 1e-5 + 2e-6 * rng.normal(size=(len(there), n))
    raw = mne.io.RawArray(data, mne.create_info(list(places), sfreq, "eeg"), verbose="error")
    return raw.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))


def exported(raw: mne.io.RawArray, suffix: str) -> bytes:
    """A recording as one file: .set, .edf or .bdf."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        mne.export.export_raw(path, raw, verbose="error")
        return path.read_bytes()


class Scanner(Protocol):
    """Makes a person's T1w and resting BOLD below `folder`: keys and content."""

    def __call__(
        self, folder: str, person: tuple[str, bool], *, session: str = "", task: str = "rest", t_r: float = 2.0
    ) -> dict[str, bytes]: ...


def heads(
    folder: str, person: tuple[str, bool], *, session: str = "", task: str = "rest", t_r: float = 2.0
) -> dict[str, bytes]:
    """Whole heads, for the embedded route."""
    anat, func = scan_keys(folder, person[0], session, task)
    t1w, bold, times = raw_scans(*person, t_r)
    told = {"RepetitionTime": t_r, "TaskName": task, "SliceTiming": times}
    return {f"{anat}_T1w.nii.gz": t1w, f"{func}_bold.nii.gz": bold, f"{func}_bold.json": json.dumps(told).encode()}


# What a container is started with, as far as the stand-in reads it: -B <derivatives>:/out ... --participant-label <label>
STAND_IN = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1 $2" in
        "-B "*:/out) out="${2%:/out}" ;;
        "--participant-label "*) label="$2" ;;
    esac
    shift
done
cp -r "$(dirname "$0")/sub-$label" "$out/"
"""


class Container:
    """A stand-in for fMRIPrep's container, and the scanner that goes with it: raw images are noise of a few voxels, and `run`
    (the container's engine) copies ready derivatives of the same person. Options of the study that name it: `options`.
    """

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "run").write_text(STAND_IN, encoding="utf-8")
        (root / "run").chmod(0o755)
        for name in ("licence.txt", "image.sif"):
            (root / name).write_text("none is needed")

    @property
    def options(self) -> dict[str, str]:
        """What the study says of fMRIPrep."""
        files = {"fs_license": "licence.txt", "image": "image.sif", "executable": "run"}
        return {"container": "apptainer", **{key: str(self.root / name) for key, name in files.items()}}

    def __call__(
        self, folder: str, person: tuple[str, bool], *, session: str = "", task: str = "rest", t_r: float = 2.0
    ) -> dict[str, bytes]:
        label, case = person
        anat, func = scan_keys(folder, label, session, task)
        own = self.root / f"sub-{label}" / session / "func"
        stem = func.rsplit("/", 1)[1]
        if not own.is_dir():
            preprocessed_scans(own, stem, case, t_r)
        told = json.dumps({"RepetitionTime": t_r, "TaskName": task}).encode()
        return {
            f"{anat}_T1w.nii.gz": image((6, 6, 6)),
            f"{func}_bold.nii.gz": image((4, 4, 4, int(SECONDS / t_r)), t_r),
            f"{func}_bold.json": told,
        }


def ages(n: int) -> list[str]:
    """Ages in years, the same on every call."""
    return [f"{age:.1f}" for age in np.random.default_rng(n).uniform(8, 20, n)]


def abide(scan: Scanner, n: int = 12, n_two: int = 8) -> dict[str, bytes]:
    """ABIDE I (two sites) and II (a site, and a longitudinal collection that scanned the first of ABIDE I again)."""
    one, two = f"{INDI}/ABIDE/RawDataBIDS", f"{INDI}/ABIDE2/RawData"
    people: list[Person] = [(("NYU", "UM_1")[i // 2 % 2], str(50950 + i), i % 2 == 0) for i in range(n)]
    columns = {
        "SUB_ID": [label for _, label, _ in people], "SITE_ID": [site for site, _, _ in people],
        "DX_GROUP": [str(2 - case) for *_, case in people], "DSM_IV_TR": [str(int(case)) for *_, case in people],
        "AGE_AT_SCAN": ages(n), "SEX": [str(1 + i // 2 % 2) for i in range(n)], "HANDEDNESS_CATEGORY": ["R"] * n,
        "FIQ": ["110.0"] * (n - 1) + ["-9999.0"], "CURRENT_MED_STATUS": ["0"] * n,
    }  # fmt: skip
    found = {f"{INDI}/ABIDE_Initiative/Phenotypic_V1_0b_preprocessed1.csv": table(",", **columns)}
    for site, label, case in people:
        found |= scan(f"{one}/{site}", (f"00{label}", case))
        found[f"{one}/{site}/T1w.json"] = json.dumps({"Manufacturer": site}).encode()
        found[f"{one}/{site}/derivatives/x/sub-00{label}/x_T1w.nii.gz"] = b"not wanted"
    second: list[Person] = [("ABIDEII-NYU_1", str(29177 + i), i % 2 == 0) for i in range(n_two)]
    second.append(("ABIDEII-UCLA_Long", people[0][1], people[0][2]))
    for site, label, case in second:
        session = "ses-baseline" if site.endswith("Long") else "ses-1"
        found |= scan(f"{two}/{site}", (label, case), session=session)
        own = [who for who in second if who[0] == site]
        found[f"{two}/{site}/participants.tsv"] = table(
            "\t", participant_id=[label for _, label, _ in own], site_id=[site] * len(own),
            dx_group=[str(2 - case) for *_, case in own], fiq=["100"] * len(own), sex=["1"] * len(own),
            **{"age_at_scan ": ages(len(own))},
        )  # fmt: skip
    return found


def adhd200(scan: Scanner) -> dict[str, bytes]:
    """Five sites: codes in tables beside the sites, words in the sites' own; a test set that came with `pending`; WashU's
    names of tasks; Brown without a diagnosis.
    """
    root = f"{INDI}/ADHD200/RawDataBIDS"
    people: list[Person] = [
        ("KKI", "1018959", False), ("KKI", "1019436", True), ("NYU", "0010001", True), ("NYU", "0010002", False),
        ("OHSU", "2054438", True), ("Peking_2", "1050975", False), ("Peking_2", "1050976", True), ("Peking_2", "1050977", True),
        ("WashU", "0015026", False), ("WashU", "0015027", False), ("Brown", "0026001", False),
    ]  # fmt: skip
    found = {}
    for site, label, case in people:
        task, t_r = "reststudy3" if site == "WashU" else "rest", 2.5 if site in ("KKI", "OHSU", "WashU") else 2.0
        found |= scan(f"{root}/{site}", (label, case), session="ses-1", task=task, t_r=t_r)
    for code, site in (("3", "KKI"), ("5", "NYU"), ("8", "WashU")):
        own = [who for who in people if who[0] == site]
        found[f"{root}/{site}_phenotypic.csv"] = table(
            ",", **{"ScanDir ID": [str(int(label)) for _, label, _ in own], "Full4 IQ": ["103"] * len(own),
            "Med Status": ["1"] * len(own)}, Site=[code] * len(own), Gender=["0", "1"][: len(own)], Age=ages(len(own)),
            Handedness=["1"] * len(own), DX=["3" if case else "0" for *_, case in own],
        )  # fmt: skip
    pending = {"ScanDir ID": ["2054438"], "Site": ["6"], "Gender": ["0"], "Age": ["8.9"], "DX": ["pending"]}
    found[f"{root}/OHSU_TestRelease_phenotypic.csv"] = table(",", **pending)
    for site in ("OHSU", "Peking_2", "Brown"):
        own = [who for who in people if who[0] == site]
        words = ["ADHD-Combined" if case else "Typically Developing Children" for *_, case in own]
        told = {} if site == "Brown" else {"dx": words}
        found[f"{root}/{site}/participants.tsv"] = table(
            "\t",
            participant_id=[label for _, label, _ in own],
            gender=["Female", "Male", "Male"][: len(own)],
            age=ages(len(own)),
            **told,
        )
    return found


HBN_SITES = {"Site-SI": 1.45, "Site-RU": 0.8}  # repetition times in s
HBN_DIAGNOSES = {
    "ADHD": "ADHD-Combined Type",
    "ASD": "Autism Spectrum Disorder",
    "MDD": "Major Depressive Disorder",
    "none": "No Diagnosis Given",
}


def hbn_people(n: int) -> list[tuple[str, str]]:
    """(label, what the first consensus diagnosis is) of `n` children."""
    names = list(HBN_DIAGNOSES)
    return [(f"NDARAA{i:03d}XYZ", names[i % 4]) for i in range(n)]


def hbn(scan: Scanner, n: int = 24, n_mri: int = 16, *, sfreq: float = 500.0) -> dict[str, bytes]:
    """Two releases with EEG of `n` children, the other nine empty, and MRI of the first `n_mri` at two sites."""
    found, people = {}, hbn_people(n)
    for number, release in enumerate(HBN_RELEASES):
        own = people[number::2] if number < 2 else []
        recordings = {label: exported(eeg(label, diagnosis != "none", sfreq), ".set") for label, diagnosis in own}
        size = max(len(own), 1)
        columns = {"sex": ["M"] * size, "age": ages(size), "ehq_total": ["55.6"] * size}
        found |= hbn_release(release, recordings, columns, sfreq)
    for i, (label, diagnosis) in enumerate(people[:n_mri]):
        site = list(HBN_SITES)[i // 4 % 2]
        folder = f"{INDI}/HBN/MRI/{site}"
        found |= scan(folder, (label, diagnosis != "none"), t_r=HBN_SITES[site])
        found[f"{folder}/sub-{label}/func/sub-{label}_task-movieDM_bold.nii.gz"] = b"not wanted"
    return found


def hbn_100hz(scan: Scanner | None = None, n: int = 24) -> dict[str, bytes]:
    """The same children's EEG as BDF at 100 Hz: two releases, the other nine empty. There is nothing to scan."""
    found, people = {}, hbn_people(n)
    for number in range(1, 12):
        own = people[number - 1 :: 2] if number < 3 else []
        root = f"nmdatasets/NeurIPS25/R{number}_L100_bdf"
        size = max(len(own), 1)
        found |= participants(root, [label for label, _ in own], {"sex": ["M"] * size, "ehq_total": ["55.6"] * size})
        for label, diagnosis in own:
            found |= resting_eeg(root, label, ".bdf", exported(eeg(label, diagnosis != "none", 100.0), ".bdf"), 100.0)
            stem = f"{root}/sub-{label}/eeg/sub-{label}_task-RestingState_"
            found[f"{stem}eeg_channels.tsv"] = found[f"{stem}channels.tsv"]  # seen beside the BDF files
    return found


def hbn_tables(place: Path, n: int = 24) -> None:
    """The instruments that a user downloads from LORIS under an agreement, in `place`."""
    place.mkdir(parents=True, exist_ok=True)
    people = hbn_people(n)
    ids = ["", *(f"{label},assessment" for label, _ in people)]
    dx, instrument = [HBN_DIAGNOSES[name] for _, name in people], "Diagnosis_ClinicianConsensus,DX"
    comorbid = ["Enuresis" if i % 5 == 1 and name != "none" else "" for i, (_, name) in enumerate(people)]
    columns = {"Identifiers": ids, f"{instrument}_01": ["Diagnosis 01", *dx], f"{instrument}_02": ["Diagnosis 02", *comorbid]}
    pd.DataFrame(columns).to_csv(place / "Diagnosis_ClinicianConsensus.csv", index=False)
    about = {"Basic_Demos,Sex": ["0= Male", *(str(i // 4 % 2) for i in range(n))], "Basic_Demos,Age": ["", *ages(n)]}
    sites = {"Basic_Demos,Study_Site": ["", *("13"[i // 8 % 2] for i in range(n))]}
    pd.DataFrame({"Identifiers": ids, **about, **sites}).to_csv(place / "Basic_Demos.csv", index=False)


def embarc_package(root: Path, scan: Scanner, n: int = 16, n_mri: int = 12) -> None:
    """A package of the archive: `n` people of two sites, all with EEG, the first `n_mri` with MRI."""
    ids = [f"{('CU', 'TX')[i // 2 % 2]}{i:04d}" for i in range(n)]
    cases = [i % 2 == 0 for i in range(n)]
    people = {
        "src_subject_id": ids, "interview_age": [f"{12 * float(age) + 200:.0f}" for age in ages(n)],
        "sex": [("F", "M")[i // 2 % 2] for i in range(n)], "site": [label[:2] for label in ids], "ca243": ["1"] * n,
        "phenotype": ["MDD" if case else "Healthy control" for case in cases],
    }  # fmt: skip
    images = []
    for label, case in zip(ids[:n_mri], cases):
        own = {key.rsplit("_", 1)[1]: content for key, content in scan("", (label, case), session="ses-Baseline").items()}
        rest = nda_file(root, f"{label}/rest/scan.nii.gz", own["bold.nii.gz"])
        images += [
            (label, "MR structural (MPRAGE)", "MPRAGE", "", nda_file(root, f"{label}/T1.nii.gz", own["T1w.nii.gz"])),
            (label, "fMRI", "resting state 1", "2", rest),
            (label, "fMRI", "reward task", "2", nda_file(root, f"{label}/reward/scan.nii.gz", b"not wanted")),
        ]
    nets = [exported(eeg(label, case, 250.0, net=False), ".edf") for label, case in zip(ids, cases)]
    files = [nda_file(root, f"{label}/rest_ec.edf", net) for label, net in zip(ids, nets)]
    nda_tables(root, people, images, files)
