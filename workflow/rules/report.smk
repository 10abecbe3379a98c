rule page:
    """The readable summary: question, cohort, answer with its interval, caveats, figures, methods, provenance."""
    input:
        cohort=rules.cohort.output.cohort,
        exclusions=rules.cohort.output.exclusions,
        summary=rules.evaluate.output,
        metrics=rules.evaluate.input.metrics,
        comparisons=rules.evaluate.input.comparisons,
        verdicts=rules.explain.input,
        figures=rules.figures.input,
    output:
        report(
            R / "report/summary.html",
            category="Start here",
            labels={"view": "summary"},
            caption="../report/summary_page.rst",
        ),
    params:
        code=PLAN.code("page"),
        study=PLAN.page_options(SOURCE),
        figures=PLAN.figures(),
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
    message:
        "Summary page: {output}"
    shell:
        "mcsp page --study {params.study:q} --results {R:q} --out {output:q} {params.figures:q} > {log:q} 2>&1"


rule report:
    """Target: everything in one self-contained HTML file, through Snakemake's report."""
    input:
        rules.page.output,
        rules.figures.input,
        rules.evaluate.output,
        rules.explain.input,
    output:
        R / "report.html",
    params:
        config=[f"--configfile={path}" for path in workflow.configfiles[1:]],
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
    message:
        "Report: {output}"
    shell:
        "mcsp report --snakefile {BASE:q}/Snakefile --out {output:q} {params.config:q} > {log:q} 2>&1"


localrules:
    report,
