"""Made-up results in the tables that figures read."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mcsp.evaluation.calibration import calibration_tables
from mcsp.evaluation.comparisons import pooled
from mcsp.evaluation.uncertainty import selective_table, uncertainties
from mcsp.options.results import EvaluateOptions
from mcsp.store import read_table, write_table, write_tsv

DOMAINS = ("spatial", "temporal", "spectral")
CH_NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"]
METHODS = ("mcsp", "linear FC", "phenotype")


def tsv(table: pd.DataFrame, path):
    write_tsv(table, path, {c: c for c in table})
    return path


def predictions(folder, seed=0, n=60):
    """Probabilities of three methods, MCSP's the best, two seeds of it."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    rows = []
    for method, strength in zip(METHODS, (2.0, 1.0, 0.2)):
        for number in range(2 if method == "mcsp" else 1):
            p = 1 / (1 + np.exp(-(strength * (y - 0.5) + rng.normal(size=n))))
            rows += [(method, i % 3, number, f"d/sub-{i}", int(y[i]), p[i]) for i in range(n)]
    table = pd.DataFrame(rows, columns=["method", "fold", "seed", "uid", "y", "p"])
    write_table(table, folder / "predictions.parquet")
    return folder / "predictions.parquet"


def metrics(folder, task):
    rows = []
    for i, method in enumerate(METHODS):
        for metric in ("auroc", "balanced_accuracy", "brier"):
            rows.append((task, method, "kfold", 60, 30, metric, 0.8 - 0.1 * i, 0.7 - 0.1 * i, 0.9 - 0.1 * i))
    columns = ["task", "method", "protocol", "n", "n_case", "metric", "value", "low", "high"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / f"{task}.tsv")


def cohort(folder, n=40, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "uid": [f"d/sub-{i}" for i in range(n)],
            "dataset": ["d"] * (n // 2) + ["e"] * (n - n // 2),
            "site": [f"site{i % 11}" for i in range(n)],
            "labels": rng.choice(["ASD", "ADHD;ASD", "control", ""], n),
            "has_fmri": True,
            "has_eeg": rng.random(n) < 0.5,
        }
    )
    write_table(table, folder / "subjects.parquet")
    return folder / "subjects.parquet"


def exclusions(folder, reasons=("fmri too short: 20 s",)):
    rows = [(f"d/sub-x{i}", "d", "fmri", "excluded", reason) for i, reason in enumerate(reasons)]
    return tsv(pd.DataFrame(rows, columns=["uid", "dataset", "stage", "state", "reason"]), folder / "exclusions.tsv")


def embeddings(folder, n=20, modalities=("fmri", "eeg"), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (f"d/sub-{i}", 0, stage, modality, domain, rng.normal(size=8).astype(np.float32).tolist())
        for i in range(n)
        for stage in ("untrained", "pretrained")
        for modality in modalities
        for domain in DOMAINS
    ]
    columns = ["uid", "fold", "stage", "modality", "domain", "embedding"]
    write_table(pd.DataFrame(rows, columns=columns), folder / "embeddings.parquet")
    return folder / "embeddings.parquet"


def history(folder, epochs=5):
    rows = [(e, split, 1e-3, 3.0 / (e + 1), 2.0, 5.0) for e in range(epochs) for split in ("train", "val")]
    return tsv(pd.DataFrame(rows, columns=["epoch", "split", "lr", "id_fmri", "cd_fmri", "total"]), folder / "history.tsv")


def atlas(folder, n=12, known=True):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"index": range(1, n + 1), "name": [f"roi{i}" for i in range(n)], "network": "net"})
    for axis in "xyz":
        table[axis] = np.round(rng.uniform(-50, 50, n), 1) if known else np.nan
    return tsv(table, folder / "atlas.tsv")


