"""Where relevance should be in a simulated study, and how much of it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.explain.summaries import BANDS
from mcsp.store import read_json


def planted(truths: Sequence[Path], disorders: Sequence[str]) -> list[dict]:
    """The effects of the given disorders. Datasets of a study share their effects: those of the first with each count."""
    effects: dict[str, dict] = {}
    for path in truths:
        for effect in read_json(path)["effects"]:
            if effect["disorder"] in disorders:
                effects.setdefault(
                    repr((effect["kind"], effect["disorder"], effect.get("networks"), effect.get("position"))), effect
                )
    return list(effects.values())


def masks(effects: list[dict], modality: str, domain: str, meta: dict) -> dict[str, tuple[set[str], float]]:
    """kind -> (names where relevance should be, share of relevance expected by chance) for one domain.

    Chance is the share of the input that the names cover. Domains that an effect does not reach have no mask.
    """
    found: dict[str, tuple[set[str], float]] = {}
    if modality == "fmri":
        names = meta["names"]
        edges = {(i, j) for effect in effects for i, j in effect["edges"]}
        rois = {i for effect in effects for i in effect["rois"] if effect["kind"] in ("edge", "amplitude")}
        if domain == "spatial" and edges:
            found["edge"] = ({f"{names[i]}|{names[j]}" for i, j in edges}, len(edges) / (len(names) * (len(names) - 1) / 2))
        if rois:
            found["roi"] = ({names[i] for i in rois}, len(rois) / len(names))
        return found
    band_effects = [effect for effect in effects if effect["kind"] == "band"]
    if not band_effects:
        return found
    seen = pd.DataFrame([effect["channels"] for effect in band_effects]).sum().reindex(meta["ch_names"]).fillna(0)
    channels = set(seen.index[seen > 1.5 * seen.mean()])
    found["channel"] = (channels, len(channels) / len(seen))
    bands = {band for effect in band_effects for band in effect["bands"]}
    if domain == "spatial":
        found["band"] = (bands, len(bands) / len(meta["bands"]))
    elif domain == "spectral":
        freqs = np.array(meta["freqs"])
        inside = {band: int(((freqs >= low) & (freqs < high)).sum()) for band, (low, high) in BANDS.items()}
        found["band"] = (bands, sum(inside[band] for band in bands) / sum(inside.values()))
    return found


def relevance_mass(shares: pd.Series, names: set[str]) -> float:
    """Share of relevance on `names` (Arras et al. 2022: relevance mass accuracy)."""
    return float(shares[shares.index.isin(names)].sum())


def relevance_rank(shares: pd.Series, names: set[str]) -> float:
    """Share of the |names| most relevant entries that are in `names` (relevance rank accuracy)."""
    top = shares.sort_values(ascending=False, kind="stable").index[: len(names)]
    return float(np.mean([name in names for name in top]))


def interval(values: np.ndarray, seed: int, n: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over subjects."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (n, len(values)))].mean(axis=1)
    return tuple(float(v) for v in np.quantile(means, [0.025, 0.975]))
