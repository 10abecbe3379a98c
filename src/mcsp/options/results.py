"""Evaluation, explanation, figures, predictions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt, field_validator

from mcsp.options import Options

RivalName = Literal[
    "phenotype", "linear", "svm", "tangent", "tangent_svm", "random_forest", "gradient_boosting", "mi_binned", "mi_kde", "mlp",
    "fc_transformer", "eegnet", "shallow_fbcspnet", "eeg_conformer", "biot",
]  # fmt: skip
EEG_NETWORKS = ("eegnet", "shallow_fbcspnet", "eeg_conformer", "biot")
FMRI_ONLY = ("tangent", "tangent_svm", "fc_transformer")


class EvaluateOptions(Options):
    rivals: Literal["all"] | list[RivalName] = Field(
        ["phenotype", "linear", "tangent", "random_forest"],
        description="Methods on the same folds: phenotype (always), linear, svm, tangent, tangent_svm, random_forest, "
        "gradient_boosting, mi_binned, mi_kde, mlp, fc_transformer, eegnet, shallow_fbcspnet, eeg_conformer, biot (these four "
        "need braindecode); all: each that the study's modalities allow",
    )
    n_bootstrap: PositiveInt = Field(2000, description="Bootstrap samples of subjects for the intervals")
    n_permutations: PositiveInt = Field(2000, description="Permutations of tests")
    n_dropout: PositiveInt = Field(30, description="Passes with dropout per classifier and test subject (uncertainty)")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    harmonise: Literal["none", "combat"] = Field(
        "none", description="combat: the linear rival also with its features harmonised over sites, as a method of its own"
    )
    seed: int = Field(0, ge=0)

    @field_validator("rivals")
    @classmethod
    def _rivals(cls, value: str | list[str]) -> str | list[str]:
        if value != "all" and ("phenotype" not in value or len(set(value)) < len(value)):
            raise ValueError("name each rival once, and phenotype among them: imaging is held against it")
        return value

    def rivals_of(self, modalities: Collection[str]) -> list[str]:
        """Rivals of a study with these modalities; with ComBat, the harmonised one too."""
        other = [*(FMRI_ONLY if "fmri" not in modalities else ()), *(EEG_NETWORKS if "eeg" not in modalities else ())]
        names = [name for name in get_args(RivalName) if name not in other] if self.rivals == "all" else list(self.rivals)
        if self.harmonise == "combat" and "linear" in names:
            names.insert(names.index("linear") + 1, "linear_combat")
        return names


class ExplainOptions(Options):
    methods: list[Literal["integrated_gradients", "smoothgrad", "input_x_gradient"]] = Field(
        ["integrated_gradients", "smoothgrad"], min_length=1
    )
    validation: str | None = Field(
        None,
        description="Verdicts of a validation run that biomarkers are trusted by, e.g. results/validation/validation/"
        "verdicts.tsv. Without one, only a study with planted truth of its own can trust any",
    )
    top: PositiveInt = Field(
        10, description="Entries of each kind (regions, edges, channels, ...) that the biomarker table names"
    )
    n_permutations: PositiveInt = Field(2000, description="Permutations of the tests on maps and raw features")
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
    width_mm: float = Field(180, gt=20, description="Width of a figure over two columns of a journal, mm")
    column_mm: float = Field(88, gt=20, description="Width of a figure of one column, mm")
    titles: dict[str, str] = Field(
        {}, description="Titles above figures, by the figure's name (performance, curves-asd); none without"
    )
    labels: dict[str, str] = Field(
        {}, description="Words to print in place of others, whole words wherever they stand: {mcsp: MCSP, asd: Autism}"
    )
    palette: list[Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]] = Field(
        [],
        description="Colours, #rrggbb, in the order of use (the sixth is MCSP's); Okabe and Ito's, told apart by colour-blind "
        "eyes, without",
    )
    note: str | None = Field(
        None, description="Small print beside every figure and in its caption; simulated data is named there by itself"
    )
