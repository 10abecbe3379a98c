rule connectivity_shard:
    """Correlations between regions or channels of one shard, from its temporal store."""
    input:
        R / "store/{dataset}/{modality}/temporal/shard-{shard}.arrow",
    output:
        store=R / "store/{dataset}/{modality}/spatial/shard-{shard}.arrow",
        status=R / "status/{dataset}/connectivity-{modality}/shard-{shard}.tsv",
    log:
        R / "logs/connectivity/{dataset}_{modality}_{shard}.log",
    benchmark:
        R / "benchmarks/connectivity/{dataset}_{modality}_{shard}.tsv"
    conda:
        ENVS / "eeg.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(60),
    params:
        code=PLAN.code("connectivity"),
        options=PLAN.options("connectivity"),
    message:
        "Connectivity of {wildcards.modality}, {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "mcsp connectivity --dataset {wildcards.dataset} --modality {wildcards.modality} --temporal {input:q} "
        "--options {params.options:q} --store {output.store:q} --status {output.status:q} --threads {threads} > {log:q} 2>&1"


rule connectivity:
    """Target: the spatial stores."""
    input:
        PLAN.stores("spatial"),
