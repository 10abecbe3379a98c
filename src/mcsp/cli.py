"""The command line: parse, call one stage, report errors in one line. Stages are imported when they are called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from mcsp import __version__
from mcsp.errors import McspError, machine_fault

app = typer.Typer(
    name="mcsp",
    help="From BIDS recordings of fMRI and EEG to self-supervised models, honest evaluation and biomarkers. "
    "Snakemake calls one command per rule; those for people are listed after these.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PEOPLE = "For people"
validate_app = typer.Typer(help="Do the attribution methods find what is there to be found?", no_args_is_help=True)
app.add_typer(validate_app, name="validate", rich_help_panel=PEOPLE)
bench_app = typer.Typer(help="What things cost: time, memory, jobs.", no_args_is_help=True)
app.add_typer(bench_app, name="bench", rich_help_panel=PEOPLE)

Json = Annotated[str, typer.Option("--options", help="The stage's options as JSON; {} takes the defaults.")]
Threads = Annotated[int, typer.Option(min=1, help="Worker processes, or threads in training.")]
Stores = Annotated[Path, typer.Option(help="Directory of the stores.")]
Cohort = Annotated[Path, typer.Option(help="Cohort table (Parquet).")]
Splits = Annotated[Path, typer.Option(help="Folds (TSV).")]
Atlas = Annotated[Path, typer.Option(help="Atlas table (TSV); the label image lies beside it.")]
Recordings = Annotated[Path, typer.Option(help="Recordings of one shard (Parquet).")]
StoreOut = Annotated[Path, typer.Option(help="Store to write (Arrow).")]
StatusOut = Annotated[Path, typer.Option(help="Status table to write (TSV).")]
TaskJson = Annotated[str, typer.Option(help="The task as JSON.")]
Classifiers = Annotated[list[Path], typer.Argument(help="Directories of the classifiers, over folds and seeds.")]
ResultsRoot = Annotated[Path, typer.Option(help="Directory that holds the studies' results.")]
DatasetName = Annotated[str, typer.Option(help="Name of the dataset.")]
Modality = Annotated[str, typer.Option(help="fmri or eeg.")]
Temporal = Annotated[Path, typer.Option(help="Temporal store.")]


def _parse(model: Any, text: str) -> Any:
    """Options from JSON. Raises McspError in one line."""
    try:
        return TypeAdapter(model).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise McspError(f"options: {'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}") from error


@app.command()
def atlas(options: Json, out: Annotated[Path, typer.Option(help="Table to write; the label image goes beside it.")]) -> None:
    """Write the study's atlas: table and label image."""
    from mcsp.atlas import run
    from mcsp.options.atlas import AtlasOptions

    run(options=_parse(AtlasOptions, options), out=out)


@app.command()
def simulate(
    name: str,
    dataset: Annotated[str, typer.Option(help="The dataset's options as JSON.")],
    options: Json,
    atlas: Atlas,
    out: Annotated[Path, typer.Option(help="Directory of the BIDS dataset.")],
    manifest: Annotated[Path, typer.Option(help="Table of the files written.")],
    threads: Threads = 1,
) -> None:
    """Write a simulated BIDS dataset with planted truth."""
    from mcsp.options.simulate import SimulatedDataset, SimulateOptions
    from mcsp.simulate.stage import run

    run(
        name=name,
        dataset=_parse(SimulatedDataset, dataset),
        options=_parse(SimulateOptions, options),
        atlas=atlas,
        out=out,
        manifest=manifest,
        threads=threads,
    )


@app.command(rich_help_panel=PEOPLE)
def check(
    study: Annotated[Path | None, typer.Argument(help="Study file, e.g. config/studies/demo.yaml.")] = None,
    inputs: Annotated[str | None, typer.Option(help="Datasets and options as JSON, instead of a study file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Table of problems to write.")] = None,
    forecast: Annotated[Path | None, typer.Option(help="Table of disk, files and time to write.")] = None,
) -> None:
    """Read headers, sidecars and pairing of every input, and forecast disk, files and time, before anything runs.

    Ends with status 1 when the study file can't run as it is, its `other_tasks` among that.
    """
    from mcsp.bids.check import hopeless, run
    from mcsp.options.atlas import AtlasOptions
    from mcsp.options.datasets import Dataset
    from mcsp.options.eeg import EegOptions
    from mcsp.options.fmri import FmriOptions
    from mcsp.options.fmriprep import FmriprepOptions
    from mcsp.options.tasks import Task
    from mcsp.options.training import SplitOptions
    from mcsp.study import check_paths
    from mcsp.workflow import load_plan

    if (study is None) == (inputs is None):
        raise McspError("check: give a study file, e.g. `mcsp check config/studies/demo.yaml`")
    if inputs is None:
        plan = load_plan(study, Path("results"))
        check_paths(plan.study, study.name)
        inputs = plan.check_options()
    values = json.loads(inputs)
    datasets = {name: _parse(Dataset, json.dumps(value["options"])) for name, value in values["datasets"].items()}
    found = run(
        datasets=datasets,
        paths={name: Path(value["path"]) for name, value in values["datasets"].items()},
        fmri=FmriOptions.model_validate(values["fmri"]),
        eeg=EegOptions.model_validate(values["eeg"]),
        atlas=AtlasOptions.model_validate(values["atlas"]),
        preprocess=values["preprocess"],
        fmriprep=FmriprepOptions.model_validate(values["fmriprep"]),
        tasks={name: Task.model_validate(value) for name, value in values["tasks"].items()},
        splits=SplitOptions.model_validate(values["splits"]),
        report=report,
        forecast=forecast,
    )
    if study is not None and hopeless(*found):  # not as a job of Snakemake, which would delete the tables that say why
        raise typer.Exit(1)


@app.command(rich_help_panel=PEOPLE)
def init(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS dataset: the directory that holds the sub-* directories.")],
    out: Annotated[Path | None, typer.Option(help="Study file to write; default: config/studies/<directory>.yaml.")] = None,
) -> None:
    """Look at a BIDS dataset and write the study file that fits it."""
    from mcsp.init import run

    path = run(bids_dir=bids_dir, out=out)
    print(path.read_text(encoding="utf-8"), f"written: {path}; next: mcsp check {path}", sep="\n")


