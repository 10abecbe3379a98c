rule simulate_dataset:
    """Write a simulated BIDS dataset with its planted truth."""
    input:
        **PLAN.atlas,
    output:
        data=directory(R / "bids/{dataset}"),
        manifest=R / "bids/{dataset}.manifest.tsv",
    log:
        R / "logs/simulate/{dataset}.log",
    benchmark:
        R / "benchmarks/simulate/{dataset}.tsv"
    conda:
        ENVS / "eeg.yaml"
    threads: 2
    resources:
        mem_mb=grow(3000),
        runtime=grow(60),
    params:
        code=PLAN.code("simulate"),
        dataset=lambda wildcards: PLAN.dataset_options(wildcards.dataset),
        options=PLAN.options("simulate"),
    message:
        "Simulating {wildcards.dataset}"
    shell:
        "mcsp simulate {wildcards.dataset} --dataset {params.dataset:q} --options {params.options:q} --atlas {input.table:q} "
        "--out {output.data:q} --manifest {output.manifest:q} --threads {threads} > {log:q} 2>&1"


rule simulate:
    """Target: all simulated datasets."""
    input:
        [R / f"bids/{name}.manifest.tsv" for name in PLAN.simulated],
