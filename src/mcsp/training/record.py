"""What a model's configuration keeps of its data, so that new data can be judged by it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mcsp.cohort import domain_meta
from mcsp.model.batch import Key

RANGES = {"fmri": ("t_r", "mean_fd"), "eeg": ("sfreq", "gap_mm")}  # columns of the cohort, by the modality that they speak of
INPUT_META = ("t_r", "names", "networks", "coordinates", "sfreq", "montage", "ch_names", "bands", "band_hz")


def inputs_of(stores: Path, cohort: pd.DataFrame, keys: Sequence[Key]) -> dict[str, dict[str, Any]]:
    """modality -> what its inputs are, by the metadata of the stores: regions with coordinates, or channels and montage;
    rates; `options` of the stages that made them.
    """
    found: dict[str, dict[str, Any]] = {}
    for modality, domain in keys:
        meta, own = domain_meta(stores, cohort, modality, domain), found.setdefault(modality, {"options": {}})
        own["options"] |= meta.get("options", {})
        own |= {key: meta[key] for key in INPUT_META if key in meta}
    return found


def ranges_of(people: pd.DataFrame, modalities: Iterable[str]) -> dict[str, list[float]]:
    """Column of the cohort -> [least, largest] value among `people`, of how they were recorded and of their age."""
    subjects = {column: people[people[f"has_{m}"]] for m in modalities for column in RANGES[m] if column in people}
    values = {column: own[column].dropna().astype(float) for column, own in {"age": people, **subjects}.items()}
    return {column: [float(own.min()), float(own.max())] for column, own in values.items() if len(own)}


def seen_hash(salt: str, text: str) -> str:
    """Name of a subject or recording in a model's list of those it has seen. It keeps names out of the file, but whoever
    guesses a name can check it.
    """
    return hashlib.sha256(f"{salt}\n{text}".encode()).hexdigest()[:16]


def traces(people: pd.DataFrame, salt: str) -> dict[str, set[str]]:
    """uid -> hashes of the uid and of the fingerprints of its recordings."""
    prints = people["fingerprints"] if "fingerprints" in people else pd.Series("", index=people.index)
    texts = {uid: [uid, *filter(None, own.split(";"))] for uid, own in zip(people["uid"], prints)}
    return {uid: {seen_hash(salt, text) for text in own} for uid, own in texts.items()}


def data_record(
    stores: Path, cohort: pd.DataFrame, uids: Sequence[str], others: Sequence[str], keys: Sequence[Key], salt: str
) -> dict[str, Any]:
    """`data`, `ranges` and `seen` of a model's configuration.

    `uids`: training subjects, who set the ranges; `others`: validation subjects, who count as seen too; `salt`: hash of the
    folds.
    """
    modalities = list(dict.fromkeys(m for m, _ in keys))
    known = cohort[cohort[[f"has_{m}" for m in modalities]].any(axis=1)]
    seen = traces(known[known["uid"].isin({*uids, *others})], salt)
    return {
        "data": inputs_of(stores, cohort, keys),
        "ranges": ranges_of(known[known["uid"].isin(set(uids))], modalities),
        "seen": sorted(set().union(*seen.values())),
    }


def data_record_with(config: dict, cohort: pd.DataFrame, uids: Sequence[str], others: Sequence[str]) -> dict[str, Any]:
    """`ranges` and `seen` of a model of `config` that has learnt from the subjects `uids` too, and been chosen by `others`:
    pre-training may have drawn a share of them only.

    Nothing where `config` has no such record: half a one would pass for whole.
    """
    if not config.get("seen"):
        return {}
    modalities = {name.split("/")[0] for name in config["architecture"]["shapes"]}
    ranges = dict(config["ranges"])
    for column, (low, high) in ranges_of(cohort[cohort["uid"].isin(set(uids))], sorted(modalities)).items():
        known = ranges.get(column, (low, high))
        ranges[column] = [min(low, known[0]), max(high, known[1])]
    own = traces(cohort[cohort["uid"].isin({*uids, *others})], config["splits"]["sha256"])
    return {"ranges": ranges, "seen": sorted(set(config["seen"]).union(*own.values()))}
