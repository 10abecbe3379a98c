"""Do probabilities mean what they say? Reliability, calibration error, and a temperature fitted on validation subjects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import minimize_scalar

from mcsp.evaluation.comparisons import by_subject
from mcsp.evaluation.metrics import brier, calibration_error
from mcsp.evaluation.resampling import interval, resamples
from mcsp.options.results import EvaluateOptions

N_BINS = 10
FEWEST = 5  # validation subjects of each class: with fewer a temperature says more of them than of the model
WARMEST = 20.0  # temperatures lie between its inverse and this: with few subjects the likelihood can rise without end
PLAIN, SCALED, CHANGE = "as it is", "temperature", "change"
TEMPERATURE_COLUMNS = {
    "task": "Task of the study",
    "fold": "Fold",
    "n_val": "Validation subjects of the task, which the temperature was fitted on",
    "n_case_val": "Cases among them",
    "temperature": "Logits are divided by it: above 1 the model was too sure, below 1 not sure enough",
    "state": f"fitted; at its bound (1/20 or 20); too few (1: fewer than {FEWEST} validation subjects of a class)",
}
CALIBRATION_COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "state": "as it is; temperature: after scaling by the fold's temperature; change: temperature minus as it is",
    "n": "Test subjects, over all folds",
    "n_case": "Cases among them",
    "metric": "calibration_error (10 bins of equal width), brier or log_loss (nats)",
    "value": "Over the pooled test subjects of all folds",
    "low": "Lower end of the bootstrap interval over subjects",
    "high": "Upper end of the bootstrap interval over subjects",
    "expected": "Mean over labels drawn from the probabilities: what a perfectly calibrated method would get with these "
    "subjects, since few subjects alone make an error",
}
RELIABILITY_COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "state": "as it is; temperature: after scaling by the fold's temperature",
    "bin_low": "Least probability of the bin",
    "bin_high": "Largest probability of the bin",
    "n": "Test subjects whose probability lies in the bin",
    "mean_p": "Their mean probability",
    "share": "Share of cases among them",
    "low": "Lower end of the share's interval (Wilson)",
    "high": "Upper end of the share's interval (Wilson)",
}


def logit(p: np.ndarray) -> np.ndarray:
    """Log odds; probabilities that were rounded to 0 or 1 lie at 1e-7 from them."""
    p = np.clip(np.asarray(p, float), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)


def scaled(p: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Probabilities with their logits divided by the temperature: ranks and decisions at 0.5 stay."""
    return 1 / (1 + np.exp(-logit(p) / temperature))


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log-likelihood in nats."""
    return float(np.mean(np.logaddexp(0, np.where(y == 1, -1, 1) * logit(p))))


def fit_temperature(y: np.ndarray, p: np.ndarray) -> float:
    """The temperature with the least log loss of these subjects. Source: Guo et al. 2017, section 4.2.

    The loss is convex in the inverse temperature, so it has one minimum, or falls up to the bound.
    """
    z, sign = logit(p), np.where(np.asarray(y) == 1, -1.0, 1.0)
    found = minimize_scalar(
        lambda inverse: np.logaddexp(0, sign * z * inverse).mean(), bounds=(1 / WARMEST, WARMEST), method="bounded",
        options={"xatol": 1e-8},
    )  # fmt: skip
    return float(1 / found.x)


def temperatures(task: str, validation: pd.DataFrame) -> pd.DataFrame:
    """One temperature per fold (TEMPERATURE_COLUMNS), of the mean probability over seeds: that is what is reported.

    `validation`: fold, seed, uid, y, p of validation subjects; nobody else can move a temperature.
    """
    rows = []
    for fold, own in validation.groupby("fold"):
        own = own.groupby(["uid", "y"], as_index=False)["p"].mean()
        value, state = 1.0, "too few"
        if min(own["y"].sum(), len(own) - own["y"].sum()) >= FEWEST:
            value = fit_temperature(own["y"].to_numpy(), own["p"].to_numpy())
            state = "at its bound" if abs(np.log(value)) > np.log(WARMEST) - 1e-3 else "fitted"
        rows.append((task, fold, len(own), int(own["y"].sum()), value, state))
    return pd.DataFrame(rows, columns=list(TEMPERATURE_COLUMNS))


def bins_of(p: np.ndarray) -> np.ndarray:
    """Number of the bin of each probability, as `calibration_error` bins them."""
    return np.minimum((np.asarray(p) * N_BINS).astype(int), N_BINS - 1)


def reliability(y: np.ndarray, p: np.ndarray, confidence: float) -> pd.DataFrame:
    """The reliability diagram's points, without empty bins: RELIABILITY_COLUMNS from bin_low on."""
    rows, number = [], bins_of(p)
    for b in np.unique(number):
        own = number == b
        n, cases = int(own.sum()), int(y[own].sum())
        ends = stats.binomtest(cases, n).proportion_ci(confidence, method="wilson")
        rows.append((b / N_BINS, (b + 1) / N_BINS, n, float(p[own].mean()), cases / n, float(ends.low), float(ends.high)))
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS)[3:])


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "calibration_error": calibration_error,
    "brier": brier,
    "log_loss": log_loss,
}


