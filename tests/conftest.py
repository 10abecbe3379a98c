"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsp.atlas import run as write_atlas
from mcsp.cohort import store_path
from mcsp.options.atlas import AtlasOptions
from mcsp.options.domains import ConnectivityOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.store import Store, StoreWriter, write_table, write_tsv

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MCSP_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}: set MCSP_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def atlas_table(tmp_path_factory) -> Path:
    """The built-in atlas on disk."""
    out = tmp_path_factory.mktemp("atlas") / "atlas.tsv"
    write_atlas(options=AtlasOptions(), out=out)
    return out


@dataclass
class StoredStudy:
    """Paths of a small simulated study, as it lies on disk after the stages that write stores."""

    root: Path
    stores: Path
    cohort: Path
    atlas: Path
    n_rois: int = 12
    n_frames: int = 48
    ch_names: tuple[str, ...] = ("Fz", "Cz", "Pz", "Oz")
    n_segments: int = 10
    segment_samples: int = 40


def lose_region(stores: Path, uids: set[str], region: int) -> None:
    """Make a region of these subjects lie outside of their field of view, in all fMRI stores."""
    for path in stores.glob("*/fmri/*/*.arrow"):
        store, domain = Store(path), path.parts[-2]
        rows = [(uid, np.array(store.row(i)), store.n_valid[i]) for i, uid in enumerate(store.uids)]
        with StoreWriter(path, store.shape, store.meta) as writer:
            for uid, row, n in rows:
                if uid in uids:
                    row[region] = 0 if domain == "temporal" else np.nan
                if uid in uids and domain == "spatial":
                    row[:, region], row[region, region] = np.nan, 0
                writer.add(uid, row, n, lacks=True)


