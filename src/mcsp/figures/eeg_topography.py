"""Model-relevant channels of one task, per band."""

from __future__ import annotations

import textwrap
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from mcsp.figures.style import new_figure, nothing, save, say
from mcsp.figures.verdict import best_method, standing
from mcsp.montage import template_montage
from mcsp.options.results import FigureOptions
from mcsp.store import read_tsv

COLUMNS = {
    "domain": "Domain where the attribution was taken",
    "kind": "channel, or channel_band (band/channel)",
    "name": "Channel, or band/channel",
    "mean": "Mean share of relevance",
    "low": "Lower end of the 95 % interval over subjects",
    "high": "Upper end of the 95 % interval over subjects",
    "n": "Subjects",
}


BAND_ORDER = ["delta", "theta", "alpha", "beta"]


def _topography(axes, values: pd.Series, top: float) -> object:
    info = mne.create_info(list(values.index), 100.0, "eeg")
    info.set_montage(template_montage("standard_1020"), on_missing="ignore")
    image, _ = mne.viz.plot_topomap(
        values.to_numpy(), info, axes=axes, show=False, cmap="viridis_r", vlim=(0, top), contours=0, sensors="k,", sphere=0.095
    )
    return image


def run(*, maps: Path, trust: Path, task_name: str, out: Path, options: FigureOptions) -> None:
    """Rows are domains; columns are all frequencies and the bands."""
    table, judged = read_tsv(maps), read_tsv(trust)
    method = best_method(table, judged, "eeg")
    if method is None:
        return nothing(out, f"{task_name}: no EEG in this study", options)
    own = table[(table["method"] == method) & (table["modality"] == "eeg")]
    domains = [d for d in ("temporal", "spatial", "spectral") if d in set(own["domain"])]
    both = own[own["kind"] == "channel_band"]
    found = {name.split("/")[0] for name in both["name"]}
    bands = [band for band in BAND_ORDER if band in found] + sorted(found - set(BAND_ORDER))
    figure, axes = new_figure(options, 0.22 * len(domains), nrows=len(domains), ncols=1 + len(bands), squeeze=False)
    for line, domain in zip(axes, domains):
        everything = own[(own["domain"] == domain) & (own["kind"] == "channel")].set_index("name")["mean"]
        image = _topography(line[0], everything * len(everything), float(everything.max() * len(everything)))
        line[0].set_title(textwrap.fill(f"{domain}: {standing(judged, method, 'eeg', domain, 'channel')}", 24), fontsize=7)
        figure.colorbar(image, ax=line[0], shrink=0.6)
        parts = both[both["domain"] == domain]
        peak = float(parts["mean"].max() * len(parts)) if len(parts) else 1.0
        for panel, band in zip(line[1:], bands):
            values = parts[parts["name"].str.startswith(f"{band}/")]
            if values.empty:
                say(panel, "" if domain == "temporal" else "none")
                continue
            series = pd.Series(values["mean"].to_numpy() * len(parts), index=[n.split("/")[1] for n in values["name"]])
            image = _topography(panel, series, peak)
            panel.set_title(band, fontsize=8)
        if len(parts):
            told = standing(judged, method, "eeg", domain, "channel_band")
            line[1].set_title(textwrap.fill(f"bands: {told}", 24) + f"\n{line[1].get_title()}", fontsize=7)
        if len(parts):
            figure.colorbar(image, ax=line[-1], shrink=0.6, label="relevance, 1 = even")
    n = int(np.nanmax(own["n"]))
    caption = (
        f"{task_name}: model-relevant EEG channels by {method.replace('_', ' ')}, {n} explained test subjects over "
        "folds and seeds, for each domain and band. Values are shares of relevance (contributions over time added with their "
        "signs) times the number of entries (1 = even). Relevance to the model is not causation; the titles have the verdict "
        "on the method, for all frequencies and for bands."
    )
    save(figure, out, own[list(COLUMNS)], COLUMNS, caption, options)
    return None
