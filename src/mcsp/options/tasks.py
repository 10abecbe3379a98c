"""Questions put to the classifiers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mcsp.options import Options
from mcsp.options.datasets import CONTROL

SEXES = {"F", "M"}


class Task(Options):
    """A binary question: subjects with any value of `case` against subjects with any of `control` and none of `case`."""

    column: Literal["labels", "sex"] = Field(
        "labels", description="What is asked for: labels (disorders and control), or sex, as a sanity task"
    )
    case: list[str] = Field(min_length=1)
    control: list[str] = Field([CONTROL], min_length=1)
    comorbid: Literal["case", "exclude"] = Field(
        "case",
        description="Subjects with labels beside those of one side. case: any label of case makes a case; exclude: they are "
        "left out of the task (pre-training sees them all the same)",
    )
    title: str | None = Field(None, description="How tables and figures call the task")

    @model_validator(mode="after")
    def _check(self) -> Task:
        both = set(self.case) & set(self.control)
        if both:
            raise ValueError(f"{', '.join(sorted(both))} stands on both sides")
        strange = sorted({*self.case, *self.control} - SEXES) if self.column == "sex" else []
        if strange:
            raise ValueError(f"{', '.join(strange)} is no value of sex: give case and control one of F and M each")
        return self

    def question(self) -> str:
        """The question in words, with the rule for comorbid subjects."""
        rule = {"case": "any label of a case makes a case", "exclude": "subjects with labels beside these are left out"}
        words = f"cases: {', '.join(self.case)}; controls: {', '.join(self.control)}"
        return f"{words}; {rule[self.comorbid]}" if self.column == "labels" else f"{self.column}, {words}"
