"""Who is a case, by the task's rule; and what rivals may not read."""

import pandas as pd
import pytest

from mcsp.cohort import task_labels, without_answer
from mcsp.errors import McspError
from mcsp.options.tasks import Task

LABELS = ["ASD", "ADHD", "ADHD;ASD", "control", "MDD", "ASD;MDD", "ADHD;MDD", "", "control"]
PEOPLE = pd.DataFrame(
    {"uid": [f"d/{i}" for i in range(9)], "labels": LABELS, "sex": ["F", "M", "F", "M", None, "M", "F", "M", "F"], "age": 20.0}
)


def labels(**task) -> dict[str, int]:
    return task_labels(PEOPLE, Task(**task)).rename(lambda uid: uid[2:]).to_dict()


@pytest.mark.parametrize(
    ("task", "cases", "controls"),
    [
        ({"case": ["ASD"]}, "025", "38"),
        ({"case": ["ASD"], "comorbid": "exclude"}, "0", "38"),
        ({"case": ["ASD"], "control": ["ADHD", "MDD"]}, "025", "146"),  # a disorder against the others
        ({"case": ["ASD"], "control": ["ADHD", "MDD"], "comorbid": "exclude"}, "0", "146"),
        ({"case": ["ASD"], "control": ["MDD"], "comorbid": "exclude"}, "0", "4"),  # 6 has ADHD beside
        ({"case": ["ADHD", "ASD"], "control": ["control"], "comorbid": "exclude"}, "012", "38"),
        ({"column": "sex", "case": ["F"], "control": ["M"]}, "0268", "1357"),
    ],
)
def test_cases_and_controls_follow_the_rule(task, cases, controls):
    assert labels(**task) == {**dict.fromkeys(cases, 1), **dict.fromkeys(controls, 0)}


def test_classes_and_numbers():
    three = {"adhd": ["ADHD"], "asd": ["ASD"], "well": ["control"]}
    found = labels(classes=three)
    assert found == {"0": 1, "1": 0, "3": 2, "5": 1, "6": 0, "8": 2}  # 2 is of two classes
    assert labels(classes=three, comorbid="exclude") == {"0": 1, "1": 0, "3": 2, "8": 2}
    with pytest.raises(McspError, match=r"an empty class: no subject left with x label\(s\) X"):
        labels(classes={**three, "x": ["X"]})
    aged = PEOPLE.assign(age=[9, 12, None, 30, 31, 32, 33, 34, 35])
    y = task_labels(aged, Task(kind="regression", column="age"))
    assert y["d/1"] == 12
    assert len(y) == 8
    with pytest.raises(McspError, match="age is known of 9 subjects, and does not vary"):
        task_labels(PEOPLE, Task(column="age"))


def test_a_side_that_the_rule_leaves_empty_is_one_line_that_says_so():
    with pytest.raises(McspError, match=r"no subject left with case label\(s\) ASD and no other label \(comorbid: exclude\)"):
        task_labels(PEOPLE[2:], Task(case=["ASD"], comorbid="exclude"))
    with pytest.raises(McspError, match="no subject left with case sex F"):
        task_labels(PEOPLE[PEOPLE["sex"] == "M"], Task(column="sex", case=["F"], control=["M"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"case": ["ASD"], "control": ["ASD"]}, "ASD stands on both sides"),
        ({}, "case is missing"),
        ({"column": "age", "case": ["F"]}, "case has no meaning in regression"),
        ({"column": "age", "kind": "binary", "case": ["F"]}, "column age goes with kind regression, not binary"),
        ({"classes": {"a": ["ASD"], "b": ["ADHD"]}}, "three or more"),
        ({"classes": {"a": ["ASD"], "b": ["ADHD"], "c": ["ASD"]}}, "ASD stands on both sides"),
        ({"column": "sex", "case": ["F"]}, "control is no value of sex"),
        (
            {"column": "sex", "case": ["F"], "control": ["male"]},
            "male is no value of sex: give case",
        ),
    ],
)
def test_a_task_that_asks_nothing_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Task(**values)


def test_rivals_do_not_read_the_answer():
    assert without_answer(PEOPLE, Task(column="sex", case=["F"], control=["M"]))["sex"].isna().all()
    assert without_answer(PEOPLE, Task(column="age"))["age"].isna().all()
    assert without_answer(PEOPLE, Task(case=["ASD"])) is PEOPLE


def test_the_question_names_its_rule():
    assert Task(case=["ASD"]).question() == "cases: ASD; controls: control; any label of a case makes a case"
    assert "left out" in Task(case=["ASD"], control=["ADHD", "MDD"], comorbid="exclude").question()
    assert Task(column="sex", case=["F"], control=["M"]).question() == "sex, cases: F; controls: M"
