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


def test_counts_by_task_and_dataset(cohort, tmp_path):
    run(cohort=cohort, tasks={"asd": Task(case=["ASD"]), "adhd": Task(case=["ADHD"])}, out=tmp_path / "tasks.tsv")
    assert read_tsv(tmp_path / "tasks.tsv").to_numpy().tolist() == [
        ["asd", "a", 2, 0],
        ["asd", "b", 0, 3],
        ["adhd", "a", 1, 0],
        ["adhd", "b", 1, 3],
    ]


def test_one_class_only_is_a_line_for_each_task(cohort, tmp_path):
    tasks = {"mdd": Task(case=["MDD"]), "asd": Task(case=["ASD"]), "x": Task(case=["ASD"], control=["well"])}
    with pytest.raises(McspError) as error:
        run(cohort=cohort, tasks=tasks, out=tmp_path / "tasks.tsv")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("tasks.mdd: task has one class only: no subject left with case label(s) MDD")
    assert lines[1].startswith("tasks.x: task has one class only: no subject left with control label(s) well")
    assert not (tmp_path / "tasks.tsv").exists()
