"""What was planted: checked before, written down after."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsp.atlas import Atlas
from mcsp.errors import McspError
from mcsp.options.simulate import BandEffect, NetworkEffect, SimulateOptions
from mcsp.simulate.eeg import band_profile, reach
from mcsp.simulate.forward import channel_names, gain_matrix, nearest_region, source_regions
from mcsp.simulate.signals import AMPLITUDE_BAND, Effect
from mcsp.store import write_json, write_tsv


def check_effects(options: SimulateOptions, atlas: Atlas) -> None:
    """Raises McspError when an effect names a network or an electrode that does not exist, or one network twice."""
    known = sorted(set(atlas.networks))
    for effect in options.effects:
        of_network = effect.kind in ("amplitude", "network")
        named = effect.networks if effect.kind == "edge" else [effect.network] if of_network else []
        wrong = [name for name in named if name not in known]
        if wrong:
            raise McspError(f"simulate.effects: no network {wrong[0]} in the atlas: it has {', '.join(known)}")
        if len(set(named)) < len(named):
            raise McspError(f"simulate.effects: an edge from {named[0]} to itself: name two networks")
        if effect.kind == "band":
            nearest_region(atlas, effect.position)


def channel_shares(effect: BandEffect | NetworkEffect, atlas: Atlas, n_channels: int) -> dict[str, float]:
    """Electrode -> share of the power that the effect adds to rhythms, by the forward model; they sum to 1."""
    profile = band_profile(atlas, 0.0)
    if effect.kind == "band":
        added = profile[effect.band] ** 2 * np.abs((1 + effect.size * reach(atlas, effect)) ** 2 - 1)
    else:
        own = [atlas.networks[i] == effect.network for i in source_regions(atlas)]
        added = own * sum(amplitude**2 for amplitude in profile.values())
    gain = gain_matrix(atlas.coordinates[source_regions(atlas)], n_channels)
    seen = gain**2 @ added
    if not seen.any():  # a network without sources of EEG
        return {}
    return {name: round(float(share), 4) for name, share in zip(channel_names(n_channels), seen / seen.sum())}


def describe(effect: Effect, atlas: Atlas, n_channels: int) -> dict[str, Any]:
    """One effect: its options and where it acts. `rois`: rows of the atlas, from 0; `edges`: pairs of rows; `channels`:
    electrode -> share of the added power; `bands`; `freqs`: Hz of an amplitude effect.
    """
    entry: dict[str, Any] = {
        **effect.model_dump(mode="json"),
        "rois": [],
        "edges": [],
        "channels": {},
        "bands": [],
        "freqs": [],
    }
    networks = np.array(atlas.networks)
    if effect.kind == "edge":
        first, second = (np.flatnonzero(networks == name).tolist() for name in effect.networks)
        entry["rois"] = sorted([*first, *second])
        entry["edges"] = sorted([min(i, j), max(i, j)] for i in first for j in second)
    elif effect.kind == "amplitude":
        entry["rois"] = np.flatnonzero(networks == effect.network).tolist()
        entry["freqs"] = list(AMPLITUDE_BAND)
    elif effect.kind == "network":
        entry["rois"] = np.flatnonzero(networks == effect.network).tolist()
        entry["edges"] = [list(pair) for pair in combinations(entry["rois"], 2)]
        entry["bands"] = list(band_profile(atlas, 0.0))
        entry["channels"] = channel_shares(effect, atlas, n_channels)
    else:
        entry["bands"] = [effect.band]
        entry["source"] = nearest_region(atlas, effect.position)
        entry["channels"] = channel_shares(effect, atlas, n_channels)
    return entry


def write_truth(folder: Path, options: SimulateOptions, atlas: Atlas, n_channels: int, subjects: pd.DataFrame) -> None:
    """Write truth.json and, one row per subject, subjects.tsv with its sidecar. `subjects`: uid, diagnosis, defect,
    coupling, and effect_0, ... in the order of the effects.
    """
    effects = [describe(effect, atlas, n_channels) for effect in options.effects]
    write_json(folder / "truth.json", {"simulated": True, "rois": atlas.names, "networks": atlas.networks, "effects": effects})
    meaning = {
        "uid": "Subject",
        "diagnosis": "Simulated diagnosis",
        "defect": "How its recording was damaged",
        "coupling": "Trait that raises network coupling and alpha power together, standard normal",
    }
    meaning |= {f"effect_{i}": f"Planted size: {e.model_dump_json()}" for i, e in enumerate(options.effects)}
    write_tsv(subjects.replace({"defect": {"": None}}), folder / "subjects.tsv", meaning)
