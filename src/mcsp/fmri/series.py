"""From raw regional series to the store's: denoised, at the common repetition time, of fixed length."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.signal import clean
from scipy.interpolate import CubicSpline

from mcsp.atlas import Atlas
from mcsp.confounds import displacement, read_confounds, select
from mcsp.errors import Exclusion
from mcsp.options.fmri import FmriOptions

FILTER_PAD = (0, 18, 33)  # frames that nilearn's Butterworth filter mirrors at the ends, with no, one and two edges
FEW = 4  # fewer regions can be equal by chance
MAX_LOST = 0.1  # share of regions that may be missing; their series are zero


def recorded(series: np.ndarray, kept: np.ndarray, share: float) -> np.ndarray:
    """Those of the frames `kept` in which regions of `series` (T, R) differ: a volume of zeros, as an aborted scan may end
    with, is none, and would make all regions move together. Raises Exclusion when less than `share` of the frames are left.
    """
    if series.shape[1] >= FEW:
        kept = kept[np.ptp(series[kept], axis=1) > 0]
    if len(kept) < share * len(series):
        raise Exclusion(f"{len(kept) / len(series):.0%} of the frames are left without empty ones, below {share:.0%}")
    return kept


def keep_frames(table: pd.DataFrame, options: FmriOptions) -> np.ndarray:
    """Indices of the frames that scrubbing keeps. Raises Exclusion when the head moved too much, or too few are left."""
    fd = displacement(table)
    if fd.mean() > options.max_mean_fd:
        raise Exclusion(
            f"mean framewise displacement {fd.mean():.2f} mm is above {options.max_mean_fd:g} mm (fmri.max_mean_fd)"
        )
    kept = np.flatnonzero(fd <= options.fd_threshold)
    if len(kept) < options.min_scrubbed_share * len(fd):
        share = len(kept) / len(fd)
        raise Exclusion(f"{share:.0%} of the frames are left after scrubbing, below {options.min_scrubbed_share:.0%}")
    return kept


def denoise(series: np.ndarray, t_r: float, options: FmriOptions, confounds: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """(cleaned series (K, R), indices (K) of the frames kept) of raw `series` (T, R).

    Detrending, confound regression and Butterworth filter by `nilearn.signal.clean`, in its order, scrubbed and empty frames
    interpolated for the filter only. Raises Exclusion when confounds are needed and missing, or a run is too short to filter.
    """
    matrix, kept = None, np.arange(len(series))
    if confounds is None and options.confounds != "none":
        raise Exclusion(
            "no confounds table beside the run: fetch fMRIPrep's *_desc-confounds_timeseries.tsv, or set fmri.confounds: none"
        )
    if confounds is not None:
        table = read_confounds(confounds)
        if len(table) != len(series):
            raise Exclusion(f"confounds have {len(table)} rows, the run {len(series)} frames: they do not belong together")
        matrix = select(table, options.confounds)
        if options.fd_threshold is not None and "framewise_displacement" in table:
            kept = keep_frames(table, options)
    kept = recorded(series, kept, options.min_scrubbed_share)
    low_pass = options.low_pass
    if low_pass is None and t_r < options.t_r:
        low_pass = 0.45 / options.t_r  # nothing may lie above the Nyquist frequency of the common rate
    if low_pass is not None and low_pass >= 0.5 / t_r:
        low_pass = None
    edges = sum(limit is not None for limit in (low_pass, options.high_pass))
    span = kept[-1] - kept[0] + 1 if len(kept) else 0  # what lies outside is not made up
    if span <= FILTER_PAD[edges]:
        raise Exclusion(f"too short: {span} frames of {t_r:g} s, the filter needs {FILTER_PAD[edges] + 1}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nilearn warns of scrubbed frames and of constant series; both are handled here
        cleaned = clean(
            series,
            detrend=True,
            standardize=None,
            confounds=matrix,
            low_pass=low_pass,
            high_pass=options.high_pass,
            t_r=t_r,
            sample_mask=kept if len(kept) < len(series) else None,
            extrapolate=False,  # before nilearn 0.13 the default was another
        )
    return cleaned, kept


def n_at(seconds: float, common: float) -> int:
    """Frames at `common` s from a first to a last one that lie `seconds` apart."""
    return int(np.floor(seconds / common + 1e-6)) + 1


def to_common_rate(series: np.ndarray, kept: np.ndarray, t_r: float, common: float) -> tuple[np.ndarray, np.ndarray]:
    """Series (K, R) at frames `kept` of repetition time `t_r`, at `common` s between frames: (N, R), and these frames' numbers.

    Cubic spline through the frames that are left, from the first to the last; the series hold nothing above the lower
    Nyquist frequency by then, so nothing folds back. A frame at the common rate whose nearest measured frame was scrubbed
    is left out: filled-in frames would correlate with each other as far as the head moved (censoring, Power et al. 2014).
    """
    times = kept * t_r
    wanted = times[0] + common * np.arange(n_at(times[-1] - times[0], common))
    measured = np.isin(np.floor(wanted / t_r + 0.5).astype(int), kept)
    if np.isclose(t_r, common):
        return series, kept - kept[0]
    return CubicSpline(times, series, axis=0)(wanted[measured]), np.flatnonzero(measured)


def scaled(series: np.ndarray) -> np.ndarray:
    """Each region of `series` (N, R) at mean 0 and unit variance; constant regions zero."""
    spread = series.std(axis=0)
    alive = spread > 1e-8 * max(float(spread.max()), 1e-30)
    return np.where(alive, (series - series.mean(axis=0)) / np.where(alive, spread, 1), 0)


def standard_length(series: np.ndarray, options: FmriOptions) -> tuple[np.ndarray, int]:
    """(R, n_frames) float32 cropped or padded with zeros, z-scored over its valid frames, and their number.

    `series` (N, R). Constant regions become zero. Raises Exclusion when the run is too short.
    """
    if len(series) < options.min_frames:
        raise Exclusion(
            f"too short: {len(series)} frames of {options.t_r:g} s ({len(series) * options.t_r:.0f} s), "
            f"{options.min_frames} are needed (fmri.min_frames)"
        )
    valid = series[: options.n_frames]
    out = np.zeros((series.shape[1], options.n_frames), np.float32)
    out[:, : len(valid)] = scaled(valid).T
    return out, len(valid)


def check_regions(series: np.ndarray, covered: np.ndarray, names: list[str]) -> np.ndarray:
    """`series` (T, R) with lost regions (not covered, or constant) set to zero.

    Raises Exclusion when values are missing, or more than a tenth of the regions are lost.
    """
    if not np.isfinite(series).all():
        bad = [names[i] for i in np.flatnonzero(~np.isfinite(series).all(axis=0))]
        raise Exclusion(f"missing values in {len(bad)} regions ({', '.join(bad[:3])}): the series are damaged")
    spread = series.std(axis=0)
    lost = ~covered | (spread <= 1e-10 * np.maximum(np.abs(series).max(axis=0), 1e-30))
    if lost.mean() > MAX_LOST:
        which = ", ".join(np.array(names)[lost][:3])
        raise Exclusion(
            f"{lost.sum()} of {len(lost)} regions lie outside the run's field of view or are constant ({which}, ...)"
        )
    return np.where(lost, 0.0, series)


def read_roi_series(path: Path, atlas: Atlas) -> np.ndarray:
    """Ready ROI series (T, R) in the atlas's order, from text with a header: `.1D` (`#code` names), TSV or CSV.

    Raises Exclusion when columns of the atlas are missing or a value is no number.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline()
        separator = "\t" if "\t" in header else "," if "," in header else r"\s+"
        table = pd.read_csv(path, sep=separator, header=0, na_values=["n/a"], skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise Exclusion(f"{path.name}: not readable as a table of series ({error})") from error
    table.columns = [str(c).strip().removeprefix("#").strip() for c in table.columns]
    missing = [code for code in atlas.codes if code not in table]
    if missing:
        raise Exclusion(
            f"{path.name}: no column {', '.join(missing[:3])} ({len(missing)} of {len(atlas.codes)} regions): another atlas?"
        )
    values = table[atlas.codes].apply(pd.to_numeric, errors="coerce")
    return values.to_numpy(float)
