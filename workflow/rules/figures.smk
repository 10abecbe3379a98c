rule figure_cohort:
    """Who is in the study, and who is not and why."""
    input:
        cohort=rules.cohort.output.cohort,
        exclusions=rules.cohort.output.exclusions,
    output:
        **figure("cohort", "Cohort", "cohort", view="subjects and exclusions"),
    log:
        R / "logs/figures/cohort.log",
    benchmark:
        R / "benchmarks/figures/cohort.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_cohort"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure cohort --cohort {input.cohort:q} --exclusions {input.exclusions:q} "
        "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_training:
    """Loss terms of pre-training over epochs."""
    input:
        histories=[PLAN.pretrained(fold) / "history.tsv" for fold in PLAN.folds],
    output:
        **figure("training", "Training", "training", view="pre-training losses"),
    log:
        R / "logs/figures/training.log",
    benchmark:
        R / "benchmarks/figures/training.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_training"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure training {input.histories:q} " "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_embeddings:
    """Test subjects in the space of the encoders, before and after pre-training."""
    input:
        embeddings=rules.pretrain.output.embeddings,
        cohort=rules.cohort.output.cohort,
    output:
        **figure("embeddings", "Training", "embeddings", view="embeddings by label and site"),
    log:
        R / "logs/figures/embeddings.log",
    benchmark:
        R / "benchmarks/figures/embeddings.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_embeddings"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure embeddings --embeddings {input.embeddings:q} --cohort {input.cohort:q} "
        "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_performance:
    """MCSP beside its rivals, with intervals."""
    input:
        metrics=rules.evaluate.input.metrics,
    output:
        **figure("performance", "Performance", "performance", task="all", table="figure"),
    log:
        R / "logs/figures/performance.log",
    benchmark:
        R / "benchmarks/figures/performance.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_performance"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure performance {input.metrics:q} " "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_curves:
    """ROC, precision-recall, calibration and confusion."""
    input:
        predictions=rules.evaluate_task.output.predictions,
    output:
        **figure("curves-{task}", "Performance", "curves", task="{task}", table="curves"),
    log:
        R / "logs/figures/curves-{task}.log",
    benchmark:
        R / "benchmarks/figures/curves-{task}.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_curves"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure curves --task {wildcards.task} --predictions {input.predictions:q} "
        "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_calibration:
    """Reliability before and after the temperature; calibration error of all methods."""
    input:
        calibration=R / "evaluate/{task}/calibration.tsv",
        reliability=R / "evaluate/{task}/reliability.tsv",
    output:
        **figure("calibration-{task}", "Performance", "calibration", task="{task}", table="calibration figure"),
    log:
        R / "logs/figures/calibration-{task}.log",
    benchmark:
        R / "benchmarks/figures/calibration-{task}.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_calibration"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure calibration --task {wildcards.task} --calibration {input.calibration:q} "
        "--reliability {input.reliability:q} --options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_selective:
    """Risk over coverage: errors when only the most certain subjects are decided on."""
    input:
        uncertainty=R / "evaluate/{task}/uncertainty.tsv",
        selective=R / "evaluate/{task}/selective.tsv",
    output:
        **figure("selective-{task}", "Performance", "selective", task="{task}", table="risk over coverage"),
    log:
        R / "logs/figures/selective-{task}.log",
    benchmark:
        R / "benchmarks/figures/selective-{task}.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_selective"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure selective --task {wildcards.task} --uncertainty {input.uncertainty:q} "
        "--selective {input.selective:q} --options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_fmri_map:
    """Model-relevant regions and connections on a glass brain."""
    input:
        maps=rules.explain_task.output.maps,
        verdicts=rules.explain_task.output.verdicts,
        atlas=rules.atlas.output.table,
    output:
        **figure("fmri-map-{task}", "Biomarkers", "fmri_map", task="{task}", view="fMRI map"),
    log:
        R / "logs/figures/fmri-map-{task}.log",
    benchmark:
        R / "benchmarks/figures/fmri-map-{task}.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_fmri_map"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure fmri-map --task {wildcards.task} --maps {input.maps:q} --verdicts {input.verdicts:q} --atlas {input.atlas:q} "
        "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figure_eeg_topography:
    """Model-relevant channels per band."""
    input:
        maps=rules.explain_task.output.maps,
        verdicts=rules.explain_task.output.verdicts,
    output:
        **figure("eeg-topography-{task}", "Biomarkers", "eeg_topography", task="{task}", view="EEG topographies"),
    log:
        R / "logs/figures/eeg-topography-{task}.log",
    benchmark:
        R / "benchmarks/figures/eeg-topography-{task}.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_eeg_topography"),
        options=lambda wildcards: PLAN.figure_options(),
        stem=subpath(output.svg, strip_suffix=".svg"),
    message:
        "Figure {output.svg}"
    shell:
        "mcsp figure eeg-topography --task {wildcards.task} --maps {input.maps:q} --verdicts {input.verdicts:q} "
        "--options {params.options:q} --out {params.stem:q} > {log:q} 2>&1"


rule figures:
    """Target: every figure."""
    input:
        [f"{stem}.svg" for stem in PLAN.figures()],
