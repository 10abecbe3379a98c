"""Look at a BIDS dataset and write the study file that fits it: what can be seen is filled in, what can't is marked."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mcsp.bids.phenotype import USUAL_NAMES, read_phenotype, read_text
from mcsp.bids.recordings import (
    BOLD_SUFFIXES,
    EEG_SUFFIXES,
    SURFACE_SPACE,
    Index,
    preprocessed_bold,
    repetition_time,
    sidecar_of,
)
from mcsp.errors import Exclusion, McspError
from mcsp.grayordinates import DTSERIES
from mcsp.options.datasets import CONTROL, BidsDataset, Phenotype, plain_column
from mcsp.shards import plain_label
from mcsp.store import atomic_path, read_json
from mcsp.study import parse_study

SAMPLE = 10  # subjects whose sidecars are opened
MAX_VALUES = 20  # a column with more different values is no diagnosis
PER_SHARD = 200  # subjects, in datasets large enough to matter
# Words in a value, or in what participants.json says of it, and the label they mean.
MEANINGS = {
    "ADHD": r"\badhd\b|attention.deficit",
    "ASD": r"\basd\b|autis|asperger",
    "MDD": r"\bmdd\b|depress",
}
CONTROLS = r"\b(controls?|ctrl|con|hc|hv|cn|healthy|td|tdc|nt|typical\w*|neurotypical\w*|unaffected|none|no diagnosis)\b"
DIAGNOSIS_NAMES = (r"diagnos|(^|_)dx|disorder|patholog", r"group|patient|condition|status|population|cohort|arm|case")
SITE_NAMES = r"(site|cent(er|re)|scanner|institution|location|hospital)(_?(id|name))?"
SANITY = {"sex": {"column": "sex", "case": ["F"], "control": ["M"]}}


@dataclass
class Seen:
    """What a dataset shows: options of the study file, comments on them by option, and comments on the whole."""

    root: Path
    n_subjects: int
    options: dict[str, Any] = field(default_factory=dict)
    phenotype: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, dict] = field(default_factory=dict)
    both_sexes: bool = False
    preprocess: str = "none"
    notes: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).removesuffix("...\n").strip()


def _few(values: list[str], n: int = 8) -> str:
    return ", ".join(values[:n]) + (f" and {len(values) - n} more" if len(values) > n else "")


def _subjects_by(rows: list[dict], entity: str) -> dict[str, set[str]]:
    people = defaultdict(set)
    for row in rows:
        people[row[entity] or "none"].add(row["sub"])
    return dict(sorted(people.items(), key=lambda item: (item[0] != "rest", item[0])))


def _sample(rows: list[dict]) -> list[dict]:
    """One recording per task of some subjects, spread over the dataset."""
    subjects = sorted({row["sub"] for row in rows})
    wanted = set(subjects[:: max(1, len(subjects) // SAMPLE)])
    return list({(row["sub"], row["task"]): row for row in reversed(rows) if row["sub"] in wanted}.values())


def _told(rows: list[dict], read: Any) -> list[float]:
    """Different values that `read` finds in the sidecars or headers of some recordings."""
    values = set()
    for row in _sample(rows):
        try:
            value = float(read(row["path"]))
        except (Exclusion, TypeError, ValueError):
            continue
        values |= {round(value, 4)} if math.isfinite(value) else set()
    return sorted(values)


def _numbers(values: list[float], unit: str) -> str:
    return f"{', '.join(f'{value:g}' for value in values)} {unit}" if values else f"? {unit} (no sidecar tells)"


def find_preprocessed(root: Path, labels: list[str]) -> tuple[Path | None, list[dict]]:
    """(directory of the preprocessed BOLD or None, its recordings): the dataset itself, fMRIPrep's usual place, or
    another directory of `derivatives`.
    """
    usual = root / "derivatives" / "fmriprep"
    others = sorted(path for path in (root / "derivatives").glob("*") if path.is_dir() and path != usual)
    for place in (root, usual, *others):
        rows = Index(place, labels).rows if place.is_dir() else []
        done = [row for row in rows if row["suffix"] == "bold" and (row["desc"] == "preproc" or row["ext"] == DTSERIES)]
        if done:
            return place, done
    return None, []


def _choose_space(seen: Seen, done: list[dict]) -> str:
    """The space of the preprocessed BOLD to use; the default where none fits."""
    default = BidsDataset.model_fields["space"].default
    spaces = sorted({row["space"] or "the run's own" for row in done})
    fitting = [space for space in spaces if space.startswith("MNI152")]
    chosen = default if default in spaces or not fitting else fitting[0]
    if chosen != default:
        seen.options["space"] = chosen
        seen.notes["space"] = f"guess: of {', '.join(spaces)}"
    elif done and chosen not in spaces:
        hint = "; fsLR needs atlas.image, a .dlabel.nii" if SURFACE_SPACE in spaces else ""
        seen.missing.append(f"space: preprocessed BOLD is in {', '.join(spaces)}, in no MNI152 space{hint}")
    return chosen


def look_at_bold(seen: Seen, raw: Index, labels: list[str]) -> list[dict]:
    """Note preprocessed and raw BOLD; returns the recordings that count."""
    place, done = find_preprocessed(seen.root, labels)
    sources = raw.select(suffix="bold", desc=None, space=None, ext=BOLD_SUFFIXES)
    if place not in (None, seen.root, seen.root / "derivatives" / "fmriprep"):
        seen.options["derivatives"] = str(place)
        seen.notes["derivatives"] = "guess: preprocessed BOLD lies here"
    usable = {sub for sub, _ in preprocessed_bold(Index(place, labels), _choose_space(seen, done))} if place else set()
    if not done and not sources:
        return []
    t_r = _told(sources or done, repetition_time)
    tasks = _subjects_by(done or sources, "task")
    words = ", ".join(f"{task} ({len(people)})" for task, people in tasks.items())
    kind = f"preprocessed BOLD of {len(usable)} subjects" if place else "raw BOLD only"
    seen.found.append(f"fMRI: {kind}; tasks (subjects): {words}; TR {_numbers(t_r, 's')}")
    waiting = {row["sub"] for row in sources} - {row["sub"] for row in done}
    if waiting and not done:
        seen.preprocess = "embedded"
        seen.notes["preprocess"] = "guess: the BOLD is raw; or fmriprep, with its container (README, Preprocessing)"
    elif waiting:
        seen.found.append(f"fMRI: {len(waiting)} subjects have raw BOLD only: left out, unless preprocess: embedded is set")
    return done or sources


def look_at_eeg(seen: Seen, raw: Index) -> list[dict]:
    """Note EEG; returns its recordings."""
    rows = raw.select(suffix="eeg", datatype="eeg", ext=EEG_SUFFIXES)
    if not rows:
        return []
    rates = _told(rows, lambda path: sidecar_of(path).get("SamplingFrequency"))
    mains = _told(rows, lambda path: sidecar_of(path).get("PowerLineFrequency"))
    words = ", ".join(f"{task} ({len(people)})" for task, people in _subjects_by(rows, "task").items())
    seen.found.append(f"EEG: tasks (subjects): {words}; {_numbers(rates, 'Hz')}; mains {_numbers(mains, 'Hz')}")
    if not mains:
        seen.missing.append("line_freq: 50 # or 60, the mains frequency: no sidecar tells, so there is no notch filter")
    return rows


def meaning_of(value: str, levels: dict) -> list[str]:
    """Labels that a value means by its words or by those of participants.json; [] where nothing tells."""
    told = levels.get(value, "")
    text = re.sub(r"[_\-+/;,]+", " ", f"{value} {told.get('Description', '') if isinstance(told, dict) else told}".lower())
    disorders = [label for label, words in MEANINGS.items() if re.search(words, text)]
    return disorders or ([CONTROL] if re.search(CONTROLS, text) else [])


def diagnosis_score(name: str, values: list[str], n_rows: int, levels: dict) -> int:
    """How much a column looks like a diagnosis; 0: not at all."""
    if not 2 <= len(values) <= min(MAX_VALUES, max(2, n_rows // 2)):
        return 0
    by_name = next((2 - i for i, words in enumerate(DIAGNOSIS_NAMES) if re.search(words, name.lower())), 0)
    meant = {label for value in values for label in meaning_of(value, levels)}
    disorders = bool(meant - {CONTROL})
    return by_name + 2 * disorders + (CONTROL in meant) if by_name or disorders else 0


def _labels(values: list[str], levels: dict) -> tuple[dict[str, list[str]], list[str]]:
    """(value -> labels, values whose meaning is not known and that stand under names of their own)."""
    known = {value: meaning_of(value, levels) for value in values}
    unknown = [value for value, labels in known.items() if not labels]
    names = {v: f"group-{v}" if v.isdigit() else re.sub(r"[^A-Za-z0-9]+", "-", v).strip("-") or "other" for v in unknown}
    return {value: labels or [names[value]] for value, labels in known.items()}, unknown


def choose_tasks(labels: dict[str, list[str]]) -> dict[str, dict]:
    """A task for each disorder against controls; without controls, the first group against the second."""
    names = list(dict.fromkeys(label for own in labels.values() for label in own))
    cases = [name for name in names if name != CONTROL]
    if CONTROL in names:
        return {re.sub(r"[^a-z0-9]+", "-", case.lower()): {"case": [case]} for case in cases}
    return {"groups": {"case": [cases[0]], "control": [cases[1]]}} if len(cases) > 1 else {}


def _subject_column(table: pd.DataFrame, path: Path, labels: list[str]) -> str:
    """Column that names the subjects' directories. Raises McspError when none does."""
    default = Phenotype.model_fields["subject"].default
    if default in table:
        return default
    present = {plain_label(label) for label in labels}
    hits = {column: table[column].map(plain_label).isin(present).sum() for column in table}
    best = max(hits, key=hits.get)
    if not hits[best]:
        raise McspError(
            f"{path}: no column {default}, and none that names the directories sub-* (it has {_few(list(table))}): "
            "add it; cells are separated by tabs"
        )
    return best


