"""Frozen folds: an artefact with a hash, checked when it is written and again wherever it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.errors import McspError
from mcsp.evaluation.official import PARTS, file_hash, official_parts
from mcsp.options.training import SplitOptions
from mcsp.store import atomic_path, read_json, read_table, read_tsv, write_json

COLUMNS = {
    "fold": "Number of the fold; repeats are numbered on",
    "uid": "Subject: dataset/sub-label",
    "part": "train, val (chooses models) or test (opened once, by evaluate) in this fold",
    "family": "Relatives share it, and are in one part",
}
N_BINS = 20  # steps of a twentieth of the training part, from which validation subjects are taken


def _spread(strata: pd.Series, groups: pd.Series, n_bins: int, rng: np.random.Generator) -> pd.Series:
    """Bin (0..n_bins-1) of each subject: groups stay together, strata and sizes are even over the bins.

    Greedy: larger groups first, in random order, each to the bin that has fewest of its strata (then fewest subjects).
    """
    members = {group: list(index) for group, index in groups.groupby(groups, sort=True).groups.items()}
    order = list(rng.permutation(sorted(members)))
    order.sort(key=lambda group: (-len(members[group]), str(strata[members[group][0]])))
    counts: dict[str, np.ndarray] = {s: np.zeros(n_bins) for s in sorted(set(strata))}
    sizes, jitter = np.zeros(n_bins), rng.permutation(n_bins)
    bins = pd.Series(0, index=strata.index)
    for group in order:
        load = sum((counts[strata[i]] for i in members[group]), np.zeros(n_bins))
        chosen = min(range(n_bins), key=lambda b: (load[b], sizes[b], jitter[b]))
        for i in members[group]:
            counts[strata[i]][chosen] += 1
            bins[i] = chosen
        sizes[chosen] += len(members[group])
    return bins


def strata_of(cohort: pd.DataFrame, smallest: int) -> pd.Series:
    """Stratum of each subject: dataset x site x labels; where fewer than `smallest` share it, dataset x labels, then labels."""
    within, site = cohort["dataset"] + "|" + cohort["labels"], cohort["dataset"] + "|" + cohort["site"] + "|" + cohort["labels"]
    stratum = site.copy()
    for narrow, wide in ((site, within), (within, cohort["labels"])):
        rare = (stratum == narrow) & (narrow.map(narrow.value_counts()) < smallest)
        stratum[rare] = wide[rare]
    return stratum


def _whole_units(cohort: pd.DataFrame, options: SplitOptions, rng: np.random.Generator) -> pd.Series:
    """Test fold of each subject, whole sites or whole datasets together."""
    what, option = ("sites", "site") if options.protocol == "leave-one-site-out" else ("datasets", "dataset")
    units = cohort["dataset"] + "|" + cohort["site"] if option == "site" else cohort["dataset"]
    n = units.nunique()
    if n < options.n_folds:
        remedy = f"set n_folds to {n} (one {option} each) or fewer ({what} are grouped)" if n > 1 else "use protocol: kfold"
        raise McspError(f"splits.n_folds = {options.n_folds}, but there are {n} {what}: {remedy}")
    if n == options.n_folds and options.repeats > 1:
        raise McspError(f"splits.repeats = {options.repeats}, but each {option} is a fold already: leave repeats out")
    places = units.groupby(cohort["family"]).nunique()
    if (places > 1).any():
        raise McspError(
            f"family {places.idxmax()} was recorded at several {what}: {options.protocol} would split it: "
            f"use splits.protocol: kfold, or give its members one {option}"
        )
    strata = cohort["dataset"] if option == "site" else pd.Series("", index=cohort.index)
    return _spread(strata, units, options.n_folds, rng)


def make_folds(cohort: pd.DataFrame, options: SplitOptions, repeat: int = 0) -> pd.Series:
    """Test fold of each subject (index as `cohort`) in one repeat, from 0. Raises McspError when the cohort can't be cut so."""
    rng = np.random.default_rng([options.seed, 0, repeat])
    if options.protocol != "kfold":
        return _whole_units(cohort, options, rng)
    if cohort["family"].nunique() < options.n_folds:
        raise McspError(
            f"splits.n_folds = {options.n_folds} is more than the {cohort['family'].nunique()} families in the cohort"
        )
    return _spread(strata_of(cohort, options.n_folds), cohort["family"], options.n_folds, rng)


