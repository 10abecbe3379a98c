"""A stored study with a pre-trained model of fold 0 and a classifier of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mcsp.evaluation import splits as folds
from mcsp.options.tasks import Task
from mcsp.options.training import FinetuneOptions, PretrainOptions, SplitOptions
from mcsp.training import finetune, pretrain
from tests.conftest import write_stored_study
from tests.training.conftest import SMALL

ABOUT = {
    "study": "made-up",
    "title": "A made-up study",
    "atlas": {"name": "dosenbach160", "kind": "volume", "exclude": [], "own": False},
    "datasets": {name: {"kind": "simulate", "licence": f"terms of {name}"} for name in ("both", "mri", "cap")},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """`study`, `splits`, `pretrained` and `classifiers` (a task's directory, of which fold 0 is there)."""
    root = tmp_path_factory.mktemp("trained")
    study = write_stored_study(root, n_per_group=8)
    splits = root / "splits/splits.tsv"
    folds.run(cohort=study.cohort, options=SplitOptions(n_folds=3), out=splits)
    common = {"stores": study.stores, "cohort": study.cohort, "splits": splits, "fold": 0, "threads": 1}
    base, out = root / "pretrain/fold-0", root / "finetune/asd/fold-0_seed-0"
    options = PretrainOptions(epochs=1, batch_size=16, model=SMALL)
    pretrain.run(**common, options=options, about=ABOUT, out=base, history=base / "history.tsv")
    finetune.run(
        **common, seed=0, task=Task(case=["ASD"]), pretrained=base, options=FinetuneOptions(epochs=2, hidden=8), out=out,
        history=out / "history.tsv",
    )  # fmt: skip
    return SimpleNamespace(root=root, study=study, splits=splits, pretrained=base, classifiers=out.parent)
