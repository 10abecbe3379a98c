"""The loss of each kind of task: classes weigh alike, numbers are standardised, and the head's record undoes it."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from mcsp.errors import McspError
from mcsp.options.tasks import Task
from mcsp.training.objective import Objective, check_answers

BINARY = Task(case=["ASD"])
CLASSES = Task(classes={"a": ["ADHD"], "b": ["ASD"], "c": ["control"]})
AGE = Task(column="age")


def answers(*counts: int) -> pd.Series:
    return pd.Series(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize(("task", "y"), [(BINARY, answers(30, 10)), (CLASSES, answers(20, 8, 4))])
def test_classes_weigh_alike(task, y):
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(len(y), 3) if task is CLASSES else len(y)), dtype=torch.float32)
    objective = Objective(task, y)
    p = torch.softmax(logits, 1) if task is CLASSES else torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], 1)
    weights = y.map(len(y) / (y.nunique() * y.value_counts()))
    expected = log_loss(y, p.double().numpy(), sample_weight=weights)
    loss = objective(logits, torch.tensor(objective.encode(y).to_numpy(), dtype=torch.float32))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_numbers_are_standardised_by_the_training_subjects_and_far_ones_count_linearly():
    y = pd.Series(np.random.default_rng(0).uniform(8, 60, 50))
    objective = Objective(AGE, y)
    encoded = objective.encode(y)
    assert encoded.mean() == pytest.approx(0, abs=1e-12)
    assert encoded.std(ddof=0) == pytest.approx(1)
    np.testing.assert_allclose(encoded * objective.head["sd"] + objective.head["mean"], y)
    zero = torch.zeros(1)
    assert objective(zero + 0.5, zero).item() == pytest.approx(0.125)
    assert objective(zero + 10, zero).item() == pytest.approx(9.5)


def test_scores_are_those_of_others():
    rng = np.random.default_rng(0)
    y, logits = np.arange(30) % 3, rng.normal(size=(30, 3))
    found = Objective(CLASSES, pd.Series(y)).scores(torch.tensor(logits), torch.tensor(y, dtype=torch.float32))
    assert found["balanced_accuracy"].item() == pytest.approx(balanced_accuracy_score(y, logits.argmax(1)), abs=1e-6)
    case, score = y == 1, logits[:, 0]
    found = Objective(BINARY, pd.Series(case.astype(int))).scores(torch.tensor(score), torch.tensor(case, dtype=torch.float32))
    assert found["auroc"].item() == pytest.approx(roc_auc_score(case, score))
    assert Objective(BINARY, pd.Series([0, 1])).scores(torch.zeros(3), torch.ones(3)) == {}
    age = rng.uniform(8, 60, 30)
    found = Objective(AGE, pd.Series(age)).scores(torch.tensor(score), torch.tensor(age))
    assert found["r"].item() == pytest.approx(np.corrcoef(age, score)[0, 1], abs=1e-6)
    assert Objective(AGE, pd.Series(age)).scores(torch.zeros(3), torch.ones(3)) == {}


@pytest.mark.parametrize(("task", "y"), [(BINARY, answers(4)), (CLASSES, answers(4, 4)), (AGE, pd.Series([9.0, 9.0]))])
def test_a_fold_without_a_class_is_one_line(task, y):
    with pytest.raises(McspError, match="fold 2: too few subjects of the task in its training part"):
        check_answers(y, task, 2)
