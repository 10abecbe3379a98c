"""Made-up results in the tables that figures read."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.evaluation.calibration import calibration_tables
from mcsp.evaluation.comparisons import pooled
from mcsp.evaluation.uncertainty import selective_table, uncertainties
from mcsp.figures.catalogue import ALL, module_of
from mcsp.options.results import EvaluateOptions, FigureOptions
from mcsp.store import StoreWriter, read_table, read_tsv, write_json, write_table, write_tsv
from mcsp.training.embed import searches

DOMAINS = ("spatial", "temporal", "spectral")
CH_NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"]
METHODS = ("mcsp", "linear FC", "phenotype")
RIVALS = ("linear FC + band power, ComBat", "SVM", "tangent", "tangent SVM", "random forest", "gradient boosting", "MI, binned",
          "MI, kernel densities", "MLP", "attention on connectivity", "EEGNet", "ShallowFBCSPNet", "EEG Conformer",
          "linear band power")  # fmt: skip
MANY = (*METHODS, *RIVALS[:13])
LONG = "Left hemisphere superior temporal sulcus, posterior part of the parcel, "


def tsv(table: pd.DataFrame, path):
    write_tsv(table, path, {c: c for c in table})
    return path


def predictions(folder, seed=0, n=60, methods=METHODS):
    """Probabilities of methods, MCSP's the best, two seeds of it."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    rows = []
    for method, strength in zip(methods, (2.0, 1.0, *[0.2] * 20)):
        for number in range(2 if method == "mcsp" else 1):
            p = 1 / (1 + np.exp(-(strength * (y - 0.5) + rng.normal(size=n))))
            rows += [(method, i % 3, number, f"d/sub-{i}", int(y[i]), p[i]) for i in range(n)]
    table = pd.DataFrame(rows, columns=["method", "fold", "seed", "uid", "y", "p"])
    write_table(table, folder / "predictions.parquet")
    return folder / "predictions.parquet"


def metrics(folder, task, methods=METHODS):
    rows = []
    for i, method in enumerate(methods):
        i %= 7
        for metric in ("auroc", "balanced_accuracy", "brier"):
            rows.append((task, method, "kfold", 60, 30, metric, 0.8 - 0.1 * i, 0.7 - 0.1 * i, 0.9 - 0.1 * i))
    columns = ["task", "method", "protocol", "n", "n_case", "metric", "value", "low", "high"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / f"{task}.tsv")


