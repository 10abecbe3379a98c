"""A study of new data takes the options of its stages over from the model that is applied to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcsp.errors import McspError
from mcsp.options.atlas import AtlasOptions
from mcsp.options.domains import ConnectivityOptions, SpectraOptions
from mcsp.options.eeg import EegOptions
from mcsp.options.fmri import FmriOptions
from mcsp.store import read_json

STAGES = {"fmri": FmriOptions, "eeg": EegOptions, "connectivity": ConnectivityOptions, "spectra": SpectraOptions}
# Limits of quality: they say which recordings are good enough, not what the model reads, so a study of new data may differ.
FREE = {
    "fmri": {"min_frames", "min_scrubbed_share", "max_mean_fd", "runs"},
    "eeg": {"max_bad_share", "short", "min_overlap_share", "peak_to_peak"},
}


def model_folders(place: str | Path) -> list[Path]:
    """Directories of the models at `place`: itself, or those within (a task's classifiers, or the pre-trained folds).

    Raises McspError when there is none.
    """
    place = Path(place)
    folders = [place] if (place / "config.json").is_file() else sorted(p.parent for p in place.glob("*/config.json"))
    if not folders:
        raise McspError(
            f"predict.model = {place}: no model there (a directory with config.json, or one of such directories, e.g. "
            "results/demo/finetune/asd): mend the path"
        )
    return folders


def _stage(stage: str, given: Any, trained: Mapping[str, Any], lines: list[str]) -> Any:
    """Options of a stage: the model's, with the limits of quality that the study sets; `lines` gets what contradicts."""
    default = STAGES[stage]().model_dump(mode="json")
    merged = {**default, **trained}
    if not isinstance(given, Mapping):
        return given or merged
    for key, value in json.loads(json.dumps(given, default=str)).items():
        if key in FREE.get(stage, ()) or key not in default:  # what is not an option is told when the study is parsed
            merged[key] = merged.get(key) if value == default.get(key) else value
        elif value not in (default[key], merged[key]):
            lines.append(
                f"{stage}.{key} = {json.dumps(value)}, but the model was trained with {json.dumps(merged[key])}: leave it out"
            )
    return merged


def _atlas(given: Any, trained: Mapping[str, Any], lines: list[str]) -> Any:
    """The model's atlas where the study names none; one that it names is compared by its regions, once stores are there."""
    default = AtlasOptions().model_dump(mode="json")
    if isinstance(given, Mapping) and {**default, **given} != default:
        return given
    if trained["own"]:
        lines.append(
            f"atlas: the model's own ({trained['name']}) came from a file: give the same in atlas.image or atlas.table"
        )
    return {key: value for key, value in trained.items() if key != "own"}


def adopted(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A study's values with the stages' options of the model that `predict.model` names; unchanged without one.

    Raises McspError, with a line for each, for options that contradict the model's, and when there is no model.
    """
    predict = values.get("predict")
    place = predict.get("model") if isinstance(predict, Mapping) else None
    if not isinstance(place, str):
        return dict(values)
    folder = model_folders(place)[0]
    config = read_json(folder / "config.json")
    if not config.get("data") or not config.get("architecture"):
        raise McspError(f"{folder / 'config.json'}: does not say what its data was: train the model again")
    trained: dict[str, Any] = {}
    for own in config["data"].values():
        trained |= own["options"]
    lines: list[str] = []
    merged = dict(values)
    for stage in STAGES.keys() & trained.keys():
        merged[stage] = _stage(stage, values.get(stage), trained[stage], lines)
    if "fmri" in config["data"] and config.get("about", {}).get("atlas"):
        merged["atlas"] = _atlas(values.get("atlas"), config["about"]["atlas"], lines)
    keys = [name.split("/") for name in config["architecture"]["shapes"]]
    parts = {"modalities": list(dict.fromkeys(m for m, _ in keys)), "domains": list(dict.fromkeys(d for _, d in keys))}
    pretrain = dict(values.get("pretrain") or {})
    merged["pretrain"] = {**pretrain, "model": {**(pretrain.get("model") or {}), **parts}}
    if lines:
        raise McspError("\n".join(f"{source}: {line}" for line in sorted(lines)))
    return merged
