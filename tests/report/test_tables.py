"""Tables for a paper: whole LaTeX, the numbers of the stages' own tables, and nothing bold without its test."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mcsp.evaluation import stage, statistics, sweep
from mcsp.evaluation.metrics import METRICS
from mcsp.options.results import EvaluateOptions
from mcsp.report import sections, tables
from mcsp.report.blocks import Text
from mcsp.report.results import Results
from mcsp.store import read_json, read_table, read_tsv, write_table, write_tsv
from mcsp.study import parse_study
from mcsp.workflow import Plan
from tests.evaluation.test_sweep import write_ranks
from tests.workflow.test_dag import bids_study

OPTIONS = EvaluateOptions(n_bootstrap=40, n_permutations=200)
NOTE = "SIMULATED DATA: d & e"


def study_results(root, n=120, seed=0, **strengths):
    """What the stages write of one task: methods of these strengths."""
    rng, y = np.random.default_rng(seed), np.arange(n) % 2
    cohort = pd.DataFrame(
        {
            "uid": [f"d/{i:03d}" for i in range(n)],
            "dataset": ["d_1" if i % 4 < 2 else "e" for i in range(n)],
            "site": [("A&B", "C", "rare")[i // 2 % 2 if i > 5 else 2] for i in range(n)],
            "sex": [("M", "F", None)[i // 2 % 2 if i > 9 else 2] for i in range(n)],
            "age": np.where(np.arange(n) < 2, np.nan, np.round(rng.uniform(8, 40, n), 1)),
            "labels": np.where(y == 1, "ASD", "control"),
            "has_fmri": True,
            "has_eeg": y == 1,
        }
    )
    write_table(cohort, root / "cohort/subjects.parquet")
    parts = [
        pd.DataFrame({"method": m, "fold": np.arange(n) // 2 % 3, "seed": 0, "uid": cohort["uid"], "modalities": "fmri", "y": y,
                      "p": 1 / (1 + np.exp(-(rng.normal(size=n) + strength * (y - 0.5))))})
        for m, strength in strengths.items()
    ]  # fmt: skip
    rows, out = pd.concat(parts), root / "evaluate/asd"
    write_table(rows, out / "predictions.parquet")
    ours = parts[0].drop(columns=["method", "modalities"])
    write_table(ours.assign(fold=(ours["fold"] + 1) % 3), out / "validation.parquet")
    write_table(ours.assign(mean_entropy=0.3, n_passes=4), out / "dropout.parquet")
    means = stage.pooled(rows)
    metrics = stage.metric_rows("asd", means, dict.fromkeys(strengths, "kfold, 3 folds"), OPTIONS)
    write_tsv(metrics, out / "metrics.tsv", stage.METRIC_COLUMNS)
    write_tsv(stage.comparison_rows("asd", means, "mcsp", OPTIONS, 0.5), out / "comparisons.tsv", stage.COMPARISON_COLUMNS)
    statistics.run(
        predictions=out / "predictions.parquet", validation=out / "validation.parquet", dropout=out / "dropout.parquet",
        cohort=root / "cohort/subjects.parquet", task_name="asd", options=OPTIONS, out=out,
    )  # fmt: skip
    tables.run(results=root, tasks=["asd"], note=NOTE, out=root / "tables")
    return root


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return study_results(tmp_path_factory.mktemp("study"), mcsp=3.5, phenotype=0.2, **{"linear FC_1": 1.0})


def parsed(text):
    """(header, rows) of a longtable, cells unescaped; asserts that it is one."""
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
    plain = re.sub(r"\\[\\{}&%$#_]", "", text)
    depth = 0
    for letter in plain:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 2, 1]
    first, again, body = re.split(r"\\endfirsthead|\\endhead", text)
    assert first.count(r"\label{") == text.count(r"\label{") == 1  # a head that every page repeats would define it anew
    heads = [part.split(r"\toprule")[1].split(r"\midrule")[0].strip() for part in (first, again)]
    assert heads[0] == heads[1]
    lines = [heads[0], *(line for line in body.split(r"\bottomrule")[0].splitlines() if line.endswith(r"\\"))]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))] for line in lines]
    width = len(re.search(r"\\begin\{longtable\}\{([lr]+)\}", text)[1])
    assert {len(row) for row in cells} == {width}
    assert not re.search(r"(?<!\\)[%#$_^~]", "\n".join(lines))
    return cells[0], cells[1:]


def test_every_table_is_written_as_tsv_and_whole_latex(results):
    names = Plan(parse_study(bids_study(1, 1).model_dump())).paper_tables
    assert sorted(p.name for p in (results / "tables").iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("tsv", "json", "tex")
    )
    for name in names:
        text = (results / "tables" / f"{name}.tex").read_text()
        _, rows = parsed(text)
        assert len(rows) >= 2
        assert r"SIMULATED DATA: d \& e" in text
        table, sidecar = read_tsv(results / "tables" / f"{name}.tsv"), read_json(results / "tables" / f"{name}.json")
        assert set(table) <= set(sidecar)
        assert sidecar["Table"]["Description"].endswith(f"{NOTE}.")
        if name != "calibration":  # one line in print for three scores
            assert len(table) == len(rows)


def test_special_letters_are_escaped():
    assert tables.escaped("a_b & 50% {x} <1 \\") == r"a\_b \& 50\% \{x\} \ensuremath{<}1 \textbackslash{}"
    assert tables.escaped("-0.5 [-1.0, 2-3]") == r"\ensuremath{-}0.5 [\ensuremath{-}1.0, 2-3]"


def test_numbers_are_those_of_the_stages(results):
    table = read_tsv(results / "tables/performance.tsv").set_index("method")
    metrics = read_tsv(results / "evaluate/asd/metrics.tsv").set_index(["method", "metric"])
    pairs = read_tsv(results / "evaluate/asd/comparisons.tsv").query("test == 'delong'").set_index(["method", "rival"])
    for method in ("mcsp", "linear FC_1"):
        assert table.loc[method, "auroc"] == metrics.loc[(method, "auroc"), "value"]
        assert table.loc[method, "p_chance"] == metrics.loc[(method, "auroc"), "p_chance_holm"]
        assert table.loc[method, "p_phenotype"] == pairs.loc[(method, "phenotype"), "p_holm"]
    assert pd.isna(table.loc["phenotype", "p_phenotype"])
    header, rows = parsed((results / "tables/performance.tex").read_text())
    row = dict(zip(header, next(r for r in rows if r[1] == r"linear FC\_1")))
    value = metrics.loc[("linear FC_1", "auroc")]
    assert row["AUROC"] == f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    assert row["protocol"] == "kfold, 3 folds"


def sweep_words(root):
    """What the report says of the sweep."""
    blocks = sections.sweep(Results({"tasks": {"asd": {"title": "ASD"}}}, root, []))
    return " ".join(block.text for block in blocks if isinstance(block, Text))


def test_ablations_and_fusion_come_with_a_sweep(results, tmp_path):
    """With n, intervals and p; the whole model has no test against itself."""
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    whole = read_table(results / "evaluate/asd/predictions.parquet").assign(modalities="fmri+eeg")
    write_table(whole, tmp_path / "evaluate/asd/predictions.parquet")
    rng, named = np.random.default_rng(1), {}
    for name, value in (("only-fmri", "fMRI only"), ("only-eeg", "EEG only"), ("no-cm", "without CM")):
        own = whole[whole["method"] == "mcsp"].assign(scope="inductive", p=rng.random(120))
        write_table(own, tmp_path / f"sweep/{name}/predictions/asd.parquet")
        named[name] = ("modality" if "only" in name else "loss", value)
    write_ranks(tmp_path, *named)
    files = {"out": tmp_path / "sweep/sweep.tsv"}
    files |= {name: tmp_path / f"sweep/{name}.tsv" for name in ("fusion", "retrieval")}
    sweep.run(results=tmp_path, tasks=["asd"], variants=named, searched=list(named), options=OPTIONS, **files)
    tables.run(results=tmp_path, tasks=["asd"], note=NOTE, out=tmp_path / "tables", sweep=files["out"])
    header, rows = parsed((tmp_path / "tables/ablations.tex").read_text())
    assert [row[header.index("to")] for row in rows] == ["as it is", "fMRI only", "EEG only", "without CM"]
    assert [bool(row[header.index("p, Holm")]) for row in rows] == [False, True, True, True]
    header, rows = parsed((tmp_path / "tables/fusion.tex").read_text())
    assert [row[header.index("alone")] for row in rows] == ["fMRI only", "EEG only"]
    assert [row[header.index("both are")] for row in rows] == ["better", "better"]  # noise is no match for a strong method
    assert "Fusion helps in asd" in read_json(tmp_path / "tables/fusion.json")["Table"]["Description"]
    assert "Fusion helps in asd" in sweep_words(tmp_path)
    assert "loss: without CM (asd, -0." in sweep_words(tmp_path)
    assert "did not run" in sweep_words(results)


def test_the_best_is_bold_where_the_tests_say_so(results):
    text = (results / "tables/performance.tex").read_text()
    header, rows = parsed(text)
    assert [r[1] for r in rows if r"\textbf" in r[header.index("AUROC")]] == ["mcsp"]
    assert "Bold: better" in text
    assert read_tsv(results / "tables/performance.tsv").set_index("method")["best"].to_dict()["mcsp"] == "yes"


def test_a_highest_value_alone_is_not_bold(tmp_path):
    results = study_results(tmp_path, mcsp=1.2, phenotype=0.1, linear=1.1)
    table = read_tsv(results / "tables/performance.tsv")
    assert (table["best"] == "no").all()
    text = (results / "tables/performance.tex").read_text()
    assert r"\textbf" not in text
    assert "No method is bold" in text


def test_the_cohort_by_hand(results):
    table = read_tsv(results / "tables/cohort.tsv")
    cohort = read_table(results / "cohort/subjects.parquet")
    row = table.query("dataset == 'd_1' and label == 'ASD'").iloc[0]
    own = cohort[(cohort["dataset"] == "d_1") & (cohort["labels"] == "ASD")]
    assert row["n"] == len(own)
    assert row["age_mean"] == pytest.approx(own["age"].mean(), abs=1e-3)
    assert row["age_sd"] == pytest.approx(own["age"].std(), abs=1e-3)
    assert row["n_age"] == own["age"].notna().sum() < len(own)
    assert row["n_male"] + row["n_female"] + row["n_sex_unknown"] == len(own)
    assert row["n_sites"] == own["site"].nunique()
    assert table.iloc[-1]["n"] == 120 == table.iloc[:-1]["n"].sum()
    assert table.iloc[-1]["n_eeg"] == 60


def test_subgroups_that_are_too_few_have_no_numbers(results):
    table = read_tsv(results / "tables/subgroups.tsv")
    few = table[table["state"] == "too few"]
    assert len(few)
    assert few["auroc"].isna().all()
    scored = table[(table["grouping"] == "sex") & (table["group"] == "male")].iloc[0]
    assert 0 <= scored["auroc_low"] <= scored["auroc"] <= scored["auroc_high"] <= 1
    gap = table[table["group"].str.startswith("gap") & (table["grouping"] == "sex")].iloc[0]
    assert 0 < gap["p_auroc"] <= 1
    assert METRICS.keys() >= {"auroc"}
    _, rows = parsed((results / "tables/subgroups.tex").read_text())
    assert any("too few" in row for row in rows)
