"""What is downloaded for a dataset, and under which terms."""

from __future__ import annotations

import re

from pydantic import Field, PositiveInt, field_validator, model_validator

from mcsp.options import Options


def _compiles(value: dict[str, str]) -> dict[str, str]:
    for pattern, name in value.items():
        try:
            re.sub(pattern, name, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"{pattern} -> {name}: no regular expression and what replaces it ({error})") from error
    return value


class Source(Options):
    """Objects of a public S3 bucket below a prefix, over plain HTTPS."""

    bucket: str = Field(description="URL of the bucket, e.g. https://s3.amazonaws.com/fcp-indi")
    prefix: str = Field(description="What the keys of the objects begin with")
    into: str = Field("", description="Directory below the dataset's path that the objects go to")
    name: str | None = Field(
        None,
        description="Where several BIDS datasets are joined in one: files at this one's top go to sourcedata/<name>, its "
        "sidecars to each of its subjects, by BIDS' inheritance",
    )
    sites: bool = Field(
        False, description="Below the prefix there is one BIDS dataset per site: each is joined under its own name"
    )
    include: list[str] = Field(["*"], description="Patterns of paths below the prefix (and site); * fits any text, / too")
    exclude: list[str] = Field([], description="Patterns of what is left out, also when it is included")
    rename: dict[str, str] = Field(
        {},
        description="Regular expression that fits a whole path below the prefix (and site) -> path below the dataset, \\1 for "
        "its first group: e.g. names that BIDS does not know to those that it does. What none fits keeps its name; several "
        "must not fit one path",
    )

    _rename = field_validator("rename")(_compiles)


class NdaPackage(Options):
    """A package of the NIMH Data Archive, as its own client downloads it: its images and EEG are laid out as BIDS."""

    package: str = Field(description="Directory of the package: image03.txt, eeg_sub_files01.txt and their files")
    task: str = Field("rest", description="BIDS task of the functional images and EEG that are wanted")
    wanted: list[str] = Field(
        ["*rest*"],
        description="Patterns, in any case, of what the archive's tables say of functional images and EEG (description, task, "
        "name of the file): those that one fits are laid out",
    )
    visits: list[str] = Field([], description="Values of the column visit that count; empty: all, each a session")


class FetchOptions(Options):
    """How a dataset is obtained."""

    terms: str = Field(description="Terms of use: shown before anything is fetched")
    accept_terms: bool = Field(False, description="true: you have read the terms and keep to them")
    sources: list[Source] = Field([], description="Buckets and prefixes")
    files: dict[str, str] = Field({}, description="Single files: path below the dataset's path -> URL")
    by_hand: str | None = Field(None, description="What only the user can obtain, and how")
    archives: list[str] = Field(
        [],
        description="Patterns of archives (tar, zip) below the dataset's path, put there by hand, which are unpacked beside it",
    )
    archive_names: dict[str, str] = Field(
        {}, description="The same as rename of a source, for paths within the archives -> paths beside the archive"
    )
    nda: NdaPackage | None = Field(None, description="Lay out a package of the NIMH Data Archive that was downloaded by hand")
    subset: PositiveInt | None = Field(None, description="Only so many subjects of each source and site, for a first try")
    retries: int = Field(5, ge=0, description="How often a cut or refused transfer is tried again, waiting longer each time")

    _archive_names = field_validator("archive_names")(_compiles)

    @model_validator(mode="after")
    def _check(self) -> FetchOptions:
        if not (self.sources or self.files or self.by_hand):
            raise ValueError("give sources, files, or by_hand")
        if self.nda and (self.sources or self.files):
            raise ValueError("nda lays out a package that was downloaded by hand: leave out sources and files, or nda")
        return self
