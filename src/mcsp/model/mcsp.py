"""The model: six encoders and projectors (two modalities x three domains), and the classifier on top."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from mcsp import __version__
from mcsp.errors import McspError
from mcsp.model.batch import Batch, Key, fill, rows_of
from mcsp.model.encoders import Architecture, Projector, Scaler, make_encoder
from mcsp.model.inputs import Array, Given, as_batch


def _name(key: Key) -> str:
    return "_".join(key)


class _Saved(nn.Module):
    """Weights as safetensors beside a JSON configuration; loading is strict."""

    config: dict[str, Any]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each atomically. The configuration names the kind of the model, the
        hash of its weights and the versions that wrote it.
        """
        from mcsp.store import atomic_path, write_json

        folder = Path(folder)
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, temporary)
        written = {
            "kind": type(self).__name__,
            "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
            "versions": {"mcsp": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
        }
        write_json(folder / "config.json", {**self.config, **written})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load a model, in eval mode, on the CPU. Raises McspError, in one line, when files are missing or damaged, do not
        belong to each other, or hold another kind of model.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            weights = (folder / "model.safetensors").read_bytes()
            if config["kind"] != cls.__name__:
                raise ValueError(f"it is a {config['kind']}: load it with {config['kind']}.from_pretrained")
            if config["weights_sha256"] != hashlib.sha256(weights).hexdigest():
                raise ValueError("config.json and model.safetensors are not of one training, or one is damaged")
            model = cls(config)
            model.load_state_dict(load(weights), strict=True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            text = f"{error} is missing in config.json" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
            raise McspError(f"{folder}: not a whole {cls.__name__} model ({text}): copy or train it again") from error
        return model.eval()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[torch.device]:
    """The model in eval mode, without gradients; gives its device."""
    was = model.training
    try:
        with torch.no_grad():
            yield next(model.eval().parameters()).device
    finally:
        model.train(was)


def _in_pieces(model: nn.Module, function: Callable[[Batch], Any], batch: Batch, size: int) -> list[Any]:
    """`function` of the batch's pieces of `size` subjects, on the model's device."""
    with _evaluating(model) as device:
        return [function(batch.rows(slice(i, i + size)).to(device)) for i in range(0, len(batch), size)]


class MCSP(_Saved):
    """Encoders and projectors. `config["architecture"]` holds the sizes, see `Architecture`; `config["data"]` says by
    modality what the inputs are (names and coordinates of regions or channels, rates, options of the stages that made
    them); other keys are a record of how the model was trained.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config
        self.sizes = Architecture(**config["architecture"])
        self.keys: list[Key] = [tuple(name.split("/")) for name in self.sizes.shapes]
        self.encoders = nn.ModuleDict({_name(key): make_encoder(*key, self.sizes) for key in self.keys})
        self.projectors = nn.ModuleDict({_name(key): self._projector(key) for key in self.keys})

    def _projector(self, key: Key) -> Projector:
        sizes = self.sizes
        by_segment = key[0] == "eeg" and key[1] != "spatial"
        segments = sizes.shapes["/".join(key)][0] if by_segment else 0
        return Projector(sizes.width, sizes.dim, segments, sizes.segment_features, linear_start=sizes.linear_start)

    def encode(self, batch: Batch) -> tuple[dict[Key, Tensor], dict[Key, Tensor]]:
        """(h (B, width), z (B, dim)) by modality and domain; rows of subjects without the modality are zero, and no
        gradient passes them.
        """
        h: dict[Key, Tensor] = {}
        z: dict[Key, Tensor] = {}
        centres = {} if batch.whole else self.centres()
        device = next(iter(batch.x.values())).device
        seen = {m: rows_of(present, device) for m, present in batch.present.items()}
        for key in self.keys:
            x, n_valid, rows = batch.x[key], batch.n_valid[key[0]], seen[key[0]]
            x = x if batch.whole else fill(key, x, centres)
            if rows is not None and not len(rows):
                nothing = x.sum() * 0.0  # zero, but part of the graph, as attribution wants it
                h[key] = nothing.expand(len(x), self.sizes.width)
                z[key] = nothing.expand(len(x), self.sizes.dim)
                continue
            given = (x, n_valid) if rows is None else (x[rows], n_valid[rows])
            features, segments = self.encoders[_name(key)](*given)
            projected = self.projectors[_name(key)](features, segments)
            h[key], z[key] = (
                v if rows is None else v.new_zeros(len(x), v.shape[1]).index_copy(0, rows, v) for v in (features, projected)
            )
        return h, z

    forward = encode

    def compile_parts(self) -> None:
        """`torch.compile` the encoders, in place: names of weights stay as they are."""
        for encoder in self.encoders.values():
            encoder.compile()

    def scalers(self) -> dict[Key, Scaler]:
        """The standardisers that want fitting, by modality and domain."""
        found = {key: getattr(self.encoders[_name(key)], "scaler", None) for key in self.keys}
        return {key: scaler for key, scaler in found.items() if scaler is not None}

    def centres(self) -> dict[Key, Tensor]:
        """What training subjects have in the mean, by those modalities and domains that are standardised; as inputs are."""
        return {key: scaler.centre() for key, scaler in self.scalers().items()}

    def batch(self, *, fmri: Given | None = None, eeg: Given | None = None, n_valid: Array | None = None) -> Batch:
        """A batch from arrays, on the CPU; the arguments are those of `embed`."""
        shapes = {key: tuple(self.sizes.shapes["/".join(key)]) for key in self.keys}
        return as_batch(shapes, self.config.get("data", {}), fmri=fmri, eeg=eeg, n_valid=n_valid)

    def embed(
        self,
        batch: Batch | None = None,
        *,
        fmri: Given | None = None,
        eeg: Given | None = None,
        n_valid: Array | None = None,
        batch_size: int = 32,
    ) -> dict[Key, Tensor]:
        """Unit-length projections (B, dim) of B subjects, by (modality, domain), on the CPU; zero where a subject lacks the
        modality. The model is in eval mode meanwhile, and runs where its weights are (`model.to("cuda")`); a subject's
        result does not depend on the others.

        `fmri`: z-scored series (B, R, T) at `config["data"]["fmri"]["t_r"]` s, regions in the order of its `names`; or a
        mapping of domains, any of temporal (B, R, T), spatial (B, R, R; Fisher z) and spectral (B, R, T // 2 + 1;
        amplitude). `eeg`: segments (B, S, C, samples) at `config["data"]["eeg"]["sfreq"]` Hz, channels in the order of its
        `ch_names`, divided by the recording's scale (1.4826 x median absolute value); or temporal, spatial (B, bands, C, C)
        and spectral (B, S, C, samples // 2 + 1), these two NaN where the recording's rate was too low, as those of fMRI are for
        regions that it lacks. What is not given is computed from the series as the workflow does it; of fMRI from which frames
        were scrubbed, give the spectral domain too (`mcsp.domains.amplitudes.region_spectra`), as series don't tell where.
        numpy or torch; both modalities of the same subjects in the same order, all NaN where a subject lacks one.
        `n_valid` (B): frames of fMRI that are data, where series are padded; shorter arrays are padded here. Instead of
        arrays, a ready `batch`. Raises McspError, in one line, for arrays that the model can't read.
        """
        batch = self.batch(fmri=fmri, eeg=eeg, n_valid=n_valid) if batch is None else batch
        parts = _in_pieces(self, lambda piece: self.encode(piece)[1], batch, batch_size)
        z = {key: torch.cat([part[key].float().cpu() for part in parts]) for key in self.keys}
        return {key: nn.functional.normalize(values, dim=1) for key, values in z.items()}


class Classifier(_Saved):
    """Encoders and a task's head: the mean of what the available modalities and domains say, linearly and through an MLP.

    The two are added; the MLP begins at zero, so that a head can start as a linear model (`training.probe`). A missing
    modality is left out of the mean, not imputed. `config['head']`: hidden, dropout, reads (see `heard`; features); of several
    classes kind (multiclass) and outputs; of a number kind (regression), and mean and sd of the training subjects' values.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config
        self.backbone = MCSP(config)
        hidden, dropout = config["head"]["hidden"], config["head"]["dropout"]
        self.reads: str = config["head"].get("reads", "features")
        sizes = {"features": self.backbone.sizes.width, "projections": self.backbone.sizes.dim}
        width = sizes.get(self.reads, sum(sizes.values()))
        self.readers = nn.ModuleDict(
            {
                _name(key): nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, hidden))
                for key in self.backbone.keys
            }
        )
        self.kind: str = config["head"].get("kind", "binary")
        outputs = config["head"].get("outputs", 1)
        self.head = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))
        nn.init.zeros_(self.head[-1].weight)
        self.direct = nn.Linear(len(self.backbone.keys) * width, outputs)

    def heard(self, batch: Batch) -> dict[Key, Tensor]:
        """What the head reads of a batch, by modality and domain: features h (B, width), projections z (B, dim), or both of
        them side by side, each normalised (B, width + dim).
        """
        h, z = self.backbone.encode(batch)
        if self.reads != "both":
            return h if self.reads == "features" else z
        normalised = nn.functional.layer_norm
        return {key: torch.cat([normalised(v, v.shape[1:]) for v in (h[key], z[key])], dim=1) for key in h}

    def evidence(self, h: dict[Key, Tensor], present: dict[str, Tensor]) -> Tensor:
        """What the linear part reads (B, modalities and domains * width): what is `heard`, normalised, zero where a subject
        lacks the modality, divided by the number of those that it has.
        """
        seen = [present[key[0]].to(features)[:, None] for key, features in h.items()]
        parts = [s * nn.functional.layer_norm(f, f.shape[1:]) for s, f in zip(seen, h.values())]
        return torch.cat(parts, dim=1) / sum(seen).clamp_min(1)

    def read(self, h: dict[Key, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Logits (B,) from what is `heard`; (B, classes) of several classes; the standardised value (B,) in regression."""
        total, count = 0.0, 0.0
        for key, features in h.items():
            seen = present[key[0]].to(features)[:, None]
            total = total + seen * self.readers[_name(key)](features)
            count = count + seen
        out = self.head(total / count.clamp_min(1)) + self.direct(self.evidence(h, present))
        return out if self.kind == "multiclass" else out.squeeze(1)

    def forward(self, batch: Batch) -> Tensor:
        """What `read` makes of a batch."""
        return self.read(self.heard(batch), batch.present)

    def _outputs(self, batch: Batch | None, batch_size: int, **given: Given | Array | None) -> Tensor:
        """What `read` makes of all subjects, in eval mode, on the CPU."""
        batch = self.backbone.batch(**given) if batch is None else batch
        return torch.cat([part.float() for part in _in_pieces(self, self, batch, batch_size)]).cpu()

    def predict_proba(
        self,
        batch: Batch | None = None,
        *,
        fmri: Given | None = None,
        eeg: Given | None = None,
        n_valid: Array | None = None,
        batch_size: int = 32,
    ) -> Tensor:
        """Probability (B,) of being a case of `config["task"]`, or (B, classes) of each of its classes, on the CPU; arguments
        and conditions as in `MCSP.embed`.

        It is the network's own, uncalibrated probability, from a training set in which classes had equal weight. Raises
        McspError for a model that answers with a number.
        """
        if self.kind == "regression":
            raise McspError("this model answers with a number, not with probabilities: call predict_value")
        logits = self._outputs(batch, batch_size, fmri=fmri, eeg=eeg, n_valid=n_valid)
        return torch.softmax(logits, dim=1) if self.kind == "multiclass" else torch.sigmoid(logits)

    def predict_value(
        self,
        batch: Batch | None = None,
        *,
        fmri: Given | None = None,
        eeg: Given | None = None,
        n_valid: Array | None = None,
        batch_size: int = 32,
    ) -> Tensor:
        """Value (B,) of what `config["task"]` asks for, in its own units, on the CPU; arguments and conditions as in
        `MCSP.embed`. Raises McspError for a model that answers with probabilities.
        """
        if self.kind != "regression":
            raise McspError("this model answers with probabilities, not with a number: call predict_proba")
        values = self._outputs(batch, batch_size, fmri=fmri, eeg=eeg, n_valid=n_valid)
        return values * self.config["head"]["sd"] + self.config["head"]["mean"]
