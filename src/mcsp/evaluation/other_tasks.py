"""Tasks that are not binary, as sanity checks: several classes, or a number. Frozen models and simple rivals on the same folds.

Rivals: the training subjects' mean or commonest class, which knows nothing; phenotype, site and motion; a linear model of
connectivity and band power (multinomial logistic, or ridge). What they fit or tune, they fit on training and validation
subjects.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mcsp.cohort import of_modalities, task_labels, without_answer
from mcsp.errors import McspError
from mcsp.evaluation.frozen import check_models, check_unseen
from mcsp.evaluation.metrics import auroc
from mcsp.evaluation.resampling import interval, resamples
from mcsp.evaluation.rivals import site_of
from mcsp.evaluation.rivals.features import WORDS, Features, vectors
from mcsp.evaluation.rivals.tuning import filled
from mcsp.evaluation.splits import guard, load_splits, part, protocol_text, read_record
from mcsp.model.mcsp import Classifier
from mcsp.options.results import EvaluateOptions
from mcsp.options.tasks import Task
from mcsp.store import read_table, write_table, write_tsv
from mcsp.training.data import Subjects

PENALTIES = [10.0**k for k in range(6)]  # of squared weights, on standardised features
NOTHING = "knows nothing"  # the rival that answers the same of everybody
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float]

METRIC_COLUMNS = {
    "task": "Task of the study",
    "kind": "multiclass or regression",
    "method": "mcsp, or a rival on the same folds",
    "protocol": "How test subjects were set aside, and what pre-training saw",
    "n": "Test subjects, over all folds",
    "metric": "Of classes balanced_accuracy (mean recall), auroc_macro (one class against the rest), accuracy; of numbers "
    "mae, rmse (in its units), r (Pearson), r2 (against the training subjects' mean)",
    "value": "Over the pooled test subjects of all folds; with repeats, of each subject's mean answer",
    "low": "Lower end of the bootstrap interval over subjects",
    "high": "Upper end of the bootstrap interval over subjects",
    "fold_mean": "Mean over folds of the metric within each fold",
    "fold_sd": "Standard deviation over folds",
}
COMPARISON_COLUMNS = {
    "task": "Task of the study",
    "method": "Method",
    "rival": "Method that it is compared with, on the same test subjects",
    "metric": "Metric compared",
    "n": "Test subjects that both answered",
    "difference": "Method minus rival over pooled test subjects; of an error, less is better",
    "low": "Lower end of the bootstrap interval of the difference, over subjects",
    "high": "Upper end of the bootstrap interval of the difference, over subjects",
    "p": "Two-sided p value by permutation (answers swapped subject by subject)",
    "verdict": "better, worse, or not told apart, at 0.05; not corrected for the number of rivals",
}
CONFUSION_COLUMNS = {
    "method": "Method",
    "true": "Class; of a number, the fifth of the test subjects, with its limits",
    "answered": "Class answered (the likeliest one); of a number, the fifth that it falls into",
    "n": "Test subjects",
    "share": "Share of those of this true class",
}


# --- metrics: truth (N,), answers (N,) or (N, classes), and what a method that knows nothing would answer (N,) ----------------


def _recalls(y: np.ndarray, p: np.ndarray) -> list[float]:
    return [float((p[y == k].argmax(axis=1) == k).mean()) for k in np.unique(y)]


def balanced_accuracy(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Mean recall over the classes that are there."""
    return float(np.mean(_recalls(y, p)))


