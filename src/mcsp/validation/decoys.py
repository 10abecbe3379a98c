"""Do the classifiers use a decoy? Their answers with it and without it: what they do not use, no map could show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mcsp.explain.attribution import Forward, Reference
from mcsp.explain.summaries import in_bands
from mcsp.model.batch import Key
from mcsp.training.data import Subjects
from mcsp.validation.maps import logits_of

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
    gone = torch.from_numpy(place)
    return logits_of(
        forward, subjects, reference, lambda own, mean: [({}, mean | {key: torch.where(gone, mean[key], own[key])})]
    )
