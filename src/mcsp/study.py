"""The study file: one YAML that says everything about a study. The defaults live in the options' models."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mcsp.errors import McspError
from mcsp.options import Options
from mcsp.options.atlas import SURFACE, AtlasOptions
from mcsp.options.controls import ControlOptions
from mcsp.options.datasets import Dataset
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.embedded import EmbeddedOptions
from mcsp.options.fetch import FetchOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.fmriprep import FmriprepOptions
from mcsp.options.results import EvaluateOptions, ExplainOptions, FigureOptions, PredictOptions
from mcsp.options.simulate import SimulateOptions
from mcsp.options.sweep import SweepOptions
from mcsp.options.tasks import Task
from mcsp.options.training import FinetuneOptions, PretrainOptions, SplitOptions
from mcsp.options.validation import ValidationOptions

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
BRANCH = re.compile(r"(literal|list|dict|function-\w+)\[.*\]|str|float")  # of a field that takes this or that
AnyOptions = TypeVar("AnyOptions", bound=Options)


class Study(Options):
    study: str = Field(description="Name of the study: results go to results/<study>")
    title: str = Field("", description="One line for the report's first page")
    datasets: dict[str, Dataset] = Field(min_length=1)
    tasks: dict[str, Task] = Field({}, description="Binary questions to answer; a study that applies a trained model has none")
    other_tasks: dict[str, Task] = Field(
        {}, description="Questions with several classes or a number: answered on the same folds, in tables of their own"
    )
    atlas: AtlasOptions = AtlasOptions()
    preprocess: Literal["none", "embedded", "fmriprep"] = Field(
        "none",
        description="What happens to subjects whose BOLD is raw only. none: they are left out; embedded: ANTs, on any machine; "
        "fmriprep: fMRIPrep in a container. Preprocessed BOLD is used as it is in any case",
    )
    container: str = Field(
        "mcsp.sif",
        pattern=r"^\S+$",
        description="Image in which `--sdm apptainer` runs the rules: a file (envs/mcsp.def makes it), or docker://... or "
        "library://...",
    )
    embedded: EmbeddedOptions = EmbeddedOptions()
    fmriprep: FmriprepOptions = FmriprepOptions()
    simulate: SimulateOptions = SimulateOptions()
    fmri: FmriOptions = FmriOptions()
    eeg: EegOptions = EegOptions()
    connectivity: ConnectivityOptions = ConnectivityOptions()
    spectra: SpectraOptions = SpectraOptions()
    splits: SplitOptions = SplitOptions()
    pretrain: PretrainOptions = PretrainOptions()
    finetune: FinetuneOptions = FinetuneOptions()
    evaluate: EvaluateOptions = EvaluateOptions()
    explain: ExplainOptions = ExplainOptions()
    validation: ValidationOptions = ValidationOptions()
    sweep: SweepOptions = SweepOptions()
    controls: ControlOptions = ControlOptions()
    figures: FigureOptions = FigureOptions()
    predict: PredictOptions = PredictOptions()

    @field_validator("study")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("use letters, digits and '-'")
        return value

    @field_validator("datasets", "tasks", "other_tasks")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        bad = [name for name in value if not NAME.fullmatch(name)]
        if bad:
            raise ValueError(f"{', '.join(bad)}: use letters, digits and '-' in names")
        return value

    @model_validator(mode="after")
    def _check(self) -> Study:
        if not self.tasks and not self.predict.model:
            raise ValueError("tasks is missing: give it a value (or predict.model, to apply a trained model)")
        if self.tasks and self.predict.model:
            raise ValueError("predict.model applies a trained model, tasks train new ones: leave out one of them")
        for section, name, binary in (("tasks", "other_tasks", True), ("other_tasks", "tasks", False)):
            wrong = [own for own, task in getattr(self, section).items() if (task.kind == "binary") != binary]
            if wrong:
                raise ValueError(f"{section}.{wrong[0]} is {getattr(self, section)[wrong[0]].kind}: put it under {name}")
        if self.tasks.keys() & self.other_tasks.keys() or (self.other_tasks and not self.tasks):
            raise ValueError("other_tasks: use names that are not in tasks, and give one of these too: the report is of them")
        known = self.known_labels()
        for name, task in {**self.tasks, **self.other_tasks}.items():
            unknown = sorted(set().union(*task.sides().values()) - known)
            if unknown and task.column == "labels":
                raise ValueError(
                    f"tasks.{name}: no dataset gives the label(s) {', '.join(unknown)} "
                    f"(known: {', '.join(sorted(known)) or 'none'})"
                )
        strange = sorted(set(self.pretrain.corpus or ()) - set(self.datasets))
        if strange:
            raise ValueError(f"pretrain.corpus: {', '.join(strange)} is no dataset (there are {', '.join(self.datasets)})")
        self._check_spaces()
        return self

    def _check_spaces(self) -> None:
        """A parcellation of grayordinates goes with BOLD in fsLR, and the other way round."""
        surface = self.atlas.image_name == SURFACE
        spaces = {name: dataset.space for name, dataset in self.datasets.items() if dataset.kind == "bids"}
        for name, space in spaces.items():
            if space == "fsLR" and "fmri" in self.datasets[name].modalities and not surface:
                raise ValueError(f"datasets.{name}.space = fsLR needs atlas.image: a .dlabel.nii of the same grayordinates")
        simulated = [name for name, dataset in self.datasets.items() if dataset.kind == "simulate"]
        if surface and simulated:
            raise ValueError(f"datasets.{simulated[0]}: simulated BOLD is a volume, atlas.image = {self.atlas.image} is not")
        if surface and "fsLR" not in spaces.values():
            raise ValueError(f"atlas.image = {self.atlas.image} needs a dataset with space: fsLR")

    def known_labels(self) -> set[str]:
        """All labels that the datasets' maps or simulated groups can give."""
        labels: set[str] = set()
        for dataset in self.datasets.values():
            if dataset.kind == "simulate":
                labels.update(part for group in dataset.groups for part in group.split("+"))
            else:
                labels.update(x for m in dataset.phenotype.labels.values() for values in m.values() for x in values)
        return labels

    def to_fetch(self) -> dict[str, tuple[FetchOptions, Path]]:
        """Name -> (how it is obtained, its directory) of the datasets that can be fetched."""
        return {n: (d.fetch, Path(d.path)) for n, d in self.datasets.items() if d.kind != "simulate" and d.fetch}

    def paths(self) -> list[tuple[str, Path]]:
        """(field, path) of every input path that must exist before a run starts. What can be fetched need not."""
        given = {n: d for n, d in self.datasets.items() if d.kind != "simulate" and not d.fetch}
        found = [(f"datasets.{n}.path", d.path) for n, d in given.items()]
        for name, dataset in given.items():
            if dataset.kind == "bids" and dataset.derivatives:
                found.append((f"datasets.{name}.derivatives", dataset.derivatives))
            if dataset.phenotype.table:
                tables = dataset.phenotype.tables(Path())
                found += [(f"datasets.{name}.phenotype.table", str(table)) for table in tables]
        found += [("predict.model", self.predict.model)] if self.predict.model else []
        found += [("splits.file", self.splits.file)] if self.splits.file else []
        found += [(f"atlas.{key}", value) for key in ("image", "table") if (value := getattr(self.atlas, key))]
        return [(field, Path(path)) for field, path in found]


