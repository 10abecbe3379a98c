rule rival_task:
    """One rival on the same folds."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        counts=rules.task_counts.output,
    output:
        R / "evaluate/{task}/rivals/{rival}.parquet",
    log:
        R / "logs/evaluate/{task}_{rival}.log",
    benchmark:
        R / "benchmarks/evaluate/{task}_{rival}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(6000),
        runtime=grow(240),
    params:
        stores=above("stores", 4),
        code=PLAN.code("rival"),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        modalities=[f"--modality={modality}" for modality in STUDY.pretrain.model.modalities],
        seed=STUDY.evaluate.seed,
    message:
        "Rival {wildcards.rival} for {wildcards.task}"
    shell:
        "mcsp rival {wildcards.rival} --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} {params.modalities:q} --seed {params.seed:q} --out {output:q} > {log:q} 2>&1"


rule evaluate_task:
    """Open the test subjects once: frozen classifiers and rivals on the same folds."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        rivals=lambda wildcards: PLAN.rivals(wildcards.task),
        models=lambda wildcards: PLAN.model_files(PLAN.finetuned(wildcards.task)),
    output:
        predictions=R / "evaluate/{task}/predictions.parquet",
        metrics=report(
            R / "evaluate/{task}/metrics.tsv",
            category="Performance",
            labels={"task": "{task}", "table": "metrics with intervals"},
            caption="../report/metrics.rst",
        ),
        comparisons=report(
            R / "evaluate/{task}/comparisons.tsv",
            category="Performance",
            labels={"task": "{task}", "table": "paired comparisons"},
            caption="../report/comparisons.rst",
        ),
        harmonisation=R / "evaluate/{task}/harmonisation.tsv",
        validation=R / "evaluate/{task}/validation.parquet",
        dropout=R / "evaluate/{task}/dropout.parquet",
    log:
        R / "logs/evaluate/{task}.log",
    benchmark:
        R / "benchmarks/evaluate/{task}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(6000),
        runtime=grow(120),
    params:
        stores=above("stores", 4),
        code=PLAN.code("evaluate"),
        options=PLAN.evaluate_options(),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        models=folders("models"),
        rivals=lambda wildcards, input: [f"--rival={path}" for path in input.rivals],
    message:
        "Evaluating {wildcards.task} on test subjects, beside its rivals"
    shell:
        "mcsp evaluate {wildcards.task} --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --options {params.options:q} --predictions {output.predictions:q} --metrics {output.metrics:q} "
        "--comparisons {output.comparisons:q} --harmonisation {output.harmonisation:q} "
        "--validation {output.validation:q} --dropout {output.dropout:q} --threads {threads} "
        "{params.rivals:q} {params.models:q} > {log:q} 2>&1"


rule statistics_task:
    """Calibration, uncertainty, subgroups and all pairs of methods, from what evaluation wrote."""
    input:
        predictions=rules.evaluate_task.output.predictions,
        validation=rules.evaluate_task.output.validation,
        dropout=rules.evaluate_task.output.dropout,
        cohort=rules.cohort.output.cohort,
    output:
        calibration=report(
            R / "evaluate/{task}/calibration.tsv",
            category="Performance",
            labels={"task": "{task}", "table": "calibration"},
            caption="../report/calibration_table.rst",
        ),
        subgroups=report(
            R / "evaluate/{task}/subgroups.tsv",
            category="Performance",
            labels={"task": "{task}", "table": "subgroups"},
            caption="../report/subgroups.rst",
        ),
        others=[
            R / f"evaluate/{{task}}/{name}.tsv"
            for name in ("temperatures", "reliability", "uncertainty", "selective", "gaps", "pairs")
        ],
    log:
        R / "logs/statistics/{task}.log",
    benchmark:
        R / "benchmarks/statistics/{task}.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(120),
    params:
        code=PLAN.code("statistics"),
        options=PLAN.evaluate_options(),
        out=subpath(output.calibration, parent=True),
    message:
        "Calibration, uncertainty and subgroups of {wildcards.task}"
    shell:
        "mcsp statistics {wildcards.task} --predictions {input.predictions:q} --validation {input.validation:q} "
        "--dropout {input.dropout:q} --cohort {input.cohort:q} --options {params.options:q} --out {params.out:q} > {log:q} 2>&1"


rule evaluate_other:
    """Open the test subjects once for a task with several classes or a number, a sanity check."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        models=lambda wildcards: PLAN.model_files(PLAN.finetuned(wildcards.task)),
    output:
        predictions=R / "other/{task}/predictions.parquet",
        metrics=report(
            R / "other/{task}/metrics.tsv",
            category="Performance",
            labels={"task": "{task}", "table": "metrics with intervals"},
            caption="../report/other_metrics.rst",
        ),
        comparisons=R / "other/{task}/comparisons.tsv",
        confusion=report(
            R / "other/{task}/confusion.tsv",
            category="Performance",
            labels={"task": "{task}", "table": "truth and answers"},
            caption="../report/other_confusion.rst",
        ),
    log:
        R / "logs/other/{task}.log",
    benchmark:
        R / "benchmarks/other/{task}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(6000),
        runtime=grow(120),
    params:
        stores=above("stores", 4),
        code=PLAN.code("evaluate_other"),
        options=PLAN.evaluate_options(),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        models=folders("models"),
    message:
        "Evaluating {wildcards.task} on test subjects, beside its rivals"
    shell:
        "mcsp evaluate-other {wildcards.task} --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --options {params.options:q} --predictions {output.predictions:q} --metrics {output.metrics:q} "
        "--comparisons {output.comparisons:q} --confusion {output.confusion:q} --threads {threads} {params.models:q} > {log:q} 2>&1"


rule evaluate:
    """Target: metrics of all tasks in one table; those of other tasks in theirs."""
    input:
        others=[R / f"other/{task}/metrics.tsv" for task in STUDY.other_tasks],
        metrics=[R / f"evaluate/{task}/metrics.tsv" for task in STUDY.tasks],
        comparisons=[R / f"evaluate/{task}/comparisons.tsv" for task in STUDY.tasks],
        statistics=[R / f"evaluate/{task}/calibration.tsv" for task in STUDY.tasks],
    output:
        report(
            R / "evaluate/summary.tsv",
            category="Performance",
            labels={"task": "all", "table": "summary"},
            caption="../report/summary.rst",
        ),
    log:
        R / "logs/evaluate/all.log",
    benchmark:
        R / "benchmarks/evaluate/all.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1000),
        runtime=grow(10),
    params:
        code=PLAN.code("summary"),
    message:
        "Metrics of all tasks: {output}"
    shell:
        "mcsp summary --out {output:q} {input.metrics:q} > {log:q} 2>&1"
