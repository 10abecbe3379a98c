"""From the runs' scores to verdicts. The rules stand in `RULES` and were fixed before the validation was run.

An effect counts in a domain at an effect size where the classifiers had learnt it there: the AUROC of their answers from
this domain alone (all others at the training subjects' mean) lies above 0.5 with its whole interval. Where it was not learnt,
no map could show it, and nothing is concluded. Intervals: bootstrap over runs (seeds), and over subjects within them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.evaluation.metrics import auroc
from mcsp.explain.truth import LEARNED_SHARE, RESET_LIMIT
from mcsp.options.validation import ValidationOptions
from mcsp.store import read_table, write_tsv

RULES = {
    "chance": "relevance mass, relevance rank and AUPRC: their intervals lie above chance",
    "reset weights": "the interval of the difference to the same model with all weights reset lies above 0, and more than half "
    "of what lies above chance is gone with them (relevance mass)",
    "permuted labels": "the same against models trained on shuffled labels",
    "wrong target": "the same against maps of models that were asked for another planted effect, or for a label of noise",
    "cascade": "the rank correlation of the map with that of the model with all weights reset is below 0.5",
    "deletion": "deleting the regions or channels that the map ranks highest moves the output more than deleting others at "
    "random: the interval of the area between the curves lies above 0",
}
CONTROLS = {"reset weights": "reset", "permuted labels": "permuted", "wrong target": "wrong"}
CELL = ["task", "modality", "domain"]
PLACE = ["method", "modality", "domain"]
MAP_COLUMNS = {
    "method": "Attribution method; gradient and gradcam are negative references",
    "modality": "fmri or eeg",
    "domain": "Where the attribution was taken: spatial, temporal or spectral",
}
LEARNED_COLUMNS = {
    "effect": "What was planted: edge (coupling of two networks), amplitude (of slow BOLD), band (EEG power at a place), "
    "network (strength of a network in both modalities), or a decoy",
    "modality": "fmri or eeg; all: all inputs",
    "domain": "Domain that the answer is from, all others at the training subjects' mean; all: all inputs",
    "snr": "Factor on the size of what was planted",
    "auroc": "AUROC of the classifiers' answers on test subjects, mean over runs",
    "low": "Lower end of the 95 % bootstrap interval over runs and subjects",
    "high": "Upper end of the 95 % bootstrap interval over runs and subjects",
    "linear": "AUROC of a ridge logistic regression on this domain, same subjects: what there was to be learnt; n/a of series",
    "learned": "yes: the classifiers' interval lies above 0.5, so that maps can be judged",
    "n_runs": "Runs",
}
SCORE_COLUMNS = {
    **MAP_COLUMNS,
    "effect": "What was planted",
    "unit": "What is scored: edge, roi, channel, band, frequency, or channel_band (a channel in a band)",
    "score": "relevance mass, relevance rank or AUPRC, on the places that were planted; deletion area (change of the logit "
    "beyond that of random deletion); similarity (rank correlation of a run's mean map with that of the reset model; both of "
    "regions or channels)",
    "model": "own: trained on the effect; reset: the same with all weights reset; permuted: trained on shuffled labels; wrong: "
    "trained on other effects or noise; reset: LEVEL: reset from the head down to a level (similarity)",
    "snr": "Factor on the size of what was planted; all: all sizes that were learnt",
    "value": "Mean over subjects and runs (similarity: over runs)",
    "low": "Lower end of the 95 % bootstrap interval over runs and subjects",
    "high": "Upper end of the 95 % bootstrap interval over runs and subjects",
    "chance": "What a map without information has",
    "n_runs": "Runs",
    "n": "Subjects over all runs; n/a of similarity, which is one number for each run",
}
VERDICT_COLUMNS = {
    **MAP_COLUMNS,
    "unit": "edge, roi, channel, band, frequency or channel_band; all: the domain as a whole",
    "verdict": "pass: every effect that was learnt here passes every rule; fail; not learned: no planted effect was learnt in "
    "this domain, so that nothing can be said",
    "reason": "Rules that failed, by effect, and rules that were not tried. "
    + ". ".join(f"{k}: {v}" for k, v in RULES.items()),
    "effects": "Planted effects that were learnt here",
    "not_learned": "Planted effects that reach this domain, but that the classifiers did not learn in it",
    "excess": "Relevance mass over chance, mean over effects that were learnt (1: no more than chance)",
}
USE_COLUMNS = {
    "decoy": "suppressor or site",
    "modality": "fmri or eeg",
    "domain": "Domain that the answer is from, all others at the training subjects' mean",
    "auroc": "AUROC of the classifiers on test subjects; all effect sizes at which the task was learnt in this domain",
    "without_decoy": "The same with the decoy's places at the training subjects' mean",
    "gain": "auroc less without_decoy: what the decoy gives",
    "gain_low": "Lower end of the 95 % bootstrap interval over runs and subjects",
    "gain_high": "Upper end of the 95 % bootstrap interval over runs and subjects",
    "without_truth": "AUROC with the places of the label's own effect at the training subjects' mean",
    "linear": "AUROC of a ridge logistic regression on this domain, same subjects",
    "linear_without_decoy": "The same, fitted without the decoy's places: what there was to gain",
    "used": "yes: the interval of the gain lies above 0; no: not shown",
    "n_runs": "Runs",
}
DECOY_COLUMNS = {
    **MAP_COLUMNS,
    "decoy": "suppressor: places that carry the noise of the signal and nothing of the label; site: an artefact of the site "
    "that most cases come from",
    "unit": "edge, roi or channel",
    "truth": "Relevance mass on the places of the label's own effect, over chance; all effect sizes at which the task was "
    "learnt in this domain",
    "truth_low": "Lower end of its interval",
    "truth_high": "Upper end of its interval",
    "decoy_mass": "Relevance mass on the decoy's places, over chance",
    "decoy_low": "Lower end of its interval",
    "decoy_high": "Upper end of its interval",
    "used": "Whether the classifiers' answers are better with the decoy (decoys_used.tsv); of one that they do not use, the "
    "reading says nothing; n/a of series, where it was not asked",
    "reading": "What the map does with the decoy: shows it (interval above 1), or not",
}


def draw_means(values: Sequence[np.ndarray], n: int, seed: int) -> np.ndarray:
    """`n` bootstrap means over runs, and over subjects within them, of one array of values for each run."""
    rng, runs = np.random.default_rng(seed), len(values)
    chosen = rng.integers(runs, size=(n, runs))
    out = np.zeros(n)
    for place in range(runs):
        for run, own in enumerate(values):
            hit = np.flatnonzero(chosen[:, place] == run)
            if len(hit):
                out[hit] += own[rng.integers(len(own), size=(len(hit), len(own)))].mean(axis=1)
    return out / runs


def interval(values: Sequence[np.ndarray], n: int, seed: int = 0) -> tuple[float, float, float]:
    """(mean over runs of their means, ends of its 95 % bootstrap interval)."""
    low, high = np.quantile(draw_means(values, n, seed), [0.025, 0.975])
    return float(np.mean([own.mean() for own in values])), float(low), float(high)


def by_run(rows: pd.DataFrame) -> list[np.ndarray]:
    """Values of each run (snr, seed), a subject once (mean over rows of the same subject)."""
    means = rows.groupby(["snr", "seed", "uid"], dropna=False)["value"].mean()
    return [own.to_numpy() for _, own in means.groupby(level=[0, 1])]


def resampled(
    runs: Sequence[tuple[np.ndarray, ...]], statistic: Callable[..., float], n: int, seed: int = 0
) -> tuple[float, float, float]:
    """(mean of `statistic` over runs, ends of its 95 % bootstrap interval over runs, and subjects within classes). Each run:
    its labels (N), and what else `statistic` takes of the subjects.
    """
    rng, draws = np.random.default_rng(seed), np.zeros(n)
    for i in range(n):
        for run in rng.integers(len(runs), size=len(runs)):
            y = runs[run][0]
            picked = np.concatenate([rng.choice(own, len(own)) for own in (np.flatnonzero(y == 1), np.flatnonzero(y == 0))])
            draws[i] += statistic(*(values[picked] for values in runs[run])) / len(runs)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(np.mean([statistic(*run) for run in runs])), float(low), float(high)


def auroc_gain(y: np.ndarray, logits: np.ndarray, other: np.ndarray) -> float:
    """By how much the AUROC of the first answers is above that of the other."""
    return auroc(y, logits) - auroc(y, other)


def learned_table(answers: pd.DataFrame, n: int) -> pd.DataFrame:
    """What the classifiers had learnt, by effect, domain and size."""
    rows = []
    for (task, modality, domain, snr), own in answers.groupby([*CELL, "snr"]):
        runs, linear = (
            [(g["y"].to_numpy(), g["logit"].to_numpy()) for _, g in side.groupby("seed")]
            for side in (own[own["source"] == "model"], own[own["source"] == "linear"])
        )
        value, low, high = resampled(runs, auroc, min(n, 500))
        row = {"effect": task, "modality": modality, "domain": domain, "snr": snr, "auroc": value, "low": low, "high": high}
        row |= {"linear": np.mean([auroc(*run) for run in linear]) if linear else np.nan}
        rows.append(row | {"learned": "yes" if low > 0.5 else "no", "n_runs": len(runs)})
    return pd.DataFrame(rows, columns=list(LEARNED_COLUMNS))


def only_learned(scores: pd.DataFrame, learned: pd.DataFrame) -> pd.DataFrame:
    """Scores of the effects, domains and sizes that the classifiers had learnt."""
    cells = learned.loc[learned["learned"] == "yes", ["effect", "modality", "domain", "snr"]]
    return scores.merge(cells.rename(columns={"effect": "task"}), on=[*CELL, "snr"])


def score_table(scores: pd.DataFrame, known: pd.DataFrame, n: int) -> pd.DataFrame:
    """All scores with intervals: by size, and over all sizes that were learnt (`known`)."""
    keys = [*PLACE, "task", "unit", "score", "model"]
    rows = []
    parts = [(f"{snr:g}", own) for snr, own in scores.groupby("snr")] + [("all", known)]
    for snr, part in parts:
        planted = part[part["truth"] == "planted"]
        for values, own in planted.assign(model=planted["model"].str.replace(r"^wrong: .*", "wrong", regex=True)).groupby(keys):
            value, low, high = interval(by_run(own.dropna(subset="value")), n) if own["value"].notna().any() else (np.nan,) * 3
            row = dict(zip(keys, values)) | {"snr": snr, "value": value, "low": low, "high": high}
            row |= {"chance": own["chance"].mean(), "n_runs": own.groupby(["snr", "seed"]).ngroups}
            rows.append(row | {"n": own.groupby(["snr", "seed", "uid"]).ngroups or None})
    table = pd.DataFrame(rows).rename(columns={"task": "effect"}).reindex(columns=list(SCORE_COLUMNS))
    return table.astype({"n": "Int64"})


def _paired(own: pd.DataFrame, control: pd.DataFrame) -> pd.DataFrame:
    """Rows of subjects that both have, with the difference as `value` and what lies above chance as `excess`."""
    index = ["snr", "seed", "uid"]
    other = control.groupby(index)["value"].mean().rename("other")
    both = own.set_index(index).join(other, how="inner").reset_index()
    return both.assign(excess=both["value"] - both["chance"], value=both["value"] - both["other"])


def failed_rules(place: pd.DataFrame, unit: str, n: int) -> tuple[list[str], list[str]]:
    """Names of the rules (that one method's maps of one effect fail in one domain and unit, that were not tried). `place`:
    their learnt scores. Cascade and deletion are judged on the map of regions or channels, whatever the unit.
    """
    planted, failed, untried = place[place["truth"] == "planted"], [], []
    own = planted[(planted["model"] == "own") & (planted["unit"] == unit)]
    scores = [own[own["score"] == name] for name in ("relevance mass", "relevance rank", "AUPRC")]
    if any(interval(by_run(rows), n)[1] <= rows["chance"].mean() for rows in scores):
        failed.append("chance")
    for rule, model in CONTROLS.items():
        control = planted[planted["model"].str.split(":").str[0].eq(model) & (planted["unit"] == unit)]
        control = control[control["score"] == "relevance mass"]
        if control.empty:
            untried.append(rule)
            continue
        both = _paired(scores[0], control)
        gone = interval(by_run(both), n)
        if gone[1] <= 0 or gone[0] <= LEARNED_SHARE * both["excess"].mean():
            failed.append(rule)
    similar = planted[(planted["score"] == "similarity") & (planted["model"] == "reset: everything")]["value"]
    if not similar.dropna().mean() < RESET_LIMIT:
        failed.append("cascade")
    area = planted[planted["score"] == "deletion area"]
    if interval(by_run(area), n)[1] <= 0:
        failed.append("deletion")
    return failed, untried


def verdict_rows(scores: pd.DataFrame, known: pd.DataFrame, n: int) -> pd.DataFrame:
    """Verdict on each method, modality, domain and unit, and on the domain as a whole. `scores`: of the planted effects
    without the decoys; `known`: those that were learnt.
    """
    rows = []
    mass = scores[(scores["score"] == "relevance mass") & (scores["model"] == "own") & (scores["truth"] == "planted")]
    for place, own in mass.groupby(PLACE, sort=False):
        judged = []
        for unit, reached in own.groupby("unit", sort=False):
            mine = known[(known[PLACE] == list(place)).all(axis=1)]
            at = mine[(mine["unit"] == unit) & (mine["score"] == "relevance mass") & (mine["model"] == "own")]
            effects = list(dict.fromkeys(at["task"]))
            rules = {effect: failed_rules(mine[mine["task"] == effect], unit, n) for effect in effects}
            judged.append(_verdict(place, unit, rules, sorted(set(reached["task"]) - set(effects)), at))
        rows += [*judged, _whole(place, judged)]
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def _verdict(
    place: tuple, unit: str, rules: dict[str, tuple[list[str], list[str]]], missing: list[str], at: pd.DataFrame
) -> dict:
    reasons = [f"{effect}: {', '.join(failed)}" for effect, (failed, _) in rules.items() if failed]
    verdict = "not learned" if not rules else "fail" if reasons else "pass"
    untried = dict.fromkeys(rule for _, names in rules.values() for rule in names)
    reasons += [f"not tried: {', '.join(untried)}"] if untried else []
    excess = (at["value"] / at["chance"]).groupby(at["task"]).mean().mean()
    row = dict(zip(PLACE, place)) | {"unit": unit, "verdict": verdict, "reason": "; ".join(reasons) or None, "excess": excess}
    return row | {"effects": ", ".join(rules) or None, "not_learned": ", ".join(missing) or None}


def _whole(place: tuple, judged: list[dict]) -> dict:
    """The domain as a whole: what all of its units are."""
    found = {row["verdict"] for row in judged}
    verdict = "fail" if "fail" in found else "pass" if "pass" in found else "not learned"
    reasons = [f"{row['unit']}: {row['reason']}" for row in judged if row["reason"]]
    join = {
        name: ", ".join(sorted({e for row in judged for e in (row[name] or "").split(", ") if e})) or None
        for name in ("effects", "not_learned")
    }
    known = [row["excess"] for row in judged if row["excess"] == row["excess"]]
    excess = float(np.mean(known)) if known else np.nan
    row = dict(zip(PLACE, place)) | {"unit": "all", "verdict": verdict, "reason": " | ".join(reasons) or None}
    return row | join | {"excess": excess}


def use_table(answers: pd.DataFrame, n: int) -> pd.DataFrame:
    """Whether the decoys are used, by decoy and domain. `answers`: those of the effects, domains and sizes that were learnt."""
    rows = []
    index = ["snr", "seed", "uid"]
    asked = answers[answers["source"] == "model, no decoy"]
    for (decoy, modality, domain), _ in asked.groupby(["task", "modality", "domain"]):
        own = answers[(answers["task"] == decoy) & (answers["modality"] == modality) & (answers["domain"] == domain)]
        wide = own.pivot(index=[*index, "y"], columns="source", values="logit").reset_index("y")
        runs = [part for _, part in wide.groupby(level=[0, 1])]

        def mean(source: str, runs: list[pd.DataFrame] = runs) -> float:
            return float(np.mean([auroc(part["y"].to_numpy(), part[source].to_numpy()) for part in runs]))

        both = [tuple(part[source].to_numpy() for source in ("y", "model", "model, no decoy")) for part in runs]
        gain, low, high = resampled(both, auroc_gain, min(n, 500))
        row = {"decoy": decoy, "modality": modality, "domain": domain, "auroc": mean("model")}
        row |= {"without_decoy": mean("model, no decoy"), "without_truth": mean("model, no truth")}
        row |= {"gain": gain, "gain_low": low, "gain_high": high}
        row |= {"linear": mean("linear"), "linear_without_decoy": mean("linear, no decoy")}
        rows.append(row | {"used": "yes" if low > 0 else "no", "n_runs": len(runs)})
    return pd.DataFrame(rows, columns=list(USE_COLUMNS))


def decoy_table(known: pd.DataFrame, used: pd.DataFrame, n: int) -> pd.DataFrame:
    """Relevance on the label's own places and on the decoys', over chance. `used`: which decoys the classifiers use."""
    rows = []
    uses = used.set_index(["modality", "domain", "decoy"])["used"].to_dict()
    mass = known[(known["score"] == "relevance mass") & (known["model"] == "own") & known["task"].isin(["suppressor", "site"])]
    mass = mass.assign(value=mass["value"] / mass["chance"])
    for (*place, task, unit), own in mass.groupby([*PLACE, "task", "unit"]):
        row = dict(zip(PLACE, place)) | {"decoy": task, "unit": unit}
        sides = {name: own[own["truth"] == name] for name in ("planted", "decoy")}
        if unit in ("band", "frequency") or any(side.empty for side in sides.values()):
            continue  # signal and decoy lie in the same band
        truth, decoy = (interval(by_run(side), n) for side in sides.values())
        row |= dict(zip(("truth", "truth_low", "truth_high", "decoy_mass", "decoy_low", "decoy_high"), (*truth, *decoy)))
        row |= {"used": uses.get((row["modality"], row["domain"], task))}
        rows.append(row | {"reading": "shows the decoy" if decoy[1] > 1 else "does not show the decoy"})
    return pd.DataFrame(rows, columns=list(DECOY_COLUMNS))


def write_tables(maps: pd.DataFrame, answers: pd.DataFrame, n: int, out: Path) -> pd.DataFrame:
    """Write learned, scores, decoys and verdicts (.tsv, .json) to the directory `out`; returns the verdicts."""
    learned = learned_table(answers, n)
    known = only_learned(maps, learned)
    planted, judged = (table[~table["task"].isin(["suppressor", "site"])] for table in (maps, known))
    verdicts = verdict_rows(planted, judged, n)
    write_tsv(learned, out / "learned.tsv", LEARNED_COLUMNS)
    write_tsv(score_table(planted, judged, n), out / "scores.tsv", SCORE_COLUMNS)
    used = use_table(only_learned(answers, learned), n)
    write_tsv(used, out / "decoys_used.tsv", USE_COLUMNS)
    write_tsv(decoy_table(known, used, n), out / "decoys.tsv", DECOY_COLUMNS)
    write_tsv(verdicts, out / "verdicts.tsv", VERDICT_COLUMNS)
    print(learned.round(3).to_string(index=False))
    print(verdicts.drop(columns="excess").to_string(index=False))
    return verdicts


def run(*, scores: Sequence[Path], answers: Sequence[Path], options: ValidationOptions, out: Path) -> None:
    """Write the tables of all runs to the directory `out`."""
    maps, told = (pd.concat([read_table(path) for path in paths], ignore_index=True) for paths in (scores, answers))
    write_tables(maps, told, options.n_bootstrap, out)