def look_at_people(seen: Seen, labels: list[str]) -> None:
    """Note the columns of participants.tsv that look like diagnosis, site, age, sex and family."""
    path = seen.root / "participants.tsv"
    if not path.is_file():
        seen.missing.append("phenotype: no participants.tsv here: {table: /my/table.tsv, labels: {column: {value: [ASD]}}}")
        return
    try:
        first = read_text(path)
    except McspError as error:
        seen.missing.append(f"phenotype: {error}")
        return
    subject = _subject_column(first, path, labels)
    if subject != Phenotype.model_fields["subject"].default:
        seen.phenotype["subject"] = subject
    table = read_phenotype([path], Phenotype(subject=subject)).drop(columns=["_table", "_subject", "_label", "_unfit"])
    sidecar = path.with_suffix(".json")
    told = read_json(sidecar) if sidecar.is_file() else {}
    told = told if isinstance(told, dict) else {}
    about = {c: told[name] for c in table for name in told if plain_column(name) == plain_column(c)}
    none = {text.lower() for text in Phenotype().missing}
    values = {c: sorted({v.strip() for v in table[c]} - {v for v in table[c] if v.strip().lower() in none}) for c in table}
    levels = {c: about.get(c, {}).get("Levels") or {} if isinstance(about.get(c, {}), dict) else {} for c in table}
    _plain_columns(seen, values, levels)
    scores = {c: diagnosis_score(c, own, len(table), levels[c]) for c, own in values.items() if c != subject}
    order = sorted((c for c in scores if scores[c]), key=lambda c: -scores[c])
    if not order:
        seen.missing.append(f"phenotype.labels: no column looks like a diagnosis (there are {_few(list(table))})")
        return
    best = order[0]
    meanings, unknown = _labels(values[best], levels[best])
    seen.phenotype["labels"] = {best: meanings}
    seen.tasks = choose_tasks(meanings)
    others = f"; other columns that may be one: {_few(order[1:])}" if order[1:] else ""
    seen.notes["labels"] = f"guess: {best} is the diagnosis{others}. An empty list [] keeps a subject without a label"
    if unknown:
        seen.missing.append(f"phenotype.labels.{best}: what {_few(unknown)} mean, in labels such as control, ASD, ADHD, MDD")