@app.command()
def prefetch(options: Json, out: Annotated[Path, typer.Option(help="Table of downloads to write.")]) -> None:
    """Download everything that a later stage would."""
    from mcsp.fetch.prefetch import run
    from mcsp.options.atlas import AtlasOptions

    run(atlas=_parse(AtlasOptions, options), out=out)


@app.command(rich_help_panel=PEOPLE)
def fetch(
    name: Annotated[str, typer.Argument(help="Study file, e.g. config/studies/abide.yaml; or a dataset's name and --options.")],
    options: Annotated[str | None, typer.Option(help="A dataset's options as JSON, instead of a study file.")] = None,
    path: Annotated[Path | None, typer.Option(help="With --options: directory of the dataset.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --options: list of files to write (TSV).")] = None,
    subset: Annotated[
        int | None, typer.Option(min=1, help="So many subjects of each source and site, for a first try.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Transfers at a time.")] = 8,
) -> None:
    """Download a study's public datasets; what is there is not fetched again."""
    from mcsp.fetch.cohort import run, run_study
    from mcsp.options.fetch import FetchOptions
    from mcsp.workflow import load_plan

    if options is None:
        plan = load_plan(Path(name), Path("results"))
        run_study(plan.study.to_fetch(), plan.root / "fetch", subset=subset, threads=threads)
    elif path is None or out is None:
        raise McspError(
            "fetch: --options wants --path and --out too; or give a study file: mcsp fetch config/studies/abide.yaml"
        )
    else:
        run(name=name, options=_parse(FetchOptions, options), path=path, out=out, threads=threads)


@app.command()
def ingest(
    name: str,
    dataset: Annotated[str, typer.Option(help="The dataset's options as JSON.")],
    path: Annotated[Path, typer.Option(help="Directory of the dataset.")],
    shard: Annotated[int, typer.Option(min=0)],
    subjects: Annotated[Path, typer.Option(help="Subject table to write (Parquet).")],
    recordings: Annotated[Path, typer.Option(help="Recordings table to write (Parquet).")],
    status: StatusOut,
    raw_too: Annotated[bool, typer.Option("--raw-too", help="Raw BOLD counts: it will be preprocessed.")] = False,
) -> None:
    """List subjects, labels and recordings of one shard of a dataset."""
    from mcsp.bids.ingest import run
    from mcsp.options.datasets import Dataset

    run(
        name=name,
        dataset=_parse(Dataset, dataset),
        path=path,
        shard=shard,
        raw_too=raw_too,
        subjects=subjects,
        recordings=recordings,
        status=status,
    )


@app.command()
def duplicates(
    spatial: Annotated[list[Path], typer.Argument(help="All spatial stores; the temporal ones lie beside them.")],
    out: Annotated[Path, typer.Option(help="Pairs of subjects with one recording to write (TSV).")],
) -> None:
    """Find recordings that stand in the study twice under different names, by their signals."""
    from mcsp.evaluation.duplicates import run

    run(spatial=spatial, out=out)


@app.command()
def cohort(
    ingest: Annotated[Path, typer.Option(help="Directory of ingest's tables.")],
    shards: Annotated[str, typer.Option(help='Number of shards of each dataset as JSON, e.g. {"abide": 4}.')],
    out: Annotated[Path, typer.Option(help="Cohort table to write (Parquet; TSV beside it).")],
    exclusions: Annotated[Path, typer.Option(help="Table of exclusions to write (TSV).")],
    status: Annotated[Path | None, typer.Option(help="Directory of the stages' status tables.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Stage whose status counts; once for each.")] = None,
    duplicates: Annotated[Path | None, typer.Option(help="Pairs of subjects with one recording (TSV).")] = None,
) -> None:
    """Merge the shards into one cohort table, with exclusions and their reasons."""
    from mcsp.bids.cohort import run

    counts = _parse(dict[str, int], shards)
    numbers = [(name, f"shard-{i:03d}") for name, n in counts.items() for i in range(n)]
    stems = [ingest / name / shard for name, shard in numbers]
    places = [status / name / own / shard for name, shard in numbers for own in stage or []] if status else []
    later = [path for place in places if (path := place.with_name(f"{place.name}.tsv")).is_file()]
    used = [path for place in places if (path := place.with_name(f"{place.name}.runs.tsv")).is_file()]
    run(
        subjects=[stem.with_name(f"{stem.name}.subjects.parquet") for stem in stems],
        recordings=[stem.with_name(f"{stem.name}.recordings.parquet") for stem in stems],
        status=[stem.with_name(f"{stem.name}.status.tsv") for stem in stems] + later,
        runs=used,
        duplicates=duplicates,
        out=out,
        exclusions=exclusions,
    )


@app.command()
def tasks(
    name: str,
    cohort: Cohort,
    task: TaskJson,
    out: Annotated[Path, typer.Option(help="Cases and controls to write (TSV).")],
) -> None:
    """Count cases and controls of a task; one with a single class stops here."""
    from mcsp.bids.tasks import run
    from mcsp.options.tasks import Task

    run(cohort=cohort, name=name, task=_parse(Task, task), out=out)


@app.command(rich_help_panel=PEOPLE)
def status(
    study: Annotated[Path, typer.Argument(help="Study file.")] = Path("config/studies/demo.yaml"),
    results: ResultsRoot = Path("results"),
) -> None:
    """What is done, what failed, and why: at any time, also after a crash."""
    from mcsp.status import run
    from mcsp.workflow import load_plan

    plan = load_plan(study, results)
    run(results=plan.root, datasets=list(plan.study.datasets), tasks=list(plan.study.tasks), study=study)


