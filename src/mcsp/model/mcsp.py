"""The model: six encoders and projectors (two modalities x three domains), and the classifier on top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mcsp.errors import McspError
from mcsp.model.batch import Batch, Key
from mcsp.model.encoders import Architecture, Projector, Scaler, make_encoder


def _name(key: Key) -> str:
    return "_".join(key)


class _Saved(nn.Module):
    """Weights as safetensors beside a JSON configuration; loading is strict."""

    config: dict[str, Any]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each atomically."""
        from mcsp.store import atomic_path, write_json

        folder = Path(folder)
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, temporary)
        write_json(folder / "config.json", self.config)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Any:
        """Load a model, in eval mode. Raises McspError when files are missing or do not fit each other."""
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "model.safetensors")
            model = cls(config)
            model.load_state_dict(weights, strict=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            text = " ".join(str(error).split())[:200]
            raise McspError(f"{folder}: not a whole {cls.__name__} model ({text}): train it again") from error
        return model.eval()


class MCSP(_Saved):
    """Encoders and projectors. `config['architecture']` holds the sizes, see `Architecture`; other keys are a record of
    how the model was trained.
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
        return Projector(sizes.width, sizes.dim, segments, sizes.segment_features)

    def encode(self, batch: Batch) -> tuple[dict[Key, Tensor], dict[Key, Tensor]]:
        """(h (B, width), z (B, dim)) by modality and domain; rows of subjects without the modality are zero, and no
        gradient passes them.
        """
        h: dict[Key, Tensor] = {}
        z: dict[Key, Tensor] = {}
        seen = {m: present.nonzero().squeeze(1) for m, present in batch.present.items()}
        for key in self.keys:
            x, n_valid, rows = batch.x[key], batch.n_valid[key[0]], seen[key[0]]
            if not len(rows):
                nothing = x.sum() * 0.0  # zero, but part of the graph, as attribution wants it
                h[key] = nothing.expand(len(x), self.sizes.width)
                z[key] = nothing.expand(len(x), self.sizes.dim)
                continue
            whole = len(rows) == len(x)  # then nothing is copied
            features, segments = self.encoders[_name(key)](*((x, n_valid) if whole else (x[rows], n_valid[rows])))
            projected = self.projectors[_name(key)](features, segments)
            h[key], z[key] = (
                v if whole else v.new_zeros(len(x), v.shape[1]).index_copy(0, rows, v) for v in (features, projected)
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

    @torch.no_grad()
    def embed(self, batch: Batch) -> dict[Key, Tensor]:
        """Unit-length projections (B, dim) by modality and domain, zero where a subject lacks the modality."""
        return {key: nn.functional.normalize(z.float(), dim=1) for key, z in self.encode(batch)[1].items()}


class Classifier(_Saved):
    """Encoders and a task's head: the mean of what the available modalities and domains say, then an MLP.

    A missing modality is left out of the mean, not imputed. `config['head']`: hidden, dropout.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        self.config = config
        self.backbone = MCSP(config)
        width, hidden, dropout = self.backbone.sizes.width, config["head"]["hidden"], config["head"]["dropout"]
        self.readers = nn.ModuleDict(
            {
                _name(key): nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, hidden))
                for key in self.backbone.keys
            }
        )
        self.head = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def read(self, h: dict[Key, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Logits (B,) from features."""
        total, count = 0.0, 0.0
        for key, features in h.items():
            seen = present[key[0]].to(features.dtype)[:, None]
            total = total + seen * self.readers[_name(key)](features)
            count = count + seen
        return self.head(total / count.clamp_min(1)).squeeze(1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B,)."""
        return self.read(self.backbone.encode(batch)[0], batch.present)

    @torch.no_grad()
    def predict_proba(self, batch: Batch) -> Tensor:
        """Probability (B,) of being a case."""
        return torch.sigmoid(self(batch).float())
