"""The sections of the page, each from what is in the results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml
from markdown_it import MarkdownIt

from mcsp.bench import job_costs, stage_costs
from mcsp.errors import McspError
from mcsp.evaluation.comparisons import LEVEL, over_subjects
from mcsp.evaluation.fusion import fusion_text
from mcsp.figures.people import short_reason
from mcsp.options.tasks import Task
from mcsp.report import citations, provenance
from mcsp.report.answer import our_method
from mcsp.report.blocks import Block, Card, Heading, Pre, Text, download, file_table, table
from mcsp.report.methods import methods_text
from mcsp.report.results import Results
from mcsp.store import read_tsv

SHOWN = ("auroc", "balanced_accuracy", "sensitivity", "specificity", "auprc", "brier", "calibration_error")


def per_task(r: Results, make: Callable[[Results, str, str], list[Block]], prefix: str) -> list[Block]:
    """Blocks of each task under its heading; nothing for tasks that have none."""
    found: list[Block] = []
    for task in r.tasks:
        own = make(r, task.name, task.title)
        found += [Heading(task.title, f"{prefix}-{task.name}"), *own] if own else []
    return found


def optional(r: Results, title: str, name: str, **how) -> list[Block]:
    """A table of the results, in a list; empty where it is not there, or holds nothing."""
    path = r.path(name)
    return [file_table(title, path, **how)] if path and len(read_tsv(path)) else []


def reasons(left: pd.DataFrame) -> pd.DataFrame:
    """Exclusions counted by stage and reason; names and numbers in a reason do not tell it apart."""
    alike = left["reason"].fillna("no reason").map(short_reason).rename("reason")
    counts = left.groupby([left["stage"], left["state"], alike]).size().rename("n").reset_index()
    return counts.sort_values(["n", "stage"], ascending=[False, True])


def cohort(r: Results) -> list[Block]:
    left = r.tsv("cohort/exclusions.tsv")
    found: list[Block] = [*r.figures("cohort")]
    found += optional(r, "Who was studied", "tables/cohort.tsv")
    if left.empty:
        return [*found, Text("Nobody and no recording was left out.", "good")]
    told = {"stage": "Where it was left out", "reason": "Why; … stands for names and numbers", "n": "Subjects or recordings"}
    found.append(table("Reasons for leaving out", reasons(left), told))
    found += optional(r, "Who or what was left out, and why", "cohort/exclusions.tsv", folded=len(left) > 12)
    doubles = r.tsv("cohort/duplicates.tsv")
    if "state" in doubles:
        n = int((doubles["state"] == "double").sum())
        found.append(Text(f"Recordings under two names: {n} pair{'s' * (n != 1)} found by signal.", "" if n else "note"))
        found += optional(r, "Closest pairs of recordings", "cohort/duplicates.tsv", folded=True)
    return found


def by_site(people: pd.DataFrame) -> pd.DataFrame:
    """Quality by dataset and site: medians over subjects."""
    columns = ["mean_fd", "t_r", "sfreq", "gap_mm"]
    known = people.reindex(columns=[*people.columns, *(c for c in columns if c not in people)])
    groups = known.groupby(["dataset", "site"])
    counts = groups.agg(n=("uid", "size"), fmri=("has_fmri", "sum"), eeg=("has_eeg", "sum"))
    return counts.join(groups[columns].median().astype(float)).reset_index()


def used_runs(r: Results) -> pd.DataFrame:
    """Recordings looked at by dataset, modality and what became of them."""
    runs = r.many("status/*/*/shard-*.runs.tsv")
    if runs.empty:
        return runs
    parts = runs["place"].str.split("/", expand=True).set_axis(["dataset", "modality"], axis=1)
    return runs.groupby([parts["dataset"], parts["modality"], runs["state"]]).size().unstack(fill_value=0).reset_index()


def quality(r: Results) -> list[Block]:
    told = {
        "n": "Subjects", "fmri": "Subjects with usable fMRI", "eeg": "Subjects with usable EEG",
        "mean_fd": "Median over subjects of the mean framewise displacement in mm", "t_r": "Repetition time, median",
        "sfreq": "Sampling rate as recorded, median",
        "gap_mm": "Largest distance from a channel of the montage to the nearest good electrode in mm, median",
    }  # fmt: skip
    found: list[Block] = [*r.figures("quality")]
    if len(r.people):
        found.append(table("Quality by site", by_site(r.people), told))
    runs = used_runs(r)
    if len(runs):
        why = {"used": "Recordings in the study", "excluded": "Unusable, with reason", "not needed": "One run was enough"}
        found.append(table("Recordings that were looked at", runs, why))
    return found


def methods_table(r: Results, task: str, title: str) -> list[Block]:
    """Each method of a task in one row: the common metrics with intervals."""
    name = f"evaluate/{task}/metrics.tsv"
    metrics = r.tsv(name)
    if metrics.empty:
        return [Text("No result: this task was not evaluated, or its evaluation failed.", "warn")]
    rows = []
    for method, own in metrics.groupby("method", sort=False):
        own, row = own.set_index("metric"), {"method": method, **own.iloc[0][["n", "n_case"]]}
        for metric in (m for m in SHOWN if m in own.index):
            row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), own.loc[metric, ["value", "low", "high"]]))
        rows.append(row | {"p_chance": own["p_chance_holm"].get("auroc") if "p_chance_holm" in own else None})
    told = {
        "method": "mcsp, or a rival on the same folds", "n": "Test subjects of all folds", "n_case": "Cases among them",
        "auroc": "Area under the ROC curve: 0.5 is guessing", "balanced_accuracy": "Mean of sensitivity and specificity at 0.5",
        "sensitivity": "Share of cases that are recognised", "specificity": "Share of controls that are let pass",
        "auprc": "Area under the precision-recall curve", "brier": "Mean squared error of the probability; less is better",
        "calibration_error": "Mean gap between probability and frequency; less is better",
        "p_chance": "p of the AUROC against permuted labels, Holm-corrected over methods",
    }  # fmt: skip
    protocol = str(metrics["protocol"].iloc[0])
    return [
        table("Methods on the same test subjects", pd.DataFrame(rows), told, note=f"{protocol}."),
        *r.figures("performance", task),
        *optional(r, "All metrics, pooled and over folds", name, folded=True, drop=["task", "protocol"]),
    ]


def performance(r: Results) -> list[Block]:
    return [*r.figures("performance"), *per_task(r, methods_table, "performance")]


def task_comparisons(r: Results, task: str, title: str) -> list[Block]:
    name = f"evaluate/{task}/comparisons.tsv"
    pairs = r.tsv(name)
    if pairs.empty:
        return []
    ours = our_method(list(pairs["method"]))
    own = over_subjects(pairs)
    own = own[own["method"] == ours].sort_values("metric", kind="stable")
    columns = ["rival", "metric", "difference", "low", "high", "verdict", "p_holm", "p", "test", "n"]
    shown = file_table("The model against each rival", r.root / name, rows=own[[c for c in columns if c in own]])
    return [
        shown,
        *optional(r, "All comparisons, over subjects and over folds", name, folded=True, drop=["task"]),
        *optional(r, "Every method against every other", f"evaluate/{task}/pairs.tsv", folded=True, drop=["task"]),
        *optional(r, "What ComBat did, site by site", f"evaluate/{task}/harmonisation.tsv", folded=True),
    ]


def comparisons(r: Results) -> list[Block]:
    lead = Text(
        "Paired tests on the same test subjects. A verdict is 'better' or 'worse' only at p < 0.05 after Holm's correction; "
        "'not told apart' is no proof of equality.",
    )
    return [lead, *per_task(r, task_comparisons, "comparisons")]


def task_subgroups(r: Results, task: str, title: str) -> list[Block]:
    name = f"evaluate/{task}/subgroups.tsv"
    groups = r.tsv(name)
    if groups.empty:
        return []
    own = groups[groups["method"] == our_method(list(groups["method"]))]
    return [
        file_table("The model within subgroups", r.root / name, rows=own, drop=["task", "method"]),
        *optional(r, "Gaps between subgroups, all methods", f"evaluate/{task}/gaps.tsv", folded=True, drop=["task"]),
        *optional(r, "All methods within subgroups", name, folded=True, drop=["task"]),
    ]


def subgroups(r: Results) -> list[Block]:
    lead = Text("Does it work alike at every site, for both sexes, at every age? Small groups are named, not scored.")
    return [lead, *per_task(r, task_subgroups, "subgroups")]


def task_calibration(r: Results, task: str, title: str) -> list[Block]:
    return [
        *r.figures("calibration", task),
        *optional(r, "Scores of calibration", f"evaluate/{task}/calibration.tsv", folded=True, drop=["task"]),
        *optional(r, "Temperatures of the folds", f"evaluate/{task}/temperatures.tsv", folded=True, drop=["task"]),
    ]


def calibration(r: Results) -> list[Block]:
    lead = Text(
        "Of all who are given a probability of 70 %, are 70 in 100 cases? Few subjects alone make some error: see 'expected'."
    )
    return [lead, *per_task(r, task_calibration, "calibration")]


def task_uncertainty(r: Results, task: str, title: str) -> list[Block]:
    name = f"evaluate/{task}/selective.tsv"
    return [*r.figures("uncertainty", task), *optional(r, "Risk over coverage", name, folded=True, drop=["task"])]


def uncertainty(r: Results) -> list[Block]:
    lead = Text("Does it know when it does not know? Errors when only the most certain subjects are decided on.")
    return [lead, *per_task(r, task_uncertainty, "uncertainty")]


def controls_text(rows: pd.DataFrame | None) -> str:
    """Whether the controls passed, with numbers; or that they did not run."""
    if rows is None:
        return "The controls (permuted and random labels) did not run: `snakemake controls`, then `snakemake report`."
    told = rows[rows["verdict"] != "too few"]
    if told.empty:
        return (
            f"Each of the {len(rows)} controls has too few draws for a verdict: raise controls.draws, then `snakemake report`."
        )
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
        f"{row.control}, {row.task}, {row.method}: {row.auroc:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in failed.itertuples()
    )
    return f"FAILED, so results of these methods must not be believed before it is known why: {names}. {text}"


def controls(r: Results) -> list[Block]:
    name = "controls/controls.tsv"
    rows = r.tsv(name)
    text = controls_text(rows if len(rows) else None)
    judged = len(rows) and (rows["verdict"] != "too few").any()
    tone = "warn" if text.startswith("FAILED") else "good" if judged else "note"
    return [Text(text, tone), *r.figures("controls"), *optional(r, "All controls", name)]


def sweep_text(rows: pd.DataFrame) -> str:
    """Which parts the model is worse, or better, without."""
    told = rows.dropna(subset="p_holm")
    found = [
        f"{row.kind}: {row.variant} ({row.task}, {row.difference:+.2f})" for row in told[told["p_holm"] < LEVEL].itertuples()
    ]
    changed = "; ".join(found) if found else "none, so no part of the model is shown to matter on these data"
    return (
        f"One thing at a time was changed and everything trained anew, on the same folds. Of {len(told)} comparisons with the "
        "whole model, these differ in AUROC (variant less whole; DeLong's test, Holm-corrected within the task): "
        f"{changed}. Nothing was chosen by these tables."
    )


def sweep(r: Results) -> list[Block]:
    rows = r.tsv("sweep/sweep.tsv")
    if rows.empty:
        text = "The variants (parts left out, other lengths) did not run: `snakemake sweep`, then `snakemake report`."
        return [Text(text, "note")]
    fusion = r.tsv("sweep/fusion.tsv")
    lead = [Text(fusion_text(fusion))] if len(fusion) else []
    found: list[Block] = [*lead, Text(sweep_text(rows)), *r.figures("sweep")]
    for path in sorted((r.root / "sweep").glob("*.tsv")):
        title = {
            "sweep": "All variants", "fusion": "Single modalities against both",
            "retrieval": "Which EEG belongs to which fMRI, by variant",
        }.get(path.stem, path.stem.capitalize())  # fmt: skip
        found += optional(r, title, f"sweep/{path.name}", folded=path.stem != "fusion")
    return found


def others(r: Results) -> list[Block]:
    found: list[Block] = [Text("Sanity checks, whose strength is known: several classes, or a number, on the same folds.")]
    for name, task in r.study["other_tasks"].items():
        question = Task.model_validate(task).question()
        found.append(Heading(task["title"] or name, f"others-{name}"))
        own = optional(r, question, f"other/{name}/metrics.tsv", drop=["task"])
        found += own or [Text("No result yet.", "warn")]
        found += optional(r, "Paired comparisons", f"other/{name}/comparisons.tsv", folded=True, drop=["task"])
        found += optional(r, "Truth and answers", f"other/{name}/confusion.tsv", folded=True)
    return found if len(found) > 1 else [Text("No other question was asked.", "note")]


def training(r: Results) -> list[Block]:
    figures = r.figures("training")
    lead = Text(
        "Pre-training reads no labels. Embeddings show test subjects of one fold; groups that do not separate here can still "
        "be told apart by the classifier, and the other way round."
    )
    return [lead, *figures] if figures else [Text("No model was trained yet.", "warn")]


def models(r: Results) -> list[Block]:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    names = [("Pre-trained encoders", "pretrain")] + [(f"Classifiers: {t.title}", f"finetune/{t.name}") for t in r.tasks]
    found: list[Block] = []
    for title, folder in names:
        path = r.path(f"{folder}/model_card.md")
        if path:
            text = path.read_text(encoding="utf-8").split("\n", 1)[1]  # its heading is ours; the others stand below it
            text = text.replace("\n## ", "\n#### ")
            found.append(Card(title, markdown.render(text), download(path)))
    return found or [Text("No model card was written yet.", "warn")]


def methods(r: Results) -> list[Block]:
    lead = Text("Written from the study file, for a paper: check it, and add what only you know.")
    return [lead, Pre("Methods paragraph", methods_text(dict(r.study), r.people), folded=False, wrap=True)]


def data(r: Results) -> list[Block]:
    kinds = {"simulate": "simulated", "bids": "BIDS recordings", "roi": "ready ROI series"}
    counts = r.people["dataset"].value_counts()
    known = citations.references()
    rows = [
        (n, kinds[d["kind"]], int(counts.get(n, 0)), d["licence"], ", ".join(key for key in d.get("cite", []) if key in known))
        for n, d in r.study["datasets"].items()
    ]
    licences = table(
        "Datasets and terms of use",
        pd.DataFrame(rows, columns=["dataset", "kind", "n", "licence", "cite"]),
        {"n": "Subjects in the study", "licence": "As the study file states it", "cite": "Keys in the BibTeX below"},
    )
    texts = citations.bibtex(r.study, set(r.modalities))
    told = {
        "version": "In the environment that wrote this page", "licence": "As the package states it", "cite": "Key in the BibTeX"
    }  # fmt: skip
    packages = provenance.versions(citations.packages(r.study, set(r.modalities)))
    software = table("Software that the study uses, and its licences", packages, told)
    lead = (
        "Works behind this study's methods, software and data, as BibTeX. Where an entry says 'and others', its DOI has all "
        "authors."
    )
    return [licences, software, Text(lead), Pre("BibTeX", texts, folded=False)]


def costs(r: Results) -> list[Block]:
    try:
        own = stage_costs(r.root / "benchmarks")
    except McspError:
        return []
    told = {
        "jobs": "Jobs of the stage", "wall_s": "Wall time of all its jobs, s", "cpu_s": "CPU time of all its jobs, s",
        "peak_mb": "Largest memory of one job, MB",
    }  # fmt: skip
    sums = {"stage": "all", "jobs": own["jobs"].sum(), "wall_s": own["wall_s"].sum(), "cpu_s": own["cpu_s"].sum()}
    rows = pd.concat([own, pd.DataFrame([{**sums, "peak_mb": own["peak_mb"].max()}])], ignore_index=True)
    each = {"job": "Job", "wall_s": "Wall time, s", "cpu_s": "CPU time, s", "peak_mb": "Largest memory, MB"}
    return [
        table("Run times and memory", rows, told, note="As measured when each job last ran."),
        table("Run times and memory of each job", job_costs(r.root / "benchmarks"), each, folded=True),
    ]


def origin(r: Results) -> list[Block]:
    source, config = r.study["source"], {k: v for k, v in r.study.items() if k != "source"}
    facts = [
        ("study file", source),
        ("command", f"snakemake --configfile {shlex.quote(source)}"),
        ("commit", provenance.commit(Path(__file__).parent)),
        ("seeds", json.dumps({k: v["seed"] for k, v in config.items() if isinstance(v, dict) and "seed" in v})),
    ]
    lead = Text(
        "Every stage checks the hashes of folds, models and stores that it reads. Which rule made which file, and its code: "
        "report/workflow.html beside this page."
    )
    found: list[Block] = [lead, table("Where this comes from", pd.DataFrame(facts, columns=["what", "value"]))]
    found += costs(r)
    found.append(table("Hashes", provenance.hashes(r.study, r.root), folded=True))
    return [*found, Pre("The whole study file, with its defaults", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))]
