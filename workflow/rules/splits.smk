rule duplicates:
    """Recordings that stand in the study twice under different names: a twin in training is a leak."""
    input:
        spatial=PLAN.stores("spatial"),
        temporal=PLAN.stores("temporal"),
    output:
        R / "cohort/duplicates.tsv",
    log:
        R / "logs/cohort/duplicates.log",
    benchmark:
        R / "benchmarks/cohort/duplicates.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(60),
    params:
        code=PLAN.code("duplicates"),
    message:
        "Recordings that stand twice, by their signals: {output}"
    shell:
        "mcsp duplicates --out {output:q} {input.spatial:q} > {log:q} 2>&1"


rule cohort:
    """Who is in the study after all exclusions, with which modalities."""
    input:
        subjects=PLAN.ingested("subjects.parquet"),
        recordings=PLAN.ingested("recordings.parquet"),
        ingest=PLAN.ingested("status.tsv"),
        status=PLAN.statuses(),
        runs=PLAN.runs(),
        stores=all_stores,
        duplicates=rules.duplicates.output,
        early=rules.ingest.output,
    output:
        cohort=R / "cohort/subjects.parquet",
        table=R / "cohort/subjects.tsv",
        exclusions=R / "cohort/exclusions.tsv",
    log:
        R / "logs/cohort/cohort.log",
    benchmark:
        R / "benchmarks/cohort/cohort.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        ingest=above("subjects", 2),
        statuses=above("status", 3),
        stages=[f"--stage={stage}" for stage in PLAN.status_stages()],
        code=PLAN.code("cohort"),
        shards=PLAN.shard_counts(),
    message:
        "Cohort after all exclusions"
    shell:
        "mcsp cohort --shards {params.shards:q} --ingest {params.ingest:q} --status {params.statuses:q} {params.stages:q} "
        "--duplicates {input.duplicates:q} --out {output.cohort:q} --exclusions {output.exclusions:q} > {log:q} 2>&1"


rule task_counts:
    """Cases and controls of a task; one with a single class stops here, while pre-training has hardly begun."""
    input:
        cohort=rules.cohort.output.cohort,
    output:
        R / "cohort/task-{task}.tsv",
    log:
        R / "logs/tasks/{task}.log",
    benchmark:
        R / "benchmarks/tasks/{task}.tsv"
    priority: 10
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        code=PLAN.code("tasks"),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
    message:
        "Cases and controls of {wildcards.task}"
    shell:
        "mcsp tasks {wildcards.task} --cohort {input.cohort:q} --task {params.task:q} --out {output:q} > {log:q} 2>&1"


rule splits:
    """Target: the frozen folds."""
    input:
        cohort=rules.cohort.output.cohort,
        exclusions=rules.cohort.output.exclusions,
        file=PLAN.split_file(),
    output:
        splits=R / "splits/splits.tsv",
        record=R / "splits/splits.json",
    log:
        R / "logs/splits/splits.log",
    benchmark:
        R / "benchmarks/splits/splits.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        code=PLAN.code("splits"),
        options=lambda wildcards: PLAN.options("splits"),
    message:
        "Folds: {STUDY.splits.protocol}"
    shell:
        "mcsp splits --cohort {input.cohort:q} --exclusions {input.exclusions:q} --options {params.options:q} "
        "--out {output.splits:q} > {log:q} 2>&1"
