"""The validation of attribution methods on planted truth."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from mcsp.options import Options

MethodName = Literal["integrated_gradients", "smoothgrad", "input_x_gradient", "gradient", "gradcam"]


class ValidationOptions(Options):
    snrs: list[PositiveFloat] = Field(
        [1.0, 2.0], min_length=1, description="Factors on the size of every planted effect; the noise stays as it is"
    )
    seeds: list[NonNegativeInt] = Field(
        [0, 1, 2], min_length=1, description="Each is a simulated cohort and a training of its own"
    )
    n_subjects: int = Field(84, ge=24, description="Simulated subjects of a run, all with both modalities; a third is tested")
    methods: list[MethodName] = Field(
        ["integrated_gradients", "smoothgrad", "input_x_gradient", "gradient", "gradcam"],
        min_length=1,
        description="Methods that are tried; gradient and gradcam are references that are expected to fail",
    )
    pretrain_epochs: int = Field(0, ge=0, description="Epochs of pre-training before each fine-tuning; 0: none")
    n_channels: Literal[19, 32, 64] = Field(19, description="Electrodes of the simulated net")
    permuted: bool = Field(True, description="Also train on shuffled labels, once for each planted effect")
    deleted_subjects: PositiveInt = Field(8, description="Test subjects of each run whose inputs are deleted step by step")
    n_bootstrap: PositiveInt = Field(1000, description="Bootstrap samples of runs and subjects")
