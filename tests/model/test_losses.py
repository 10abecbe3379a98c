"""Losses against pytorch-metric-learning, against closed forms, and their invariants."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from mcsp.model.losses import LossWeights, fuse, mcsp_losses, nt_xent, similarity_distillation, teacher_distillation

KEYS = [(m, d) for m in ("fmri", "eeg") for d in ("spatial", "temporal", "spectral")]


def vectors(seed=0, n=8, d=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


def study(n=8, d=16, seed=0):
    """Projections, who has what, and a teacher's embeddings."""
    generator = torch.Generator().manual_seed(seed)
    z = {key: torch.randn(n, d, generator=generator, requires_grad=True) for key in KEYS}
    present = {"fmri": torch.arange(n) < 6, "eeg": torch.arange(n) >= 2}
    return z, present, torch.randn(n, d, generator=generator)


def taught(a, b, temperature):
    """L_KD of student `a` with teacher `b`, everybody present."""
    return teacher_distillation(a, torch.arange(len(a)), b, temperature)


def loss_of_stacks(loss, a, b):
    """(K,) of K comparisons (K, n, d); L_KD compares several students with one teacher."""
    if loss is not taught:
        return loss(a, b, 0.3)
    return torch.stack([teacher_distillation(a, None, teacher, 0.3)[i] for i, teacher in enumerate(b)])


PAIRWISE = pytest.mark.parametrize("loss", [nt_xent, similarity_distillation, taught])


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_nt_xent_equals_pytorch_metric_learning(temperature):
    a, b = vectors()
    labels = torch.arange(len(a)).repeat(2)
    expected = NTXentLoss(temperature)(torch.cat([a, b]), labels)
    torch.testing.assert_close(nt_xent(a, b, temperature), expected)


def test_nt_xent_of_orthogonal_pairs_has_a_closed_form():
    a = torch.eye(4)
    expected = -math.log(math.exp(1 / 0.2) / (math.exp(1 / 0.2) + 6))
    assert nt_xent(a, a, 0.2).item() == pytest.approx(expected, rel=1e-6)


@PAIRWISE
def test_order_of_the_batch_does_not_matter(loss):
    a, b = vectors()
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(a, b, 0.3), loss(a[order], b[order], 0.3))


@PAIRWISE
def test_several_comparisons_at_once_cost_what_each_does_alone(loss):
    a, b = torch.stack(vectors(1)), torch.stack(vectors(2))
    for i, value in enumerate(loss_of_stacks(loss, a, b)):
        torch.testing.assert_close(value, loss(a[i], b[i], 0.3))


@PAIRWISE
def test_aligned_pairs_cost_less_than_shuffled_ones(loss):
    a, noise = vectors()
    b = a + 0.1 * noise
    assert loss(a, b, 0.2) < loss(a, b.roll(1, 0), 0.2)


def test_distillation_of_equal_sides_is_zero_and_its_gradient_reaches_both():
    a, b = (v.requires_grad_() for v in vectors())
    assert similarity_distillation(a, a, 0.5).item() == pytest.approx(0, abs=1e-6)
    similarity_distillation(a, b, 0.5).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad.abs().sum() > 0


def test_distillation_equals_a_slow_float64_version():
    a, b = (v.double() for v in vectors(n=5))

    def distribution(z, i):
        z = z / z.norm(dim=1, keepdim=True)
        others = [j for j in range(len(z)) if j != i]
        weights = [math.exp(float(z[i] @ z[j]) / 0.5) for j in others]
        return [w / sum(weights) for w in weights]

    total = 0.0
    for i in range(5):
        p, q = distribution(a, i), distribution(b, i)
        total += sum(y * math.log(y / x) for x, y in zip(p, q)) + sum(x * math.log(x / y) for x, y in zip(p, q))
    assert similarity_distillation(a.float(), b.float(), 0.5).item() == pytest.approx(total / 10, rel=1e-4)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pairs_cost_nothing_and_do_not_break_the_gradient(n):
    a = torch.randn(n, 4, requires_grad=True)
    for loss in (nt_xent, similarity_distillation, taught):
        value = loss(a, a * 2, 0.2)
        assert value.item() == 0
        value.backward()


def test_gradient_is_exactly_zero_where_a_modality_is_missing():
    z, present, teacher = study()
    view = {key: value * 1.1 + 0.1 for key, value in z.items()}
    mcsp_losses(z, view, present, LossWeights(), teacher)["total"].backward()
    for (modality, _), value in z.items():
        missing = ~present[modality]
        assert (value.grad[missing] == 0).all()
        assert (value.grad[present[modality]] != 0).any(dim=1).all()


def test_cross_modal_terms_need_both_modalities():
    z, present, teacher = study()
    view = {key: value.detach() for key, value in z.items()}
    terms = mcsp_losses(z, view, present, LossWeights(id=0, cd=0, kd=0), teacher)
    by_domain = {f"{kind}_{d}" for kind in ("im", "cm") for d in ("spatial", "temporal", "spectral")}
    assert set(terms) == {"total", "cf_all"} | by_domain
    terms["total"].backward()
    both = present["fmri"] & present["eeg"]
    for value in z.values():
        assert (value.grad[~both] == 0).all()
        assert (value.grad[both] != 0).any()


