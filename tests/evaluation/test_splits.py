"""Frozen folds: disjoint, family-whole, stratified, reproducible, and refused when somebody changed them."""

from __future__ import annotations

import hashlib
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
    protocol_text,
    read_record,
    run,
    splits_hash,
    strata_of,
)  # fmt: skip
from mcsp.options.training import SplitOptions
from mcsp.store import write_table, write_tsv


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


def test_leave_one_dataset_out_tests_each_dataset_alone():
    cohort = people(150, relatives=False)
    splits = make_splits(cohort, SplitOptions(protocol="leave-one-dataset-out", n_folds=2))
    assert_sound(splits)
    tested = splits[splits["part"] == "test"]
    assert tested.groupby("fold")["uid"].agg(lambda own: {uid[0] for uid in own}).tolist() in (
        [{"a"}, {"b"}], [{"b"}, {"a"}],
    )  # fmt: skip
    with pytest.raises(McspError, match=r"there are 2 datasets: set n_folds to 2 \(one dataset each\)"):
        make_splits(cohort, SplitOptions(protocol="leave-one-dataset-out", n_folds=3))
    with pytest.raises(McspError, match="there are 1 datasets: use protocol: kfold"):
        make_splits(cohort.assign(dataset="a"), SplitOptions(protocol="leave-one-dataset-out", n_folds=2))
    twin = cohort.assign(family=["one" if i < 20 else uid for i, uid in enumerate(cohort["uid"])])
    with pytest.raises(McspError, match="recorded at several datasets: leave-one-dataset-out would split it"):
        make_splits(twin, SplitOptions(protocol="leave-one-dataset-out", n_folds=2))


def test_repeats_test_everybody_again_in_other_folds():
    cohort = people()
    options = SplitOptions(n_folds=3, repeats=4)
    splits = make_splits(cohort, options)
    assert_sound(splits, record=options.model_dump())
    assert sorted(splits["fold"].unique()) == list(range(12))
    own = splits[splits["fold"] < 3]
    pd.testing.assert_frame_equal(own, make_splits(cohort, SplitOptions(n_folds=3)))  # the first repeat is the plain one
    tests = splits[splits["part"] == "test"].groupby("fold")["uid"].agg(frozenset)
    assert tests.nunique() == 12
    swapped = splits.copy()  # a subject tested twice in one repeat, never in another
    uid = sorted(tests[0])[0]
    family = swapped["family"] == swapped.set_index("uid").loc[uid, "family"].iloc[0]
    swapped.loc[(swapped["fold"] == 0) & family, "part"] = "train"
    with pytest.raises(McspError, match="tested exactly once in repeat 0"):
        assert_sound(swapped, record=options.model_dump())
    assert protocol_text({**options.model_dump(), "n_sites": 3, "n_datasets": 2}) == "kfold, 3 folds, 4 repeats"
    alone = people(150, relatives=False)
    n = (alone["dataset"] + alone["site"]).nunique()
    with pytest.raises(McspError, match="each site is a fold already"):
        make_splits(alone, SplitOptions(protocol="leave-one-site-out", n_folds=n, repeats=2))


def official(tmp_path, table: pd.DataFrame, n_folds: int = 1, **options) -> SplitOptions:
    """Options of folds that the table fixes."""
    table.to_csv(tmp_path / "official.tsv", sep="\t", index=False)
    return SplitOptions(protocol="file", file=str(tmp_path / "official.tsv"), n_folds=n_folds, **options)


def test_a_file_fixes_the_test_part_and_its_hash_is_kept(tmp_path):
    cohort = people(60, relatives=False)
    parts = pd.Series("train", index=cohort.index).where(cohort.index % 4 > 0, "test")
    table = pd.DataFrame({"subject": cohort["uid"].str[-3:].str.lstrip("0"), "dataset": cohort["dataset"], "part": parts})
    options = official(tmp_path, table[:-6])
    write_table(cohort, tmp_path / "cohort.parquet")
    out = tmp_path / "splits.tsv"
    run(cohort=tmp_path / "cohort.parquet", options=options, out=out)
    splits = load_splits(out)
    assert set(splits["fold"]) == {0}
    assert part(splits, 0, "test") == sorted(cohort["uid"][:-6][parts[:-6] == "test"])
    assert set(splits["uid"]) == set(cohort["uid"][:-6])  # who is not named is in no part
    assert np.mean(splits.loc[splits["part"] != "test", "part"] == "val") == pytest.approx(0.15, abs=0.03)
    record = read_record(out)
    assert record["file"] == "official.tsv"  # no path of the machine
    assert record["file_sha256"] == hashlib.sha256((tmp_path / "official.tsv").read_bytes()).hexdigest()
    assert protocol_text(record) == f"fixed by official.tsv (SHA-256 {record['file_sha256'][:8]}), 1 fold"
    with pytest.raises(McspError, match="not in the splits, where only"):
        guard(splits, 0, [cohort["uid"].iloc[-1]], "train")


