"""The summary page: what it says of good and of failed results, and its words on methods."""

import pandas as pd
import pytest

from mcsp.report.methods import methods_text
from mcsp.report.page import answer, caveats, controls_text
from mcsp.study import parse_study

METRICS = pd.DataFrame(
    {
        "method": ["mcsp", "linear FC", "phenotype"],
        "metric": "auroc",
        "value": [0.7, 0.9, 0.6],
        "low": 0.5,
        "high": 0.95,
        "n": 50,
        "n_case": 20,
    }
)


def comparisons(phenotype, linear):
    table = {"method": "mcsp", "rival": ["phenotype", "linear FC"], "metric": "auroc", "verdict": [phenotype, linear]}
    return pd.concat([pd.DataFrame({**table, "test": test}) for test in ("delong", "nadeau-bengio")])


@pytest.mark.parametrize(
    ("phenotype", "linear", "good", "words"),
    [
        ("better", "better", True, ("Beats phenotype", "better than the simple rival (linear FC: 0.90)")),
        ("not told apart", "worse", False, ("Fails: does not beat phenotype", "worse than the simple rival")),
        ("worse", "not told apart", False, ("Fails: worse than phenotype", "not told apart from the simple rival")),
    ],
)
def test_an_answer_says_how_it_stands(phenotype, linear, good, words):
    told = answer("ASD", METRICS, comparisons(phenotype, linear))
    assert told["good"] is good
    assert words[0] in told["against"]
    assert words[1] in told["rival"]
    assert (told["value"], told["n"], told["n_case"]) == (0.7, 50, 20)


def test_caveats_follow_the_results():
    rest = {"evaluate": {"confidence": 0.95}, "pretrain": {"scope": "inductive"}}
    study = {"splits": {"protocol": "kfold"}, **rest}
    unproven = caveats(study, pd.DataFrame({"score": [], "verdict": []}), [{"good": True}])
    assert any("maps are unproven" in line for line in unproven)
    assert not any("failure" in line for line in unproven)
    judged = pd.DataFrame({"score": ["relevance mass"] * 3, "verdict": ["pass", "fail", "fail"]})
    failed = caveats({"splits": {"protocol": "leave-one-site-out"}, **rest}, judged, [{"good": False}])
    assert any("1 of 3 checks" in line for line in failed)
    assert any("taken as a failure" in line for line in failed)
    assert not any("same sites" in line for line in failed)
    seen = caveats({**study, "pretrain": {"scope": "transductive"}}, judged, [{"good": True}])
    assert "Pre-training saw the test subjects' recordings" in seen[0]
    assert "No subject was predicted by a model that had seen it" in failed[0]


def test_methods_follow_the_study():
    phenotype = {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}}
    study = parse_study(
        {
            "study": "x",
            "datasets": {"a": {"kind": "bids", "path": "/nowhere", "phenotype": phenotype}},
            "tasks": {"asd": {"case": ["ASD"]}},
            "eeg": {"n_segments": 77},
            "pretrain": {"scope": "transductive", "epochs": 13},
        }
    ).model_dump(mode="json")
    text = methods_text(study, pd.DataFrame({"has_fmri": [True], "has_eeg": [True]}))
    for words in ("cut into 77 segments of 0.8 s", "for 13 epochs per fold (transductive", "24motion+wmcsf", "0.01-0.1 Hz"):
        assert words in text
    text = methods_text(study, pd.DataFrame({"has_fmri": [True], "has_eeg": [False]}))
    assert "EEG was filtered" not in text
    assert "ComBat" not in text
    study["evaluate"]["harmonise"] = "combat"
    assert "harmonised over sites by ComBat" in methods_text(study, pd.DataFrame({"has_fmri": [True], "has_eeg": [False]}))


def test_controls_are_told_with_numbers_and_failures_come_first():
    assert "did not run" in controls_text(None)
    first = ("permuted labels", "asd", "mcsp", 0.51, 0.4, 0.6, "passed")
    rows = [first, ("random label", "x", "few", 0.6, 0.1, 0.9, "too few")]
    table = pd.DataFrame(rows, columns=["control", "task", "method", "auroc", "low", "high", "verdict"])
    assert controls_text(table).startswith("Methods that learn")
    assert "1 of 1 controls passed" in controls_text(table)
    leak = table.assign(auroc=0.93, low=0.9, high=0.96, verdict=["FAILED: above chance", "too few"])
    assert controls_text(leak).startswith("FAILED")
    assert "permuted labels, asd, mcsp: 0.93 [0.90, 0.96]" in controls_text(leak)
