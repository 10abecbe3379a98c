"""fMRIPrep in a container: from raw BIDS to preprocessed BOLD."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mcsp.options import Options

SPACE = r"[A-Za-z0-9]+(:(res|cohort|den)-[A-Za-z0-9]+)*"
SURFACES = {"fsaverage", "fsaverage3", "fsaverage4", "fsaverage5", "fsaverage6", "fsLR", "fsnative"}
NATIVE = {"T1w", "T2w", "anat", "func", "bold", "boldref", "sbref", "run"}
# What fmriprep_command sets: (fMRIPrep's spelling -> where a study file sets it).
SET_ELSEWHERE = {
    "--participant-label": "mcsp runs each subject by itself",
    "--participant_label": "mcsp runs each subject by itself",
    "--output-layout": "mcsp reads the bids layout",
    "--output-spaces": "output_spaces",
    "--work-dir": "work_dir",
    "-w": "work_dir",
    "--fs-license-file": "fs_license",
    "--fs-no-reconall": "fs_no_reconall",
    "--bids-filter-file": "bids_filter_file",
    "--bids-database-dir": "with it each run indexes the whole dataset instead of its own subject",
    "--random-seed": "seed",
}


class FmriprepOptions(Options):
    container: Literal["docker", "apptainer"] = Field(
        "docker", description="docker (through fmriprep-docker) or apptainer, which also stands for Singularity"
    )
    executable: str | None = Field(
        None, description="apptainer: name or path of the program; default: apptainer, else singularity"
    )
    version: str = Field("25.2.7", pattern=r"^\d+\.\d+\.\d+(rc\d+)?$", description="Version of fMRIPrep: the tag of its image")
    image: str | None = Field(
        None,
        description="Image in place of nipreps/fmriprep:<version>; apptainer: path of a .sif or a docker:// address. "
        "A .sif spares the conversion, and works without a network",
    )
    fs_license: str | None = Field(
        None,
        description="FreeSurfer licence file (free, surfer.nmr.mgh.harvard.edu/registration.html); fMRIPrep needs it even "
        "without FreeSurfer's reconstruction; default: $FS_LICENSE",
    )
    fs_no_reconall: bool = Field(
        True,
        description="No FreeSurfer surfaces, which take hours per subject and which parcellation of volumes does not read; "
        "BOLD is then registered to the T1w image without surface boundaries",
    )
    output_spaces: list[str] = Field(
        ["MNI152NLin2009cAsym:res-2"],
        min_length=1,
        description="Spaces of the results, at least one a standard volume, as the parcellation needs",
    )
    work_dir: str | None = Field(
        None,
        description="Directory of intermediate files, outside the dataset, on a fast disk: several GB per subject, "
        "removed when the subject is done; ~ and variables like $TMPDIR mean what they are in the job; default: "
        "beside the output",
    )
    templateflow_home: str | None = Field(
        None, description="apptainer: TemplateFlow directory, for templates that the image lacks; default: the image's own"
    )
    bids_filter_file: str | None = Field(None, description="JSON that chooses input files, e.g. one task (fMRIPrep's FAQ)")
    skip_bids_validation: bool = Field(
        True,
        description="Skip fMRIPrep's own validation of the dataset, which it repeats for each subject",
    )
    threads: PositiveInt = Field(8, description="Cores for a subject; a shard's subjects are run one after the other")
    mem_mb: PositiveInt = Field(16000, description="Memory for a subject, MB; grows when a job is tried again")
    seed: int = Field(0, ge=0, description="Random seed; equal bits also need extra_args: [--omp-nthreads, '1']")
    timeout_hours: PositiveFloat = Field(48, description="A subject that takes longer is stopped and excluded")
    extra_args: list[str] = Field(
        [], description="Further arguments of fMRIPrep, word by word, e.g. [--dummy-scans, '4', --ignore, fieldmaps]"
    )

    @model_validator(mode="after")
    def _check(self) -> FmriprepOptions:
        for name in ("executable", "templateflow_home"):
            if self.container == "docker" and getattr(self, name) is not None:
                raise ValueError(f"{name} is for container: apptainer; fmriprep-docker has no such setting")
        for space in self.output_spaces:
            if not re.fullmatch(SPACE, space):
                raise ValueError(f"output space {space!r}: write a template and its modifiers, e.g. MNI152NLin2009cAsym:res-2")
        if not volumes(self):
            raise ValueError(f"output_spaces {self.output_spaces}: add a standard volume, e.g. MNI152NLin2009cAsym:res-2")
        if self.extra_args and not self.extra_args[0].startswith("-"):
            raise ValueError(f"extra_args: {self.extra_args[0]!r} belongs to no option")
        for argument in self.extra_args:
            if (name := argument.split("=")[0]) in SET_ELSEWHERE:
                raise ValueError(f"extra_args: {name} can't stand here: {SET_ELSEWHERE[name]}")
        return self


def volumes(options: FmriprepOptions) -> list[str]:
    """Names of the standard volumetric spaces among the output spaces, without modifiers."""
    names = (space.split(":")[0] for space in options.output_spaces)
    return [name for name in dict.fromkeys(names) if name not in SURFACES | NATIVE]
