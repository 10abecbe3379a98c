"""Single modalities against both: on those who have both, by test, and said in plain words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mcsp.evaluation.fusion import fusion_rows, fusion_text, parts_of
from mcsp.evaluation.metrics import delong, holm
from mcsp.options.results import EvaluateOptions

OPTIONS = EvaluateOptions(n_bootstrap=100)
N = 120
Y = np.arange(N) % 2
UIDS = [f"a/{i:03d}" for i in range(N)]
HAS = np.where(np.arange(N) < 80, "fmri+eeg", np.where(np.arange(N) < 100, "fmri", "eeg"))


def answers(strength: float, seed: int) -> np.ndarray:
    return 1 / (1 + np.exp(-(strength * (2 * Y - 1) + np.random.default_rng(seed).normal(size=N))))


def table(p: np.ndarray, method: str | None = None, seeds=(0, 1), who=slice(None)) -> pd.DataFrame:
    rows = [pd.DataFrame({"fold": 0, "seed": s, "uid": UIDS, "y": Y, "p": p + 0.001 * s, "modalities": HAS}) for s in seeds]
    found = pd.concat([own[who] for own in rows])
    return found.assign(method=method) if method else found.drop(columns="modalities")


def test_only_those_with_both_count_and_the_test_is_delongs():
    fused, fmri, eeg = answers(1.5, 1), answers(0.3, 2), answers(1.4, 3)
    alone = {"fMRI only": table(fmri, who=slice(100)), "EEG only": table(eeg, who=slice(20, None))}
    found = fusion_rows("t", table(fused, "mcsp"), alone, OPTIONS).set_index("single")
    assert found["n"].tolist() == [80, 60]  # of the other only those whom it can speak of
    difference, _, p = delong(Y[:80], fused[:80], fmri[:80])
    assert found.loc["fMRI only", "difference"] == pytest.approx(difference)
    assert found.loc["fMRI only", "p"] == pytest.approx(p)
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p"]))
    assert found["verdict"].tolist() == ["better", "not told apart"]
    assert (found["fused"] - found["alone"]).to_numpy() == pytest.approx(found["difference"].to_numpy())
    assert ((found["low"] < found["difference"]) & (found["difference"] < found["high"])).all()


def test_rivals_have_parts_by_their_names():
    names = ["linear FC + band power", "linear FC", "linear band power", "SVM FC", "phenotype"]
    assert parts_of(names[0], names) == ["linear FC", "linear band power"]
    combat = [f"{name}, ComBat" for name in names[:3]]
    assert parts_of(combat[0], [*names, *combat]) == combat[1:]
    screened = ["MI (bins) and ridge FC + band power", "MI (bins) and ridge FC", "MI (bins) and ridge band power"]
    assert parts_of(screened[0], screened) == screened[1:]
    assert parts_of(names[0], ["linear FC"]) == parts_of("linear FC", names) == parts_of("SVM FC + band power", names) == []


def test_the_words_follow_the_tests():
    strong, weak = answers(2.5, 1), answers(0.1, 2)
    rivals = [table(strong, "linear FC + band power"), table(weak, "linear FC"), table(answers(0.1, 5), "linear band power")]
    alone = {"fMRI only": table(weak), "EEG only": table(strong)}
    found = fusion_rows("asd", pd.concat([table(strong, "mcsp"), *rivals]), alone, OPTIONS)
    text = fusion_text(found)
    assert "Fusion is not shown to help (mcsp: better than each modality alone in 0 of 1 tasks)" in text  # no better than EEG
    assert "Fusion helps in asd (linear FC + band power: better than each modality alone in 1 of 1 tasks)" in text
    assert "(80 a task)" in text
    spoiled = fusion_rows("asd", table(weak, "mcsp"), {"fMRI only": table(strong), "EEG only": table(weak)}, OPTIONS)
    assert "worse than one of them in asd" in fusion_text(spoiled)
    assert "can't be told" in fusion_text(fusion_rows("asd", table(weak, "mcsp"), {}, OPTIONS))
