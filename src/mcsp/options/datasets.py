"""Where recordings come from and what their columns mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcsp.options import Options
from mcsp.options.simulate import SimulatedDataset

CONTROL = "control"


class Phenotype(Options):
    """How a phenotype table is read. Values are compared as text."""

    table: str | None = Field(None, description="Table with one row per subject; default: participants.tsv of the dataset")
    subject: str = Field("participant_id", description="Column of the subject label; 'sub-' and leading zeros are ignored")
    site: str | None = Field(None, description="Column of the site; without it the whole dataset is one site")
    age: str | None = Field("age", description="Column of the age in years; null when there is none")
    sex: str | None = Field("sex", description="Column of the sex; null when there is none")
    sex_map: dict[str, Literal["M", "F"]] = Field(
        {"M": "M", "F": "F", "m": "M", "f": "F", "male": "M", "female": "F", "Male": "M", "Female": "F"},
        description="Values of the sex column",
    )
    family: str | None = Field(None, description="Column that relatives share: they are never split over folds")
    labels: dict[str, dict[str, list[str]]] = Field(
        {},
        description="Column -> value -> labels it means ('control' or disorders). Several columns add up. "
        "A value that is not listed excludes the subject, with its reason",
    )
    missing: list[str] = Field(["", "n/a", "NA", "nan", "-999", "-9999"], description="Texts that mean 'not known'")


class _Dataset(Options):
    path: str = Field(description="Directory of the dataset")
    n_shards: int = Field(4, ge=1, le=999, description="Units of work; fixed for the dataset's lifetime")
    phenotype: Phenotype = Phenotype()
    licence: str = Field("not stated", description="Terms of use, printed in the report")


class BidsDataset(_Dataset):
    """A BIDS dataset: raw EEG, raw BOLD, fMRIPrep derivatives."""

    kind: Literal["bids"]
    modalities: list[Literal["fmri", "eeg"]] = Field(["fmri", "eeg"], min_length=1, description="What to look for")
    derivatives: str | None = Field(None, description="fMRIPrep output; default: derivatives/fmriprep of the dataset")
    tasks: list[str] = Field([], description="BIDS tasks to use; empty: all, 'rest' first")
    space: str = Field("MNI152NLin2009cAsym", description="Space of the preprocessed BOLD; fsLR: grayordinates (CIFTI)")
    line_freq: Literal[50, 60] | None = Field(None, description="Mains frequency in Hz where sidecars do not tell")


class RoiDataset(_Dataset):
    """Ready ROI time series, one text file per subject: frames as rows, a header of ROI names."""

    kind: Literal["roi"]
    modalities: list[Literal["fmri"]] = Field(["fmri"], min_length=1, max_length=1)
    pattern: str = Field(
        description="Glob of the series under `path`; {subject} stands for the label, e.g. '*_{subject}_rois_ho.1D'"
    )
    t_r: float | dict[str, float] = Field(
        description="Repetition time in s, or one per site; for a site with several, one per beginning of its files' names"
    )
    motion: str | None = Field(None, description="Phenotype column of the mean framewise displacement in mm")

    @model_validator(mode="after")
    def _check(self) -> RoiDataset:
        if "{subject}" not in self.pattern:
            raise ValueError("pattern needs {subject} where the subject's label stands")
        return self


Dataset = Annotated[BidsDataset | RoiDataset | SimulatedDataset, Field(discriminator="kind")]
