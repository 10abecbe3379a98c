"""Results of a made-up study, as its stages write them, for the report."""

from __future__ import annotations

import atexit
import shutil
import struct
import zlib
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

from mcsp.bids import cohort as cohort_stage
from mcsp.bids import tasks as tasks_stage
from mcsp.options.tasks import Task
from mcsp.report.results import Results
from mcsp.shards import STATUS_COLUMNS
from mcsp.store import read_tsv, write_table, write_tsv
from mcsp.study import parse_study
from tests.figures import made_up
from tests.report.test_tables import study_results

HOSTILE = '<img src=x onerror="window.pwned=1">'
METHODS = {"mcsp": 2.5, "phenotype": 0.2, "linear FC": 1.0}


def picture(width=40, height=20):
    """A grey PNG."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([200] * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def study(title="Made up", tasks=("asd",), kind="simulate", **more):
    """The whole study as plain values. `kind` bids: of real data, ingested from nowhere."""
    phenotype = {"labels": {"dx": {"1": ["ASD"], "0": ["control"]}}}
    one = {"kind": "bids", "path": "/nowhere", "phenotype": phenotype, "licence": f"free {HOSTILE}"}
    if kind == "simulate":
        one = {"kind": "simulate", "n_subjects": 9, "groups": {"control": 0.5, "ASD": 0.5}, "sites": [{"name": "A"}]}
        one |= {"modalities": ["fmri", "eeg"]}
    named = {name: {"case": ["ASD"], "title": f"{name.upper()} against controls"} for name in tasks}
    values = parse_study({"study": "made-up", "title": title, "datasets": {"d-1": one}, "tasks": named, **more})
    return {"source": "made-up.yaml", **values.model_dump(mode="json")}


def people(n=120, sites=3, modalities=("fmri", "eeg")):
    """A cohort table; `sites` 0: nobody knows where."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"uid": [f"d-1/sub-{i:03d}" for i in range(n)], "dataset": "d-1"})
    table["site"] = [f"site {i % sites}" for i in range(n)] if sites else "unknown"
    table["labels"] = np.where(np.arange(n) % 2, "ASD", "control")
    table["mean_fd"], table["t_r"] = rng.gamma(2, 0.1, n), 2.0
    table["age"], table["fingerprints"] = rng.uniform(8, 40, n), "f"
    for m in ("fmri", "eeg"):
        table[f"has_{m}"] = m in modalities
    return table.reindex(columns=list(cohort_stage.COLUMNS))


def exclusions(root, n):
    rows = [(f"d-1/sub-x{i}", "d-1", "fmri", "excluded", f"too short {HOSTILE}: sub-x{i}: {i} s") for i in range(n)]
    write_tsv(pd.DataFrame(rows, columns=list(STATUS_COLUMNS)), root / "cohort/exclusions.tsv", STATUS_COLUMNS)


def explained(root, task, told, modalities):
    """Maps with verdicts and what follows from these; `told` None: no truth is known."""
    folder = root / "explain" / task
    folder.mkdir(parents=True)
    maps = read_tsv(made_up.maps(folder, modalities))
    trust = read_tsv(made_up.trust(folder, told or ()))
    named = maps.merge(trust[trust["verdict"] == "pass"]).groupby(["method", "modality", "domain", "kind"]).head(3)
    made_up.tsv(named.drop(columns=["verdict", "reason"]), folder / "biomarkers.tsv")
    if told:
        made_up.verdicts(folder, told)
        return
    rows = [("smoothgrad", m, d, "roi", "planted truth", "no truth") for m in modalities for d in made_up.DOMAINS]
    columns = ["method", "modality", "domain", "unit", "score", "verdict"]
    made_up.tsv(pd.DataFrame(rows, columns=columns), folder / "verdicts.tsv")


@cache
def _evaluated() -> Path:
    """One evaluation for all made-up studies of a session: it is what takes long."""
    root = Path(mkdtemp(prefix="made-up-"))
    atexit.register(shutil.rmtree, root, True)
    return study_results(root, n=120, **METHODS)


def evaluated(root):
    for name in ("cohort", "evaluate", "tables"):
        shutil.copytree(_evaluated() / name, root / name)


PASSED = (
    ("smoothgrad", "fmri", "spatial", "pass"),
    ("integrated_gradients", "fmri", "spatial", "fail"),
)


def write_results(
    root, *, done=("asd",), sites=3, modalities=("fmri", "eeg"), left_out=30, told=PASSED, figures=("cohort", "curves-asd")
):
    """Results of the tasks `done`, in which `told` are the verdicts on maps (None: no truth is known)."""
    if done:
        evaluated(root)
    write_table(people(sites=sites, modalities=modalities), root / "cohort/subjects.parquet")
    exclusions(root, left_out)
    task = Task.model_validate({"case": ["ASD"]})
    tasks_stage.run(cohort=root / "cohort/subjects.parquet", name="asd", task=task, out=root / "cohort/task-asd.tsv")
    (root / "atlas").mkdir()
    made_up.atlas(root / "atlas")
    for name in done:
        explained(root, name, told, modalities)
        card = root / "finetune" / name / "model_card.md"
        card.parent.mkdir(parents=True)
        card.write_text(
            f"# Model card: {HOSTILE}\n\n## Limits\n* Research use only {HOSTILE}\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
        )
    (root / "figures").mkdir()
    for name in figures:
        (root / f"figures/{name}.png").write_bytes(picture())
        (root / f"figures/{name}.caption.txt").write_text(f"What {name} shows, n = 120. {HOSTILE}\n")
        made_up.tsv(pd.DataFrame({"x": range(3)}), root / f"figures/{name}.tsv")
    benchmark = root / "benchmarks/evaluate/asd.tsv"
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text("s\tcpu_time\tmax_rss\n2.0\t1.5\t120\n")
    return [root / f"figures/{name}" for name in figures]


def results(root, values=None, **how):
    """`Results` of a made-up study below `root`."""
    stems = write_results(root, **how)
    return Results(values or study(), root, stems)
