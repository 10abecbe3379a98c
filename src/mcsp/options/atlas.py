"""The parcellation of a study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mcsp.options import Options

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

    @property
    def image_name(self) -> str | None:
        """Name of the label image that the atlas stage writes; None for ready series."""
        if self.kind == "series":
            return None
        return SURFACE if (self.image or "").endswith(".dlabel.nii") else VOLUME
