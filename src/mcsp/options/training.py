"""Splits, pre-training and fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator, model_validator

from mcsp.options import Options


class SplitOptions(Options):
    protocol: Literal["kfold", "leave-one-site-out", "leave-one-dataset-out", "file"] = Field(
        "kfold", description="How test subjects are set aside; file: as a table says, e.g. an official split"
    )
    n_folds: PositiveInt = Field(
        5,
        description="Folds; leaving sites or datasets out, groups of whole ones (as many as there are: one each); with "
        "file, those of the file",
    )
    repeats: PositiveInt = Field(
        1, description="How often everybody is tested, each time in other folds; every repeat adds n_folds folds"
    )
    file: str | None = Field(
        None,
        description="With protocol: file, a TSV or CSV that names subjects (uid, or subject and, where there are "
        "several, dataset) and their part (train, val, test), or the fold that tests them, or both",
    )
    others: Literal["exclude", "train"] = Field(
        "exclude",
        description="With protocol: file, subjects that it does not name: left out of the folds, or trained on (those without "
        "relatives among the validation and test subjects)",
    )
    val_share: float = Field(0.15, gt=0, lt=0.5, description="Share of the training part that chooses models")
    seed: int = Field(0, ge=0)

    @field_validator("n_folds")
    @classmethod
    def _folds(cls, value: int, info: ValidationInfo) -> int:
        if value < 2 and info.data.get("protocol") != "file":
            raise ValueError("input should be greater than or equal to 2: with one fold nobody is left to train on")
        return value

    @model_validator(mode="after")
    def _check(self) -> SplitOptions:
        if (self.protocol == "file") != (self.file is not None):
            raise ValueError("splits.file and splits.protocol: file go together: give both or neither")
        if self.protocol == "file" and self.repeats > 1:
            raise ValueError("splits.repeats draws other folds, a file's are fixed: leave repeats out")
        return self


class ModelOptions(Options):
    width: PositiveInt = Field(64, description="Width of the encoders' hidden layers")
    depth: PositiveInt = Field(2, description="Transformer layers")
    heads: PositiveInt = Field(4, description="Attention heads; divides width")
    dim: PositiveInt = Field(128, description="Dimension of the projections z")
    patch: PositiveInt = Field(12, description="fMRI frames per token")
    segment_features: PositiveInt = Field(8, description="Features of each EEG segment that the projector concatenates")
    density: float = Field(0.3, gt=0, le=1, description="Share of the strongest edges kept in the graphs")
    dropout: float = Field(0.1, ge=0, lt=1)
    linear_start: bool = Field(
        False,
        description="Encoders of matrices and projectors begin as linear maps, and what is not linear is added from zero: "
        "for a few hundred pairs (ours)",
    )
    modalities: list[Literal["fmri", "eeg"]] = Field(["fmri", "eeg"], min_length=1)
    domains: list[Literal["spatial", "temporal", "spectral"]] = Field(["spatial", "temporal", "spectral"], min_length=1)


class LossOptions(Options):
    """Weights of the terms (section Method of the README); 0 switches a term off."""

    id: float = Field(1.0, ge=0, description="lambda of L_ID: a domain agrees with its augmented view")
    cd: float = Field(1.0, ge=0, description="L_CD: the domains of one subject agree")
    im: float = Field(1.0, ge=0, description="L_IM: the modalities' similarity distributions agree")
    cm: float = Field(1.0, ge=0, description="mu of L_CM: the modalities of one subject agree, domain by domain")
    cf: float = Field(1.0, ge=0, description="L_CF: all domains of one modality together agree with those of the other (ours)")
    kd: float = Field(1.0, ge=0, description="L_KD: each domain agrees with a teacher that sees all of a subject")
    temperature: PositiveFloat = Field(0.2, description="tau of NT-Xent")
    im_temperature: PositiveFloat = Field(0.2, description="T of the similarity distributions in L_IM and L_KD")

    @model_validator(mode="after")
    def _check(self) -> LossOptions:
        if self.kd and not (self.id or self.cd or self.cm or self.cf):
            raise ValueError("kd alone is content with one embedding for everybody: give id, cd, cm or cf a weight too")
        return self


class AugmentOptions(Options):
    jitter: float = Field(0.1, ge=0, description="Standard deviation of added noise, in units of the signal's own")
    scale: float = Field(0.1, ge=0, description="Standard deviation of the random gain around 1")
    time_mask: float = Field(0.1, ge=0, lt=1, description="Share of time points or segments set to zero")
    spectral_removal: float = Field(0.1, ge=0, lt=1, description="Share of spectral components removed")
    spectral_addition: float = Field(0.1, ge=0, lt=1, description="Share of spectral components raised")
    spectral_max: float = Field(0.1, ge=0, description="Largest rise, as a share of the largest amplitude")
    node_drop: float = Field(0.1, ge=0, lt=1)
    edge_drop: float = Field(0.1, ge=0, lt=1)


class EngineOptions(Options):
    """How training uses the machine."""

    gpus: PositiveInt = Field(1, description="GPUs of each node that share every batch; CPU processes where there is no GPU")
    nodes: PositiveInt = Field(1, description="Machines that share every batch; on Slurm, each with that many GPUs")
    precision: Literal["32", "bf16"] = Field("32", description="bf16: matrix products in bfloat16; losses stay float32")
    clip: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0: any")
    compile: bool = Field(False, description="torch.compile the encoders; wants a C++ compiler")
    deterministic: bool = Field(True, description="Deterministic kernels: the same seed gives the same weights, on a GPU too")
    data: Literal["auto", "device", "stream"] = Field(
        "auto", description="device: upload the subjects once; stream: read each batch anew; auto: device where they fit a GPU"
    )
    data_precision: Literal["32", "bf16"] = Field("32", description="bf16: half the memory on the device, three digits")
    checkpoint_minutes: float = Field(5, ge=0, description="Time between checkpoints; a stopped run goes on from the last one")


class PretrainOptions(Options):
    scope: Literal["inductive", "transductive"] = Field(
        "inductive", description="inductive: fold k never sees its test subjects; transductive is marked so in every table"
    )
    epochs: int = Field(60, ge=0, description="0: no pre-training")
    subject_share: float = Field(
        1.0, gt=0, le=1, description="Share of the training subjects that pre-training sees, drawn by seed"
    )
    corpus: list[str] | None = Field(
        None,
        min_length=1,
        description="Datasets whose subjects pre-training learns from (null: all); scales and starts are of all training "
        "subjects",
    )
    batch_size: int = Field(64, ge=4)
    lr: PositiveFloat = Field(3e-3, description="Highest learning rate")
    wide_lr: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Maps from more than width features learn at wide_lr * width / features of it; 0 freezes them",
    )
    weight_decay: float = Field(1e-4, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    teacher_momentum: float = Field(
        0.99, ge=0, lt=1, description="Share of the old teacher in each step's moving average (L_KD), reached from 0 by a ramp"
    )
    seed: int = Field(0, ge=0)
    model: ModelOptions = ModelOptions()
    loss: LossOptions = LossOptions()
    augment: AugmentOptions = AugmentOptions()
    engine: EngineOptions = EngineOptions()


class FinetuneOptions(Options):
    epochs: PositiveInt = 60
    patience: PositiveInt = Field(15, description="Epochs without a lower validation loss until training stops")
    batch_size: int = Field(32, ge=2)
    lr: PositiveFloat = 1e-3
    encoder_lr_scale: float = Field(
        0.1, ge=0, description="Learning rate of the encoders relative to the head's; 0 freezes them"
    )
    weight_decay: float = Field(1e-2, ge=0)
    hidden: PositiveInt = 64
    reads: Literal["features", "projections", "both"] = Field(
        "features",
        description="What the head reads of each modality and domain: the encoder's h, the projection z, in which pre-training "
        "compares modalities, or both (z: ours)",
    )
    dropout: float = Field(0.3, ge=0, lt=1)
    modality_dropout: float = Field(0.2, ge=0, lt=1)
    seeds: list[int] = Field([0], min_length=1)
