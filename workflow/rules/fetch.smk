rule fetch_dataset:
    """Download a public dataset as the study says. What is there and unchanged is not fetched again."""
    output:
        R / "fetch/{dataset}.tsv",
    log:
        R / "logs/fetch/{dataset}.log",
    benchmark:
        R / "benchmarks/fetch/{dataset}.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 8
    resources:
        mem_mb=grow(1000),
        runtime=grow(2880),
    params:
        code=PLAN.code("fetch"),
        options=lambda wildcards: PLAN.fetch_options(wildcards.dataset),
        path=lambda wildcards: PLAN.dataset_path(wildcards.dataset),
    message:
        "Fetching {wildcards.dataset}"
    shell:
        "mcsp fetch {wildcards.dataset} --options {params.options:q} --path {params.path:q} --out {output:q} "
        "--threads {threads} 2>&1 | tee {log:q}"


rule fetch:
    """Target: download the study's public datasets, and say what must be obtained by hand."""
    input:
        [R / f"fetch/{name}.tsv" for name in PLAN.fetched],


localrules:
    fetch_dataset,
