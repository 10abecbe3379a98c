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
