"""Small datasets on disk, and ingestion of all their shards, for the tests of this folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from mcsp.bids import cohort, ingest
from mcsp.options.eeg import CHANNELS_19
from mcsp.store import read_table, read_tsv


@dataclass
class Ingested:
    """Tables of all shards of one dataset, joined, and where they lie."""

    stems: list[Path]
    subjects: pd.DataFrame
    recordings: pd.DataFrame
    status: pd.DataFrame

    def reason(self, uid: str, stage: str = "ingest") -> str:
        own = self.status[(self.status["uid"] == uid) & (self.status["stage"] == stage)]
        return "; ".join(own["reason"].dropna())

    def state(self, uid: str) -> str:
        return self.status[(self.status["uid"] == uid) & (self.status["stage"] == "ingest")]["state"].item()


def ingest_all(dataset, root: Path, out: Path, name: str = "d", *, raw_too: bool = False) -> Ingested:
    """Ingest every shard of a dataset into `out`/ingest/`name`."""
    stems = [out / "ingest" / name / f"shard-{i:03d}" for i in range(dataset.n_shards)]
    for i, stem in enumerate(stems):
        ingest.run(
            name=name,
            dataset=dataset,
            path=root,
            shard=i,
            raw_too=raw_too,
            subjects=stem.with_name(f"{stem.name}.subjects.parquet"),
            recordings=stem.with_name(f"{stem.name}.recordings.parquet"),
            status=stem.with_name(f"{stem.name}.status.tsv"),
        )
    subjects = pd.concat([read_table(f"{stem}.subjects.parquet") for stem in stems], ignore_index=True)
    recordings = pd.concat([read_table(f"{stem}.recordings.parquet") for stem in stems], ignore_index=True)
    status = pd.concat([read_tsv(f"{stem}.status.tsv") for stem in stems], ignore_index=True)
    return Ingested(stems, subjects, recordings, status)


def make_cohort(parts: list[Ingested], out: Path, status: list[Path] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cohort table and exclusions of ingested datasets, with further status tables."""
    stems = [stem for part in parts for stem in part.stems]
    cohort.run(
        subjects=[Path(f"{stem}.subjects.parquet") for stem in stems],
        recordings=[Path(f"{stem}.recordings.parquet") for stem in stems],
        status=[Path(f"{stem}.status.tsv") for stem in stems] + list(status),
        out=out / "subjects.parquet",
        exclusions=out / "exclusions.tsv",
    )
    return read_table(out / "subjects.parquet"), read_tsv(out / "exclusions.tsv")


def write_bold(
    root: Path, label: str, *, t_r=2.0, header_t_r=2.0, confounds=True, suffix=".nii.gz", seed=0, task="rest", run=None
):
    """Write a tiny preprocessed BOLD run in fMRIPrep's layout; `t_r` None: no sidecar. Returns its path."""
    folder = root / f"sub-{label}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"sub-{label}_task-{task}" + (f"_run-{run}" if run else "")
    data = np.random.default_rng([seed, *label.encode(), run or 0]).normal(size=(3, 3, 3, 8)).astype(np.float32)
    image = nib.Nifti1Image(data, np.eye(4))
    image.header.set_zooms((1, 1, 1, header_t_r))
    if header_t_r != 1:
        image.header.set_xyzt_units("mm", "sec")
    path = folder / f"{stem}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold{suffix}"
    image.to_filename(path)
    nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)).to_filename(
        folder / f"{stem}_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz"
    )
    if t_r is not None:
        path.with_name(path.name.replace(suffix, ".json")).write_text(json.dumps({"RepetitionTime": t_r}))
    if confounds:
        table = pd.DataFrame({"trans_x": np.zeros(8), "framewise_displacement": [np.nan, *[0.1 * (seed + 1)] * 7]})
        table.to_csv(folder / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False, na_rep="n/a")
    return path


def write_brainvision(root: Path, label: str, names=CHANNELS_19, *, seconds=10.0, sfreq=200.0) -> Path:
    """Write a BrainVision recording of noise (SD 20 uV) as a BIDS dataset has it. Returns its header's path."""
    path = root / f"sub-{label}" / "eeg" / f"sub-{label}_task-rest_eeg.vhdr"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = 20 * np.random.default_rng([0, *label.encode()]).normal(size=(int(seconds * sfreq), len(names)))
    path.with_suffix(".eeg").write_bytes(data.astype("<f4").tobytes())
    path.with_suffix(".vmrk").write_text("Brain Vision Data Exchange Marker File, Version 1.0\n\n[Marker Infos]\n")
    sections = {
        "Common Infos": [
            f"DataFile={path.stem}.eeg", f"MarkerFile={path.stem}.vmrk", "DataFormat=BINARY", "DataOrientation=MULTIPLEXED",
            f"NumberOfChannels={len(names)}", f"SamplingInterval={1e6 / sfreq}",
        ],
        "Binary Infos": ["BinaryFormat=IEEE_FLOAT_32"],
        "Channel Infos": [f"Ch{i + 1}={name},,1,µV" for i, name in enumerate(names)],
    }  # fmt: skip
    text = "".join(f"\n[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())
    path.write_text(f"Brain Vision Data Exchange Header File Version 1.0\n{text}", encoding="utf-8")
    return path


def write_participants(root: Path, **columns) -> Path:
    """Write participants.tsv."""
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(root / "participants.tsv", sep="\t", index=False)
    return root / "participants.tsv"
