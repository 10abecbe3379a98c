"""Biomarkers: the verdict on each method first, then only what passed, then everything else under a lid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mcsp.atlas import load_atlas
from mcsp.report import brain
from mcsp.report.answer import proven_text
from mcsp.report.blocks import Block, Fold, Heading, Text, View, file_table, heading, table
from mcsp.report.results import Results

KNOWN = {"maps", "verdicts", "biomarkers"}
TITLES = {
    "trust": "Which maps may be believed, and why",
    "agreement": "Do fMRI and EEG agree?",
    "shapley": "Shapley values of the tabular rivals",
    "shapley_agreement": "Do the rivals' Shapley values and the model's maps agree?",
}


def verdict_grid(trust: pd.DataFrame) -> pd.DataFrame:
    """Method by modality and domain: how many of its kinds of map passed."""
    where = trust["modality"].map(heading) + " " + trust["domain"]

    def word(own: pd.Series) -> str:
        judged = own[own != "unproven"]
        passed = int((judged == "pass").sum())
        if judged.empty:
            return "unproven"
        return "passed" if passed == len(judged) else "FAILED" if not passed else f"passed {passed} of {len(judged)}"

    return trust.groupby([trust["method"].map(heading).rename("method"), where])["verdict"].agg(word).unstack().reset_index()


@cache
def vertices_of(table: Path) -> np.ndarray:
    """`brain.vertices_of` a study's atlas: the same for each task and domain."""
    return brain.vertices_of(load_atlas(table))


def views(r: Results, task: str, title: str, parts: list[str]) -> list[View]:
    """Interactive brains of the fMRI maps that passed, of each kind and domain: by the first method that passed."""
    maps, table_ = r.tsv(f"explain/{task}/maps.tsv"), r.path("atlas/atlas.tsv")
    if maps.empty or table_ is None:
        return []
    atlas, found, trust = load_atlas(table_), [], r.trust(task)
    passed = trust[(trust["verdict"] == "pass") & (trust["modality"] == "fmri") & trust["kind"].isin(["roi", "edge"])]
    for row in passed.drop_duplicates(["domain", "kind"]).itertuples():
        own = maps[(maps["method"] == row.method) & (maps["modality"] == "fmri") & (maps["domain"] == row.domain)]
        shares = own[own["kind"] == row.kind].set_index("name")["mean"]
        n = int(own["n"].max()) if len(own) else 0
        source = f"{heading(row.method)}, {row.domain} domain, n = {n} test subjects; passed."
        if row.kind == "roi":
            text = f"{source} Size and colour: share of relevance; beside the largest, the share times the number of regions."
            found += shown(brain.regions_view(shares, atlas, f"{title}: regions, {row.domain} domain", text, parts))
            text = (
                f"{source} Colour: the share of relevance times the number of regions (1: even). Grey: no region is seen there."
            )
            found += shown(
                brain.surface_view(shares, atlas, vertices_of(table_), f"{title}: cortex, {row.domain} domain", text, parts)
            )
        else:
            text = f"{source} The {brain.N_EDGES} strongest connections; colour: share of relevance in per mille."
            found += shown(brain.edges_view(shares, atlas, f"{title}: connections", text, parts))
    return found


def shown(view: View | None) -> list[View]:
    """A view that could be made, in a list."""
    return [view] if view else []


def own_findings(r: Results, task: str) -> list[Block]:
    """The table of biomarkers, or that nothing passed."""
    trust, path = r.trust(task), r.path(f"explain/{task}/biomarkers.tsv")
    if trust.empty:
        return [Text("Not judged yet: no map of this task may be read as a biomarker.", "warn")]
    if (trust["verdict"] == "unproven").all():
        text = "Unproven: no effect is known in these data that a map could be held against. No biomarker is reported."
        return [Text(text, "warn")]
    if not (trust["verdict"] == "pass").any():
        return [Text("Nothing passed: no map of this task may be read as a biomarker.", "warn")]
    return [file_table("What passed", path, drop=["task"])] if path else []


def more_tables(folder: Path, prefix: str = "") -> list[Block]:
    """Tables beside the known ones, whatever they are: folded, under the name of their file."""
    found = []
    for path in sorted(folder.glob("*.tsv")):
        if path.stem not in KNOWN:
            title = TITLES.get(path.stem, path.stem.replace("_", " ").replace("-", " ").capitalize())
            found.append(file_table(f"{prefix}{title}", path, folded=True, drop=["task"]))
    return found


def of_task(r: Results, task: str, title: str, parts: list[str]) -> list[Block]:
    verdicts = r.tsv(f"explain/{task}/verdicts.tsv")
    if verdicts.empty:
        return [Text("No result: this task was not explained, or that failed.", "warn")]
    trust = r.trust(task)
    found: list[Block] = [Text(proven_text(trust), "good" if (trust["verdict"] == "pass").any() else "warn")]
    found += [table("Does each method find what is known to be there?", verdict_grid(trust))] if len(trust) else []
    found += own_findings(r, task)
    found += views(r, task, title, parts)
    found += more_tables(r.root / "explain" / task)
    figures = r.figures("maps", task)
    if figures:
        found.append(Fold("All maps as they are, each with its method's verdict", figures))
    path = r.root / f"explain/{task}/verdicts.tsv"
    return [*found, file_table("All scores of the methods", path, folded=True)]


def biomarkers(r: Results, parts: list[str]) -> list[Block]:
    """The whole section; `parts`: what interactive views share."""
    lead = Text(
        "Regions, connections, channels and bands that the classifiers rely on. Model-relevant is not causal, and a map counts "
        "only where its method has found an effect that is known to be there."
    )
    found: list[Block] = [lead, *r.figures("validation"), *more_tables(r.root / "explain", "All tasks: ")]
    path = r.path("validation/verdicts.tsv")
    found += [file_table("Verdicts of the validation", path)] if path else []
    found += more_tables(r.root / "validation", "Validation: ")
    for task in r.tasks:
        found += [Heading(task.title, f"biomarkers-{task.name}"), *of_task(r, task.name, task.title, parts)]
    return found


def has_views(blocks: Sequence[Block]) -> bool:
    """Whether a page must carry what views share."""
    return any(isinstance(block, View) for block in blocks)
