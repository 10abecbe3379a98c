rule fmri_shard:
    """Average BOLD within the parcels, denoise, and write one shard of the temporal store."""
    input:
        **PLAN.atlas,
        recordings=lambda wildcards: PLAN.fmri_recordings(wildcards.dataset, wildcards.shard),
    output:
        store=R / "store/{dataset}/fmri/temporal/shard-{shard}.arrow",
        status=R / "status/{dataset}/fmri/shard-{shard}.tsv",
        runs=R / "status/{dataset}/fmri/shard-{shard}.runs.tsv",
    log:
        R / "logs/fmri/{dataset}_{shard}.log",
    benchmark:
        R / "benchmarks/fmri/{dataset}_{shard}.tsv"
    conda:
        ENVS / "fmri.yaml"
    threads: 2
    resources:
        mem_mb=grow(2500),
        runtime=grow(240),
    params:
        code=PLAN.code("fmri"),
        options=PLAN.options("fmri"),
    message:
        "fMRI series of {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "mcsp fmri --dataset {wildcards.dataset} --recordings {input.recordings:q} --atlas {input.table:q} --options {params.options:q} "
        "--store {output.store:q} --status {output.status:q} --runs {output.runs:q} --threads {threads} > {log:q} 2>&1"


rule fmri:
    """Target: the temporal stores of fmri."""
    input:
        PLAN.stores("temporal", modality="fmri"),