def test_a_file_of_folds_or_of_parts_of_folds(tmp_path):
    cohort = people(60, relatives=False)
    folds = pd.DataFrame({"uid": cohort["uid"], "fold": [f"{10 * (i % 3)}" for i in cohort.index]})
    splits = make_splits(cohort, official(tmp_path, folds, 3))
    assert_sound(splits)
    assert part(splits, 2, "test") == sorted(cohort["uid"][cohort.index % 3 == 2])
    own = make_splits(cohort, SplitOptions(n_folds=3))  # our own table of folds is such a file too
    pd.testing.assert_frame_equal(make_splits(cohort, official(tmp_path, own[["fold", "uid", "part"]], 3)), own)


def test_subjects_that_the_file_does_not_name_may_be_trained_on_but_no_relatives_of_the_tested(tmp_path):
    cohort = people(60, relatives=False)
    cohort.loc[59, "family"] = cohort.loc[0, "family"]  # 59 is a relative of 0, who is tested
    table = pd.DataFrame({"uid": cohort["uid"], "part": ["test" if i % 4 == 0 else "train" for i in cohort.index]})[:50]
    splits = make_splits(cohort, official(tmp_path, table, others="train"))
    assert_sound(splits, record={"protocol": "file"})
    assert set(splits["uid"]) == set(cohort["uid"][:59])
    assert set(cohort["uid"][50:59]) <= set(part(splits, 0, "train", "val"))


def test_subjects_that_the_study_left_out_may_stand_in_the_file(tmp_path):
    cohort = people(40, relatives=False)
    table = pd.DataFrame({"uid": cohort["uid"], "part": ["test" if i % 4 == 0 else "train" for i in cohort.index]})
    options = official(tmp_path, table)
    write_table(cohort[2:], tmp_path / "cohort.parquet")
    out = {"cohort": tmp_path / "cohort.parquet", "options": options, "out": tmp_path / "splits.tsv"}
    with pytest.raises(McspError, match=r"no subject of the study is called ./sub-00., ./sub-00.: mend"):
        run(**out)
    excluded = pd.DataFrame({"uid": cohort["uid"][:2], "stage": "fmri", "reason": "moved"})
    write_tsv(excluded, tmp_path / "exclusions.tsv", {c: c for c in excluded})
    run(**out, exclusions=tmp_path / "exclusions.tsv")
    assert set(load_splits(tmp_path / "splits.tsv")["uid"]) == set(cohort["uid"][2:])


def _relatives(cohort, table):
    cohort["family"] = ["f" if i < 2 else uid for i, uid in enumerate(cohort["uid"])]


def _named_twice(cohort, table):
    table.loc[1, "uid"] = table.loc[0, "uid"]


def _stranger(cohort, table):
    table.loc[3, "uid"] = "a/sub-nobody"


def _wrong_part(cohort, table):
    table.loc[3, "part"] = "holdout"


def _class_not_trained(cohort, table):
    cohort.loc[cohort.index[table["part"] == "test"][0], "labels"] = "MDD"


def _one_class_tested(cohort, table):
    cohort.loc[table["part"] == "test", "labels"] = "ASD"


def _nobody(cohort, table):
    table["part"] = "train"


def _no_column(cohort, table):
    table.rename(columns={"part": "side"}, inplace=True)


def _bare_labels(cohort, table):
    table["subject"] = table.pop("uid").str[-3:]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_relatives, "family f is split over parts: leakage"),
        (_named_twice, "stands twice: leave one row"),
        (_stranger, "no subject of the study is called a/sub-nobody"),
        (_wrong_part, "part holdout is none of train, val, test"),
        (_class_not_trained, "no training subject has the label MDD of a test subject"),
        (_one_class_tested, "all test subjects have the label ASD: one class only"),
        (_nobody, "fold 0: no test subjects"),
        (_no_column, "needs a column uid or subject, and part or fold"),
        (_bare_labels, "several datasets: add a column dataset"),
    ],
)
def test_a_file_that_cannot_be_followed_is_one_line_that_names_it(tmp_path, spoil, message):
    cohort = people(40, relatives=False)
    table = pd.DataFrame({"uid": cohort["uid"], "part": ["test" if i % 4 == 0 else "train" for i in cohort.index]})
    spoil(cohort, table)
    write_table(cohort, tmp_path / "cohort.parquet")
    with pytest.raises(McspError, match=message) as error:
        run(cohort=tmp_path / "cohort.parquet", options=official(tmp_path, table), out=tmp_path / "splits.tsv")
    assert "\n" not in str(error.value)
    assert "official.tsv" in str(error.value)
    assert not (tmp_path / "splits.tsv").exists()


def test_another_number_of_folds_than_the_file_has_is_one_line(tmp_path):
    cohort = people(40, relatives=False)
    table = pd.DataFrame({"uid": cohort["uid"], "part": ["test" if i % 4 == 0 else "train" for i in cohort.index]})
    with pytest.raises(McspError, match=r"n_folds = 5, but .* has 1 fold\(s\): set n_folds: 1"):
        make_splits(cohort, official(tmp_path, table, 5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"protocol": "file"}, "go together"),
        ({"file": "x.tsv"}, "go together"),
        ({"protocol": "file", "file": "x.tsv", "repeats": 2}, "leave repeats out"),
        ({"n_folds": 1}, "nobody is left to train on"),
    ],
)
def test_options_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SplitOptions(**values)