def _plain_columns(seen: Seen, values: dict[str, list[str]], levels: dict[str, dict]) -> None:
    """Note site, age, sex and family."""
    sites = [c for c in values if re.fullmatch(SITE_NAMES, c.lower()) and 2 <= len(values[c]) <= 50]
    if sites:
        seen.phenotype["site"] = sites[0]
        seen.notes["site"] = f"guess: {_few(values[sites[0]], 5)}"
    for option, words in USUAL_NAMES.items():
        named = next((c for c in values if re.fullmatch(words, c.lower()) and values[c]), None)
        if named and named != Phenotype.model_fields[option].default:
            seen.phenotype[option] = named
    sex = seen.phenotype.get("sex", "sex")
    seen.both_sexes = len(values.get(sex, [])) > 1
    strange = [v for v in values.get(sex, []) if v not in Phenotype().sex_map]
    told = {v: "F" if re.search(r"female|wom[ae]n|girl", str(levels[sex].get(v, "")).lower()) else "M" for v in strange}
    if strange and all(re.search(r"male|m[ae]n\b|girl|boy", str(levels[sex].get(v, "")).lower()) for v in strange):
        seen.phenotype["sex_map"] = told
    elif strange:
        seen.missing.append(f"phenotype.sex_map: {{{', '.join(strange[:4])}: M or F}}: nothing tells what they mean")


