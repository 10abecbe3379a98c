"""The rivals by the names that `evaluate.rivals` gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.cohort import domain_meta
from mcsp.evaluation.rivals import Rival
from mcsp.evaluation.rivals.features import Reduced, connectivity, series, vectors
from mcsp.evaluation.rivals.fused import Tuned
from mcsp.evaluation.rivals.linear import LOGISTIC, SVM, Harmonised, OneScale, Tangent, harmonised_steps
from mcsp.evaluation.rivals.phenotype import Phenotype
from mcsp.evaluation.rivals.screening import SHARES, screened_steps
from mcsp.evaluation.rivals.trees import BOOSTING, FOREST
from mcsp.options.results import EEG_NETWORKS

Maker = Callable[[], Rival]


def _phenotype(stores: Path, cohort: pd.DataFrame, seed: int) -> Maker:
    return Phenotype


def _tuned(stores: Path, cohort: pd.DataFrame, seed: int, **family) -> Maker:
    return partial(Tuned, features=vectors(stores, cohort), **family)


def _trees(stores: Path, cohort: pd.DataFrame, seed: int, **family) -> Maker:
    return _tuned(stores, cohort, seed, **{**family, "make": partial(family["make"], seed)})


def _harmonised(stores: Path, cohort: pd.DataFrame, seed: int) -> Maker:
    return partial(Harmonised, features=vectors(stores, cohort), **{**LOGISTIC, "make": harmonised_steps})


def _tangent(stores: Path, cohort: pd.DataFrame, seed: int, **family) -> Maker | None:
    if not cohort["has_fmri"].any():
        return None
    family = {**family, "make": partial(family["make"], OneScale)}
    return partial(Tangent, features={"fmri": series(stores, cohort, "fmri")}, words={"fmri": "tangent FC"}, **family)


def _as_window(x: np.ndarray) -> np.ndarray:
    return x[None]


def _mlp(stores: Path, cohort: pd.DataFrame, seed: int) -> Maker:
    from mcsp.evaluation.rivals.mlp import MLP
    from mcsp.evaluation.rivals.networks import DROPOUTS, Network

    windows = {modality: Reduced(own, _as_window) for modality, own in vectors(stores, cohort).items()}
    return partial(Network, label="MLP", features=windows, build=MLP, settings=DROPOUTS, seed=seed)


def _fc_transformer(stores: Path, cohort: pd.DataFrame, seed: int) -> Maker | None:
    from mcsp.evaluation.rivals.fc_transformer import ConnectivityTransformer
    from mcsp.evaluation.rivals.networks import DROPOUTS, Network

    if not cohort["has_fmri"].any():
        return None
    windows = {"fmri": Reduced(connectivity(stores, cohort), _as_window)}
    return partial(
        Network, label="transformer", features=windows, build=ConnectivityTransformer, settings=DROPOUTS, seed=seed,
        standardise=False,
    )  # fmt: skip


def _eeg_network(stores: Path, cohort: pd.DataFrame, seed: int, name: str) -> Maker | None:
    from mcsp.evaluation.rivals.eeg_networks import NAMES, build, zoo
    from mcsp.evaluation.rivals.networks import Network

    if not cohort["has_eeg"].any():
        return None
    zoo()
    rate = domain_meta(stores, cohort, "eeg", "temporal")["sfreq"]
    return partial(
        Network, label=NAMES[name], features={"eeg": series(stores, cohort, "eeg")}, words={"eeg": ""}, seed=seed,
        build=partial(build, name=name, sfreq=rate), standardise=False,
    )  # fmt: skip


def _screened(estimator: str, label: str) -> dict:
    return {"label": label, "make": partial(screened_steps, estimator), "grid": SHARES}


CATALOGUE: dict[str, Callable[[Path, pd.DataFrame, int], Maker | None]] = {
    "phenotype": _phenotype,
    "linear": partial(_tuned, **LOGISTIC),
    "linear_combat": _harmonised,
    "svm": partial(_tuned, **SVM),
    "tangent": partial(_tangent, **LOGISTIC),
    "tangent_svm": partial(_tangent, **SVM),
    "random_forest": partial(_trees, **FOREST),
    "gradient_boosting": partial(_trees, **BOOSTING),
    "mi_binned": partial(_tuned, **_screened("binned", "MI (bins) and ridge")),
    "mi_kde": partial(_tuned, **_screened("kde", "MI (densities) and ridge")),
    "mlp": _mlp,
    "fc_transformer": _fc_transformer,
    **{name: partial(_eeg_network, name=name) for name in EEG_NETWORKS},
}


def rival_maker(name: str, stores: Path, cohort: pd.DataFrame, seed: int = 0) -> Maker | None:
    """What gives an unfitted rival at each call; None where nobody in the cohort has what it reads.

    Raises McspError where it needs a package that is not there.
    """
    return CATALOGUE[name](stores, cohort, seed)
