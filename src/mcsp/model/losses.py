"""Self-supervised losses. Similarities and log-softmax are computed in float32, whatever the autocast.

The forms are our reconstruction from the paper's text (arXiv 2409.19130); docs/method.md writes them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mcsp.model.batch import Key, rows_of


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, tau of NT-Xent, T of L_IM and L_KD."""

    id: float = 1.0
    cd: float = 1.0
    im: float = 1.0
    cm: float = 1.0
    cf: float = 1.0
    kd: float = 1.0
    temperature: float = 0.2
    im_temperature: float = 0.2


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy of N pairs: (...) of `a`, `b` (..., N, d); row i of both is one subject.

    Positives are the two views of a subject; negatives are all other subjects' views. 0 for fewer than 2 pairs.
    Source: Chen et al. 2020 (SimCLR), eq. 1.
    """
    n = a.shape[-2]
    if n < 2:
        return (a + b).sum((-2, -1)) * 0.0
    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(torch.cat([a, b], dim=-2).float(), dim=-1)
        similarity = z @ z.mT / temperature
        similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
        likely = F.log_softmax(similarity, dim=-1)
        return -(likely.diagonal(n, -2, -1) + likely.diagonal(-n, -2, -1)).sum(dim=-1) / (2 * n)


def _divergence(found: Tensor, target: Tensor) -> Tensor:
    """KL divergence of log-distributions (..., N, K) from `target`, the mean over N: (...)."""
    return F.kl_div(found, target, log_target=True, reduction="none").sum((-2, -1)) / found.shape[-2]


def similarity_distillation(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """L_IM of one domain: KL divergence between the two modalities' distributions over the other subjects of the batch,
    both directions, the teacher side detached: (...) of `a`, `b` (..., N, d); row i of both is one subject. 0 for fewer than 3.
    """
    n = a.shape[-2]
    if n < 3:  # with one other subject both distributions are certain
        return (a + b).sum((-2, -1)) * 0.0
    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(torch.stack([a, b]).float(), dim=-1)
        self_pair = torch.eye(n, dtype=torch.bool, device=a.device)
        distributions = F.log_softmax((z @ z.mT / temperature).masked_fill(self_pair, -1e9), dim=-1)
        return _divergence(distributions, distributions.flip(0).detach()).sum(dim=0) / 2


def fuse(z: dict[Key, Tensor], present: dict[str, Tensor]) -> Tensor:
    """One unit vector (B, d) per subject in float32: the mean of its unit-length projections of all domains of the
    modalities it has, normalised; zero for a subject with none. What a subject lacks is left out, not imputed.
    """
    some = next(iter(z.values()))
    with torch.autocast(some.device.type, enabled=False):
        own = torch.stack([present[m] for m, _ in z]).to(some.device, torch.float32, non_blocking=True)
        return F.normalize((F.normalize(torch.stack(list(z.values())).float(), dim=-1) * own[..., None]).sum(dim=0), dim=1)


def teacher_distillation(z: Tensor, own: Tensor | None, teacher: Tensor, temperature: float) -> Tensor:
    """L_KD of students: KL divergence from the teacher's to the student's distribution over the subjects of the batch, (...).

    `teacher`: (B, d) fused embeddings t of all subjects; `z`: (..., n, d) students' projections of n of them, `own` (n) their
    rows, None for all. The teacher's distribution is the softmax of s(t_i, t_j) / temperature over all j, the subject itself
    among them, the student's that of s(z_i, t_j) / temperature: it is lowest where z_i = t_i. No gradient reaches the teacher.
    0 for fewer than 2 subjects in the batch. Source: Fang et al. 2021 (SEED), with the batch in the place of the queue.
    """
    if len(teacher) < 2 or z.shape[-2] == 0:
        return z.sum((-2, -1)) * 0.0
    with torch.autocast(z.device.type, enabled=False):
        t = F.normalize(teacher.detach().float(), dim=1)
        target = F.log_softmax((t if own is None else t[own]) @ t.T / temperature, dim=-1)
        found = F.log_softmax(F.normalize(z.float(), dim=-1) @ t.T / temperature, dim=-1)
        return _divergence(found, target.expand_as(found))


Pairs = tuple[Tensor, Tensor]  # (K, n, d) each: K comparisons of n subjects


def _stacked(values: Iterable[Tensor], rows: Tensor | None) -> Tensor:
    """Embeddings (K, n, d) of the subjects `rows`, None for all, of K times (B, d)."""
    z = torch.stack(list(values))
    return z if rows is None else z[:, rows]


def _contrasts(pairs: Mapping[str, Pairs], temperature: float) -> dict[str, Tensor]:
    """NT-Xent of each term, the sum over its pairs. All that compare equally many subjects are worked out at once."""
    terms: dict[str, Tensor] = {}
    for n in dict.fromkeys(a.shape[1] for a, _ in pairs.values()):
        group = {name: sides for name, sides in pairs.items() if sides[0].shape[1] == n}
        firsts, seconds = zip(*group.values())
        values = nt_xent(torch.cat(firsts), torch.cat(seconds), temperature).split([len(a) for a in firsts])
        terms |= {name: value.sum() for name, value in zip(group, values)}
    return terms


def _between(
    z: dict[Key, Tensor], present: dict[str, Tensor], weights: LossWeights
) -> tuple[dict[str, Pairs], dict[str, Tensor]]:
    """(what L_CM and L_CF compare, the terms of L_IM) of those who have both modalities."""
    pairs: dict[str, Pairs] = {}
    terms: dict[str, Tensor] = {}
    first, second = modalities = list(dict.fromkeys(m for m, _ in z))
    shared = [d for m, d in z if m == first and (second, d) in z]
    rows = rows_of(present[first] & present[second], next(iter(z.values())).device)
    if shared and (weights.im or weights.cm):
        sides = tuple(_stacked((z[m, d] for d in shared), rows) for m in modalities)
        if weights.im:
            values = similarity_distillation(*sides, weights.im_temperature).unbind()
            terms |= {f"im_{d}": value for d, value in zip(shared, values)}
        if weights.cm:
            pairs |= {f"cm_{d}": tuple(side[i : i + 1] for side in sides) for i, d in enumerate(shared)}
    if weights.cf and len(z) > 2:  # of one domain it is L_CM
        whole = (fuse({key: v for key, v in z.items() if key[0] == m}, present) for m in modalities)
        pairs["cf_all"] = tuple(_stacked([side], rows) for side in whole)
    return pairs, terms


def mcsp_losses(
    z: dict[Key, Tensor],
    z_view: dict[Key, Tensor],
    present: dict[str, Tensor],
    weights: LossWeights,
    teacher: Tensor | None = None,
) -> dict[str, Tensor]:
    """All terms by name (`id_fmri`, `cd_eeg`, `im_spatial`, `cm_spectral`, `cf_all`, `kd_fmri`, ..., and the weighted
    `total`).

    `z`, `z_view`: (modality, domain) -> (B, d) projections of two views; L_ID compares them, all other terms read `z`.
    `teacher`: (B, d), what the teacher makes of all that each subject has; without it there is no L_KD. Rows of subjects
    without the modality are left out, so their gradient is exactly zero.
    """
    terms: dict[str, Tensor] = {}
    pairs: dict[str, Pairs] = {}
    modalities = list(dict.fromkeys(m for m, _ in z))
    for m in modalities:
        keys = [key for key in z if key[0] == m]
        rows = rows_of(present[m], z[keys[0]].device)
        own = _stacked((z[key] for key in keys), rows)
        if weights.id:
            pairs[f"id_{m}"] = own, _stacked((z_view[key] for key in keys), rows)
        if weights.cd and len(keys) > 1:
            firsts, seconds = zip(*combinations(own.unbind(), 2))
            pairs[f"cd_{m}"] = torch.stack(firsts), torch.stack(seconds)
        if weights.kd and teacher is not None:
            terms[f"kd_{m}"] = teacher_distillation(own, rows, teacher, weights.im_temperature).sum()
    if len(modalities) == 2:
        between, more = _between(z, present, weights)
        pairs, terms = pairs | between, terms | more
    terms |= _contrasts(pairs, weights.temperature)
    weighted = [value if (w := getattr(weights, name.split("_")[0])) == 1 else w * value for name, value in terms.items()]
    terms["total"] = torch.stack([next(iter(z.values())).sum() * 0.0, *weighted]).sum()
    return terms
