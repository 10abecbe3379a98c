"""Attribution of a classifier's logit to its inputs, in each domain where they enter (captum)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor

from mcsp.model.batch import Batch, Key
from mcsp.options.results import ExplainOptions

Forward = Callable[[Batch], Tensor]
CHUNK = 64  # inputs that go through the model at once


@dataclass(frozen=True)
class Reference:
    """What inputs are compared with, from training subjects only. `mean`: (modality, domain) -> one subject's shape, the
    baseline of all methods; `spread`: (modality, domain) -> standard deviation of the input, the unit of SmoothGrad's noise.
    """

    mean: dict[Key, Tensor]
    spread: dict[Key, float]

    def to(self, device: torch.device) -> Reference:
        """The reference on another device."""
        return Reference({key: value.to(device) for key, value in self.mean.items()}, self.spread)


def _as_function(forward: Forward, keys: list[Key], modalities: list[str]) -> Callable[..., Tensor]:
    """The model as captum wants it: tensors in, logits out.

    Each input is tied to the logits with weight zero: captum refuses inputs outside the graph, such as a modality that
    nobody in the batch has; this way their attribution is exactly zero.
    """

    def function(*values: Tensor) -> Tensor:
        x = dict(zip(keys, values[: len(keys)]))
        present = dict(zip(modalities, values[len(keys) : len(keys) + len(modalities)]))
        n_valid = dict(zip(modalities, values[len(keys) + len(modalities) :]))
        unused = sum(value.flatten(1).sum(dim=1) for value in x.values())
        return forward(Batch(x, present, n_valid)) + 0 * unused

    return function


def integrated_gradients(forward: Forward, batch: Batch, reference: Reference, options: ExplainOptions) -> dict[Key, Tensor]:
    """Integrated Gradients along the straight line from the training mean: (modality, domain) -> (B, ...), in logits.

    Over all inputs of a subject they sum to logit(x) - logit(mean), up to the integral's error and to the graphs' choice of
    edges, which is a step that no gradient sees. Source: Sundararajan et al. 2017.
    """
    keys, modalities = list(batch.x), list(batch.present)
    method = IntegratedGradients(_as_function(forward, keys, modalities))
    values = method.attribute(
        tuple(batch.x.values()),
        baselines=tuple(reference.mean[key][None].expand_as(batch.x[key]) for key in keys),
        additional_forward_args=(*batch.present.values(), *batch.n_valid.values()),
        n_steps=options.n_steps,
        internal_batch_size=max(CHUNK, len(batch)),
    )
    return dict(zip(keys, values))


def smoothgrad(forward: Forward, batch: Batch, reference: Reference, options: ExplainOptions) -> dict[Key, Tensor]:
    """SmoothGrad (NoiseTunnel over Saliency) times input minus training mean: (modality, domain) -> (B, ...), in logits.

    The signed gradient is averaged over noisy copies; noise is in units of each domain's spread. Source: Smilkov et al.
    2017.
    """
    keys, modalities = list(batch.x), list(batch.present)
    method = NoiseTunnel(Saliency(_as_function(forward, keys, modalities)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        values = method.attribute(
            tuple(x.clone() for x in batch.x.values()),
            nt_type="smoothgrad",
            nt_samples=options.n_samples,
            nt_samples_batch_size=1,
            stdevs=tuple(options.noise * reference.spread[key] for key in keys),
            additional_forward_args=(*batch.present.values(), *batch.n_valid.values()),
            abs=False,
        )
    return {key: value * (batch.x[key] - reference.mean[key]) for key, value in zip(keys, values)}


METHODS = {"integrated_gradients": integrated_gradients, "smoothgrad": smoothgrad}
