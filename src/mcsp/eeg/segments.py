"""From continuous EEG to segments on the common montage."""

from __future__ import annotations

import mne
import numpy as np

from mcsp.errors import Exclusion
from mcsp.montage import template_montage
from mcsp.options.eeg import EegOptions

FLAT = 0.1e-6  # V, standard deviation of a dead channel
DEVIANT = 6.0  # robust z of a channel's log standard deviation
TOO_LARGE = 500e-6  # V, median standard deviation of what can't be EEG
EDGE = 5.0  # Hz from the pass band to the stop band: what is left of 50 Hz between 45 Hz and the Nyquist frequency of 100 Hz
LEAST_TOP = 30.0  # Hz, end of the beta band: rivals compare power up to it, and a recording must hold that
PROBES, PROBE_SECONDS = 10, 20.0  # channels and seconds that tell the error of splines


def reject_missing(raw: mne.io.BaseRaw, max_bad_share: float) -> None:
    """Mark channels with missing values as bad and fill them with 0, so that filters stay finite.

    Raises Exclusion when too many channels have some.
    """
    data = raw.get_data()
    holes = ~np.isfinite(data).all(axis=1)
    if holes.mean() > max_bad_share:
        raise Exclusion(f"{holes.sum()} of {len(holes)} channels have missing values (NaN): export the recording again")
    if holes.any():
        raw._data[~np.isfinite(data)] = 0.0
        raw.info["bads"] += [name for name, hole in zip(raw.ch_names, holes) if hole and name not in raw.info["bads"]]


def find_bad_channels(data: np.ndarray, names: list[str]) -> list[str]:
    """Names of flat channels and of those whose amplitude differs from the others': |robust z| of log SD above 6.

    `data` (C, n) in V, filtered.
    """
    spread = data.std(axis=1)
    flat = spread < FLAT
    if flat.all():
        return list(names)
    log = np.log(np.maximum(spread, FLAT))
    middle = np.median(log[~flat])
    scale = max(1.4826 * float(np.median(np.abs(log[~flat] - middle))), 0.1)
    return [name for name, dead, value in zip(names, flat, log) if dead or abs(value - middle) / scale > DEVIANT]


def top_frequency(sfreq: float, options: EegOptions) -> float:
    """Upper edge in Hz of the band that a recording is left with: the study's, or 0.9 of its own Nyquist frequency."""
    return min(options.low_pass, 0.45 * sfreq)


def filter_raw(raw: mne.io.BaseRaw, options: EegOptions, line_freq: float) -> None:
    """Band-pass and notch in place (MNE's zero-phase FIR). The notch is left out where the recording can't hold the hum.

    The upper edge is equally steep whatever the rate: otherwise a model could tell cohorts of 100 and 1000 Hz apart by it.
    """
    nyquist, top = raw.info["sfreq"] / 2, top_frequency(raw.info["sfreq"], options)
    if line_freq == line_freq and line_freq < nyquist - 1 and options.low_pass > line_freq - 10:
        raw.notch_filter(line_freq, verbose="error")
    raw.filter(options.high_pass, top, h_trans_bandwidth=min(EDGE, nyquist - top), verbose="error")


def to_montage(raw: mne.io.BaseRaw, options: EegOptions) -> mne.io.BaseRaw:
    """The recording on the common montage: its own channels where it has all of them, else spherical splines for all
    (Perrin et al. 1989, MNE's `interpolate_to`).
    """
    if set(options.ch_names) <= set(raw.ch_names):
        return raw.pick(options.ch_names).reorder_channels(options.ch_names)
    places = template_montage(options.montage).get_positions()["ch_pos"]
    target = mne.channels.make_dig_montage({name: places[name] for name in options.ch_names}, coord_frame="head")
    return raw.interpolate_to(target, method="spline").reorder_channels(options.ch_names)


def coverage(raw: mne.io.BaseRaw, options: EegOptions) -> dict[str, float]:
    """How well the good channels of a recording cover the common montage: their numbers, and `gap_mm`, the largest distance
    from a channel of the montage to the nearest good electrode (0 where all of them were recorded and are good).
    """
    good = [name for name in raw.ch_names if name not in raw.info["bads"]]
    own, template = raw.get_montage().get_positions()["ch_pos"], template_montage(options.montage).get_positions()["ch_pos"]
    wanted = np.array([own.get(name, template[name]) for name in options.ch_names])
    there = np.array([own[name] for name in good])
    nearest = np.linalg.norm(wanted[:, None] - there[None], axis=2).min(axis=1)
    return {"n_channels": len(raw.ch_names), "n_bad": len(raw.ch_names) - len(good), "gap_mm": 1000 * float(nearest.max())}


