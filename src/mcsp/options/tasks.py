"""Questions put to the classifiers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mcsp.options import Options
from mcsp.options.datasets import CONTROL

SEXES = {"F", "M"}
KINDS = {"labels": ("binary", "multiclass"), "sex": ("binary",), "age": ("regression",)}


class Task(Options):
    """A question. binary: subjects with any value of `case` against subjects with any of `control` and none of `case`;
    multiclass: which of `classes`; regression: a number.
    """

    kind: Literal["binary", "multiclass", "regression"] = Field(
        "binary", description="May be left out: classes make it multiclass, column: age makes it regression"
    )
    column: Literal["labels", "sex", "age"] = Field(
        "labels", description="What is asked for: labels (disorders and control); sex or age, as sanity tasks"
    )
    case: list[str] = Field([], description="Values that make a case; binary tasks only")
    control: list[str] = Field([CONTROL], min_length=1)
    classes: dict[str, list[str]] = Field({}, description="Class -> labels that mean it, three or more; multiclass tasks only")
    comorbid: Literal["case", "exclude"] = Field(
        "case",
        description="Subjects with labels beside those of one side. case: any label of case makes a case; exclude: they are "
        "left out of the task (pre-training sees them all the same). With classes, subjects of two of them are always left out",
    )
    title: str | None = Field(None, description="How tables and figures call the task")

    @model_validator(mode="before")
    @classmethod
    def _kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and "kind" not in values:
            kind = "multiclass" if values.get("classes") else "regression" if values.get("column") == "age" else "binary"
            return {**values, "kind": kind}
        return values

    @model_validator(mode="after")
    def _check(self) -> Task:
        if self.kind not in KINDS[self.column]:
            raise ValueError(f"column {self.column} goes with kind {' or '.join(KINDS[self.column])}, not {self.kind}")
        if bool(self.case) != (self.kind == "binary"):
            raise ValueError(
                "case is missing: name its values" if self.kind == "binary" else f"case has no meaning in {self.kind}"
            )
        if bool(self.classes) != (self.kind == "multiclass") or len(self.classes) in (1, 2):
            raise ValueError("classes are for kind: multiclass, and three or more; two are a case and a control")
        sides = list(self.classes.values()) or [self.case, self.control]
        both = {value for side in sides for value in side if sum(value in other for other in sides) > 1}
        if both:
            raise ValueError(f"{', '.join(sorted(both))} stands on both sides")
        strange = sorted({*self.case, *self.control} - SEXES) if self.column == "sex" else []
        if strange:
            raise ValueError(f"{', '.join(strange)} is no value of sex: give case and control one of F and M each")
        return self

    def sides(self) -> dict[str, set[str]]:
        """Class -> values that mean it; of a binary task control, then case. Empty in regression."""
        if self.kind == "binary":
            return {"control": set(self.control), "case": set(self.case)}
        return {name: set(values) for name, values in self.classes.items()}

    def question(self) -> str:
        """The question in words, with the rule for comorbid subjects."""
        if self.kind == "regression":
            return f"{self.column} in years"
        if self.kind == "multiclass":
            words = "; ".join(f"{name}: {', '.join(values)}" for name, values in self.classes.items())
            return f"which of {words}; subjects of two of them are left out"
        rule = {"case": "any label of a case makes a case", "exclude": "subjects with labels beside these are left out"}
        words = f"cases: {', '.join(self.case)}; controls: {', '.join(self.control)}"
        return f"{words}; {rule[self.comorbid]}" if self.column == "labels" else f"{self.column}, {words}"
