"""Do the classifiers use a decoy? Their answers with it and without it: what they do not use, no map could show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from mcsp.evaluation.metrics import auroc
from mcsp.explain.attribution import Forward, Reference
from mcsp.explain.summaries import in_bands
from mcsp.model.batch import Key
from mcsp.training.data import Subjects

SIDES = ("decoy", "truth")  # what is taken away: the decoy's places, or those of the label's own effect
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


def place_of(key: Key, masks: dict[str, np.ndarray], meta: dict) -> np.ndarray:
    """Entries of a domain's input that an effect's masks (unit -> (K,) bool) name: (R, R) of FC, (R, F), (C, F) of spectra.

    Of BOLD spectra, regions at all frequencies: series are z-scored, so that more in one band is less in the others.
    """
    if key[1] == "spatial":
        n = len(meta["names"])
        place = np.zeros((n, n), bool)
        place[np.triu_indices(n, 1)] = masks["edge"]
        return place | place.T
    if key[0] == "fmri":
        return np.outer(masks["roi"], np.ones(len(meta["freqs"]), bool))
    bands = in_bands(meta)
    return np.outer(masks["channel"], bands[masks.get("band", np.ones(len(bands), bool))].any(axis=0))


def logits_without(forward: Forward, subjects: Subjects, reference: Reference, key: Key, place: np.ndarray) -> pd.DataFrame:
    """What the model says from one domain alone, entries `place` of its input at the training subjects' mean: uid, logit."""
    rows, gone = [], torch.from_numpy(place)
    with torch.no_grad():
        for uids, batch in subjects.everyone(16):
            x = {k: reference.mean[k][None].expand_as(own) for k, own in batch.x.items()}
            x[key] = torch.where(gone, x[key], batch.x[key])
            logits = forward(type(batch)(x, batch.present, batch.n_valid))
            rows += [{"uid": uid, "logit": float(value)} for uid, value in zip(uids, logits)]
    return pd.DataFrame(rows)


def _gain(runs: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], n: int, seed: int = 0) -> tuple[float, float]:
    """Ends of the 95 % bootstrap interval of the mean difference in AUROC over runs of (labels, logits, other logits): over
    runs, and subjects within classes.
    """
    rng, draws = np.random.default_rng(seed), np.zeros(n)
    for i in range(n):
        for run in rng.integers(len(runs), size=len(runs)):
            y, own, other = runs[run]
            at = np.concatenate([rng.choice(side, len(side)) for side in (np.flatnonzero(y == 1), np.flatnonzero(y == 0))])
            draws[i] += (auroc(y[at], own[at]) - auroc(y[at], other[at])) / len(runs)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def use_table(answers: pd.DataFrame, n: int) -> pd.DataFrame:
    """Whether the decoys are used, by decoy and domain. `answers`: those of the effects, domains and sizes that were learnt."""
    rows = []
    index = ["snr", "seed", "uid"]
    asked = answers[answers["source"].isin([f"model, no {side}" for side in SIDES])]
    for (decoy, modality, domain), _ in asked.groupby(["task", "modality", "domain"]):
        own = answers[(answers["task"] == decoy) & (answers["modality"] == modality) & (answers["domain"] == domain)]
        wide = own.pivot(index=[*index, "y"], columns="source", values="logit").reset_index("y")
        runs = [part for _, part in wide.groupby(level=[0, 1])]

        def mean(source: str, runs: list[pd.DataFrame] = runs) -> float:
            return float(np.mean([auroc(part["y"].to_numpy(), part[source].to_numpy()) for part in runs]))

        low, high = _gain([tuple(part[c].to_numpy() for c in ("y", "model", "model, no decoy")) for part in runs], min(n, 500))
        row = {"decoy": decoy, "modality": modality, "domain": domain, "auroc": mean("model")}
        row |= {"without_decoy": mean("model, no decoy"), "without_truth": mean("model, no truth")}
        row |= {"gain": row["auroc"] - row["without_decoy"], "gain_low": low, "gain_high": high}
        row |= {"linear": mean("linear"), "linear_without_decoy": mean("linear, no decoy")}
        rows.append(row | {"used": "yes" if low > 0 else "no", "n_runs": len(runs)})
    return pd.DataFrame(rows, columns=list(USE_COLUMNS))
