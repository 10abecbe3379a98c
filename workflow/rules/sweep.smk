# Each variant of a study goes through the same rules with one option changed; splits, cohort and what is not varied are the
# study's own. Results: results/<study>/sweep.


use rule eeg_shard as sweep_eeg_shard with:
    output:
        store=R / "sweep/{variant}/store/{dataset}/eeg/temporal/shard-{shard}.arrow",
        status=R / "sweep/{variant}/status/{dataset}/eeg/shard-{shard}.tsv",
        runs=R / "sweep/{variant}/status/{dataset}/eeg/shard-{shard}.runs.tsv",
    log:
        R / "logs/sweep/{variant}_eeg_{dataset}_{shard}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_eeg_{dataset}_{shard}.tsv"
    params:
        code=PLAN.code("eeg"),
        options=lambda wildcards: PLAN.variant(wildcards.variant).options("eeg"),


use rule connectivity_shard as sweep_connectivity_shard with:
    input:
        R / "sweep/{variant}/store/{dataset}/eeg/temporal/shard-{shard}.arrow",
    output:
        store=R / "sweep/{variant}/store/{dataset}/{modality}/spatial/shard-{shard}.arrow",
        status=R / "sweep/{variant}/status/{dataset}/connectivity-{modality}/shard-{shard}.tsv",
    log:
        R / "logs/sweep/{variant}_connectivity_{dataset}_{modality}_{shard}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_connectivity_{dataset}_{modality}_{shard}.tsv"
    wildcard_constraints:
        modality="eeg",


use rule spectra_shard as sweep_spectra_shard with:
    input:
        R / "sweep/{variant}/store/{dataset}/eeg/temporal/shard-{shard}.arrow",
    output:
        store=R / "sweep/{variant}/store/{dataset}/{modality}/spectral/shard-{shard}.arrow",
        status=R / "sweep/{variant}/status/{dataset}/spectra-{modality}/shard-{shard}.tsv",
    log:
        R / "logs/sweep/{variant}_spectra_{dataset}_{modality}_{shard}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_spectra_{dataset}_{modality}_{shard}.tsv"
    wildcard_constraints:
        modality="eeg",


rule sweep_fmri_shard:
    """Copy the study's fMRI stores beside a variant's EEG stores: stages read one directory."""
    input:
        R / "store/{dataset}/fmri/{domain}/shard-{shard}.arrow",
    output:
        R / "sweep/{variant}/store/{dataset}/fmri/{domain}/shard-{shard}.arrow",
    log:
        R / "logs/sweep/{variant}_fmri_{dataset}_{domain}_{shard}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_fmri_{dataset}_{domain}_{shard}.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(500),
        runtime=grow(10),
    message:
        "fMRI stores of {wildcards.dataset} for {wildcards.variant}"
    shell:
        "mcsp copy {input:q} {output:q} > {log:q} 2>&1"


use rule pretrain_fold as sweep_pretrain_fold with:
    input:
        stores=lambda wildcards: PLAN.variant_stores(wildcards.variant),
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
    output:
        weights=R / "sweep/{variant}/pretrain/fold-{fold}/model.safetensors",
        config=R / "sweep/{variant}/pretrain/fold-{fold}/config.json",
        history=R / "sweep/{variant}/pretrain/fold-{fold}/history.tsv",
    log:
        R / "logs/sweep/{variant}_pretrain_fold-{fold}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_pretrain_fold-{fold}.tsv"
    params:
        stores=above("stores", 4),
        code=PLAN.code("pretrain"),
        options=lambda wildcards: PLAN.variant(wildcards.variant).options("pretrain"),
        launcher=launcher,
        about=lambda wildcards: PLAN.about,
        out=subpath(output.weights, parent=True),
    message:
        "Pre-training, {wildcards.variant}, fold {wildcards.fold}"


use rule finetune_fold as sweep_finetune_fold with:
    input:
        stores=lambda wildcards: PLAN.variant_stores(wildcards.variant),
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        weights=rules.sweep_pretrain_fold.output.weights,
        config=rules.sweep_pretrain_fold.output.config,
        counts=rules.task_counts.output,
    output:
        weights=R / "sweep/{variant}/finetune/{task}/fold-{fold}_seed-{seed}/model.safetensors",
        config=R / "sweep/{variant}/finetune/{task}/fold-{fold}_seed-{seed}/config.json",
        history=R / "sweep/{variant}/finetune/{task}/fold-{fold}_seed-{seed}/history.tsv",
    log:
        R / "logs/sweep/{variant}_finetune_{task}_fold-{fold}_seed-{seed}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_finetune_{task}_fold-{fold}_seed-{seed}.tsv"
    params:
        stores=above("stores", 4),
        code=PLAN.code("finetune"),
        options=PLAN.finetune_options(),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        pretrained=subpath(input.weights, parent=True),
        out=subpath(output.weights, parent=True),
    message:
        "Fine-tuning, {wildcards.variant}, for {wildcards.task}, fold {wildcards.fold}, seed {wildcards.seed}"


