"""Do the classifiers use a decoy? Their answers with it and without it: what they do not use, no map could show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mcsp.explain.attribution import Forward, Reference
from mcsp.explain.summaries import in_bands
from mcsp.model.batch import Key
from mcsp.training.data import Subjects

SIDES = ("decoy", "truth")  # what is taken away: the decoy's places, or those of the label's own effect


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
