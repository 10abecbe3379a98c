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


rule explain:
    """Target: attributions, group maps and verdicts of all tasks."""
    input:
        [R / f"explain/{task}/verdicts.tsv" for task in STUDY.tasks],