rule sweep_predict:
    """Probabilities of the test subjects by a variant's frozen classifiers."""
    input:
        stores=lambda wildcards: PLAN.variant_stores(wildcards.variant),
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        models=lambda wildcards: PLAN.model_files(PLAN.variant(wildcards.variant).finetuned(wildcards.task)),
    output:
        R / "sweep/{variant}/predictions/{task}.parquet",
    log:
        R / "logs/sweep/{variant}_predict_{task}.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_predict_{task}.tsv"
    conda:
        ENVS / "torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(6000),
        runtime=grow(60),
    params:
        stores=above("stores", 4),
        code=PLAN.code("variant_predictions"),
        task=lambda wildcards: PLAN.task_options(wildcards.task),
        models=folders("models"),
    message:
        "Test subjects of {wildcards.task}, {wildcards.variant}"
    shell:
        "mcsp variant-predictions --stores {params.stores:q} --cohort {input.cohort:q} --splits {input.splits[0]:q} "
        "--task {params.task:q} --out {output:q} --threads {threads} {params.models:q} > {log:q} 2>&1"


use rule pretrain as sweep_embed with:
    input:
        stores=lambda wildcards: PLAN.variant_stores(wildcards.variant),
        cohort=rules.cohort.output.cohort,
        splits=rules.splits.output,
        models=lambda wildcards: PLAN.model_files(
            PLAN.variant(wildcards.variant).pretrained(fold) for fold in PLAN.folds
        ),
    output:
        ranks=R / "sweep/{variant}/embeddings/ranks.parquet",
    log:
        R / "logs/sweep/{variant}_embed.log",
    benchmark:
        R / "benchmarks/sweep/{variant}_embed.tsv"
    params:
        stores=above("stores", 4),
        code=PLAN.code("embed"),
        only=["--ranks-only"],
        models=folders("models"),
    message:
        "Who is found across modalities, {wildcards.variant}"


rule sweep_table:
    """All variants beside the whole model, with intervals and paired tests."""
    input:
        ranks=rules.pretrain.output.ranks,
        variant_ranks=[R / f"sweep/{variant}/embeddings/ranks.parquet" for variant in PLAN.searched],
        whole=[R / f"evaluate/{task}/predictions.parquet" for task in STUDY.tasks],
        variants=[
            R / f"sweep/{variant}/predictions/{task}.parquet" for task in STUDY.tasks for variant in PLAN.variants
        ],
    output:
        table=R / "sweep/sweep.tsv",
        fusion=R / "sweep/fusion.tsv",
        retrieval=R / "sweep/retrieval.tsv",
    log:
        R / "logs/sweep/table.log",
    benchmark:
        R / "benchmarks/sweep/table.tsv"
    conda:
        ENVS / "core.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(60),
    params:
        results=above("whole", 3),
        code=PLAN.code("sweep_table"),
        options=PLAN.evaluate_options(),
        names=lambda wildcards: PLAN.variant_names(),
        searched=lambda wildcards: PLAN.searched_names(),
        tasks=list(STUDY.tasks),
    message:
        "Variants beside the whole model: {output}"
    shell:
        "mcsp sweep-table --results {params.results:q} --variants {params.names:q} --searched {params.searched:q} "
        "--options {params.options:q} --out {output.table:q} --fusion {output.fusion:q} "
        "--retrieval {output.retrieval:q} {params.tasks:q} > {log:q} 2>&1"


rule sweep:
    """Target: every variant of the study in one table and one figure; the next report shows them."""
    input:
        variants=rules.sweep_table.output.table,
        variants_retrieval=rules.sweep_table.output.retrieval,
        model=PLAN.pretrained(0) / "config.json",
    output:
        figures("sweep", "segments"),
    log:
        R / "logs/figures/sweep.log",
    benchmark:
        R / "benchmarks/figures/sweep.tsv"
    conda:
        ENVS / "figures.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(20),
    params:
        code=[PLAN.code("figure_sweep"), PLAN.code("figure_segments")],
        options=lambda wildcards: PLAN.figure_options(),
        files=keyed,
        out=subpath(output[0], parent=True),
    message:
        "Figure {output[0]}"
    shell:
        "mcsp figure sweep segments {params.files:q} --options {params.options:q} --out {params.out:q} > {log:q} 2>&1"
