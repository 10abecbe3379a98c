"""Where recordings come from and what their columns mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from glob import glob
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcsp.options import Options
from mcsp.options.fetch import FetchOptions
from mcsp.options.simulate import SimulatedDataset

CONTROL = "control"
FOLDER = "{folder}"  # as the column of the site: the name of the directory that the row's table lies in


@cache
def plain_column(name: str) -> str:
    """A column's name for comparison: tables of one cohort write 'Full4 IQ', 'full4_iq' and 'FULL4_IQ '."""
    return re.sub(r"[\s_]+", "", name).lower()


def alike(columns: Iterable[str], wanted: str) -> str | None:
    """The column of a name; if none has just it, the first that has it but for blanks around, else for case, blanks and
    underscores. None when there is none.
    """
    names = list(columns)
    found = (name for form in (str, str.strip, plain_column) for name in names if form(name) == form(wanted))
    return next(found, None)


class Phenotype(Options):
    """How phenotype tables are read. Values are compared as text; case, blanks and underscores of column names do not count."""

    table: str | list[str] | None = Field(
        None,
        description="Table with one row per subject; default: participants.tsv of the dataset. Several, by a list or by "
        "wildcards (** for any depth), are joined by subject: the first that knows a column counts. Wildcards that fit nothing "
        "are passed over",
    )
    subject: str | list[str] = Field(
        "participant_id",
        description="Column of the subject label (of several names, the first that a table has). 'sub-', leading zeros and "
        "what follows a comma are ignored",
    )
    description_rows: int = Field(
        0,
        ge=0,
        description="Rows of descriptions between the header and the first subject: 1 in tables of NDA and LORIS. "
        "participants*.tsv, BIDS' own, are read as having none",
    )
    where: dict[str, list[str]] = Field(
        {}, description="Column -> values: only rows with one of them count, e.g. one visit, or one verdict of quality control"
    )
    site: str | list[str] | None = Field(
        None,
        description="Column of the site (of several, the first that is known); without it the whole dataset is one site. "
        "'{folder}': the name of the directory that the table lies in, e.g. of sourcedata/<site>/participants.tsv",
    )
    site_map: dict[str, str] = Field({}, description="Values of the site column -> names; others stay as they are")
    age: str | None = Field("age", description="Column of the age; null when there is none")
    age_unit: Literal["years", "months"] = "years"
    sex: str | None = Field("sex", description="Column of the sex; null when there is none")
    sex_map: dict[str, Literal["M", "F"]] = Field(
        {"M": "M", "F": "F", "m": "M", "f": "F", "male": "M", "female": "F", "Male": "M", "Female": "F"},
        description="Values of the sex column",
    )
    handedness: str | None = Field(None, description="Column of the handedness. Carried into the cohort table, not used")
    handedness_map: dict[str, Literal["R", "L", "A"]] = Field(
        {"R": "R", "L": "L", "A": "A", "r": "R", "l": "L", "a": "A", "right": "R", "left": "L", "ambidextrous": "A"},
        description="Values of the handedness column; A: ambidextrous or mixed",
    )
    right_from: float | None = Field(
        None,
        gt=0,
        description="Where the column holds laterality quotients: right from this value on, left to its negative, else A",
    )
    iq: list[str] = Field(
        [], description="Columns of the full-scale IQ; the first that is known counts. Carried into the cohort table, not used"
    )
    medication: str | None = Field(
        None, description="Column of psychotropic medication. Carried into the cohort table, not used"
    )
    medication_map: dict[str, Literal["yes", "no"]] = Field(
        {"yes": "yes", "no": "no", "1": "yes", "0": "no"}, description="Values of the medication column"
    )
    family: str | None = Field(None, description="Column that relatives share: they are never split over folds")
    labels: dict[str, dict[str, list[str]]] = Field(
        {},
        description="Column -> value -> labels it means ('control' or disorders; [] for none). Several columns add up. Columns "
        "and values may hold wildcards (*, ?, [..]; values in any case): of the columns that one fits, empty cells are passed "
        "over; an exact value goes before wildcards, and '*' means the rest. A value that fits nothing, or wildcards that mean "
        "different labels, excludes the subject, with its reason",
    )
    ignore: dict[str, list[str]] = Field(
        {},
        description="Column -> values with which a label is passed over; {column} stands for the label's own, e.g. "
        "'{column}_RuleOut': ['1']",
    )
    unlabelled: Literal["exclude", "keep"] = Field(
        "exclude", description="Subjects without a label where others have one. keep: for pre-training only"
    )
    missing: list[str] = Field(["", "n/a", "N/A", "NA", "nan", ".", "-999", "-9999"], description="Texts that mean 'not known'")

    def tables(self, default: Path) -> list[Path]:
        """Paths of the tables, wildcards filled in where something fits; `default` where the study names none."""
        named = [self.table] if isinstance(self.table, str) else self.table or [str(default)]
        found = [
            path
            for text in named
            for path in sorted(glob(text, recursive=True)) or ([] if re.search(r"[*?\[]", text) else [text])
        ]
        return [Path(path) for path in found or named[:1]]

    def subject_columns(self) -> list[str]:
        """Names that the column of the subject may have."""
        return [self.subject] if isinstance(self.subject, str) else self.subject

    def site_columns(self) -> list[str]:
        """Columns that may tell the site."""
        return [self.site] if isinstance(self.site, str) else self.site or []

    def carried(self) -> dict[str, list[str]]:
        """Option -> columns of what stands in the cohort table and is used by nothing."""
        own = {"handedness": [self.handedness], "iq": self.iq, "medication": [self.medication]}
        return {option: [column for column in columns if column] for option, columns in own.items()}


class _Dataset(Options):
    path: str = Field(description="Directory of the dataset")
    n_shards: int = Field(4, ge=1, le=999, description="Units of work; fixed for the dataset's lifetime")
    phenotype: Phenotype = Phenotype()
    licence: str = Field("not stated", description="Terms of use, printed in the report")
    cite: list[str] = Field(
        [],
        description="What to cite for the data, for the report: whole BibTeX entries, or keys of those in "
        "src/mcsp/report/references.bib, e.g. dimartino2014abide",
    )
    people: str | None = Field(
        None,
        description="A name that datasets share whose equal subject labels mean equal people, e.g. ABIDE I and II: whoever "
        "stands in several is used once",
    )
    fetch: FetchOptions | None = Field(None, description="How `snakemake fetch` obtains the dataset")


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
        description="Glob of the series under `path` (**/ for any depth); {subject} stands for the label, e.g. "
        "'*_{subject}_rois_ho.1D'"
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
