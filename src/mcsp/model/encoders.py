"""Encoders of the three domains. Each maps its input to features h, and for EEG also to features of each segment.

All normalisation is per subject (LayerNorm), so a subject's features do not depend on who else is in the batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model: those of the study file's `pretrain.model`, and the inputs' shapes (modality/domain -> shape)."""

    width: int
    depth: int
    heads: int
    dim: int
    patch: int
    segment_features: int
    density: float
    dropout: float
    shapes: dict[str, tuple[int, ...]]
    linear_start: bool = False

    def json(self) -> dict:
        """As plain values."""
        return asdict(self)


class Scaler(nn.Module):
    """Centre features on the training subjects' mean, and divide all by one number, the root mean square of their standard
    deviations: a standard deviation for each feature would raise what hardly varies, such as frequencies that a filter
    took out, to the rank of the signal. With `amplitude`, of log(1 + x / unit), `unit` the training subjects' mean.
    """

    def __init__(self, shape: tuple[int, ...], *, amplitude: bool = False):
        super().__init__()
        self.amplitude = amplitude
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(()))

    def raw(self, x: Tensor) -> Tensor:
        """Before standardisation."""
        return torch.log1p(x.clamp_min(0) / self.unit) if self.amplitude else x

    def centre(self) -> Tensor:
        """The training subjects' mean, in the units of the input; of amplitudes that of their logarithm."""
        return torch.expm1(self.mean) * self.unit if self.amplitude else self.mean

    def forward(self, x: Tensor) -> Tensor:
        if not self.amplitude or x.requires_grad:
            return (self.raw(x) - self.mean) / self.scale
        return x.clamp_min(0).div_(self.unit).log1p_().sub_(self.mean).div_(self.scale)  # the same in one buffer


@torch.no_grad()
def start_at_components(linear: nn.Linear, inputs: Tensor, *, apart: bool = False) -> None:
    """Start a map from many features at the principal components of `inputs` (N, F).

    Weights drawn at random keep a share of about outputs / features of what subjects have in common, and drown it in what is
    each one's own. The components keep their proportions, so that strong ones weigh most, and the outputs' mean square is 1;
    a random rotation, drawn from torch's generator, gives each output a part of all. `apart`: each output is one component
    of variance 1 instead. Components beyond the number of outputs are left out; outputs beyond theirs stay as drawn (`apart`)
    or share them. Source: principal component analysis, through the smaller of the two Gram matrices.
    """
    x = (inputs - inputs.mean(dim=0)).double()
    wide = x.shape[1] > len(x)
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    n = min(linear.out_features, int((values > 1e-9 * values[-1]).sum()))
    if n == 0 or values[-1] <= 0:  # rows that do not differ
        return
    values, vectors = values[-n:], vectors[:, -n:]
    components = (x.T @ vectors / values.sqrt() if wide else vectors).T  # (n, F), unit length
    if apart:
        linear.weight[:n] = (components / (values / len(x)).sqrt()[:, None]).to(linear.weight.dtype)
    else:
        rotation = torch.linalg.qr(torch.randn(linear.out_features, n, dtype=torch.float64))[0]
        linear.weight.copy_(rotation @ components / (values.sum() / len(x) / linear.out_features).sqrt())
    if linear.bias is not None:
        linear.bias.zero_()


