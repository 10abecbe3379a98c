"""Model cards say what a model was made of, and what failed."""

import pandas as pd
import pytest

from mcsp.evaluation.splits import splits_hash
from mcsp.evaluation.stage import COMPARISON_COLUMNS, METRIC_COLUMNS
from mcsp.report import card
from mcsp.store import read_tsv, write_tsv
from tests.predict.conftest import ABOUT, trained  # noqa: F401


@pytest.fixture
def tables(tmp_path):
    """Metrics and comparisons in which MCSP is not told apart from phenotype."""
    rows = [
        {"task": "asd", "method": m, "protocol": "kfold, 3 folds", "n": 48, "n_case": 24, "metric": k, "value": v,
         "low": v - 0.1, "high": v + 0.1}
        for m, v in (("mcsp", 0.61), ("phenotype", 0.58))
        for k in ("auroc", "brier")
    ]  # fmt: skip
    write_tsv(pd.DataFrame(rows).reindex(columns=list(METRIC_COLUMNS)), tmp_path / "metrics.tsv", METRIC_COLUMNS)
    pair = {"task": "asd", "method": "mcsp", "rival": "phenotype", "metric": "auroc", "difference": 0.03, "p": 0.4}
    pair |= {"p_holm": 0.41, "verdict": "not told apart"}
    write_tsv(pd.DataFrame([pair]).reindex(columns=list(COMPARISON_COLUMNS)), tmp_path / "comparisons.tsv", COMPARISON_COLUMNS)
    return {"metrics": tmp_path / "metrics.tsv", "comparisons": tmp_path / "comparisons.tsv"}


def write(trained, out, models, **more):  # noqa: F811
    card.run(models=models, cohort=trained.study.cohort, splits=trained.splits, about=ABOUT, out=out, **more)
    return out.read_text()


def test_a_tasks_card(trained, tables, tmp_path):  # noqa: F811
    folder = trained.classifiers / "fold-0_seed-0"
    text = write(trained, tmp_path / "card.md", [folder], task="asd", **tables)
    assert "FAILS: does not beat phenotype, site and motion alone" in text
    assert "Research use only. Not a medical device; not for diagnosis" in text
    assert "SIMULATED data (both, mri, cap)" in text
    assert splits_hash(trained.splits) in text
    assert "| both | simulated | 16 | 16 | 16 | 2 |" in text
    assert "terms of cap" in text
    assert "| auroc | 0.610 [0.510, 0.710] |" in text
    assert "not told apart (p = 0.41, Holm)" in text
    assert f'Classifier.from_pretrained("{folder.as_posix()}")' in text
    history = read_tsv(folder / "history.tsv")
    assert f"{history[history['split'] == 'val']['loss'].min():.4g}" in text  # the kept epoch's
    assert "nan" not in text.lower()


def test_a_pretrained_models_card(trained, tmp_path):  # noqa: F811
    text = write(trained, tmp_path / "card.md", [trained.pretrained])
    total = read_tsv(trained.pretrained / "history.tsv")["total"]
    assert f"| {total.iloc[0]:.4g} | {total.iloc[1]:.4g} |" in text
    assert "pre-training inductive" in text
    history = read_tsv(trained.pretrained / "history.tsv").query("split == 'train'").iloc[-1]
    assert f"| {trained.pretrained.name} | cm | spatial | 1 | {history['cm_spatial']:.4g} |" in text
    assert "FAILS" not in text
    assert "nan" not in text.lower()
