"""Predictions and embeddings of new subjects by trained models, with a warning where they differ from what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mcsp.cohort import MODALITIES
from mcsp.errors import McspError
from mcsp.model.batch import best_device
from mcsp.model.inputs import with_missing
from mcsp.model.mcsp import MCSP, Classifier
from mcsp.predict.adopt import FREE
from mcsp.store import read_json, read_table, write_json, write_table, write_tsv
from mcsp.training.data import Subjects
from mcsp.training.record import INPUT_META, RANGES, inputs_of, traces

COLUMNS = {
    "uid": "Subject: dataset/sub-label",
    "dataset": "Dataset's name in the study file",
    "site": "Recording site",
    "modalities": "Modalities that were used",
    "p": "Mean over the models of the probability of being a case; n/a where the models only embed",
    "p_sd": "Standard deviation of that probability over the models; n/a with one model",
    "n_models": "Models that were asked",
    "n_seen": "Models whose training or validation subjects this one is among: their answers are not predictions",
    "warnings": "In what the subject lies outside what the models saw in training",
}
WORDS = {  # column of the cohort -> (what it is, unit, whether small values are outside too)
    "t_r": ("repetition time", " s", True),
    "sfreq": ("sampling rate", " Hz", True),
    "gap_mm": ("a channel's distance to the nearest good electrode", " mm", False),
    "mean_fd": ("mean framewise displacement", " mm", False),
    "age": ("age", " years", True),
}
TOLERANCE = 0.01  # as a share of the limit


def load_model(folder: Path) -> MCSP | Classifier:
    """The model in a directory, of whichever kind. Raises McspError."""
    config = read_json(folder / "config.json")
    asked = config.get("task", {}).get("kind", "binary")
    if asked != "binary":
        raise McspError(f"{folder}: answers a {asked} task: predict applies classifiers of cases and controls, or encoders")
    return (Classifier if config.get("kind") == "Classifier" else MCSP).from_pretrained(folder)


def check_alike(configs: Sequence[dict]) -> None:
    """Raises McspError unless the models are of one training: kind, folds, task, inputs."""
    for key in ("kind", "task", "data", "splits"):
        if any(config.get(key) != configs[0].get(key) for config in configs):
            raise McspError(f"predict.model: models that differ in {key} lie there: name the directory of one task")


def _few(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _close(key: str, a: Any, b: Any) -> bool:
    if key == "coordinates":  # mm; unknown ones are not compared
        pairs = [(x, y) for x, y in zip(a or [], b or []) if x and y]
        return all(np.abs(np.subtract(x, y)).max() <= 1 for x, y in pairs)
    return a == b


def check_inputs(stores: Path, cohort: pd.DataFrame, config: dict) -> None:
    """Raises McspError, with a line for each difference, when the stores are not what the model reads: another atlas, montage,
    rate, length or filter.
    """
    keys = [tuple(name.split("/")) for name in config["architecture"]["shapes"]]
    keys = [key for key in keys if cohort[f"has_{key[0]}"].any()]
    lines = []
    for modality, own in inputs_of(stores, cohort, keys).items():
        trained = config["data"][modality]
        pairs = {key: (own.get(key), trained.get(key)) for key in INPUT_META if key != "networks"}
        for stage, options in trained["options"].items():
            of_stage = own["options"].get(stage, {})
            pairs |= {f"{stage}.{k}": (of_stage.get(k), v) for k, v in options.items() if k not in FREE.get(stage, ())}
        lines += [
            f"{modality}: {key} is {_few(new)} here, {_few(old)} in the model's training: it can't read these stores"
            for key, (new, old) in pairs.items()
            if not _close(key, new, old)
        ]
    if lines:
        raise McspError("\n".join(lines))


def widest(configs: Sequence[dict]) -> dict[str, tuple[float, float]]:
    """Column -> (least, largest) value that any of the models saw in training."""
    found: dict[str, tuple[float, float]] = {}
    for column in {c for config in configs for c in config["ranges"]}:
        lows, highs = zip(*(config["ranges"][column] for config in configs if column in config["ranges"]))
        found[column] = (min(lows), max(highs))
    return found


def outside(row: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]], modalities: Sequence[str]) -> list[str]:
    """In what a subject (a row of the cohort) lies outside the ranges of the training subjects, in words; of recordings, by
    the modalities that are used.
    """
    told = {"age", *(column for m in modalities for column in RANGES[m])} & ranges.keys()
    found = []
    for column, (what, unit, both) in WORDS.items():
        value = row.get(column)
        if column not in told or value is None or np.isnan(value):
            continue
        low, high = ranges[column]
        if value > high + TOLERANCE * abs(high) or (both and value < low - TOLERANCE * abs(low)):
            seen = f"{low:g} to {high:g}{unit}" if both and low != high else f"{'' if both else 'at most '}{high:g}{unit}"
            found.append(f"{what} {value:.4g}{unit}, in training {seen}")
    return found


def ask(model: MCSP | Classifier, stores: Path, cohort: pd.DataFrame) -> tuple[list[str], np.ndarray, dict]:
    """(uids, probabilities (N; NaN of a model that only embeds), embeddings (N, dim) by modality and domain) of a model.

    Raises McspError when an answer is not finite.
    """
    backbone = model.backbone if isinstance(model, Classifier) else model
    keys = [key for key in backbone.keys if cohort[f"has_{key[0]}"].any()]
    subjects = Subjects(stores, cohort, list(cohort["uid"]), keys)
    shapes = {key: tuple(backbone.sizes.shapes["/".join(key)]) for key in backbone.keys}
    wrong = [key for key in keys if tuple(subjects.shapes[key]) != shapes[key]]
    if wrong:
        raise McspError(
            f"{'/'.join(wrong[0])}: stores of shape {subjects.shapes[wrong[0]]}, the model reads {shapes[wrong[0]]}: "
            "another atlas, montage or length"
        )
    model.to(best_device())
    p, z = [], {key: [] for key in backbone.keys}
    for own, batch in subjects.everyone():
        batch = with_missing(batch, shapes)
        p.append(model.predict_proba(batch).numpy() if isinstance(model, Classifier) else np.full(len(own), np.nan))
        for key, values in backbone.embed(batch).items():
            z[key].append(values.numpy())
    found, embedded = np.concatenate(p), {key: np.concatenate(parts) for key, parts in z.items()}
    if not all(np.isfinite(v).all() for v in [*embedded.values(), *([found] if isinstance(model, Classifier) else [])]):
        raise McspError("the model's answers are not finite: train it again")
    return subjects.uids, found, embedded


def used_modalities(row: Mapping[str, Any], config: dict) -> list[str]:
    """Modalities of a subject that the model reads."""
    return [m for m in MODALITIES if m in config["data"] and row[f"has_{m}"]]


def predictions_table(cohort: pd.DataFrame, configs: Sequence[dict], answers: Sequence[dict[str, float]]) -> pd.DataFrame:
    """One row per subject of the cohort (columns: COLUMNS). `answers`: per model, uid -> probability (NaN: it only embeds)."""
    ranges, rows = widest(configs), []
    hashes = {config["splits"]["sha256"]: traces(cohort, config["splits"]["sha256"]) for config in configs}
    simulated = any(d["kind"] == "simulate" for d in configs[0].get("about", {}).get("datasets", {}).values())
    seen = [set(config["seen"]) for config in configs]
    for row in cohort.to_dict("records"):
        n_seen = sum(bool(hashes[c["splits"]["sha256"]][row["uid"]] & own) for c, own in zip(configs, seen))
        values = np.array([own[row["uid"]] for own in answers if row["uid"] in own])
        used = used_modalities(row, configs[0])
        words = (
            [f"in the training data of {n_seen} of {len(configs)} models: their answers are no predictions"] if n_seen else []
        )
        words += outside(row, ranges, used) if used else ["has no modality that the model reads"]
        words += ["the model was trained on simulated data"] if simulated else []
        mean = values.mean() if len(values) else np.nan
        spread = values.std(ddof=1) if len(values) > 1 else np.nan
        named = {key: row[key] for key in ("uid", "dataset", "site")}
        named |= {"modalities": "+".join(used) or None, "p": mean, "p_sd": spread, "n_models": len(configs), "n_seen": n_seen}
        rows.append({**named, "warnings": "; ".join(words) or None})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def warnings_told(table: pd.DataFrame) -> list[str]:
    """A line for each of the ten most frequent warnings in a table of predictions."""
    return [f"  warning ({n} subjects): {text}" for text, n in table["warnings"].value_counts().head(10).items()]


def describe_models(folders: Sequence[Path], configs: Sequence[dict]) -> dict[str, Any]:
    """What the sidecar says of the models behind a table of predictions."""
    first = configs[0]
    return {
        "kind": first["kind"],
        "study": first.get("about", {}).get("study"),
        "task": first.get("task"),
        "splits_sha256": first["splits"]["sha256"],
        "weights_sha256": {folder.name: config["weights_sha256"] for folder, config in zip(folders, configs)},
        "use": "research only; not a medical device, not for diagnosis",
    }


def run(*, stores: Path, cohort: Path, models: Sequence[Path], out: Path, embeddings: Path, threads: int) -> None:
    """Ask all `models` about every subject of `cohort`: predictions at `out` (TSV with a JSON sidecar, Parquet beside it) and
    the embeddings by each model, a long table, at `embeddings`.

    Raises McspError when the models do not belong together, or can't read these stores.
    """
    torch.set_num_threads(threads)
    table, configs = read_table(cohort), [read_json(folder / "config.json") for folder in models]
    check_alike(configs)
    check_inputs(stores, table, configs[0])
    answers, rows = [], []
    for folder in models:
        uids, p, z = ask(load_model(folder), stores, table)
        answers.append(dict(zip(uids, p)))
        has = table.set_index("uid").loc[uids]
        rows += [
            {"uid": uid, "model": folder.name, "modality": m, "domain": d, "embedding": values[i].tolist()}
            for (m, d), values in z.items()
            for i, uid in enumerate(uids)
            if has[f"has_{m}"].iloc[i]
        ]
    write_table(pd.DataFrame(rows, columns=["uid", "model", "modality", "domain", "embedding"]), embeddings)
    found = predictions_table(table, configs, answers)
    write_table(found, out.with_suffix(".parquet"))
    write_tsv(found, out, COLUMNS)
    sidecar = out.with_suffix(".json")
    write_json(sidecar, {**read_json(sidecar), "Models": describe_models(models, configs)})
    warned = found["warnings"].notna().sum()
    print(f"{len(found)} subjects, {len(models)} models, {warned} subjects with warnings: {out}")
    print("\n".join(warnings_told(found)))
