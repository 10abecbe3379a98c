"""The first page: what was asked, of whom, what came out in plain words, and what must be known beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mcsp.evaluation.comparisons import over_subjects

AGAINST = {
    "better": "Beats age, sex, site and head motion alone",
    "not told apart": "Fails: does not beat age, sex, site and head motion alone",
    "worse": "Fails: worse than age, sex, site and head motion alone",
}
RIVAL = {
    "better": "Better than",
    "worse": "Worse than",
    "not told apart": "Not told apart from",
}
TOO_GOOD = 0.80  # AUROC on recordings that starts a hunt for a leak
AXIS = (0.2, 1.0)  # of the little plots of AUROC


@dataclass(frozen=True)
class Strip:
    """One method's AUROC on the little plot; `left`, `width`, `at`: per cent of the axis."""

    name: str
    text: str
    left: float
    width: float
    at: float
    ours: bool


@dataclass(frozen=True)
class Answer:
    """A task's answer. `value` None: there is no result; `words` then say so."""

    task: str
    title: str
    words: list[str]
    value: float | None = None
    low: float = float("nan")
    high: float = float("nan")
    n: int = 0
    n_case: int = 0
    good: bool = False
    against: str = ""
    rival: str = ""
    strips: list[Strip] = field(default_factory=list)


def our_method(methods: Sequence[str]) -> str | None:
    """The name of the study's own model among methods."""
    return next((name for name in methods if name.startswith("mcsp")), None)


def place(value: float) -> float:
    """Per cent of the little plot's axis."""
    low, high = AXIS
    return round(100 * (min(max(value, low), high) - low) / (high - low), 1)


def strip(name: str, row: pd.Series, ours: bool) -> Strip:
    """A method's line of the little plot."""
    left, right = place(row["low"]), place(row["high"])
    text = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    shown = {"mcsp": "MCSP", "phenotype": "age, sex, site, motion"}.get(name, name)
    return Strip(shown, text, left, round(right - left, 1), place(row["value"]), ours)


def words_of(own: pd.DataFrame, level: str) -> list[str]:
    """A method's metrics (indexed by metric) in sentences for somebody who knows no AUROC."""
    area = own.loc["auroc"]
    told = [
        f"Of two people, one with and one without, it ranks the one with higher in {100 * area['value']:.0f} of 100 pairs "
        f"({level} interval: {100 * area['low']:.0f} to {100 * area['high']:.0f}; guessing: 50)."
    ]
    if {"sensitivity", "specificity"} <= set(own.index):
        cases, controls = own.loc["sensitivity"], own.loc["specificity"]
        told.append(
            f"At the threshold of 0.5 it recognises {100 * cases['value']:.0f} of 100 cases "
            f"({100 * cases['low']:.0f} to {100 * cases['high']:.0f}) and rightly clears {100 * controls['value']:.0f} of 100 "
            f"controls ({100 * controls['low']:.0f} to {100 * controls['high']:.0f})."
        )
    return told


def answer(task: str, title: str, metrics: pd.DataFrame, comparisons: pd.DataFrame, level: str = "95%") -> Answer:
    """A task's answer: the model's AUROC, and in words how it stands against phenotype and against the linear rival."""
    areas = metrics[metrics["metric"] == "auroc"].drop_duplicates("method").set_index("method")
    ours = our_method(list(areas.index))
    if ours is None:
        return missing(task, title)
    row = areas.loc[ours]
    pairs = over_subjects(comparisons)
    pairs = pairs[(pairs["method"] == ours) & (pairs["metric"] == "auroc")].drop_duplicates("rival").set_index("rival")
    verdict = pairs["verdict"].get("phenotype", "not told apart")
    linear = next((name for name in areas.index if name.startswith("linear")), None)
    rival = ""
    if linear in pairs.index:
        rival = f"{RIVAL[pairs.loc[linear, 'verdict']]} the simple rival ({linear}: {areas.loc[linear, 'value']:.2f})"
    shown = [name for name in (ours, "phenotype", linear) if name in areas.index]
    return Answer(
        task,
        title,
        words_of(metrics[metrics["method"] == ours].set_index("metric"), level),
        *(float(row[name]) for name in ("value", "low", "high")),
        int(row["n"]),
        int(row["n_case"]),
        verdict == "better",
        AGAINST[verdict],
        rival,
        [strip(name, areas.loc[name], name == ours) for name in shown],
    )