def cohort(folder, n=40, seed=0, n_sites=11, labels=("ASD", "ADHD;ASD", "control", ""), site="site"):
    """The first half in one dataset, the rest in another; one site has no women, age and motion are not known of all."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "uid": [f"d/sub-{i}" for i in range(n)],
            "dataset": ["d"] * (n // 2) + ["e"] * (n - n // 2),
            "site": [f"{site}{i % n_sites}" for i in range(n)],
            "labels": rng.choice(list(labels), n),
            "has_fmri": True,
            "has_eeg": rng.random(n) < 0.5,
            "age": np.where(np.arange(n) % 9 == 8, np.nan, rng.uniform(8, 60, n).round(1)),
            "sex": np.where(np.arange(n) % n_sites == 0, "M", rng.choice(["F", "M"], n)),
            "mean_fd": np.where(np.arange(n) % 7 == 6, np.nan, rng.uniform(0.05, 0.5, n)),
        }
    )
    write_table(table, folder / "subjects.parquet")
    return folder / "subjects.parquet"


def exclusions(folder, reasons=("fmri too short: 20 s",)):
    rows = [(f"d/sub-x{i}", "d", "fmri", "excluded", reason) for i, reason in enumerate(reasons)]
    return tsv(pd.DataFrame(rows, columns=["uid", "dataset", "stage", "state", "reason"]), folder / "exclusions.tsv")


def unit(x):
    return x / np.linalg.norm(x)


def embeddings(folder, n=20, modalities=("fmri", "eeg"), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (f"d/sub-{i}", 0, stage, modality, domain, unit(rng.normal(size=8)).astype(np.float32).tolist())
        for i in range(n)
        for stage in ("untrained", "pretrained")
        for modality in modalities
        for domain in DOMAINS
    ]
    columns = ["uid", "fold", "stage", "modality", "domain", "embedding"]
    write_table(pd.DataFrame(rows, columns=columns), folder / "embeddings.parquet")
    return folder / "embeddings.parquet"


def ranks(folder, n=20, modalities=("fmri", "eeg")):
    """At which rank the partners in `embeddings` are found: what `mcsp embed-folds` writes beside these."""
    found = []
    for stage in ("untrained", "pretrained"):
        table = read_table(embeddings(folder, n, modalities))
        wide = table[table["stage"] == stage].pivot(index="uid", columns=["modality", "domain"], values="embedding")
        z = {key: np.stack(list(own)) for key, own in wide.items()}
        found.append(searches(list(wide.index), z, {m: np.ones(n, bool) for m in modalities}).assign(fold=0, stage=stage))
    write_table(pd.concat(found).assign(scope="inductive"), folder / "ranks.parquet")
    return folder / "ranks.parquet"


def config(folder, modalities=("fmri", "eeg"), n=12, trained=True):
    """Configuration of a pre-trained model and of a classifier."""
    every = {
        "fmri": {"spatial": [n, n], "temporal": [n, 48], "spectral": [n, 25]},
        "eeg": {"spatial": [4, 13, 13], "temporal": [10, 13, 40], "spectral": [10, 13, 21]},
    }
    shapes = {f"{modality}/{domain}": every[modality][domain] for modality in modalities for domain in DOMAINS}
    sizes = {"width": 16, "depth": 1, "heads": 2, "dim": 8, "patch": 12, "segment_features": 3, "density": 0.2, "dropout": 0.1}
    losses = dict.fromkeys(("id", "cd", "im", "cm", "cf", "kd"), 1.0 if trained else 0.0)
    values = {
        "architecture": {**sizes, "shapes": shapes},
        "fold": 0,
        "n_subjects": 30,
        "pretrain": {"loss": losses, "epochs": 5 if trained else 0},
        "data": {"eeg": {"sfreq": 50.0}},
        "head": {"hidden": 5, "dropout": 0.3},
    }
    write_json(folder / "config.json", values)
    return folder / "config.json"


def counts(folder, tasks=("asd", "mdd")):
    """Cases and controls of tasks by dataset."""
    paths = []
    for task in tasks:
        rows = pd.DataFrame([("d", 5, 6, 1, "case"), ("e", 4, 6, 0, "case")])
        rows.columns = ["dataset", "n_case", "n_control", "n_comorbid", "comorbid"]
        paths.append(tsv(rows, folder / f"task-{task}.tsv"))
    return paths


def spectra(folder, n=60, seed=0, ch_names=CH_NAMES):
    """One store of EEG amplitudes: cases (odd numbers, as in `predictions`) have twice the alpha at O1 and O2."""
    rng = np.random.default_rng(seed)
    freqs = np.arange(0, 26.0, 1.25)
    meta = {
        "units": "relative",
        "axes": ["segment", "channel", "frequency"],
        "ch_names": list(ch_names),
        "freqs": freqs.tolist(),
    }
    path = folder / "spectral.arrow"
    with StoreWriter(path, (3, len(ch_names), len(freqs)), meta) as store:
        for i in range(n):
            values = rng.gamma(20, 0.05, (3, len(ch_names), len(freqs))) / (1 + freqs / 10)
            if i % 2:
                values[:, -5:-3][..., (freqs >= 8) & (freqs < 13)] *= 2
            store.add(f"d/sub-{i}", values, 3)
    return [path]


def history(folder, epochs=5):
    rows = [(e, split, 1e-3, 3.0 / (e + 1), 2.0, 5.0) for e in range(epochs) for split in ("train", "val")]
    return tsv(pd.DataFrame(rows, columns=["epoch", "split", "lr", "id_fmri", "cd_fmri", "total"]), folder / "history.tsv")


def atlas(folder, n=12, known=True, networks=("default", "occipital", "control"), name="roi"):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"index": range(1, n + 1), "name": [f"{name}{i}" for i in range(n)]})
    table["network"] = [networks[i % len(networks)] for i in range(n)]
    for axis in "xyz":
        table[axis] = np.round(rng.uniform(-50, 50, n), 1) if known else np.nan
    return tsv(table, folder / "atlas.tsv")


def without_image(own):
    """An atlas of which only the regions' centres are known."""
    return replace(own, image=None)


def maps(folder, modalities=("fmri", "eeg"), n=12, seed=0, name="roi"):
    rng = np.random.default_rng(seed)
    rows = []

    def add(method, modality, domain, kind, names):
        shares = rng.dirichlet(np.ones(len(names)))
        rows.extend((method, modality, domain, kind, a, s, 0.9 * s, 1.1 * s, 0.5, 30) for a, s in zip(names, shares))

    for method in ("integrated_gradients", "smoothgrad"):
        for domain in DOMAINS:
            if "fmri" in modalities:
                add(method, "fmri", domain, "roi", [f"{name}{i}" for i in range(n)])
            if "eeg" in modalities:
                add(method, "eeg", domain, "channel", CH_NAMES)
                if domain != "temporal":
                    add(method, "eeg", domain, "channel_band", [f"{b}/{c}" for b in ("alpha", "beta") for c in CH_NAMES])
        if "fmri" in modalities:
            add(method, "fmri", "spatial", "edge", [f"{name}{i}|{name}{j}" for i in range(n) for j in range(i)])
    columns = ["method", "modality", "domain", "kind", "name", "mean", "low", "high", "stability", "n"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "maps.tsv")


