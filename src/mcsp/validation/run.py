"""One run of the validation: a simulated cohort, a classifier for each planted effect and decoy, all methods on all of them.

What is run is the production code: domains, folds, pre-training, fine-tuning, attribution.
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mcsp.atlas import load_atlas
from mcsp.cohort import domain_meta, read_domain, task_labels
from mcsp.evaluation import splits as folds
from mcsp.evaluation.rivals.linear import OneScale, logistic_steps
from mcsp.explain.attribution import Reference
from mcsp.explain.models import MAIN_KIND, rank_correlation, training_reference
from mcsp.explain.truth import masks, planted
from mcsp.model.batch import Key
from mcsp.model.mcsp import Classifier
from mcsp.options import Options
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.options.results import ExplainOptions
from mcsp.options.training import FinetuneOptions, PretrainOptions, SplitOptions
from mcsp.options.validation import ValidationOptions
from mcsp.store import read_table, write_table
from mcsp.training import finetune, pretrain
from mcsp.training.data import Subjects
from mcsp.validation.decoys import SIDES, logits_without, place_of
from mcsp.validation.deletion import areas
from mcsp.validation.maps import LEVELS, Maps, cascade, logits_alone, maps_of, mean_map, score_rows
from mcsp.validation.planted import DECOY, PLANTED, TASKS, task_of
from mcsp.validation.stores import write_cohort

FOLD = 0
CASCADE_SUBJECTS = 12


class StageOptions(Options):
    """The options of the stages that a run goes through."""

    fmri: FmriOptions
    eeg: EegOptions
    connectivity: ConnectivityOptions
    spectra: SpectraOptions
    pretrain: PretrainOptions
    finetune: FinetuneOptions
    explain: ExplainOptions


class Run:
    """A simulated cohort with its folds, and what classifiers trained on it say."""

    def __init__(
        self, folder: Path, stores: Path, cohort: Path, seed: int, options: StageOptions, validation: ValidationOptions
    ):
        self.folder, self.stores, self.cohort, self.seed = folder, stores, cohort, seed
        self.options, self.validation = options, validation
        self.table = read_table(cohort)
        self.splits = folder / "splits.tsv"
        folds.run(cohort=cohort, options=SplitOptions(n_folds=3, seed=seed), out=self.splits)
        frozen = folds.load_splits(self.splits)
        self.train, self.test = folds.part(frozen, FOLD, "train"), folds.part(frozen, FOLD, "test")
        self.learners = self.train + folds.part(frozen, FOLD, "val")
        self._pretrain()
        self.keys = self.base_keys()
        self.subjects = Subjects(stores, self.table, self.test, self.keys)
        self.few = Subjects(stores, self.table, self.test[:CASCADE_SUBJECTS], self.keys)
        self.donors = Subjects(stores, self.table, self.train, self.keys)
        self.metas = {key: domain_meta(stores, self.table, *key) for key in self.keys}
        self.reference: Reference = training_reference(stores, self.table, self.train, self.keys)

    def _common(self) -> dict:
        return {"stores": self.stores, "splits": self.splits, "fold": FOLD, "threads": 1}

    def _pretrain(self) -> None:
        options = self.options.pretrain.model_copy(update={"epochs": self.validation.pretrain_epochs, "seed": self.seed})
        out = self.folder / "pretrained"
        pretrain.run(**self._common(), cohort=self.cohort, options=options, out=out, history=self.folder / "pretrain.tsv")

    def base_keys(self) -> list[Key]:
        """Modalities and domains of the study's model."""
        model = self.options.pretrain.model
        return [(m, d) for m in model.modalities for d in model.domains]

    def classifier(self, task: str, cohort: Path | None = None, name: str | None = None) -> Classifier:
        """A classifier for the label `task`, trained as the workflow does it; `cohort`: another cohort table."""
        out = self.folder / (name or task)
        finetune.run(
            **self._common(), cohort=cohort or self.cohort, seed=self.seed, task=task_of(task),
            pretrained=self.folder / "pretrained", options=self.options.finetune, out=out,
            history=out.with_suffix(".tsv"),
        )  # fmt: skip
        return Classifier.from_pretrained(out).requires_grad_(False)

    @cached_property
    def permuted(self) -> Path:
        """A cohort table in which the labels of those who are learnt from are shuffled; test subjects keep theirs."""
        table, learners = self.table.copy(), self.table["uid"].isin(self.learners).to_numpy()
        own = table.loc[learners, "labels"].to_numpy()
        table.loc[learners, "labels"] = np.random.default_rng([self.seed, 21]).permutation(own)
        path = self.folder / "permuted.parquet"
        table.to_parquet(path)
        return path

    def maps(self, model: Classifier, subjects: Subjects) -> Maps:
        """Maps by every method of the validation."""
        return maps_of(model, subjects, self.reference, self.metas, self.validation.methods, self.options.explain)

    def similarity_rows(self, task: str, model: Classifier, maps: Maps) -> tuple[list[dict], Maps]:
        """How like the map stays as weights are reset from the head downwards: rank correlation of mean maps. Beside it the
        maps of the last level, all weights reset.
        """
        rows, fresh = [], {}
        for level, words in enumerate(LEVELS):
            fresh = self.maps(cascade(model, level, self.seed), self.few)
            for (method, key), people in fresh.items():
                unit = MAIN_KIND[key[0]]
                before = {uid: maps[method, key][uid] for uid in people}
                value = rank_correlation(mean_map(before, unit), mean_map(people, unit))
                rows.append(_row(task, f"reset: {words}", method, key, unit, "similarity", value))
        return rows, fresh

    def deletion_rows(self, task: str, model: Classifier, maps: Maps, keys: list[Key]) -> list[dict]:
        """Area between the deletion curves of each method and of chance, in each domain that the effect reaches."""
        rows = []
        for key in keys:
            unit = MAIN_KIND[key[0]]
            own = {method: people for (method, k), people in maps.items() if k == key}
            for index, uid in enumerate(self.subjects.uids[: self.validation.deleted_subjects]):
                orders = {method: np.argsort(-people[uid][unit], kind="stable") for method, people in own.items()}
                found = areas(model, self.subjects, self.donors, index, key, orders, self.seed)
                rows += [
                    _row(task, "own", method, key, unit, "deletion area", value) | {"uid": uid}
                    for method, value in found.items()
                ]
        return rows


