"""What the Snakefile needs to know of a study: paths, shards, folds, options and code versions. No work is done here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mcsp.bids.contents import shard_hashes
from mcsp.code import code_version, files_version
from mcsp.cohort import DOMAINS
from mcsp.errors import McspError
from mcsp.figures.catalogue import ALL, KINDS, OPTIONAL, groups, module_of
from mcsp.options.controls import RANDOM_LABELS, RANDOM_TASK
from mcsp.predict.adopt import adopted, model_folders
from mcsp.study import Study, check_paths, options_json, parse_study, read_yaml
from mcsp.variants import variants

# The module behind each rule: its code, and all that it imports, is the rule's version.
ENTRIES = {
    "atlas": "mcsp.atlas",
    "simulate": "mcsp.simulate.stage",
    "check": "mcsp.bids.check",
    "prefetch": "mcsp.fetch.prefetch",
    "fetch": "mcsp.fetch.cohort",
    "ingest": "mcsp.bids.ingest",
    "duplicates": "mcsp.evaluation.duplicates",
    "cohort": "mcsp.bids.cohort",
    "tasks": "mcsp.bids.tasks",
    "preprocess": "mcsp.preprocess.stage",
    "fmri": "mcsp.fmri.stage",
    "eeg": "mcsp.eeg.stage",
    "connectivity": "mcsp.domains.connectivity",
    "spectra": "mcsp.domains.spectra",
    "splits": "mcsp.evaluation.splits",
    "pretrain": "mcsp.training.pretrain",
    "embed": "mcsp.training.embed",
    "finetune": "mcsp.training.finetune",
    "rival": "mcsp.evaluation.rivals.stage",
    "evaluate": "mcsp.evaluation.stage",
    "statistics": "mcsp.evaluation.statistics",
    "evaluate_other": "mcsp.evaluation.other_tasks",
    "summary": "mcsp.evaluation.summary",
    "explain": "mcsp.explain.stage",
    "biomarkers": "mcsp.explain.biomarkers",
    "shapley": "mcsp.explain.shapley",
    "validation_run": "mcsp.validation.run",
    "validation_table": "mcsp.validation.verdicts",
    "variant_predictions": "mcsp.evaluation.variant",
    "sweep_table": "mcsp.evaluation.sweep",
    "control_labels": "mcsp.evaluation.control_labels",
    "control_predictions": "mcsp.evaluation.control",
    "controls_table": "mcsp.evaluation.controls",
    **{f"figure_{kind}": module_of(kind) for kind in ALL},
    "predict": "mcsp.predict.stage",
    "card": "mcsp.report.card",
    "tables": "mcsp.report.tables",
    "page": "mcsp.report.page",
}
CHECKOUT = Path(__file__).resolve().parents[2]  # where the workflow lies
_STATISTICS = ("calibration", "reliability", "uncertainty", "selective")  # tables of a task that figures show
TRANSFORMS = {"spatial": "connectivity", "spectral": "spectra"}


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` laid over `base`, mapping by mapping; neither is changed."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def study_of(config: Mapping[str, Any], fallback: Path, configfiles: Iterable[str | Path]) -> tuple[Study, str]:
    """The study that Snakemake's `config` describes, and its file as seen from the working directory. Without any dataset in
    it, the study in `fallback`. Raises McspError.
    """
    given = [os.path.relpath(path) for path in configfiles]  # of the command line Snakemake makes them absolute
    source = next((path for path in given if Path(path).name != "config.yaml"), "config.yaml")  # the defaults are always there
    if not config.get("datasets"):
        config, source = overlay(config, read_yaml(fallback)), os.path.relpath(fallback)
    study = parse_study(adopted(config, source), source)
    check_paths(study, source)
    return study, source


def check_writable(*places: Path) -> None:
    """Raises McspError when nothing can be written to one of these directories, which need not exist yet."""
    for place in places:
        there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
        if not os.access(there, os.W_OK):
            raise McspError(
                f"{there}: nothing can be written here: mend its permissions, or run elsewhere: snakemake --directory PLACE"
            )


def check_container(study: Study) -> str:
    """The image that the study's rules run in. Raises McspError when it is a file that is not there, or can't be used."""
    if (nodes := study.pretrain.engine.nodes) > 1:
        raise McspError(
            f"pretrain.engine.nodes = {nodes}: in an image there is no srun that starts a process on each: leave out "
            "--sdm apptainer (or use conda), or train on one node"
        )
    if "://" not in study.container and not Path(study.container).is_file():
        raise McspError(
            f"container = {study.container}: no such image: make it (apptainer build mcsp.sif envs/mcsp.def, in the checkout), "
            "or say where it is (--config container=PLACE)"
        )
    return study.container


def load_plan(study: Path, results: Path) -> Plan:
    """Plan of a study file, for commands that look at its results. Input paths need not exist any more."""
    defaults = CHECKOUT / "config" / "config.yaml"
    base = read_yaml(defaults) if defaults.is_file() else {}
    values = adopted(overlay(base, read_yaml(study)), study.name)
    return Plan(parse_study(values, study.name), results)


class Plan:
    """Paths of one study's results, and what each rule is handed."""

    def __init__(self, study: Study, results: Path = Path("results")):
        self.study = study
        self.root = results / study.study

    def code(self, rule: str) -> str:
        """Version of the code behind a rule."""
        return code_version(ENTRIES[rule])

    def page_assets(self) -> str:
        """Version of what the report is filled into: template, style, script, references."""
        return files_version(Path(__file__).parent / "report")

    def options(self, stage: str) -> str:
        """A stage's options as one line of JSON."""
        return options_json(getattr(self.study, stage))

    def finetune_options(self) -> str:
        """The options of fine-tuning without the list of seeds: one more seed is no reason to train the others again."""
        return json.dumps(self.study.finetune.model_dump(mode="json", exclude={"seeds"}), sort_keys=True)

    def evaluate_options(self) -> str:
        """The options of evaluation without its rivals: one more is no reason to run again what asks none."""
        return json.dumps(self.study.evaluate.model_dump(mode="json", exclude={"rivals"}), sort_keys=True)

    def figure_options(self) -> str:
        """The options of figures as JSON; their note names simulated data and transductive pre-training, so that no picture
        goes without it."""
        options = self.study.figures
        which = "" if len(self.simulated) == len(self.study.datasets) else f": {', '.join(self.simulated)}"
        transductive = self.study.pretrain.scope == "transductive"
        notes = [
            options.note,
            f"SIMULATED DATA{which}" if self.simulated else None,
            "TRANSDUCTIVE: pre-training saw test subjects" if transductive else None,
        ]
        return options_json(options.model_copy(update={"note": ". ".join(filter(None, notes)) or None}))

    def dataset_options(self, name: str) -> str:
        """A dataset's options as one line of JSON, without how it was obtained and is cited."""
        return options_json(self.study.datasets[name], exclude={"fetch", "cite"})

    def fetch_options(self, name: str) -> str:
        """How a dataset is obtained, as one line of JSON."""
        return options_json(self.study.datasets[name].fetch)

    @property
    def fetched(self) -> list[str]:
        """Names of the datasets that can be fetched."""
        return list(self.study.to_fetch())

    def preprocess_options(self) -> str:
        """Options of the study's route of preprocessing as JSON, without what the rule itself asks for."""
        if self.study.preprocess == "none":
            return "{}"
        route = getattr(self.study, self.study.preprocess)
        return json.dumps(route.model_dump(mode="json", exclude={"threads", "mem_mb"}), sort_keys=True)

    def derivatives(self, name: str) -> Path:
        """Directory of what preprocessing makes of a dataset; each route has its own."""
        return self.root / "derivatives" / name / self.study.preprocess

    @property
    def preprocess_threads(self) -> int:
        """Cores of a preprocessing job: for fMRIPrep those of one subject, else one per subject."""
        return self.study.fmriprep.threads if self.study.preprocess == "fmriprep" else 2

    @property
    def preprocess_mem_mb(self) -> int:
        """Memory of a preprocessing job, MB."""
        return self.study.fmriprep.mem_mb if self.study.preprocess == "fmriprep" else 6000

    @property
    def gpus(self) -> dict[str, int | str]:
        """What a pre-training job asks for: the GPUs of one node; or nodes, GPUs of each and a task for each of these, in the
        words of Snakemake's Slurm plugin, whose `gpu` counts those of all nodes and whose `mpi` leaves srun to the job.
        """
        engine = self.study.pretrain.engine
        if engine.nodes == 1:
            return {"gpu": engine.gpus}
        tasks = {"tasks_per_node": engine.gpus} if engine.gpus > 1 else {"tasks": engine.nodes}  # the plugin takes no 1
        return {"nodes": engine.nodes, "gres": f"gpu:{engine.gpus}", "mpi": "srun", "tasks_per_gpu": 0, **tasks}

    def launcher(self, threads: int) -> str:
        """What starts pre-training on several nodes: a process for each GPU, each of which sees its node's; '' on one node."""
        engine = self.study.pretrain.engine
        if engine.nodes == 1:
            return ""
        size = f"--nodes={engine.nodes} --ntasks-per-node={engine.gpus} --cpus-per-task={threads}"
        return f"srun {size} --gres=gpu:{engine.gpus} --kill-on-bad-exit=1"

    def _is_preprocessed(self, name: str) -> bool:
        dataset = self.study.datasets[name]
        return self.study.preprocess != "none" and dataset.kind != "roi" and "fmri" in dataset.modalities

    def preprocessed(self) -> list[Path]:
        """Recordings tables of preprocessing; none without a route."""
        return [self.fmri_recordings(name, shard) for name, shard in self.shards if self._is_preprocessed(name)]

    def fmri_recordings(self, name: str, shard: str) -> Path:
        """Recordings table that the fMRI stage of a shard reads."""
        stage = "preprocess" if self._is_preprocessed(name) else "ingest"
        return self.root / stage / name / f"shard-{shard}.recordings.parquet"

    def simulated_note(self, name: str) -> str:
        """What every picture of a simulated dataset says; '' for a real one."""
        return "SIMULATED DATA" if name in self.simulated else ""

    def raw_flag(self, name: str) -> str:
        """Option of ingestion that counts raw BOLD, or nothing."""
        return "--raw-too" if self._is_preprocessed(name) else ""

    def task_options(self, name: str) -> str:
        """A task's options as JSON."""
        return options_json({**self.study.tasks, **self.study.other_tasks}[name])

    def shard_counts(self) -> str:
        """Number of shards of each dataset, as JSON."""
        return json.dumps({name: dataset.n_shards for name, dataset in self.study.datasets.items()})

    def check_options(self) -> str:
        """What `check` needs: datasets with their directories, tasks, folds, and what fixes the stores' sizes, as JSON."""
        datasets = {
            name: {"options": dataset.model_dump(mode="json", exclude={"fetch", "cite"}), "path": str(self.dataset_path(name))}
            for name, dataset in self.study.datasets.items()
        }
        sections = ("fmri", "eeg", "atlas", "fmriprep", "splits")
        parts = {name: getattr(self.study, name).model_dump(mode="json") for name in sections}
        tasks = {**self.study.tasks, **self.study.other_tasks}
        parts |= {"tasks": {name: task.model_dump(mode="json") for name, task in tasks.items()}}
        return json.dumps({"datasets": datasets, "preprocess": self.study.preprocess, **parts}, sort_keys=True)

    @property
    def about(self) -> str:
        """What models and their cards keep of the study in words, as JSON: atlas, datasets with kind and licence."""
        study, atlas = self.study, self.study.atlas
        return json.dumps(
            {
                "study": study.study,
                "title": study.title,
                "atlas": {**atlas.model_dump(mode="json", exclude={"image", "table"}), "own": bool(atlas.image or atlas.table)},
                "datasets": {name: {"kind": d.kind, "licence": d.licence} for name, d in study.datasets.items()},
            },
            sort_keys=True,
        )

    def page_options(self, source: str) -> str:
        """The whole study as JSON, for the summary page, and its file as `study_of` names it."""
        unused = {"embedded", "fmriprep", "container"} - {self.study.preprocess}
        return json.dumps({"source": source, **self.study.model_dump(mode="json", exclude=unused)})

    @property
    def simulated(self) -> list[str]:
        """Names of the simulated datasets."""
        return [name for name, dataset in self.study.datasets.items() if dataset.kind == "simulate"]

    def dataset_path(self, name: str) -> Path:
        """Directory of a dataset's recordings."""
        dataset = self.study.datasets[name]
        return self.root / "bids" / name if dataset.kind == "simulate" else Path(dataset.path)

    def manifest(self, name: str) -> list[Path]:
        """Manifest of a simulated dataset, in a list; empty for recordings that are not made by the workflow."""
        return [self.root / "bids" / f"{name}.manifest.tsv"] if name in self.simulated else []

    def truths(self) -> list[Path]:
        """Truth files of the simulated datasets."""
        return [self.dataset_path(name) / "derivatives" / "truth" / "truth.json" for name in self.simulated]

    @property
    def atlas(self) -> dict[str, Path]:
        """Files of the atlas."""
        files, image = {"table": self.root / "atlas" / "atlas.tsv"}, self.study.atlas.image_name
        return {**files, "image": self.root / "atlas" / image} if image else files

    @cached_property
    def shards(self) -> list[tuple[str, str]]:
        """(dataset, shard) of every unit of work."""
        return [(name, f"{i:03d}") for name, dataset in self.study.datasets.items() for i in range(dataset.n_shards)]

    def modality_shards(self, modality: str) -> list[tuple[str, str]]:
        """(dataset, shard) of the datasets that can hold a modality."""
        return [(name, shard) for name, shard in self.shards if modality in self.study.datasets[name].modalities]

    @property
    def modalities(self) -> list[str]:
        """Modalities of the models that some dataset can hold."""
        return [m for m in self.study.pretrain.model.modalities if self.modality_shards(m)]

    def ingested(self, what: str) -> list[Path]:
        """Ingest's files of one kind ('subjects.parquet', 'recordings.parquet', 'status.tsv'), over all shards."""
        return [self.root / "ingest" / name / f"shard-{shard}.{what}" for name, shard in self.shards]

    def stores(self, *domains: str, modality: str | None = None) -> list[Path]:
        """Stores of the given domains (all without any), over modalities and shards."""
        wanted = [modality] if modality else self.study.pretrain.model.modalities
        return [
            self.root / "store" / name / m / domain / f"shard-{shard}.arrow"
            for m in wanted
            for domain in domains or DOMAINS
            for name, shard in self.modality_shards(m)
        ]

    @cached_property
    def variants(self) -> dict[str, Plan]:
        """Plans of the study's variants; their own results lie under sweep/<name>."""
        base = self.study.model_dump(mode="json")
        found = {}
        for name, variant in variants(self.study).items():
            plan = Plan(parse_study(overlay(base, variant.changes), f"variant {name}"))
            plan.root = self.root / "sweep" / name
            found[name] = plan
        return found

    def variant(self, name: str) -> Plan:
        """Plan of one variant."""
        return self.variants[name]

    def variant_names(self) -> str:
        """Variants as JSON: name -> [kind, value]."""
        return json.dumps({name: [v.kind, v.value] for name, v in variants(self.study).items()})

    @property
    def searched(self) -> list[str]:
        """Names of the variants whose models read both modalities: those in which one searches the other."""
        return [name for name, plan in self.variants.items() if len(plan.modalities) > 1]

    def searched_names(self) -> str:
        """These as JSON."""
        return json.dumps(self.searched)

    def variant_stores(self, name: str) -> list[Path]:
        """Stores that a variant's models read: its own where their content differs, else the study's."""
        plan = self.variant(name)
        own = plan.study.eeg != self.study.eeg
        return plan.stores() if own else [self.root / path.relative_to(plan.root) for path in plan.stores()]

    @property
    def control_tasks(self) -> str:
        """Pattern of the tasks that controls have: the study's, and the random label."""
        return "|".join([*self.study.tasks, RANDOM_TASK])

    def control_task(self, control: str, task: str) -> str:
        """Options of a control's task as JSON."""
        return options_json(RANDOM_LABELS) if control.startswith("random") else self.task_options(task)

    def control_finetuned(self, control: str, task: str) -> list[Path]:
        """Directories of a control's classifiers: one seed, since draws repeat it."""
        seed = self.study.finetune.seeds[0]
        return [self.root / "controls" / control / task / f"fold-{fold}_seed-{seed}" for fold in self.folds]

    def control_predictions(self) -> list[Path]:
        """Predictions of all controls."""
        draws = range(self.study.controls.draws)
        own = [(f"permuted-{draw}", task) for task in self.study.tasks for draw in draws]
        own += [(f"random-{draw}", RANDOM_TASK) for draw in draws]
        return [self.root / "controls" / control / task / "predictions.parquet" for control, task in own]

    def _done(self, name: str) -> list[Path]:
        """A table of what need not run, in a list, once it ran: a report shows it from then on, and keeps it up to date."""
        return [self.root / name] if (self.root / name).is_file() else []

    def controls_done(self) -> list[Path]:
        """The table of controls, once they ran."""
        return self._done("controls/controls.tsv")

    def sweep_done(self) -> list[Path]:
        """The table of variants, once they ran."""
        return self._done("sweep/sweep.tsv")

    def report_figures(self) -> list[Path]:
        """Stems of the figures that a report shows: all, and those of what need not run, once it did."""
        return self.figures() + self.figures_done()

    def status_stages(self) -> list[str]:
        """Stages whose status counts in the cohort; tables of a route that was switched off do not."""
        stages = [f"{stage}{m}" for m in ("fmri", "eeg") for stage in ("", "connectivity-", "spectra-")]
        return ["preprocess", *stages] if self.preprocessed() else stages

    def statuses(self) -> list[Path]:
        """Status tables of all stages that write stores."""
        before = [
            self.root / "status" / name / "preprocess" / f"shard-{shard}.tsv"
            for name, shard in self.shards
            if self._is_preprocessed(name)
        ]
        stages = [stage for stage in self.status_stages() if stage != "preprocess"]
        return before + [
            self.root / "status" / name / stage / f"shard-{shard}.tsv"
            for stage in stages
            for name, shard in self.modality_shards(stage.rsplit("-", 1)[-1])
        ]

    def runs(self) -> list[Path]:
        """Tables of the runs that the fMRI and EEG stages used."""
        return [
            self.root / "status" / name / modality / f"shard-{shard}.runs.tsv"
            for modality in ("fmri", "eeg")
            for name, shard in self.modality_shards(modality)
        ]

    def split_file(self) -> list[Path]:
        """The table that fixes the folds, in a list; empty without one."""
        return [Path(self.study.splits.file)] if self.study.splits.file else []

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds, over all repeats."""
        return list(range(self.study.splits.n_folds * self.study.splits.repeats))

    def pretrained(self, fold: int | str) -> Path:
        """Directory of a fold's pre-trained model."""
        return self.root / "pretrain" / f"fold-{fold}"

    def finetuned(self, task: str) -> list[Path]:
        """Directories of a task's classifiers."""
        seeds = self.study.finetune.seeds
        return [self.root / "finetune" / task / f"fold-{fold}_seed-{seed}" for fold in self.folds for seed in seeds]

    @staticmethod
    def model_files(models: Iterable[Path], *more: str) -> list[Path]:
        """What lies in directories of models: configuration, weights, and `more`. All that a stage reads must be an input, or
        it is absent where results live in a storage of Snakemake's.
        """
        return [model / name for model in models for name in ("config.json", "model.safetensors", *more)]

    def rivals(self, task: str) -> list[Path]:
        """Predictions of a task's rivals."""
        names = self.study.evaluate.rivals_of(self.modalities)
        return [self.root / "evaluate" / task / "rivals" / f"{name}.parquet" for name in names]

    def applied(self) -> list[Path]:
        """Directories of the trained models that the study applies. Raises McspError when it names none."""
        if not self.study.predict.model:
            raise McspError("predict.model is not set: name a trained model in the study file, e.g. results/demo/finetune/asd")
        return model_folders(self.study.predict.model)

    def validation_table(self) -> list[Path]:
        """The verdicts that biomarkers are trusted by, in a list; empty where the study's own planted truth decides."""
        return [Path(self.study.explain.validation)] if self.study.explain.validation else []

    def shapley_rivals(self) -> list[str]:
        """The study's tabular rivals whose Shapley values are worked out."""
        present = [m for m in self.study.pretrain.model.modalities if self.modality_shards(m)]
        return [name for name in self.study.evaluate.rivals_of(present) if name in ("linear", "random_forest")]

    def validation_stages(self) -> str:
        """Options of the stages that a run of the validation goes through, as JSON; methods are its own."""
        names = ("fmri", "eeg", "connectivity", "spectra", "pretrain", "finetune")
        parts = {name: getattr(self.study, name).model_dump(mode="json") for name in names}
        explain = self.study.explain.model_dump(mode="json", include={"n_steps", "n_samples", "noise", "seed"})
        return json.dumps({**parts, "explain": explain}, sort_keys=True)

    def validation_options(self) -> str:
        """Options of one run of the validation, as JSON: one more seed is no reason to run the others again."""
        options = self.study.validation.model_dump(mode="json", exclude={"snrs", "seeds", "n_bootstrap"})
        return json.dumps(options, sort_keys=True)

    def validation_runs(self, what: str) -> list[Path]:
        """Tables of one kind ('scores', 'answers') of all runs of the validation."""
        v = self.study.validation
        return [self.root / "validation/runs" / f"snr-{snr:g}_seed-{seed}.{what}.parquet" for snr in v.snrs for seed in v.seeds]

    def cards(self) -> list[Path]:
        """Model cards: of the pre-trained models, and of each task's classifiers."""
        return [self.root / "pretrain" / "model_card.md"] + [
            self.root / "finetune" / t / "model_card.md" for t in self.study.tasks
        ]

    @property
    def paper_tables(self) -> list[str]:
        """Names of the tables for a paper."""
        names = ["performance", "comparisons", "cohort", "subgroups", "calibration"]
        return names + (["ablations", "fusion"] if self.sweep_done() else [])

    def figure_names(self, kind: str) -> list[str]:
        """Names of a kind's figures, one or one per task; none where the study lacks what it shows."""
        modality = ALL[kind].modality
        if modality and not (modality in self.study.pretrain.model.modalities and self.modality_shards(modality)):
            return []
        return [f"{kind}-{task}" for task in self.study.tasks] if ALL[kind].per_task else [kind]

    def figures(self) -> list[Path]:
        """Stems of all figures that the study has whatever ran, in the report's order: a task's beside each other."""
        names = [name for kind in KINDS if not KINDS[kind].per_task for name in self.figure_names(kind)]
        per_task = [self.figure_names(kind) for kind in KINDS if KINDS[kind].per_task]
        names += [name for of_one in zip(*filter(None, per_task)) for name in of_one]
        return [self.root / "figures" / name for name in names]

    def figures_done(self) -> list[Path]:
        """Stems of the figures of what need not run, once it did: they are kept up to date from then on."""
        done = {"controls": self.controls_done(), "sweep": self.sweep_done()}
        return [self.root / "figures" / name for name, kind in OPTIONAL.items() if done[kind.section]]

    def figure_groups(self) -> dict[str, list[str]]:
        """Group -> its kinds of figures, as far as the study has them; a group is one job, or one per task."""
        held = {group: [kind for kind in kinds if self.figure_names(kind)] for group, kinds in groups().items()}
        return {group: kinds for group, kinds in held.items() if kinds}

    def figure_files(self, *kinds: str, task: str = "{task}") -> dict[str, Path | list[Path]]:
        """What figures of these kinds are drawn from, by the names that their modules have for it."""
        root, tasks = self.root, list(self.study.tasks)
        files = {
            "cohort": root / "cohort" / "subjects.parquet",
            "exclusions": root / "cohort" / "exclusions.tsv",
            "counts": [root / "cohort" / f"task-{name}.tsv" for name in tasks],
            "model": self.pretrained(0) / "config.json",
            "classifier": [self.finetuned(name)[0] / "config.json" for name in tasks[:1]],
            "histories": [self.pretrained(fold) / "history.tsv" for fold in self.folds],
            "embeddings": root / "embeddings" / "embeddings.parquet",
            "ranks": root / "embeddings" / "ranks.parquet",
            "metrics": [root / "evaluate" / name / "metrics.tsv" for name in tasks],
            "all_verdicts": [root / "explain" / name / "verdicts.tsv" for name in tasks],
            "predictions": root / "evaluate" / task / "predictions.parquet",
            **{name: root / "evaluate" / task / f"{name}.tsv" for name in _STATISTICS},
            "maps": root / "explain" / task / "maps.tsv",
            "trust": root / "explain" / task / "trust.tsv",
            "atlas": self.atlas["table"],
            "spectra": self.stores("spectral", modality="eeg"),
            "variants": root / "sweep" / "sweep.tsv",
            "variants_retrieval": root / "sweep" / "retrieval.tsv",
            "controls": root / "controls" / "controls.tsv",
        }
        return {name: files[name] for kind in kinds for name in ALL[kind].files}

    def listing(self, name: str, shard: str) -> str:
        """Hash of who and what is in a shard. A new subject or file changes one shard's hash, so Snakemake reruns that
        shard's chain only. Simulated datasets are tracked by their manifest.
        """
        return "" if name in self.simulated else self._listings[name][int(shard)]

    @cached_property
    def _listings(self) -> dict[str, list[str]]:
        return {name: shard_hashes(dataset) for name, dataset in self.study.datasets.items() if dataset.kind != "simulate"}
