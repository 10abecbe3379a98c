"""Simple rivals on the same folds. Whatever they fit or tune, they fit on training subjects."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mcsp.cohort import domain_meta, read_domain
from mcsp.evaluation.combat import Combat

STRENGTHS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]  # of the ridge penalty's inverse, tuned inside the training part
FEATURES = {"fmri": "FC", "eeg": "band power"}  # what the linear rival reads of a modality
COMBAT = ", ComBat"  # ends the name of a harmonised rival
POWER_BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0)}


def _tuned(model, grid: dict, x, y: np.ndarray, families: np.ndarray):
    """The pipeline refitted with the strength that is best in an inner cross-validation over families."""
    n_splits = min(5, int(np.bincount(y).min()), len(set(families)))
    if n_splits < 2:
        return model.fit(x, y)
    inner = StratifiedGroupKFold(n_splits, shuffle=True, random_state=0)
    folds = [(a, b) for a, b in inner.split(np.zeros(len(y)), y, families) if 0 < y[a].mean() < 1 and 0 < y[b].mean() < 1]
    if not folds:
        return model.fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GridSearchCV(model, grid, scoring="roc_auc", cv=folds).fit(x, y).best_estimator_


def _logistic() -> LogisticRegression:
    return LogisticRegression(class_weight="balanced", max_iter=500)


def site_of(people: pd.DataFrame) -> pd.Series:
    """What tells sites apart: datasets may use the same name for different ones."""
    return people["dataset"] + "/" + people["site"]


@dataclass
class Phenotype:
    """Logistic regression on age, sex, site and mean framewise displacement: what no imaging result may fall behind."""

    name: str = "phenotype"
    model: object = None

    @staticmethod
    def _table(people: pd.DataFrame) -> pd.DataFrame:
        table = people[["age", "mean_fd"]].astype(float)
        return table.assign(sex=people["sex"].fillna("unknown"), site=site_of(people))

    def fit(self, people: pd.DataFrame, y: np.ndarray) -> Phenotype:
        """Fit on training subjects."""
        impute = SimpleImputer(strategy="median", keep_empty_features=True)
        numbers = make_pipeline(impute, StandardScaler())
        names = OneHotEncoder(handle_unknown="ignore")
        columns = ColumnTransformer([("numbers", numbers, ["age", "mean_fd"]), ("names", names, ["sex", "site"])])
        model = make_pipeline(columns, _logistic())
        self.model = _tuned(model, {"logisticregression__C": STRENGTHS}, self._table(people), y, people["family"].to_numpy())
        return self

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Probability of being a case."""
        return self.model.predict_proba(self._table(people))[:, 1]


