"""What fine-tuning minimises, and how well validation subjects are answered, by the kind of task."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from mcsp.errors import McspError
from mcsp.options.tasks import Task


class Objective(nn.Module):
    """Loss and score of one task, made from the answers `y` of the training subjects.

    Classes have equal weight in the loss, whatever their size. Values are standardised by the training subjects; the loss is
    Huber's (1964) with its corner at one standard deviation, so that a wrong age in a table does not rule the training.
    `head`: what the classifier's configuration says of the answers.
    """

    def __init__(self, task: Task, y: pd.Series):
        super().__init__()
        self.kind, n = task.kind, len(task.sides())
        self.mean, self.sd, self.head = 0.0, 1.0, {}
        weight = torch.ones(1)
        if self.kind == "regression":
            self.mean, self.sd = float(y.mean()), float(y.std(ddof=0))
            self.head = {"kind": self.kind, "mean": self.mean, "sd": self.sd}
        else:
            counts = np.bincount(y.astype(int), minlength=n)
            weight = torch.tensor(counts.sum() / (n * counts), dtype=torch.float32)
            self.head = {"kind": self.kind, "outputs": n} if self.kind == "multiclass" else {}
        self.register_buffer("weight", weight)

    def encode(self, y: pd.Series) -> pd.Series:
        """Answers as the loss takes them."""
        return (y - self.mean) / self.sd

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Loss of `logits` (B,) or (B, classes) for encoded answers `y` (B,)."""
        logits = logits.float()
        if self.kind == "regression":
            return F.huber_loss(logits, y)
        if self.kind == "multiclass":
            return F.cross_entropy(logits, y.long(), reduction="none").mul(self.weight[y.long()]).mean()
        return F.binary_cross_entropy_with_logits(logits, y, self.weight[y.long()])

    def scores(self, logits: Tensor, y: Tensor) -> dict[str, Tensor]:
        """AUROC of two classes, mean recall of several, correlation of values; nothing where it has no value."""
        truth, answer = y.cpu().numpy(), logits.float().cpu().numpy()
        if self.kind == "multiclass":
            recalls = [(answer[truth == k].argmax(axis=1) == k).mean() for k in np.unique(truth).astype(int)]
            return {"balanced_accuracy": torch.tensor(float(np.mean(recalls)))}
        if self.kind == "regression":
            varies = len(truth) > 2 and np.ptp(truth) > 0 and np.ptp(answer) > 0
            return {"r": torch.tensor(float(np.corrcoef(truth, answer)[0, 1]))} if varies else {}
        return {"auroc": torch.tensor(roc_auc_score(truth, answer))} if 0 < truth.mean() < 1 else {}


def check_answers(y: pd.Series, task: Task, fold: int) -> None:
    """Raises McspError when a fold's training subjects leave nothing to learn: a class is missing, or values don't vary."""
    wanted = max(2, len(task.sides()))
    if y.nunique() < wanted:
        raise McspError(f"fold {fold}: too few subjects of the task in its training part: use fewer folds, or more subjects")
