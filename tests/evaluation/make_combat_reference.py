"""Freeze `combat_reference.json`: run by hand, in an environment of its own, as the reference needs numpy 1.

    pip install 'numpy<2' 'scikit-learn<1.6' neuroCombat==0.2.12 neuroHarmonize==2.5.2
    python tests/evaluation/make_combat_reference.py

neuroCombat (Fortin) harmonises all subjects at once; neuroHarmonize (Pomponio) is the same algorithm with a model that is
learnt on training subjects and applied to others. Both stop iterating when no feature's estimates change by more than 1e-4
of themselves; they are also run with that bound at 1e-12, which is the solution that the iteration goes to.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat
from neuroHarmonize import harmonizationApply, harmonizationLearn

OUT = Path(__file__).with_name("combat_reference.json")
SIZES = {"a/1": 18, "a/2": 9, "b/1": 4, "c/1": 12}  # training subjects; two of each site are tested
N_FEATURES = 10


def study() -> tuple[np.ndarray, pd.DataFrame]:
    """Features (N, F), rounded, and a table of site, age, sex, train, with effects of site, age and sex."""
    rng = np.random.default_rng(20240607)
    site = np.concatenate([np.repeat(name, n + 2) for name, n in SIZES.items()])
    train = np.concatenate([np.arange(n + 2) < n for n in SIZES.values()])
    age = np.round(rng.uniform(8, 60, len(site)) * 4) / 4  # the reference holds covariates in float32
    sex = rng.integers(0, 2, len(site))
    code = np.searchsorted(sorted(SIZES), site)
    shift, spread = rng.normal(0.5, 0.7, (len(SIZES), N_FEATURES)), rng.uniform(0.5, 2, (len(SIZES), N_FEATURES))
    x = 0.02 * age[:, None] * rng.normal(size=N_FEATURES) + 0.3 * sex[:, None] + shift[code]
    x += spread[code] * rng.normal(size=(len(site), N_FEATURES))
    return np.round(x, 6), pd.DataFrame({"SITE": site, "age": age, "sex": sex, "train": train})


def harmonised(x: np.ndarray, people: pd.DataFrame, bound: float) -> dict:
    """Results of both packages with a bound on the iteration's last change."""
    sys.modules["neuroCombat.neuroCombat"].it_sol.__defaults__ = (bound,)
    train = people["train"].to_numpy()
    covars = people[["SITE", "age", "sex"]]
    once = neuroCombat(x[train].T, covars[train], "SITE", ["sex"], ["age"])
    model, learnt = harmonizationLearn(x[train], covars[train].reset_index(drop=True))
    applied = harmonizationApply(x[~train], covars[~train].reset_index(drop=True), model)
    found = {"neurocombat_train": once["data"].T, "neuroharmonize_train": learnt, "neuroharmonize_test": applied}
    found |= {name: model[name] for name in ("gamma_star", "delta_star", "gamma_hat", "delta_hat")}
    return {**found, "var_pooled": model["var_pooled"][:, 0], "betas": model["B_hat"][len(SIZES) :]}


if __name__ == "__main__":
    x, people = study()
    names = ("numpy", "neuroCombat", "neuroHarmonize", "pandas", "scipy")
    record = {"made by": Path(__file__).name, "versions": {name: version(name) for name in names}}
    record |= {"x": x, **{name: people[name].to_numpy() for name in people}}
    record |= {"published": harmonised(x, people, 1e-4), "converged": harmonised(x, people, 1e-12)}
    OUT.write_text(json.dumps(record, default=lambda array: array.tolist()) + "\n")
