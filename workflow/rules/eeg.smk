rule eeg_shard:
    """Filter EEG, map it to the montage, cut it into segments, and write one shard of the temporal store."""
    input:
        recordings=R / "ingest/{dataset}/shard-{shard}.recordings.parquet",
    output:
        store=R / "store/{dataset}/eeg/temporal/shard-{shard}.arrow",
        status=R / "status/{dataset}/eeg/shard-{shard}.tsv",
        runs=R / "status/{dataset}/eeg/shard-{shard}.runs.tsv",
    log:
        R / "logs/eeg/{dataset}_{shard}.log",
    benchmark:
        R / "benchmarks/eeg/{dataset}_{shard}.tsv"
    conda:
        ENVS / "eeg.yaml"
    threads: 2
    resources:
        mem_mb=grow(3000),
        runtime=grow(240),
    params:
        code=PLAN.code("eeg"),
        options=PLAN.options("eeg"),
    message:
        "EEG segments of {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "mcsp eeg --dataset {wildcards.dataset} --recordings {input.recordings:q} --options {params.options:q} "
        "--store {output.store:q} --status {output.status:q} --runs {output.runs:q} --threads {threads} > {log:q} 2>&1"


rule eeg:
    """Target: the temporal stores of eeg."""
    input:
        PLAN.stores("temporal", modality="eeg"),
