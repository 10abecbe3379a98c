rule atlas:
    """Regions of the study: names, networks, coordinates, and the label image for voxel data."""
    output:
        **PLAN.atlas,
    log:
        R / "logs/atlas/atlas.log",
    benchmark:
        R / "benchmarks/atlas/atlas.tsv"
    conda:
        ENVS / "fmri.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(30),
    params:
        code=PLAN.code("atlas"),
        options=lambda wildcards: PLAN.options("atlas"),
    message:
        "Atlas {STUDY.atlas.name}"
    shell:
        "mcsp atlas --options {params.options:q} --out {output.table:q} > {log:q} 2>&1"
