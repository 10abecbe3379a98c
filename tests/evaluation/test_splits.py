"""Frozen folds: disjoint, family-whole, stratified, reproducible, and refused when somebody changed them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mcsp.errors import McspError
from mcsp.evaluation.splits import (
    PARTS,
    assert_sound,
    content_hash,
    guard,
    load_splits,
    make_splits,
    part,
    run,
    splits_hash,
    strata_of,
)  # fmt: skip
from mcsp.options.training import SplitOptions
from mcsp.store import write_table


def people(n: int = 120, n_sites: int = 3, seed: int = 0, relatives: bool = True) -> pd.DataFrame:
    """A cohort of two datasets with sites of unequal size, two labels, and (wanted or not) siblings."""
    rng = np.random.default_rng(seed)
    dataset = rng.choice(["a", "b"], n, p=[0.6, 0.4])
    site = rng.choice([f"s{i}" for i in range(n_sites)], n, p=np.arange(1, n_sites + 1) / np.arange(1, n_sites + 1).sum())
    uid = [f"{d}/sub-{i:03d}" for i, d in enumerate(dataset)]
    table = pd.DataFrame({"uid": uid, "dataset": dataset, "site": site, "family": uid})
    table["labels"] = rng.choice(["ASD", "control"], n)
    if relatives:
        table["family"] = rng.integers(0, n // 2, n).astype(str)
    return table


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """Frozen folds on disk."""
    write_table(people(), tmp_path / "cohort.parquet")
    run(cohort=tmp_path / "cohort.parquet", options=SplitOptions(n_folds=3), out=tmp_path / "splits.tsv")
    return tmp_path / "splits.tsv"


@pytest.mark.parametrize("seed", range(8))
def test_folds_are_disjoint_whole_and_keep_families_together(seed):
    cohort = people(seed=seed)
    splits = make_splits(cohort, SplitOptions(seed=seed))
    for _, own in splits.groupby("fold"):
        uids = {name: set(own.loc[own["part"] == name, "uid"]) for name in PARTS}
        assert set.union(*uids.values()) == set(cohort["uid"])
        assert sum(map(len, uids.values())) == len(cohort)
        families = {name: set(cohort.loc[cohort["uid"].isin(uids[name]), "family"]) for name in PARTS}
        assert not families["train"] & families["test"]
        assert not families["train"] & families["val"]
        assert not families["val"] & families["test"]
    assert sorted(splits.loc[splits["part"] == "test", "uid"]) == sorted(cohort["uid"])


def test_folds_are_stratified_by_dataset_site_and_label():
    cohort = people(200, relatives=False)
    splits = make_splits(cohort, SplitOptions(n_folds=4))
    stratum = strata_of(cohort, 4).set_axis(cohort["uid"])
    tested = splits[splits["part"] == "test"]
    counts = pd.crosstab(tested["uid"].map(stratum), tested["fold"])
    assert (counts.max(axis=1) - counts.min(axis=1)).max() <= 1
    sizes = tested["fold"].value_counts()
    assert sizes.max() - sizes.min() <= len(counts)
    # by chance alone labels would not be this even
    cases = tested.assign(case=tested["uid"].map(cohort.set_index("uid")["labels"]) == "ASD").groupby("fold")["case"].mean()
    assert cases.max() - cases.min() < 0.1


def test_rare_strata_are_merged_into_wider_ones():
    cohort = people(60, relatives=False).assign(site="big", dataset="a", labels="control")
    cohort.loc[:1, "site"] = "tiny"
    stratum = strata_of(cohort, 5)
    assert set(stratum[:2]) == {"a|control"}
    assert set(stratum[2:]) == {"a|big|control"}


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3, 0.4, 0.45])
def test_validation_subjects_are_the_wanted_share(share):
    splits = make_splits(people(400, relatives=False), SplitOptions(val_share=share, n_folds=2))
    own = splits[(splits["fold"] == 0) & (splits["part"] != "test")]
    assert np.mean(own["part"] == "val") == pytest.approx(share, abs=0.025)


def test_same_seed_same_folds_other_seed_others_whatever_the_row_order():
    cohort = people()
    first = content_hash(make_splits(cohort, SplitOptions(seed=1)))
    assert first == content_hash(make_splits(cohort.sample(frac=1, random_state=0), SplitOptions(seed=1)))
    assert first != content_hash(make_splits(cohort, SplitOptions(seed=2)))


def test_leave_one_site_out_tests_each_site_alone():
    cohort = people(150, relatives=False)
    sites = (cohort["dataset"] + "|" + cohort["site"]).set_axis(cohort["uid"])
    options = SplitOptions(protocol="leave-one-site-out", n_folds=sites.nunique())
    splits = make_splits(cohort, options)
    assert_sound(splits)
    for _, own in splits.groupby("fold"):
        site = own["uid"].map(sites)
        tested = set(site[own["part"] == "test"])
        assert len(tested) == 1
        assert not tested & set(site[own["part"] != "test"])


@pytest.mark.parametrize(
    ("cohort", "options", "message"),
    [
        (people(4, relatives=False), SplitOptions(n_folds=5), "more than the 4 families"),
        (people(40).assign(site="one", dataset="a"), SplitOptions(protocol="leave-one-site-out", n_folds=2), "are 1 sites"),
        (people(40, relatives=False).assign(family="one"), SplitOptions(n_folds=2), "more than the 1 families"),
        (people(60), SplitOptions(protocol="leave-one-site-out", n_folds=3), "recorded at several sites"),
    ],
)  # fmt: skip
def test_a_cohort_that_cannot_be_cut_says_why(cohort, options, message):
    with pytest.raises(McspError, match=message) as error:
        make_splits(cohort, options)
    assert "\n" not in str(error.value)


def test_frozen_folds_are_read_back_with_their_record(frozen):
    splits = load_splits(frozen)
    record = json.loads(frozen.with_suffix(".json").read_text())
    assert content_hash(splits) == splits_hash(frozen) == record["Splits"]["sha256"]
    assert record["Splits"]["protocol"] == "kfold"
    assert record["Splits"]["n_folds"] == 3
    assert {"fold", "uid", "part", "family"} <= set(record)
    before = frozen.read_bytes(), frozen.with_suffix(".json").read_bytes()
    run(cohort=frozen.with_name("cohort.parquet"), options=SplitOptions(n_folds=3), out=frozen)
    assert before == (frozen.read_bytes(), frozen.with_suffix(".json").read_bytes())


def test_labels_that_look_like_missing_values_survive(tmp_path):
    cohort = people(40, relatives=False)
    cohort.loc[0, "family"] = "NA"
    write_table(cohort, tmp_path / "cohort.parquet")
    run(cohort=tmp_path / "cohort.parquet", options=SplitOptions(n_folds=2), out=tmp_path / "splits.tsv")
    assert "NA" in set(load_splits(tmp_path / "splits.tsv")["family"])


def test_a_moved_subject_is_noticed(frozen):
    lines = frozen.read_text().splitlines(keepends=True)
    lines[1] = (
        lines[1].replace("\ttest\t", "\ttrain\t") if "\ttest\t" in lines[1] else lines[1].replace("\ttrain\t", "\ttest\t")
    )
    frozen.write_text("".join(lines))
    with pytest.raises(McspError, match="changed since it was frozen"):
        load_splits(frozen)


def test_a_damaged_table_or_record_is_one_clear_line(frozen):
    text = frozen.read_text()
    frozen.write_text(text.replace("uid", "who", 1))
    with pytest.raises(McspError, match="no table of folds"):
        load_splits(frozen)
    frozen.write_text(text)
    frozen.with_suffix(".json").write_text("{}")
    with pytest.raises(McspError, match="no hash"):
        load_splits(frozen)


def _first(splits: pd.DataFrame, fold: int, name: str) -> int:
    return splits.index[(splits["fold"] == fold) & (splits["part"] == name)][0]


def _twice(splits):
    row = splits.loc[[_first(splits, 0, "train")]].assign(part="test")
    return pd.concat([splits, row], ignore_index=True)


def _absent(splits):
    return splits.drop(index=_first(splits, 1, "train"))


def _split_family(splits):
    one, other = _first(splits, 0, "train"), _first(splits, 0, "test")
    uid = splits.loc[other, "uid"]
    splits.loc[splits["uid"].isin([uid]), "family"] = splits.loc[one, "family"]
    return splits


def _never_tested(splits):
    splits.loc[_first(splits, 0, "test"), "part"] = "train"
    return splits


def _no_val(splits):
    splits.loc[(splits["fold"] == 0) & (splits["part"] == "val"), "part"] = "train"
    return splits


def _unknown(splits):
    splits.loc[_first(splits, 0, "train"), "part"] = "holdout"
    return splits


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_twice, "two parts"),
        (_absent, "no part"),
        (_split_family, "split over parts"),
        (_never_tested, "tested exactly once"),
        (_no_val, "no val subjects"),
        (_unknown, "holdout is none of"),
    ],
)
def test_unsound_folds_are_refused(spoil, message):
    splits = make_splits(people(relatives=False), SplitOptions(n_folds=3))
    assert_sound(splits)
    with pytest.raises(McspError, match=message):
        assert_sound(spoil(splits.copy()))


def test_parts_and_their_guard():
    splits = make_splits(people(), SplitOptions(n_folds=3))
    train, test = part(splits, 0, "train", "val"), part(splits, 0, "test")
    assert train == sorted(train)
    assert not set(train) & set(test)
    guard(splits, 0, train, "train", "val")
    with pytest.raises(McspError, match="leakage"):
        guard(splits, 0, [*train, test[0]], "train", "val")
    with pytest.raises(McspError, match="not in the splits"):
        guard(splits, 0, ["a/sub-stranger"], "train")
    with pytest.raises(McspError, match="they have 3"):
        part(splits, 3, "test")
