"""What no imaging result may fall behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mcsp.evaluation.rivals import site_of
from mcsp.evaluation.rivals.tuning import STRENGTHS, Fitted, logistic, sigmoid, tuned


@dataclass
class Phenotype:
    """Logistic regression on age, sex, site and mean framewise displacement."""

    name: str = "phenotype"
    models: dict[str, Fitted] = field(default_factory=dict)

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
        model = make_pipeline(columns, logistic())
        grid = {"logisticregression__C": STRENGTHS}
        self.models = {"phenotype": tuned(model, grid, self._table(people), y, people["family"].to_numpy())}
        return self

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Probability of being a case."""
        return sigmoid(self.models["phenotype"].logit(self._table(people)))

    def parts(self) -> list:
        """None."""
        return []