def write_stored_study(root: Path, *, n_per_group: int = 12, seed: int = 0, effect: float = 1.0) -> StoredStudy:
    """Write stores, cohort table and atlas of a simulated study: 3 datasets (both, fMRI only, EEG only), 2 sites each,
    half ASD, half control. ASD: FC of ROIs 0-1 and the amplitude at 10 Hz of channel Pz are raised by `effect`.
    A latent number per subject sets both modalities, so that they can be told to belong together.
    """
    study = StoredStudy(root, root / "store", root / "cohort.parquet", root / "atlas" / "atlas.tsv")
    rng = np.random.default_rng(seed)
    rows = []
    networks = ["visual", "default", "motor"]
    coordinates = np.round(rng.uniform(-50, 50, (study.n_rois, 3)), 1)
    names = [f"roi{i}" for i in range(study.n_rois)]
    table = pd.DataFrame(coordinates, columns=["x", "y", "z"])
    table.insert(0, "network", [networks[i % 3] for i in range(study.n_rois)])
    table.insert(0, "name", names)
    table.insert(0, "index", range(1, study.n_rois + 1))
    write_tsv(table, study.atlas, {c: c for c in table.columns})
    domain_options = {"connectivity": ConnectivityOptions().model_dump(mode="json"), "spectra": {"detrend": True}}
    fmri_meta = {
        "options": {"fmri": FmriOptions(n_frames=study.n_frames, min_frames=20).model_dump(mode="json"), **domain_options},
        "units": "z",
        "t_r": 2.0,
        "names": names,
        "networks": list(table["network"]),
        "coordinates": coordinates.tolist(),
        "code": "test",
    }
    eeg_options = EegOptions(
        sfreq=50.0, ch_names=list(study.ch_names), n_segments=study.n_segments, segment_samples=study.segment_samples
    )
    eeg_meta = {
        "options": {"eeg": eeg_options.model_dump(mode="json"), **domain_options},
        "units": "scaled",
        "sfreq": 50.0,
        "ch_names": list(study.ch_names),
        "montage": "standard_1020",
        "code": "test",
    }
    bands = ["delta", "theta", "alpha", "beta"]
    n_freqs_fmri, n_freqs_eeg, c = study.n_frames // 2 + 1, study.segment_samples // 2 + 1, len(study.ch_names)
    shapes = {
        ("fmri", "temporal"): ((study.n_rois, study.n_frames), {**fmri_meta, "axes": ["roi", "frame"]}),
        ("fmri", "spatial"): ((study.n_rois, study.n_rois), {**fmri_meta, "axes": ["roi", "roi"], "units": "Fisher z"}),
        ("fmri", "spectral"): (
            (study.n_rois, n_freqs_fmri),
            {**fmri_meta, "axes": ["roi", "frequency"], "freqs": np.fft.rfftfreq(study.n_frames, 2.0).tolist()},
        ),
        ("eeg", "temporal"): (
            (study.n_segments, c, study.segment_samples),
            {**eeg_meta, "axes": ["segment", "channel", "sample"]},
        ),
        ("eeg", "spatial"): ((4, c, c), {**eeg_meta, "axes": ["band", "channel", "channel"], "bands": bands}),
        ("eeg", "spectral"): (
            (study.n_segments, c, n_freqs_eeg),
            {
                **eeg_meta,
                "axes": ["segment", "channel", "frequency"],
                "freqs": np.fft.rfftfreq(study.segment_samples, 1 / 50).tolist(),
            },
        ),
    }
    for dataset, has in {"both": ("fmri", "eeg"), "mri": ("fmri",), "cap": ("eeg",)}.items():
        data: dict[tuple[str, str], list] = {key: [] for key in shapes}
        for number in range(2 * n_per_group):
            uid, case, latent = f"{dataset}/sub-{number:03d}", number % 2, rng.normal()
            rows.append(
                {
                    "uid": uid,
                    "dataset": dataset,
                    "shard": 0,
                    "subject": f"{number:03d}",
                    "site": f"{dataset}{number // 2 % 2}",
                    "age": float(rng.uniform(8, 40)),
                    "sex": "MF"[number // 4 % 2],
                    "family": uid,
                    "labels": "ASD" if case else "control",
                    "mean_fd": float(rng.uniform(0.05, 0.3)),
                    "t_r": (2.0, 2.5)[number // 2 % 2] if "fmri" in has else np.nan,
                    "sfreq": 250.0 if "eeg" in has else np.nan,
                    "gap_mm": 10.0 * (number % 3) if "eeg" in has else np.nan,
                    "fingerprints": f"{dataset}{number}",
                    "has_fmri": "fmri" in has,
                    "has_eeg": "eeg" in has,
                }
            )
            if "fmri" in has:
                x = rng.normal(size=(study.n_rois, study.n_frames))
                x[3:6] += latent * rng.normal(size=study.n_frames)
                shared = rng.normal(size=study.n_frames)
                x[:2] += (0.2 + effect * case) * shared
                x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
                r = np.corrcoef(x)
                np.fill_diagonal(r, 0)
                data["fmri", "temporal"].append((uid, x, study.n_frames))
                data["fmri", "spatial"].append((uid, np.arctanh(r), study.n_frames))
                data["fmri", "spectral"].append((uid, np.abs(np.fft.rfft(x)) / study.n_frames, study.n_frames))
            if "eeg" in has:
                y = rng.normal(size=(study.n_segments, c, study.segment_samples))
                t = np.arange(study.segment_samples) / 50
                y[:, 0] += (1 + 0.5 * latent) * np.sin(2 * np.pi * 5 * t + rng.uniform(0, 6.28, (study.n_segments, 1)))
                y[:, 2] += (0.3 + effect * case) * np.sin(2 * np.pi * 10 * t + rng.uniform(0, 6.28, (study.n_segments, 1)))
                flat = np.corrcoef(y.transpose(1, 0, 2).reshape(c, -1))
                np.fill_diagonal(flat, 0)
                data["eeg", "temporal"].append((uid, y, study.n_segments))
                data["eeg", "spatial"].append((uid, np.repeat(np.arctanh(flat)[None], 4, 0), study.n_segments))
                data["eeg", "spectral"].append((uid, np.abs(np.fft.rfft(y)) / study.segment_samples, study.n_segments))
        for (modality, domain), items in data.items():
            if modality in has:
                shape, meta = shapes[modality, domain]
                with StoreWriter(store_path(study.stores, dataset, modality, domain, 0), shape, meta) as writer:
                    for item in items:
                        writer.add(*item)
    write_table(pd.DataFrame(rows), study.cohort)
    return study


@pytest.fixture
def stored_study(tmp_path: Path) -> StoredStudy:
    """A small simulated study on disk, with a strong planted effect."""
    return write_stored_study(tmp_path)
