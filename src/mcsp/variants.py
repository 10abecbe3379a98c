"""Variants of a study: one option changed at a time, the rest as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mcsp.study import Study

LOSSES = ("id", "cd", "im", "cm", "cf", "kd")


class Variant(NamedTuple):
    """`kind`: what is varied; `value`: to what; `changes`: laid over the study."""

    kind: str
    value: str
    changes: Mapping[str, Any]


def _model(**changes: Any) -> dict:
    return {"pretrain": {"model": changes}}


def _tfc(study: Study) -> dict:
    """Changes that leave what Time-Frequency Consistency has (Zhang et al. 2022, NeurIPS 35): the temporal and the spectral
    domain, each agreeing with its view and with the other, no term between modalities and no teacher. None where the study
    lacks one of these domains, learns nothing from them, or is that already.
    """
    model, loss = study.pretrain.model, study.pretrain.loss
    ours = {"model": {"domains": ["temporal", "spectral"]}, "loss": {"im": 0.0, "cm": 0.0, "cf": 0.0, "kd": 0.0}}
    possible = {"temporal", "spectral"} <= set(model.domains) and (loss.id or loss.cd) and study.pretrain.epochs
    same = len(model.domains) == 2 and not (loss.im or loss.cm or loss.cf or loss.kd)
    return {"pretrain": ours} if possible and not same else {}


def _corpora(study: Study) -> dict[str, Variant]:
    """Pre-training without each dataset that the model can read, and on each alone (of two, that is the same). None where
    folds leave whole datasets out: nobody would be left to learn from in some.
    """
    if study.splits.protocol == "leave-one-dataset-out":
        return {}
    found, read = {}, set(study.pretrain.model.modalities)
    datasets = [name for name in study.pretrain.corpus or study.datasets if read & set(study.datasets[name].modalities)]
    for name in datasets if len(datasets) > 1 else []:
        rest = [other for other in datasets if other != name]
        found[f"without-{name}"] = Variant("pre-training corpus", f"without {name}", {"pretrain": {"corpus": rest}})
        if len(rest) > 1:
            found[f"from-{name}"] = Variant("pre-training corpus", f"{name} only", {"pretrain": {"corpus": [name]}})
    return found


def variants(study: Study) -> dict[str, Variant]:
    """Name -> variant of the study's `sweep`, without those that would change nothing or leave nothing."""
    sweep, pretrain, model = study.sweep, study.pretrain, study.pretrain.model
    found: dict[str, Variant] = {}
    if sweep.scratch and pretrain.epochs:
        found["scratch"] = Variant("pre-training", "none", {"pretrain": {"epochs": 0}})
    if sweep.scope and pretrain.epochs:
        other = "inductive" if pretrain.scope == "transductive" else "transductive"
        found[f"scope-{other}"] = Variant("pre-training scope", other, {"pretrain": {"scope": other}})
    tfc = _tfc(study)
    if sweep.tfc and tfc:
        found["tfc"] = Variant("pre-training", "TF-C-like", tfc)
    if sweep.losses and pretrain.epochs:
        weights = pretrain.loss.model_dump()
        terms = [term for term in LOSSES if weights[term]]
        for term in terms if len(terms) > 1 else []:
            found[f"no-{term}"] = Variant("loss", f"without {term.upper()}", {"pretrain": {"loss": {term: 0.0}}})
    if sweep.domains and len(model.domains) > 1:
        for domain in model.domains:
            rest = [other for other in model.domains if other != domain]
            found[f"no-{domain}"] = Variant("domain", f"without {domain}", _model(domains=rest))
            found[f"only-{domain}"] = Variant("domain", f"{domain} only", _model(domains=[domain]))
    held = {m for dataset in study.datasets.values() for m in dataset.modalities} & set(model.modalities)
    if sweep.modalities and len(held) > 1:
        for modality in model.modalities:
            name = {"fmri": "fMRI", "eeg": "EEG"}[modality]
            found[f"only-{modality}"] = Variant("modality", f"{name} only", _model(modalities=[modality]))
    if sweep.corpus and pretrain.epochs:
        found |= _corpora(study)
    for share in sweep.subject_shares if pretrain.epochs else []:
        changes = {"pretrain": {"subject_share": share}}
        found[f"subjects-{round(100 * share)}"] = Variant("pre-training subjects", f"{share:.0%}", changes)
    total = study.eeg.n_segments * study.eeg.segment_samples
    for samples in sweep.segment_samples if "eeg" in held else []:
        if samples not in (study.eeg.segment_samples,) and total // samples > 1:
            eeg = {"segment_samples": samples, "n_segments": total // samples}
            found[f"segment-{samples}"] = Variant("samples per segment", str(samples), {"eeg": eeg})
    return found
