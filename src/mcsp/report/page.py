"""The summary page: one HTML file that a clinician can read, and that needs nothing beside itself."""

from __future__ import annotations

import base64
import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jinja2
import pandas as pd
import yaml

from mcsp import __version__
from mcsp.bench import stage_costs
from mcsp.evaluation.comparisons import LEVEL, over_subjects
from mcsp.evaluation.fusion import fusion_text
from mcsp.options.tasks import Task
from mcsp.report.methods import methods_text
from mcsp.store import atomic_path, read_json, read_table, read_tsv

PACKAGES = ["snakemake", "torch", "lightning", "captum", "mne", "nilearn", "scikit-learn", "numpy", "pandas", "pyarrow"]
SECTIONS = {
    "answer": "Answer",
    "cohort": "Cohort",
    "training": "Training",
    "performance": "Performance",
    "others": "Other tasks",
    "ablations": "What each part adds",
    "controls": "Controls",
    "biomarkers": "Biomarkers",
    "exclusions": "Exclusions",
    "methods": "Methods",
    "provenance": "Provenance",
}
FIGURE_SECTIONS = {
    **dict.fromkeys(("cohort", "flow", "characteristics", "sites"), "cohort"),
    **dict.fromkeys(("architecture", "training", "embeddings", "retrieval"), "training"),
    "sweep": "performance",
    "segments": "performance",
    "performance": "performance",
    "curves": "performance",
    "calibration": "performance",
    "selective": "performance",
    "controls": "controls",
    "sweep": "ablations",
}

STATISTICS = {
    "calibration": "Calibration",
    "temperatures": "Temperatures",
    "selective": "Selective prediction",
    "subgroups": "Subgroups",
    "gaps": "Gaps between subgroups",
}


def _cell(value: object) -> dict:
    if isinstance(value, bool) or value is None or (isinstance(value, float) and math.isnan(value)):
        return {"text": "" if value is None or value != value else str(value), "number": False}
    if isinstance(value, int | float):
        return {"text": f"{value:.3g}" if isinstance(value, float) else str(value), "value": value, "number": True}
    return {"text": str(value), "number": False}


def _table(title: str, rows: pd.DataFrame, descriptions: dict | None = None, *, long: bool = False) -> dict:
    found = {c: (descriptions or {}).get(c, {}).get("Description", "") for c in rows.columns}
    cells = [[_cell(v) for v in row] for row in rows.astype(object).itertuples(index=False)]
    return {"title": title, "columns": list(rows.columns), "rows": cells, "help": found, "long": long}


def _file_table(title: str, path: Path, *, long: bool = False, drop: Sequence[str] = ()) -> dict:
    return _table(title, read_tsv(path).drop(columns=list(drop)), read_json(path.with_suffix(".json")), long=long)


def _figure(stem: Path) -> dict:
    data = base64.b64encode(stem.with_name(stem.name + ".png").read_bytes()).decode()
    caption = stem.with_name(stem.name + ".caption.txt").read_text(encoding="utf-8").strip()
    return {"name": stem.name, "data": f"data:image/png;base64,{data}", "caption": caption}


