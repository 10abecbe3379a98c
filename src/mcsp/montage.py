"""Template montages by name."""

from __future__ import annotations

import warnings
from functools import cache

import mne

from mcsp.errors import McspError


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