class Harmonise(TransformerMixin, BaseEstimator):
    """ComBat as a pipeline's first step, so that the inner cross-validation too fits it on its training subjects only.
    Columns: the site's number, age, sex, then the features.
    """

    def fit(self, x: np.ndarray, y: np.ndarray | None = None) -> Harmonise:
        """Fit on training subjects. `y` is not used: ComBat must not see labels."""
        self.combat_ = Combat().fit(x[:, 3:], x[:, 0], x[:, 1:3])
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Harmonised features."""
        return self.combat_.transform(x[:, 3:], x[:, 0], x[:, 1:3])


@dataclass
class Linear:
    """Logistic regression on features of each modality; the logits of those that a subject has are averaged.

    With `combat`, features are first harmonised over sites, with age and sex as covariates (unknown sex lies midway).
    """

    name: str
    features: dict[str, dict[str, np.ndarray]]  # modality -> uid -> features
    combat: bool = False
    models: dict[str, object] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)  # training site -> its number

    def _read(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Features (N, F) of people that have the modality; with ComBat, after three columns that it needs."""
        x = np.stack([self.features[modality][uid] for uid in people["uid"]])
        if not self.combat:
            return x
        site = site_of(people).map(self.codes).fillna(-1)
        sex = people["sex"].map({"M": 1, "F": -1}).astype(float).fillna(0)
        return np.column_stack([np.stack([site, people["age"], sex], axis=1).astype(x.dtype), x])

    def fit(self, people: pd.DataFrame, y: np.ndarray) -> Linear:
        """Fit on training subjects, one model per modality."""
        self.models = {}
        self.codes = {name: code for code, name in enumerate(sorted(set(site_of(people))))}
        for modality in self.features:
            has = people["uid"].isin(self.features[modality]).to_numpy()
            if len(set(y[has])) < 2:
                continue
            steps = [Harmonise()] if self.combat else []
            model = make_pipeline(*steps, StandardScaler(), _logistic())
            families = people.loc[has, "family"].to_numpy()
            x = self._read(modality, people[has])
            self.models[modality] = _tuned(model, {"logisticregression__C": STRENGTHS}, x, y[has], families)
        return self

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Probability of being a case; NaN for a subject without any modality that was fitted."""
        total, count = np.zeros(len(people)), np.zeros(len(people))
        for modality, model in self.models.items():
            has = people["uid"].isin(self.features[modality]).to_numpy()
            if has.any():
                total[has] += model.decision_function(self._read(modality, people[has]))
                count[has] += 1
        return np.where(count > 0, 1 / (1 + np.exp(-total / np.maximum(count, 1))), np.nan)

    def parts(self) -> list[Linear]:
        """The fitted model of each modality alone; none when there is one modality only."""
        if len(self.features) < 2:
            return []
        own = {m: {m: self.models[m]} if m in self.models else {} for m in self.features}
        name = {m: f"linear {FEATURES[m]}{COMBAT if self.combat else ''}" for m in self.features}
        return [replace(self, name=name[m], features={m: x}, models=own[m]) for m, x in self.features.items()]

    def harmonised(self, test: pd.DataFrame) -> pd.DataFrame:
        """What ComBat knew of each site that it was fitted on or that tests: modality, site, n_train, n_test, state."""
        rows = []
        for modality, model in self.models.items() if self.combat else ():
            combat = model[0].combat_
            trained = {name: combat.n_train[code] for name, code in self.codes.items() if code in combat.n_train}
            tested = site_of(test)[test["uid"].isin(self.features[modality]).to_numpy()].value_counts()
            for name in sorted({*trained, *tested.index}):
                state = combat.state(self.codes.get(name, -1))
                rows.append((modality, name, trained.get(name, 0), int(tested.get(name, 0)), state))
        return pd.DataFrame(rows, columns=["modality", "site", "n_train", "n_test", "state"])


def edge_features(fc: np.ndarray) -> np.ndarray:
    """Upper triangle of a connectivity matrix (R, R)."""
    return np.array(fc[np.triu_indices(len(fc), 1)])


def band_power(amplitude: np.ndarray, freqs: np.ndarray) -> np.ndarray:
    """Log power of each channel in delta, theta, alpha and beta. `amplitude` (segment, C, F), `freqs` (F) in Hz."""
    power = (amplitude.astype(float) ** 2).mean(axis=0)
    bands = [power[:, (freqs >= low) & (freqs < high)].sum(axis=1) for low, high in POWER_BANDS.values()]
    return np.log(np.concatenate(bands) + 1e-12)


def make_rivals(stores: Path, cohort: pd.DataFrame, harmonise: str = "none") -> list[Callable[[], Phenotype | Linear]]:
    """Makers of the rivals that the cohort's modalities allow; each call gives an unfitted one. With `harmonise` 'combat'
    the linear one comes twice, without and with ComBat.
    """
    features: dict[str, dict[str, np.ndarray]] = {}
    if cohort["has_fmri"].any():
        features["fmri"] = read_domain(stores, cohort, "fmri", "spatial", edge_features)
    if cohort["has_eeg"].any():
        freqs = np.array(domain_meta(stores, cohort, "eeg", "spectral")["freqs"])
        features["eeg"] = read_domain(stores, cohort, "eeg", "spectral", lambda row: band_power(row, freqs))
    name = "linear " + " + ".join(FEATURES[m] for m in features)
    rivals = [Phenotype, lambda: Linear(name, features)]
    return [*rivals, lambda: Linear(name + COMBAT, features, combat=True)] if harmonise == "combat" else rivals