@app.command(rich_help_panel=PEOPLE)
def preprocess(
    study: Annotated[Path | None, typer.Argument(help="Study file, with --dry-run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run for each subject, and run nothing.")] = False,
    dataset: DatasetName = "",
    recordings: Annotated[Path | None, typer.Option(help="Recordings of one shard (Parquet).")] = None,
    route: Annotated[str, typer.Option(help="embedded or fmriprep.")] = "embedded",
    options: Annotated[str, typer.Option(help="The route's options as JSON.")] = "{}",
    bids_dir: Annotated[Path | None, typer.Option(help="Directory of the dataset.")] = None,
    derivatives: Annotated[Path | None, typer.Option(help="Directory of the dataset's derivatives.")] = None,
    out: Annotated[Path | None, typer.Option(help="Recordings table to write (Parquet).")] = None,
    status: Annotated[Path | None, typer.Option(help="Status table to write (TSV).")] = None,
    note: Annotated[str, typer.Option(help="Printed on every subject's page.")] = "",
    mem_mb: Annotated[int, typer.Option(min=1, help="Memory that a container may take, MB.")] = 16000,
    threads: Threads = 1,
) -> None:
    """From raw BOLD and T1w to derivatives in fMRIPrep's layout: one shard, or, with --dry-run, what a study would run."""
    from mcsp.options.embedded import EmbeddedOptions
    from mcsp.options.fmriprep import FmriprepOptions

    if dry_run:
        from mcsp.preprocess.dry_run import show
        from mcsp.workflow import load_plan

        if study is None:
            raise McspError(
                "preprocess --dry-run: give a study file, e.g. `mcsp preprocess config/studies/mine.yaml --dry-run`"
            )
        plan = load_plan(study, Path("results"))
        datasets = {
            n: (d, plan.dataset_path(n), plan.derivatives(n)) for n, d in plan.study.datasets.items() if d.kind != "roi"
        }
        print(show(plan.study.preprocess, plan.study.fmriprep, datasets), end="")
        return
    given = {
        "--recordings": recordings, "--bids-dir": bids_dir, "--derivatives": derivatives, "--out": out, "--status": status,
    }  # fmt: skip
    if missing := [name for name, value in given.items() if value is None]:
        raise McspError(f"preprocess: {', '.join(missing)} missing; for a look at a study: `mcsp preprocess STUDY --dry-run`")
    from mcsp.preprocess.stage import run

    run(
        dataset=dataset,
        recordings=recordings,
        options=_parse(FmriprepOptions if route == "fmriprep" else EmbeddedOptions, options),
        bids_dir=bids_dir,
        derivatives=derivatives,
        out=out,
        status=status,
        note=note or None,
        mem_mb=mem_mb,
        threads=threads,
    )


@app.command()
def fmri(
    dataset: DatasetName,
    recordings: Recordings,
    atlas: Atlas,
    options: Json,
    store: StoreOut,
    status: StatusOut,
    runs: Annotated[Path, typer.Option(help="Table of the runs used to write (TSV).")],
    threads: Threads = 1,
) -> None:
    """From preprocessed BOLD or ready ROI series to the temporal store."""
    from mcsp.fmri.stage import run
    from mcsp.options.fmri import FmriOptions

    run(
        dataset=dataset,
        recordings=recordings,
        atlas=atlas,
        options=_parse(FmriOptions, options),
        store=store,
        status=status,
        runs=runs,
        threads=threads,
    )


@app.command()
def eeg(
    dataset: DatasetName,
    recordings: Recordings,
    options: Json,
    store: StoreOut,
    status: StatusOut,
    runs: Annotated[Path, typer.Option(help="Table of the recordings used to write (TSV).")],
    threads: Threads = 1,
) -> None:
    """From raw EEG to the temporal store of segments."""
    from mcsp.eeg.stage import run
    from mcsp.options.eeg import EegOptions

    run(
        dataset=dataset,
        recordings=recordings,
        options=_parse(EegOptions, options),
        store=store,
        status=status,
        runs=runs,
        threads=threads,
    )


@app.command()
def connectivity(
    dataset: DatasetName,
    modality: Modality,
    temporal: Temporal,
    options: Json,
    store: StoreOut,
    status: StatusOut,
    threads: Threads = 1,
) -> None:
    """From a temporal store to the spatial store: correlations."""
    from mcsp.domains.connectivity import run
    from mcsp.options.domains import ConnectivityOptions

    run(
        dataset=dataset,
        modality=modality,
        temporal=temporal,
        options=_parse(ConnectivityOptions, options),
        store=store,
        status=status,
        threads=threads,
    )


@app.command()
def spectra(
    dataset: DatasetName,
    modality: Modality,
    temporal: Temporal,
    options: Json,
    store: StoreOut,
    status: StatusOut,
    threads: Threads = 1,
) -> None:
    """From a temporal store to the spectral store: amplitudes."""
    from mcsp.domains.spectra import run
    from mcsp.options.domains import SpectraOptions

    run(
        dataset=dataset,
        modality=modality,
        temporal=temporal,
        options=_parse(SpectraOptions, options),
        store=store,
        status=status,
        threads=threads,
    )


@app.command()
def splits(
    cohort: Cohort,
    options: Json,
    out: Annotated[Path, typer.Option(help="Folds to write (TSV).")],
    exclusions: Annotated[Path | None, typer.Option(help="Exclusions (TSV): whom a file of folds may name too.")] = None,
) -> None:
    """Freeze the folds."""
    from mcsp.evaluation.splits import run
    from mcsp.options.training import SplitOptions

    run(cohort=cohort, options=_parse(SplitOptions, options), out=out, exclusions=exclusions)


@app.command()
def pretrain(
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    fold: Annotated[int, typer.Option(min=0)],
    options: Json,
    out: Annotated[Path, typer.Option(help="Directory of the model to write.")],
    history: Annotated[Path, typer.Option(help="Table of the losses to write (TSV).")],
    about: Annotated[str, typer.Option(help="Atlas, datasets and licences as JSON: kept in the configuration.")] = "{}",
    threads: Threads = 1,
) -> None:
    """Pre-train one fold's encoders without labels."""
    from mcsp.options.training import PretrainOptions
    from mcsp.training.pretrain import run

    run(
        stores=stores,
        cohort=cohort,
        splits=splits,
        fold=fold,
        options=_parse(PretrainOptions, options),
        about=json.loads(about),
        out=out,
        history=history,
        threads=threads,
    )