def _fields_at(model: type[Options], location: tuple[str | int, ...]) -> list[str]:
    """Names of the options of `model` that are allowed beside the last part of `location`."""
    schema = model.model_json_schema()
    node: dict[str, Any] = schema
    for part in location[:-1]:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        if "discriminator" in node and part in node["discriminator"]["mapping"]:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items") or {}
            if not isinstance(node, dict):
                return []
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return list(node.get("properties", {}))


def _near(name: str, names: list[str]) -> str | None:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else None


def _shown(location: tuple[str | int, ...]) -> str:
    """A place in the study file without what the validation adds: kinds, and the branches of 'this or that'."""
    kinds = ("bids", "roi", "simulate", "edge", "amplitude", "band", "EdgeEffect", "AmplitudeEffect", "BandEffect", "[key]")
    parts = [str(part) for i, part in enumerate(location) if not (i and (part in kinds or BRANCH.fullmatch(str(part))))]
    return ".".join(parts) or "study"


def _why(error: Mapping[str, Any]) -> str:
    """Why a value is not allowed, with the remedy where one can be told."""
    value = error["input"]
    if error["type"] == "string_type" and isinstance(value, bool):
        return 'YAML reads yes, no, on and off as true and false: write it in quotes, e.g. "yes"'
    if error["type"] == "string_type" and isinstance(value, int | float | date):
        return f'write it in quotes: "{value}"'
    if error["type"] == "list_type" and isinstance(value, str):
        return f"write a list: [{value}]"
    if error["type"] == "literal_error" and isinstance(value, str):
        allowed = re.findall(r"'([^']+)'", error["ctx"]["expected"])
        near = next((f"did you mean {name}?" for name in allowed if name.startswith(value)), None) or _near(value, allowed)
        if near and len(allowed) > 1:
            return f"{near} There are {', '.join(allowed)}"
    message = error["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:] if message[1:2].islower() else message


def _line(error: Mapping[str, Any], source: str, model: type[Options]) -> str:
    location, value = tuple(error["loc"]), error["input"]
    shown = _shown(location)
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, location)
        remedy = _near(str(location[-1]), allowed) or f"allowed here: {', '.join(allowed) or 'nothing'}"
        return f"{source}: {shown} is not an option: {remedy}"
    if error["type"] == "missing":
        return f"{source}: {shown} is missing: give it a value"
    if not location:
        return f"{source}: {error['msg'].removeprefix('Value error, ')}"  # of several fields at once, which the message names
    if location[-1] == "[key]":
        return f"{source}: {_shown((*location[:-2], json.dumps(value, default=str)))} is not allowed as a name: {_why(error)}"
    text = json.dumps(value, default=str) if not isinstance(value, dict | Options) else ""
    given = f" = {text}" if text and len(text) <= 60 else ""
    return f"{source}: {shown}{given} is not allowed: {_why(error)}"


