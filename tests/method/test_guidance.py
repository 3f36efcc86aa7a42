"""The formula and the mask of the anonymization guidance."""

import pytest
import torch

from camouflage.method.guidance import anonymize, scale_map


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 8, 6, generator=generator), torch.randn(2, 4, 8, 6, generator=generator)


def test_both_weights_sum_to_one(predictions):
    text, identity = predictions
    expected = 1.25 * text.double() - 0.25 * identity.double()
    assert torch.allclose(anonymize(text, identity, 1.25).double(), expected, atol=1e-6)
    assert torch.equal(anonymize(text, identity, 0.0), identity)
    same = anonymize(text, text, 3.0)
    assert torch.equal(same, text)


def test_it_is_the_same_formula_on_noise_predictions(predictions):
    text, identity = (p.double() for p in predictions)
    x, sigma = torch.randn_like(text), 3.7
    noise = [(x - d) / sigma for d in (text, identity)]
    assert torch.allclose(x - sigma * anonymize(*noise, 1.25), anonymize(text, identity, 1.25))


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.25, 1.3, 2.9])
def test_a_mask_of_ones_is_no_mask_and_zeros_are_no_guidance(predictions, scale):
    text, identity = predictions
    ones = scale_map(torch.ones(64, 48), scale, text.shape)
    zeros = scale_map(torch.zeros(64, 48), scale, text.shape)
    assert torch.equal(anonymize(text, identity, ones), anonymize(text, identity, scale))
    assert torch.equal(anonymize(text, identity, zeros), text)


def test_mask_lies_where_it_was_drawn_and_keeps_soft_edges():
    mask = torch.zeros(64, 48)
    mask[16:24, 40:48] = 1.0  # exactly latent cell (2, 5)
    mask[8:12, 0:8] = 1.0  # half of cell (1, 0)
    mask[63, 3] = 1.0  # one pixel: weak, but not lost
    scales = scale_map(mask, 2.0, torch.Size((1, 4, 8, 6)))[0, 0]
    assert scales[2, 5] == 2.0
    assert scales[1, 0] == 1.5
    assert scales[7, 0] == pytest.approx(1 + 1 / 64)
    expected_ones = torch.ones(8, 6, dtype=torch.bool)
    expected_ones[2, 5] = expected_ones[1, 0] = expected_ones[7, 0] = False
    assert torch.equal(scales == 1, expected_ones)


def test_masks_repeat_as_the_host_repeats_pictures():
    masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    scales = scale_map(masks, 1.5, torch.Size((4, 4, 1, 1)))
    assert scales.flatten().tolist() == [1.0, 1.5, 1.0, 1.5]


def test_a_video_latent_gets_a_frame_axis():
    scales = scale_map(torch.ones(16, 16), 1.5, torch.Size((1, 16, 5, 2, 2)))
    assert scales.shape == (1, 1, 1, 2, 2)
