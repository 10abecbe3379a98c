"""The parcellation of a study."""

from __future__ import annotations

import difflib
from typing import Literal

from pydantic import Field, model_validator

from mcsp.options import Options

NAMES = ["dosenbach160", *(f"schaefer{n}00" for n in range(1, 5))]
VOLUME, SURFACE = "atlas.nii.gz", "atlas.dlabel.nii"  # label images that the atlas stage writes beside its table


class AtlasOptions(Options):
    name: str = Field(
        "dosenbach160",
        description="dosenbach160 (built in), schaefer100..schaefer400 in steps of 100 (fetched by nilearn), "
        "or any name with `image` and/or `table`",
    )
    image: str | None = Field(None, description="Label image in MNI space (NIfTI), or of fsLR grayordinates (.dlabel.nii)")
    table: str | None = Field(
        None,
        description="TSV with columns index, name and, where known, network, x, y, z (MNI, mm), code (the ROI's name in "
        "ready series); alone: ready ROI series. A .dlabel.nii brings its own names and needs none",
    )
    kind: Literal["volume", "series"] = Field(
        "volume", description="series: ROIs are columns of ready series, without an image"
    )
    exclude: list[str] = Field([], description="ROIs to leave out, by code or name")

    @model_validator(mode="after")
    def _check(self) -> AtlasOptions:
        if self.table and bool(self.image) != (self.kind == "volume"):
            raise ValueError(f"kind = {self.kind}: 'volume' needs image beside table, 'series' has none")
        if self.kind == "series" and not self.table:
            raise ValueError("kind = series needs table: a TSV with columns index, name[, code]")
        if self.image and not self.table and self.image_name != SURFACE:
            raise ValueError(f"image = {self.image} needs table: a TSV with columns index and name")
        if not self.image and not self.table and self.name not in NAMES:
            near = difflib.get_close_matches(self.name, NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"{', '.join(NAMES)}, or give table and image"
            raise ValueError(f"name = {self.name} is not known: {hint}")
        return self

    @property
    def image_name(self) -> str | None:
        """Name of the label image that the atlas stage writes; None for ready series."""
        if self.kind == "series":
            return None
        return SURFACE if (self.image or "").endswith(".dlabel.nii") else VOLUME