def answer(title: str, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> dict:
    """A task's answer: MCSP's AUROC, and in words how it stands against phenotype and against the linear rival."""
    areas = metrics[metrics["metric"] == "auroc"].set_index("method")
    ours = next(name for name in areas.index if name.startswith("mcsp"))
    row = areas.loc[ours]
    pairs = over_subjects(comparisons)
    pairs = pairs[(pairs["method"] == ours) & (pairs["metric"] == "auroc")].set_index("rival")
    verdict = pairs.loc["phenotype", "verdict"]
    words = {
        "better": "Beats phenotype, site and motion alone",
        "not told apart": "Fails: does not beat phenotype, site and motion alone",
        "worse": "Fails: worse than phenotype, site and motion alone",
    }[verdict]
    linear = next((name for name in areas.index if name.startswith("linear")), None)
    rival = ""
    if linear:
        word = {"better": "better than", "worse": "worse than", "not told apart": "not told apart from"}[
            pairs.loc[linear, "verdict"]
        ]
        rival = f"{word} the simple rival ({linear}: {areas.loc[linear, 'value']:.2f})"
    return {
        "title": title,
        "against": words,
        "good": verdict == "better",
        "rival": rival,
        **row[["value", "low", "high", "n", "n_case"]].to_dict(),
    }


def caveats(study: dict, verdicts: pd.DataFrame, answers: list[dict]) -> list[str]:
    """What a reader must know beside the answer."""
    unseen = (
        "Pre-training saw the test subjects' recordings, though not their labels."
        if study["pretrain"]["scope"] == "transductive"
        else "No subject was predicted by a model that had seen it."
    )
    level = f"{study['evaluate']['confidence']:.0%}"
    lines = [f"AUROC: 0.5 is guessing, 1 is perfect. Brackets: {level} bootstrap interval over subjects. {unseen}"]
    if any(not a["good"] for a in answers):
        lines.append(
            "Where imaging does not beat age, sex, site and head motion, the imaging result is to be taken as a failure."
        )
    judged = verdicts[verdicts["score"] == "relevance mass"]
    if judged.empty:
        lines.append(
            "No effect was planted, so no attribution method is proven on these data: the maps are unproven, and "
            "show model-relevance, not causes."
        )
    else:
        lines.append(
            f"Attribution methods found the planted effects in {(judged['verdict'] == 'pass').sum()} of {len(judged)} checks: "
            "trust the maps only where they passed. Model-relevant does not mean causal."
        )
    if study["splits"]["protocol"] == "kfold":
        lines.append(
            "Test subjects come from the same sites as training subjects: new sites can do worse (splits.protocol: "
            "leave-one-site-out)."
        )
    return lines


def controls_text(table: pd.DataFrame | None) -> str:
    """Whether the controls passed, with numbers; or that they did not run."""
    if table is None:
        return "The controls (permuted and random labels) did not run: `snakemake controls`, then `snakemake report`."
    told = table[table["verdict"] != "too few"]
    failed = told[told["verdict"] != "passed"]
    text = (
        f"Methods that learn labels which say nothing must land at an AUROC of 0.5. {len(told) - len(failed)} of {len(told)} "
        f"controls passed; means of {told['auroc'].min():.2f} to {told['auroc'].max():.2f}; "
        f"{int(((told['low'] <= 0.5) & (told['high'] >= 0.5)).sum())} of the intervals hold 0.5 before correction for their "
        f"number. They reach {((told['high'] - told['low']) / 2).mean():.2f} to either side on average: a smaller leak would "
        "not show (more draws narrow them). Pre-training reads no labels, so the encoders are the study's own."
    )
    if failed.empty:
        return text
    names = "; ".join(
        f"{r.control}, {r.task}, {r.method}: {r.auroc:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in failed.itertuples()
    )
    return f"FAILED, so results of these methods must not be believed before it is known why: {names}. {text}"


def ablations_text(sweep: Path | None) -> str:
    """Which parts the model is worse without, and whether fusion helps; or that the ablations did not run."""
    if sweep is None:
        return "The ablations did not run: `snakemake sweep`, then `snakemake report`."
    told = read_tsv(sweep).dropna(subset="p_holm")
    found = [
        f"{row.kind}: {row.variant} ({row.task}, {row.difference:+.2f})" for row in told[told["p_holm"] < LEVEL].itertuples()
    ]
    changed = "; ".join(found) if found else "none, so no part of the model is shown to matter on these data"
    fusion = fusion_text(read_tsv(sweep.with_name("fusion.tsv")))
    return (
        f"{fusion} One thing at a time was changed and everything trained anew, on the same folds. Of {len(told)} comparisons "
        "with the whole model, these differ in AUROC (variant less whole; DeLong's test, Holm-corrected within the task): "
        f"{changed}. Nothing was chosen by these tables."
    )


def provenance(study: dict) -> pd.DataFrame:
    """Versions of what ran."""
    rows = [("mcsp", __version__), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "in another environment"))
    return pd.DataFrame(rows, columns=["software", "version"])


