"""The options of each stage, one module per stage. A stage imports its own only, and gets nothing else."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of all options: unknown keys are errors, values can't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
