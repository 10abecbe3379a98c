"""Real EEG as a BIDS dataset: what the tests of ingestion, of the EEG stage and of the whole way read."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import mne
import mne_bids
import pandas as pd

LINE_FREQ = 60  # all three recordings were made in North America


def _eegmmidb(path: Path) -> mne.io.BaseRaw:
    raw = mne.io.read_raw_edf(path, preload=False, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    return raw


def _eeglab(path: Path) -> mne.io.BaseRaw:
    raw = mne.io.read_raw_eeglab(path, preload=False, verbose="error")
    raw.set_channel_types({name: "eog" for name in raw.ch_names if name.startswith("EOG")}, verbose="error")
    return raw


def _corrupt(source: Path, root: Path) -> None:
    """Copy the damaged EDF as it is: mne-bids would refuse or mend it. Its sidecar is that of a sound recording."""
    folder = root / "sub-corrupt" / "eeg"
    folder.mkdir(parents=True)
    shutil.copyfile(source / "corrupt" / "S001R01_crlf.edf", folder / "sub-corrupt_task-eyesopen_eeg.edf")
    sidecar = {"TaskName": "eyesopen", "PowerLineFrequency": LINE_FREQ, "SamplingFrequency": 160.0, "EEGReference": "n/a"}
    (folder / "sub-corrupt_task-eyesopen_eeg.json").write_text(json.dumps(sidecar, indent=2))


def write_eeg_bids(source: Path, root: Path) -> Path:
    """Write the recordings of `source` (folder `eeg` of the real recordings) as a BIDS dataset under `root`.

    Subjects: open and closed (one person of EEGMMIDB with eyes open and closed; 64 channels, 160 Hz, EDF), eeglab
    (30 channels and 2 EOG, 128 Hz, .set), corrupt (an EDF in which a transfer turned every LF into CR LF).
    participants.tsv: age, sex, group (made up: open and eeglab 'control', closed and corrupt 'case'). Returns `root`.
    """
    recordings = {
        "open": ("eyesopen", "EDF", _eegmmidb(source / "eegmmidb" / "S001R01.edf")),
        "closed": ("eyesclosed", "EDF", _eegmmidb(source / "eegmmidb" / "S001R02.edf")),
        "eeglab": ("attention", "EEGLAB", _eeglab(source / "eeglab_sample" / "eeglab_data.set")),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mne-bids speaks of conversions and of missing measurement dates
        for subject, (task, form, raw) in recordings.items():
            raw.info["line_freq"] = LINE_FREQ
            where = mne_bids.BIDSPath(subject=subject, task=task, datatype="eeg", root=root)
            mne_bids.write_raw_bids(raw, where, format=form, overwrite=True, verbose="error")
    _corrupt(source, root)
    people = [("open", 30, "M", "control"), ("closed", 30, "M", "case"), ("eeglab", 25, "F", "control")]
    table = pd.DataFrame([*people, ("corrupt", 30, "M", "case")], columns=["participant_id", "age", "sex", "group"])
    table["participant_id"] = "sub-" + table["participant_id"]
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    (root / "participants.json").unlink(missing_ok=True)
    return root
