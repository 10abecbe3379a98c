"""What a map's title must say of the method behind it: the table of trust (explain/<task>/trust.tsv) decides."""

from __future__ import annotations

import pandas as pd

WORDS = {"pass": "method passed here", "fail": "method FAILED here", "unproven": "unproven"}


def best_method(maps: pd.DataFrame, trust: pd.DataFrame, modality: str) -> str | None:
    """The method to show for a modality: the one with most passes, the first of those that have as many."""
    methods = list(dict.fromkeys(maps.loc[maps["modality"] == modality, "method"]))
    passes = trust.loc[(trust["modality"] == modality) & (trust["verdict"] == "pass"), "method"].value_counts()
    return max(methods, key=lambda method: passes.get(method, 0), default=None)


def standing(trust: pd.DataFrame, method: str, modality: str, domain: str, kind: str) -> str:
    """The verdict on a method's entries of a kind, in words for a title."""
    own = trust[(trust[["method", "modality", "domain", "kind"]] == [method, modality, domain, kind]).all(axis=1)]
    return WORDS[own["verdict"].iloc[0] if len(own) else "unproven"]
