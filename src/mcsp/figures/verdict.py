"""What a map's caption must say of the method behind it."""

from __future__ import annotations

import pandas as pd


def best_method(maps: pd.DataFrame, verdicts: pd.DataFrame, modality: str) -> str | None:
    """The method to show for a modality: the one with most passes against the truth, the first where there is none."""
    methods = list(dict.fromkeys(maps.loc[maps["modality"] == modality, "method"]))
    if not methods:
        return None
    own = verdicts[(verdicts["modality"] == modality) & verdicts["score"].str.startswith("relevance")]
    passes = own[own["verdict"] == "pass"]["method"].value_counts()
    return max(methods, key=lambda method: (passes.get(method, 0), -methods.index(method)))


def standing(verdicts: pd.DataFrame, method: str, modality: str, domain: str) -> str:
    """'proven here', 'FAILED here' or 'unproven', in words for a title."""
    own = verdicts[(verdicts["method"] == method) & (verdicts["modality"] == modality) & (verdicts["domain"] == domain)]
    own = own[own["score"] == "relevance mass"]
    if own.empty:
        return "unproven: no planted truth"
    passed = int((own["verdict"] == "pass").sum())
    if passed == len(own):
        return "finds the planted effect"
    return "FAILS on the planted effect" if passed == 0 else f"finds the planted effect in {passed} of {len(own)} units"
