rule explain_task:
    """Attributions of the frozen classifiers, group maps, and the verdict on each method."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        models=lambda wildcards: PLAN.model_files(PLAN.finetuned(wildcards.task)),
    output:
        attributions=R / "explain/{task}/attributions.parquet",
        maps=R / "explain/{task}/maps.tsv",
        verdicts=report(
            R / "explain/{task}/verdicts.tsv",
            category="Biomarkers",
            labels={"task": "{task}", "view": "verdicts on the methods"},
            caption="../report/verdicts.rst",
        ),
    log:
        R / "logs/explain/{task}.log",
    benchmark:
        R / "benchmarks/explain/{task}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(8000),
        runtime=grow(240),
        gpu=1,
    params:
        stores=above("stores", 4),
        code=PLAN.code("explain"),
        options=PLAN.options("explain"),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        models=folders("models"),
        truth=[f"--truth={path}" for path in PLAN.truths()],
    message:
        "Explaining the classifiers of {wildcards.task}"
    shell:
        "mcsp explain {wildcards.task} --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --options {params.options:q} {params.truth:q} "
        "--attributions {output.attributions:q} --maps {output.maps:q} --verdicts {output.verdicts:q} "
        "--threads {threads} {params.models:q} > {log:q} 2>&1"


rule biomarkers_task:
    """What trusted maps name, with the raw feature in patients and controls, and whether EEG and fMRI agree."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        models=lambda wildcards: PLAN.model_files(PLAN.finetuned(wildcards.task)),
        maps=rules.explain_task.output.maps,
        verdicts=rules.explain_task.output.verdicts,
        validation=PLAN.validation_table(),
    output:
        biomarkers=R / "explain/{task}/biomarkers.tsv",
        trust=R / "explain/{task}/trust.tsv",
        agreement=R / "explain/{task}/agreement.tsv",
        text=R / "explain/{task}/biomarkers.txt",
    log:
        R / "logs/explain/{task}_biomarkers.log",
    benchmark:
        R / "benchmarks/explain/{task}_biomarkers.tsv"
    conda:
        ENVS / "validation.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(60),
    params:
        stores=above("stores", 4),
        code=PLAN.code("biomarkers"),
        options=PLAN.options("explain"),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        models=folders("models"),
        out=subpath(output.biomarkers, parent=True),
    message:
        "Biomarkers of {wildcards.task}"
    shell:
        "mcsp biomarkers {wildcards.task} --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --options {params.options:q} --maps {input.maps:q} --verdicts {input.verdicts:q} "
        "--out {params.out:q} --threads {threads} {params.models:q} > {log:q} 2>&1"


rule shapley_task:
    """Shapley values of the tabular rivals, beside the model's saliency."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        maps=rules.explain_task.output.maps,
    output:
        values=R / "explain/{task}/shapley.tsv",
        agreement=R / "explain/{task}/shapley_agreement.tsv",
    log:
        R / "logs/explain/{task}_shapley.log",
    benchmark:
        R / "benchmarks/explain/{task}_shapley.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(120),
    params:
        stores=above("stores", 4),
        code=PLAN.code("shapley"),
        options=PLAN.options("explain"),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        rivals=PLAN.shapley_rivals(),
    message:
        "Shapley values of {wildcards.task}"
    shell:
        "mcsp shapley {params.rivals:q} --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --options {params.options:q} --maps {input.maps:q} --values {output.values:q} "
        "--agreement {output.agreement:q} > {log:q} 2>&1"


rule explain:
    """Target: attributions, group maps, verdicts, biomarkers and Shapley values of all tasks."""
    input:
        [R / f"explain/{task}/verdicts.tsv" for task in STUDY.tasks],
        [R / f"explain/{task}/biomarkers.tsv" for task in STUDY.tasks],
        [R / f"explain/{task}/shapley.tsv" for task in STUDY.tasks if PLAN.shapley_rivals()],
