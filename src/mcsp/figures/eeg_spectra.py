"""EEG spectra of cases and controls in each region of the scalp, and how relevant each band is to the model there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import mannwhitneyu, t

from mcsp.evaluation.metrics import holm
from mcsp.figures.style import GREY, PALETTE, new_figure, nothing, save
from mcsp.figures.verdict import best_method, standing
from mcsp.options.domains import BANDS
from mcsp.options.results import FigureOptions
from mcsp.store import Store, read_table, read_tsv

COLUMNS = {
    "region": "Region of the scalp",
    "what": "spectrum: a point of a curve; band: the difference in a band",
    "group": "case or control; n/a of differences",
    "hz": "Frequency in Hz; of a band its lower edge",
    "band": "Band; n/a of spectra",
    "value": "Geometric mean of the amplitude over subjects; of a band: Cohen's d of the log amplitude, cases less controls",
    "low": "Lower end of the 95 % interval (t) over subjects; n/a of differences",
    "high": "Upper end of the interval",
    "p_holm": "Mann-Whitney test of cases against controls, Holm-corrected over regions and bands; n/a of spectra",
    "relevance": "Relevance of the band's channels there to the model, spectral domain, 1 = even; n/a without a map",
    "n": "Subjects",
}
TOP_HZ = 45.0  # of the picture
REGIONS = {
    "frontal": r"(Fp|AF|F)(z|\d+)",
    "central": r"(FC|C|CP)(z|\d+)",
    "temporal": r"(FT|T|TP)\d+",
    "parietal": r"P(z|\d+)",
    "occipital": r"(PO|O|I)(z|\d+)",
}


def region_of(channel: str) -> str:
    """Region of the scalp by the channel's 10-20 name; 'other' where it has none."""
    return next((name for name, pattern in REGIONS.items() if re.fullmatch(pattern, channel, re.IGNORECASE)), "other")


def read_spectra(stores: Sequence[Path], uids: set[str]) -> tuple[dict[str, np.ndarray], list[str], np.ndarray]:
    """(uid -> amplitude (channel, frequency), mean over the valid segments; channels; frequencies in Hz) of these subjects."""
    found, channels, freqs = {}, [], np.array([])
    for path in stores:
        store = Store(path)
        channels, freqs = store.meta["ch_names"], np.array(store.meta["freqs"])
        for i, uid in enumerate(store.uids):
            if uid in uids:
                found[uid] = store.row(i)[: max(1, store.n_valid[i])].mean(axis=0)
    return found, channels, freqs


