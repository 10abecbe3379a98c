"""The biomarker table: what maps that passed validation name, how stable that is, and which way the raw feature goes.

Everything here is model-relevant, never causal: a model uses a feature for whatever reason, and a feature that differs between
groups may do so for whatever reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mcsp.cohort import domain_meta, read_domain, task_labels
from mcsp.evaluation.splits import load_splits
from mcsp.explain.agreement import COLUMNS as AGREEMENT_COLUMNS
from mcsp.explain.agreement import agreement_row, network_row, networks_under, prediction_rows, single_modality_logits
from mcsp.explain.permutation import hedges_g, label_test
from mcsp.explain.raw import FEATURES, SOURCE, raw_features
from mcsp.explain.summaries import names_of, top_of
from mcsp.explain.trust import TRUST_COLUMNS, trust_table
from mcsp.explain.truth import MIN_SUBJECTS
from mcsp.options.results import ExplainOptions
from mcsp.options.tasks import Task
from mcsp.store import atomic_path, read_table, read_tsv, write_tsv

COLUMNS = {
    "modality": "fmri or eeg",
    "domain": "Where the attribution was taken: spatial, temporal or spectral",
    "method": "Attribution method; it passed (see trust.tsv)",
    "kind": "edge, roi, network, channel, band, channel_band or frequency",
    "rank": "Place in the group map, from 1; the table names the first ones (`explain.top`, at most a quarter of the entries)",
    "name": "Region, edge a|b, network, channel, band, band/channel or frequency",
    "relevance": "Mean share of relevance over test subjects, divided by the even share (1: no more than chance)",
    "relevance_low": "Lower end of the 95 % bootstrap interval over subjects",
    "relevance_high": "Upper end of the 95 % bootstrap interval over subjects",
    "top_share": "Share of the models (folds and seeds) that have it among their highest entries",
    "top_folds": "Share of the folds that have it among the highest, their maps averaged over seeds; n/a with one fold",
    "top_seeds": "Share of the seeds that have it among the highest, their maps averaged over folds; n/a with one seed",
    "stability": "Mean rank correlation of the whole map between models",
    "stability_folds": "The same between models of one seed and other folds; n/a with one fold",
    "stability_seeds": "The same between models of one fold and other seeds; n/a with one seed",
    "p_map": "One-sided max-T p that relevance is higher than with reset weights, over all entries of the kind (see maps.tsv)",
    "q_map": "The same as false discovery rate",
    "feature": "Raw feature that stands behind the entry; no model is used for it",
    "g": "Hedges' g of the raw feature, cases against controls: all subjects of the task with this modality whose recordings "
    f"hold the entry; n/a, as the interval and p, with fewer than {MIN_SUBJECTS} cases or controls",
    "g_low": "Lower end of its 95 % interval",
    "g_high": "Upper end of its 95 % interval",
    "direction": "higher or lower in cases; unclear: the interval of g holds 0, or there are too few subjects",
    "p_raw": "Two-sided max-T p of the raw feature over all entries of the kind; labels shuffled within dataset and site. "
    "Null: labels say nothing within a site",
    "q_raw": "The same as false discovery rate",
    "n_case": "Cases whose recordings hold the entry: a rate can be too low for a band, a region lost from the field of view",
    "n_control": "Controls, likewise",
    "source": "Whose verdict made this map trusted",
}


STABLE = ("top_share", "top_folds", "top_seeds", "stability", "stability_folds", "stability_seeds")


def task_features(
    stores: Path, cohort: pd.DataFrame, y: pd.Series, key: tuple[str, str]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(kind -> raw features (N, K), labels (N), strata (N)) of all subjects of the task that have the modality."""
    meta = domain_meta(stores, cohort, *key)
    people = cohort[cohort[f"has_{key[0]}"] & cohort["uid"].isin(y.index)]
    rows = read_domain(stores, people, *SOURCE.get(key, key), reduce=lambda row: raw_features(*key, row, meta))
    features = {kind: np.stack([own[kind] for own in rows.values()]) for kind in next(iter(rows.values()))}
    own = people.set_index("uid").loc[list(rows)]
    return features, y.loc[list(rows)].to_numpy(), (own["dataset"] + "|" + own["site"].astype(str)).to_numpy()


def differences(raw: np.ndarray, y: np.ndarray, strata: np.ndarray, options: ExplainOptions) -> pd.DataFrame:
    """How each of the raw features (N, K) differs between cases and controls `y` (N): a row per feature. Of each, subjects are
    left out of whom it is unknown (NaN); of one that is known of fewer than MIN_SUBJECTS of a class, nothing is told.
    """
    known = ~np.isnan(raw)
    counts = {"n_case": known[y == 1].sum(axis=0), "n_control": known[y == 0].sum(axis=0)}
    enough = np.minimum(*counts.values()) >= MIN_SUBJECTS
    g, low, high, p, q = np.full((5, raw.shape[1]), np.nan)
    if enough.any():
        g[enough], low[enough], high[enough] = hedges_g(raw[:, enough], y)
        tested = label_test(raw[:, enough], y, strata, options.n_permutations, options.seed)
        p[enough], q[enough] = tested.p_maxt, tested.q_fdr
    direction = np.select([low > 0, high < 0], ["higher in cases", "lower in cases"], "unclear")
    found = {"g": g, "g_low": low, "g_high": high, "direction": direction, "p_raw": p, "q_raw": q}
    return pd.DataFrame({**found, **counts})


