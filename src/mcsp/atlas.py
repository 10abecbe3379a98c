"""Parcellations: names, networks and coordinates of regions, and the label image where there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from mcsp.errors import McspError
from mcsp.grayordinates import DenseLabels, is_dlabel, read_labels, write_labels
from mcsp.options.atlas import SURFACE, VOLUME, AtlasOptions
from mcsp.schaefer import fetch_schaefer
from mcsp.store import atomic_path, write_tsv

COLUMNS = {
    "index": "Value in the label image; for ready series, the number of the region",
    "name": "Name of the region",
    "network": "Functional network or lobe that the region belongs to",
    "x": "MNI coordinate of the centre, mm, left to right",
    "y": "MNI coordinate of the centre, mm, posterior to anterior",
    "z": "MNI coordinate of the centre, mm, inferior to superior",
    "code": "Name of the region in ready ROI series",
}
REACH_MM = 15.0  # a cell of the built-in atlas ends this far from its centre


@dataclass(frozen=True)
class Atlas:
    """Regions in the order of the stores' rows: `names`, `networks`, `codes` (R), `coordinates` (R, 3) in mm MNI (NaN
    unknown), `index` (R) values in the label image at `image` (None for ready series).
    """

    names: list[str]
    networks: list[str]
    codes: list[str]
    coordinates: np.ndarray
    index: np.ndarray
    image: Path | None

    def meta(self) -> dict:
        """What a store's metadata says of the regions."""
        places = [None if np.isnan(row).any() else [float(v) for v in row] for row in self.coordinates]
        return {"names": self.names, "networks": self.networks, "coordinates": places}


def load_atlas(table: Path) -> Atlas:
    """Read an atlas written by `run`. Raises McspError when it is no atlas table."""
    rows = read_regions(table)
    images = [image for name in (VOLUME, SURFACE) if (image := table.with_name(name)).is_file()]
    return Atlas(
        names=list(rows["name"]),
        networks=list(rows["network"]),
        codes=list(rows["code"]),
        coordinates=rows[["x", "y", "z"]].to_numpy(float),
        index=rows["index"].to_numpy(int),
        image=images[0] if images else None,
    )


