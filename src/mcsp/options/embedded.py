"""The embedded route: preprocessing of raw BOLD and T1w without a container."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from mcsp.options import Options


class EmbeddedOptions(Options):
    slice_timing: bool = Field(True, description="Correct slice timing where the sidecar has SliceTiming")
    registration: Literal["full", "quick"] = Field(
        "full", description="T1w to MNI: full ends with local cross-correlation (minutes), quick is mutual information alone"
    )
    voxel_size: PositiveFloat = Field(2.0, description="Voxel size in mm of the BOLD written in MNI space")
    work_dir: str | None = Field(
        None,
        description="Directory of intermediate files, best a disk of the node: some GB per subject, removed when it is done; "
        "~ and variables like $TMPDIR mean what they are in the job; default: beside the output",
    )
    seed: int = Field(0, ge=0, description="Of the sampling in registrations")
