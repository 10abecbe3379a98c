"""Controls: labels that nobody could learn from."""

from __future__ import annotations

from pydantic import Field

from mcsp.options import Options
from mcsp.options.tasks import Task

RANDOM_TASK = "random-label"  # its name in the results
RANDOM_LABELS = Task(case=["random case"], control=["random control"], title="a random label")


class ControlOptions(Options):
    draws: int = Field(
        3, ge=1, le=99, description="Times that labels are drawn; each costs fine-tuning and rivals once more over all folds"
    )
    seed: int = Field(0, ge=0)
