"""The report: one HTML file that a clinician can read, and that needs nothing beside itself."""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from mcsp import __version__
from mcsp.figures.people import sides
from mcsp.report import sections
from mcsp.report.answer import AXIS, Answer, answer, caveats, conclusion, missing, place
from mcsp.report.biomarkers import biomarkers, has_views
from mcsp.report.blocks import Block, Section, heading
from mcsp.report.brain import shared_parts
from mcsp.report.results import Results
from mcsp.status import job_states
from mcsp.store import atomic_path

HERE = Path(__file__).parent
# id, name in the sidebar and above the section, group in the sidebar, what makes its blocks.
SECTIONS: tuple[tuple[str, str, str, Callable[[Results], list[Block]]], ...] = (
    ("cohort", "Who was studied", "Data", sections.cohort),
    ("quality", "Data quality", "Data", sections.quality),
    ("performance", "How well it works", "Results", sections.performance),
    ("comparisons", "Against rivals", "Results", sections.comparisons),
    ("subgroups", "Subgroups", "Results", sections.subgroups),
    ("calibration", "Calibration", "Results", sections.calibration),
    ("uncertainty", "Uncertainty", "Results", sections.uncertainty),
    ("biomarkers", "Biomarkers", "Results", lambda r: biomarkers(r, shared_parts())),
    ("controls", "Controls", "Checks", sections.controls),
    ("sweep", "What each part adds", "Checks", sections.sweep),
    ("others", "Other questions", "Checks", sections.others),
    ("training", "Training", "Behind it", sections.training),
    ("models", "Model cards", "Behind it", sections.models),
    ("methods", "Methods", "Behind it", sections.methods),
    ("data", "Data and citations", "Behind it", sections.data),
    ("provenance", "Provenance", "Behind it", sections.origin),
)


def answers_of(r: Results) -> list[Answer]:
    """Each task's answer, or that it has none."""
    level = f"{r.study['evaluate']['confidence']:.0%}"
    found = []
    for task in r.tasks:
        metrics, pairs = r.tsv(f"evaluate/{task.name}/metrics.tsv"), r.tsv(f"evaluate/{task.name}/comparisons.tsv")
        there = len(metrics) and len(pairs)
        found.append(answer(task.name, task.title, metrics, pairs, level) if there else missing(task.name, task.title))
    return found


def unfinished(r: Results, answers: Sequence[Answer]) -> list[str]:
    """What has no result, and the jobs that failed, in words."""
    tasks = {t.name: t.title for t in r.tasks}
    lines = [f"{a.title}: not evaluated" for a in answers if a.value is None]
    for name, title in tasks.items():
        explained, judged = (r.path(f"explain/{name}/{what}.tsv") for what in ("verdicts", "trust"))
        lines += [] if judged else [f"{title}: maps not judged yet" if explained else f"{title}: not explained"]
    jobs = job_states(r.root)
    return lines + [f"failed: {row.rule} {row.job}: {row.message}" for row in jobs[jobs["state"] == "failed"].itertuples()]


def cohort_text(r: Results) -> str:
    """The cohort in one sentence or two."""
    people, left = r.people, r.tsv("cohort/exclusions.tsv")
    sites = people.loc[people["site"] != "unknown", ["dataset", "site"]].drop_duplicates()
    n_data = people["dataset"].nunique()
    places = f"{len(sites)} site{'s' * (len(sites) != 1)}" if len(sites) else "sites that are not known"
    text = f"{len(people)} people from {n_data} dataset{'s' * (n_data != 1)} and {places}: "
    text += ", ".join(f"{n} with {name}" for name, n in sides(people) if n) or "nobody with a usable recording"
    out = f" {len(left)} recordings or subjects were left out, each with its reason." if len(left) else " Nobody was left out."
    return text + "." + out


def make_sections(r: Results) -> list[Section]:
    """All sections with their blocks."""
    return [Section(id_, name, group, make(r)) for id_, name, group, make in SECTIONS]


def in_script(value: Any) -> str:
    """A value as JSON inside a script element: nothing in it can end that."""
    return json.dumps(value).replace("<", "\\u003c")


def code(text: str) -> str:
    """Escaped text whose `words in backticks` are commands."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def render(r: Results, made: Sequence[Section]) -> str:
    """The HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": code, "in_script": in_script}
    answers, study = answers_of(r), r.study
    blocks = [block for section in made for block in section.blocks]
    return environment.get_template("template.html").render(
        title=study["title"] or study["study"],
        study=study,
        version=__version__,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        simulated=[name for name, d in study["datasets"].items() if d["kind"] == "simulate"],
        transductive=study["pretrain"]["scope"] == "transductive",
        unfinished=unfinished(r, answers),
        question=", or ".join(t.title for t in r.tasks),
        modalities=" and ".join(heading(m) for m in r.modalities) or "nothing yet",
        cohort=cohort_text(r),
        conclusion=conclusion(answers),
        answers=answers,
        caveats=caveats(study, r.all_trust(), answers),
        sections=made,
        shared=in_script(shared_parts()) if has_views(blocks) else "",
        groups=[(group, list(own)) for group, own in itertools.groupby(made, lambda s: s.group)],
        axis=AXIS,
        guess=place(0.5),
    )


def run(*, study: Mapping[str, Any], results: Path, figures: Sequence[Path], out: Path) -> None:
    """Write the report. `study`: the whole study as plain values, with `source`, the name of its file; `results`: the directory
    of its results; `figures`: their paths without suffix, in the page's order.
    """
    r = Results(study, results, figures)
    text = render(r, make_sections(r))
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"report: {out} ({len(text) / 1e6:.1f} MB)")