@app.command("embed-folds")
def embed_folds(
    models: Annotated[list[Path], typer.Argument(help="Directories of the pre-trained models, one per fold.")],
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    out: Annotated[Path, typer.Option(help="Ranks to write: who is found across modalities (Parquet).")],
    ranks_only: Annotated[
        bool, typer.Option("--ranks-only", help="Write these alone, not embeddings.parquet and retrieval.tsv beside them.")
    ] = False,
    threads: Threads = 1,
) -> None:
    """Embed each fold's test subjects, before and after pre-training (with --ranks-only: after it)."""
    from mcsp.training.embed import run

    run(stores=stores, cohort=cohort, splits=splits, models=models, out=out, ranks_only=ranks_only, threads=threads)


@app.command()
def finetune(
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    fold: Annotated[int, typer.Option(min=0)],
    seed: Annotated[int, typer.Option(min=0)],
    task: TaskJson,
    pretrained: Annotated[Path, typer.Option(help="Directory of the pre-trained model.")],
    options: Json,
    out: Annotated[Path, typer.Option(help="Directory of the classifier to write.")],
    history: Annotated[Path, typer.Option(help="Table of the losses to write (TSV).")],
    threads: Threads = 1,
) -> None:
    """Fine-tune one fold's encoders for a task; validation subjects choose the epoch."""
    from mcsp.options.tasks import Task
    from mcsp.options.training import FinetuneOptions
    from mcsp.training.finetune import run

    run(
        stores=stores,
        cohort=cohort,
        splits=splits,
        fold=fold,
        seed=seed,
        task=_parse(Task, task),
        pretrained=pretrained,
        options=_parse(FinetuneOptions, options),
        out=out,
        history=history,
        threads=threads,
    )


@app.command()
def rival(
    name: Annotated[str, typer.Argument(help="The rival, as evaluate.rivals names it; linear_combat: after ComBat.")],
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    modality: Annotated[list[str], typer.Option(help="A modality that the study's models see; may be given again.")],
    out: Annotated[Path, typer.Option(help="Predictions to write (Parquet).")],
    seed: Annotated[int, typer.Option(help="Of forests and networks.")] = 0,
) -> None:
    """Probabilities of the test subjects by one rival, fitted on the same folds."""
    from mcsp.evaluation.rivals.stage import run
    from mcsp.options.tasks import Task

    run(
        rival=name,
        stores=stores,
        cohort=cohort,
        splits=splits,
        task=_parse(Task, task),
        modalities=modality,
        seed=seed,
        out=out,
    )


@app.command()
def evaluate(
    name: str,
    models: Classifiers,
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    options: Json,
    rival: Annotated[list[Path], typer.Option(help="Predictions of a rival; may be given again.")],
    predictions: Annotated[Path, typer.Option(help="Predictions to write (Parquet).")],
    metrics: Annotated[Path, typer.Option(help="Metrics to write (TSV).")],
    comparisons: Annotated[Path, typer.Option(help="Paired comparisons to write (TSV).")],
    harmonisation: Annotated[Path, typer.Option(help="Sites that ComBat knew, per fold, to write (TSV).")],
    validation: Annotated[Path, typer.Option(help="Probabilities of validation subjects to write (Parquet).")],
    dropout: Annotated[Path, typer.Option(help="Test subjects in passes with dropout to write (Parquet).")],
    threads: Threads = 1,
) -> None:
    """Ask frozen classifiers and rivals of the test subjects, on the same folds."""
    from mcsp.evaluation.stage import run
    from mcsp.options.results import EvaluateOptions
    from mcsp.options.tasks import Task

    run(
        stores=stores,
        cohort=cohort,
        splits=splits,
        task_name=name,
        task=_parse(Task, task),
        models=models,
        rivals=rival,
        options=_parse(EvaluateOptions, options),
        predictions=predictions,
        metrics=metrics,
        comparisons=comparisons,
        harmonisation=harmonisation,
        validation=validation,
        dropout=dropout,
        threads=threads,
    )


@app.command()
def statistics(
    name: str,
    predictions: Annotated[Path, typer.Option(help="Predictions (Parquet).")],
    validation: Annotated[Path, typer.Option(help="Probabilities of validation subjects (Parquet).")],
    dropout: Annotated[Path, typer.Option(help="Test subjects in passes with dropout (Parquet).")],
    cohort: Cohort,
    options: Json,
    out: Annotated[Path, typer.Option(help="Directory of the tables to write (TSV).")],
) -> None:
    """Calibration, uncertainty, subgroups and all pairs of methods of a task, from its predictions."""
    from mcsp.evaluation.statistics import run
    from mcsp.options.results import EvaluateOptions

    run(
        predictions=predictions,
        validation=validation,
        dropout=dropout,
        cohort=cohort,
        task_name=name,
        options=_parse(EvaluateOptions, options),
        out=out,
    )


@app.command()
def evaluate_other(
    name: str,
    models: Annotated[list[Path], typer.Argument(help="Directories of the models, over folds and seeds.")],
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    options: Json,
    predictions: Annotated[Path, typer.Option(help="Predictions to write (Parquet).")],
    metrics: Annotated[Path, typer.Option(help="Metrics to write (TSV).")],
    comparisons: Annotated[Path, typer.Option(help="Paired comparisons to write (TSV).")],
    confusion: Annotated[Path, typer.Option(help="Truth against answers to write (TSV).")],
    threads: Threads = 1,
) -> None:
    """Ask frozen models and simple rivals of the test subjects, for a task with several classes or a number."""
    from mcsp.evaluation.other_tasks import run
    from mcsp.options.results import EvaluateOptions
    from mcsp.options.tasks import Task

    run(
        stores=stores,
        cohort=cohort,
        splits=splits,
        task_name=name,
        task=_parse(Task, task),
        models=models,
        options=_parse(EvaluateOptions, options),
        predictions=predictions,
        metrics=metrics,
        comparisons=comparisons,
        confusion=confusion,
        threads=threads,
    )


