"""Template montages by name, and the places of nets whose channels have no 10-20 names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from functools import cache

import mne
import numpy as np
from scipy.linalg import orthogonal_procrustes

from mcsp.errors import McspError

# Channels of the 128-channel HydroCel net that stand at 10-20 places, by its maker's table. Cz is its reference, E129.
HYDROCEL_1020 = {
    "E22": "Fp1", "E9": "Fp2", "E33": "F7", "E24": "F3", "E11": "Fz", "E124": "F4", "E122": "F8", "E45": "T7", "E36": "C3",
    "Cz": "Cz", "E104": "C4", "E108": "T8", "E58": "P7", "E52": "P3", "E62": "Pz", "E92": "P4", "E96": "P8", "E70": "O1",
    "E83": "O2",
}  # fmt: skip
HYDROCEL_NUMBERS = range(66, 130)  # the highest number of a channel: smaller nets end at 65, larger ones above 129


@cache
def template_montage(name: str, head_size: float = 0.095) -> mne.channels.DigMontage:
    """MNE's template montage `name`, on a head of `head_size` m radius. Raises McspError for an unknown name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MNE renames standard_* to colin27_*; both give these places
        for known in (name, name.replace("standard_", "colin27_")):
            try:
                return mne.channels.make_standard_montage(known, head_size=head_size)
            except ValueError:
                continue
    raise McspError(f"eeg.montage = {name} is not known to MNE: see mne.channels.get_builtin_montages()")


def check_channels(ch_names: Sequence[str], montage: str) -> None:
    """Raises McspError when channels of the study's montage have no place in the template `montage`."""
    known = template_montage(montage).ch_names
    unknown = [name for name in ch_names if name not in known]
    if unknown:
        alike = {name.lower(): name for name in known}
        hints = [f"{name} ({alike[name.lower()]}?)" if name.lower() in alike else name for name in unknown]
        raise McspError(f"eeg.ch_names: not in {montage}: {', '.join(hints)}: write them as there, or leave them out")


def is_hydrocel_128(names: Collection[str]) -> bool:
    """Whether channels are those of the 128-channel HydroCel net: E1 to E128, with the reference as Cz or E129, or without."""
    numbers = [int(match[1]) for name in names if (match := re.fullmatch(r"E(\d+)", name))]
    return bool(numbers) and len(numbers) >= len(names) - 1 and max(numbers) in HYDROCEL_NUMBERS


@cache
def hydrocel_places(montage: str) -> dict[str, np.ndarray]:
    """Places in m of the 128-channel HydroCel net's channels in the frame of a template montage: MNE's template of the net,
    turned, shifted and scaled so that its channels at 10-20 places come closest to these (least squares, Schoenemann 1966).
    """
    own = template_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    wanted = template_montage(montage).get_positions()["ch_pos"]
    pairs = [(own[channel], wanted[place]) for channel, place in HYDROCEL_1020.items() if place in wanted]
    here, there = (np.array(places) for places in zip(*pairs))
    here_middle, there_middle = here.mean(axis=0), there.mean(axis=0)
    turn, scale = orthogonal_procrustes(here - here_middle, there - there_middle)
    scale /= ((here - here_middle) ** 2).sum()
    places = {name: scale * (place - here_middle) @ turn + there_middle for name, place in own.items()}
    return {**places, "E129": places["Cz"]}