def expected_scores(p: np.ndarray, n: int, seed: int) -> dict[str, float]:
    """Mean scores of `p` over `n` draws of labels from `p` itself. Source: Broecker & Smith 2007 (consistency resampling)."""
    labels = np.random.default_rng(seed).random((n, len(p))) < p
    return {name: float(np.mean([score(y, p) for y in labels])) for name, score in SCORES.items()}


def calibration_rows(
    task: str, method: str, y: np.ndarray, states: dict[str, np.ndarray], options: EvaluateOptions
) -> list[dict]:
    """Rows of CALIBRATION_COLUMNS: each state's scores (state -> probabilities (N)) and, of two states, their difference."""
    draws = {(state, name): [] for state in states for name in SCORES}
    for index in resamples(y, options.n_bootstrap, options.seed):
        for state, name in draws:
            draws[state, name].append(SCORES[name](y[index], states[state][index]))
    head = {"task": task, "method": method, "n": len(y), "n_case": int(y.sum())}
    rows = []
    for state, p in states.items():
        expected = expected_scores(p, min(options.n_bootstrap, 500), options.seed)
        for name, score in SCORES.items():
            low, high = interval(draws[state, name], options.confidence)
            row = {"state": state, "metric": name, "value": score(y, p), "low": low, "high": high, "expected": expected[name]}
            rows.append({**head, **row})
    if len(states) > 1:
        for name, score in SCORES.items():
            low, high = interval(np.subtract(draws[SCALED, name], draws[PLAIN, name]), options.confidence)
            value = score(y, states[SCALED]) - score(y, states[PLAIN])
            rows.append({**head, "state": CHANGE, "metric": name, "value": value, "low": low, "high": high, "expected": np.nan})
    return rows


def calibration_tables(
    task: str, means: pd.DataFrame, heat: pd.DataFrame, options: EvaluateOptions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, reliability) of all methods; MCSP, which has validation subjects of its own, also after scaling.

    `means`: method, fold, uid, y, p of test subjects, as `pooled` gives them; `heat`: temperatures by fold, as `temperatures`
    gives them. A fold's temperature scales its own probabilities, before the mean over repeats.
    """
    warm = means.assign(p=scaled(means["p"].to_numpy(), means["fold"].map(heat.set_index("fold")["temperature"]).to_numpy()))
    plain, warm = by_subject(means), by_subject(warm)
    scores, points = [], []
    for method, own in plain.groupby("method", sort=False):
        y, states = own["y"].to_numpy(), {PLAIN: own["p"].to_numpy()}
        if method.startswith("mcsp"):
            states[SCALED] = warm.loc[own.index, "p"].to_numpy()
        scores += calibration_rows(task, method, y, states, options)
        points += [
            reliability(y, q, options.confidence).assign(task=task, method=method, state=state) for state, q in states.items()
        ]
    return pd.DataFrame(scores)[list(CALIBRATION_COLUMNS)], pd.concat(points)[list(RELIABILITY_COLUMNS)]