def accuracy(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Share of right answers."""
    return float((p.argmax(axis=1) == y).mean())


def auroc_macro(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Mean over classes of the AUROC of one against the rest (Hand & Till 2001 call for pairs; this is the plain form)."""
    return float(np.mean([auroc((y == k).astype(int), p[:, k]) for k in range(p.shape[1])]))


def mae(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.abs(y - p).mean())


def rmse(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Root mean square error."""
    return float(np.sqrt(np.square(y - p).mean()))


def pearson(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Correlation; NaN where a side is constant."""
    return float(np.corrcoef(y, p)[0, 1]) if np.ptp(y) > 0 and np.ptp(p) > 0 else float("nan")


def r2(y: np.ndarray, p: np.ndarray, known: np.ndarray) -> float:
    """Share of the squared error of the training subjects' mean that is gone; below 0 for answers worse than that."""
    left = np.square(y - known).sum()
    return float(1 - np.square(y - p).sum() / left) if left > 0 else float("nan")


METRICS: dict[str, dict[str, Metric]] = {
    "multiclass": {"balanced_accuracy": balanced_accuracy, "auroc_macro": auroc_macro, "accuracy": accuracy},
    "regression": {"mae": mae, "rmse": rmse, "r": pearson, "r2": r2},
}
ERRORS = ("mae", "rmse")  # less is better


# --- answers -------------------------------------------------------------------------------------------------------------


def answer_columns(task: Task) -> list[str]:
    """Columns of the answers: p_<class> of each class, or the value."""
    return [f"p_{name}" for name in task.classes] if task.kind == "multiclass" else ["value"]


def frozen_answers(
    models: Sequence[Classifier], stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series, task: Task
) -> pd.DataFrame:
    """Answers of the frozen models for their folds' test subjects: fold, seed, uid, columns of the answers."""
    columns, tables = answer_columns(task), []
    for model in models:
        fold, seed = model.config["fold"], model.config["seed"]
        uids = [uid for uid in part(splits, fold, "test") if uid in y.index]
        guard(splits, fold, uids, "test")
        for own, batch in Subjects(stores, cohort, uids, model.backbone.keys).everyone():
            found = (model.predict_value if task.kind == "regression" else model.predict_proba)(batch).numpy()
            if not np.isfinite(found).all():
                raise McspError(f"classifier of fold {fold}, seed {seed}: answers are not finite: train it again")
            table = pd.DataFrame(found.reshape(len(own), -1), columns=columns)
            tables.append(table.assign(fold=fold, seed=seed, uid=own))
    return pd.concat(tables, ignore_index=True)


def _tuned(model: Pipeline, task: Task, x, y: np.ndarray, families: np.ndarray) -> Pipeline:
    """The pipeline with the penalty that is best in an inner cross-validation over families, refitted."""
    regression, n = task.kind == "regression", len(set(families))
    grid = {"last__alpha": PENALTIES} if regression else {"last__C": [1 / penalty for penalty in PENALTIES]}
    folds = list(GroupKFold(min(5, n)).split(np.zeros(len(y)), y, families)) if n > 1 else []
    folds = [(a, b) for a, b in folds if regression or set(y[a]) == set(y)]
    if not folds:
        return model.fit(x, y)
    scoring = "neg_mean_squared_error" if regression else "balanced_accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        return GridSearchCV(model, grid, scoring=scoring, cv=folds).fit(x, y).best_estimator_


def _last(task: Task) -> LogisticRegression | Ridge:
    return Ridge() if task.kind == "regression" else LogisticRegression(class_weight="balanced", max_iter=500)


def _answers(model, x, task: Task) -> np.ndarray:
    """(N, number of answer columns)."""
    return model.predict(x)[:, None] if task.kind == "regression" else model.predict_proba(x)


def nothing_answers(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, task: Task) -> np.ndarray:
    """The mean of the training subjects, or the classes' shares among them, of everybody."""
    model = DummyRegressor() if task.kind == "regression" else DummyClassifier(strategy="prior")
    return _answers(model.fit(np.zeros((len(train), 1)), y), np.zeros((len(test), 1)), task)


def phenotype_answers(train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, task: Task) -> np.ndarray:
    """By age, sex, site and mean framewise displacement, whichever of them is not asked for."""
    numbers = Pipeline([("fill", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())])
    names = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("numbers", numbers, ["age", "mean_fd"]), ("names", names, ["sex", "site"])])

    def table(people: pd.DataFrame) -> pd.DataFrame:
        return people[["age", "mean_fd"]].astype(float).assign(sex=people["sex"].fillna("unknown"), site=site_of(people))

    model = _tuned(Pipeline([("columns", columns), ("last", _last(task))]), task, table(train), y, train["family"].to_numpy())
    return _answers(model, table(test), task)


