"""Sweeps and ablations: what is left out or varied, one thing at a time."""

from __future__ import annotations

from pydantic import Field, field_validator

from mcsp.options import Options


class SweepOptions(Options):
    scratch: bool = Field(True, description="No pre-training at all")
    scope: bool = Field(True, description="Pre-training in the other scope: inductive and transductive side by side")
    tfc: bool = Field(True, description="TF-C-like pre-training: temporal and spectral domain, nothing between modalities")
    losses: bool = Field(True, description="Each loss term left out")
    domains: bool = Field(True, description="Each domain left out, and alone")
    modalities: bool = Field(True, description="Each modality alone")
    corpus: bool = Field(
        True,
        description="Pre-training without each dataset, and on each alone; not with splits.protocol leave-one-dataset-out, "
        "whose folds may have nobody else to learn from",
    )
    subject_shares: list[float] = Field([0.25, 0.5], description="Shares of the training subjects that pre-training sees")
    segment_samples: list[int] = Field(
        [50, 100, 200, 400, 800], description="Samples per EEG segment; the number of segments follows, the total length stays"
    )

    @field_validator("subject_shares")
    @classmethod
    def _shares(cls, value: list[float]) -> list[float]:
        if any(not 0 < share < 1 for share in value) or len({round(100 * share) for share in value}) < len(value):
            raise ValueError("give shares between 0 and 1 that differ by a hundredth or more")
        return value

    @field_validator("segment_samples")
    @classmethod
    def _samples(cls, value: list[int]) -> list[int]:
        if any(samples < 16 for samples in value) or len(set(value)) < len(value):
            raise ValueError("give different numbers of 16 or more")
        return value