def _row(task: str, model: str, method: str, key: Key, unit: str, score: str, value: float) -> dict:
    place = {"task": task, "model": model, "truth": "planted", "method": method, "modality": key[0], "domain": key[1]}
    return {**place, "unit": unit, "score": score, "uid": None, "value": value, "chance": 0.0}


def truth_masks(truth: Path, name: str, metas: dict[Key, dict]) -> dict[Key, dict[str, np.ndarray]]:
    """(modality, domain) -> unit -> mask of what was planted under a name, where it reaches."""
    effects = planted([truth], [name])
    found = {key: masks(effects, *key, meta) for key, meta in metas.items()}
    return {key: own for key, own in found.items() if own}


def linear_features(key: Key, row: np.ndarray) -> np.ndarray:
    """What a linear model reads of one subject's input: edges, or logarithms of amplitudes (of EEG, those of their mean above
    0 Hz, where filtered recordings hold rounding noise).
    """
    if key[1] == "spatial":
        return row[..., *np.triu_indices(row.shape[-1], 1)].ravel()
    return np.log(row.mean(axis=0)[:, 1:] if key[0] == "eeg" else row + 1e-3).ravel()


def linear_place(key: Key, place: np.ndarray) -> np.ndarray:
    """Which of `linear_features` the entries `place` of an input are."""
    if key[1] == "spatial":
        return place[np.triu_indices(len(place), 1)]
    return (place[:, 1:] if key[0] == "eeg" else place).ravel()


def linear_logits(run: Run, y: pd.Series, key: Key, without: np.ndarray | None = None) -> np.ndarray:
    """Logits (N) of the test subjects by a ridge logistic regression on one domain, fitted on those who are learnt from: what
    there is to be learnt, whatever the model made of it. `without`: entries of the input (as `place_of`) that it is not shown.
    """

    def features(row: np.ndarray) -> np.ndarray:
        found = linear_features(key, row)
        return found if without is None else found[~linear_place(key, without)]

    rows = read_domain(run.stores, run.table, *key, reduce=lambda row: features(np.array(row)))
    steps = logistic_steps(OneScale).set_params(logisticregression__C=1e-2)
    fitted = steps.fit(np.stack([rows[uid] for uid in run.learners]), y.loc[run.learners])
    return fitted.decision_function(np.stack([rows[uid] for uid in run.subjects.uids]))