def linear_answers(
    features: dict[str, Features], train: pd.DataFrame, y: np.ndarray, test: pd.DataFrame, task: Task
) -> np.ndarray:
    """By a linear model of each modality, the mean over those that a subject has; NaN without any that could be fitted."""
    total, count = np.zeros((len(test), len(answer_columns(task)))), np.zeros((len(test), 1))
    for own in features.values():
        learns, asked = (people["uid"].isin(set(own)).to_numpy() for people in (train, test))
        if not asked.any() or len(set(y[learns])) < max(2, len(task.classes)):
            continue
        x = np.stack([own[uid] for uid in train.loc[learns, "uid"]])
        model = Pipeline([("fill", filled()), ("scale", StandardScaler()), ("last", _last(task))])
        model = _tuned(model, task, x, y[learns], train.loc[learns, "family"].to_numpy())
        total[asked] += _answers(model, np.stack([own[uid] for uid in test.loc[asked, "uid"]]), task)
        count[asked] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def rival_answers(stores: Path, cohort: pd.DataFrame, splits: pd.DataFrame, y: pd.Series, task: Task) -> pd.DataFrame:
    """Answers of the rivals for every fold's test subjects: method, fold, uid, columns of the answers."""
    people = without_answer(cohort, task).set_index("uid", drop=False)
    features = vectors(stores, cohort)
    linear = "linear " + " + ".join(WORDS[modality] for modality in features)
    tables = []
    for fold in sorted(set(splits["fold"])):
        train, test = ([uid for uid in part(splits, fold, *parts) if uid in y.index] for parts in (("train", "val"), ("test",)))
        guard(splits, fold, train, "train", "val")
        if not test:
            continue
        arguments = (people.loc[train], y.loc[train].to_numpy(), people.loc[test], task)
        found = {NOTHING: nothing_answers(*arguments), "phenotype": phenotype_answers(*arguments)}
        found[linear] = linear_answers(features, *arguments)
        for method, values in found.items():
            table = pd.DataFrame(values, columns=answer_columns(task))
            tables.append(table.assign(method=method, fold=fold, uid=test))
    return pd.concat(tables, ignore_index=True).dropna()


# --- tables ----------------------------------------------------------------------------------------------------------------


