"""Networks on EEG segments, from braindecode, an optional dependency."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from torch import nn

from mcsp.errors import McspError

NAMES = {"eegnet": "EEGNet", "shallow_fbcspnet": "ShallowFBCSPNet", "eeg_conformer": "EEGConformer", "biot": "BIOT"}


def zoo() -> ModuleType:
    """braindecode's models. Raises McspError when it is not there, or does not fit the PyTorch that is."""
    try:
        import braindecode.models as models
    except (ImportError, OSError) as error:
        text = " ".join(str(error).split())[:120]
        raise McspError(
            f"rivals {', '.join(NAMES)} need braindecode ({text}): .venv/bin/pip install -e '.[braindecode]', with a "
            "torchaudio of PyTorch's own build, or take them out of evaluate.rivals"
        ) from error
    return models


class Segments(nn.Module):
    """A network of braindecode as one that gives logits (B,)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x):
        """Logits (B,) of segments (B, C, sample)."""
        return self.net(x).flatten()


def build(shape: Sequence[int], *, name: str, sfreq: float) -> nn.Module:
    """EEGNet (Lawhern et al. 2018), ShallowFBCSPNet (Schirrmeister et al. 2017), EEG Conformer (Song et al. 2023) or BIOT (Yang
    et al. 2023: a Transformer made to be pre-trained, here from scratch like all rivals), for segments of `shape` (C, sample)
    at `sfreq` Hz. Their kernels, given in samples, keep the papers' lengths in seconds; all else is as braindecode has it.
    Raises McspError for segments that are too short.
    """

    def samples(seconds: float) -> int:
        return max(1, round(seconds * sfreq))

    models, size = zoo(), {"n_chans": shape[0], "n_times": shape[1], "n_outputs": 1, "sfreq": sfreq}
    pooled = {"filter_time_length": samples(0.1), "pool_time_length": samples(0.3), "pool_time_stride": samples(0.06)}
    own = {
        "eegnet": {"kernel_length": samples(0.5), "depthwise_kernel_length": samples(0.125)},
        "biot": {"hop_length": samples(0.5)},
    }.get(name, pooled)
    try:
        return Segments(getattr(models, NAMES[name])(**size, **own))
    except (ValueError, RuntimeError, AssertionError, ZeroDivisionError) as error:
        text = " ".join(str(error).split())[:120]
        raise McspError(
            f"{NAMES[name]} can't read segments of {shape[1]} samples at {sfreq:g} Hz ({text}): take longer ones "
            "(eeg.segment_samples), or take it out of evaluate.rivals"
        ) from error
