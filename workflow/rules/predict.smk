rule predict:
    """Target: a trained model (predict.model) applied to this study's subjects: predictions, embeddings, warnings."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        models=lambda wildcards: PLAN.model_files(PLAN.applied()),
    output:
        predictions=R / "predict/predictions.tsv",
        sidecar=R / "predict/predictions.json",
        table=R / "predict/predictions.parquet",
        embeddings=R / "predict/embeddings.parquet",
    log:
        R / "logs/predict/predict.log",
    benchmark:
        R / "benchmarks/predict/predict.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 2
    resources:
        mem_mb=grow(6000),
        runtime=grow(120),
    params:
        stores=above("stores", 4),
        code=PLAN.code("predict"),
        models=folders("models"),
    message:
        "Applying {STUDY.predict.model} to new subjects: {output.predictions}"
    shell:
        "mcsp apply --stores {params.stores:q} --cohort {input.cohort:q} --out {output.predictions:q} "
        "--embeddings {output.embeddings:q} --threads {threads} {params.models:q} 2>&1 | tee {log:q}"
