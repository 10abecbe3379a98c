rule finetune_fold:
    """Fine-tune one fold's encoders for a task; validation subjects choose the epoch."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        weights=rules.pretrain_fold.output.weights,
        config=rules.pretrain_fold.output.config,
        counts=rules.task_counts.output,
    output:
        weights=R / "finetune/{task}/fold-{fold}_seed-{seed}/model.safetensors",
        config=R / "finetune/{task}/fold-{fold}_seed-{seed}/config.json",
        history=R / "finetune/{task}/fold-{fold}_seed-{seed}/history.tsv",
    log:
        R / "logs/finetune/{task}_fold-{fold}_seed-{seed}.log",
    benchmark:
        R / "benchmarks/finetune/{task}_fold-{fold}_seed-{seed}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(8000),
        runtime=grow(240),
        gpu=1,
    params:
        stores=above("stores", 4),
        code=PLAN.code("finetune"),
        options=PLAN.finetune_options(),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        pretrained=subpath(input.weights, parent=True),
        out=subpath(output.weights, parent=True),
    message:
        "Fine-tuning for {wildcards.task}, fold {wildcards.fold}, seed {wildcards.seed}"
    shell:
        "mcsp finetune --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} --fold {wildcards.fold} "
        "--seed {wildcards.seed} --task {params.task:q} --pretrained {params.pretrained:q} --options {params.options:q} "
        "--out {params.out:q} --history {output.history:q} --threads {threads} > {log:q} 2>&1"


rule finetune:
    """Target: the frozen classifiers of all tasks, folds and seeds."""
    input:
        [model / "model.safetensors" for task in [*STUDY.tasks, *STUDY.other_tasks] for model in PLAN.finetuned(task)],