@app.command()
def copy(
    source: Annotated[Path, typer.Argument(help="Store that is there.")],
    out: Annotated[Path, typer.Argument(help="Where the copy goes.")],
) -> None:
    """Copy a store, so that a variant's stores lie in one directory."""
    from mcsp.store import copy_file

    copy_file(source, out)


@app.command()
def variant_predictions(
    models: Classifiers,
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    out: Annotated[Path, typer.Option(help="Predictions to write (Parquet).")],
    threads: Threads = 1,
) -> None:
    """Probabilities of the test subjects by one variant's classifiers."""
    from mcsp.evaluation.variant import run
    from mcsp.options.tasks import Task

    run(stores=stores, cohort=cohort, splits=splits, task=_parse(Task, task), models=models, out=out, threads=threads)


@app.command()
def sweep_table(
    tasks: Annotated[list[str], typer.Argument(help="Tasks of the study.")],
    results: Annotated[Path, typer.Option(help="Directory of the study's results.")],
    variants: Annotated[str, typer.Option(help="Variants as JSON: name -> [kind, value].")],
    searched: Annotated[str, typer.Option(help="Names of the variants with both modalities, as JSON.")],
    options: Json,
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
    fusion: Annotated[Path, typer.Option(help="Table of single modalities against both to write (TSV).")],
    retrieval: Annotated[Path, typer.Option(help="Table of who is found across modalities to write (TSV).")],
) -> None:
    """Variants of a study beside the whole model; in tables of their own single modalities against both, and retrieval."""
    from mcsp.evaluation.sweep import run
    from mcsp.options.results import EvaluateOptions

    named = _parse(dict[str, tuple[str, str]], variants)
    given, pairs = _parse(EvaluateOptions, options), _parse(list[str], searched)
    outputs = {"out": out, "fusion": fusion, "retrieval": retrieval}
    run(results=results, tasks=tasks, variants=named, searched=pairs, options=given, **outputs)


@app.command()
def control_labels(
    control: Annotated[str, typer.Argument(help="permuted-<draw> or random-<draw>.")],
    name: Annotated[str, typer.Argument(help="Name of the task.")],
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    options: Json,
    out: Annotated[Path, typer.Option(help="Directory of the cohort tables to write (Parquet), one per fold.")],
) -> None:
    """Cohort tables whose labels say nothing: shuffled among training subjects, or drawn at random."""
    from mcsp.evaluation.control_labels import run
    from mcsp.options.controls import ControlOptions
    from mcsp.options.tasks import Task

    seed = _parse(ControlOptions, options).seed
    run(control=control, cohort=cohort, splits=splits, task_name=name, task=_parse(Task, task), seed=seed, out=out)


@app.command()
def control_predictions(
    models: Annotated[list[Path], typer.Argument(help="Directories of the control's classifiers, one per fold.")],
    stores: Stores,
    cohort: Cohort,
    labels: Annotated[Path, typer.Option(help="Directory of the control's cohort tables.")],
    splits: Splits,
    task: TaskJson,
    options: Json,
    out: Annotated[Path, typer.Option(help="Predictions to write (Parquet).")],
    threads: Threads = 1,
) -> None:
    """Test subjects by classifiers and rivals that learnt a control's labels."""
    from mcsp.evaluation.control import run
    from mcsp.options.results import EvaluateOptions
    from mcsp.options.tasks import Task

    run(
        stores=stores,
        cohort=cohort,
        labels=labels,
        splits=splits,
        task=_parse(Task, task),
        models=models,
        options=_parse(EvaluateOptions, options),
        out=out,
        threads=threads,
    )


@app.command()
def controls_table(
    predictions: Annotated[list[Path], typer.Argument(help="Predictions of the controls: <control>/<task>/<file>.")],
    options: Json,
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
) -> None:
    """Whether methods that learnt labels which say nothing land at chance, in one table."""
    from mcsp.evaluation.controls import run
    from mcsp.options.results import EvaluateOptions

    run(predictions=predictions, options=_parse(EvaluateOptions, options), out=out)


@app.command()
def summary(
    metrics: Annotated[list[Path], typer.Argument(help="Metrics of the tasks (TSV), comparisons.tsv beside each.")],
    out: Annotated[Path, typer.Option(help="Table of all tasks to write (TSV).")],
) -> None:
    """One table of all tasks' metrics."""
    from mcsp.evaluation.summary import run

    run(metrics=metrics, comparisons=[path.with_name("comparisons.tsv") for path in metrics], out=out)


@app.command(
    "predict",
    rich_help_panel=PEOPLE,
    help="Apply trained classifiers to a BIDS dataset: raw recordings to probabilities, with warnings where these data lie "
    "outside what the models saw. No labels are needed. Writes a study file that takes its options over from the model, runs "
    "the workflow's stages, and goes on where it stopped when given again.",
)
@app.command(
    "embed",
    rich_help_panel=PEOPLE,
    help="The same as `predict` without an answer: embeddings of a BIDS dataset's subjects by trained encoders.",
)
def predict_or_embed(
    context: typer.Context,
    bids_dir: Annotated[Path, typer.Argument(help="BIDS dataset: the directory that holds the sub-* directories.")],
    model: Annotated[
        Path,
        typer.Option(help="A task's classifiers (results/demo/finetune/asd); to embed also encoders (results/demo/pretrain)."),
    ],
    further: Annotated[list[str] | None, typer.Argument(help="Arguments for Snakemake, after --: -- --profile slurm.")] = None,
    out: Annotated[Path | None, typer.Option(help="Study file to write; default: config/studies/<data>-<model>.yaml.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Cores to use.")] = 2,
) -> None:
    from mcsp.predict.bids import run, summary

    answers = context.info_name == "predict"
    folder = run(bids_dir=bids_dir, model=model, out=out, cores=cores, further=further or [], answers=answers)
    print(summary(folder, answers=answers))


