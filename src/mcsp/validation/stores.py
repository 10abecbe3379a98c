"""A simulated cohort at the level of the temporal stores; from there on everything is the production code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from mcsp.atlas import Atlas
from mcsp.cohort import store_path
from mcsp.domains import connectivity, spectra
from mcsp.eeg.segments import cut_segments, preprocess, scale_of
from mcsp.fmri.series import denoise, standard_length
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.simulate import SimulatedSite, SimulateOptions
from mcsp.shards import work_through
from mcsp.simulate.eeg import simulate_eeg
from mcsp.simulate.forward import channel_names, electrodes
from mcsp.simulate.participants import draw_traits, generator
from mcsp.simulate.signals import DT, SETTLE, Traits, alpha_envelopes, bold_response, slow_activity
from mcsp.simulate.truth import describe
from mcsp.store import StoreWriter, write_json, write_table
from mcsp.validation.planted import PERSON, Plan, draw_labels, draw_sites, draw_sizes, plan_effects

DATASET = "simulated"
REGION_NOISE = 0.5  # standard deviation of what a region's mean holds beside BOLD, whose own is 1 in the median region
SPARE = 4.0  # s of EEG beyond what the segments need


def traits_of(uid: str, plan: Plan, sizes: np.ndarray, atlas: Atlas, seed: int) -> Traits:
    """A subject's traits as the simulator draws them, with effects of the given sizes (effects)."""
    own = draw_traits(SimulateOptions(seed=seed), atlas, uid, "")
    order = sorted(set(atlas.networks))
    factor = np.ones(len(order))
    for effect, size in zip(plan.effects, sizes):
        if effect.kind == "network":
            factor[order.index(effect.network)] *= np.exp(size)
    return Traits(own.coupling, own.networks * factor, own.rhythms * factor, sizes)