def _curve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(geometric mean, low, high) over subjects of log amplitudes (N, F)."""
    mean = values.mean(axis=0)
    if len(values) < 2:
        return np.exp(mean), np.full(len(mean), np.nan), np.full(len(mean), np.nan)
    half = t.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return np.exp(mean), np.exp(mean - half), np.exp(mean + half)


def table_of(amplitudes: dict[str, np.ndarray], y: pd.Series, channels: list[str], freqs: np.ndarray) -> pd.DataFrame:
    """Curves of both groups in each region, and differences in each band with tests."""
    uids = [uid for uid in y.index if uid in amplitudes]
    case = y[uids].to_numpy() == 1
    stack = np.log(np.stack([amplitudes[uid] for uid in uids]) + 1e-9)  # (N, C, F)
    of, shown, rows, tests = np.array([region_of(name) for name in channels]), (freqs > 0) & (freqs <= TOP_HZ), [], []
    for region in [name for name in (*REGIONS, "other") if name in of]:
        own = stack[:, of == region].mean(axis=1)
        for group, side in (("case", own[case]), ("control", own[~case])):
            for hz, value, low, high in zip(freqs[shown], *_curve(side[:, shown])) if len(side) else ():
                rows.append((region, "spectrum", group, hz, None, value, low, high, len(side)))
        for band, (low_hz, high_hz) in BANDS.items():
            inside = (freqs >= low_hz) & (freqs < high_hz)
            a, b = (own[side][:, inside].mean(axis=1) for side in (case, ~case)) if inside.any() else (np.array([]),) * 2
            if min(len(a), len(b)) > 1:
                sd = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2))
                d = (a.mean() - b.mean()) / sd if sd > 0 else 0.0
                rows.append((region, "band", None, low_hz, band, d, np.nan, np.nan, len(uids)))
                tests.append(mannwhitneyu(a, b).pvalue)
    table = pd.DataFrame(rows, columns=["region", "what", "group", "hz", "band", "value", "low", "high", "n"])
    table["p_holm"] = np.nan
    table.loc[table["what"] == "band", "p_holm"] = holm(tests)
    return table


def relevance_of(maps: pd.DataFrame, method: str | None) -> dict[tuple[str, str], float]:
    """(region, band) -> mean relevance of its channels in the spectral domain, 1 = even."""
    own = maps[(maps["method"] == method) & (maps["domain"] == "spectral") & (maps["kind"] == "channel_band")]
    if own.empty:
        return {}
    parts = own["name"].str.split("/", expand=True)
    table = pd.DataFrame({"band": parts[0], "region": parts[1].map(region_of), "value": own["mean"] * len(own)})
    return table.groupby(["region", "band"])["value"].mean().to_dict()


def _panel(axes: Axes, rows: pd.DataFrame, region: str, top: float) -> None:
    for group, colour, line in (("case", PALETTE[5], "-"), ("control", PALETTE[0], "--")):
        own = rows[(rows["what"] == "spectrum") & (rows["group"] == group)]
        if len(own):
            axes.fill_between(own["hz"], own["low"], own["high"], color=colour, alpha=0.2, linewidth=0)
            axes.plot(own["hz"], own["value"], line, color=colour, label=f"{group}s, n = {own['n'].iloc[0]}")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.3)
    for row in rows[rows["what"] == "band"].itertuples():
        start, end = BANDS[row.band]
        if row.relevance == row.relevance:
            axes.axvspan(start, end, ymin=0.9, color="black", alpha=0.08 + 0.72 * min(1, row.relevance / top), linewidth=0)
        star = "*" if row.p_holm < 0.05 else ""
        size = f"{round(row.value, 1) + 0.0:+.1f}{star}"  # no sign of -0.0
        axes.text(np.sqrt(start * end), 0.885, size, transform=axes.get_xaxis_transform(), fontsize=5.5,
                  ha="center", va="top", fontweight="bold" if star else "normal")  # fmt: skip
    for edge in {edge for band in BANDS.values() for edge in band}:
        axes.axvline(edge, color=GREY, linewidth=0.3, alpha=0.6)
    axes.set_xscale("log")
    axes.set_xlim(1, TOP_HZ)
    axes.set_xticks([1, 4, 8, 13, 30, 45], ["1", "4", "8", "13", "30", "45"])
    axes.minorticks_off()
    axes.set_title(region.capitalize(), loc="left", fontsize=8)


def run(
    *, maps: Path, trust: Path, predictions: Path, spectra: Sequence[Path], task_name: str, out: Path, options: FigureOptions
) -> None:
    """A panel per region: spectra of cases and controls, and above them the model's relevance by band."""
    table, judged = read_tsv(maps), read_tsv(trust)
    y = read_table(predictions).drop_duplicates("uid").set_index("uid")["y"].sort_index()
    amplitudes, channels, freqs = read_spectra(spectra, set(y.index))
    if not amplitudes:
        return nothing(out, f"{task_name}: no EEG of any test subject", options)
    method = best_method(table, judged, "eeg")
    rows, found = table_of(amplitudes, y, channels, freqs), relevance_of(table, method)
    rows["relevance"] = [found.get((r.region, r.band), np.nan) for r in rows.itertuples()]
    regions = list(dict.fromkeys(rows["region"]))
    lines = -(-len(regions) // 3)
    figure, axes = new_figure(options, 0.3 * lines + 0.05, nrows=lines, ncols=3, squeeze=False, sharex=True)
    top = max([*found.values(), 1e-12])
    for panel, region in zip(axes.flat, regions):
        _panel(panel, rows[rows["region"] == region], region, top)
    for panel in axes.flat[len(regions) :]:
        panel.set_axis_off()
    for panel in axes.flat[max(0, len(regions) - 3) : len(regions)]:
        panel.set_xlabel("frequency, Hz")
        panel.tick_params(labelbottom=True)
    axes[0][0].set_ylabel("amplitude, relative")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncol=2)
    judgement = ": no map of them"
    if found:
        told = standing(judged, method, "eeg", "spectral", "channel_band")
        judgement = f" by {method.replace('_', ' ')} ({told})"
    caption = (
        f"{task_name}: EEG amplitude (divided by the recording's own scale) of {len(amplitudes)} test subjects, geometric "
        "mean and 95 % intervals over subjects. Numbers: Cohen's d of the log amplitude in delta, theta, alpha and beta, "
        "cases less controls; * p < 0.05 (Mann-Whitney, Holm-corrected over regions and bands). Grey fields at the top: "
        f"relevance to the model{judgement}, contributions over time added with their signs, darkest {top:.2g} (1 = even). "
        "Relevance to the model is not causation."
    )
    save(figure, out, rows[list(COLUMNS)], COLUMNS, caption, options)
    return None
