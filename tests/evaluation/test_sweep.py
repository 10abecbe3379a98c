"""Variants beside the whole model: on common subjects, corrected, with the whole's own row."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mcsp.evaluation.metrics import delong
from mcsp.evaluation.sweep import run, sweep_rows
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_tsv, write_table

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
    return {"out": folder / "sweep.tsv", "fusion": folder / "fusion.tsv"}


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


def test_the_table_reads_what_the_rules_write(tmp_path):
    both = pd.concat([predictions(1.0, method="mcsp"), predictions(2.0, method="linear FC")])
    write_table(both.assign(modalities="fmri+eeg"), tmp_path / "evaluate/t/predictions.parquet")
    write_table(predictions(0.2), tmp_path / "sweep/no-cm/predictions/t.parquet")
    run(results=tmp_path, tasks=["t"], variants={"no-cm": ("loss", "without CM")}, options=OPTIONS, **outputs(tmp_path))
    table = read_tsv(tmp_path / "sweep.tsv")
    assert table["variant"].tolist() == ["as it is", "without CM"]
    assert table["n"].tolist() == [80, 80]  # rivals do not count
    assert table["scope"].tolist() == ["inductive", "inductive"]
    assert read_tsv(tmp_path / "fusion.tsv").empty  # no variant of one modality, no rival with parts


def test_inductive_and_transductive_stand_side_by_side_and_are_told_apart(tmp_path):
    write_table(predictions(1.0, method="mcsp").assign(modalities="eeg"), tmp_path / "evaluate/t/predictions.parquet")
    write_table(predictions(2.0, scope="transductive"), tmp_path / "sweep/scope-transductive/predictions/t.parquet")
    named = {"scope-transductive": ("pre-training scope", "transductive")}
    run(results=tmp_path, tasks=["t"], variants=named, options=OPTIONS, **outputs(tmp_path))
    assert read_tsv(tmp_path / "sweep.tsv")["scope"].tolist() == ["inductive", "transductive"]
    write_table(
        predictions(1.0, method="mcsp (transductive)").assign(modalities="eeg"), tmp_path / "evaluate/t/predictions.parquet"
    )
    run(results=tmp_path, tasks=["t"], variants={}, options=OPTIONS, **outputs(tmp_path))
    assert read_tsv(tmp_path / "sweep.tsv")["scope"].tolist() == ["transductive"]