def look(root: Path) -> Seen:
    """What the dataset at `root` shows, by file names, some sidecars and participants.tsv.

    Raises McspError when it is no BIDS dataset, or holds neither BOLD nor EEG.
    """
    if not root.is_dir():
        raise McspError(f"{root}: no such directory: give the directory that holds the sub-* directories")
    places = (root, root / "derivatives" / "fmriprep")
    labels = sorted({p.name.removeprefix("sub-") for place in places for p in place.glob("sub-*") if p.is_dir()})
    if not labels:
        inside = sorted({path.parent.name for path in root.glob("*/sub-*")})
        hint = f"give {root / inside[0]}" if inside else "give the directory that holds the sub-* directories"
        raise McspError(f"{root}: no directory sub-* is there: {hint}")
    seen, raw = Seen(root, len(labels)), Index(root, labels)
    rows = {"fmri": look_at_bold(seen, raw, labels), "eeg": look_at_eeg(seen, raw)}
    modalities = [modality for modality, own in rows.items() if own]
    if not modalities:
        raise McspError(f"{root}: neither BOLD (*_bold.nii.gz) nor EEG ({', '.join(EEG_SUFFIXES)}) in its sub-* directories")
    if len(modalities) == 1:
        seen.options["modalities"] = modalities
    names = {modality: {row["task"] for row in rows[modality] if row["task"]} for modality in modalities}
    resting = {modality: {task for task in own if "rest" in task.lower()} for modality, own in names.items()}
    if all(resting.values()) and resting != names:
        seen.options["tasks"] = sorted(set().union(*resting.values()))
        seen.notes["tasks"] = "guess: rest, of all tasks; leave it out to use any"
    sessions = sorted({row["ses"] for own in rows.values() for row in own if row["ses"]})
    if sessions:
        seen.found.append(f"sessions: {_few(sessions)}; the first usable recording of a subject counts")
    if len(labels) > 4 * PER_SHARD:
        seen.options["n_shards"] = min(999, math.ceil(len(labels) / PER_SHARD))
        seen.notes["n_shards"] = "units of work: fixed for the dataset's lifetime"
    look_at_people(seen, labels)
    return seen


def option_lines(values: dict[str, Any], notes: dict[str, str], indent: str) -> list[str]:
    """Options as lines of YAML, with notes on some of them."""
    return [f"{indent}{key}: {_flow(value)}" + (f" # {notes[key]}" if key in notes else "") for key, value in values.items()]


def plain_name(text: str) -> str:
    """A name that a study or dataset may have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "mine"


def dataset_lines(seen: Seen, study: str, name: str) -> list[str]:
    """The study file's lines about its data: the options, with what was found, guessed and is missing in comments."""
    lines = [f"# {text}" for text in seen.found]
    lines += [f"study: {study}", "datasets:", f"  {name}:", "    kind: bids", f"    path: {_flow(str(seen.root))}"]
    lines += option_lines(seen.options, seen.notes, "    ")
    if seen.phenotype:
        lines += ["    phenotype:", *option_lines(seen.phenotype, seen.notes, "      ")]
    lines += [f"    # FILL IN {text}" for text in seen.missing]
    return lines + (option_lines({"preprocess": seen.preprocess}, seen.notes, "") if seen.preprocess != "none" else [])


def study_text(seen: Seen, name: str) -> str:
    """The study file that asks a dataset's questions."""
    lines = [f"# Written by `mcsp init {seen.root}`: {seen.n_subjects} subjects. Look through what is marked guess."]
    lines += dataset_lines(seen, name, name)
    if seen.tasks or seen.both_sexes:
        lines += ["tasks:"]
    if not seen.tasks:
        own = "  # FILL IN a question, e.g. asd: {case: [ASD]}. Until then, a sanity task that needs a column of the sex only:"
        lines += [own if seen.both_sexes else "# FILL IN tasks: {asd: {case: [ASD]}}: no column tells of diagnosis or sex"]
    tasks = seen.tasks or (SANITY if seen.both_sexes else {})
    return "\n".join([*lines, *option_lines(tasks, {}, "  ")]) + "\n"


def run(*, bids_dir: Path, out: Path | None) -> Path:
    """Write the study file of the dataset at `bids_dir` at `out` (default: config/studies/<name of the directory>.yaml).

    Raises McspError when it is there already, or the dataset can't be used.
    """
    root = bids_dir.resolve()
    name = plain_name(root.name)
    out = out or Path("config/studies") / f"{name}.yaml"
    if out.exists():
        raise McspError(f"{out}: is there already: delete it, or give another file with --out")
    text = study_text(look(root), name)
    parse_study({"tasks": SANITY, **yaml.safe_load(text)}, out.name)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out
