"""Self-supervised losses. Similarities and log-softmax are computed in float32, whatever the autocast.

The forms are our reconstruction from the paper's text (arXiv 2409.19130); docs/method.md writes them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mcsp.model.batch import Key


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
    """Normalised temperature-scaled cross entropy of N pairs. `a`, `b`: (N, d); row i of both is one subject.

    Positives are the two views of a subject; negatives are all other subjects' views. 0 for fewer than 2 pairs.
    Source: Chen et al. 2020 (SimCLR), eq. 1.
    """
    n = len(a)
    if n < 2:
        return (a.sum() + b.sum()) * 0.0
    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(torch.cat([a, b]).float(), dim=1)
        similarity = z @ z.T / temperature
        similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
        target = torch.arange(2 * n, device=z.device).roll(n)
        return F.cross_entropy(similarity, target)


def similarity_distillation(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """L_IM of one domain: KL divergence between the two modalities' distributions over the other subjects of the batch,
    both directions, the teacher side detached. `a`, `b`: (N, d), row i of both is one subject. 0 for fewer than 3.
    """
    n = len(a)
    if n < 3:  # with one other subject both distributions are certain
        return (a.sum() + b.sum()) * 0.0
    with torch.autocast(a.device.type, enabled=False):
        self_pair = torch.eye(n, dtype=torch.bool, device=a.device)

        def log_distribution(z: Tensor) -> Tensor:
            z = F.normalize(z.float(), dim=1)
            return F.log_softmax((z @ z.T / temperature).masked_fill(self_pair, -1e9), dim=1)

        first, second = log_distribution(a), log_distribution(b)
        forward = F.kl_div(first, second.detach(), log_target=True, reduction="batchmean")
        backward = F.kl_div(second, first.detach(), log_target=True, reduction="batchmean")
        return (forward + backward) / 2


def fuse(z: dict[Key, Tensor], present: dict[str, Tensor]) -> Tensor:
    """One unit vector (B, d) per subject in float32: the mean of its unit-length projections of all domains of the
    modalities it has, normalised; zero for a subject with none. What a subject lacks is left out, not imputed.
    """
    some = next(iter(z.values()))
    with torch.autocast(some.device.type, enabled=False):
        return F.normalize(
            sum(F.normalize(v.float(), dim=1) * present[m].to(v.device)[:, None] for (m, _), v in z.items()), dim=1
        )


def teacher_distillation(z: Tensor, own: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """L_KD of one student: KL divergence from the teacher's to the student's distribution over the subjects of the batch.

    `teacher`: (B, d) fused embeddings t of all subjects; `z`: (n, d) the student's projections of n of them, `own` (n) their
    rows. The teacher's distribution is the softmax of s(t_i, t_j) / temperature over all j, the subject itself among them,
    the student's that of s(z_i, t_j) / temperature: it is lowest where z_i = t_i. No gradient reaches the teacher. 0 for
    fewer than 2 subjects in the batch. Source: Fang et al. 2021 (SEED), with the batch in the place of the queue.
    """
    if len(teacher) < 2 or len(z) == 0:
        return z.sum() * 0.0
    with torch.autocast(z.device.type, enabled=False):
        t = F.normalize(teacher.detach().float(), dim=1)
        target = F.log_softmax(t[own] @ t.T / temperature, dim=1)
        found = F.log_softmax(F.normalize(z.float(), dim=1) @ t.T / temperature, dim=1)
        return F.kl_div(found, target, log_target=True, reduction="batchmean")


def mcsp_losses(
    h: dict[Key, Tensor],
    h_view: dict[Key, Tensor],
    z: dict[Key, Tensor],
    present: dict[str, Tensor],
    weights: LossWeights,
    teacher: Tensor | None = None,
) -> dict[str, Tensor]:
    """All terms by name (`id_fmri`, `cd_eeg`, `im_spatial`, `cm_spectral`, `cf_all`, `kd_fmri`, ..., and the weighted
    `total`).

    `h`, `h_view`: (modality, domain) -> (B, d) projected for L_ID, of two views; `z`: the same for the cross
    terms. `teacher`: (B, d), what the teacher makes of all that each subject has; without it there is no L_KD. Rows of subjects
    without the modality are left out, so their gradient is exactly zero.
    """
    terms: dict[str, Tensor] = {}
    modalities = list(dict.fromkeys(m for m, _ in z))
    for m in modalities:
        domains = [d for mod, d in z if mod == m]
        rows = present[m]
        if weights.id:
            terms[f"id_{m}"] = sum(nt_xent(h[m, d][rows], h_view[m, d][rows], weights.temperature) for d in domains)
        if weights.cd and len(domains) > 1:
            pairs = combinations(domains, 2)
            terms[f"cd_{m}"] = sum(nt_xent(z[m, a][rows], z[m, b][rows], weights.temperature) for a, b in pairs)
        if weights.kd and teacher is not None:
            own = torch.nonzero(rows).squeeze(1)
            students = (teacher_distillation(z[m, d][rows], own, teacher, weights.im_temperature) for d in domains)
            terms[f"kd_{m}"] = sum(students)
    if len(modalities) == 2:
        first, second = modalities
        both = present[first] & present[second]
        for d in (d for m, d in z if m == first and (second, d) in z):
            pair = z[first, d][both], z[second, d][both]
            if weights.im:
                terms[f"im_{d}"] = similarity_distillation(*pair, weights.im_temperature)
            if weights.cm:
                terms[f"cm_{d}"] = nt_xent(*pair, weights.temperature)
        if weights.cf and len(z) > 2:  # of one domain it is L_CM
            whole = (fuse({key: v for key, v in z.items() if key[0] == m}, present)[both] for m in modalities)
            terms["cf_all"] = nt_xent(*whole, weights.temperature)
    zero = next(iter(z.values())).sum() * 0.0
    terms["total"] = sum((getattr(weights, name.split("_")[0]) * value for name, value in terms.items()), zero)
    return terms
