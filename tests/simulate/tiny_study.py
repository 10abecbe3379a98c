"""A tiny simulated study with strong effects."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcsp.options.simulate import SimulatedDataset, SimulateOptions
from mcsp.simulate.stage import run

DATASET = SimulatedDataset.model_validate(
    {
        "kind": "simulate",
        "n_subjects": 12,
        "modalities": ["fmri", "eeg"],
        "groups": {"control": 0.5, "ASD": 0.25, "ADHD+ASD": 0.25},
        "sites": [
            {"name": "north", "t_r": 2.0, "sfreq": 250, "line_freq": 50},
            {"name": "south", "t_r": 2.5, "sfreq": 200, "line_freq": 60, "gain": 1.5},
        ],
        "fmri_duration": 240,
        "eeg_duration": 40,
        "voxel_size": 8,
        "defects": {"truncated_bold": 1, "short_eeg": 1, "nan_eeg": 1},
    }
)
OPTIONS = SimulateOptions.model_validate(
    {
        "seed": 3,
        "subject_sd": 0.1,
        "effects": [
            {"kind": "edge", "disorder": "ASD", "networks": ["default", "occipital"], "size": 3.0},
            {"kind": "band", "disorder": "ASD", "band": "beta", "position": "P4", "size": 3.0},
            {"kind": "amplitude", "disorder": "ADHD", "network": "sensorimotor", "size": 2.0},
        ],
    }
)


@dataclass
class Simulated:
    """Where the study lies, and its tables."""

    root: Path
    atlas: Path
    manifest: Path
    participants: pd.DataFrame
    truth: pd.DataFrame


def simulate(folder: Path, atlas: Path, *, dataset=DATASET, options=OPTIONS, threads: int = 1) -> Simulated:
    """Write a dataset named 'sim' in `folder`."""
    run(
        name="sim",
        dataset=dataset,
        options=options,
        atlas=atlas,
        out=folder / "sim",
        manifest=folder / "m.tsv",
        threads=threads,
    )
    tables = [
        pd.read_csv(folder / "sim" / name, sep="\t", na_values=["n/a"], keep_default_na=False)
        for name in ("participants.tsv", "derivatives/truth/subjects.tsv")
    ]
    return Simulated(folder / "sim", atlas, folder / "m.tsv", tables[0].set_index("participant_id"), tables[1])