def read_regions(path: str | Path) -> pd.DataFrame:
    """Table of regions with the columns of `COLUMNS`; what the file lacks is 'n/a' or NaN, a missing code the name.

    Raises McspError when it is no TSV, lacks `index` or `name`, or names a region twice.
    """
    try:
        rows = pd.read_csv(path, sep="\t", dtype=str, na_values=["n/a"], keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise McspError(f"{path}: not readable as a table ({' '.join(str(error).split())}): an atlas table is a TSV") from error
    return _checked(rows, path)


def _checked(rows: pd.DataFrame, source: str | Path) -> pd.DataFrame:
    missing = [c for c in ("index", "name") if c not in rows]
    if missing:
        raise McspError(
            f"{source}: no column {' and '.join(missing)}: an atlas table has index, name[, network, x, y, z, code]"
        )
    rows = rows.reindex(columns=list(COLUMNS))
    for column in ("index", "x", "y", "z"):
        numbers = pd.to_numeric(rows[column], errors="coerce")
        wrong = rows.loc[numbers.isna() & (rows[column].notna() | (column == "index")), column]
        if len(wrong):
            raise McspError(f"{source}: {column} = {wrong.iloc[0]} is no number: mend that row")
        rows[column] = numbers
    if rows["name"].isna().any():
        raise McspError(f"{source}: a region has no name: give each its own")
    if not len(rows) or not (rows["index"] % 1 == 0).all() or (rows["index"] < 1).any():
        raise McspError(f"{source}: index must be whole numbers above 0, one per region: 0 is the background")
    rows["index"] = rows["index"].astype(int)
    rows["name"] = rows["name"].astype(str)
    rows["network"] = rows["network"].fillna("n/a").astype(str)
    rows["code"] = rows["code"].fillna(rows["name"]).astype(str)
    for column in ("index", "name", "code"):
        twice = rows.loc[rows[column].duplicated(), column]
        if len(twice):
            raise McspError(f"{source}: {column} {twice.iloc[0]} stands twice: give each region its own")
    return rows


def _read_image(path: str) -> nib.spatialimages.SpatialImage:
    try:
        image = nib.load(path)
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise McspError(f"{path}: not readable as NIfTI ({' '.join(str(error).split())[:200]}): copy it again") from error
    if values.ndim != 3 or not np.array_equal(values, np.rint(values)):
        raise McspError(f"{path}: not a label image: one volume of whole numbers, 0 the background")
    return image


def dosenbach160() -> tuple[pd.DataFrame, nib.Nifti1Image]:
    """Table and label image (3 mm) of the built-in atlas: each voxel of grey matter belongs to the nearest of the 160
    coordinates of Dosenbach et al. 2010 (Science 329:1358), if that is at most 15 mm away.

    Grey matter: nilearn's ICBM152 2009 template, probability above 0.2.
    """
    from nilearn import datasets
    from scipy.spatial import cKDTree

    data = datasets.fetch_coords_dosenbach_2010(ordered_regions=True)
    centres = data["rois"][["x", "y", "z"]].to_numpy(float)
    grey = datasets.load_mni152_gm_template(resolution=3)
    voxels = np.argwhere(grey.get_fdata() > 0.2)
    distance, nearest = cKDTree(centres).query(nib.affines.apply_affine(grey.affine, voxels))
    labels = np.zeros(grey.shape, np.int16)
    near = distance <= REACH_MM
    labels[tuple(voxels[near].T)] = nearest[near] + 1
    # A centre just outside grey matter that owns no voxel takes the one it lies in.
    for i in set(range(len(centres))) - set(np.unique(labels) - 1):
        place = np.rint(nib.affines.apply_affine(np.linalg.inv(grey.affine), centres[i])).astype(int)
        labels[tuple(place)] = i + 1
    table = pd.DataFrame(
        {
            "index": np.arange(1, len(centres) + 1),
            "name": [str(label) for label in data["labels"]],
            "network": [str(network) for network in data["networks"]],
            **dict(zip("xyz", centres.T)),
        }
    )
    return table, nib.Nifti1Image(labels, grey.affine)


def schaefer(name: str) -> tuple[pd.DataFrame, nib.spatialimages.SpatialImage]:
    """Table and label image of a Schaefer 2018 parcellation, 7 networks, 2 mm, through nilearn's fetcher.

    Raises McspError when it can be neither found nor downloaded.
    """
    from nilearn.plotting import find_parcellation_cut_coords

    path, names = fetch_schaefer(name)
    image = _read_image(str(path))
    centres = find_parcellation_cut_coords(image)
    parts = [label.split("_") for label in names]
    table = pd.DataFrame(
        {
            "index": range(1, len(names) + 1),
            "name": names,
            "network": [part[2] for part in parts],
            **dict(zip("xyz", np.transpose(centres))),
        }
    )
    return table, image


def dlabel_regions(labels: DenseLabels, source: str) -> pd.DataFrame:
    """Table of the regions of a `.dlabel.nii` by the label table inside. Raises McspError as `read_regions` does."""
    names = labels.names()
    return _checked(pd.DataFrame({"index": list(names), "name": list(names.values())}), source)


def _build(options: AtlasOptions) -> tuple[pd.DataFrame, nib.spatialimages.SpatialImage | DenseLabels | None]:
    if is_dlabel(options.image) and options.kind == "volume":
        labels = read_labels(options.image)
        return read_regions(options.table) if options.table else dlabel_regions(labels, options.image), labels
    if options.table:
        return read_regions(options.table), _read_image(options.image) if options.image else None
    rows, image = dosenbach160() if options.name == "dosenbach160" else schaefer(options.name)
    return _checked(rows, options.name), image


def _without(rows: pd.DataFrame, exclude: list[str], source: str) -> pd.DataFrame:
    unknown = [e for e in exclude if e not in {*rows["code"], *rows["name"]}]
    if unknown:
        raise McspError(f"atlas.exclude: no region {', '.join(unknown)} in {source}: use names or codes of its table")
    return rows[~(rows["code"].isin(exclude) | rows["name"].isin(exclude))]


def _compare(labels: np.ndarray, rows: pd.DataFrame, source: str) -> None:
    """Raises McspError unless image and table have the same labels."""
    there, named = set(np.unique(labels)) - {0}, set(rows["index"])
    for values, where in ((named - there, "the image lacks"), (there - named, "the table lacks")):
        if values:
            some = ", ".join(str(value) for value in sorted(values)[:5])
            raise McspError(f"atlas {source}: {where} {len(values)} label(s) of the other ({some}): do they belong together?")


def _write_image(image: nib.spatialimages.SpatialImage | DenseLabels, labels: np.ndarray, path: Path) -> None:
    """Write `labels` as an image on the places of `image`."""
    with atomic_path(path) as temporary:
        if isinstance(image, DenseLabels):
            write_labels(replace(image, values=labels), temporary)
            return
        written = nib.Nifti1Image(labels.astype(np.int16 if labels.max() < 2**15 else np.int32), image.affine)
        written.header.set_sform(image.affine, code="mni")
        written.header.set_xyzt_units("mm")
        written.to_filename(temporary)


def run(*, options: AtlasOptions, out: Path) -> None:
    """Write the atlas table at `out` and, beside it, the label image: `atlas.nii.gz` for voxels, `atlas.dlabel.nii` for
    grayordinates, none for ready series.

    Raises McspError when the table is damaged, table and image disagree, or an excluded region does not exist.
    """
    rows, image = _build(options)
    source = options.table or options.image or options.name
    kept = _without(rows, options.exclude, source)
    for name in {VOLUME, SURFACE} - {options.image_name}:
        out.with_name(name).unlink(missing_ok=True)  # of an earlier run with other options
    if image is not None:
        labels = image.values if isinstance(image, DenseLabels) else np.asanyarray(image.dataobj).astype(np.int32)
        _compare(labels, rows, source)
        _write_image(image, np.where(np.isin(labels, kept["index"]), labels, 0), out.with_name(options.image_name))
    write_tsv(kept, out, COLUMNS)
    print(f"atlas {source}: {len(kept)} regions, {kept['network'].nunique()} networks: {out}")
