"""One shard of the spatial domain, from its temporal store."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mcsp.code import code_version
from mcsp.domains.graphs import band_connectivity, correlation
from mcsp.domains.transform import transform_store
from mcsp.options.domains import ConnectivityOptions
from mcsp.store import Store


def run(
    *, dataset: str, modality: str, temporal: Path, options: ConnectivityOptions, store: Path, status: Path, threads: int
) -> None:
    """Write one shard of the spatial store of `modality` and the status of its subjects."""
    source = Store(temporal)
    code = code_version("mcsp.domains.connectivity")
    if modality == "fmri":
        function, shape = correlation, (source.shape[0],) * 2
        meta = {"units": "Fisher z", "axes": ["roi", "roi"], "code": code}
    else:
        function = partial(band_connectivity, bands=options.bands, sfreq=source.meta["sfreq"])
        shape = (len(options.bands), source.shape[1], source.shape[1])
        axes = ["band", "channel", "channel"]
        meta = {
            "units": "Fisher z",
            "axes": axes,
            "bands": list(options.bands),
            "band_hz": list(options.bands.values()),
            "code": code,
        }
    stage = f"connectivity-{modality}"
    tops = None if modality == "fmri" else np.array([high for _, high in options.bands.values()])[:, None, None]
    transform_store(
        temporal=temporal, function=function, shape=shape, meta=meta, options=options, store=store, status=status, stage=stage,
        dataset=dataset, threads=threads, above=tops,
    )  # fmt: skip
