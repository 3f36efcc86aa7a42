"""Real photos: two that come with packages, and those that ``testing/photos.py`` fetched before the tests."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from testing.photos import folder

# Persons in each picture, from left to right; the same name is the same person.
PERSONS = {
    "astronaut": ("collins",), "hopper": ("hopper",), "biden": ("biden",), "obama": ("obama",), "obama2": ("obama",),
    "obama3": ("obama",), "obama_partial_face": ("obama",), "obama_partial_face2": ("obama",),
    "six": ("one", "two", "three", "four", "five", "six"),
}
NAMES = tuple(PERSONS)
NOBODY = ("coffee", "chelsea", "rocket", "coins", "text", "page", "moon")  # no human face in it; all of scikit-image


@functools.cache
def load(name: str) -> np.ndarray:
    """The picture ``name`` of ``NAMES`` or ``NOBODY``: H x W x 3, uint8, read-only.

    One that was not fetched skips the test, and fails it where CI is set: there it has to run.
    """
    if name in ("astronaut", *NOBODY):
        pixels = getattr(skimage.data, name)()
    else:
        with Image.open(_file(name)) as picture:
            pixels = np.array(picture.convert("RGB"))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    pixels.setflags(write=False)
    return pixels


def _file(name: str) -> Path:
    if name == "hopper":
        from matplotlib.cbook import get_sample_data

        return Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
    cache = Path(os.environ.get("CAMOUFLAGE_CACHE") or Path.home() / ".cache" / "camouflage")
    path = folder(cache) / ("t1.jpg" if name == "six" else f"{name}.jpg")
    if not path.is_file():
        absent = pytest.fail if os.environ.get("CI", "").lower() in ("true", "1") else pytest.skip
        absent(f"the photo '{name}' was not fetched: `python run.py test` does it where it reaches the package index")
    return path