def kind_rows(maps: pd.DataFrame, raw: pd.DataFrame, names: list[str], top: int) -> pd.DataFrame:
    """The highest entries of one map and kind, with the raw feature. `maps`: its rows; `raw`: `differences`, in the order of
    `names`.
    """
    best = maps.sort_values("mean", ascending=False, kind="stable").head(top_of(len(maps), top))
    even = 1 / len(maps)
    return pd.DataFrame(
        {
            "rank": range(1, len(best) + 1),
            "name": best["name"].to_numpy(),
            "relevance": best["mean"].to_numpy() / even,
            "relevance_low": best["low"].to_numpy() / even,
            "relevance_high": best["high"].to_numpy() / even,
            **{column: best[column].to_numpy() for column in STABLE},
            "p_map": best["p_maxt"].to_numpy(),
            "q_map": best["q_fdr"].to_numpy(),
            **raw.iloc[[names.index(name) for name in best["name"]]].to_dict("list"),
        }
    )


def biomarker_table(
    maps: pd.DataFrame, trust: pd.DataFrame, stores: Path, cohort: pd.DataFrame, y: pd.Series, options: ExplainOptions
) -> pd.DataFrame:
    """Rows of every map that passed; of several methods that passed in one domain and kind, all."""
    frames = []
    passed = trust[trust["verdict"] == "pass"]
    for key, own in passed.groupby(["modality", "domain"], sort=False):
        features, labels, strata = task_features(stores, cohort, y, key)
        names = names_of(*key, domain_meta(stores, cohort, *key))
        for kind, methods in own.groupby("kind", sort=False):
            raw = differences(features[kind], labels, strata, options)
            for row in methods.itertuples():
                mine = maps[(maps[["method", "modality", "domain", "kind"]] == [row.method, *key, kind]).all(axis=1)]
                found = kind_rows(mine, raw, names[kind], options.top)
                place = {"modality": key[0], "domain": key[1], "method": row.method, "kind": kind}
                frames.append(found.assign(**place, feature=FEATURES[(*key, kind)], source=row.source))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else pd.DataFrame(columns=list(COLUMNS))


def network_agreement(maps: pd.DataFrame, trust: pd.DataFrame, stores: Path, cohort: pd.DataFrame, seed: int) -> dict:
    """Do trusted maps of both modalities point to the same networks? The first trusted one of each is taken."""
    passed = trust[trust["verdict"] == "pass"]
    first = {m: passed[(passed["modality"] == m) & (passed["kind"] == k)] for m, k in (("fmri", "network"), ("eeg", "channel"))}
    missing = [m for m, own in first.items() if own.empty]
    if missing:
        return agreement_row("networks", f"no map of {' nor of '.join(missing)} passed, so that there is nothing to compare", 0)
    shares = []
    for own in first.values():
        row = own.iloc[0]
        columns = ["method", "modality", "domain", "kind"]
        mine = maps[(maps[columns] == list(row[columns])).all(axis=1)]
        shares.append(mine.set_index("name")["mean"])
    meta = domain_meta(stores, cohort, "fmri", first["fmri"].iloc[0]["domain"])
    places = np.array([[np.nan] * 3 if place is None else place for place in meta["coordinates"]], float)
    eeg = domain_meta(stores, cohort, "eeg", first["eeg"].iloc[0]["domain"])
    under = networks_under(eeg["ch_names"], eeg["montage"], places, [str(n) for n in meta["networks"]])
    return network_row(shares[0], shares[1].loc[eeg["ch_names"]], under, seed)


def sentence(task_name: str, table: pd.DataFrame, trust: pd.DataFrame) -> str:
    """The result in a line: verdict first."""
    passed = trust[trust["verdict"] == "pass"]
    source = trust["source"].iloc[0]
    if passed.empty:
        unproven = int((trust["verdict"] == "unproven").sum())
        told = f"{len(trust) - unproven} failed, {unproven} are unproven"
        return (
            f"{task_name}: no biomarker is reported: none of {len(trust)} maps passed validation ({told}; judged by {source})."
        )
    clear = table[(table["p_map"] < 0.05) & (table["p_raw"] < 0.05)]
    return (
        f"{task_name}: {len(passed)} of {len(trust)} maps passed validation (judged by {source}); of the {len(table)} "
        f"model-relevant entries that they name, {len(clear)} "
        f"differ between cases and controls in the raw feature too (both p < 0.05, max-T)."
    )


def run(
    *,
    stores: Path,
    cohort: Path,
    splits: Path,
    task_name: str,
    task: Task,
    models: Sequence[Path],
    maps: Path,
    verdicts: Path,
    options: ExplainOptions,
    out: Path,
    threads: int,
) -> None:
    """Write trust, biomarkers and agreement (.tsv, .json) and the result in a line (biomarkers.txt) to the directory `out`."""
    torch.set_num_threads(threads)
    people, group = read_table(cohort), read_tsv(maps)
    y = task_labels(people, task)
    validation = Path(options.validation) if options.validation else None
    trust = trust_table(group, read_tsv(verdicts), validation)
    table = biomarker_table(group, trust, stores, people, y, options)
    logits = single_modality_logits(models, stores, people, load_splits(splits), y)
    agreement = pd.DataFrame(
        [*prediction_rows(logits, 1000, options.seed), network_agreement(group, trust, stores, people, options.seed)]
    )
    write_tsv(trust, out / "trust.tsv", TRUST_COLUMNS)
    write_tsv(table, out / "biomarkers.tsv", COLUMNS)
    write_tsv(agreement, out / "agreement.tsv", AGREEMENT_COLUMNS)
    text = sentence(task_name, table, trust)
    with atomic_path(out / "biomarkers.txt") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(text)
