"""Plain arrays to a batch: shapes and values checked, missing subjects told, domains that are not given computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcsp.domains.amplitudes import region_spectra, segment_spectra
from mcsp.domains.graphs import band_connectivity, correlation
from mcsp.errors import McspError
from mcsp.model.batch import MASKABLE, Batch, Key

Array = np.ndarray | Tensor
Given = Array | Mapping[str, Array]
AXES = {
    ("fmri", "temporal"): "regions x frames",
    ("fmri", "spatial"): "regions x regions",
    ("fmri", "spectral"): "regions x frequencies",
    ("eeg", "temporal"): "segments x channels x samples",
    ("eeg", "spatial"): "bands x channels x channels",
    ("eeg", "spectral"): "segments x channels x frequencies",
}
SCALES = (1 / 3, 3.0)  # 1.4826 x median absolute value of series as the stores have them: about 1


def computed(modality: str, domain: str, series: np.ndarray, n_valid: int, data: Mapping[str, Any]) -> np.ndarray:
    """Another domain of one subject's series, as the stages `connectivity` and `spectra` compute it.

    `series`: (R, T), or (S, C, T) of EEG. `data`: the model's `config["data"][modality]`. Raises McspError where that does
    not tell how.
    """
    try:
        if domain == "spatial" and modality == "fmri":
            return correlation(series, n_valid)
        if domain == "spatial":
            bands = {name: tuple(band) for name, band in data["options"]["connectivity"]["bands"].items()}
            return band_connectivity(series, n_valid, bands, data["sfreq"])
        transform = region_spectra if modality == "fmri" else segment_spectra
        return transform(series, n_valid, detrend=data["options"]["spectra"]["detrend"])
    except KeyError as error:
        raise McspError(
            f"{modality}/{domain} can't be computed: the model's config.json does not tell {error}: give that domain too"
        ) from error


def _numbers(key: Key, value: Array) -> np.ndarray:
    value = value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value
    try:
        array = np.array(value, np.float32)
    except (TypeError, ValueError) as error:
        raise McspError(f"{'/'.join(key)}: not an array of numbers ({error}): give (subjects x {AXES[key]})") from error
    if array.ndim != 1 + AXES[key].count(" x ") + 1:
        raise McspError(
            f"{'/'.join(key)}: an array of shape {array.shape}, where (subjects x {AXES[key]}) is wanted: "
            "a single subject is x[None]"
        )
    return array


def _present(key: Key, array: np.ndarray) -> np.ndarray:
    """Which subjects (B) are there: one whose values are all NaN is not. Raises McspError for values that are not finite."""
    flat = array.reshape(len(array), -1)
    unknown = np.isnan(flat)
    missing, finite = unknown.all(axis=1), (np.isfinite(flat) | (unknown & (key in MASKABLE))).all(axis=1)
    bad = np.flatnonzero(~missing & ~finite)
    if len(bad):
        raise McspError(
            f"{'/'.join(key)}: subject {bad[0]} has values that are not finite: mend them, or make all of its values NaN "
            "(the subject then lacks this modality)"
        )
    return ~missing


def _check_scale(modality: str, series: np.ndarray, present: np.ndarray) -> None:
    """Warn of series in other units than the stores' (volts, raw BOLD)."""
    for i in np.flatnonzero(present):
        values = np.abs(series[i])
        scale = 1.4826 * float(np.median(values[values > 0])) if values.any() else 0.0
        if not SCALES[0] <= scale <= SCALES[1]:
            units = "standard deviations (z-scored per region)" if modality == "fmri" else "units of the recording's own scale"
            warnings.warn(
                f"{modality}: subject {i} has a scale of {scale:.3g}, where about 1 is wanted: series are in {units}; "
                "the model has seen no others",
                stacklevel=5,
            )
            return


def _padded(series: np.ndarray, n_frames: int) -> np.ndarray:
    short = n_frames - series.shape[-1]
    if short < 0:
        raise McspError(
            f"fmri/temporal: {series.shape[-1]} frames, the model reads {n_frames}: crop the series before z-scoring"
        )
    return np.pad(series, ((0, 0), (0, 0), (0, short)))


def _valid(modality: str, series: np.ndarray, n_valid: Array | None) -> np.ndarray:
    """Valid frames (B) of fMRI, or segments of EEG."""
    if n_valid is None or modality != "fmri":
        return np.full(len(series), series.shape[-1] if modality == "fmri" else series.shape[1])
    counts = np.asarray(n_valid)
    if counts.shape != (len(series),) or (counts < 2).any() or (counts > series.shape[-1]).any():
        raise McspError(f"n_valid: one number of frames per subject, from 2 to {series.shape[-1]}, is wanted")
    return counts.astype(int)


def _arrays(modality: str, given: Given) -> tuple[dict[Key, np.ndarray], np.ndarray]:
    """(what was given, by domain; which subjects (B) are there). Raises McspError when domains do not fit each other."""
    known = [domain for m, domain in AXES if m == modality]
    named = dict(given) if isinstance(given, Mapping) else {"temporal": given}
    if not named or set(named) - set(known):
        raise McspError(f"{modality}: domains {', '.join(map(str, named)) or 'none'}: give any of {', '.join(known)}")
    arrays = {(modality, domain): _numbers((modality, domain), value) for domain, value in named.items()}
    there = {key: _present(key, array) for key, array in arrays.items()}
    first = next(iter(arrays))
    for key, own in there.items():
        if not np.array_equal(own, there[first]):
            raise McspError(f"{'/'.join(key)} and {'/'.join(first)} are not of the same subjects")
    return arrays, there[first]