def by_subject(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """One answer per method and subject, the mean over seeds and repeats; `known`: of the method that knows nothing."""
    means = rows.groupby(["method", "uid"], as_index=False).agg({**dict.fromkeys(columns, "mean"), "y": "first", "fold": "min"})
    known = means[means["method"] == NOTHING].set_index("uid")[columns[0]]
    return means.assign(known=means["uid"].map(known))


def arrays(own: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What metrics take: truth, answers, and what is known without any method."""
    answers = own[list(columns)].to_numpy()
    return own["y"].to_numpy(), answers if len(columns) > 1 else answers[:, 0], own["known"].to_numpy()


def _samples(y: np.ndarray, options: EvaluateOptions, kind: str) -> Iterator[np.ndarray]:
    """Bootstrap samples of subjects (indices), within classes where there are any."""
    return resamples(y if kind == "multiclass" else np.zeros(len(y)), options.n_bootstrap, options.seed)


def metric_rows(
    name: str, task: Task, means: pd.DataFrame, folds: pd.DataFrame, protocols: dict[str, str], options: EvaluateOptions
) -> pd.DataFrame:
    """All metrics of all methods. `means`: as `by_subject` has them; `folds`: the same within folds."""
    rows, columns = [], answer_columns(task)
    for method, protocol in protocols.items():
        own, inside = means[means["method"] == method], folds[folds["method"] == method]
        y, p, known = arrays(own, columns)
        metrics = METRICS[task.kind]
        draws = [[metric(y[i], p[i], known[i]) for metric in metrics.values()] for i in _samples(y, options, task.kind)]
        for (label, metric), values in zip(metrics.items(), zip(*draws)):
            low, high = interval(values, options.confidence)
            within = [metric(*arrays(part, columns)) for _, part in inside.groupby("fold")]
            row = {"task": name, "kind": task.kind, "method": method, "protocol": protocol, "n": len(own), "metric": label}
            row |= {"value": metric(y, p, known), "low": low, "high": high, "fold_mean": float(np.mean(within))}
            rows.append(row | {"fold_sd": float(np.std(within, ddof=1)) if len(within) > 1 else np.nan})
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def comparison_rows(name: str, task: Task, means: pd.DataFrame, ours: str, options: EvaluateOptions) -> pd.DataFrame:
    """Our method against each rival on the subjects that both answered, by the first metric of the kind."""
    columns, label = answer_columns(task), next(iter(METRICS[task.kind]))
    metric, rows = METRICS[task.kind][label], []
    mine = means[means["method"] == ours].set_index("uid")
    for rival in dict.fromkeys(means["method"]):
        if rival == ours:
            continue
        theirs = means[means["method"] == rival].set_index("uid")
        both = mine.index.intersection(theirs.index).sort_values()
        (y, a, known), (_, b, _) = (arrays(table.loc[both], columns) for table in (mine, theirs))
        difference = metric(y, a, known) - metric(y, b, known)
        draws = [metric(y[i], a[i], known[i]) - metric(y[i], b[i], known[i]) for i in _samples(y, options, task.kind)]
        rng, count = np.random.default_rng(options.seed), 0
        for _ in range(options.n_permutations):
            swap = (rng.random(len(y)) < 0.5).reshape(-1, *[1] * (a.ndim - 1))
            swapped = metric(y, np.where(swap, b, a), known) - metric(y, np.where(swap, a, b), known)
            count += abs(swapped) >= abs(difference) - 1e-12
        p = (count + 1) / (options.n_permutations + 1)
        better = (difference < 0) == (label in ERRORS)
        verdict = "not told apart" if p >= 0.05 else "better" if better else "worse"
        rows.append([name, ours, rival, label, len(both), difference, *interval(draws, options.confidence), p, verdict])
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def confusion_rows(task: Task, means: pd.DataFrame) -> pd.DataFrame:
    """How often which class was answered, by method; of numbers, fifths of the true values."""
    rows, columns = [], answer_columns(task)
    for method, own in means.groupby("method", sort=False):
        y, p, _ = arrays(own, columns)
        if task.kind == "multiclass":
            names, true, answered = list(task.classes), y.astype(int), p.argmax(axis=1)
        else:
            limits = np.quantile(y, np.linspace(0, 1, 6))
            names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(limits)]
            true, answered = (np.clip(np.searchsorted(limits, v, side="right") - 1, 0, 4) for v in (y, p))
        for i, j in np.ndindex(len(names), len(names)):
            n, total = int(((true == i) & (answered == j)).sum()), int((true == i).sum())
            rows.append([method, names[i], names[j], n, n / total if total else np.nan])
    return pd.DataFrame(rows, columns=list(CONFUSION_COLUMNS))


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    task_name: str,
    task: Task,
    models: Sequence[Path],
    options: EvaluateOptions,
    predictions: Path,
    metrics: Path,
    comparisons: Path,
    confusion: Path,
    threads: int,
) -> None:
    """Ask the frozen models and the rivals of the test subjects of all folds; write predictions (method, fold, seed, uid, y and
    the answers), metrics with intervals, comparisons, and how answers and truth agree.

    Raises McspError for models of other folds or another task, and for a task without answers in the cohort.
    """
    torch.set_num_threads(threads)
    table, folds, record = read_table(cohort), load_splits(splits), read_record(splits)
    frozen = [Classifier.from_pretrained(folder) for folder in models]
    seen = of_modalities(table, {m for model in frozen for m, _ in model.backbone.keys})
    y, configs = task_labels(seen, task), [model.config for model in frozen]
    check_models(configs, folds, record["sha256"], task)
    check_unseen(configs, seen, folds)
    transductive = configs[0]["scope"] == "transductive"
    ours = "mcsp (transductive)" if transductive else "mcsp"
    mine = frozen_answers(frozen, stores, seen, folds, y, task).assign(method=ours)
    rows = pd.concat([mine, rival_answers(stores, seen, folds, y, task).assign(seed=0)], ignore_index=True)
    rows["y"], columns = rows["uid"].map(y), answer_columns(task)
    rows = rows[["method", "fold", "seed", "uid", "y", *columns]].sort_values(["method", "fold", "seed", "uid"])
    means = by_subject(rows, columns)
    within = pd.concat([by_subject(own, columns).assign(fold=fold) for fold, own in rows.groupby("fold")])
    protocols = dict.fromkeys([ours, *(m for m in dict.fromkeys(means["method"]) if m != ours)], protocol_text(record))
    protocols[ours] += ", pre-training saw test subjects' recordings" if transductive else ", inductive"
    write_table(rows, predictions)
    results = metric_rows(task_name, task, means, within, protocols, options)
    write_tsv(results, metrics, METRIC_COLUMNS)
    write_tsv(comparison_rows(task_name, task, means, ours, options), comparisons, COMPARISON_COLUMNS)
    write_tsv(confusion_rows(task, means), confusion, CONFUSION_COLUMNS)
    print(results[["method", "metric", "n", "value", "low", "high", "fold_mean"]].to_string(index=False, float_format="%.3f"))
