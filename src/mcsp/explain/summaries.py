"""From attributions to what people read: shares of relevance by region, network, edge, channel, band, frequency."""

from __future__ import annotations

import numpy as np

from mcsp.options.domains import BANDS

# Contributions over frames, samples and segments, and those of the two entries of an edge, are added with their signs before
# their size is taken: nothing is told of single moments, a model of a series' power has both signs within one channel, an edge
# is one thing, and sizes would add up what cancels.
Summary = dict[str, np.ndarray]  # kind -> shares of relevance in the order of `names_of`; each kind adds up to 1


def _shares(values: np.ndarray) -> np.ndarray:
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), 1 / len(values))


def edge_matrix(attribution: np.ndarray) -> np.ndarray:
    """Relevance (..., R, R) of undirected edges in the upper triangle, from an attribution (..., R, R) to symmetric matrices:
    the two entries of an edge are added with their signs.
    """
    return np.triu(np.abs(attribution + attribution.swapaxes(-1, -2)), 1)


def top_of(n: int, top: int) -> int:
    """How many of `n` entries count as the highest."""
    return min(top, max(1, n // 4))


def _networks(meta: dict) -> list[str]:
    return sorted({str(n) for n in meta["networks"]})


def known_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over `axis` of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    n = known.sum(axis=axis)
    return np.divide(np.where(known, values, 0).sum(axis=axis), n, out=np.full(np.shape(n), np.nan), where=n > 0)


def network_means(regions: np.ndarray, meta: dict) -> np.ndarray:
    """Means of regions' values (R) over each network, in the order of its name; of the regions that are known."""
    of = np.array([str(n) for n in meta["networks"]])
    return np.array([known_mean(regions[of == name]) for name in _networks(meta)])


def in_bands(meta: dict) -> np.ndarray:
    """(band, frequency) bool: which frequencies of a spectral store lie in which band."""
    freqs = np.array(meta["freqs"])
    return np.array([(freqs >= low) & (freqs < high) for low, high in BANDS.values()])


def names_of(modality: str, domain: str, meta: dict) -> dict[str, list[str]]:
    """kind -> names of its entries: regions, edges 'a|b', channels, bands, 'band/channel', frequencies '10 Hz'."""
    names: dict[str, list[str]] = {}
    if modality == "fmri":
        regions = meta["names"]
        names = {"roi": list(regions), "network": _networks(meta)}
        if domain == "spatial":
            names["edge"] = [f"{regions[i]}|{regions[j]}" for i, j in zip(*np.triu_indices(len(regions), 1))]
    else:
        names = {"channel": list(meta["ch_names"])}
        if domain != "temporal":
            names["band"] = list(meta["bands"] if domain == "spatial" else BANDS)
            names["channel_band"] = [f"{band}/{name}" for band in names["band"] for name in names["channel"]]
    if domain == "spectral":
        names["frequency"] = [f"{f:.4g} Hz" for f in meta["freqs"]]
    return names


def _fmri(domain: str, attribution: np.ndarray, meta: dict) -> Summary:
    """Of one subject's attribution (R, R), (R, frame) or (R, frequency). Frames, and the two entries of an edge, are added with
    their signs; edges' and frequencies' sizes are. A network has the mean of its regions, so that a large one is not favoured.
    """
    found: Summary = {}
    if domain == "spatial":
        edges = edge_matrix(attribution)
        regions = edges.sum(axis=0) + edges.sum(axis=1)
        found["edge"] = _shares(edges[np.triu_indices(len(edges), 1)])
    else:
        regions = np.abs(attribution.sum(axis=1)) if domain == "temporal" else np.abs(attribution).sum(axis=1)
    if domain == "spectral":
        found["frequency"] = _shares(np.abs(attribution).sum(axis=0))
    return {"roi": _shares(regions), "network": _shares(network_means(regions, meta)), **found}


def _eeg(domain: str, attribution: np.ndarray, meta: dict) -> Summary:
    """Of one subject's attribution (band, C, C), (segment, C, sample) or (segment, C, frequency). Segments, samples, and the
    two entries of an edge within a band, are added with their signs; edges' and frequencies' sizes are. A band has the mean of
    its frequencies, so that a wide one is not favoured.
    """
    if domain == "temporal":
        return {"channel": _shares(np.abs(attribution.sum(axis=(0, 2))))}
    if domain == "spatial":
        edges = edge_matrix(attribution)
        by_band = edges.sum(axis=1) + edges.sum(axis=2)
        channels, found = by_band.sum(axis=0), {}
    else:
        spectrum, inside = np.abs(attribution.sum(axis=0)), in_bands(meta)
        by_band = (inside @ spectrum.T) / np.maximum(inside.sum(axis=1, keepdims=True), 1)
        channels, found = spectrum.sum(axis=1), {"frequency": _shares(spectrum.sum(axis=0))}
    return {
        "channel": _shares(channels),
        "band": _shares(by_band.sum(axis=1)),
        "channel_band": _shares(by_band.reshape(-1)),
        **found,
    }


def summarise(modality: str, domain: str, attribution: np.ndarray, meta: dict) -> Summary:
    """All summaries of one subject's attribution in one domain; `meta`: that of the domain's store."""
    return (_fmri if modality == "fmri" else _eeg)(domain, attribution, meta)