def answer_rows(run: Run, task: str, model: Classifier) -> pd.DataFrame:
    """Logits of test subjects from each domain alone, with their labels; by the classifier and by a linear model."""
    y = task_labels(run.table, task_of(task))
    parts = [logits_alone(model, run.subjects, run.reference).assign(source="model")]
    for key in run.keys if task != "noise" else ():
        if key[1] != "temporal":
            own = {"uid": run.subjects.uids, "modality": key[0], "domain": key[1], "logit": linear_logits(run, y, key)}
            parts.append(pd.DataFrame({**own, "source": "linear"}))
    answers = pd.concat(parts, ignore_index=True)
    return answers.assign(task=task, y=answers["uid"].map(y))


def decoy_answers(run: Run, task: str, model: Classifier, truth: Path) -> pd.DataFrame:
    """Logits of test subjects from each domain alone in which a decoy and a true effect lie, without the one or the other;
    series are left out, as their mean would be silence.
    """
    y, parts = task_labels(run.table, task_of(task)), []
    found = {"decoy": truth_masks(truth, task + DECOY, run.metas), "truth": truth_masks(truth, task, run.metas)}
    for key in [key for key in found["decoy"] if key[1] != "temporal"]:
        places = {side: place_of(key, found[side][key], run.metas[key]) for side in SIDES}
        own = {"modality": key[0], "domain": key[1]}
        for side, place in places.items():
            without = logits_without(model, run.subjects, run.reference, key, place)
            parts.append(without.assign(source=f"model, no {side}", **own))
        logits = linear_logits(run, y, key, places["decoy"])
        parts.append(pd.DataFrame({"uid": run.subjects.uids, "logit": logits, "source": "linear, no decoy", **own}))
    answers = pd.concat(parts, ignore_index=True)
    return answers.assign(task=task, y=answers["uid"].map(y))


def planted_rows(run: Run, task: str, model: Classifier, maps: Maps, truth: dict[Key, dict]) -> list[dict]:
    """All checks of a planted effect but the wrong targets."""
    rows = [row for key, own in truth.items() for row in score_rows(maps, key, own, task=task, model="own", truth="planted")]
    similar, reset = run.similarity_rows(task, model, maps)
    rows += similar
    controls = {"reset": reset}
    if run.validation.permuted:
        shuffled = run.classifier(task, run.permuted, f"permuted-{task}")
        controls["permuted"] = run.maps(shuffled, run.few)
    for name, found in controls.items():
        for key, own in truth.items():
            rows += score_rows(found, key, own, task=task, model=name, truth="planted")
    return rows + run.deletion_rows(task, model, maps, list(truth))


def measure(run: Run, truth: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, answers) of one run: long tables, a row per subject."""
    targets = {task: truth_masks(truth, task, run.metas) for task in TASKS if task != "noise"}
    rows: list[dict] = []
    answers = []
    found: dict[str, Maps] = {}
    for task in TASKS:
        model = run.classifier(task)
        answers.append(answer_rows(run, task, model))
        found[task] = run.maps(model, run.subjects)
        if task in PLANTED:
            rows += planted_rows(run, task, model, found[task], targets[task])
            continue
        answers += [decoy_answers(run, task, model, truth)] if task != "noise" else []
        for name, kind in ((task, "planted"), (task + DECOY, "decoy")):
            for key, own in truth_masks(truth, name, run.metas).items() if task != "noise" else ():
                rows += score_rows(found[task], key, own, task=task, model="own", truth=kind)
    for task in PLANTED:  # maps that were asked for something else must not find it
        for other in (*PLANTED, "noise"):
            for key, own in targets[task].items() if other != task else ():
                rows += score_rows(found[other], key, own, task=task, model=f"wrong: {other}", truth="planted")
    return pd.DataFrame(rows), pd.concat(answers, ignore_index=True)


def run(
    *, snr: float, seed: int, atlas: Path, options: StageOptions, validation: ValidationOptions, scores: Path, answers: Path
) -> None:
    """Write the scores and the classifiers' answers of one run (Parquet). Everything in between is thrown away."""
    torch.set_num_threads(1)
    regions = load_atlas(atlas)
    with tempfile.TemporaryDirectory(prefix="mcsp-validation-") as place:
        folder = Path(place)
        stores, cohort, truth = write_cohort(
            folder, snr=snr, seed=seed, n_subjects=validation.n_subjects, n_channels=validation.n_channels, atlas=regions,
            fmri=options.fmri, eeg=options.eeg, conn=options.connectivity, spec=options.spectra,
        )  # fmt: skip
        tables = measure(Run(folder, stores, cohort, seed, options, validation), truth)
    for table, path in zip(tables, (scores, answers)):
        write_table(table.assign(snr=snr, seed=seed), path)
    print(f"snr {snr:g}, seed {seed}: {len(tables[0])} scores")
