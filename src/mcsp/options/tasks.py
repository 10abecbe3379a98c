"""Questions put to the classifiers."""

from __future__ import annotations

from pydantic import Field, model_validator

from mcsp.options import Options
from mcsp.options.datasets import CONTROL


class Task(Options):
    """A binary question: subjects with any label of `case` against subjects with any of `control` and none of `case`."""

    case: list[str] = Field(min_length=1)
    control: list[str] = Field([CONTROL], min_length=1)
    title: str | None = Field(None, description="How tables and figures call the task")

    @model_validator(mode="after")
    def _check(self) -> Task:
        both = set(self.case) & set(self.control)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} stands on both sides")
        return self
