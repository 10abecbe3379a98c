"""What headers and sidecars tell of a recording, without reading its data."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import bids2table
import nibabel as nib

from mcsp.errors import Exclusion

T_R_RANGE = (0.2, 10.0)  # s; no scanner makes a whole-brain volume faster, no resting-state protocol is slower
FINGERPRINT_BYTES = 1 << 20


def require_data(path: Path) -> None:
    """Raises Exclusion when a file holds nothing."""
    if not path.exists():
        link = "a link to nothing: fetch the data (`datalad get`, `git annex get`)" if path.is_symlink() else "missing"
        raise Exclusion(f"{path.name}: file is {link}")
    if path.stat().st_size == 0:
        raise Exclusion(f"{path.name}: file is empty")


def fingerprint(path: Path) -> tuple[int, str]:
    """Size in bytes, and a hash (16 hex digits) of size and first MiB: equal recordings have equal ones."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(FINGERPRINT_BYTES) + str(size).encode())
    return size, digest.hexdigest()[:16]


def sidecar(path: Path) -> dict[str, Any]:
    """Metadata of a BIDS file by the inheritance principle. Raises Exclusion when its own sidecar is no JSON."""
    own = path.with_name(path.name.split(".")[0] + ".json")
    try:
        if own.is_file():
            json.loads(own.read_text(encoding="utf-8-sig"))
        return bids2table.load_bids_metadata(path)
    except ValueError as error:
        raise Exclusion(f"{own.name} or a sidecar above it is not JSON ({error}): mend it") from error


def number(value: Any) -> float:
    """A sidecar's value as a number; NaN when it is none ('n/a', a list, nothing)."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def header_t_r(path: Path) -> float:
    """Repetition time in s from a NIfTI header, NaN when the header does not tell.

    Raises Exclusion when the file is no NIfTI image of four dimensions.
    """
    header = nifti_header(path)
    if len(header.get_data_shape()) != 4:
        raise Exclusion(f"{path.name}: image of {len(header.get_data_shape())} dimensions: a BOLD run has 4")
    value = float(header["pixdim"][4])
    scale = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1])
    if scale is None and value in (0.0, 1.0):  # what programs leave there when they know nothing
        return math.nan
    return value * (scale or 1.0)


def nifti_header(path: Path) -> nib.Nifti1Header:
    """Header of a NIfTI image. Raises Exclusion when it can't be read."""
    try:
        return nib.load(path).header
    except Exception as error:  # nibabel, gzip and zlib each raise their own
        raise Exclusion(f"{path.name}: not a readable NIfTI image ({' '.join(str(error).split())}): copy it again") from error


def checked_t_r(value: float, source: str) -> float:
    """`value` when it is a possible repetition time in s. Raises Exclusion that says what is wrong and the remedy."""
    low, high = T_R_RANGE
    if low <= value <= high:
        return value
    hint = f": it looks like milliseconds, write {value / 1000:g}" if low <= value / 1000 <= high else ": write it in seconds"
    raise Exclusion(f"repetition time {value:g} s in {source} is not possible ({low:g} to {high:g} s){hint}")


def repetition_time(path: Path, others: list[Path]) -> float:
    """Repetition time in s of a BOLD run: from its sidecars, those of `others` (the raw run), or the NIfTI header.

    Raises Exclusion when none tells, or it is not possible.
    """
    for place in (path, *others):
        value = number(sidecar(place).get("RepetitionTime"))
        if not math.isnan(value):
            return checked_t_r(value, f"the sidecar of {place.name}")
    value = header_t_r(path)
    if math.isnan(value):
        raise Exclusion(f"{path.name}: repetition time unknown: add RepetitionTime (s) to its JSON sidecar")
    return checked_t_r(value, f"the header of {path.name}")


def data_file(path: Path) -> Path:
    """The file that holds an EEG recording's samples: `path` itself or the one it names.

    Raises Exclusion when that is missing or empty.
    """
    require_data(path)
    data = path
    if path.suffix.lower() == ".vhdr":
        named = re.search(r"^DataFile=(.*)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if not named:
            raise Exclusion(f"{path.name}: BrainVision header without DataFile: export it again")
        data = path.with_name(named[1].strip().replace("$b", path.stem))
        if not data.exists() and not data.is_symlink():
            raise Exclusion(f"{path.name} names the data file {data.name}, which is not there: mend DataFile or copy the file")
    elif path.suffix.lower() == ".set" and path.with_suffix(".fdt").exists():
        data = path.with_suffix(".fdt")
    require_data(data)
    return data


def check_edf(path: Path) -> None:
    """Raises Exclusion when an EDF or BDF file is not as long as its header says, or the header makes no sense.

    Source: Kemp et al. 1992, edfplus.info: header 256 bytes + 256 per signal; -1 records means 'not known'.
    """
    with open(path, "rb") as file:
        fixed = file.read(256)
        try:
            n_header, n_records = int(fixed[184:192]), int(fixed[236:244])
            duration, n_signals = float(fixed[244:252]), int(fixed[252:256])
            if n_header != 256 * (n_signals + 1) or n_signals < 1 or duration < 0:
                raise ValueError("its lengths contradict each other")
            signals = file.read(256 * n_signals)
            n_samples = [int(signals[216 * n_signals + 8 * i : 216 * n_signals + 8 * (i + 1)]) for i in range(n_signals)]
        except ValueError as error:
            raise Exclusion(f"{path.name}: damaged EDF header ({error}): export or copy it again") from error
    record = sum(n_samples) * (3 if path.suffix.lower() == ".bdf" else 2)
    excess = path.stat().st_size - n_header - n_records * record
    if n_records < 0 or (excess > 0 and excess % record == 0):
        return
    if excess > 0:
        raise Exclusion(
            f"{path.name}: {excess} bytes longer than its header says: bytes were added, as a transfer in text mode does "
            "(LF to CR LF), and the samples are garbage: copy it again in binary mode"
        )
    if excess < 0:
        raise Exclusion(f"{path.name}: {-excess} bytes shorter than its header says: the file is cut: copy it again")