def _validation(rest: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.Index:
    """Rows of `rest` that validate: of all runs of neighbouring bins, the one closest to `share` of each label and of all."""
    bins = _spread(strata_of(rest, N_BINS), rest["family"], N_BINS, rng)
    wanted = share * rest["labels"].value_counts()
    best, chosen = np.inf, None
    for start in range(N_BINS):
        for width in range(1, N_BINS):
            inside = (bins - start) % N_BINS < width
            n = int(inside.sum())
            if 0 < n < len(rest):
                got = rest.loc[inside, "labels"].value_counts().reindex(wanted.index, fill_value=0)
                off = abs(n - share * len(rest)) + float((got - wanted).abs().mean())
                if off < best - 1e-9:
                    best, chosen = off, bins.index[inside]
            if n > share * len(rest):
                break
    return chosen


def _drawn_parts(cohort: pd.DataFrame, options: SplitOptions) -> list[pd.Series]:
    """Train or test of each subject (index uid), fold by fold, repeat by repeat."""
    parts = []
    for repeat in range(options.repeats):
        folds = make_folds(cohort, options, repeat).set_axis(cohort["uid"])
        parts += [folds.eq(fold).map({True: "test", False: "train"}) for fold in range(options.n_folds)]
    return parts


def make_splits(cohort: pd.DataFrame, options: SplitOptions, left_out: Iterable[str] = ()) -> pd.DataFrame:
    """Long table fold, uid, part, family. Where a file does not say who validates, validation subjects are a stratified share
    of each fold's training part.

    `left_out`: uids that the study excluded, which a file may name all the same. Raises McspError when the cohort can't be
    cut as wanted.
    """
    cohort = cohort.sort_values("uid").reset_index(drop=True)
    if options.protocol == "file":
        path = Path(options.file)
        parts = official_parts(path, cohort, n_folds=options.n_folds, others=options.others, left_out=left_out)
    else:
        parts = _drawn_parts(cohort, options)
    tables = []
    for fold, given in enumerate(parts):
        part = cohort["uid"].map(given)
        rest = cohort[part == "train"]
        if not (part == "val").any():
            if rest["family"].nunique() < 2:
                raise McspError(f"fold {fold}: too few subjects to set validation subjects aside")
            part[_validation(rest, options.val_share, np.random.default_rng([options.seed, 1, fold]))] = "val"
        own = pd.DataFrame({"fold": fold, "uid": cohort["uid"], "part": part, "family": cohort["family"]})
        tables.append(own.dropna(subset="part"))
    return pd.concat(tables, ignore_index=True)


def _assert_tested_once(splits: pd.DataFrame, source: Path | str, n_folds: int) -> None:
    """Every subject is tested once in each repeat of `n_folds` folds."""
    for repeat, own in splits.groupby(splits["fold"] // n_folds):
        tested = own[own["part"] == "test"]["uid"].value_counts()
        if set(tested.index) != set(splits["uid"]) or (tested != 1).any():
            where = f" in repeat {repeat}" if splits["fold"].max() >= n_folds else ""
            raise McspError(f"{source}: not every subject is tested exactly once{where}")


def assert_sound(splits: pd.DataFrame, source: Path | str = "splits", record: Mapping | None = None) -> None:
    """Raises McspError when a subject stands twice in a fold, relatives are split, a part is empty, or a subject is tested
    more or less than once in a repeat.

    `record`: options of the folds, for how many make a repeat (all, without it). A file may leave subjects untested, or test
    them in several folds.
    """
    strange = splits.loc[~splits["part"].isin(PARTS), "part"]
    if len(strange):
        raise McspError(f"{source}: part {strange.iloc[0]} is none of {', '.join(PARTS)}")
    everyone = set(splits["uid"])
    for fold, own in splits.groupby("fold"):
        absent = sorted(everyone - set(own["uid"]))
        if absent:
            raise McspError(f"{source}: fold {fold}: {absent[0]} has no part")
        twice = own.loc[own["uid"].duplicated(), "uid"]
        if len(twice):
            raise McspError(f"{source}: fold {fold}: {twice.iloc[0]} stands in two parts: leakage")
        families = own.groupby("family")["part"].nunique()
        if (families > 1).any():
            raise McspError(f"{source}: fold {fold}: family {families.idxmax()} is split over parts: leakage")
        empty = [part for part in PARTS if part not in set(own["part"])]
        if empty:
            raise McspError(f"{source}: fold {fold}: no {empty[0]} subjects: use fewer folds or more subjects")
    record = record or {}
    if record.get("protocol") != "file":
        _assert_tested_once(splits, source, record.get("n_folds") or int(splits["fold"].max()) + 1)


def content_hash(splits: pd.DataFrame) -> str:
    """SHA-256 of the folds' content."""
    return hashlib.sha256(splits[list(COLUMNS)].to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def run(*, cohort: Path, options: SplitOptions, out: Path, exclusions: Path | None = None) -> None:
    """Freeze the folds of a cohort: a table at `out`, and its hash, protocol and seed in a JSON beside it. `exclusions`: whom
    the study left out, so that a file of folds may name them.
    """
    people = read_table(cohort)
    record = {**options.model_dump(mode="json"), **_sizes(people)}
    if options.protocol == "file":
        record |= {"file": Path(options.file).name, "file_sha256": file_hash(Path(options.file))}
    splits = make_splits(people, options, read_tsv(exclusions)["uid"] if exclusions else ())
    assert_sound(splits, options.file or out, record)
    with atomic_path(out) as temporary:
        splits[list(COLUMNS)].to_csv(temporary, sep="\t", index=False, lineterminator="\n")
    described = {name: {"Description": text} for name, text in COLUMNS.items()}
    write_json(out.with_suffix(".json"), {**described, "Splits": {"sha256": content_hash(splits), **record}})
    counts = splits.groupby(["fold", "part"]).size().unstack()[list(PARTS)]
    print(counts.to_string())


def _sizes(people: pd.DataFrame) -> dict[str, int]:
    n_sites = int((people["dataset"] + "|" + people["site"]).nunique())
    return {"n_sites": n_sites, "n_datasets": int(people["dataset"].nunique())}


def protocol_text(record: Mapping) -> str:
    """How test subjects were set aside, in words."""
    n, units = record["n_folds"], {"leave-one-site-out": "sites", "leave-one-dataset-out": "datasets"}
    what = units.get(record["protocol"])
    text = f"{record['protocol']}, {n} folds"
    if what and n < record[f"n_{what}"]:
        text = f"leave-{what}-out, {n} groups of {record[f'n_{what}']} {what}"
    elif record["protocol"] == "file":
        text = f"fixed by {record['file']} (SHA-256 {record['file_sha256'][:8]}), {n} fold{'s' if n > 1 else ''}"
    return text + (f", {record['repeats']} repeats" if record.get("repeats", 1) > 1 else "")


def read_record(path: Path) -> dict:
    """What the JSON beside the folds says: `sha256`, the options of the folds, `n_sites`, `n_datasets`, `file_sha256`. Raises
    McspError without it.
    """
    record = read_json(path.with_suffix(".json")).get("Splits", {})
    if "sha256" not in record:
        raise McspError(f"{path.with_suffix('.json')}: no hash of the folds: delete it and rerun `snakemake splits`")
    return record


def splits_hash(path: Path) -> str:
    """The folds' recorded hash."""
    return read_record(path)["sha256"]


def load_splits(path: Path) -> pd.DataFrame:
    """Read frozen folds. Raises McspError when the table was changed since it was frozen, or is not sound."""
    text = dict.fromkeys(("uid", "part", "family"), str)
    splits = pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False)
    if not set(COLUMNS) <= set(splits) or not pd.api.types.is_integer_dtype(splits["fold"]):
        raise McspError(f"{path}: no table of folds ({', '.join(COLUMNS)}): delete it and rerun `snakemake splits`")
    if content_hash(splits) != splits_hash(path):
        raise McspError(f"{path}: changed since it was frozen (hash differs): delete it and rerun `snakemake splits`")
    assert_sound(splits, path, read_record(path))
    return splits


def part(splits: pd.DataFrame, fold: int, *parts: str) -> list[str]:
    """Uids of the given parts of a fold, sorted. Raises McspError for a fold that is not there."""
    own = splits[splits["fold"] == fold]
    if own.empty:
        raise McspError(f"fold {fold} is not in the splits: they have {splits['fold'].max() + 1}")
    return sorted(own.loc[own["part"].isin(parts), "uid"])


def guard(splits: pd.DataFrame, fold: int, uids: Iterable[str], *allowed: str) -> None:
    """Raises McspError when one of `uids` belongs to another part of the fold than `allowed`. That relatives are in one part
    is checked when the folds are read.
    """
    own = splits[splits["fold"] == fold].set_index("uid")
    part_of = own["part"]
    wrong = [uid for uid in uids if part_of.get(uid) not in allowed]
    if wrong:
        raise McspError(
            f"fold {fold}: {wrong[0]} is {part_of.get(wrong[0], 'not in the splits')}, where only "
            f"{', '.join(allowed)} may be: leakage"
        )
