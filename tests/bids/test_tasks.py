"""Cases and controls by task: counted before anything is trained, and one class only is one line."""

import pandas as pd
import pytest

from mcsp.bids.tasks import run
from mcsp.errors import McspError
from mcsp.options.tasks import Task
from mcsp.store import read_tsv, write_table


@pytest.fixture
def cohort(tmp_path):
    labels = ["ASD", "ADHD;ASD", "control", "control", "ADHD", "control"]
    table = pd.DataFrame({"uid": [f"d/{i}" for i in range(6)], "dataset": list("aabbbb"), "labels": labels})
    write_table(table, tmp_path / "subjects.parquet")
    return tmp_path / "subjects.parquet"


def test_counts_by_dataset(cohort, tmp_path):
    run(cohort=cohort, name="asd", task=Task(case=["ASD"]), out=tmp_path / "asd.tsv")
    assert read_tsv(tmp_path / "asd.tsv").to_numpy().tolist() == [["a", 2, 0, 1, "case"], ["b", 0, 3, 0, "case"]]
    run(cohort=cohort, name="asd", task=Task(case=["ASD"], comorbid="exclude"), out=tmp_path / "asd.tsv")
    assert read_tsv(tmp_path / "asd.tsv").to_numpy().tolist() == [["a", 1, 0, 1, "exclude"], ["b", 0, 3, 0, "exclude"]]
    run(cohort=cohort, name="x", task=Task(case=["ASD"], control=["ADHD"]), out=tmp_path / "x.tsv")
    assert read_tsv(tmp_path / "x.tsv").to_numpy().tolist() == [["a", 2, 0, 1, "case"], ["b", 0, 1, 0, "case"]]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task(case=["MDD"]), r"tasks\.x: task has one class only: no subject left with case label\(s\) MDD"),
        (
            Task(case=["ASD"], control=["well"]),
            r"tasks\.x: task has one class only: no subject left with control label\(s\) well",
        ),
    ],
)
def test_one_class_only_is_one_line(cohort, tmp_path, task, message):
    with pytest.raises(McspError, match=message) as error:
        run(cohort=cohort, name="x", task=task, out=tmp_path / "x.tsv")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x.tsv").exists()


def test_classes_and_numbers_are_counted_too(cohort, tmp_path):
    three = Task(classes={"adhd": ["ADHD"], "asd": ["ASD"], "well": ["control"]})
    run(cohort=cohort, name="three", task=three, out=tmp_path / "three.tsv")
    table = read_tsv(tmp_path / "three.tsv")
    assert table[["dataset", "class", "n"]].to_numpy().tolist() == [["a", "asd", 1], ["b", "adhd", 1], ["b", "well", 3]]
    write_table(pd.DataFrame({"uid": list("xyz"), "dataset": "a", "labels": "", "age": [8.0, 10.0, 12.0]}), cohort)
    run(cohort=cohort, name="age", task=Task(column="age"), out=tmp_path / "age.tsv")
    row = read_tsv(tmp_path / "age.tsv").iloc[0]
    assert (row["n"], row["mean"], row["sd"]) == (3, 10.0, 2.0)