def simulate_subject(
    number: int, *, plan: Plan, sizes: np.ndarray, atlas: Atlas, fmri: FmriOptions, eeg: EegOptions, n_channels: int, seed: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """((R, frames) fMRI series, its valid frames, (segment, C, sample) EEG) of one subject, as the stores have them.

    Series and EEG go through the stages' own denoising, filters, montage and cutting; there are no confounds to regress.
    """
    uid, site = uid_of(number), SimulatedSite(name="s", t_r=fmri.t_r, sfreq=eeg.sfreq)
    traits = traits_of(uid, plan, sizes[number], atlas, seed)
    seconds = {"fmri": (fmri.n_frames + 2) * fmri.t_r, "eeg": eeg.n_segments * eeg.segment_samples / eeg.sfreq + SPARE}
    alpha = alpha_envelopes(
        generator(seed, uid, "slow"), len(set(atlas.networks)), int((max(seconds.values()) + SETTLE) / DT) + 2
    )
    rng = generator(seed, uid, "fmri")
    activity = slow_activity(rng, atlas.names, atlas.networks, traits, plan.effects, alpha, SimulateOptions().coupling)
    roi = bold_response(activity, seconds["fmri"], fmri.t_r)
    raw = (roi + REGION_NOISE * rng.normal(size=roi.shape)).T
    cleaned, _ = denoise(raw, fmri.t_r, fmri.model_copy(update={"confounds": "none", "fd_threshold": None}), None)
    series, n_valid = standard_length(cleaned, fmri)
    data = simulate_eeg(
        generator(seed, uid, "eeg"), atlas, traits, plan.effects, site, alpha[:, round(SETTLE / DT) :],
        duration=seconds["eeg"], n_channels=n_channels, snr=1.0,
    )  # fmt: skip
    return series, n_valid, segments_of(data, n_channels, eeg)


def segments_of(data: np.ndarray, n_channels: int, options: EegOptions) -> np.ndarray:
    """Segments (S, C, samples) of sensor signals (C, n) in V, divided by the recording's scale, by the EEG stage's steps."""
    names = list(channel_names(n_channels))
    raw = mne.io.RawArray(data, mne.create_info(names, options.sfreq, "eeg"), verbose="error")
    raw.set_montage(mne.channels.make_dig_montage({name: electrodes()[name] for name in names}, coord_frame="head"))
    data = preprocess(raw, options, 50.0)[0]
    segments = cut_segments(data, options.model_copy(update={"peak_to_peak": 1.0}))  # strong rhythms are no artefacts here
    return segments / scale_of(segments)


def uid_of(number: int) -> str:
    """Name of a simulated subject."""
    return f"{DATASET}/sub-{number:04d}"


def cohort_table(labels: dict[str, np.ndarray], sites: np.ndarray) -> pd.DataFrame:
    """Cohort table of the simulated subjects; everybody has both modalities and the label PERSON beside those of the tasks."""
    n = len(sites)
    names = [";".join([PERSON, *(task for task, y in labels.items() if y[i])]) for i in range(n)]
    return pd.DataFrame(
        {
            "uid": [uid_of(i) for i in range(n)],
            "dataset": DATASET,
            "shard": 0,
            "subject": [f"{i:04d}" for i in range(n)],
            "site": np.where(sites, "artefact", "clean"),
            "age": 30.0,
            "sex": None,
            "family": [uid_of(i) for i in range(n)],
            "labels": names,
            "mean_fd": np.nan,
            "t_r": np.nan,
            "sfreq": np.nan,
            "gap_mm": 0.0,
            "fingerprints": [f"simulated{i}" for i in range(n)],
            "has_fmri": True,
            "has_eeg": True,
        }
    )


def write_temporal(folder: Path, rows: list[tuple[np.ndarray, int, np.ndarray]], atlas: Atlas, fmri, eeg) -> None:
    """Write both temporal stores of all subjects in one shard each."""
    meta = {
        "fmri": {
            "units": "standard deviations", "axes": ["roi", "frame"], "t_r": fmri.t_r, **atlas.meta(),
            "options": {"fmri": fmri.model_dump(mode="json")}, "code": "validation",
        },
        "eeg": {
            "units": "V divided by the recording's own scale", "axes": ["segment", "channel", "sample"], "sfreq": eeg.sfreq,
            "montage": eeg.montage, "ch_names": eeg.ch_names, "options": {"eeg": eeg.model_dump(mode="json")},
            "code": "validation",
        },
    }  # fmt: skip
    for modality, place in (("fmri", 0), ("eeg", 2)):
        path = store_path(folder, DATASET, modality, "temporal", 0)
        with StoreWriter(path, rows[0][place].shape, meta[modality]) as writer:
            for number, row in enumerate(rows):
                writer.add(uid_of(number), row[place], row[1] if modality == "fmri" else len(row[2]))


def write_domains(folder: Path, modalities: list[str], dataset: str, conn: ConnectivityOptions, spec: SpectraOptions) -> None:
    """Write the spatial and spectral stores beside the temporal ones, by their own stages."""
    for modality in modalities:
        for stage, domain, options in ((connectivity, "spatial", conn), (spectra, "spectral", spec)):
            stage.run(
                dataset=dataset, modality=modality, temporal=store_path(folder, dataset, modality, "temporal", 0),
                options=options, store=store_path(folder, dataset, modality, domain, 0),
                status=folder / f"{modality}-{domain}.tsv", threads=1,
            )  # fmt: skip


def write_cohort(
    folder: Path, *, snr: float, seed: int, n_subjects: int, n_channels: int, atlas: Atlas, fmri: FmriOptions, eeg: EegOptions,
    conn: ConnectivityOptions, spec: SpectraOptions,
) -> tuple[Path, Path, Path]:  # fmt: skip
    """Simulate a cohort in `folder`; returns (stores, cohort table, truth)."""
    plan, labels = plan_effects(atlas), draw_labels(n_subjects, seed)
    sites = draw_sites(labels["site"], seed)
    sizes = draw_sizes(plan, labels, sites, snr, seed)
    work = partial(simulate_subject, plan=plan, sizes=sizes, atlas=atlas, fmri=fmri, eeg=eeg, n_channels=n_channels, seed=seed)
    outcomes = list(work_through(work, [(uid_of(i), i) for i in range(n_subjects)], threads=1, label="simulating"))
    failed = next((outcome for outcome in outcomes if outcome.state != "done"), None)
    if failed:
        raise RuntimeError(f"{failed.key}: {failed.reason}")
    stores, cohort, truth = folder / "store", folder / "cohort.parquet", folder / "truth.json"
    write_temporal(stores, [outcome.value for outcome in outcomes], atlas, fmri, eeg)
    write_domains(stores, ["fmri", "eeg"], DATASET, conn, spec)
    write_table(cohort_table(labels, sites), cohort)
    effects = [describe(effect, atlas, n_channels) for effect in plan.effects]
    write_json(truth, {"simulated": True, "rois": atlas.names, "networks": atlas.networks, "effects": effects})
    return stores, cohort, truth
