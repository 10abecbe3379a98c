"""Real recordings, untouched, with labels made from a feature that is known: the map must find that feature.

Three checks. `run_network`: people are split at the median of one network's mean FC; the map must find that network's edges.
`run_eyes`: segments of one person with eyes open or closed; the map must find occipital alpha. `run_alpha`: segments of one
person, split within each recording at the median of their own occipital alpha power; the map must find it. The latter two are
classifiers within one subject, made for these checks only: their segments are not independent, so their intervals are too
narrow and their AUROC says nothing about people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mcsp.cohort import domain_meta, read_domain, store_path
from mcsp.eeg.read import read_eeg
from mcsp.eeg.segments import cut_segments, preprocess, scale_of
from mcsp.errors import Exclusion, McspError
from mcsp.explain.raw import raw_features
from mcsp.explain.summaries import known_mean, names_of
from mcsp.model.batch import Key
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.results import ExplainOptions
from mcsp.options.training import FinetuneOptions, ModelOptions, PretrainOptions
from mcsp.options.validation import ValidationOptions
from mcsp.store import StoreWriter, read_table, write_table
from mcsp.validation.planted import PERSON
from mcsp.validation.run import Run, StageOptions, answer_rows, planted_rows
from mcsp.validation.stores import write_domains
from mcsp.validation.verdicts import write_tables

KNOWN = "known"  # the label that is made here
GROUP = 3  # segments of EEG that are one unit of the within-subject check
BLOCK = 4  # neighbouring units that are never split over folds
OCCIPITAL, RHYTHM = ("O1", "O2"), "alpha"
LINE_FREQ = 60.0  # Hz, of the recordings that the check was made on; above the pass band in any case

Targets = dict[Key, dict[str, np.ndarray]]


def check(run: Run, targets: Targets, out: Path) -> pd.DataFrame:
    """Train on the known label, explain, and write the tables; returns the verdicts. There is no other target to ask for."""
    model = run.classifier(KNOWN)
    maps = run.maps(model, run.subjects)
    scores = pd.DataFrame(planted_rows(run, KNOWN, model, maps, targets))
    answers = answer_rows(run, KNOWN, model)
    return write_tables(
        scores.assign(snr=1.0, seed=run.seed), answers.assign(snr=1.0, seed=run.seed), run.validation.n_bootstrap, out
    )


def median_split(values: pd.Series, groups: pd.Series | None = None) -> pd.Series:
    """Labels of the subjects, PERSON for all and KNOWN beside it for those above the median (each group's own)."""
    median = values.median() if groups is None else values.groupby(groups).transform("median")
    return pd.Series(np.where(values > median, f"{KNOWN};{PERSON}", PERSON), index=values.index)


def network_targets(metas: dict[Key, dict], network: str) -> Targets:
    """Where the map must be: the network's own edges, and its regions, in the domains that hold FC."""
    found: Targets = {}
    for key, meta in metas.items():
        if key not in (("fmri", "spatial"), ("fmri", "temporal")):
            continue
        own = {name for name, of in zip(meta["names"], meta["networks"]) if str(of) == network}
        names = names_of(*key, meta)
        found[key] = {"roi": np.array([name in own for name in names["roi"]])}
        if "edge" in names:
            found[key]["edge"] = np.array([set(name.split("|")) <= own for name in names["edge"]])
    return found


def network_strength(stores: Path, cohort: pd.DataFrame, network: str) -> pd.Series:
    """Mean Fisher z of the edges inside a network, by uid, of those who have any of them. Raises McspError when the atlas has
    no such network.
    """
    meta = domain_meta(stores, cohort, "fmri", "spatial")
    own = np.flatnonzero([str(name) == network for name in meta["networks"]])
    if len(own) < 2:
        known = ", ".join(sorted({str(n) for n in meta["networks"]}))
        raise McspError(f"no network {network} of two regions or more in this study: it has {known}")
    upper = np.triu_indices(len(own), 1)
    rows = read_domain(stores, cohort, "fmri", "spatial", lambda row: float(known_mean(row[np.ix_(own, own)][upper])))
    return pd.Series(rows).dropna()


def run_network(
    *,
    stores: Path,
    cohort: Path,
    network: str,
    options: StageOptions,
    validation: ValidationOptions,
    n_subjects: int,
    out: Path,
) -> None:
    """Write verdicts on the maps of classifiers that learnt who has strong FC inside `network`, in a study's real subjects."""
    torch.set_num_threads(1)
    table = read_table(cohort)
    table = table[table["has_fmri"]].sample(frac=1, random_state=0).head(n_subjects).sort_values("uid")
    labels = median_split(network_strength(stores, table, network))
    table = table[table["uid"].isin(labels.index)]
    table = table.assign(labels=table["uid"].map(labels), has_eeg=False).reset_index(drop=True)
    model = options.pretrain.model.model_copy(update={"modalities": ["fmri"]})
    options = options.model_copy(update={"pretrain": options.pretrain.model_copy(update={"model": model})})
    with tempfile.TemporaryDirectory(prefix="mcsp-validation-") as place:
        folder = Path(place)
        write_table(table, folder / "cohort.parquet")
        run = Run(folder, stores, folder / "cohort.parquet", 0, options, validation)
        check(run, network_targets(run.metas, network), out)


def units_of(path: Path, options: EegOptions) -> list[np.ndarray]:
    """Units (GROUP, C, samples) of one recording, in time's order, by the EEG stage's steps; not scaled."""
    data, _ = preprocess(read_eeg(path, None, options.montage, 600.0), options, LINE_FREQ)
    n = data.shape[1] // options.segment_samples
    kept = 0
    for count in range(n, 0, -1):  # as many clean segments as there are
        try:
            segments = cut_segments(data, options.model_copy(update={"n_segments": count}))
        except Exclusion:
            continue
        kept = count
        break
    if kept < 4 * GROUP:
        raise McspError(f"{path}: {kept} clean segments: {4 * GROUP} are needed")
    return [segments[i : i + GROUP] for i in range(0, kept - GROUP + 1, GROUP)]


def scaled_units(units: dict[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """Units of a person's recordings, all divided by one scale, as the person stands for one recording here. A scale for each
    would turn more alpha in the one into less of every other band, which then told the recordings apart as well.
    """
    scale = scale_of(np.concatenate([unit for own in units.values() for unit in own]))
    return {name: [unit / scale for unit in own] for name, own in units.items()}


def segments_cohort(counts: dict[str, int]) -> pd.DataFrame:
    """Cohort table in which a unit of segments stands for a subject; neighbours are relatives. `counts`: recording -> units.
    Labels are to be added.
    """
    rows = [
        {
            "uid": f"segments/{state}-{i:03d}", "dataset": "segments", "shard": 0, "subject": f"{state}-{i:03d}", "site": "one",
            "age": 30.0, "sex": None, "family": f"{state}-{i // BLOCK}", "mean_fd": np.nan, "t_r": np.nan, "sfreq": np.nan,
            "gap_mm": 0.0, "fingerprints": f"{state}-{i}", "has_fmri": False, "has_eeg": True,
        }
        for state, count in counts.items()
        for i in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def eyes_targets(metas: dict[Key, dict]) -> Targets:
    """Occipital channels, the alpha band, and the two together."""
    found: Targets = {}
    for key, meta in metas.items():
        if key[1] == "spatial":
            continue
        names = names_of(*key, meta)
        found[key] = {"channel": np.array([name in OCCIPITAL for name in names["channel"]])}
        if "band" in names:
            found[key]["band"] = np.array([name == RHYTHM for name in names["band"]])
            both = {f"{RHYTHM}/{channel}" for channel in OCCIPITAL}
            found[key]["channel_band"] = np.array([name in both for name in names["channel_band"]])
    return found


def _recordings(table: pd.DataFrame) -> pd.Series:
    """Name of each unit's recording, by uid."""
    return table.set_index("uid")["subject"].str.rsplit("-", n=1).str[0]


def alpha_power(stores: Path, cohort: pd.DataFrame) -> pd.Series:
    """Log power of each unit's occipital channels in the alpha band, by uid."""
    meta = domain_meta(stores, cohort, "eeg", "spectral")
    names = names_of("eeg", "spectral", meta)["channel_band"]
    at = [names.index(f"{RHYTHM}/{channel}") for channel in OCCIPITAL]
    rows = read_domain(
        stores, cohort, "eeg", "spectral", lambda row: raw_features("eeg", "spectral", row, meta)["channel_band"][at].mean()
    )
    return pd.Series(rows)


def run_segments(recordings: dict[str, Path], label: Callable[[Path, pd.DataFrame], pd.Series], out: Path) -> None:
    """Write verdicts on the maps of a classifier of one person's segments. `recordings`: name -> file; `label`: of (stores,
    cohort table), labels by uid.
    """
    torch.set_num_threads(1)
    eeg = EegOptions(n_segments=GROUP)
    options = StageOptions(
        fmri=FmriOptions(), eeg=eeg, connectivity=ConnectivityOptions(), spectra=SpectraOptions(),
        pretrain=PretrainOptions(epochs=0, model=ModelOptions(width=32, depth=1, dim=32, modalities=["eeg"])),
        finetune=FinetuneOptions(epochs=15, patience=5), explain=ExplainOptions(n_steps=16, n_samples=8),
    )  # fmt: skip
    units = scaled_units({name: units_of(path, eeg) for name, path in recordings.items()})
    meta = {
        "units": "V divided by the scale of all recordings", "axes": ["segment", "channel", "sample"], "sfreq": eeg.sfreq,
        "montage": eeg.montage, "ch_names": eeg.ch_names, "options": {"eeg": eeg.model_dump(mode="json")}, "code": "validation",
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mcsp-validation-") as place:
        folder = Path(place)
        stores, cohort = folder / "store", folder / "cohort.parquet"
        table = segments_cohort({name: len(own) for name, own in units.items()})
        shape = (GROUP, len(eeg.ch_names), eeg.segment_samples)
        with StoreWriter(store_path(stores, "segments", "eeg", "temporal", 0), shape, meta) as writer:
            for uid, unit in zip(table["uid"], [unit for own in units.values() for unit in own]):
                writer.add(uid, unit, GROUP)
        write_domains(stores, ["eeg"], "segments", options.connectivity, options.spectra)
        write_table(table.assign(labels=table["uid"].map(label(stores, table))), cohort)
        run = Run(folder, stores, cohort, 0, options, ValidationOptions(n_bootstrap=300))
        print("a within-subject segment classifier, made for this check only: segments are not independent")
        check(run, eyes_targets(run.metas), out)


def run_eyes(*, opened: Path, closed: Path, out: Path) -> None:
    """Write verdicts on the maps of a classifier that tells one person's segments with eyes closed from those with open."""

    def label(stores: Path, table: pd.DataFrame) -> pd.Series:
        return _recordings(table).map({"closed": f"{KNOWN};{PERSON}", "open": PERSON})

    run_segments({"open": opened, "closed": closed}, label, out)


def run_alpha(*, recordings: Sequence[Path], out: Path) -> None:
    """Write verdicts on the maps of a classifier that tells one person's segments with strong occipital alpha from those with
    weak. The median is that of each recording, so that no label follows what a recording was made for.
    """

    def label(stores: Path, table: pd.DataFrame) -> pd.Series:
        return median_split(alpha_power(stores, table), _recordings(table))

    run_segments({f"recording{i}": path for i, path in enumerate(recordings)}, label, out)