def run(
    *,
    study: dict,
    cohort: Path,
    exclusions: Path,
    metrics: Sequence[Path],
    comparisons: Sequence[Path],
    verdicts: Sequence[Path],
    statistics: Sequence[Path],
    others: Sequence[Path],
    controls: Path | None,
    sweep: Path | None,
    figures: Sequence[Path],
    benchmarks: Path,
    out: Path,
) -> None:
    """Write the page. `study`: the whole study as plain values, with `source`, the name of its file; `statistics`: the
    directories of the tasks' tables; `others`: metrics of the other tasks; `controls`, `sweep`: their tables, once they ran.
    """
    people, left_out = read_table(cohort), read_tsv(exclusions)
    tasks = [{"name": name, "title": task["title"] or name} for name, task in study["tasks"].items()]
    judged = pd.concat([read_tsv(path).assign(task=task["name"]) for path, task in zip(verdicts, tasks)], ignore_index=True)
    answers = [answer(t["title"], read_tsv(m), read_tsv(c)) for t, m, c in zip(tasks, metrics, comparisons)]
    by_section: dict[str, list] = {}
    for stem in figures:
        kind = stem.name.split("-")[0]
        by_section.setdefault(FIGURE_SECTIONS.get(kind, "biomarkers"), []).append(_figure(stem))
    licences = pd.DataFrame(
        [(n, d["kind"], d["licence"]) for n, d in study["datasets"].items()], columns=["dataset", "kind", "licence"]
    )
    tables = {
        "cohort": [_table("Datasets and terms of use", licences)],
        "performance": [_file_table(f"Metrics: {t['title']}", m, long=True) for t, m in zip(tasks, metrics)]
        + [_file_table(f"Paired comparisons: {t['title']}", c, long=True, drop=["task"]) for t, c in zip(tasks, comparisons)]
        + [
            _file_table(f"{name}: {t['title']}", folder / f"{file}.tsv", long=True, drop=["task"])
            for t, folder in zip(tasks, statistics)
            for file, name in STATISTICS.items()
        ],
        "others": [
            _file_table(f"{task['title'] or name}: {Task.model_validate(task).question()}", path, drop=["task"])
            for (name, task), path in zip(study["other_tasks"].items(), others)
        ],
        "ablations": [
            _file_table("Single modalities against both", sweep.with_name("fusion.tsv")),
            _file_table("All variants", sweep, long=True),
        ]
        if sweep
        else [],
        "controls": [_file_table("All controls", controls, long=True)] if controls else [],
        "biomarkers": [_file_table(f"Verdicts on the methods: {t['title']}", v, long=True) for t, v in zip(tasks, verdicts)],
        "exclusions": [_file_table("Who or what was left out, and why", exclusions)],
        "provenance": [_table("Software", provenance(study)), _table("Costs of each stage", stage_costs(benchmarks))],
    }
    texts = {
        "performance": "Tables for a paper, as TSV and LaTeX, lie in the study's results under tables/.",
        "others": (
            "Sanity checks, whose strength is known: several classes, or a number, on the same folds, beside rivals."
            if others
            else "None was asked for."
        ),
        "ablations": ablations_text(sweep),
        "controls": controls_text(read_tsv(controls) if controls else None),
        "methods": methods_text(study, people),
        "biomarkers": (
            "Model-relevant regions, connections, channels and bands. Verdicts come first: a map whose "
            "method failed shows nothing."
        ),
        "provenance": (
            "Splits, models and stores carry hashes that every stage checks. Snakemake's report around "
            "this page shows rules and code."
        ),
    }
    bodies = [
        {
            "id": id_,
            "name": name,
            "text": texts.get(id_, ""),
            "figures": by_section.get(id_, []),
            "tables": tables.get(id_, []),
            "pre": "",
        }
        for id_, name in SECTIONS.items()
        if id_ != "answer"
    ]
    bodies[-1]["pre"] = yaml.safe_dump(study, sort_keys=False, allow_unicode=True)
    both = people["has_fmri"] & people["has_eeg"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    html = environment.get_template("template.html").render(
        title=study["title"] or study["study"],
        study=study,
        version=__version__,
        simulated=[name for name, d in study["datasets"].items() if d["kind"] == "simulate"],
        transductive=study["pretrain"]["scope"] == "transductive",
        tasks=tasks,
        modalities=" and ".join({"fmri": "fMRI", "eeg": "EEG"}[m] for m in ("fmri", "eeg") if people[f"has_{m}"].any()),
        n=len(people),
        n_datasets=people["dataset"].nunique(),
        n_sites=(people["dataset"] + people["site"]).nunique(),
        n_both=int(both.sum()),
        n_fmri=int((people["has_fmri"] & ~both).sum()),
        n_eeg=int((people["has_eeg"] & ~both).sum()),
        n_out=len(left_out),
        answers=answers,
        caveats=caveats(study, judged, answers),
        sections=list(SECTIONS.items()),
        bodies=bodies,
    )
    with atomic_path(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(f"summary page: {out}")
