"""A trained model applied to a BIDS dataset in one command: a study file that fits both, and the workflow's own stages."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mcsp.errors import McspError
from mcsp.init import Seen, dataset_lines, look, option_lines, plain_name
from mcsp.predict.adopt import model_folders
from mcsp.predict.stage import warnings_told
from mcsp.store import atomic_path, read_json, read_tsv
from mcsp.study import Study, check_paths
from mcsp.workflow import CHECKOUT, load_plan

QUESTIONS = ("phenotype.labels", "phenotype: no participants.tsv")  # of `mcsp init`, about diagnoses: no need of them here


def study_name(root: Path, model: Path) -> str:
    """Name of the study that applies the model at `model` to the dataset at `root`."""
    place = model.resolve()
    one = (place / "config.json").is_file()  # a fold of a task, or of pre-training
    return plain_name("-".join([root.name, *([place.parent.name] if one else []), place.name]))


def study_text(seen: Seen, name: str, model: Path) -> str:
    """The study file that applies a model to a dataset."""
    seen.phenotype.pop("labels", None)
    seen.missing = [text for text in seen.missing if not text.startswith(QUESTIONS)]
    lines = [f"# Applies {model} to {seen.n_subjects} subjects. Look through what is marked guess."]
    lines += dataset_lines(seen, name, plain_name(seen.root.name))
    return "\n".join([*lines, *option_lines({"predict": {"model": str(model)}}, {}, "")]) + "\n"


def check_about(study: Study, root: Path, model: Path, out: Path) -> None:
    """Raises McspError unless the study, of the file `out`, applies this model, to this dataset among others."""
    given = {path.resolve() for _, path in study.paths()}
    if study.predict.model is None or not {root, model.resolve()} <= given:
        raise McspError(f"{out}: is there already, for another model or other data: give another file with --out")


def check_kind(model: Path, *, answers: bool) -> None:
    """Raises McspError when there is no model at `model`, or it should answer (`answers`) and only embeds."""
    folder = model_folders(model)[0]
    if answers and read_json(folder / "config.json").get("kind") != "Classifier":
        raise McspError(f"{model}: encoders, which answer nothing: use `mcsp embed`, or give a task's classifiers")


def run(*, bids_dir: Path, model: Path, out: Path | None, cores: int, further: Sequence[str], answers: bool) -> Path:
    """Apply the trained model (or models of one training) at `model` to the BIDS dataset at `bids_dir`, through all stages of
    the workflow, and return the directory of what came out. The study file goes to `out` (default: config/studies); running
    the same again goes on where it stopped. `further`: arguments for Snakemake; `answers`: probabilities are wanted, not only
    embeddings.

    Raises McspError, in one line, when dataset, model or study file can't be used, or the run stopped.
    """
    if not (CHECKOUT / "Snakefile").is_file():
        raise McspError(f"{CHECKOUT}: the workflow is not there: run mcsp from its checkout (README, Install)")
    check_kind(model, answers=answers)
    root = bids_dir.resolve()
    out = out or Path("config/studies") / f"{study_name(root, model)}.yaml"
    if not out.exists():  # somebody may have mended one that is there
        text = study_text(look(root), plain_name(out.stem), model)
        with atomic_path(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    plan = load_plan(out, Path("results"))
    check_about(plan.study, root, model, out)
    check_paths(plan.study, out.name)
    print(f"study file: {out}", flush=True)
    how = [] if any(word.startswith("--profile") for word in further) else ["--cores", str(cores)]
    files = ["--snakefile", CHECKOUT / "Snakefile", "--configfile", CHECKOUT / "config/config.yaml", out]
    command = [sys.executable, "-m", "snakemake", "predict", "--quiet", "host", "reason", *how, *further, *map(str, files)]
    if subprocess.run(command, check=False).returncode:
        again = f"give the same command again, and it goes on; `mcsp status {shlex.quote(str(out))}` tells what is done"
        raise McspError(f"the run stopped, see above: mend what it says, then {again}")
    return plan.root / "predict"


def summary(folder: Path, *, answers: bool) -> str:
    """Where the results are, and how many subjects have which warnings; nothing after a dry run."""
    if not (folder / "predictions.tsv").is_file():
        return "nothing was written yet"
    found, table = read_tsv(folder / "predictions.tsv"), "predictions" if answers else "warnings"
    places = [f"{table}: {folder / 'predictions.tsv'}", f"embeddings: {folder / 'embeddings.parquet'}"]
    return "\n".join([f"{len(found)} subjects", *warnings_told(found), *places])
