rule page:
    """The readable summary: question, cohort, answer with its interval, caveats, figures, methods, provenance."""
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
        sweep=PLAN.sweep_done()
        and [rules.sweep_table.output.table, rules.sweep_table.output.fusion, rules.sweep.output],
        controls=PLAN.controls_done() and [rules.controls_table.output, rules.controls.output],
    output:
        report(
            R / "report/summary.html",
            category="Start here",
            labels={"view": "summary"},
            caption="../report/summary_page.rst",
        ),
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
        study=lambda wildcards: PLAN.page_options(SOURCE),
        figures=PLAN.figures()
        + [R / "figures/controls" for _ in PLAN.controls_done()]
        + [R / "figures/sweep" for _ in PLAN.sweep_done()],
        sweep=[f"--sweep={path}" for path in PLAN.sweep_done()],
        controls=[f"--controls={path}" for path in PLAN.controls_done()],
    message:
        "Summary page: {output}"
    shell:
        "mcsp page --study {params.study:q} --results {params.results:q} --out {output:q} {params.controls:q} {params.sweep:q} "
        "{params.figures:q} > {log:q} 2>&1"


rule report:
    """Target: everything in one self-contained HTML file, through Snakemake's report."""
    input:
        rules.page.output,
        rules.figures.input,
        rules.evaluate.output,
        rules.explain.input,
        rules.cards.input,
    output:
        R / "report.html",
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
        "Report: {output}"
    shell:
        "mcsp report --snakefile {params.snakefile:q} --study {params.study:q} --out {output:q} > {log:q} 2>&1"


localrules:
    report,
