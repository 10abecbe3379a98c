"""Which maps may be believed: by a validation run that the study names, else by the study's own planted truth."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mcsp.errors import McspError
from mcsp.store import read_tsv

# What must have passed for entries of a kind to be named. A network is judged by its regions.
NEEDS = {
    "roi": ("roi",), "network": ("roi",), "edge": ("edge",), "channel": ("channel",), "band": ("band",),
    "channel_band": ("channel", "band"), "frequency": ("frequency",),
}  # fmt: skip
OWN = "this study's planted truth"
TRUST_COLUMNS = {
    "method": "Attribution method",
    "modality": "fmri or eeg",
    "domain": "Where the attribution was taken",
    "kind": "What is named: edge, roi, network, channel, band, channel_band or frequency",
    "verdict": "pass: entries of this kind are in the biomarker table; fail; unproven: nothing says whether to believe the map",
    "source": "Whose verdict counts: a validation run named in the study file (explain.validation), else the truth planted in "
    "this study",
    "reason": "Why it did not pass; and the rules that its validation did not try",
}


def _one(rows: pd.DataFrame, unit: str) -> tuple[str, str | None]:
    """(verdict, reason) on a unit by a validation's table, rows of one method, modality and domain."""
    own = rows[rows["unit"] == unit]
    if own.empty:
        return "unproven", f"{unit}: no planted effect reaches it"
    row = own.iloc[0]
    told = row["reason"] if isinstance(row["reason"], str) else None
    if row["verdict"] == "pass":
        return "pass", told and f"{unit}: {told}"
    told = told or "the validation's classifiers did not learn any effect here"
    return ("fail" if row["verdict"] == "fail" else "unproven"), f"{unit}: {told}"


def _own(rows: pd.DataFrame, unit: str) -> tuple[str, str | None]:
    """The same by a study's own verdicts: every score on the unit, and the similarity with reset weights."""
    scores = rows[(rows["unit"] == unit) & rows["score"].str.startswith("relevance")]
    if scores.empty:
        return "unproven", f"{unit}: no planted effect of this task reaches it"
    judged = pd.concat([scores, rows[rows["score"] == "reset similarity"]])
    failed = list(judged.loc[judged["verdict"] != "pass", "score"])
    return ("fail", f"{unit}: {', '.join(failed)}") if failed else ("pass", None)


def trust_table(maps: pd.DataFrame, verdicts: pd.DataFrame, validation: Path | None) -> pd.DataFrame:
    """Verdict on each method, modality, domain and kind of `maps`. `verdicts`: the study's own. Raises McspError when the
    validation's table is not there, or knows nothing of a method.
    """
    if validation is not None and not validation.is_file():
        raise McspError(f"explain.validation = {validation}: not there: run `snakemake validation` of that study first")
    table, judge = (read_tsv(validation), _one) if validation is not None else (verdicts, _own)
    if not {"method", "modality", "domain", "unit", "verdict"} <= set(table):
        raise McspError(f"{validation}: no table of verdicts: name the verdicts.tsv of a validation run")
    rows = []
    for place, own in maps.groupby(["method", "modality", "domain"], sort=False):
        known = table[(table[["method", "modality", "domain"]] == list(place)).all(axis=1)]
        for kind in own["kind"].unique():
            needed = ("band",) if place[1] == "eeg" and kind == "frequency" else NEEDS[kind]
            found = [judge(known, unit) for unit in needed]
            verdict = next((v for v in ("fail", "unproven") if v in {f[0] for f in found}), "pass")
            reason = "; ".join(f[1] for f in found if f[1]) or None
            row = dict(zip(("method", "modality", "domain"), place)) | {"kind": kind, "verdict": verdict}
            rows.append(row | {"source": str(validation) if validation else OWN, "reason": reason})
    return pd.DataFrame(rows, columns=list(TRUST_COLUMNS))
