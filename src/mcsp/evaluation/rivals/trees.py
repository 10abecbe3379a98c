"""Forests and boosted trees on connectivity and band power."""

from __future__ import annotations

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from mcsp.evaluation.rivals.tuning import filled

TREES, BOOSTS = 300, 100


def _alone(classifier) -> Pipeline:
    """Trees need no scaling."""
    return make_pipeline(filled(), classifier)


def forest_steps(seed: int) -> Pipeline:
    """Random forest."""
    return _alone(RandomForestClassifier(TREES, class_weight="balanced", random_state=seed))


def boosting_steps(seed: int) -> Pipeline:
    """Histogram gradient boosting; each split sees a tenth of the features, as there are thousands, in 32 bins, as subjects are
    hundreds.
    """
    return _alone(
        HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=BOOSTS,
            max_features=0.1,
            max_bins=32,
            class_weight="balanced",
            early_stopping=False,
            random_state=seed,
        )
    )


FOREST = {"label": "random forest", "make": forest_steps, "grid": {"randomforestclassifier__min_samples_leaf": [1, 6]}}
BOOSTING = {
    "label": "gradient boosting",
    "make": boosting_steps,
    "grid": {"histgradientboostingclassifier__max_leaf_nodes": [3, 15]},
}
