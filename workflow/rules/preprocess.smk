rule preprocess_shard:
    """Preprocess the raw BOLD of one shard; where there is none, nothing happens. What was made before is kept."""
    input:
        recordings=R / "ingest/{dataset}/shard-{shard}.recordings.parquet",
    output:
        recordings=R / "preprocess/{dataset}/shard-{shard}.recordings.parquet",
        status=R / "status/{dataset}/preprocess/shard-{shard}.tsv",
    log:
        R / "logs/preprocess/{dataset}_{shard}.log",
    benchmark:
        R / "benchmarks/preprocess/{dataset}_{shard}.tsv"
    conda:
        ENVS / "preprocess.yaml"
    container:
        None if STUDY.preprocess == "fmriprep" else IMAGE
    threads: PLAN.preprocess_threads
    resources:
        mem_mb=grow(PLAN.preprocess_mem_mb),
        runtime=grow(2880),
    params:
        code=PLAN.code("preprocess"),
        route=STUDY.preprocess,
        options=lambda wildcards: PLAN.preprocess_options(),
        bids=lambda wildcards: PLAN.dataset_path(wildcards.dataset),
        derivatives=lambda wildcards: PLAN.derivatives(wildcards.dataset),
        note=lambda wildcards: PLAN.simulated_note(wildcards.dataset),
    message:
        "Preprocessing raw BOLD of {wildcards.dataset}, shard {wildcards.shard} ({STUDY.preprocess})"
    shell:
        "mcsp preprocess --dataset {wildcards.dataset} --recordings {input.recordings:q} --route {params.route} "
        "--options {params.options:q} --bids-dir {params.bids:q} --derivatives {params.derivatives:q} --out {output.recordings:q} "
        "--status {output.status:q} --note {params.note:q} --mem-mb {resources.mem_mb} --threads {threads} > {log:q} 2>&1"


rule preprocess:
    """Target: preprocessed BOLD of everybody whose BOLD is raw."""
    input:
        PLAN.preprocessed(),
