"""Read EEG of any BIDS format and find out whether it is what it claims to be."""

from __future__ import annotations

import re
from pathlib import Path

import mne
import numpy as np
import pandas as pd

from mcsp.errors import Exclusion, McspError
from mcsp.montage import hydrocel_places, is_hydrocel_128, template_montage
from mcsp.store import read_json

OLD_NAMES = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8"}
MIN_KNOWN = 8  # electrodes with a known place, for spherical splines
# BIDS' coordinate systems whose first axis points to the nose and whose second points left; in the others they point right
# and to the nose, as here (BIDS specification, appendix on coordinate systems).
NOSE_FIRST = {"CTF", "4DBti", "KitYokogawa", "EEGLAB", "EEGLAB-HJ"}


def check_edf_size(path: Path) -> None:
    """Compare an EDF or BDF file's size with what its header says.

    Raises Exclusion when they differ: the file was cut, or a text-mode transfer changed its bytes.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(256)
        try:
            n_header, n_records, n_signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
            file.seek(256 + 216 * n_signals)
            per_record = sum(int(file.read(8)) for _ in range(n_signals))
        except ValueError as error:
            raise Exclusion(f"{path.name}: its header is damaged: copy it again, in binary mode") from error
    expected = n_header + n_records * per_record * (3 if path.suffix.lower() == ".bdf" else 2)
    if n_records >= 0 and size != expected:
        kind = "more" if size > expected else "fewer"
        hint = " (a text-mode transfer adds a byte at every line end)" if size > expected else ""
        raise Exclusion(
            f"{path.name}: {abs(size - expected)} bytes {kind} than its header says: damaged in transfer{hint}, "
            "its samples are garbage: copy it again, in binary mode"
        )


def unreadable(error: Exception) -> str:
    """What a reader's error means, and the remedy. MNE numbers BrainVision's channels of one name, then lacks their units."""
    text = " ".join(str(error).split())[:200]
    if double := re.match(r"Channel (.+)-\d+ has no associated original unit", text):
        return f"two channels are named {double[1]}: rename one of them"
    return f"can't be read ({type(error).__name__}: {text}): export or copy it again"


def standard_name(name: str, known: dict[str, str]) -> str:
    """A channel's name as the montage writes it: 'EEG Fp1-Ref', 'FP1.', 'T3' -> 'Fp1', 'Fp1', 'T7'. `known`: lower -> name."""
    bare = re.sub(r"^(eeg)[ _-]+", "", name.strip(), flags=re.IGNORECASE)
    bare = re.sub(r"[ _-]+(ref|le|ar|avg|a1|a2|m1|m2)$", "", bare, flags=re.IGNORECASE).strip(" .")
    return known.get(OLD_NAMES.get(bare.lower(), bare).lower(), name)


def _channels_table(path: Path) -> pd.DataFrame | None:
    beside = path.with_name(path.name.rsplit("_eeg", 1)[0] + "_channels.tsv")
    return pd.read_csv(beside, sep="\t", dtype=str, na_values=["n/a"]) if beside.is_file() else None


def _turned(path: Path, places: np.ndarray) -> np.ndarray:
    """Places (n, 3) of an electrodes.tsv with the axes right, nose, up, by the coordsystem.json beside it."""
    stem = path.name.split("_electrodes")[0]
    beside = [path.with_name(f"{stem}_coordsystem.json"), *sorted(path.parent.glob("*_coordsystem.json"))]
    found = next((place for place in beside if place.is_file()), None)
    try:
        named = read_json(found).get("EEGCoordinateSystem") if found else None
    except McspError as error:
        raise Exclusion(str(error)) from error
    return places[:, [1, 0, 2]] * [-1, 1, 1] if named in NOSE_FIRST else places


def _electrodes(path: Path) -> dict[str, np.ndarray]:
    """Places in m of the electrodes in an electrodes.tsv, axes right, nose, up; units are told by the head's size."""
    table = pd.read_csv(path, sep="\t", na_values=["n/a"])
    if not {"name", "x", "y", "z"} <= set(table):
        return {}
    table = table.dropna(subset=["x", "y", "z"])
    places = _turned(path, table[["x", "y", "z"]].to_numpy(float))
    radius = np.median(np.linalg.norm(places - places.mean(axis=0), axis=1)) if len(places) else 1.0
    scale = 1.0 if radius < 0.5 else 0.01 if radius < 30 else 0.001
    return dict(zip(table["name"].astype(str), places * scale))


def read_eeg(path: Path, electrodes: Path | None, montage: str, max_duration: float) -> mne.io.BaseRaw:
    """The EEG channels of a recording, with places and bad channels marked, loaded up to `max_duration` s.

    Raises Exclusion when the file is damaged, or too few of its channels have a known place.
    """
    if path.suffix.lower() in (".edf", ".bdf"):
        check_edf_size(path)
    try:
        raw = mne.io.read_raw(path, preload=False, verbose="error")
    except Exception as error:  # readers fail in many ways on damaged files
        raise Exclusion(f"{path.name}: {unreadable(error)}") from error
    table = _channels_table(path)
    if table is not None:
        other = set(table.loc[table["type"].str.upper() != "EEG", "name"])
        if other >= set(raw.ch_names):
            raise Exclusion(f"{path.name}: no EEG channel by its channels.tsv")
        raw.drop_channels([c for c in raw.ch_names if c in other])
        if "status" in table:
            raw.info["bads"] = [c for c in table.loc[table["status"] == "bad", "name"] if c in raw.ch_names]
    try:
        raw.pick("eeg", exclude=[])
    except ValueError as error:
        raise Exclusion(f"{path.name}: no EEG channel") from error
    _place_electrodes(raw, path, electrodes, montage)
    return raw.crop(tmax=min(max_duration, raw.times[-1])).load_data(verbose="error")


def _place_electrodes(raw: mne.io.BaseRaw, path: Path, electrodes: Path | None, montage: str) -> None:
    template = template_montage(montage)
    known = {name.lower(): name for name in template.ch_names if name not in ("T3", "T4", "T5", "T6")}
    names = {name: standard_name(name, known) for name in raw.ch_names}
    taken: set[str] = set()
    for old, new in names.items():
        names[old] = old if new in taken else new
        taken.add(names[old])
    raw.rename_channels(names)
    places = template.get_positions()["ch_pos"]
    named = [name for name in raw.ch_names if name in places]
    if len(named) < MIN_KNOWN and is_hydrocel_128(raw.ch_names):
        places = hydrocel_places(montage)
        named = [name for name in raw.ch_names if name in places]
    elif len(named) < MIN_KNOWN and electrodes is not None:
        places = {names.get(name, name): place for name, place in _electrodes(electrodes).items()}
        named = [name for name in raw.ch_names if name in places]
    if len(named) < MIN_KNOWN:
        unknown = ", ".join([name for name in raw.ch_names if name not in named][:6])
        raise Exclusion(
            f"{path.name}: {len(named)} of {len(raw.ch_names)} channels have a known place (not: {unknown}): "
            f"name them as in {montage}, or add an electrodes.tsv"
        )
    raw.pick(named)
    raw.set_montage(mne.channels.make_dig_montage({name: places[name] for name in named}, coord_frame="head"))
