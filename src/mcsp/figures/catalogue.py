"""All kinds of figures: what each is drawn from, and which are drawn together. Nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of figure. Its module is `mcsp.figures.<name>` ('-' as '_'), whose `run` takes the `files` (keys of
    `Plan.figure_files`), `out` and `options`, and of a figure per task `task_name`.
    """

    group: str  # drawn in one job: what takes seconds is to import the libraries
    files: tuple[str, ...]
    category: str  # where Snakemake's report shows it, and under which name
    view: str
    per_task: bool = False
    modality: str | None = None  # only in studies that have it


KINDS = {
    "cohort": Kind("cohort", ("cohort", "exclusions"), "Cohort", "subjects and exclusions"),
    "flow": Kind("cohort", ("cohort", "exclusions", "counts"), "Cohort", "flow of subjects"),
    "characteristics": Kind("cohort", ("cohort",), "Cohort", "characteristics by group"),
    "sites": Kind("cohort", ("cohort",), "Cohort", "age, sex and motion by site"),
    "architecture": Kind("training", ("model", "classifier"), "Training", "the model with its tensors' shapes"),
    "training": Kind("training", ("histories",), "Training", "pre-training losses"),
    "embeddings": Kind("training", ("embeddings", "cohort"), "Training", "embeddings by label, site and modality"),
    "retrieval": Kind("training", ("embeddings",), "Training", "which EEG belongs to which fMRI"),
    "performance": Kind("performance", ("metrics",), "Performance", "figure"),
    "curves": Kind("statistics", ("predictions",), "Performance", "curves", per_task=True),
    "calibration": Kind("statistics", ("calibration", "reliability"), "Performance", "calibration figure", per_task=True),
    "selective": Kind("statistics", ("uncertainty", "selective"), "Performance", "risk over coverage", per_task=True),
    "fmri-map": Kind("fmri", ("maps", "verdicts", "atlas"), "Biomarkers", "glass brain", per_task=True, modality="fmri"),
    "surface": Kind("fmri", ("maps", "verdicts", "atlas"), "Biomarkers", "cortical surface", per_task=True, modality="fmri"),
    "chord": Kind("fmri", ("maps", "verdicts", "atlas"), "Biomarkers", "networks", per_task=True, modality="fmri"),
    "eeg-topography": Kind("eeg", ("maps", "verdicts"), "Biomarkers", "EEG topographies", per_task=True, modality="eeg"),
    "eeg-spectra": Kind(
        "eeg", ("maps", "verdicts", "predictions", "spectra"), "Biomarkers", "EEG spectra", per_task=True, modality="eeg"
    ),
    "verdicts": Kind("verdicts", ("all_verdicts",), "Biomarkers", "verdicts on all methods"),
}
# Of results that a study need not have: targets of their own, and among all figures once their table is there.
OPTIONAL = {
    "sweep": Kind("sweep", ("variants", "variants_retrieval"), "Performance", "variants"),
    "segments": Kind("sweep", ("variants", "model"), "Performance", "segment lengths"),
    "controls": Kind("controls", ("controls",), "Performance", "controls"),
}
ALL = {**KINDS, **OPTIONAL}
SEVERAL = ("counts", "classifier", "histories", "metrics", "all_verdicts", "spectra")  # what is a list of files


def module_of(kind: str) -> str:
    """The module that draws a kind of figure."""
    return f"mcsp.figures.{kind.replace('-', '_')}"


def groups() -> dict[str, list[str]]:
    """Group -> its kinds, of the figures that every study has."""
    found: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        found.setdefault(kind.group, []).append(name)
    return found
