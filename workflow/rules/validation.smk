# Attribution methods on planted truth: a simulated cohort for each effect size and seed, at the level of the stores, with the
# study's own model. Results: results/<study>/validation.


rule validation_run:
    """One simulated cohort: classifiers for every planted effect and decoy, all methods on all of them."""
    input:
        atlas=PLAN.atlas["table"],
    output:
        scores=R / "validation/runs/snr-{snr}_seed-{seed}.scores.parquet",
        answers=R / "validation/runs/snr-{snr}_seed-{seed}.answers.parquet",
    log:
        R / "logs/validation/snr-{snr}_seed-{seed}.log",
    benchmark:
        R / "benchmarks/validation/snr-{snr}_seed-{seed}.tsv"
    wildcard_constraints:
        snr=r"[0-9.]+",
    conda:
        ENVS / "validation.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(240),
        gpu=1,  # for its trainings; maps are made on the CPU
    params:
        code=PLAN.code("validation_run"),
        stages=PLAN.validation_stages(),
        options=PLAN.validation_options(),
    message:
        "Validation, snr {wildcards.snr}, seed {wildcards.seed}"
    shell:
        "mcsp validate run --snr {wildcards.snr} --seed {wildcards.seed} --atlas {input.atlas:q} --stages {params.stages:q} "
        "--options {params.options:q} --scores {output.scores:q} --answers {output.answers:q} > {log:q} 2>&1"


rule validation:
    """Target: the verdict on each method, modality and domain, over all effect sizes and seeds."""
    input:
        scores=PLAN.validation_runs("scores"),
        answers=PLAN.validation_runs("answers"),
    output:
        verdicts=R / "validation/verdicts.tsv",
        scores=R / "validation/scores.tsv",
        decoys=R / "validation/decoys.tsv",
        used=R / "validation/decoys_used.tsv",
        learned=R / "validation/learned.tsv",
    log:
        R / "logs/validation/table.log",
    benchmark:
        R / "benchmarks/validation/table.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(3000),
        runtime=grow(60),
    params:
        code=PLAN.code("validation_table"),
        options=PLAN.options("validation"),
        scores=lambda wildcards, input: [f"--scores={path}" for path in input.scores],
        answers=lambda wildcards, input: [f"--answers={path}" for path in input.answers],
        out=subpath(output.verdicts, parent=True),
    message:
        "Verdicts of the validation: {output.verdicts}"
    shell:
        "mcsp validate verdicts {params.scores:q} {params.answers:q} --options {params.options:q} --out {params.out:q} "
        "> {log:q} 2>&1"
