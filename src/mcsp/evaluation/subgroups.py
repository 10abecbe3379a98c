"""Is a method as good for everybody? Sites, sexes and age bands apart, and the gap between the best and the worst."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from mcsp.evaluation.comparisons import holm_of_known
from mcsp.evaluation.resampling import interval, resamples, shuffled
from mcsp.options.results import EvaluateOptions

SHOWN = ("auroc", "balanced_accuracy", "sensitivity", "specificity")
SMALLEST = 5  # of each class: below it a subgroup is named, and not scored
UNKNOWN = "not known"
SUBGROUP_COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "grouping": "site, sex or age band",
    "group": "Subgroup; age bands are thirds of the task's test subjects, in years",
    "n": "Test subjects of the subgroup, over all folds",
    "n_case": "Cases among them",
    "state": f"scored; or too few: fewer than {SMALLEST} subjects of a class",
    **{
        f"{name}{end}": f"{name.replace('_', ' ')}{text}"
        for name in SHOWN
        for end, text in (
            ("", " within the subgroup"), ("_low", ", lower end of the bootstrap interval"), ("_high", ", upper end")
        )
    },
}  # fmt: skip
GAP_COLUMNS = {
    "task": "Task of the study",
    "method": "mcsp, or a rival on the same folds",
    "grouping": "site, sex or age band",
    "metric": "Metric",
    "n_groups": "Subgroups that were scored and are known by name",
    "best": "Subgroup with the highest value",
    "worst": "Subgroup with the lowest value",
    "gap": "Highest less lowest value",
    "low": "Lower end of its bootstrap interval over subjects; a gap is never below 0, so see p",
    "high": "Upper end of its bootstrap interval over subjects",
    "expected": "Mean gap when subjects are dealt to subgroups at random within each class: small subgroups make gaps",
    "p": "p of a gap this large or larger, so dealt",
    "p_holm": "p corrected over this table: groupings and metrics of all methods of the task (Holm)",
}


def age_bands(age: pd.Series) -> pd.Series:
    """Thirds of the known ages, named by their ends in years; 'not known' elsewhere. Index as `age`."""
    known = age.dropna()
    names = pd.Series(UNKNOWN, index=age.index)
    if known.nunique() < 2:
        names[known.index] = f"{known.iloc[0]:g} years" if len(known) else UNKNOWN
        return names
    third = pd.qcut(known, min(3, known.nunique()), labels=False, duplicates="drop")
    for number in sorted(third.unique()):
        own = known[third == number]
        names[own.index] = f"{own.min():g}-{own.max():g} years"
    return names


def groupings(cohort: pd.DataFrame, uids: pd.Index) -> dict[str, pd.Series]:
    """Grouping -> subgroup of each of `uids` (the task's test subjects)."""
    people = cohort.set_index("uid").loc[uids]
    sex = people["sex"].map({"M": "male", "F": "female"}).fillna(UNKNOWN)
    return {"site": people["dataset"] + "/" + people["site"], "sex": sex, "age band": age_bands(people["age"].astype(float))}


def in_order(names: Iterable[str]) -> list[str]:
    """Subgroups' names: bands by age, others by name, the unknown last."""
    start = {name: re.match(r"[\d.]+(?=(-[\d.]+)? years$)", name) for name in names}
    return sorted(start, key=lambda name: (name == UNKNOWN, float(start[name][0]) if start[name] else 0, name))


def scores_within(y: np.ndarray, p: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """SHOWN metrics (groups, metrics) of all subgroups at once; `group` (N) from 0. Every subgroup needs both classes."""
    n, cases = np.bincount(group, minlength=n_groups), np.bincount(group, y, n_groups)
    code = np.unique(p, return_inverse=True)[1]
    ranks = stats.rankdata(group * len(p) + code) - (np.cumsum(n) - n)[group]  # midranks within the subgroup
    area = (np.bincount(group, ranks * y, n_groups) - cases * (cases + 1) / 2) / (cases * (n - cases))
    hard = p >= 0.5
    found = np.bincount(group, hard * y, n_groups) / cases
    left = np.bincount(group, ~hard * (1 - y), n_groups) / (n - cases)
    return np.stack([area, (found + left) / 2, found, left], axis=1)


def _gap_rows(
    y: np.ndarray, p: np.ndarray, group: np.ndarray, names: list[str], draws: np.ndarray, options: EvaluateOptions
) -> list[dict]:
    """Gaps between the subgroups of these names. `draws` (n, groups, metrics): their metrics in the bootstrap's samples."""
    values, rng = scores_within(y, p, group, len(names)), np.random.default_rng(options.seed)
    dealt = [np.ptp(scores_within(y, p, shuffled(group, y, rng), len(names)), axis=0) for _ in range(options.n_permutations)]
    dealt, gaps = np.array(dealt), np.ptp(values, axis=0)
    rows = []
    for i, metric in enumerate(SHOWN):
        low, high = interval(np.ptp(draws[:, :, i], axis=1), options.confidence)
        ends = {"best": names[values[:, i].argmax()], "worst": names[values[:, i].argmin()]}
        found = {"gap": gaps[i], "low": low, "high": high, "expected": dealt[:, i].mean()}
        p_value = (np.sum(dealt[:, i] >= gaps[i] - 1e-12) + 1) / (len(dealt) + 1)
        rows.append({"metric": metric, "n_groups": len(names), **ends, **found, "p": p_value})
    return rows


def grouping_rows(y: np.ndarray, p: np.ndarray, group: np.ndarray, options: EvaluateOptions) -> tuple[list[dict], list[dict]]:
    """(rows of the subgroups, rows of their gaps) of one method and one grouping; `y`, `p`, `group` (N; names)."""
    counts = {name: (int(np.sum(group == name)), int(y[group == name].sum())) for name in in_order(np.unique(group))}
    names = [name for name, (n, cases) in counts.items() if min(cases, n - cases) >= SMALLEST]
    rows = [
        {"group": name, "n": n, "n_case": cases, "state": "scored" if name in names else "too few"}
        for name, (n, cases) in counts.items()
    ]
    if not names:
        return rows, []
    own = np.isin(group, names)
    y, p, number = y[own], p[own], np.array([names.index(name) for name in group[own]])
    samples = resamples(2 * number + y, options.n_bootstrap, options.seed)
    draws = np.array([scores_within(y[i], p[i], number[i], len(names)) for i in samples])
    values = scores_within(y, p, number, len(names))
    for row in (row for row in rows if row["state"] == "scored"):
        place = names.index(row["group"])
        for i, metric in enumerate(SHOWN):
            low, high = interval(draws[:, place, i], options.confidence)
            row |= {metric: values[place, i], f"{metric}_low": low, f"{metric}_high": high}
    known = [name for name in names if name != UNKNOWN]  # which stands last
    named = number < len(known)
    gaps = _gap_rows(y[named], p[named], number[named], known, draws[:, : len(known)], options) if len(known) > 1 else []
    return rows, gaps


def subgroup_tables(
    task: str, means: pd.DataFrame, cohort: pd.DataFrame, options: EvaluateOptions
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(SUBGROUP_COLUMNS, GAP_COLUMNS) of all methods. `means`: method, uid, y, p of test subjects."""
    of = groupings(cohort, pd.Index(sorted(set(means["uid"]))))
    rows, gaps = [], []
    for method, own in means.groupby("method", sort=False):
        own = own.sort_values("uid")
        y, p = own["y"].to_numpy(), own["p"].to_numpy()
        for grouping, group in of.items():
            head = {"task": task, "method": method, "grouping": grouping}
            found, wide = grouping_rows(y, p, group.loc[own["uid"]].to_numpy().astype(str), options)
            rows += [{**head, **row} for row in found]
            gaps += [{**head, **row} for row in wide]
    table = pd.DataFrame(gaps, columns=[c for c in GAP_COLUMNS if c != "p_holm"])
    return pd.DataFrame(rows, columns=list(SUBGROUP_COLUMNS)), table.assign(p_holm=holm_of_known(table["p"]))
