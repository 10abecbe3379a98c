rule ingest_shard:
    """Who is in one shard of a dataset, with labels, files and exclusions."""
    input:
        lambda wildcards: PLAN.manifest(wildcards.dataset),
    output:
        subjects=R / "ingest/{dataset}/shard-{shard}.subjects.parquet",
        recordings=R / "ingest/{dataset}/shard-{shard}.recordings.parquet",
        status=R / "ingest/{dataset}/shard-{shard}.status.tsv",
    log:
        R / "logs/ingest/{dataset}_{shard}.log",
    benchmark:
        R / "benchmarks/ingest/{dataset}_{shard}.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(60),
    params:
        code=PLAN.code("ingest"),
        dataset=lambda wildcards: PLAN.dataset_options(wildcards.dataset),
        path=lambda wildcards: PLAN.dataset_path(wildcards.dataset),
        listing=lambda wildcards: PLAN.listing(wildcards.dataset, wildcards.shard),
        raw=lambda wildcards: PLAN.raw_flag(wildcards.dataset),
    message:
        "Ingesting {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "mcsp ingest {wildcards.dataset} --dataset {params.dataset:q} --path {params.path:q} --shard {wildcards.shard} {params.raw} "
        "--subjects {output.subjects:q} --recordings {output.recordings:q} --status {output.status:q} > {log:q} 2>&1"


rule ingest:
    """Target: the subject table of all datasets, and who is left out, as far as file lists tell."""
    input:
        subjects=PLAN.ingested("subjects.parquet"),
        recordings=PLAN.ingested("recordings.parquet"),
        status=PLAN.ingested("status.tsv"),
    output:
        cohort=R / "ingest/subjects.parquet",
        table=R / "ingest/subjects.tsv",
        exclusions=R / "ingest/exclusions.tsv",
    log:
        R / "logs/ingest/all.log",
    benchmark:
        R / "benchmarks/ingest/all.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        ingest=above("subjects", 2),
        code=PLAN.code("cohort"),
        shards=PLAN.shard_counts(),
    message:
        "Subject table of all datasets: {output.cohort}"
    shell:
        "mcsp cohort --shards {params.shards:q} --ingest {params.ingest:q} "
        "--out {output.cohort:q} --exclusions {output.exclusions:q} > {log:q} 2>&1"
