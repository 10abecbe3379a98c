"""From preprocessed BOLD to ROI series."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mcsp.options import Options


class FmriOptions(Options):
    confounds: Literal["24motion+wmcsf", "24motion+wmcsf+gsr", "6motion", "6motion+wmcsf", "acompcor", "none"] = Field(
        "24motion+wmcsf", description="Confound strategy, in the sense of nilearn's load_confounds"
    )
    low_pass: PositiveFloat | None = Field(0.1, description="Hz")
    high_pass: PositiveFloat | None = Field(0.01, description="Hz")
    fd_threshold: PositiveFloat | None = Field(
        0.5, description="Frames with a framewise displacement above this (mm) are scrubbed; null: none"
    )
    min_scrubbed_share: float = Field(0.5, ge=0, le=1, description="A run with less than this share of frames left is excluded")
    max_mean_fd: PositiveFloat = Field(0.5, description="A run with a larger mean framewise displacement (mm) is excluded")
    t_r: PositiveFloat = Field(2.0, description="Common repetition time in s to which all runs are resampled")
    n_frames: PositiveInt = Field(120, description="Frames kept; shorter runs are padded and masked")
    runs: Literal["first", "join"] = Field(
        "first",
        description="Several runs of a subject: first takes the first usable one (rest first, then by session and run); join "
        "takes all usable ones of its task, each denoised and scaled by itself, one after the other up to n_frames",
    )
    min_frames: PositiveInt = Field(
        60, description="A subject with fewer frames at the common repetition time is excluded; with runs: first, a run"
    )

    @model_validator(mode="after")
    def _check(self) -> FmriOptions:
        if self.low_pass and self.high_pass and self.high_pass >= self.low_pass:
            raise ValueError(f"high_pass ({self.high_pass} Hz) must be below low_pass ({self.low_pass} Hz)")
        if self.low_pass and self.low_pass > 0.5 / self.t_r:
            raise ValueError(f"low_pass ({self.low_pass} Hz) is above the Nyquist frequency of t_r ({0.5 / self.t_r:.3g} Hz)")
        if self.min_frames > self.n_frames:
            raise ValueError(f"min_frames ({self.min_frames}) is above n_frames ({self.n_frames})")
        return self
