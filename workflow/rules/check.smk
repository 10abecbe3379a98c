rule check:
    """Target: read headers, sidecars and pairing of every input; forecast disk, files and time."""
    input:
        [manifest for name in STUDY.datasets for manifest in PLAN.manifest(name)],
    output:
        report=R / "check/problems.tsv",
        forecast=R / "check/forecast.tsv",
    log:
        R / "logs/check/check.log",
    benchmark:
        R / "benchmarks/check/check.tsv"
    conda:
        ENVS / "eeg.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(60),
    params:
        code=PLAN.code("check"),
        study=lambda wildcards: PLAN.check_options(),
        listing=lambda wildcards: [PLAN.listing(name, shard) for name, shard in PLAN.shards],
    message:
        "Checking headers, sidecars and pairing of every input"
    shell:
        "mcsp check --inputs {params.study:q} --report {output.report:q} --forecast {output.forecast:q} 2>&1 | tee {log:q}"


rule prefetch:
    """Target: download everything that a later stage would, for clusters whose nodes have no network."""
    output:
        R / "prefetch/downloads.tsv",
    log:
        R / "logs/prefetch/prefetch.log",
    benchmark:
        R / "benchmarks/prefetch/prefetch.tsv"
    conda:
        ENVS / "fmri.yaml"
    threads: 1
    resources:
        mem_mb=grow(1000),
        runtime=grow(60),
    params:
        code=PLAN.code("prefetch"),
        options=lambda wildcards: PLAN.options("atlas"),
    message:
        "Downloading what later stages need"
    shell:
        "mcsp prefetch --options {params.options:q} --out {output:q} 2>&1 | tee {log:q}"


localrules:
    prefetch,
