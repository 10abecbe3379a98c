"""Attention between regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConnectivityTransformer(nn.Module):
    """Attention between regions, whose features are their rows of the connectivity matrix, and a readout by clusters.

    After the Brain Network Transformer (Kan et al. 2022, NeurIPS 35). Kept: no positions (a region's row says which it is, so
    rows must not be centred), and the orthonormal clustering readout, with fixed orthonormal centres to which regions are
    softly assigned. Simplified: rows are first mapped to `width`, layers are the usual pre-norm ones, few clusters, and one
    linear map at the end.
    """

    def __init__(
        self, shape: Sequence[int], width: int = 48, layers: int = 2, heads: int = 4, clusters: int = 8, dropout: float = 0.3
    ):
        super().__init__()
        self.read = nn.Sequential(nn.Linear(shape[-1], width), nn.Dropout(dropout))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.attend = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.register_buffer("centres", nn.init.orthogonal_(torch.empty(clusters, width)))
        self.out = nn.Linear(clusters * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) of matrices (B, R, R)."""
        h = self.attend(self.read(x))
        share = (h @ self.centres.T).softmax(dim=-1)  # (B, R, cluster)
        return self.out((share.transpose(1, 2) @ h).flatten(1) / x.shape[1]).squeeze(1)
