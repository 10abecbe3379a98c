# Labels that say nothing go through the same rules as the study's own: fine-tuning and rivals. Pre-training never reads
# labels, so the encoders are the study's. Results: results/<study>/controls.


rule control_labels:
    """Cohort tables of a control, one per fold: labels shuffled or drawn at random."""
    input:
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
    output:
        [R / f"controls/{{control}}/{{task}}/cohort_fold-{fold}.parquet" for fold in PLAN.folds],
    log:
        R / "logs/controls/{control}_{task}_labels.log",
    benchmark:
        R / "benchmarks/controls/{control}_{task}_labels.tsv"
    wildcard_constraints:
        task=PLAN.control_tasks,
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(1500),
        runtime=grow(20),
    params:
        code=PLAN.code("control_labels"),
        task=lambda wildcards: PLAN.control_task(wildcards.control, wildcards.task),
        options=PLAN.options("controls"),
        out=subpath(output[0], parent=True),
    message:
        "Labels of {wildcards.control} for {wildcards.task}"
    shell:
        "mcsp control-labels {wildcards.control} {wildcards.task} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --options {params.options:q} --out {params.out:q} > {log:q} 2>&1"


use rule finetune_fold as control_finetune_fold with:
    input:
        stores=all_stores,
        cohort=R / "controls/{control}/{task}/cohort_fold-{fold}.parquet",
        splits=rules.splits.output,
        weights=rules.pretrain_fold.output.weights,
        config=rules.pretrain_fold.output.config,
    output:
        weights=R / "controls/{control}/{task}/fold-{fold}_seed-{seed}/model.safetensors",
        config=R / "controls/{control}/{task}/fold-{fold}_seed-{seed}/config.json",
        history=R / "controls/{control}/{task}/fold-{fold}_seed-{seed}/history.tsv",
    log:
        R / "logs/controls/{control}_{task}_finetune_fold-{fold}_seed-{seed}.log",
    benchmark:
        R / "benchmarks/controls/{control}_{task}_finetune_fold-{fold}_seed-{seed}.tsv"
    wildcard_constraints:
        task=PLAN.control_tasks,
    params:
        stores=above("stores", 4),
        code=PLAN.code("finetune"),
        options=PLAN.finetune_options(),
        task=lambda wildcards: PLAN.control_task(wildcards.control, wildcards.task),
        pretrained=subpath(input.weights, parent=True),
        out=subpath(output.weights, parent=True),
    message:
        "Fine-tuning, {wildcards.control}, for {wildcards.task}, fold {wildcards.fold}"


rule control_predict:
    """Test subjects by the classifiers and rivals that learnt a control's labels."""
    input:
        stores=all_stores,
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        labels=rules.control_labels.output,
        models=lambda wildcards: PLAN.model_files(PLAN.control_finetuned(wildcards.control, wildcards.task)),
    output:
        R / "controls/{control}/{task}/predictions.parquet",
    log:
        R / "logs/controls/{control}_{task}_predict.log",
    benchmark:
        R / "benchmarks/controls/{control}_{task}_predict.tsv"
    wildcard_constraints:
        task=PLAN.control_tasks,
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(6000),
        runtime=grow(480),
    params:
        stores=above("stores", 4),
        code=PLAN.code("control_predictions"),
        options=PLAN.options("evaluate"),
        labels=above("labels", 1),
        task=lambda wildcards: PLAN.control_task(wildcards.control, wildcards.task),
        models=folders("models"),
    message:
        "Test subjects of {wildcards.task}, {wildcards.control}"
    shell:
        "mcsp control-predictions --stores {params.stores:q} --cohort {input.cohort:q} --labels {params.labels:q} "
        "--splits {input.splits[0]:q} --task {params.task:q} --options {params.options:q} --out {output:q} "
        "--threads {threads} {params.models:q} > {log:q} 2>&1"


rule controls_table:
    """All controls in one table: passed or failed, with intervals."""
    input:
        PLAN.control_predictions(),
    output:
        R / "controls/controls.tsv",
    log:
        R / "logs/controls/table.log",
    benchmark:
        R / "benchmarks/controls/table.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("controls_table"),
        options=PLAN.evaluate_options(),
    message:
        "Controls: {output}"
    shell:
        "mcsp controls-table --options {params.options:q} --out {output:q} {input:q} > {log:q} 2>&1"


rule controls:
    """Target: permuted and random labels in one table and one figure; the next report shows them."""
    input:
        controls=rules.controls_table.output[0],
    output:
        figures("controls"),
    log:
        R / "logs/figures/controls.log",
    benchmark:
        R / "benchmarks/figures/controls.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=PLAN.code("figure_controls"),
        options=lambda wildcards: PLAN.figure_options(),
        files=keyed,
        out=subpath(output[0], parent=True),
    message:
        "Figure {output[0]}"
    shell:
        "mcsp figure controls {params.files:q} --options {params.options:q} --out {params.out:q} > {log:q} 2>&1"
