"""Attribution of a classifier's logit to its inputs, in each domain where they enter (captum)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor

from mcsp.model.batch import Batch, Key
from mcsp.options.results import ExplainOptions

Forward = Callable[[Batch], Tensor]
CHUNK = 64  # inputs that go through the model at once


def _as_function(forward: Forward, keys: list[Key], modalities: list[str]) -> Callable[..., Tensor]:
    """The model as captum wants it: tensors in, logits out."""

    def function(*values: Tensor) -> Tensor:
        x = dict(zip(keys, values[: len(keys)]))
        present = dict(zip(modalities, values[len(keys) : len(keys) + len(modalities)]))
        n_valid = dict(zip(modalities, values[len(keys) + len(modalities) :]))
        return forward(Batch(x, present, n_valid))

    return function


def integrated_gradients(
    forward: Forward, batch: Batch, baseline: dict[Key, Tensor], options: ExplainOptions
) -> dict[Key, Tensor]:
    """Integrated Gradients along the straight line from `baseline` (one subject's shape, the training mean).

    Sums over all inputs to logit(x) - logit(baseline), up to the integral's error. Source: Sundararajan et al. 2017.
    """
    keys, modalities = list(batch.x), list(batch.present)
    method = IntegratedGradients(_as_function(forward, keys, modalities))
    extra = (*batch.present.values(), *batch.n_valid.values())
    values = method.attribute(
        tuple(batch.x.values()),
        baselines=tuple(baseline[key][None].expand_as(batch.x[key]) for key in keys),
        additional_forward_args=extra,
        n_steps=options.n_steps,
        internal_batch_size=max(CHUNK, len(batch)),
    )
    return dict(zip(keys, values))


def smoothgrad(forward: Forward, batch: Batch, baseline: dict[Key, Tensor], options: ExplainOptions) -> dict[Key, Tensor]:
    """SmoothGrad: the gradient averaged over noisy copies (noise in units of each input's standard deviation), times the
    difference to the baseline. Source: Smilkov et al. 2017.
    """
    keys, modalities = list(batch.x), list(batch.present)
    method = NoiseTunnel(Saliency(_as_function(forward, keys, modalities)))
    torch.manual_seed(options.seed)
    spread = tuple(float(options.noise * x.std()) for x in batch.x.values())
    values = method.attribute(
        tuple(x.clone() for x in batch.x.values()),
        nt_type="smoothgrad",
        nt_samples=options.n_samples,
        nt_samples_batch_size=1,
        stdevs=spread,
        additional_forward_args=(*batch.present.values(), *batch.n_valid.values()),
        abs=False,
    )
    return {key: value * (batch.x[key] - baseline[key]) for key, value in zip(keys, values)}


METHODS = {"integrated_gradients": integrated_gradients, "smoothgrad": smoothgrad}
