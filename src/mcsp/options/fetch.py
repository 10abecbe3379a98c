"""What is downloaded for a dataset, and under which terms."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from mcsp.options import Options


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


class FetchOptions(Options):
    """How a dataset is obtained."""

    terms: str = Field(description="Terms of use: shown before anything is fetched")
    accept_terms: bool = Field(False, description="true: you have read the terms and keep to them")
    sources: list[Source] = Field([], description="Buckets and prefixes")
    files: dict[str, str] = Field({}, description="Single files: path below the dataset's path -> URL")
    by_hand: str | None = Field(None, description="What only the user can obtain, and how")
    subset: PositiveInt | None = Field(None, description="Only so many subjects of each source and site, for a first try")
    retries: int = Field(5, ge=0, description="How often a cut or refused transfer is tried again, waiting longer each time")

    @model_validator(mode="after")
    def _check(self) -> FetchOptions:
        if not (self.sources or self.files or self.by_hand):
            raise ValueError("give sources, files, or by_hand")
        return self
