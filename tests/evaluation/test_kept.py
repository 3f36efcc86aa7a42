"""What is kept of a pair, outside of heads, of cut pictures, and of huge ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from camouflage.evaluation import kept
from camouflage.evaluation.quality import psnr, ssim
from camouflage.evaluation.seeing import Seen
from camouflage.verification.detection import FoundFace


def photo(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth and random."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def seen(pixels: np.ndarray, *boxes: tuple[float, float, float, float]) -> Seen:
    faces = tuple(FoundFace(box, ("test",), ("test",), 0.0) for box in boxes)
    return Seen((pixels.shape[1], pixels.shape[0]), faces, {}, np.full((len(faces), 5, 2), np.nan))


def test_a_pair_without_faces_is_the_same_outside_of_heads():
    one, other = photo(0), photo(1)
    found = kept.differences(one, other, seen(one))
    assert found["psnr"] == psnr(one, other) == found["psnr_outside_heads"]
    assert found["ssim"] == ssim(one, other) == found["ssim_outside_heads"]


def test_what_changes_in_a_head_alone_does_not_count_outside():
    one = photo(0)
    other = one.copy()
    other[30:70, 40:80] = 255 - other[30:70, 40:80]
    found = kept.differences(one, other, seen(one, (40.0, 30.0, 80.0, 70.0)))
    assert found["psnr_outside_heads"] == kept.MOST_DB and found["ssim_outside_heads"] == pytest.approx(1)
    assert found["psnr"] < 40 and found["ssim"] < 0.99


def test_a_cut_picture_is_compared_with_its_part_of_the_original():
    one = photo(0)
    middle = one[:, 16:112]  # 96 x 96, as Prepare Image cuts
    assert kept.differences(one, middle, seen(one))["psnr"] == kept.MOST_DB


def test_huge_pairs_are_compared_in_a_size_that_memory_holds(monkeypatch: pytest.MonkeyPatch):
    one, other = photo(0), photo(1)
    monkeypatch.setattr(kept, "MOST_COMPARED", 96 * 128 / 4)
    small = [np.array(Image.fromarray(picture).resize((64, 48), Image.Resampling.LANCZOS)) for picture in (one, other)]
    found = kept.differences(one, other, seen(one, (40.0, 30.0, 80.0, 70.0)))
    assert (found["psnr"], found["ssim"]) == (psnr(*small), ssim(*small))
    assert found["psnr_outside_heads"] != found["psnr"]