def _series(
    modality: str, series: np.ndarray, present: np.ndarray, n_valid: Array | None, n_frames: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(series of the model's length, valid frames or segments (B)); what lies behind the valid frames becomes zero."""
    counts = np.where(present, _valid(modality, series, n_valid), 0)
    if modality == "fmri":
        series = _padded(series, n_frames or series.shape[-1])
        series = np.where(np.arange(series.shape[-1]) < counts[:, None, None], series, np.float32(0))
    _check_scale(modality, series, present)
    return series, counts


def _domain(
    key: Key,
    series: np.ndarray | None,
    present: np.ndarray,
    counts: np.ndarray,
    shape: tuple[int, ...],
    data: Mapping[str, Any],
) -> np.ndarray:
    """A domain (B, ...) that was not given, from the series; zeros for subjects that are not there."""
    if series is None or key[1] == "temporal":
        raise McspError(f"{'/'.join(key)} is missing: give the series (temporal), from which the other domains are computed")
    rows = {i: computed(*key, series[i], int(counts[i]), data) for i in np.flatnonzero(present)}
    empty = np.zeros_like(next(iter(rows.values()))) if rows else np.zeros(shape, np.float32)
    return np.stack([rows.get(i, empty) for i in range(len(present))])


def modality_inputs(
    modality: str, given: Given, shapes: Mapping[Key, tuple[int, ...]], data: Mapping[str, Any], n_valid: Array | None
) -> tuple[dict[Key, np.ndarray], np.ndarray, np.ndarray]:
    """(inputs (B, ...) of the model's domains, presence (B), valid frames or segments (B)) of one modality.

    Raises McspError when the model can't read them.
    """
    arrays, present = _arrays(modality, given)
    counts, series = np.zeros(len(present), int), arrays.get((modality, "temporal"))
    if series is not None:
        n_frames = shapes.get((modality, "temporal"), (None,))[-1] or data.get("options", {}).get("fmri", {}).get("n_frames")
        series, counts = _series(modality, series, present, n_valid, n_frames)
        arrays[modality, "temporal"] = series
    inputs = {}
    for key, shape in ((key, tuple(shape)) for key, shape in shapes.items() if key[0] == modality):
        value = arrays[key] if key in arrays else _domain(key, series, present, counts, shape, data)
        if value.shape[1:] != shape:
            wanted = " x ".join(map(str, shape))
            raise McspError(
                f"{'/'.join(key)}: shape {value.shape}, the model reads (subjects x {wanted}), {AXES[key]}: "
                "see config['data'] for its regions, channels and rates"
            )
        inputs[key] = np.where(present.reshape(-1, *[1] * len(shape)), value, 0).astype(np.float32)
    return inputs, present, counts


def with_missing(batch: Batch, shapes: Mapping[Key, tuple[int, ...]]) -> Batch:
    """The batch with all of the model's modalities: those that it lacks are missing in each of its subjects, and take no
    memory.
    """
    n, modalities = len(batch), dict.fromkeys(m for m, _ in shapes)
    x = {key: batch.x[key] if key in batch.x else torch.zeros(1, *shape).expand(n, *shape) for key, shape in shapes.items()}
    present = {m: batch.present[m] if m in batch.present else torch.zeros(n, dtype=torch.bool) for m in modalities}
    counts = {m: batch.n_valid[m] if m in batch.n_valid else torch.zeros(n, dtype=torch.long) for m in modalities}
    return Batch(x, present, counts)


def as_batch(
    shapes: Mapping[Key, tuple[int, ...]],
    data: Mapping[str, Any],
    *,
    fmri: Given | None = None,
    eeg: Given | None = None,
    n_valid: Array | None = None,
) -> Batch:
    """A batch of B subjects on the CPU, from arrays as the stores have them; see `MCSP.embed` for their meaning.

    `shapes`: (modality, domain) -> shape of one subject's input. `data`: `config["data"]` of the model. Raises McspError in
    one line when the arrays are not what the model reads.
    """
    wanted = list(dict.fromkeys(m for m, _ in shapes))
    given = {m: value for m, value in (("fmri", fmri), ("eeg", eeg)) if value is not None}
    if not given or set(given) - set(wanted):
        raise McspError(f"this model reads {' and '.join(wanted)}, given was {' and '.join(given) or 'nothing'}")
    parts = {m: modality_inputs(m, value, shapes, data.get(m, {}), n_valid) for m, value in given.items()}
    sizes = {m: len(present) for m, (_, present, _) in parts.items()}
    if len(set(sizes.values())) > 1:
        raise McspError(
            f"{sizes['fmri']} subjects of fMRI and {sizes['eeg']} of EEG: give the same subjects in the same order, "
            "NaN where one lacks a modality"
        )
    x = {key: torch.from_numpy(value) for inputs, _, _ in parts.values() for key, value in inputs.items()}
    present = {m: torch.from_numpy(there) for m, (_, there, _) in parts.items()}
    batch = with_missing(Batch(x, present, {m: torch.from_numpy(n) for m, (_, _, n) in parts.items()}), shapes)
    lost = ~torch.stack(list(batch.present.values())).any(dim=0)
    if lost.any():
        raise McspError(f"subject {int(lost.nonzero()[0])} has no modality at all: leave it out")
    return batch
