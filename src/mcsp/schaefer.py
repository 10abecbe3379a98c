"""The Schaefer 2018 parcellations as nilearn fetches and caches them."""

from __future__ import annotations

import warnings
from pathlib import Path

from mcsp.errors import McspError


def _cached(size: int) -> list[Path]:
    """Files of a parcellation that lie in nilearn's cache."""
    from nilearn.datasets import get_data_dirs

    stem = f"Schaefer2018_{size}Parcels_7Networks_order"
    places = [Path(folder) / "schaefer_2018" for folder in get_data_dirs()]
    return [path for place in places for end in (".txt", "_FSLMNI152_2mm.nii.gz") if (path := place / (stem + end)).is_file()]


def fetch_schaefer(name: str) -> tuple[Path, list[str]]:
    """(label image, names of the regions in the order of their labels) of `schaefer<size>`: 7 networks, 2 mm.

    From nilearn's cache, or else from the network. Raises McspError when it can be neither found nor downloaded, and when what
    lies in the cache is damaged.
    """
    from nilearn import datasets

    size = int(name.removeprefix("schaefer"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a table that does not fit the image is said below, in one line
            fetched = datasets.fetch_atlas_schaefer_2018(n_rois=size, yeo_networks=7, resolution_mm=2, verbose=0)
    except Exception as error:  # the fetcher passes on whatever the network layer or the reader raises
        cached = _cached(size)
        if len(cached) >= 2:
            raise McspError(
                f"atlas.name = {name}: damaged in nilearn's cache ({type(error).__name__}): delete {cached[0].parent} and "
                "fetch it again"
            ) from error
        raise McspError(
            f"atlas.name = {name} can't be downloaded ({type(error).__name__}): run `snakemake prefetch` where there is a "
            "network, give atlas.image and atlas.table, or use dosenbach160, which is built in"
        ) from error
    names = [label.decode() if isinstance(label, bytes) else str(label) for label in fetched["labels"]]
    names = [label for label in names if label != "Background"]
    if len(names) != size or not all(label.count("_") >= 2 for label in names):
        raise McspError(f"atlas.name = {name}: {len(names)} labels in nilearn's cache ({fetched['maps']}): delete it")
    return Path(fetched["maps"]), names
