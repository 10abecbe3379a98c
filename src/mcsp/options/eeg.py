"""From raw EEG to segments."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mcsp.options import Options

CHANNELS_19 = [
    "Fp1",
    "Fp2",
    "F7",
    "F3",
    "Fz",
    "F4",
    "F8",
    "T7",
    "C3",
    "Cz",
    "C4",
    "T8",
    "P7",
    "P3",
    "Pz",
    "P4",
    "P8",
    "O1",
    "O2",
]


class EegOptions(Options):
    high_pass: PositiveFloat = Field(0.5, description="Hz")
    low_pass: PositiveFloat = Field(45.0, description="Hz")
    sfreq: PositiveFloat = Field(250.0, description="Common sampling rate in Hz")
    montage: str = Field("standard_1020", description="MNE's name of the montage that all recordings are mapped to")
    ch_names: list[str] = Field(
        CHANNELS_19, min_length=4, description="Channels of the common montage, in the order of the store"
    )
    n_segments: PositiveInt = 125
    segment_samples: PositiveInt = 200
    short: Literal["exclude", "overlap"] = Field("exclude", description="What happens to recordings with too few clean samples")
    min_overlap_share: float = Field(
        0.3, gt=0, le=1, description="overlap: least share of the full length that a recording must have"
    )
    max_bad_share: float = Field(0.3, ge=0, lt=1, description="A recording with a larger share of bad channels is excluded")
    peak_to_peak: PositiveFloat = Field(
        800e-6, description="Segments with a larger peak-to-peak amplitude (V) after filtering are rejected"
    )

    @model_validator(mode="after")
    def _check(self) -> EegOptions:
        if self.high_pass >= self.low_pass:
            raise ValueError(f"high_pass ({self.high_pass} Hz) must be below low_pass ({self.low_pass} Hz)")
        if double := next((name for name in self.ch_names if self.ch_names.count(name) > 1), None):
            raise ValueError(f"ch_names: {double} stands twice: name each channel once")
        return self
