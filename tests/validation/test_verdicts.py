"""The rules on made-up scores: what passes, what fails, and with which reason."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
import pytest

from mcsp.validation.verdicts import decoy_table, interval, learned_table, only_learned, score_table, verdict_rows

PLACE = {"task": "edge", "truth": "planted", "method": "smoothgrad", "modality": "fmri", "domain": "spatial", "unit": "roi"}


def rows(model, score, value, spread=0.02, chance=0.2, n=12, **other):
    rng = np.random.default_rng(zlib.crc32(f"{model} {score}".encode()))
    base = {**PLACE, "model": model, "score": score, "chance": chance, **other}
    return [
        {**base, "snr": 1.0, "seed": seed, "uid": f"s{i}", "value": value + spread * rng.normal()}
        for seed in range(3)
        for i in range(n)
    ]


def made_up(own=0.5, reset=0.22, permuted=0.22, wrong=0.21, similar=0.1, area=0.3):
    found = []
    for score in ("relevance mass", "relevance rank", "AUPRC"):
        found += rows("own", score, own)
    for model, value in (("reset", reset), ("permuted", permuted), ("wrong: band", wrong), ("wrong: noise", wrong)):
        found += rows(model, "relevance mass", value)
    found += rows("reset: everything", "similarity", similar, chance=0.0, n=1) + rows("own", "deletion area", area, chance=0.0)
    return pd.DataFrame(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"own": 0.2, "reset": 0.2, "permuted": 0.2, "wrong": 0.2}, "chance"),
        ({"reset": 0.4}, "reset weights"),
        ({"permuted": 0.45}, "permuted labels"),
        ({"wrong": 0.5}, "wrong target"),
        ({"similar": 0.7}, "cascade"),
        ({"area": 0.0}, "deletion"),
    ],
)
def test_each_rule_can_fail_alone_and_is_named(change, reason):
    scores = made_up(**change)
    (row, whole) = verdict_rows(scores, scores, 200).to_dict("records")
    assert row["verdict"] == whole["verdict"] == ("fail" if reason else "pass")
    assert reason is None or (row["reason"].startswith("edge: ") and reason in row["reason"])
    if reason not in (None, "chance"):
        assert row["reason"] == f"edge: {reason}"


def test_what_was_not_learned_is_not_judged():
    scores = made_up()
    rng, y = np.random.default_rng(0), np.tile([0, 1], 20)
    base = {"task": "edge", "modality": "fmri", "domain": "spatial", "snr": 1.0, "source": "model"}
    answers = pd.DataFrame(
        [{**base, "seed": s, "uid": f"s{i}", "y": y[i], "logit": rng.normal()} for s in range(3) for i in range(40)]
    )
    learned = learned_table(answers, 200)
    assert list(learned["learned"]) == ["no"]
    row = verdict_rows(scores, only_learned(scores, learned), 200).iloc[0]
    assert row["verdict"] == "not learned"
    assert row["not_learned"] == "edge"
    strong = learned_table(answers.assign(logit=answers["logit"] + 3 * answers["y"]), 200)
    assert list(strong["learned"]) == ["yes"]
    assert verdict_rows(scores, only_learned(scores, strong), 200).iloc[0]["verdict"] == "pass"


@pytest.mark.parametrize(("own", "verdict"), [(0.5, "pass"), (0.2, "fail")])
def test_a_rule_that_was_not_tried_is_said_so(own, verdict):
    scores = made_up(own=own)
    tried = scores[~scores["model"].isin(["permuted", "wrong: band", "wrong: noise"])]
    (row, whole) = verdict_rows(scores, tried, 200).to_dict("records")
    assert row["verdict"] == verdict
    assert row["reason"].endswith("not tried: permuted labels, wrong target")
    assert "not tried: permuted labels, wrong target" in whole["reason"]


def test_one_similarity_of_a_run_is_of_no_number_of_subjects():
    scores = made_up()
    scores.loc[scores["score"] == "similarity", "uid"] = None
    table = score_table(scores, scores, 50)
    assert table.loc[table["score"] == "similarity", "n"].isna().all()
    assert (table.loc[table["score"] != "similarity", "n"] == 36).all()


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=50) for _ in range(3)]
    _, low, high = interval(noise, 500)
    _, wide_low, wide_high = interval([own + shift for own, shift in zip(noise, (-2, 0, 2))], 500)
    assert wide_high - wide_low > 3 * (high - low)


def test_a_decoy_that_the_map_shows_is_said_so():
    truth = rows("own", "relevance mass", 0.3, task="site")
    used = pd.DataFrame([{"decoy": "site", "modality": "fmri", "domain": "spatial", "used": "yes"}])
    shown = pd.DataFrame(truth + rows("own", "relevance mass", 0.6, task="site", truth="decoy"))
    (row,) = decoy_table(shown, used, 200).to_dict("records")
    assert (row["reading"], row["used"]) == ("shows the decoy", "yes")
    hidden = pd.DataFrame(truth + rows("own", "relevance mass", 0.1, task="site", truth="decoy"))
    (row,) = decoy_table(hidden, used[:0], 200).to_dict("records")
    assert (row["reading"], row["used"]) == ("does not show the decoy", None)
