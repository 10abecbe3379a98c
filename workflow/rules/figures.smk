# Which figures there are, what each is drawn from, and which are drawn together: src/mcsp/figures/catalogue.py. A group is one
# job, or one per task, because importing the libraries takes longer than drawing. One figure with what it needs is the target
# `figure_<kind>`; from results that are there, `mcsp figure <kind> --study <file>` draws it in seconds.

for group, kinds in PLAN.figure_groups().items():

    of_task = "_{task}" if ALL_FIGURES[kinds[0]].per_task else ""

    rule:
        """One group of figures."""
        name:
            f"figures_{group}"
        input:
            **PLAN.figure_files(*kinds),
        output:
            figures(*kinds),
        log:
            R / f"logs/figures/{group}{of_task}.log",
        benchmark:
            R / f"benchmarks/figures/{group}{of_task}.tsv"
        conda:
            ENVS / "figures.yaml"
        threads: 1
        resources:
            mem_mb=grow(2000),
            runtime=grow(20),
        params:
            code=[PLAN.code(f"figure_{kind}") for kind in kinds],
            options=lambda wildcards: PLAN.figure_options(),
            kinds=kinds,
            files=keyed,
            task=lambda wildcards: [f"--task={task}" for task in wildcards],
            out=subpath(output[0], parent=True),
        message:
            "Figures: {params.kinds} {wildcards}"
        shell:
            "mcsp figure {params.kinds:q} {params.files:q} {params.task:q} --options {params.options:q} --out {params.out:q} "
            "> {log:q} 2>&1"


for kind in ALL_FIGURES:

    rule:
        """Target: the figures of one kind."""
        name:
            f"figure_{kind.replace('-', '_')}"
        input:
            [R / f"figures/{name}.svg" for name in PLAN.figure_names(kind)],


rule figures:
    """Target: every figure."""
    input:
        [f"{stem}.svg" for stem in PLAN.report_figures()],
