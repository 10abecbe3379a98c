"""Attribution of a classifier's logit to its inputs, in each domain where they enter (captum)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from torch import Tensor

from mcsp.model.batch import Batch, Key
from mcsp.model.encoders import GraphEncoder
from mcsp.options.results import ExplainOptions

# captum says of every input that it asks for gradients, which is what it is called for
warnings.filterwarnings("ignore", message=r"Input Tensor \d+ did not already require gradients")

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


def gradient(forward: Forward, batch: Batch, reference: Reference, options: ExplainOptions) -> dict[Key, Tensor]:
    """The plain gradient: (modality, domain) -> (B, ...), logits per unit of the input. A negative reference: it says how
    steep the model is at an input, not what the input did. Source: Simonyan et al. 2014.
    """
    keys, modalities = list(batch.x), list(batch.present)
    values = Saliency(_as_function(forward, keys, modalities)).attribute(
        tuple(x.clone() for x in batch.x.values()),
        additional_forward_args=(*batch.present.values(), *batch.n_valid.values()),
        abs=False,
    )
    return dict(zip(keys, values))


def input_x_gradient(forward: Forward, batch: Batch, reference: Reference, options: ExplainOptions) -> dict[Key, Tensor]:
    """Gradient times input minus training mean: (modality, domain) -> (B, ...), in logits.

    DeepLift would give the same numbers under another name: captum's has no rule for anything that this model does between
    inputs and logit (GELU, layer normalisation, attention, logarithms of squares), and takes plain gradients there.
    Source: Shrikumar et al. 2017.
    """
    slopes = gradient(forward, batch, reference, options)
    return {key: slope * (batch.x[key] - reference.mean[key]) for key, slope in slopes.items()}


def gradcam(forward: Forward, batch: Batch, reference: Reference, options: ExplainOptions) -> dict[Key, Tensor]:
    """GradCAM at the last graph convolution, in the spatial domains only: (modality, domain) -> (B, ...) as the input is.

    A node's relevance is relu(sum over features of the mean gradient over nodes times the activation); an edge gets the
    product of its ends'. A negative reference: nodes have mixed with their neighbours by then, and the encoder's linear map
    of edges does not pass there. Attention has no place for regions or channels in this model (its tokens are patches of
    time, of frequency, or segments), so that it is not tried. Source: Selvaraju et al. 2017.
    """
    encoders = {key: e for key, e in forward.backbone.encoders.items() if isinstance(e, GraphEncoder)}
    seen: dict[str, Tensor] = {}
    hooks = [e.layers[-1].register_forward_hook(_keep(seen, name)) for name, e in encoders.items()]
    try:
        inputs = {key: x.clone().requires_grad_() for key, x in batch.x.items()}
        logits = forward(Batch(inputs, batch.present, batch.n_valid))
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for (name, nodes), slope in zip(seen.items(), torch.autograd.grad(logits.sum(), list(seen.values()))):
        key = tuple(name.split("_"))
        cam = (slope.mean(dim=2, keepdim=True) * nodes).sum(dim=3).relu()  # (subjects that have it, graphs, nodes)
        pairs = cam[..., :, None] * cam[..., None, :]
        whole = batch.x[key].new_zeros(batch.x[key].shape)
        whole[batch.present[key[0]]] = pairs.reshape(-1, *whole.shape[1:])
        found[key] = whole
    return found


def _keep(seen: dict[str, Tensor], name: str) -> Callable:
    def hook(module, inputs, output) -> None:
        seen[name] = output

    return hook


METHODS = {
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "input_x_gradient": input_x_gradient,
    "gradient": gradient,
    "gradcam": gradcam,
}
REFERENCES = ("gradient", "gradcam")  # expected to fail: a validation that passes them is none
