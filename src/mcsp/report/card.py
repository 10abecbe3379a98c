"""The model card: what a model was made of, how good it is, what it is not for, and how to load it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mcsp.evaluation.comparisons import over_subjects
from mcsp.evaluation.splits import load_splits
from mcsp.options.tasks import Task
from mcsp.store import atomic_path, read_json, read_table, read_tsv

SHOWN = ("auroc", "auprc", "balanced_accuracy", "sensitivity", "specificity", "brier", "calibration_error")
VERDICTS = {
    "better": "beats phenotype, site and motion alone",
    "not told apart": "FAILS: does not beat phenotype, site and motion alone",
    "worse": "FAILS: worse than phenotype, site and motion alone",
}


def _table(rows: Sequence[Sequence[object]], columns: Sequence[str]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _range(values: pd.Series) -> str:
    known = values.dropna()
    return f"{known.min():.3g} to {known.max():.3g}" if len(known) else "not known"


def data_text(cohort: pd.DataFrame, about: dict) -> str:
    """Table of the datasets: subjects, sites, age, sex, labels, terms of use."""
    rows = []
    for name, own in cohort.groupby("dataset", sort=True):
        dataset = about.get("datasets", {}).get(name, {})
        sexes = ", ".join(f"{n} {sex}" for sex, n in own["sex"].fillna("not known").value_counts().items())
        labels = ", ".join(f"{n} {label or 'unlabelled'}" for label, n in own["labels"].value_counts().items())
        kind = "simulated" if dataset.get("kind") == "simulate" else "recorded"
        sites = own["site"].nunique()
        counts = [len(own), int(own["has_fmri"].sum()), int(own["has_eeg"].sum()), sites]
        rows.append([name, kind, *counts, _range(own["age"]), sexes, labels, dataset.get("licence", "not stated")])
    columns = ["dataset", "kind", "subjects", "fMRI", "EEG", "sites", "age (years)", "sex", "labels", "licence"]
    return _table(rows, columns)


def inputs_text(config: dict) -> str:
    """What the model reads, and how the training recordings were made."""
    lines = []
    for modality, own in config["data"].items():
        if modality == "fmri":
            atlas = config.get("about", {}).get("atlas", {}).get("name", "")
            lines.append(
                f"fMRI: {len(own['names'])} regions of {atlas or 'the atlas in config.json'}, {own['t_r']:g} s per frame"
            )
        else:
            lines.append(f"EEG: {len(own['ch_names'])} channels of {own['montage']} at {own['sfreq']:g} Hz")
    shapes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in config["architecture"]["shapes"].items())
    lines.append(f"Shapes of a subject: {shapes}")
    ranges = ", ".join(f"{column} {low:.4g} to {high:.4g}" for column, (low, high) in config["ranges"].items())
    lines.append(
        f"Training subjects of fold {config['fold']}: {ranges or 'no ranges known'} (others are warned of by `predict`)"
    )
    return "\n".join(f"* {line}" for line in lines)


def folds_text(splits: pd.DataFrame, config: dict) -> str:
    """Protocol, hash and sizes of the folds."""
    record = config["splits"]
    counts = splits.groupby(["fold", "part"]).size().unstack(fill_value=0)
    head = f"{record.get('protocol', 'folds')}, seed {record.get('seed', 'n/a')}, pre-training {config['scope']}."
    rows = [[fold, *(int(row[part]) for part in ("train", "val", "test"))] for fold, row in counts.iterrows()]
    return f"{head} SHA-256 of the folds: `{record['sha256']}`\n\n{_table(rows, ['fold', 'train', 'validation', 'test'])}"


def _last(history: pd.DataFrame, column: str, epoch: int | None) -> list[str]:
    """Training and validation value of an epoch (the last one without a number); n/a where it has none, as the training
    subjects have none at the start (-1).
    """
    texts = []
    for part in ("train", "val"):
        own = history[history["split"] == part].set_index("epoch")[column] if len(history) else pd.Series(dtype=float)
        value = own.get(epoch) if epoch is not None else None if own.empty else own.iloc[-1]
        texts.append("n/a" if pd.isna(value) else f"{value:.4g}")
    return texts


def training_text(folders: Sequence[Path], configs: Sequence[dict]) -> str:
    """Final losses of each model: of the last epoch of pre-training, of the kept one of fine-tuning."""
    kind = "loss" if "best_epoch" in configs[0] else "total"
    rows = []
    for folder, config in zip(folders, configs):
        history, epoch = read_tsv(folder / "history.tsv"), config.get("best_epoch")
        epochs = int(history["epoch"].max()) + 1 if len(history) else 0
        kept = "" if epoch is None else f" (kept: {epoch})" if epoch >= 0 else " (kept: the linear start)"
        subjects = config.get("n_train", config["n_subjects"])
        rows.append(
            [folder.name, subjects, f"{epochs}{kept}", *_last(history, kind, epoch), f"`{config['weights_sha256'][:16]}`"]
        )
    return _table(rows, ["model", "training subjects", "epochs", "train loss", "validation loss", "SHA-256 of the weights"])


def terms_text(folders: Sequence[Path], configs: Sequence[dict]) -> str:
    """Each loss term of pre-training with its weight, in the last epoch; '' where nothing was pre-trained."""
    rows = []
    for folder, config in zip(folders, configs):
        history, weights = read_tsv(folder / "history.tsv"), config["pretrain"]["loss"]
        for column in history.columns:
            kind, _, where = column.partition("_")
            if where and kind in weights:
                rows.append([folder.name, kind, where, f"{weights[kind]:g}", *_last(history, column, None)])
    return _table(rows, ["model", "term", "of", "weight", "train", "validation"]) if rows else ""


def metrics_text(metrics: pd.DataFrame, comparisons: pd.DataFrame) -> tuple[str, list[str]]:
    """(the model's metrics with intervals and its rivals' AUROC; what failed, in words)."""
    ours = next(method for method in metrics["method"] if method.startswith("mcsp"))
    own = metrics[(metrics["method"] == ours) & metrics["metric"].isin(SHOWN)]
    table = _table(
        [[r.metric, f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]"] for r in own.itertuples()], ["metric", "value [interval]"]
    )
    areas = metrics[metrics["metric"] == "auroc"]
    pairs = over_subjects(comparisons)
    pairs = pairs[(pairs["metric"] == "auroc") & (pairs["method"] == ours)].set_index("rival")
    rows = [
        [r.method, f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]",
         f"{pairs.loc[r.method, 'verdict']} (p = {pairs.loc[r.method, 'p_holm']:.2g}, Holm)" if r.method in pairs.index else ""]
        for r in areas.itertuples()
    ]  # fmt: skip
    first = own.iloc[0]
    head = f"{first['n']} test subjects of all folds ({first['n_case']} cases); {first['protocol']}."
    failed = [VERDICTS[pairs.loc["phenotype", "verdict"]]] if "phenotype" in pairs.index else []
    failed += [
        f"worse than the rival {rival}" for rival, r in pairs.iterrows() if rival != "phenotype" and r["verdict"] == "worse"
    ]
    text = f"{head}\n\n{table}\n\n{_table(rows, ['method', 'AUROC [interval]', f'{ours} is'])}"
    return text, failed


def limits(configs: Sequence[dict], about: dict, failed: Sequence[str]) -> list[str]:
    """What a user must not expect."""
    lines = ["Research use only. Not a medical device; not for diagnosis, nor for any decision on a person."]
    simulated = [name for name, d in about.get("datasets", {}).items() if d["kind"] == "simulate"]
    if simulated:
        lines.append(f"Trained on SIMULATED data ({', '.join(simulated)}): it says nothing about patients.")
    lines += [text[0].upper() + text[1:] + "." for text in failed]
    if configs[0]["scope"] == "transductive":
        lines.append("Transductive: pre-training saw the test subjects' recordings.")
    if configs[0]["splits"].get("protocol") == "kfold":
        lines.append("Tested on the sites it was trained on: new sites can do worse.")
    if "head" in configs[0]:
        lines.append("Probabilities are not calibrated; classes had equal weight in training, whatever their share.")
        lines.append("What the classifier relies on is model-relevant, not causal.")
    return lines


def loading_text(folder: Path, task: str | None) -> str:
    """How to load and use the model."""
    kind, call = ("Classifier", "predict_proba") if task else ("MCSP", "embed")
    return (
        f'```python\nfrom mcsp import {kind}\n\nmodel = {kind}.from_pretrained("{folder.as_posix()}")\n'
        f"model.{call}(fmri=series)  # or eeg=segments, or both: see help({kind}.{call}) for shapes and units\n```\n\n"
        f"On new BIDS data: a study file with `predict: {{model: {folder.parent.as_posix()}}}`, then `snakemake predict`."
    )


def run(
    *,
    models: Sequence[Path],
    cohort: Path,
    splits: Path,
    about: dict,
    task: str | None = None,
    metrics: Path | None = None,
    comparisons: Path | None = None,
    out: Path,
) -> None:
    """Write the card of the pre-trained models, or with `task` of its classifiers and their `metrics` and `comparisons`.

    `about`: `Plan.about`, the study's words on its data. Raises McspError for folds that were changed.
    """
    people, configs = read_table(cohort), [read_json(folder / "config.json") for folder in models]
    performance, failed = metrics_text(read_tsv(metrics), read_tsv(comparisons)) if metrics and comparisons else ("", [])
    first, terms = configs[0], "" if task else terms_text(models, configs)
    if task:
        purpose = f"Classifiers of the task `{task}` ({Task.model_validate(first['task']).question()}), one per fold and seed."
    else:
        purpose = "Encoders of fMRI and EEG, pre-trained without labels, one model per fold."
    versions = ", ".join(f"{name} {value}" for name, value in first["versions"].items())
    sections = {
        "What it is": f"{purpose} MCSP, a reconstruction of Wei et al. (arXiv 2409.19130). Versions: {versions}.",
        "Limits": "\n".join(f"* {line}" for line in limits(configs, about, failed)),
        "Data": data_text(people, about),
        "Inputs": inputs_text(first),
        "Folds": folds_text(load_splits(splits), first),
        "Training": training_text(models, configs),
        **({"Losses of pre-training": terms} if terms else {}),
        **({"Performance": performance} if performance else {}),
        "How to load": loading_text(models[0], task),
    }
    title = about.get("title") or about.get("study") or "MCSP"
    body = "\n\n".join(f"## {name}\n{text}" for name, text in sections.items())
    with atomic_path(out) as temporary:
        temporary.write_text(f"# Model card: {title}{f', {task}' if task else ', pre-trained'}\n\n{body}\n", encoding="utf-8")
    print(f"model card: {out}")