def maps(folder, modalities=("fmri", "eeg"), n=12, seed=0):
    rng = np.random.default_rng(seed)
    rows = []

    def add(method, modality, domain, kind, names):
        shares = rng.dirichlet(np.ones(len(names)))
        rows.extend((method, modality, domain, kind, a, s, 0.9 * s, 1.1 * s, 0.5, 30) for a, s in zip(names, shares))

    for method in ("integrated_gradients", "smoothgrad"):
        for domain in DOMAINS:
            if "fmri" in modalities:
                add(method, "fmri", domain, "roi", [f"roi{i}" for i in range(n)])
            if "eeg" in modalities:
                add(method, "eeg", domain, "channel", CH_NAMES)
                if domain != "temporal":
                    add(method, "eeg", domain, "channel_band", [f"{b}/{c}" for b in ("alpha", "beta") for c in CH_NAMES])
        if "fmri" in modalities:
            add(method, "fmri", "spatial", "edge", [f"roi{i}|roi{j}" for i in range(n) for j in range(i)])
    columns = ["method", "modality", "domain", "kind", "name", "mean", "low", "high", "stability", "n"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "maps.tsv")


def verdicts(folder, told=(("smoothgrad", "fmri", "spatial", "pass"), ("integrated_gradients", "fmri", "spatial", "fail"))):
    rows = [(m, mod, dom, "roi", "relevance mass", 0.5, 0.4, 0.6, 0.3, 0.3, 30, verdict) for m, mod, dom, verdict in told]
    columns = ["method", "modality", "domain", "unit", "score", "value", "low", "high", "chance", "reset", "n", "verdict"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "verdicts.tsv")


def sweep(folder):
    """A table of variants: two tasks, one variant that speaks of fewer subjects."""
    rows = [
        (
            task,
            kind,
            variant,
            "transductive" if variant == "transductive" else "inductive",
            n,
            0.7 - 0.05 * i,
            0.6 - 0.05 * i,
            0.8 - 0.05 * i,
            p,
        )
        for task in ("asd", "mdd")
        for i, (kind, variant, n, p) in enumerate(
            [
                ("whole", "as it is", 60, np.nan),
                ("pre-training scope", "transductive", 60, 0.2),
                ("loss", "without CM", 60, 0.4),
                ("modality", "EEG only", 40, 0.01),
                ("samples per segment", "50", 60, 1.0),
            ]
        )
    ]
    columns = ["task", "kind", "variant", "scope", "n", "auroc", "auroc_low", "auroc_high", "p_holm"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "sweep.tsv")


def sweep_retrieval(folder):
    """Retrieval of some of the same variants: the one of a single modality has none."""
    names = [("whole", "as it is"), ("pre-training scope", "transductive"), ("loss", "without CM")]
    rows = [(*name, "fused", 50, 25.0, 0.2, 0.6 - 0.1 * i, 0.5 - 0.1 * i, 0.7 - 0.1 * i, 0.02) for i, name in enumerate(names)]
    columns = ["kind", "variant", "domain", "n", "searched", "chance_top5", "top5", "top5_low", "top5_high", "p_holm"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "sweep_retrieval.tsv")


def _statistics(folder):
    """Means over seeds of the made-up predictions, MCSP's passes with dropout among them."""
    table = read_table(predictions(folder))
    dropout = table[table["method"] == "mcsp"].assign(mean_entropy=0.3, n_passes=4)
    return pooled(table), dropout.drop(columns="method")


def calibration(folder):
    means, _ = _statistics(folder)
    heat = pd.DataFrame({"fold": range(3), "temperature": 2.0})
    scores, points = calibration_tables("asd", means, heat, EvaluateOptions(n_bootstrap=20))
    return {"calibration": tsv(scores, folder / "calibration.tsv"), "reliability": tsv(points, folder / "reliability.tsv")}


def selective(folder):
    means, dropout = _statistics(folder)
    known = uncertainties("asd", means[means["method"] == "mcsp"], dropout)
    table = selective_table("asd", means, known, EvaluateOptions(n_bootstrap=20))
    return {"uncertainty": tsv(known, folder / "uncertainty.tsv"), "selective": tsv(table, folder / "selective.tsv")}


def controls(folder):
    """A table of controls: one of them failed."""
    rows = [
        (control, task, method, 60, 9, 0.5 + 0.01 * i, 0.4, 0.6, "FAILED: above chance" if i == 2 else "passed")
        for control, task in (("permuted labels", "asd"), ("random label", "random-label"))
        for i, method in enumerate(METHODS)
    ]
    columns = ["control", "task", "method", "n", "n_runs", "auroc", "low", "high", "verdict"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "controls.tsv")
