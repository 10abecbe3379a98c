"""Views, built in place, are what their formulas say."""

import pytest
import torch

from mcsp.model.augment import Augmentation, augmented, spectral_view, temporal_view
from tests.model.test_model import make_batch

STRENGTH = Augmentation(jitter=0.3, scale=0.2, time_mask=0.3, spectral_removal=0.3, spectral_addition=0.3)


def seeded():
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize(("shape", "mask"), [((5, 6, 20), (5, 1, 20)), ((5, 7, 3, 10), (5, 7, 1, 1))])
def test_a_temporal_view_is_gain_noise_and_mask(shape, mask):
    x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before, generator, over = x.clone(), seeded(), tuple(range(1, len(shape)))
    gain = 1 + 0.2 * torch.randn(len(x), *(1,) * len(over), generator=generator)
    noise = torch.randn(shape, generator=generator)
    kept = torch.rand(mask, generator=generator) >= 0.3
    expected = (x * gain + 0.3 * x.std(dim=over, keepdim=True) * noise) * kept
    torch.testing.assert_close(temporal_view(x, STRENGTH, seeded(), segmented=len(shape) == 4), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(5, 6, 20), (5, 7, 3, 10)])
def test_a_spectral_view_removes_and_raises_components(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    before, generator, centre = x.clone(), seeded(), torch.rand(shape[-2:], generator=torch.Generator().manual_seed(2))
    components = (len(x), *(1,) * (len(shape) - 2), shape[-1])
    kept = torch.rand(components, generator=generator) >= 0.3
    raised = torch.rand(components, generator=generator) < 0.3
    rise = raised * 0.1 * x.amax(dim=-1, keepdim=True) * torch.rand(shape, generator=generator)
    torch.testing.assert_close(spectral_view(x, STRENGTH, seeded(), centre), torch.where(kept, x, centre) + rise)
    assert torch.equal(x, before)


def test_a_constant_series_gets_no_noise():
    x = torch.full((2, 3, 8), 1e3)
    view = temporal_view(x, Augmentation(scale=0, time_mask=0), seeded(), segmented=False)
    torch.testing.assert_close(view, x, rtol=1e-3, atol=0)


def test_two_views_are_two_draws_of_the_same_subjects_one_after_the_other():
    batch, still = make_batch(), Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    same = augmented(batch, still, seeded(), {}, views=2)
    drawn = augmented(batch, STRENGTH, seeded(), {}, views=2)
    for key, x in batch.x.items():
        torch.testing.assert_close(same.x[key], torch.cat([x, x]))
        first, second = drawn.x[key].chunk(2)
        assert not (torch.isclose(first, second) | torch.isclose(first, x)).flatten(1).all(dim=1).any()
    for modality, present in batch.present.items():
        assert drawn.present[modality].tolist() == present.tolist() * 2
        assert drawn.n_valid[modality].tolist() == batch.n_valid[modality].tolist() * 2
