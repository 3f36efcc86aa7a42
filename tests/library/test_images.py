"""Checks, flattening and working sizes of pictures, and pictures that are almost one colour."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from camouflage import images as pictures
from camouflage.errors import CamouflageError
from camouflage.images import (
    MAX_PIXELS,
    annotation_size,
    as_rgb,
    bands,
    centre_square,
    check_megapixels,
    check_sides,
    colour_name,
    nearly_one_colour,
    normalise,
    resize,
    working_size,
)

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
    image = torch.tensor([[[[-1.0, 0.5, 2.0]]]])
    assert as_rgb(image, "image").flatten().tolist() == [0.0, 0.5, 1.0]
    assert image.flatten().tolist() == [-1.0, 0.5, 2.0], "the input stays as it is"


@pytest.mark.parametrize("channels", [1, 3])
def test_what_needs_no_change_is_not_copied(channels):
    image = torch.rand(2, 8, 9, channels)
    assert as_rgb(image, "image").data_ptr() == image.data_ptr()
    assert as_rgb(image * 2, "image").max() == 1.0


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_working_in_bands_changes_nothing(monkeypatch, channels, dtype):
    monkeypatch.setattr(pictures, "BAND", 50)
    images = (torch.rand(2, 37, 23, channels, generator=torch.Generator().manual_seed(channels)) * 3 - 1).to(dtype)
    whole = images.float().clamp(0.0, 1.0)
    if channels == 4:
        whole = whole[..., :3] * whole[..., 3:] + (1.0 - whole[..., 3:])
    assert torch.equal(as_rgb(images, "image"), whole.expand(-1, -1, -1, 3))
    images[1, 36, 22, 0] = float("-inf")
    with pytest.raises(CamouflageError, match=r"infinite pixels in picture 1 \("):
        as_rgb(images, "image")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 3), (1000, 70_000), (70_000, 1000), (10_000, 10_000)])
def test_bands_are_all_rows_once_and_none_is_large(height, width):
    found = list(bands(height, width))
    assert [row for rows in found for row in range(height)[rows]] == list(range(height))
    assert max((rows.stop - rows.start) * width for rows in found) <= max(1 << 21, width)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_names_socket_and_picture(bad):
    images = torch.rand(3, 8, 8, 3)
    images[1, 2, 3, 0] = bad
    with pytest.raises(CamouflageError, match=r"'photo'.*NaN or infinite.*picture 1"):
        as_rgb(images, "photo")


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 2), (1, 3, 8, 8), (2, 1, 8, 8, 3)])
def test_no_picture_says_what_came(shape):
    with pytest.raises(CamouflageError, match=r"'image' must be pictures.*" + str(shape).replace("(", r"\(")[:6]):
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


@pytest.mark.parametrize(("height", "width"), [(64, 64), (4284, 5712), (10_000, 10_000), (1525, 65_535)])
def test_photos_up_to_100_megapixels_are_taken(height, width):
    check_megapixels(torch.zeros(1).expand(1, height, width, 3), "image")


@pytest.mark.parametrize(("height", "width", "text"), [
    (63, 4000, "'photo' is 4000 x 63 px, but both sides must have at least 64 px"),
    (10_001, 10_000, r"'photo' is 10000 x 10001 px, 100\.0 megapixels, but at most 100 megapixels .* Scale it down"),
    (11_648, 8736, r"101\.8 megapixels"),
    (65_536, 64, "'photo' is 64 x 65536 px.* 65535 px a side")])
def test_other_sizes_are_refused(height, width, text):
    with pytest.raises(CamouflageError, match=text):
        check_megapixels(torch.zeros(1).expand(1, height, width, 3), "photo")


def test_the_least_side_is_the_callers():
    check_megapixels(torch.zeros(1, 1, 8, 3), "image", min_side=1)
    with pytest.raises(CamouflageError, match="at least 9 px"):
        check_megapixels(torch.zeros(1, 100, 8, 3), "image", min_side=9)


@given(height=SIDES, width=SIDES, side=st.integers(min_value=256, max_value=1536))
@settings(max_examples=300)
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


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_square_at_the_centre(height, width):
    images = torch.arange(2 * height * width * 3).view(2, height, width, 3)
    square = centre_square(images)
    side = min(height, width)
    assert square.shape == (2, side, side, 3)
    first = divmod(int(square[0, 0, 0, 0]) // 3, width)  # row and column of its corner
    cut = np.array([first, (height - side - first[0], width - side - first[1])])  # before it and after it
    assert cut.min() == 0 and set(cut[1] - cut[0]) <= {0, 1}
    assert torch.equal(square, images[:, first[0]:first[0] + side, first[1]:first[1] + side])


@given(height=SIDES, width=SIDES, multiple=st.sampled_from([14, 32, 64]))
@settings(max_examples=300)
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


# --- almost one colour ------------------------------------------------------------------------------------------


def grey(picture: np.ndarray) -> np.ndarray:
    return np.stack([picture] * 3, axis=-1)


def plain(level: int, other: float = 0.0, height: int = 200, width: int = 300) -> np.ndarray:
    """A grey picture, of which a share is of other greys, spread out."""
    random = np.random.default_rng(level)
    levels = np.full(height * width, level)
    levels[random.permutation(height * width)[:round(other * height * width)]] = 255 - level
    return grey(levels.reshape(height, width).astype(np.uint8))


@pytest.mark.parametrize("name", ["page", "text", "moon", "coins", "camera", "clock", "brick"])
def test_a_photo_is_not_one_colour_but_is_once_it_was_clipped(name):
    photo = getattr(data, name)()
    assert not nearly_one_colour(grey(photo))
    clipped = Image.fromarray(photo.astype(np.uint16) * 257).convert("RGB")  # what the host's loader does
    assert nearly_one_colour(np.asarray(clipped)) and colour_name(np.asarray(clipped)) == "white"
    dark = Image.fromarray((photo / 255).astype(np.float32)).convert("RGB")
    assert nearly_one_colour(np.asarray(dark)) and colour_name(np.asarray(dark)) == "black"


def test_a_portrait_and_a_page_of_sparse_text_are_not_one_colour():
    assert not nearly_one_colour(data.astronaut())
    assert not nearly_one_colour(plain(255, 0.02)), "2 % of ink"


@pytest.mark.parametrize(("level", "name"), [(0, "black"), (255, "white"), (100, "rgb(100, 100, 100)")])
def test_plain_pictures_are_one_colour(level, name):
    for other in (0.0, 0.005):
        assert nearly_one_colour(plain(level, other)) and colour_name(plain(level, other)) == name
    assert not nearly_one_colour(plain(level, 0.015))


def test_noise_of_three_levels_is_one_colour_and_of_one_channel_more_is_not():
    noisy = np.random.default_rng(0).integers(97, 104, (200, 300, 3), np.uint8)
    assert nearly_one_colour(noisy) and colour_name(noisy) == "rgb(100, 100, 100)"
    noisy[::2, :, 2] += 4
    assert not nearly_one_colour(noisy)


def test_a_large_picture_is_looked_at_on_a_grid():
    large = np.broadcast_to(np.uint8(255), (10_000, 10_000, 3))
    assert large.shape[0] * large.shape[1] == MAX_PIXELS and nearly_one_colour(large)
    half = np.zeros((3000, 4000, 3), np.uint8)
    half[:, 2000:] = 200
    assert not nearly_one_colour(half)
    half[:, 2000:3985] = 0
    assert nearly_one_colour(half), "a strip of 0.4 %"
