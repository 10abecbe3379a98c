"""Variants beside the whole model: on common subjects, corrected, with the whole's own row."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mcsp.evaluation.comparisons import all_pairs, subject_row
from mcsp.evaluation.fusion import fusion_rows
from mcsp.evaluation.metrics import delong
from mcsp.evaluation.retrieval import hits, retrieval_rows, sign_p
from mcsp.evaluation.sweep import run, sweep_rows, within_folds
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_tsv, write_table
from mcsp.training.embed import RANKS

OPTIONS = EvaluateOptions(n_bootstrap=100)


def predictions(strength, n=80, seed=0, seeds=(0,), method=None, scope="inductive"):
    rng = np.random.default_rng([seed, int(10 * strength)])
    y = np.arange(n) % 2
    rows = [
        (0, s, f"d/{i:03d}", y[i], 1 / (1 + np.exp(-(strength * (2 * y[i] - 1) + rng.normal()))))
        for s in seeds
        for i in range(n)
    ]
    table = pd.DataFrame(rows, columns=["fold", "seed", "uid", "y", "p"]).assign(scope=scope)
    return table.assign(method=method).drop(columns="scope") if method else table


def outputs(folder):
    return {"out": folder / "sweep.tsv", "fusion": folder / "fusion.tsv", "retrieval": folder / "retrieval.tsv"}


def searched(rank, stage="pretrained", n=20):
    """Ranks of 20 subjects, both ways, all domains together: `rank` for each."""
    rows = [(0, stage, "inductive", "all", query, f"d/{i:03d}", n, float(rank)) for query in ("fmri", "eeg") for i in range(20)]
    return pd.DataFrame(rows, columns=RANKS)


def write_ranks(root, *variants):
    for folder in (root, *(root / "sweep" / name for name in variants)):
        write_table(searched(1), folder / "embeddings/ranks.parquet")


def test_the_whole_against_itself_differs_by_nothing():
    whole = predictions(1.0)
    rows = sweep_rows("t", whole, {"same": ("loss", "same", whole)}, OPTIONS)
    assert rows["difference"].tolist()[1] == 0
    assert rows["p_holm"].tolist()[1] == 1
    assert np.isnan(rows["p"][0])
    assert rows["auroc"].tolist() == [pytest.approx(roc_auc_score(whole["y"], whole["p"]))] * 2


def test_a_variant_of_fewer_subjects_is_compared_on_those():
    whole, part = predictions(1.5, seeds=(0, 1)), predictions(0.0, seed=3)
    part = part[part["uid"] < "d/050"]
    rows = sweep_rows("t", whole, {"a": ("modality", "EEG only", part), "b": ("loss", "x", predictions(1.4, seed=9))}, OPTIONS)
    row = rows[rows["kind"] == "modality"].iloc[0]
    assert row["n"] == 50
    mean = whole.groupby("uid")["p"].mean()[part["uid"]].to_numpy()
    difference, _, p = delong(part["y"].to_numpy(), part["p"].to_numpy(), mean)
    assert row["difference"] == pytest.approx(difference)
    assert row["p"] == pytest.approx(p)
    assert row["p_holm"] == pytest.approx(min(1, 2 * p))  # the smaller of two
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
    assert (row["difference_low"] > 0 or row["difference_high"] < 0) == (p < 0.05)
    assert row["difference_low"] < difference < row["difference_high"]


def test_differences_within_folds_are_told_by_hand():
    """Three folds test the same people, as draws of those who train do, and a fourth cases alone."""
    whole = pd.concat([predictions(1.0, n=40, seed=k, seeds=(0, 1)).assign(fold=k) for k in range(4)])
    part = pd.concat([predictions(2.0, n=40, seed=k + 9).assign(fold=k) for k in range(4)])
    whole, part = (table[(table["fold"] < 3) | (table["y"] == 1)] for table in (whole, part))
    expected = []
    for fold in range(3):
        mean = whole[whole["fold"] == fold].groupby("uid").agg(y=("y", "first"), p=("p", "mean"))
        own = part[part["fold"] == fold].set_index("uid").loc[mean.index]
        expected.append(roc_auc_score(own["y"], own["p"]) - roc_auc_score(mean["y"], mean["p"]))
    found = within_folds(part.sample(frac=1, random_state=0), whole)
    assert found["fold_difference"] == pytest.approx(np.mean(expected))
    assert found["fold_sd"] == pytest.approx(np.std(expected, ddof=1))
    assert (found["folds_above"], found["n_folds"]) == (sum(d > 0 for d in expected), 3)
    assert np.ptp(expected) > 0
    alone = within_folds(part[part["fold"] == 1], whole)
    assert alone["fold_difference"] == pytest.approx(expected[1])
    assert np.isnan(alone["fold_sd"])
    assert np.isnan(within_folds(part[part["fold"] == 3], whole)["fold_difference"])


def test_the_table_reads_what_the_rules_write(tmp_path):
    both = pd.concat([predictions(1.0, method="mcsp"), predictions(2.0, method="linear FC")])
    write_table(both.assign(modalities="fmri+eeg"), tmp_path / "evaluate/t/predictions.parquet")
    write_table(predictions(0.2), tmp_path / "sweep/no-cm/predictions/t.parquet")
    write_table(predictions(0.3), tmp_path / "sweep/only-eeg/predictions/t.parquet")  # it searches nobody, and has no ranks
    write_ranks(tmp_path, "no-cm")
    named = {"no-cm": ("loss", "without CM"), "only-eeg": ("modality", "EEG only")}
    run(results=tmp_path, tasks=["t"], variants=named, searched=["no-cm"], options=OPTIONS, **outputs(tmp_path))
    assert read_tsv(tmp_path / "retrieval.tsv")["variant"].tolist() == ["as it is", "without CM"]
    table = read_tsv(tmp_path / "sweep.tsv")
    assert table["variant"].tolist() == ["as it is", "without CM", "EEG only"]
    assert table["n"].tolist() == [80, 80, 80]  # rivals do not count
    assert table["scope"].tolist() == ["inductive"] * 3
    assert read_tsv(tmp_path / "fusion.tsv")["single"].tolist() == ["EEG only"]  # and no rival with parts


def test_inductive_and_transductive_stand_side_by_side_and_are_told_apart(tmp_path):
    write_table(predictions(1.0, method="mcsp").assign(modalities="eeg"), tmp_path / "evaluate/t/predictions.parquet")
    write_table(predictions(2.0, scope="transductive"), tmp_path / "sweep/scope-transductive/predictions/t.parquet")
    named = {"scope-transductive": ("pre-training scope", "transductive")}
    write_ranks(tmp_path, "scope-transductive")
    run(results=tmp_path, tasks=["t"], variants=named, searched=list(named), options=OPTIONS, **outputs(tmp_path))
    assert read_tsv(tmp_path / "sweep.tsv")["scope"].tolist() == ["inductive", "transductive"]
    write_table(
        predictions(1.0, method="mcsp (transductive)").assign(modalities="eeg"), tmp_path / "evaluate/t/predictions.parquet"
    )
    run(results=tmp_path, tasks=["t"], variants={}, searched=[], options=OPTIONS, **outputs(tmp_path))
    assert read_tsv(tmp_path / "sweep.tsv")["scope"].tolist() == ["transductive"]


def test_retrieval_is_told_by_hand_and_paired_by_subject():
    whole = pd.concat([searched(1), searched(9, stage="untrained")])  # the untrained encoders do not count
    other = searched(1)
    other.loc[other["uid"] < "d/010", "rank"] = 6.0
    other.loc[(other["uid"] < "d/004") & (other["query"] == "eeg"), "rank"] = 3.0  # found by one of two searches
    table = retrieval_rows(whole, {"v": ("loss", "x", other)}, OPTIONS).set_index("kind")
    assert table.loc["whole", ["top1", "top5", "chance_top1", "chance_top5"]].tolist() == pytest.approx([1, 1, 0.05, 0.25])
    assert np.isnan(table.loc["whole", "difference"])
    row = table.loc["loss"]
    assert row["top1"] == pytest.approx(0.5)
    assert row["top5"] == pytest.approx(0.6)
    assert row["difference"] == pytest.approx(-0.4)
    assert row["difference_low"] < -0.4 < row["difference_high"] < 0
    assert row["p"] == row["p_holm"] < 0.05
    assert hits(other).loc["d/000", "top5"] == 0.5


def test_where_delong_has_no_variance_all_tables_swap_subject_by_subject():
    """A perfect score against one answer for everybody: the sweep, fusion and all pairs say the same as the comparisons."""
    y = np.arange(40) % 2
    perfect, constant = y.astype(float), np.full(40, 0.5)
    assert np.isnan(delong(y, constant, perfect)[2])
    expected = subject_row(y, constant, perfect, "auroc", OPTIONS)
    assert expected["p"] < 0.01
    assert expected["test"] == "permutation"
    table = pd.DataFrame({"fold": 0, "seed": 0, "uid": [f"d/{i:03d}" for i in range(40)], "y": y, "scope": "inductive"})
    row = sweep_rows("t", table.assign(p=perfect), {"v": ("loss", "x", table.assign(p=constant))}, OPTIONS).iloc[1]
    assert row[["difference", "difference_low", "difference_high", "p"]].tolist() == [
        expected[name] for name in ("difference", "low", "high", "p")
    ]
    both = table.assign(p=constant, method="mcsp", modalities="fmri+eeg")
    fused = fusion_rows("t", both, {"EEG only": table.assign(p=perfect)}, OPTIONS).iloc[0]
    assert fused[["difference", "low", "high", "p"]].tolist() == [expected[name] for name in ("difference", "low", "high", "p")]
    assert fused["verdict"] == "worse"
    means = pd.concat([both, both.assign(p=perfect, method="rival")])
    assert all_pairs("t", means, OPTIONS)["p"].tolist() == [expected["p"]]
    one_class = subject_row(np.ones(5), np.arange(5.0), np.arange(5.0)[::-1], "auroc", OPTIONS)
    assert np.isnan(one_class["p"])
    assert np.isnan(one_class["difference"])


def test_variants_without_pairs_are_left_out_of_the_retrieval():
    table = retrieval_rows(searched(2), {"v": ("modality", "EEG only", searched(2).iloc[:0])}, OPTIONS)
    assert table["kind"].tolist() == ["whole"]


def test_signs_drawn_at_random_give_the_exact_p():
    assert sign_p(np.array([1.0, 1.0, 1.0]), 20000, 0) == pytest.approx(0.25, abs=0.02)  # 2 of 8 signs reach it
    assert sign_p(np.zeros(5), 100, 0) == 1