def missing(task: str, title: str) -> Answer:
    """The answer of a task that has no result."""
    return Answer(task, title, ["No result: this task was not evaluated, or its evaluation failed."])


def _how_often(good: int, n: int, who: str) -> str:
    if n == 1:
        return f"{who} beats" if good else f"{who} does not beat"
    share = "all" if good == n else f"{good or 'none'} of the"
    return f"in {share} {n} questions {who} beats"


def conclusion(answers: Sequence[Answer]) -> str:
    """All answers in one sentence."""
    told = [a for a in answers if a.value is not None]
    if not told:
        return "There is no result yet."
    good, simple = sum(a.good for a in told), sum(a.rival.startswith("Better") for a in told)
    text = f"{_how_often(good, len(told), 'the model')} what age, sex, site and head motion tell alone"
    if all(a.rival for a in told):
        text += f"; {_how_often(simple, len(told), 'it')} a simple linear model of the same recordings"
    left = len(answers) - len(told)
    if left and len(told) == 1:
        text = f"{told[0].title}: {text}"
    return f"{text[0].upper()}{text[1:]}.{f' Without a result: {left} of {len(answers)} questions.' if left else ''}"


def proven_text(trust: pd.DataFrame) -> str:
    """What the verdicts on attribution methods (`Results.trust`) mean for the maps."""
    if trust.empty:
        return "No attribution method was judged yet: there are no maps to read."
    judged = trust[trust["verdict"] != "unproven"]
    if judged.empty:
        return (
            "No known effect tells whether an attribution method can be believed on these data: the maps are "
            "unproven, and show "
            "model-relevance, not causes."
        )
    passed = int((judged["verdict"] == "pass").sum())
    if not passed:
        return f"No attribution method found the known effects ({len(judged)} checks): there are no biomarkers to report."
    return (
        f"Attribution methods passed {passed} of {len(judged)} checks on known effects: trust the maps only where they "
        "passed. Model-relevant does not mean causal."
    )


def leak_text(study: Mapping[str, Any], answers: Sequence[Answer]) -> str:
    """A result on recordings that is rarely that good without a leak; '' where there is none, or all is simulated."""
    if all(dataset["kind"] == "simulate" for dataset in study["datasets"].values()):
        return ""
    high = [f"{a.title}: {a.value:.2f}" for a in answers if a.value is not None and a.value > TOO_GOOD]
    if not high:
        return ""
    return (
        f"AUROC above {TOO_GOOD:.2f} ({'; '.join(high)}) is rare where whole people are left out and nothing leaks: "
        "look for a leak before you believe it: duplicates, relatives, sites of one class, labels that became inputs; run "
        "`snakemake controls`, and splits.protocol: leave-one-site-out."
    )


def caveats(study: Mapping[str, Any], trust: pd.DataFrame, answers: Sequence[Answer]) -> list[str]:
    """What a reader must know beside the answer."""
    unseen = (
        "Pre-training saw the test subjects' recordings, though not their labels."
        if study["pretrain"]["scope"] == "transductive"
        else "No subject was predicted by a model that had seen it."
    )
    level = f"{study['evaluate']['confidence']:.0%}"
    lines = [f"AUROC: 0.5 is guessing, 1 is perfect. Brackets: {level} bootstrap interval over subjects. {unseen}"]
    told = [a for a in answers if a.value is not None]
    if any(not a.good for a in told):
        lines.append(
            "Where imaging does not beat age, sex, site and head motion, the imaging result is to be taken as a failure."
        )
    if any(a.high - a.low > 0.2 for a in told):
        lines.append("Some intervals are wide: with so few test subjects, a new sample can give a quite different number.")
    if leak := leak_text(study, answers):
        lines.append(leak)
    lines.append(proven_text(trust))
    if study["splits"]["protocol"] == "kfold":
        lines.append(
            "Test subjects come from the same sites as training subjects: new sites can do worse (splits.protocol: "
            "leave-one-site-out)."
        )
    lines.append("Research software: not a medical device, not for diagnosis, nor for any decision on a person.")
    return lines