@pytest.mark.parametrize("term", ["id", "cd", "im", "cm", "cf", "kd"])
def test_terms_are_weighted_and_switched_off_alone(term):
    z, present, teacher = study()
    view = {key: value.flip(1) for key, value in z.items()}
    base = mcsp_losses(z, view, present, LossWeights(), teacher)
    off = mcsp_losses(z, view, present, LossWeights(**{term: 0.0}), teacher)
    assert not any(name.startswith(term) for name in off)
    own = sum(value for name, value in base.items() if name.startswith(term))
    torch.testing.assert_close(base["total"] - off["total"], own)
    twice = mcsp_losses(z, view, present, LossWeights(**{term: 2.0}), teacher)
    torch.testing.assert_close(twice["total"] - base["total"], own)


def test_the_fused_term_compares_the_mean_directions_of_those_who_have_both():
    z, present, teacher = study()
    terms = mcsp_losses(z, z, present, LossWeights(), teacher)
    both = (present["fmri"] & present["eeg"]).numpy()
    whole = []
    for modality in ("fmri", "eeg"):
        parts = [value.detach().double().numpy()[both] for key, value in z.items() if key[0] == modality]
        mean = sum(part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts)
        whole.append(torch.from_numpy(mean))
    assert terms["cf_all"].item() == pytest.approx(nt_xent(*whole, LossWeights().temperature).item(), rel=1e-5)
    one = {key: value for key, value in z.items() if key[1] == "spatial"}
    assert "cf_all" not in mcsp_losses(one, one, present, LossWeights(), teacher)  # it would be cm_spatial again


def test_one_modality_alone_works():
    z, present, teacher = study()
    z = {key: value for key, value in z.items() if key[0] == "eeg"}
    terms = mcsp_losses(z, z, {"eeg": present["eeg"]}, LossWeights(), teacher)
    assert set(terms) == {"id_eeg", "cd_eeg", "kd_eeg", "total"}


@PAIRWISE
def test_finite_in_bf16_autocast_at_a_low_temperature(loss):
    a, noise = vectors(n=32)
    b = a + 1e-3 * noise
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(a.bfloat16(), b.bfloat16(), 0.05)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    torch.testing.assert_close(value, loss(a.bfloat16().float(), b.bfloat16().float(), 0.05))


def test_teacher_distillation_equals_a_slow_float64_version():
    z, t = (v.double() for v in vectors(n=6))
    own = torch.tensor([1, 2, 5])

    def distribution(query):
        weights = [math.exp(float(query @ v / query.norm() / v.norm()) / 0.5) for v in t]
        return [w / sum(weights) for w in weights]

    total = 0.0
    for i in own.tolist():
        p, q = distribution(t[i]), distribution(z[i])
        total += sum(x * math.log(x / y) for x, y in zip(p, q))
    found = teacher_distillation(z[own].float(), own, t.float(), 0.5)
    assert found.item() == pytest.approx(total / 3, rel=1e-4)


def test_a_student_like_the_teacher_costs_nothing_and_the_teacher_gets_no_gradient():
    a, b = (v.requires_grad_() for v in vectors())
    assert taught(a, a, 0.5).item() == pytest.approx(0, abs=1e-6)
    taught(a, b, 0.5).backward()
    assert a.grad.abs().sum() > 0
    assert b.grad is None


def test_a_subject_with_one_modality_learns_from_the_teacher_and_stands_in_its_distribution():
    z, present, teacher = study()
    weights = LossWeights(id=0, cd=0, im=0, cm=0, cf=0)
    mcsp_losses(z, z, present, weights, teacher)["total"].backward()
    for (modality, _), value in z.items():
        assert (value.grad[~present[modality]] == 0).all()
        assert (value.grad[present[modality]] != 0).any(dim=1).all()  # also the two without the other modality
    moved = teacher.clone()
    moved[7] += 1.0  # without fMRI
    terms = [mcsp_losses(z, z, present, weights, t)["kd_fmri"] for t in (teacher, moved)]
    assert terms[0] != terms[1]


def test_fused_embeddings_leave_out_what_is_missing():
    z, present, _ = study()
    t = fuse(z, present)
    torch.testing.assert_close(t.norm(dim=1), torch.ones(8))
    own = sum(z["fmri", d][0] / z["fmri", d][0].norm() for _, d in KEYS[:3])  # subject 0 has fMRI only
    torch.testing.assert_close(t[0], own / own.norm())
    nobody = {"fmri": torch.zeros(8, dtype=torch.bool), "eeg": present["eeg"]}
    assert (fuse(z, nobody)[:2] == 0).all()


def test_all_terms_do_not_depend_on_the_order_of_subjects():
    z, present, teacher = study()
    view = {key: value.flip(1) for key, value in z.items()}
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    before = mcsp_losses(z, view, present, LossWeights(), teacher)
    z, view = ({key: value[order] for key, value in part.items()} for part in (z, view))
    after = mcsp_losses(z, view, {m: p[order] for m, p in present.items()}, LossWeights(), teacher[order])
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)


def test_views_of_a_subject_are_never_its_negatives():
    """The same as a slow version whose negatives are picked by subject, so that no view of the own subject can be one."""
    a, b = (v.double() for v in vectors(n=5))
    views = [(i, v / v.norm()) for side in (a, b) for i, v in enumerate(side)]
    total = 0.0
    for index, (subject, u) in enumerate(views):
        positive = math.exp(next(float(u @ v) for j, (i, v) in enumerate(views) if i == subject and j != index) / 0.2)
        negatives = [math.exp(float(u @ v) / 0.2) for i, v in views if i != subject]
        total -= math.log(positive / (positive + sum(negatives)))
    assert nt_xent(a, b, 0.2).item() == pytest.approx(total / 10, rel=1e-6)
