rule page:
    """The report: first page, every figure and table, methods, provenance, in one file that needs no network."""
    input:
        cohort=rules.cohort.output.cohort,
        exclusions=rules.cohort.output.exclusions,
        summary=rules.evaluate.output,
        metrics=rules.evaluate.input.metrics,
        comparisons=rules.evaluate.input.comparisons,
        statistics=rules.evaluate.input.statistics,
        others=rules.evaluate.input.others,
        verdicts=rules.explain.input,
        figures=rules.figures.input,
        tables=rules.tables.output,
        cards=rules.cards.input,
        atlas=rules.atlas.output.table,
        controls=PLAN.controls_done() and [rules.controls_table.output, rules.controls.output],
        sweep=PLAN.sweep_done() and [rules.sweep_table.output, rules.sweep.output],
    output:
        R / "report.html",
    log:
        R / "logs/report/page.log",
    benchmark:
        R / "benchmarks/report/page.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        results=above("cohort", 2),
        code=PLAN.code("page"),
        assets=PLAN.page_assets(),
        study=lambda wildcards: PLAN.page_options(SOURCE),
        figures=PLAN.report_figures(),
    message:
        "Report: {output}"
    shell:
        "mcsp page --study {params.study:q} --results {params.results:q} --out {output:q} {params.figures:q} > {log:q} 2>&1"


rule report:
    """Target: the report, and Snakemake's own beside it: rules, code and run times behind each figure and table."""
    input:
        rules.page.output,
        rules.figures.input,
        rules.evaluate.output,
        rules.explain.input,
        rules.cards.input,
    output:
        R / "report/workflow.html",
    log:
        R / "logs/report/report.log",
    benchmark:
        R / "benchmarks/report/report.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        snakefile=str(BASE / "Snakefile"),
        study=lambda wildcards: PLAN.page_options(SOURCE),
    message:
        "Snakemake's report: {output}"
    shell:
        "mcsp report --snakefile {params.snakefile:q} --study {params.study:q} --out {output:q} > {log:q} 2>&1"


localrules:
    report,
