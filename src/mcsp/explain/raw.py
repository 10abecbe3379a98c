"""The raw feature behind each entry of a map, from the stores, without any model: is it higher in patients?"""

from __future__ import annotations

import numpy as np

from mcsp.explain.summaries import in_bands, known_mean, names_of, network_means

FEATURES = {
    ("fmri", "spatial", "edge"): "Fisher z of the edge",
    ("fmri", "spatial", "roi"): "mean Fisher z of all edges of the region",
    ("fmri", "spatial", "network"): "mean Fisher z of all edges of the network's regions",
    ("fmri", "temporal", "roi"): "mean Fisher z of all edges of the region (series are z-scored, so their variance is 1)",
    ("fmri", "temporal", "network"): "mean Fisher z of all edges of the network's regions",
    ("fmri", "spectral", "roi"): "log of the region's mean amplitude (of z-scored series: their total power is equal)",
    ("fmri", "spectral", "network"): "log of the mean amplitude of the network's regions (of z-scored series)",
    ("fmri", "spectral", "frequency"): "log of the mean amplitude over regions (of z-scored series)",
    ("eeg", "temporal", "channel"): "log power of the channel, in units of the recording's own scale",
    ("eeg", "spectral", "channel"): "log power of the channel over all bands, in units of the recording's own scale",
    ("eeg", "spectral", "band"): "log power of the band, mean over channels, in units of the recording's own scale",
    ("eeg", "spectral", "channel_band"): "log power of the channel in the band, in units of the recording's own scale",
    ("eeg", "spectral", "frequency"): "log amplitude, mean over channels, in units of the recording's own scale",
    ("eeg", "spatial", "channel"): "mean envelope correlation (Fisher z) of the channel, over bands",
    ("eeg", "spatial", "band"): "mean envelope correlation (Fisher z) in the band",
    ("eeg", "spatial", "channel_band"): "mean envelope correlation (Fisher z) of the channel in the band",
}
SOURCE = {("fmri", "temporal"): ("fmri", "spatial")}  # the store that a domain's raw features are read from
TINY = 1e-12


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(values, TINY))


def _fmri(domain: str, row: np.ndarray, meta: dict) -> dict[str, np.ndarray]:
    if domain == "spectral":
        regions = known_mean(row, axis=1)
        return {"roi": _log(regions), "network": _log(network_means(regions, meta)), "frequency": _log(known_mean(row))}
    regions = known_mean(row + np.diag(np.full(len(row), np.nan)), axis=1)  # a region has no edge with itself
    found = {"roi": regions, "network": network_means(regions, meta)}
    return {**found, "edge": row[np.triu_indices(len(row), 1)]} if domain == "spatial" else found


def _eeg(domain: str, row: np.ndarray, meta: dict) -> dict[str, np.ndarray]:
    if domain == "temporal":
        return {"channel": _log(np.square(row).mean(axis=(0, 2)))}
    if domain == "spatial":
        by_band = row.sum(axis=2) / (row.shape[1] - 1)  # (band, C)
        return {"channel": by_band.mean(axis=0), "band": by_band.mean(axis=1), "channel_band": by_band.ravel()}
    power, inside = np.square(row).mean(axis=0), in_bands(meta).astype(float)  # (C, F), (band, F)
    known = ~np.isnan(power)  # a low rate or filter ends before the highest frequencies
    seen = inside @ known.T
    mean = inside @ np.where(known, power, 0).T / np.maximum(seen, 1)
    by_band = np.where(seen > 0, mean * inside.sum(axis=1, keepdims=True), np.nan)  # (band, C)
    return {
        "channel": _log(by_band.sum(axis=0)),
        "band": _log(by_band.mean(axis=1)),
        "channel_band": _log(by_band.ravel()),
        "frequency": _log(np.sqrt(power.mean(axis=0))),
    }


def raw_features(modality: str, domain: str, row: np.ndarray, meta: dict) -> dict[str, np.ndarray]:
    """kind -> (K,) features of one subject, in the order of `names_of` of the domain. `row`: of the store that `SOURCE` names
    (its own without one); `meta`: that of the domain's store. What they are: `FEATURES`. A band of which a recording holds a
    part has the mean of that part times its width; one of which it holds nothing is NaN, and so is the power over all bands. A
    region that is lost from the field of view is NaN, and is left out of means.
    """
    found = (_fmri if modality == "fmri" else _eeg)(domain, np.asarray(row, float), meta)
    return {kind: found[kind] for kind in names_of(modality, domain, meta)}
