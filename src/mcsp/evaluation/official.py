"""Folds that somebody else fixed: an official split, read from a table."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from mcsp.errors import McspError
from mcsp.shards import plain_label

PARTS = ("train", "val", "test")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> pd.DataFrame:
    """The table as text. Raises McspError when it can't be read, or lacks the columns that name subjects and parts."""
    try:
        table = pd.read_csv(
            path, sep="," if path.suffix == ".csv" else "\t", dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (ValueError, OSError) as error:
        raise McspError(f"{path}: splits.file is not readable ({' '.join(str(error).split())}): mend the file") from error
    if not {"uid", "subject"} & set(table) or not {"part", "fold"} & set(table):
        raise McspError(
            f"{path}: splits.file needs a column uid or subject, and part or fold (it has {', '.join(map(str, table))[:200]})"
        )
    return table.apply(lambda column: column.str.strip())


def _key(uid: str) -> tuple[str, str]:
    """(dataset, plain label) of a subject."""
    dataset, _, label = uid.rpartition("/")
    return dataset, plain_label(label)


def _few(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" (of {len(names)})" if len(names) > 3 else "")


def _uids(table: pd.DataFrame, path: Path, cohort: Iterable[str], left_out: Iterable[str]) -> pd.Series:
    """uid of each row; None where the study left the subject out.

    Raises McspError for names that the study does not know, and for labels without a dataset where there are several.
    """
    known = {_key(uid): None for uid in left_out} | {_key(uid): uid for uid in cohort}
    datasets = {dataset for dataset, _ in known}
    if "uid" in table:
        keys = [_key(text) for text in table["uid"]]
    elif "dataset" in table:
        keys = [(dataset, plain_label(text)) for dataset, text in zip(table["dataset"], table["subject"])]
    elif len(datasets) == 1:
        keys = [(next(iter(datasets)), plain_label(text)) for text in table["subject"]]
    else:
        raise McspError(f"{path}: the study has several datasets: add a column dataset (or uid) beside subject")
    names = table["uid"] if "uid" in table else table["subject"]
    strangers = {name for name, key in zip(names, keys) if key not in known}
    if strangers:
        raise McspError(f"{path}: no subject of the study is called {_few(strangers)}: mend or remove these rows")
    return pd.Series([known[key] for key in keys], index=table.index, dtype=object)


def _one_row_each(table: pd.DataFrame, by: list[str], path: Path) -> None:
    twice = table[table.duplicated(by)]
    if len(twice):
        row = twice.iloc[0]
        where = f" in fold {row['fold']}" if "fold" in by else ""
        raise McspError(f"{path}: {row['uid']} stands twice{where}: leave one row of each subject")


def _parts(table: pd.DataFrame, path: Path) -> list[pd.Series]:
    """Part of each named subject (index uid), a series per fold."""
    if "part" in table:
        strange = table.loc[~table["part"].isin(PARTS), "part"]
        if len(strange):
            raise McspError(f"{path}: part {strange.iloc[0] or '(empty)'} is none of {', '.join(PARTS)}")
    if "fold" not in table:
        _one_row_each(table, ["uid"], path)
        return [table.set_index("uid")["part"]]
    empty = table.loc[table["fold"] == "", "uid"]
    if len(empty):
        raise McspError(f"{path}: {empty.iloc[0]} has no fold: fill the cell, or remove the row")
    names = sorted(set(table["fold"]), key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))
    if "part" in table:
        _one_row_each(table, ["fold", "uid"], path)
        return [table[table["fold"] == name].set_index("uid")["part"] for name in names]
    _one_row_each(table, ["uid"], path)
    tested_in = table.set_index("uid")["fold"]
    return [tested_in.eq(name).map({True: "test", False: "train"}) for name in names]


def check_classes(part: pd.Series, labels: pd.Series, where: str) -> None:
    """Raises McspError when test subjects have a label that nobody has in training, or one alone; index of both: uid."""
    sets = labels.loc[part.index].str.split(";").map(lambda own: {label for label in own if label})
    trained = set().union(*sets[part != "test"])
    tested = sets[part == "test"]
    unknown = set().union(*tested) - trained
    if unknown:
        raise McspError(f"{where}: no training subject has the label {_few(unknown)} of a test subject: nothing can learn it")
    if len(tested) and tested.map(frozenset).nunique() < 2 and labels.nunique() > 1:
        raise McspError(f"{where}: all test subjects have the label {_few(set().union(*tested)) or '(none)'}: one class only")


def official_parts(
    path: Path, cohort: pd.DataFrame, *, n_folds: int, others: str, left_out: Iterable[str] = ()
) -> list[pd.Series]:
    """Part (train, val or test) of the subjects of each fold, as the file at `path` says; index uid.

    `others`: 'exclude' or 'train', what becomes of subjects of the cohort that the file does not name. `left_out`: uids that
    the study knows but has excluded; the file may name them, and they are passed over. Raises McspError, in one line, for
    names that nobody has, subjects that stand twice, unknown parts, another number of folds, and classes that are missing.
    """
    table = _read(path)
    table["uid"] = _uids(table, path, cohort["uid"], left_out)
    gone = table["uid"].isna()
    table = table[~gone]
    if table.empty:
        raise McspError(f"{path}: none of the subjects that it names is left: see exclusions.tsv")
    parts = _parts(table, path)
    if len(parts) != n_folds:
        raise McspError(f"splits.n_folds = {n_folds}, but {path} has {len(parts)} fold(s): set n_folds: {len(parts)}")
    people = cohort.set_index("uid")
    named = set(table["uid"])
    unnamed = [uid for uid in cohort["uid"] if uid not in named]
    aside = {people.loc[uid, "family"] for part in parts for uid in part.index[part != "train"]}
    extra = [uid for uid in unnamed if others == "train" and people.loc[uid, "family"] not in aside]
    print(
        f"{path}: {len(named)} subjects in {len(parts)} fold(s); {int(gone.sum())} row(s) of subjects that the study left out; "
        f"{len(unnamed)} subjects not named: {len(extra)} of them are trained on, {len(unnamed) - len(extra)} left out"
    )
    whole = [pd.concat([part, pd.Series("train", index=extra, dtype=object)]) for part in parts]
    for fold, part in enumerate(whole):
        check_classes(part, people["labels"], f"{path}: fold {fold}")
    return whole
