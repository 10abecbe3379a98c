"""A small stored study with frozen folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcsp.evaluation import splits as folds
from mcsp.options.training import PretrainOptions, SplitOptions

SMALL = {"width": 16, "dim": 16, "depth": 1, "heads": 2, "patch": 8}


@pytest.fixture
def frozen(stored_study) -> Path:
    """Path of the study's folds."""
    path = stored_study.root / "splits" / "splits.tsv"
    folds.run(cohort=stored_study.cohort, options=SplitOptions(n_folds=3), out=path)
    return path


@pytest.fixture
def options() -> PretrainOptions:
    """Pre-training that takes seconds."""
    return PretrainOptions(epochs=4, batch_size=16, model=SMALL)