@app.command()
def apply(
    models: Annotated[list[Path], typer.Argument(help="Directories of trained models of one kind, e.g. a task's classifiers.")],
    stores: Stores,
    cohort: Cohort,
    out: Annotated[Path, typer.Option(help="Predictions to write (TSV; JSON and Parquet beside it).")],
    embeddings: Annotated[Path, typer.Option(help="Embeddings to write (Parquet).")],
    threads: Threads = 1,
) -> None:
    """Apply trained models to the stores of new subjects; `predict` runs all stages up to here."""
    from mcsp.predict.stage import run

    run(stores=stores, cohort=cohort, models=models, out=out, embeddings=embeddings, threads=threads)


@app.command()
def card(
    models: Annotated[
        list[Path], typer.Argument(help="Directories of the models: the pre-trained folds, or a task's classifiers.")
    ],
    cohort: Cohort,
    splits: Splits,
    about: Annotated[str, typer.Option(help="Atlas, datasets and licences as JSON.")],
    out: Annotated[Path, typer.Option(help="Model card to write (Markdown).")],
    task: Annotated[str | None, typer.Option(help="Name of the classifiers' task.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="Metrics of the task (TSV).")] = None,
    comparisons: Annotated[Path | None, typer.Option(help="Paired comparisons of the task (TSV).")] = None,
) -> None:
    """Write a model card: data, folds, losses, metrics, limits, how to load."""
    from mcsp.report.card import run

    run(
        models=models,
        cohort=cohort,
        splits=splits,
        about=json.loads(about),
        task=task,
        metrics=metrics,
        comparisons=comparisons,
        out=out,
    )


@app.command()
def explain(
    name: str,
    models: Classifiers,
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    options: Json,
    attributions: Annotated[Path, typer.Option(help="Attributions per subject to write (Parquet).")],
    maps: Annotated[Path, typer.Option(help="Group maps to write (TSV).")],
    verdicts: Annotated[Path, typer.Option(help="Verdicts on the methods to write (TSV).")],
    truth: Annotated[list[Path] | None, typer.Option(help="Planted truth of a simulated dataset (JSON).")] = None,
    threads: Threads = 1,
) -> None:
    """Attributions of the frozen classifiers, and whether they can be believed."""
    from mcsp.explain.stage import run
    from mcsp.options.results import ExplainOptions
    from mcsp.options.tasks import Task

    run(
        stores=stores,
        cohort=cohort,
        splits=splits,
        task_name=name,
        task=_parse(Task, task),
        models=models,
        truth=truth or [],
        options=_parse(ExplainOptions, options),
        attributions=attributions,
        maps=maps,
        verdicts=verdicts,
        threads=threads,
    )


@app.command()
def biomarkers(
    name: str,
    models: Classifiers,
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    options: Json,
    maps: Annotated[Path, typer.Option(help="Group maps (TSV).")],
    verdicts: Annotated[Path, typer.Option(help="Verdicts on the methods by the study's own truth (TSV).")],
    out: Annotated[Path, typer.Option(help="Directory of the tables to write.")],
    threads: Threads = 1,
) -> None:
    """What trusted maps name, with effect sizes of the raw features, and whether EEG and fMRI agree."""
    from mcsp.explain.biomarkers import run
    from mcsp.options.results import ExplainOptions
    from mcsp.options.tasks import Task

    run(
        stores=stores,
        cohort=cohort,
        splits=splits,
        task_name=name,
        task=_parse(Task, task),
        models=models,
        maps=maps,
        verdicts=verdicts,
        options=_parse(ExplainOptions, options),
        out=out,
        threads=threads,
    )


@app.command()
def shapley(
    rivals: Annotated[list[str], typer.Argument(help="linear, random_forest")],
    stores: Stores,
    cohort: Cohort,
    splits: Splits,
    task: TaskJson,
    options: Json,
    maps: Annotated[Path, typer.Option(help="Group maps of the model (TSV).")],
    values: Annotated[Path, typer.Option(help="Shapley values to write (TSV).")],
    agreement: Annotated[Path, typer.Option(help="Agreement with the maps to write (TSV).")],
) -> None:
    """Shapley values of the tabular rivals, beside the model's saliency."""
    from mcsp.explain.shapley import run
    from mcsp.options.results import ExplainOptions
    from mcsp.options.tasks import Task

    run(
        rivals=rivals,
        stores=stores,
        cohort=cohort,
        splits=splits,
        task=_parse(Task, task),
        maps=maps,
        options=_parse(ExplainOptions, options),
        values=values,
        agreement=agreement,
    )


@validate_app.command("run")
def validate_run(
    snr: Annotated[float, typer.Option(help="Factor on the size of every planted effect.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the cohort and of training.")],
    atlas: Atlas,
    stages: Annotated[str, typer.Option(help="Options of the stages that are run, as JSON.")],
    scores: Annotated[Path, typer.Option(help="Scores of every map to write (Parquet).")],
    answers: Annotated[Path, typer.Option(help="What the classifiers say to write (Parquet).")],
    options: Json = "{}",
) -> None:
    """One simulated cohort: classifiers for every planted effect and decoy, all methods on all of them."""
    from mcsp.options.validation import ValidationOptions
    from mcsp.validation.run import StageOptions, run

    run(
        snr=snr,
        seed=seed,
        atlas=atlas,
        options=_parse(StageOptions, stages),
        validation=_parse(ValidationOptions, options),
        scores=scores,
        answers=answers,
    )


@validate_app.command("verdicts")
def validate_verdicts(
    scores: Annotated[list[Path], typer.Option(help="Scores of the runs (Parquet).")],
    answers: Annotated[list[Path], typer.Option(help="What the runs' classifiers say (Parquet).")],
    out: Annotated[Path, typer.Option(help="Directory of the tables to write.")],
    options: Json = "{}",
) -> None:
    """Verdicts on the methods from all runs, with the reason of each fail."""
    from mcsp.options.validation import ValidationOptions
    from mcsp.validation.verdicts import run

    run(scores=scores, answers=answers, options=_parse(ValidationOptions, options), out=out)


@validate_app.command("network")
def validate_network(
    study: Annotated[Path, typer.Argument(help="Study whose fMRI stores are there, e.g. config/studies/abide-roi.yaml.")],
    network: Annotated[str, typer.Option(help="Network of the atlas whose mean FC makes the labels.")],
    out: Annotated[Path, typer.Option(help="Directory of the tables to write.")],
    results: ResultsRoot = Path("results"),
    subjects: Annotated[int, typer.Option(min=24, help="Subjects at most; which ones is always the same draw.")] = 200,
) -> None:
    """Real recordings with labels from a known feature: do maps find the network whose mean FC was split at its median?"""
    from mcsp.validation.real import run_network
    from mcsp.validation.run import StageOptions
    from mcsp.workflow import load_plan

    plan = load_plan(study, results)
    run_network(
        stores=plan.root / "store",
        cohort=plan.root / "cohort" / "subjects.parquet",
        network=network,
        options=_parse(StageOptions, plan.validation_stages()),
        validation=plan.study.validation,
        n_subjects=subjects,
        out=out,
    )


@validate_app.command("eyes")
def validate_eyes(
    opened: Annotated[Path, typer.Argument(help="Recording of one person with eyes open.")],
    closed: Annotated[Path, typer.Argument(help="Recording of the same person with eyes closed.")],
    out: Annotated[Path, typer.Option(help="Directory of the tables to write.")],
) -> None:
    """Real EEG of one person: do maps of a segment classifier, made for this check only, find occipital alpha?"""
    from mcsp.validation.real import run_eyes

    run_eyes(opened=opened, closed=closed, out=out)


@validate_app.command("alpha")
def validate_alpha(
    recordings: Annotated[list[Path], typer.Argument(help="Recordings of one person, each split at its own median.")],
    out: Annotated[Path, typer.Option(help="Directory of the tables to write.")],
) -> None:
    """Real EEG of one person, segments with strong or weak occipital alpha: do maps of a classifier of these find it?"""
    from mcsp.validation.real import run_alpha

    run_alpha(recordings=recordings, out=out)


def _figure_options(text: str) -> Any:
    from mcsp.options.results import FigureOptions

    return _parse(FigureOptions, text)


@app.command(rich_help_panel=PEOPLE)
def figure(
    names: Annotated[list[str], typer.Argument(help="Figures: performance, curves (of all tasks), curves-asd, ...")],
    study: Annotated[Path | None, typer.Option(help="Study file: the figures are drawn from its results.")] = None,
    results: ResultsRoot = Path("results"),
    file: Annotated[list[str], typer.Option(help="Without --study: KEY=PATH of a file to draw from.")] = [],  # noqa: B006
    task: Annotated[list[str], typer.Option(help="Without --study: the task, for figures of one.")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Directory to write to; without, figures/tuned of the results.")] = None,
    style: Annotated[Path | None, typer.Option(help="YAML file with the study file's options of `figures`.")] = None,
    title: Annotated[str | None, typer.Option(help="Title above the figure.")] = None,
    width_mm: Annotated[float | None, typer.Option(help="Width in mm.")] = None,
    dpi: Annotated[int | None, typer.Option(help="Dots per inch of the bitmap.")] = None,
    options: Json = "{}",
) -> None:
    """Draw figures again from existing results, in seconds: labels, colours and sizes can be tuned, nothing is rerun."""
    from mcsp.figures.draw import draw, parse_files, parse_names
    from mcsp.options.results import FigureOptions
    from mcsp.study import parse_options, read_yaml
    from mcsp.workflow import load_plan

    plan = load_plan(study, results) if study else None
    styled = read_yaml(style) if style else {}
    if style:
        parse_options(FigureOptions, styled, str(style))
    place = out or (plan.root / "figures" / "tuned" if plan else Path())
    values = {**json.loads(plan.figure_options() if plan else options), **styled}
    sizes = {"width_mm": width_mm, "column_mm": width_mm, "dpi": dpi}
    values |= {key: value for key, value in sizes.items() if value}
    for kind, of_task in parse_names(names, list(plan.study.tasks) if plan else task):
        stem = place / (f"{kind}-{of_task}" if of_task else kind)
        titles = {**values.get("titles", {}), **({stem.name: title} if title else {})}
        own = _figure_options(json.dumps({**values, "titles": titles}))
        files = plan.figure_files(kind, task=of_task or "") if plan else parse_files(file)
        draw(kind, files, task=of_task, out=stem, options=own)
        if plan:
            print(f"{stem}.svg, .pdf, .png")


@app.command()
def tables(
    tasks: Annotated[list[str], typer.Argument(help="Tasks of the study.")],
    results: Annotated[Path, typer.Option(help="Directory of the study's results.")],
    out: Annotated[Path, typer.Option(help="Directory of the tables to write (TSV, LaTeX).")],
    options: Json = "{}",
    sweep: Annotated[Path | None, typer.Option(help="Table of variants (TSV), once they ran; fusion.tsv beside it.")] = None,
) -> None:
    """Tables for a paper: performance, comparisons, cohort, subgroups, calibration; of a sweep also ablations and fusion."""
    from mcsp.report.tables import run

    run(results=results, tasks=tasks, note=_figure_options(options).note, out=out, sweep=sweep)


@app.command()
def page(
    figures: Annotated[list[Path], typer.Argument(help="Paths of the figures without suffix, in the page's order.")],
    study: Annotated[str, typer.Option(help="The whole study as JSON.")],
    results: Annotated[Path, typer.Option(help="Directory of the study's results.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
) -> None:
    """The report, in one self-contained HTML file, from what is there."""
    from mcsp.report.page import run

    run(study=json.loads(study), results=results, figures=figures, out=out)


@app.command()
def report(
    snakefile: Annotated[Path, typer.Option(help="The workflow's Snakefile.")],
    study: Annotated[str, typer.Option(help="The whole study as JSON.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
) -> None:
    """Snakemake's own report, in one HTML file: rules, code and run times behind each figure and table."""
    from mcsp.report.snakemake import run

    values = json.loads(study)
    run(snakefile=snakefile, source=values.pop("source"), study=values, out=out)


@app.command(rich_help_panel=PEOPLE)
def show(
    study: Annotated[Path, typer.Argument(help="Study file.")] = Path("config/studies/demo.yaml"),
    results: ResultsRoot = Path("results"),
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Write a report of what is there, after a failure too: report/unfinished.html.")
    ] = False,
) -> None:
    """Print the metrics of a finished study and where its report is."""
    from mcsp.evaluation.summary import show as show_summary
    from mcsp.workflow import load_plan

    plan = load_plan(study, results)
    if unfinished:
        from mcsp.report.page import run
        from mcsp.status import mending

        out = plan.root / "report" / "unfinished.html"
        run(study=json.loads(plan.page_options(str(study))), results=plan.root, figures=plan.report_figures(), out=out)
        print(mending(study))
        return
    table = plan.root / "evaluate" / "summary.tsv"
    if not table.is_file():
        raise McspError(
            f"{table}: not there: run `snakemake --cores 2 --configfile {study}` first, or `mcsp show --unfinished {study}`"
        )
    show_summary(table)
    print(plan.root / "report.html")


@app.command(rich_help_panel=PEOPLE)
def schema(
    defaults: Annotated[bool, typer.Option("--defaults", help="Print the defaults (config/config.yaml) instead.")] = False,
) -> None:
    """Print the JSON Schema of the study file, for editors."""
    from mcsp.study import default_config, json_schema

    print(default_config() if defaults else json.dumps(json_schema(), indent=2), end="\n" if not defaults else "")


@bench_app.command("stages")
def bench_stages(
    study: Annotated[Path, typer.Argument(help="Study file of a finished run.")] = Path("config/studies/demo.yaml"),
    results: ResultsRoot = Path("results"),
) -> None:
    """Wall time, CPU time and peak memory of every stage of a finished run."""
    from mcsp.bench import print_stage_costs
    from mcsp.workflow import load_plan

    print_stage_costs(benchmarks=load_plan(study, results).root / "benchmarks")


@bench_app.command("scale")
def bench_scale(
    study: Annotated[Path, typer.Argument(help="Study file; its datasets are made up.")] = Path("config/studies/scale.yaml"),
    subjects: Annotated[int, typer.Option(min=6, help="Made-up subjects, spread over the study's datasets.")] = 10_000,
    snakefile: Annotated[Path, typer.Option(help="The workflow's Snakefile.")] = Path("Snakefile"),
    rival: Annotated[bool, typer.Option("--rival/--no-rival", help="Beside one job for each step of each subject.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What Snakemake takes to plan a large study, to find nothing to do, and to add one subject."""
    from mcsp.bench_scale import measure, show

    costs = measure(study=study, snakefile=snakefile.resolve(), n_subjects=subjects, rival=rival)
    print(json.dumps(costs)) if as_json else show(costs)


@bench_app.command("cohort")
def bench_cohort(
    subjects: Annotated[list[int] | None, typer.Option(min=240, help="Made-up people; give it several times.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Memory and time of the jobs that see a whole cohort's tables, as it grows: 500, 2,000 and 8,000 people."""
    from mcsp.bench_cohort import measure, show

    costs = measure(sizes=subjects or [500, 2000, 8000])
    print(costs.to_json(orient="records", lines=True), end="") if as_json else show(costs)


@bench_app.command("cost")
def bench_cost(
    small: Annotated[bool, typer.Option("--small", help="Small recordings, for a quick look.")] = False,
    training: Annotated[bool, typer.Option("--training/--no-training", help="Pre-training too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What a subject costs in each stage (simulated recordings of real size), and what whole cohorts would."""
    from mcsp.bench_cost import measure, show

    costs = measure(small=small, training=training)
    print(json.dumps(costs)) if as_json else show(costs)


@bench_app.command("parcellate")
def bench_parcellate(
    shape: Annotated[tuple[int, int, int, int], typer.Option(help="Voxels along x, y, z, and volumes.")] = (99, 117, 95, 200),
    small: Annotated[bool, typer.Option("--small", help="A small run, for a quick look: 33 x 39 x 32 x 40.")] = False,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the best time of each side counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Parcel means of a simulated run, cleaned, beside nilearn's masker and beside decompression alone."""
    from mcsp.bench_parcellate import SMALL, measure, show

    costs = measure(SMALL if small else shape, repeat)
    print(json.dumps(costs)) if as_json else show(costs)


@bench_app.command("pretrain")
def bench_pretrain(
    subjects: Annotated[int | None, typer.Option(min=8, help="Made-up subjects, half with both modalities.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=4)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Timed steps at least; whole epochs are timed.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="32 or bf16.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile our encoders.")] = False,
    data: Annotated[str, typer.Option(help="Where our batches are gathered: auto, device or stream.")] = "auto",
    fmri: Annotated[tuple[int, int], typer.Option(help="Regions and frames.")] = (100, 120),
    eeg: Annotated[tuple[int, int, int], typer.Option(help="Segments, channels and samples.")] = (125, 62, 200),
    repeat: Annotated[int, typer.Option(min=1, help="Rounds; the best time of each side counts.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pre-training of a made-up corpus beside the plain way of writing it, and beside what the machine allows.

    Without sizes: 32 subjects on the CPU; on a GPU 3,000, in bf16.
    """
    from mcsp.bench_pretrain import Bench, measure, show
    from mcsp.model.batch import best_device

    device = best_device().type if device == "auto" else device
    small = device == "cpu"
    costs = measure(
        Bench(
            n_subjects=subjects or (32 if small else 3000),
            batch_size=batch_size or (8 if small else 256),
            steps=steps or (4 if small else 24),
            device=device,
            precision=precision or ("32" if small else "bf16"),
            compile=compiled,
            data=data,
            fmri=fmri,
            eeg=eeg,
        ),
        repeat,
    )
    print(json.dumps(costs)) if as_json else show(costs)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mcsp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an McspError, or a fault of the machine such as a full disk, ends it with its lines on standard
    error and exit status 1.
    """
    try:
        app()
    except Exception as error:
        told = str(error) if isinstance(error, McspError) else machine_fault(error)
        if told is None:
            raise
        print(*(f"error: {line}" for line in told.splitlines()), sep="\n", file=sys.stderr)
        sys.exit(1)
