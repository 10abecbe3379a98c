"""Transforms of the temporal stores into spatial and spectral ones."""

from __future__ import annotations

from pydantic import Field, model_validator

from mcsp.options import Options

BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0)}


class ConnectivityOptions(Options):
    bands: dict[str, tuple[float, float]] = Field(BANDS, min_length=1, description="EEG bands in Hz")

    @model_validator(mode="after")
    def _check(self) -> ConnectivityOptions:
        for name, (low, high) in self.bands.items():
            if not 0 < low < high:
                raise ValueError(f"band {name}: {low}-{high} Hz is not a band")
        return self


class SpectraOptions(Options):
    detrend: bool = Field(True, description="Remove the mean of each series before the transform")
