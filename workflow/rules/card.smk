rule card_pretrain:
    """Model card of the pre-trained encoders: data, folds, losses, limits, how to load."""
    input:
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        histories=PLAN.model_files([PLAN.pretrained(fold) for fold in PLAN.folds], "history.tsv"),
    output:
        report(
            R / "pretrain/model_card.md",
            category="Models",
            labels={"model": "pre-trained", "view": "model card"},
            caption="../report/card.rst",
        ),
    log:
        R / "logs/card/pretrain.log",
    benchmark:
        R / "benchmarks/card/pretrain.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1000),
        runtime=grow(10),
    params:
        code=PLAN.code("card"),
        about=lambda wildcards: PLAN.about,
        models=folders("histories"),
    message:
        "Model card: {output}"
    shell:
        "mcsp card --cohort {input.cohort:q} --splits {input.splits[0]:q} --about {params.about:q} --out {output:q} "
        "{params.models:q} > {log:q} 2>&1"


rule card_task:
    """Model card of a task's classifiers, with the metrics of their test subjects."""
    input:
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        histories=lambda wildcards: PLAN.model_files(PLAN.finetuned(wildcards.task), "history.tsv"),
        metrics=R / "evaluate/{task}/metrics.tsv",
        comparisons=R / "evaluate/{task}/comparisons.tsv",
    output:
        report(
            R / "finetune/{task}/model_card.md",
            category="Models",
            labels={"model": "{task}", "view": "model card"},
            caption="../report/card.rst",
        ),
    log:
        R / "logs/card/{task}.log",
    benchmark:
        R / "benchmarks/card/{task}.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1000),
        runtime=grow(10),
    params:
        code=PLAN.code("card"),
        about=lambda wildcards: PLAN.about,
        models=folders("histories"),
    message:
        "Model card: {output}"
    shell:
        "mcsp card --task {wildcards.task} --cohort {input.cohort:q} --splits {input.splits[0]:q} --about {params.about:q} "
        "--metrics {input.metrics:q} --comparisons {input.comparisons:q} --out {output:q} {params.models:q} > {log:q} 2>&1"


rule cards:
    """Target: the model cards."""
    input:
        PLAN.cards(),