def verdicts(folder, told=(("smoothgrad", "fmri", "spatial", "pass"), ("integrated_gradients", "fmri", "spatial", "fail"))):
    rows = [(m, mod, dom, "roi", "relevance mass", 0.5, 0.4, 0.6, 0.3, 0.3, 30, verdict) for m, mod, dom, verdict in told]
    columns = ["method", "modality", "domain", "unit", "score", "value", "low", "high", "chance", "reset", "n", "verdict"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "verdicts.tsv")


def trust(folder, told=(("smoothgrad", "fmri", "spatial", "pass"), ("integrated_gradients", "fmri", "spatial", "fail"))):
    """What `told` says of the maps in this folder; unproven where that says nothing."""
    places = read_tsv(folder / "maps.tsv")[["method", "modality", "domain", "kind"]].drop_duplicates()
    known = {tuple(place): verdict for *place, verdict in told}
    verdict = [known.get(place, "unproven") for place in places.drop(columns="kind").itertuples(index=False, name=None)]
    return tsv(places.assign(verdict=verdict, source="made up", reason=None), folder / "trust.tsv")


def sweep(folder, tasks=("asd", "mdd"), more=()):
    """A table of variants: tasks, one variant that speaks of fewer subjects."""
    rows = [
        (
            task,
            kind,
            variant,
            "transductive" if variant == "transductive" else "inductive",
            n,
            0.7 - 0.05 * (i % 6),
            0.6 - 0.05 * (i % 6),
            0.8 - 0.05 * (i % 6),
            p,
        )
        for task in tasks
        for i, (kind, variant, n, p) in enumerate(
            [
                ("whole", "as it is", 60, np.nan),
                ("pre-training scope", "transductive", 60, 0.2),
                ("loss", "without CM", 60, 0.4),
                ("modality", "EEG only", 40, 0.01),
                ("samples per segment", "50", 60, 1.0),
                *more,
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


def _statistics(folder, methods=METHODS):
    """Means over seeds of the made-up predictions, MCSP's passes with dropout among them."""
    table = read_table(predictions(folder, methods=methods))
    dropout = table[table["method"] == "mcsp"].assign(mean_entropy=0.3, n_passes=4)
    return pooled(table), dropout.drop(columns="method")


def calibration(folder, methods=METHODS):
    means, _ = _statistics(folder, methods)
    heat = pd.DataFrame({"fold": range(3), "temperature": 2.0})
    scores, points = calibration_tables("asd", means, heat, EvaluateOptions(n_bootstrap=20))
    return {"calibration": tsv(scores, folder / "calibration.tsv"), "reliability": tsv(points, folder / "reliability.tsv")}


def selective(folder, methods=METHODS):
    means, dropout = _statistics(folder, methods)
    known = uncertainties("asd", means[means["method"] == "mcsp"], dropout)
    table = selective_table("asd", means, known, EvaluateOptions(n_bootstrap=20))
    return {"uncertainty": tsv(known, folder / "uncertainty.tsv"), "selective": tsv(table, folder / "selective.tsv")}


def controls(folder, tasks=("asd",), methods=METHODS):
    """A table of controls: the third method failed."""
    rows = [
        (control, task, method, 60, 9, 0.5 + 0.01 * i, 0.4, 0.6, "FAILED: above chance" if i == 2 else "passed")
        for control, task in (*(("permuted labels", task) for task in tasks), ("random label", "random-label"))
        for i, method in enumerate(methods)
    ]
    columns = ["control", "task", "method", "n", "n_runs", "auroc", "low", "high", "verdict"]
    return tsv(pd.DataFrame(rows, columns=columns), folder / "controls.tsv")


def all_verdicts(folder, tasks=("asd", "mdd"), methods=("integrated_gradients", "smoothgrad")):
    """Verdicts of tasks, each in a folder of its name: half of them passed, one is below chance."""
    paths, units, said = [], {"fmri": "roi", "eeg": "channel_band"}, ("fail", "pass")
    for task in tasks:
        rows = [
            (method, modality, domain, units[modality], score, 0.02 + 0.1 * (i % 4), 0.01, 0.5, 0.1, 0.1, 30, said[i % 2])
            for method in methods
            for modality in ("fmri", "eeg")
            for i, domain in enumerate(DOMAINS)
            for score in ("relevance mass", "relevance rank")
        ]
        columns = ["method", "modality", "domain", "unit", "score", "value", "low", "high", "chance", "reset", "n", "verdict"]
        (folder / task).mkdir(exist_ok=True)
        paths.append(tsv(pd.DataFrame(rows, columns=columns), folder / task / "verdicts.tsv"))
    return paths


def files(folder):
    """All that figures are drawn from, by the names that `Plan.figure_files` gives them."""
    model = config(folder)
    return {
        "cohort": cohort(folder),
        "exclusions": exclusions(folder),
        "counts": counts(folder),
        "model": model,
        "classifier": [model],
        "histories": [history(folder), history(folder)],
        "embeddings": embeddings(folder),
        "ranks": ranks(folder),
        "metrics": [metrics(folder, task) for task in ("asd", "mdd")],
        "predictions": predictions(folder),
        **calibration(folder),
        **selective(folder),
        "maps": maps(folder),
        "trust": trust(folder),
        "atlas": atlas(folder),
        "spectra": spectra(folder),
        "all_verdicts": all_verdicts(folder),
        "variants": sweep(folder),
        "variants_retrieval": sweep_retrieval(folder),
        "controls": controls(folder),
    }


def crowded(folder):
    """As `files`, with far more of everything: sites, labels, reasons, tasks, rivals, networks, and long names."""
    tasks, few = ("asd", "adhd", "mdd", "schizophrenia"), files(folder)
    labels = ("control", "ASD", "ADHD", "MDD", "ADHD;ASD", "ADHD;MDD", "ASD;MDD", "OCD", "PTSD", "bipolar disorder;PTSD", "")
    reasons = [f"reason {'x' * i} that is rather long to read and to print: {i} of 10" for i in range(30)]
    more = [("loss", f"without {term}", 60, 0.5) for term in "ABCDEF"]
    more += [("domain", f"{domain} {what}", 60, 0.5) for domain in DOMAINS for what in ("only", "left out")]
    more += [("samples per segment", str(n), 60, 0.5) for n in (100, 200, 400, 800)]
    return few | {
        "cohort": cohort(folder, n=400, n_sites=20, labels=labels, site="University Hospital of Somewhere "),
        "exclusions": exclusions(folder, reasons),
        "counts": counts(folder, tasks),
        "embeddings": embeddings(folder, n=60),
        "ranks": ranks(folder, n=60),
        "metrics": [metrics(folder, task, MANY) for task in tasks],
        "predictions": predictions(folder, methods=MANY),
        **calibration(folder, MANY),
        **selective(folder, MANY),
        "maps": maps(folder, n=60, name=LONG),
        "trust": trust(folder),
        "atlas": atlas(folder, n=60, networks=[f"network of long name {i}" for i in range(20)], name=LONG),
        "all_verdicts": all_verdicts(
            folder, tasks, ("integrated_gradients", "smoothgrad", "deep_lift", "grad_cam", "attention")
        ),
        "variants": sweep(folder, tasks, more),
        "variants_retrieval": sweep_retrieval(folder),
        "controls": controls(folder, tasks, MANY),
    }


def bare(folder):
    """As `files`, with as little as can be: one site, one subject of a group, EEG alone, no pre-training, nothing proven."""
    few = files(folder)
    model = config(folder, modalities=("eeg",), trained=False)
    people = read_table(cohort(folder, n=6, n_sites=1, labels=("control",))).assign(dataset="d", has_fmri=False, has_eeg=True)
    people = people.assign(labels=["ASD"] + ["control"] * 5, sex=None, age=np.nan, mean_fd=np.nan)
    write_table(people, few["cohort"])
    return few | {
        "exclusions": exclusions(folder, ()),
        "counts": [],
        "model": model,
        "classifier": [],
        "histories": [history(folder, epochs=0)],
        "embeddings": embeddings(folder, n=5, modalities=("eeg",)),
        "ranks": ranks(folder, n=5, modalities=("eeg",)),
        "maps": maps(folder, modalities=("eeg",)),
        "trust": trust(folder, told=()),
        "atlas": atlas(folder, known=False),
        "all_verdicts": [verdicts(folder, told=())],
    }


def draw(kind, given, out, options):
    """One figure of made-up files."""
    import_module(module_of(kind)).run(
        **{name: given[name] for name in ALL[kind].files},
        **({"task_name": "asd"} if ALL[kind].per_task else {}),
        out=out,
        options=options,
    )


if __name__ == "__main__":  # a folder with made-up files, and one for the figures: as another process draws them
    made = files(Path(sys.argv[1]))
    for name in ALL:
        draw(name, made, Path(sys.argv[2]) / name, FigureOptions(dpi=60, note="SIMULATED DATA: made up"))
