rule tables:
    """Target: tables for a paper, each as TSV and as LaTeX."""
    input:
        cohort=rules.cohort.output.cohort,
        metrics=rules.evaluate.input.metrics,
        comparisons=rules.evaluate.input.comparisons,
        statistics=rules.evaluate.input.statistics,
        sweep=PLAN.sweep_done() and [rules.sweep_table.output.table, rules.sweep_table.output.fusion],
        more=[R / f"evaluate/{task}/{name}.tsv" for task in STUDY.tasks for name in ("pairs", "subgroups", "gaps")],
    output:
        [R / f"tables/{name}.{kind}" for name in PLAN.paper_tables for kind in ("tsv", "json", "tex")],
    log:
        R / "logs/tables/tables.log",
    benchmark:
        R / "benchmarks/tables/tables.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        code=PLAN.code("tables"),
        results=above("cohort", 2),
        options=lambda wildcards: PLAN.figure_options(),
        out=subpath(output[0], parent=True),
        tasks=list(STUDY.tasks),
        sweep=[f"--sweep={path}" for path in PLAN.sweep_done()],
    message:
        "Tables for a paper: {params.out}"
    shell:
        "mcsp tables --results {params.results:q} --options {params.options:q} --out {params.out:q} {params.sweep:q} "
        "{params.tasks:q} > {log:q} 2>&1"