def _told(errors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The errors but for those of a branch of 'this or that' where another branch got further."""
    places = [tuple(error["loc"]) for error in errors]
    return [
        error
        for error, place in zip(errors, places)
        if not (
            place
            and BRANCH.fullmatch(str(place[-1]))
            and any(other[: len(place) - 1] == place[:-1] and len(other) > len(place) for other in places)
        )
    ]


def parse_options(model: type[AnyOptions], values: Mapping[str, Any], source: str) -> AnyOptions:
    """Validate options. Raises McspError with one line per problem, all problems at once; `source` names the file."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = dict.fromkeys(_line(e, source, model) for e in _told(error.errors()))
        raise McspError("\n".join(lines)) from error


def parse_study(values: Mapping[str, Any], source: str = "study") -> Study:
    """Validate a study. Raises McspError with one line per problem, all problems at once; `source` names the file."""
    return parse_options(Study, values, source)


def check_paths(study: Study, source: str = "study") -> None:
    """Raises McspError with a line for every input path of the study that is not there."""
    lines = [
        f"{source}: {field} = {path}: no such file or directory: mend the path or put the data there"
        for field, path in study.paths()
        if not path.exists()
    ]
    if lines:
        raise McspError("\n".join(lines))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises McspError that names the file and the line of a syntax error."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise McspError(f"{path}: can't be read ({error.strerror}): check the path") from error
    except yaml.YAMLError as error:
        raise McspError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise McspError(f"{path}: a study file is a mapping of options, see config/studies/demo.yaml")
    return values


def load_study(path: str | Path) -> Study:
    """Read and validate a study file, and check that its input paths exist."""
    study = parse_study(read_yaml(path), Path(path).name)
    check_paths(study, Path(path).name)
    return study


def options_json(options: Options, exclude: set[str] | None = None) -> str:
    """Options as one line of JSON: what a rule hands to its stage, and what Snakemake watches for changes."""
    return json.dumps(options.model_dump(mode="json", exclude=exclude), sort_keys=True, separators=(",", ":"))


def default_config() -> str:
    """Text of config/config.yaml: every option that has a default."""
    skip = {"study", "title", "datasets", "tasks", "other_tasks"}
    values = {
        name: (field.default.model_dump(mode="json") if isinstance(field.default, Options) else field.default)
        for name, field in Study.model_fields.items()
        if name not in skip
    }
    return (
        "# Defaults of every study, written by `mcsp schema --defaults` from the models in src/mcsp/options.\n"
        "# Change a value in your own file in config/studies/, which is laid over this one.\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema of the study file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Study.model_json_schema()}
