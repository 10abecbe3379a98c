"""One shard of the spectral domain, from its temporal store."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mcsp.code import code_version
from mcsp.domains.amplitudes import region_spectra, segment_spectra
from mcsp.domains.transform import transform_store
from mcsp.options.domains import SpectraOptions
from mcsp.store import Store


def run(
    *, dataset: str, modality: str, temporal: Path, options: SpectraOptions, store: Path, status: Path, threads: int
) -> None:
    """Write one shard of the spectral store of `modality` and the status of its subjects."""
    source = Store(temporal)
    n = source.shape[-1]
    step = source.meta["t_r"] if modality == "fmri" else 1 / source.meta["sfreq"]
    freqs = np.fft.rfftfreq(n, step)
    axes = ["roi", "frequency"] if modality == "fmri" else ["segment", "channel", "frequency"]
    transform_store(
        temporal=temporal,
        function=partial(region_spectra if modality == "fmri" else segment_spectra, detrend=options.detrend),
        shape=(*source.shape[:-1], n // 2 + 1),
        meta={
            "axes": axes,
            "freqs": [round(float(f), 9) for f in freqs],
            "code": code_version("mcsp.domains.spectra"),
        },
        options=options,
        store=store,
        status=status,
        stage=f"spectra-{modality}",
        dataset=dataset,
        threads=threads,
        above=freqs if modality == "eeg" else None,
        timed=modality == "fmri",
    )
