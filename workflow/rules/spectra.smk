rule spectra_shard:
    """Amplitude spectra of regions or channels of one shard, from its temporal store."""
    input:
        R / "store/{dataset}/{modality}/temporal/shard-{shard}.arrow",
    output:
        store=R / "store/{dataset}/{modality}/spectral/shard-{shard}.arrow",
        status=R / "status/{dataset}/spectra-{modality}/shard-{shard}.tsv",
    log:
        R / "logs/spectra/{dataset}_{modality}_{shard}.log",
    benchmark:
        R / "benchmarks/spectra/{dataset}_{modality}_{shard}.tsv"
    conda:
        ENVS / "eeg.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(60),
    params:
        code=PLAN.code("spectra"),
        options=PLAN.options("spectra"),
    message:
        "Spectra of {wildcards.modality}, {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "mcsp spectra --dataset {wildcards.dataset} --modality {wildcards.modality} --temporal {input:q} "
        "--options {params.options:q} --store {output.store:q} --status {output.status:q} --threads {threads} > {log:q} 2>&1"


rule spectra:
    """Target: the spectral stores."""
    input:
        PLAN.stores("spectral"),