def transformer(width: int, depth: int, heads: int, dropout: float) -> nn.Module:
    """Pre-norm Transformer encoder, batch first. Its residual branches start at zero, so that it begins as the identity and
    does not drown its tokens in random mixtures of them (Bachlechner et al. 2021, ReZero).
    """
    layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True)
    body = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    for block in body.layers:
        for last in (block.self_attn.out_proj, block.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return body


class GraphEncoder(nn.Module):
    """Dense graph convolution on `n_graphs` graphs of N nodes: (B, G, N, N) or (B, N, N) -> (B, width).

    Node features are the rows of the standardised matrix; messages run along the strongest share `density` of the raw
    edges, symmetrically normalised (Kipf & Welling 2017). A linear map of all edges stands beside the convolution, so
    that the encoder can do what linear models of connectivity do.
    """

    def __init__(self, shape: tuple[int, ...], width: int, density: float, dropout: float, *, linear_start: bool = False):
        super().__init__()
        self.graphs, self.nodes = (shape[0] if len(shape) == 3 else 1), shape[-1]
        self.density = density
        self.scaler = Scaler((self.graphs, self.nodes, self.nodes))
        upper = torch.triu_indices(self.nodes, self.nodes, 1)
        self.register_buffer("upper", upper, persistent=False)
        self.enter = nn.Linear(self.nodes, width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.edges = nn.Linear(self.graphs * upper.shape[1], width)
        self.dropout = nn.Dropout(dropout)
        self.leave = nn.Sequential(nn.LayerNorm((self.graphs + 1) * width), nn.Linear((self.graphs + 1) * width, width))
        if linear_start:  # at the map of all edges, to which training adds the convolution
            nn.init.zeros_(self.leave[1].bias)
            nn.init.zeros_(self.leave[1].weight)
            nn.init.eye_(self.leave[1].weight[:, -width:])

    def wide(self) -> nn.Linear:
        """The map that reads most features at once."""
        return self.edges

    def wide_inputs(self, x: Tensor) -> Tensor:
        """What it reads: (B, edges), standardised."""
        features = self.scaler(x.reshape(len(x), self.graphs, self.nodes, self.nodes))
        return features[:, :, self.upper[0], self.upper[1]].flatten(1)

    def adjacency(self, x: Tensor) -> Tensor:
        """Normalised adjacency (B, G, N, N) of the strongest edges of `x`, with self-loops."""
        strength = x.abs() * (1 - torch.eye(self.nodes, device=x.device, dtype=x.dtype))
        kept = max(1, int(self.density * self.nodes * (self.nodes - 1)))
        threshold = strength.detach().flatten(2).topk(kept, dim=2, sorted=False).values.amin(dim=2)[..., None, None]
        edges = (strength >= threshold).to(x.dtype) * strength + torch.eye(self.nodes, device=x.device, dtype=x.dtype)
        degree = edges.sum(-1).rsqrt()
        return edges * degree[..., :, None] * degree[..., None, :]

    def forward(self, x: Tensor, n_valid: Tensor) -> tuple[Tensor, Tensor | None]:
        x = x.reshape(len(x), self.graphs, self.nodes, self.nodes)
        features = self.scaler(x)
        adjacency = self.adjacency(x)
        nodes = self.enter(features)
        for layer, norm in zip(self.layers, self.norms):
            nodes = nodes + self.dropout(torch.nn.functional.gelu(layer(adjacency @ norm(nodes))))
        pooled = nodes.mean(dim=2).flatten(1)
        return self.leave(torch.cat([pooled, self.edges(self.dropout(self.wide_inputs(x)))], dim=1)), None


def log_power(signals: Tensor) -> Tensor:
    """Logarithm of the mean square over the axis before the last, (..., T, width) -> (..., width)."""
    return torch.log(signals.square().mean(dim=-2) + 1e-4)


class PatchEncoder(nn.Module):
    """Transformer over patches along the last axis of (B, R, T): time for series, frequency for amplitudes.

    A patch of frames becomes a token by learned mixtures of the regions, squared, averaged over its frames and logged: at
    rest the phase is random, and what tells subjects apart is variance and covariance. A patch of amplitudes becomes one by
    a linear map. Patches that lie wholly beyond a subject's valid frames are masked, and left out of the mean.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, depth: int, heads: int, dropout: float, patch: int, *, spectral: bool
    ):
        super().__init__()
        self.regions, self.length = shape
        self.patch, self.spectral = patch, spectral
        self.count = -(-self.length // patch)
        if spectral:
            self.scaler = Scaler((self.regions, self.length), amplitude=True)
            self.enter = nn.Linear(self.regions * patch, width)
        else:
            self.filters = nn.Linear(self.regions, width, bias=False)
            self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.place = nn.Parameter(torch.randn(self.count, width) * 0.02)
        self.body = transformer(width, depth, heads, dropout)
        self.norm = nn.LayerNorm(width)

    def wide(self) -> nn.Linear:
        """The map that reads most features at once."""
        return self.enter if self.spectral else self.filters

    def patches(self, x: Tensor) -> Tensor:
        """(B, R, P, patch) of (B, R, T)."""
        x = nn.functional.pad(x, (0, self.count * self.patch - self.length))
        return x.reshape(len(x), self.regions, self.count, self.patch)

    def wide_inputs(self, x: Tensor) -> Tensor:
        """What it reads: (B, P, R * patch), standardised; of series (B, T, R)."""
        if not self.spectral:
            return x.transpose(1, 2)
        return self.patches(self.scaler(x)).transpose(1, 2).flatten(2)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, P, width) of (B, R, T)."""
        if self.spectral:
            return self.enter(self.wide_inputs(x))
        return self.enter(log_power(self.filters(self.patches(x).permute(0, 2, 3, 1))))

    def forward(self, x: Tensor, n_valid: Tensor) -> tuple[Tensor, Tensor | None]:
        tokens = self.tokens(x) + self.place
        if self.spectral:
            return self.norm(self.body(tokens).mean(dim=1)), None
        starts = torch.arange(self.count, device=x.device) * self.patch
        padding = starts >= n_valid[:, None].clamp_min(1)
        tokens = self.body(tokens, src_key_padding_mask=padding)
        weight = (~padding).to(tokens.dtype)[..., None]
        return self.norm((tokens * weight).sum(dim=1) / weight.sum(dim=1)), None


class SegmentEncoder(nn.Module):
    """Transformer over EEG segments (B, S, C, T) -> (B, width) and features of each segment (B, S, width).

    Series become a token by learned filters, squared, averaged and logged, as band power is (Schirrmeister et al. 2017);
    amplitudes by a linear map of their logarithm.
    """

    def __init__(self, shape: tuple[int, ...], width: int, depth: int, heads: int, dropout: float, *, spectral: bool):
        super().__init__()
        segments, channels, length = shape
        self.spectral = spectral
        if spectral:
            self.scaler = Scaler((channels, length), amplitude=True)
            self.enter = nn.Linear(channels * length, width)
        else:
            self.window = min(50, length)
            self.filters = nn.Linear(channels * self.window, width)
            self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.place = nn.Parameter(torch.randn(segments, width) * 0.02)
        self.body = transformer(width, depth, heads, dropout)
        self.norm = nn.LayerNorm(width)

    def wide(self) -> nn.Linear:
        """The map that reads most features at once."""
        return self.enter if self.spectral else self.filters

    def windows(self, x: Tensor) -> Tensor:
        """(B, S, W, C * window) half overlapping windows of series (B, S, C, T)."""
        return x.unfold(-1, self.window, max(1, self.window // 2)).transpose(2, 3).flatten(3)

    def wide_inputs(self, x: Tensor) -> Tensor:
        """What it reads: of amplitudes their mean over segments (B, C * F), standardised; of series every window."""
        if not self.spectral:
            return self.windows(x).flatten(1, 2)
        return self.scaler(x).flatten(2).mean(dim=1)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, S, width) of (B, S, C, T)."""
        if self.spectral:
            return self.enter(self.scaler(x).flatten(2))
        return self.enter(log_power(self.filters(self.windows(x))))

    def forward(self, x: Tensor, n_valid: Tensor) -> tuple[Tensor, Tensor | None]:
        segments = self.body(self.tokens(x) + self.place)
        return self.norm(segments.mean(dim=1)), self.norm(segments)


def make_encoder(modality: str, domain: str, sizes: Architecture) -> nn.Module:
    """The encoder of one modality and domain."""
    shape = tuple(sizes.shapes[f"{modality}/{domain}"])
    if domain == "spatial":
        return GraphEncoder(shape, sizes.width, sizes.density, sizes.dropout, linear_start=sizes.linear_start)
    common = (shape, sizes.width, sizes.depth, sizes.heads, sizes.dropout)
    if modality == "fmri":
        return PatchEncoder(*common, sizes.patch, spectral=domain == "spectral")
    return SegmentEncoder(*common, spectral=domain == "spectral")


class Projector(nn.Module):
    """h -> z of dimension `dim`. With `segments`, each segment's features are reduced, put side by side (figure 2 of the
    paper) and read beside h; their weights start at zero. Side by side alone, drawn at random, 125 segments are 125 times
    one segment's noise, where their mean, h, has a 125th of its variance.

    With `linear_start` a linear map of h is added, and all else begins at zero: a few hundred pairs are learnt by heart by
    what is not linear.
    """

    def __init__(self, width: int, dim: int, segments: int = 0, segment_features: int = 0, *, linear_start: bool = False):
        super().__init__()
        self.enter = nn.Linear(width, width)
        self.leave = nn.Linear(width, dim)
        self.reduce = nn.Linear(width, segment_features) if segments else None
        if segments:
            self.segments = nn.Linear(segments * segment_features, width, bias=False)
            nn.init.zeros_(self.segments.weight)
        self.direct = nn.Linear(width, dim, bias=False) if linear_start else None
        if linear_start:
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor, segments: Tensor | None) -> Tensor:
        hidden = self.enter(h)
        if self.reduce is not None:
            hidden = hidden + self.segments(self.reduce(segments).flatten(1))
        out = self.leave(nn.functional.gelu(hidden))
        return out if self.direct is None else self.direct(h) + out
