"""One model per modality; the logits of those that a subject has are averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mcsp.evaluation.rivals.features import WORDS, Features
from mcsp.evaluation.rivals.tuning import sigmoid, tuned


@dataclass
class Fused:
    """Base of rivals that read recordings. `models` holds all that is learnt: modality -> fitted model.

    Subclasses say how one modality's model is fitted, and what it makes of people.
    """

    label: str
    features: Mapping[str, Features]  # modality -> uid -> array
    words: Mapping[str, str] = field(default_factory=lambda: WORDS)
    models: dict[str, Any] = field(default_factory=dict)

    def fit_one(self, modality: str, people: pd.DataFrame, y: np.ndarray) -> Any:
        """Model of a modality, fitted on people that have it."""
        raise NotImplementedError

    def logits(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Logits (N,) of people that have the modality."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.label} {' + '.join(self.words[m] for m in self.features)}".strip()

    def _has(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        return np.array([uid in self.features[modality] for uid in people["uid"]], dtype=bool)

    def fit(self, people: pd.DataFrame, y: np.ndarray) -> Fused:
        """Fit on training subjects, one model per modality in which both classes are seen."""
        self.models = {}
        for modality in self.features:
            has = self._has(modality, people)
            if len(set(y[has])) == 2:
                self.models[modality] = self.fit_one(modality, people[has], y[has])
        return self

    def predict(self, people: pd.DataFrame) -> np.ndarray:
        """Probability of being a case; NaN for a subject without any modality that was fitted."""
        total, count = np.zeros(len(people)), np.zeros(len(people))
        for modality in self.models:
            has = self._has(modality, people)
            if has.any():
                total[has] += self.logits(modality, people[has])
                count[has] += 1
        return np.where(count > 0, sigmoid(total / np.maximum(count, 1)), np.nan)

    def parts(self) -> list[Fused]:
        """The fitted model of each modality alone; none when there is one modality only."""
        if len(self.features) < 2:
            return []
        own = {m: {m: self.models[m]} if m in self.models else {} for m in self.features}
        return [replace(self, features={m: x}, models=own[m]) for m, x in self.features.items()]


@dataclass
class Tuned(Fused):
    """A scikit-learn pipeline on vectors, tuned over `grid`; `calibrate`: its scores are no logits."""

    make: Callable[[], Pipeline] | None = None
    grid: Mapping[str, list] = field(default_factory=dict)
    calibrate: bool = False

    def read(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Features (N, F) of people that have the modality."""
        return np.stack([self.features[modality][uid] for uid in people["uid"]])

    def fit_one(self, modality: str, people: pd.DataFrame, y: np.ndarray) -> Any:
        """The tuned pipeline."""
        x = self.read(modality, people)
        return tuned(self.make(), self.grid, x, y, people["family"].to_numpy(), calibrate=self.calibrate)

    def logits(self, modality: str, people: pd.DataFrame) -> np.ndarray:
        """Logits (N,) of people that have the modality."""
        return self.models[modality].logit(self.read(modality, people))
