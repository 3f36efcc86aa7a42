"""Checks, flattening and working sizes of pictures."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pack.camouflage.errors import CamouflageError
from pack.camouflage.images import annotation_size, as_rgb, check_sides, normalise, resize, working_size

SIDES = st.integers(min_value=64, max_value=4096)


def test_rgb_passes_unchanged():
    image = torch.rand(3, 8, 9, 3)
    assert torch.equal(as_rgb(image, "image"), image)


def test_greyscale_is_repeated():
    image = torch.rand(1, 8, 9, 1)
    assert torch.equal(as_rgb(image, "image"), torch.cat([image] * 3, dim=-1))


def test_transparency_is_flattened_on_white_and_hides_what_it_hid():
    secret = torch.rand(1, 4, 4, 3)
    hidden = torch.cat([secret, torch.zeros(1, 4, 4, 1)], dim=-1)
    assert torch.equal(as_rgb(hidden, "image"), torch.ones(1, 4, 4, 3))
    half = torch.cat([torch.zeros(1, 4, 4, 3), torch.full((1, 4, 4, 1), 0.25)], dim=-1)
    assert torch.allclose(as_rgb(half, "image"), torch.full((1, 4, 4, 3), 0.75))


def test_out_of_range_is_clamped():
    assert as_rgb(torch.tensor([[[[-1.0, 0.5, 2.0]]]]), "image").flatten().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_names_socket_and_picture(bad):
    images = torch.rand(3, 8, 8, 3)
    images[1, 2, 3, 0] = bad
    with pytest.raises(CamouflageError, match=r"'photo'.*NaN or infinite.*picture 1"):
        as_rgb(images, "photo")


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 2), (1, 3, 8, 8), (2, 1, 8, 8, 3)])
def test_no_picture_says_what_came(shape):
    with pytest.raises(CamouflageError, match=r"'image' wants pictures.*" + str(shape).replace("(", r"\(")[:6]):
        as_rgb(torch.zeros(shape), "image")


def test_empty_batch():
    with pytest.raises(CamouflageError, match="empty"):
        as_rgb(torch.zeros(0, 8, 8, 3), "image")


def test_sides():
    check_sides(torch.zeros(1, 64, 4096, 3), "image")
    with pytest.raises(CamouflageError, match="4000 x 1 px"):
        check_sides(torch.zeros(1, 1, 4000, 3), "image")
    with pytest.raises(CamouflageError, match="4097"):
        check_sides(torch.zeros(1, 64, 4097, 3), "image")


@given(height=SIDES, width=SIDES, side=st.integers(min_value=256, max_value=1536))
@settings(max_examples=300, deadline=None)
def test_working_size(height, width, side):
    try:
        h, w = working_size(height, width, side)
    except CamouflageError:
        assert side * min(height, width) / max(height, width) < 64
        return
    assert h % 64 == 0 and w % 64 == 0 and min(h, w) >= 64
    assert abs(max(h, w) - side) <= 32
    assert (h >= w) == (height >= width) or h == w
    short = max(h, w) * min(height, width) / max(height, width)
    assert abs(min(h, w) - short) <= 32


def test_working_size_of_common_shapes():
    assert working_size(1024, 1024, 768) == (768, 768)
    assert working_size(2000, 3000, 768) == (512, 768)
    assert working_size(64, 64, 768) == (768, 768)
    with pytest.raises(CamouflageError, match="4000 x 1 px"):
        working_size(1, 4000, 768)


@given(height=SIDES, width=SIDES, multiple=st.sampled_from([14, 32, 64]))
@settings(max_examples=300, deadline=None)
def test_annotation_size_is_bounded(height, width, multiple):
    h, w = annotation_size(height, width, 512, multiple)
    assert h % multiple == 0 and w % multiple == 0
    assert multiple <= min(h, w) and max(h, w) <= 2048 + multiple


def test_resize_there_and_back_keeps_a_ramp():
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand(1, 64, 64, 3)
    assert (resize(resize(ramp, 128, 128), 64, 64) - ramp).abs().max() < 0.01
    assert resize(ramp, 64, 64) is ramp


def test_normalise_stretches_each_picture_and_survives_a_constant_one():
    values = torch.stack([torch.full((2, 2), 7.0), torch.tensor([[1.0, 2.0], [3.0, 5.0]])])
    assert normalise(values).tolist() == [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.25], [0.5, 1.0]]]
