"""mcsp: from BIDS recordings of fMRI and EEG to a report. One study is one file in config/studies."""

import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from mcsp.errors import McspError
from mcsp.figures.catalogue import ALL as ALL_FIGURES
from mcsp.workflow import Plan, check_container, check_writable, study_of

min_version("9.10")


configfile: "config/config.yaml"


try:
    STUDY, SOURCE = study_of(config, Path(workflow.basedir) / "config/studies/demo.yaml", workflow.configfiles)
    PLAN = Plan(STUDY)
    IMAGE = (
        check_container(STUDY) if DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method else None
    )
    check_writable(Path(".snakemake"), PLAN.root)
except McspError as error:
    raise WorkflowError(str(error)) from None

R = PLAN.root
ENVS = Path(workflow.basedir) / "envs"
BASE = Path(workflow.basedir)


report: "workflow/report/workflow.rst"


container: IMAGE


include: "workflow/rules/common.smk"
include: "workflow/rules/atlas.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/fmri.smk"
include: "workflow/rules/eeg.smk"
include: "workflow/rules/connectivity.smk"
include: "workflow/rules/spectra.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/validation.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/controls.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/card.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/predict.smk"


rule all:
    default_target: True
    input:
        rules.predict.output if STUDY.predict.model else [rules.page.output, rules.report.output],
