"""Evaluation, explanation, figures, predictions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from mcsp.options import Options


class EvaluateOptions(Options):
    n_bootstrap: PositiveInt = Field(2000, description="Bootstrap samples of subjects for the intervals")
    n_permutations: PositiveInt = Field(2000, description="Permutations of tests")
    n_dropout: PositiveInt = Field(30, description="Passes with dropout per classifier and test subject (uncertainty)")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    harmonise: Literal["none", "combat"] = Field(
        "none", description="combat: the linear rival also with its features harmonised over sites, as a method of its own"
    )
    seed: int = Field(0, ge=0)


class ExplainOptions(Options):
    methods: list[Literal["integrated_gradients", "smoothgrad"]] = Field(["integrated_gradients", "smoothgrad"], min_length=1)
    n_steps: PositiveInt = Field(32, description="Steps of Integrated Gradients")
    n_samples: PositiveInt = Field(16, description="Noisy copies of SmoothGrad")
    noise: float = Field(0.1, gt=0, description="SmoothGrad's noise, in units of the input's standard deviation")
    max_subjects: PositiveInt = Field(64, description="Test subjects explained per fold")
    seed: int = Field(0, ge=0)


class PredictOptions(Options):
    model: str | None = Field(
        None,
        description="A trained model to apply to these datasets, e.g. results/demo/finetune/asd: the directory of a task's "
        "classifiers, or of pre-trained models (embeddings only). The study then has no tasks, needs no labels, and takes the "
        "options of its stages over from the model",
    )


class FigureOptions(Options):
    dpi: PositiveInt = 200
    width_mm: float = Field(180, gt=20, description="Full width of a journal page in mm")
    note: str | None = Field(
        None, description="Small print beside every figure and in its caption; simulated data is named there by itself"
    )
