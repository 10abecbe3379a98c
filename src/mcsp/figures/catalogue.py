"""All kinds of figures: what each is drawn from, and which are drawn together. Nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of figure. Its module is `mcsp.figures.<name>` ('-' as '_'), whose `run` takes the `files` (keys of
    `Plan.figure_files`), `out` and `options`, and of a figure per task `task_name`.
    """

    group: str  # drawn in one job: what takes seconds is to import the libraries
    section: str  # of our report
    files: tuple[str, ...]
    category: str  # where Snakemake's report shows it, and under which name
    view: str
    per_task: bool = False
    modality: str | None = None  # only in studies that have it


KINDS = {
    "cohort": Kind("cohort", "cohort", ("cohort", "exclusions"), "Cohort", "subjects and exclusions"),
    "flow": Kind("cohort", "cohort", ("cohort", "exclusions", "counts"), "Cohort", "flow of subjects"),
    "characteristics": Kind("cohort", "cohort", ("cohort",), "Cohort", "characteristics by group"),
    "sites": Kind("cohort", "quality", ("cohort",), "Cohort", "age, sex and motion by site"),
    "architecture": Kind("training", "training", ("model", "classifier"), "Training", "the model with its tensors' shapes"),
    "training": Kind("training", "training", ("histories",), "Training", "pre-training losses"),
    "embeddings": Kind("training", "training", ("embeddings", "cohort"), "Training", "embeddings by label, site and modality"),
    "retrieval": Kind("training", "training", ("embeddings", "ranks"), "Training", "which EEG belongs to which fMRI"),
    "performance": Kind("performance", "performance", ("metrics",), "Performance", "figure"),
    "curves": Kind("statistics", "performance", ("predictions",), "Performance", "curves", per_task=True),
    "calibration": Kind(
        "statistics", "calibration", ("calibration", "reliability"), "Performance", "calibration figure", per_task=True
    ),
    "selective": Kind(
        "statistics", "uncertainty", ("uncertainty", "selective"), "Performance", "risk over coverage", per_task=True
    ),
    "fmri-map": Kind("fmri", "maps", ("maps", "trust", "atlas"), "Biomarkers", "glass brain", per_task=True, modality="fmri"),
    "surface": Kind(
        "fmri", "maps", ("maps", "trust", "atlas"), "Biomarkers", "cortical surface", per_task=True, modality="fmri"
    ),
    "chord": Kind("fmri", "maps", ("maps", "trust", "atlas"), "Biomarkers", "networks", per_task=True, modality="fmri"),
    "eeg-topography": Kind("eeg", "maps", ("maps", "trust"), "Biomarkers", "EEG topographies", per_task=True, modality="eeg"),
    "eeg-spectra": Kind(
        "eeg", "maps", ("maps", "trust", "predictions", "spectra"), "Biomarkers", "EEG spectra", per_task=True, modality="eeg"
    ),
    "verdicts": Kind("verdicts", "validation", ("all_verdicts",), "Biomarkers", "verdicts on all methods"),
}
# Of results that a study need not have: targets of their own, and among all figures once their table is there.
OPTIONAL = {
    "sweep": Kind("sweep", "sweep", ("variants", "variants_retrieval"), "Performance", "variants"),
    "segments": Kind("sweep", "sweep", ("variants", "model"), "Performance", "segment lengths"),
    "controls": Kind("controls", "controls", ("controls",), "Performance", "controls"),
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