def spline_error(raw: mne.io.BaseRaw, options: EegOptions) -> float:
    """How far splines are from the truth on this net: each of some good electrodes, those nearest to the montage's channels, is
    foretold from all others (median over them of the root mean square of the difference, as a share of the electrode's own).

    0 where nothing is interpolated: all channels of the montage were recorded and are good. Average reference.
    """
    picks = [index for index, name in enumerate(raw.ch_names) if name not in raw.info["bads"]]
    if set(options.ch_names) <= {raw.ch_names[index] for index in picks}:
        return 0.0
    data = raw.get_data(picks, stop=min(raw.n_times, int(PROBE_SECONDS * raw.info["sfreq"])))
    good = mne.io.RawArray(data - data.mean(axis=0), mne.pick_info(raw.info, picks), verbose="error")
    own, wanted = good.get_montage().get_positions()["ch_pos"], template_montage(options.montage).get_positions()["ch_pos"]
    there = np.array([own[name] for name in good.ch_names])
    near = [int(np.linalg.norm(there - own.get(name, wanted[name]), axis=1).argmin()) for name in options.ch_names]
    probes = list(dict.fromkeys(near))
    errors = []
    for index in probes[:: max(1, len(probes) // PROBES)]:
        told = good.copy()
        told.info["bads"] = [good.ch_names[index]]
        told.interpolate_bads(reset_bads=True, verbose="error")
        truth = good.get_data([index])
        errors.append(np.sqrt(np.mean((told.get_data([index]) - truth) ** 2) / np.mean(truth**2)))
    return float(np.median(errors))


def preprocess(raw: mne.io.BaseRaw, options: EegOptions, line_freq: float) -> tuple[np.ndarray, dict[str, float]]:
    """(continuous EEG (C, n) in V on the common montage and rate, average reference; `coverage` of the montage, the error of
    its splines, and the upper edge of the band that is left).

    Raises Exclusion when too many channels are bad or amplitudes can't be EEG.
    """
    if set(raw.info["bads"]) >= set(raw.ch_names):
        raise Exclusion(f"all {len(raw.ch_names)} channels are bad by channels.tsv: mend its column status")
    reject_missing(raw, options.max_bad_share)
    filter_raw(raw, options, line_freq)
    good = [name for name in raw.ch_names if name not in raw.info["bads"]]
    data = raw.get_data(picks=good)
    middle = float(np.median(data.std(axis=1)))
    if middle > TOO_LARGE:
        raise Exclusion(f"median amplitude {middle * 1e6:.0f} uV (SD): not EEG, or in wrong units: check the channels' units")
    if 0 < middle < FLAT:
        raise Exclusion(
            f"median amplitude {middle * 1e6:.1g} uV (SD): dead, or volts or mV taken for uV: check the channels' units"
        )
    raw.info["bads"] += find_bad_channels(data, good)
    share = len(raw.info["bads"]) / len(raw.ch_names)
    if share > options.max_bad_share:
        bads = ", ".join(raw.info["bads"][:5])
        raise Exclusion(
            f"{len(raw.info['bads'])} of {len(raw.ch_names)} channels are bad ({bads}), above {options.max_bad_share:.0%}"
        )
    quality = coverage(raw, options) | {
        "spline_error": spline_error(raw, options),
        "top_hz": top_frequency(raw.info["sfreq"], options),
    }
    raw.interpolate_bads(reset_bads=True, verbose="error")
    raw.set_eeg_reference("average", verbose="error")
    if raw.info["sfreq"] != options.sfreq:
        raw.resample(options.sfreq, verbose="error")
    return to_montage(raw, options).get_data(), quality


def cut_segments(data: np.ndarray, options: EegOptions) -> np.ndarray:
    """(n_segments, C, samples) in V: the first clean segments, side by side; with `short: overlap`, and too few of them,
    evenly spread overlapping ones.

    `data` (C, n). Raises Exclusion when there is not enough clean signal.
    """
    width, wanted = options.segment_samples, options.n_segments
    starts = np.arange(0, data.shape[1] - width + 1, width)
    clean = [start for start in starts if np.ptp(data[:, start : start + width], axis=1).max() <= options.peak_to_peak]
    if len(clean) < wanted:
        seconds = data.shape[1] / options.sfreq
        text = f"{len(clean)} of {wanted} clean segments of {width / options.sfreq:g} s in {seconds:.0f} s"
        if options.short == "exclude":
            raise Exclusion(f"too short: {text}: record longer, or set eeg.short: overlap")
        if len(clean) < options.min_overlap_share * wanted:
            raise Exclusion(f"too short even for overlapping segments: {text}")
        stride = max(1, width // 20)
        starts = np.arange(0, data.shape[1] - width + 1, stride)
        clean = [start for start in starts if np.ptp(data[:, start : start + width], axis=1).max() <= options.peak_to_peak]
        clean = [clean[i] for i in np.round(np.linspace(0, len(clean) - 1, wanted)).astype(int)]
    return np.stack([data[:, start : start + width] for start in clean[:wanted]])


def scale_of(segments: np.ndarray) -> float:
    """The recording's scale in V: 1.4826 x the median absolute value over channels and time."""
    return 1.4826 * float(np.median(np.abs(segments)))
