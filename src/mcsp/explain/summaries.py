"""From attributions to what people read: shares of relevance by region, network, edge, channel, band."""

from __future__ import annotations

import numpy as np
import pandas as pd

BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0)}
Summary = dict[str, pd.Series]  # kind -> share of relevance by name, sums to 1


def _shares(values: np.ndarray, names: list[str]) -> pd.Series:
    total = values.sum()
    return pd.Series(values / total if total > 0 else np.full(len(values), 1 / len(values)), index=names)


def _networks(regions: np.ndarray, networks: list[str]) -> pd.Series:
    """Mean relevance of a network's regions, as shares: a large network is not favoured."""
    table = pd.Series(regions).groupby(np.array(networks)).mean()
    return _shares(table.to_numpy(), [str(n) for n in table.index])


def edge_matrix(attribution: np.ndarray) -> np.ndarray:
    """Relevance (R, R) of undirected edges in the upper triangle, from an attribution (R, R) to a symmetric matrix."""
    return np.triu(np.abs(attribution + attribution.T), 1)


def fmri_summary(domain: str, attribution: np.ndarray, meta: dict) -> Summary:
    """Regions and networks, and for the spatial domain edges, of one subject's attribution (R, ...)."""
    names, networks = meta["names"], meta["networks"]
    if domain == "spatial":
        edges = edge_matrix(attribution)
        regions = edges.sum(axis=0) + edges.sum(axis=1)
        upper = np.triu_indices(len(names), 1)
        labels = [f"{names[i]}|{names[j]}" for i, j in zip(*upper)]
        found = {"edge": _shares(edges[upper], labels)}
    else:
        regions = np.abs(attribution).sum(axis=1)
        found = {}
    return {"roi": _shares(regions, names), "network": _networks(regions, networks), **found}


def eeg_summary(domain: str, attribution: np.ndarray, meta: dict) -> Summary:
    """Channels, bands and channels by band ('alpha/Pz') of one subject's attribution: (band, C, C), (segment, C, sample)
    or (segment, C, frequency).
    """
    names = meta["ch_names"]
    size = np.abs(attribution)
    if domain == "temporal":
        return {"channel": _shares(size.sum(axis=(0, 2)), names)}
    if domain == "spatial":
        by_band = {band: size[i].sum(axis=0) + size[i].sum(axis=1) for i, band in enumerate(meta["bands"])}
        everything = sum(by_band.values())
    else:
        freqs = np.array(meta["freqs"])
        by_band = {band: size[:, :, (freqs >= low) & (freqs < high)].sum(axis=(0, 2)) for band, (low, high) in BANDS.items()}
        everything = size.sum(axis=(0, 2))
    bands = np.array([values.sum() for values in by_band.values()])
    both = np.concatenate(list(by_band.values()))
    return {
        "channel": _shares(everything, names),
        "band": _shares(bands, list(by_band)),
        "channel_band": _shares(both, [f"{band}/{name}" for band in by_band for name in names]),
    }


def summarise(modality: str, domain: str, attribution: np.ndarray, meta: dict) -> Summary:
    """All summaries of one subject's attribution in one domain."""
    return (fmri_summary if modality == "fmri" else eeg_summary)(domain, attribution, meta)
