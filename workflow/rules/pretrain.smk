rule pretrain_fold:
    """Self-supervised pre-training of one fold: its test subjects are never seen (unless scope is transductive)."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
    output:
        weights=R / "pretrain/fold-{fold}/model.safetensors",
        config=R / "pretrain/fold-{fold}/config.json",
        history=R / "pretrain/fold-{fold}/history.tsv",
    log:
        R / "logs/pretrain/fold-{fold}.log",
    benchmark:
        R / "benchmarks/pretrain/fold-{fold}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 2
    resources:
        **PLAN.gpus,
        mem_mb=grow(8000),
        runtime=grow(720),
    params:
        stores=above("stores", 4),
        code=PLAN.code("pretrain"),
        options=PLAN.options("pretrain"),
        launcher=launcher,
        about=lambda wildcards: PLAN.about,
        out=subpath(output.weights, parent=True),
    message:
        "Pre-training, fold {wildcards.fold}"
    shell:
        "LAUNCHER={params.launcher:q} "
        "mcsp pretrain --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} --fold {wildcards.fold} "
        "--options {params.options:q} --about {params.about:q} --out {params.out:q} --history {output.history:q} "
        "--threads {threads} > {log:q} 2>&1"


rule pretrain:
    """Target: the pre-trained encoders of all folds, and their embeddings of test subjects."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        models=PLAN.model_files([PLAN.pretrained(fold) for fold in PLAN.folds]),
    output:
        embeddings=R / "embeddings/embeddings.parquet",
        retrieval=R / "embeddings/retrieval.tsv",
        ranks=R / "embeddings/ranks.parquet",
    log:
        R / "logs/embed/embed.log",
    benchmark:
        R / "benchmarks/embed/embed.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 2
    resources:
        mem_mb=grow(8000),
        runtime=grow(120),
        gpu=1,
    params:
        stores=above("stores", 4),
        code=PLAN.code("embed"),
        only=[],
        models=folders("models"),
    message:
        "Embeddings of test subjects before and after pre-training"
    shell:
        "mcsp embed-folds --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} --out {output.ranks:q} "
        "{params.only:q} --threads {threads} {params.models:q} > {log:q} 2>&1"
