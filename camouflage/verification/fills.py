"""What a solid redaction fills with: our grey, a colour, or a picture that is laid over each head (our choice).

A fill is declared before anything is covered, and it is known to whoever proves the redaction afterwards: the same
fill at the same place gives the same pixels, whatever was there before.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from ..errors import CamouflageError
from ..validation import show

GREY = 128
"""Level of the usual fill, in all three channels."""
LONGEST = 512
"""px of a fill picture's longer side; a larger one is shrunk to it before anything looks at it or is painted with it,
so that no face is too small in it to be found."""


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """What covers.

    Attributes:
        colour: red, green and blue, 0..255, of all that is filled solid but for heads under a picture.
        picture: h x w x 3, uint8, at most ``LONGEST`` px a side; lies over each head, upright as the head is, enlarged
            until it covers it and cut at the sides. None: the colour.
    """

    colour: tuple[int, int, int] = (GREY, GREY, GREY)
    picture: np.ndarray | None = None

    def named(self, mode: str) -> str:
        """How something was hidden, in words: the mode, and what fills a solid one unless it is our grey."""
        if mode != "solid" or (self.picture is None and self.colour == GREY_FILL.colour):
            return mode
        if self.picture is None:
            return f"{mode}, {text_of(self.colour)}"
        return f"{mode}, picture {hashlib.sha256(self.picture.tobytes()).hexdigest()[:16]}"

    def levels(self) -> np.ndarray:
        """The colour as pixels have it: 3, uint8."""
        return np.array(self.colour, np.uint8)

    def over(self, across: np.ndarray, down: np.ndarray, width: float, height: float) -> np.ndarray:
        """What the picture shows at some points of a head.

        Args:
            across, down: h x w, px along the head's own axes from the upper left corner of its bounds.
            width, height: of these bounds, px.

        Returns:
            h x w x 3, float32, 0..255.
        """
        import cv2

        assert self.picture is not None
        picture = self.picture
        scale = max(width / picture.shape[1], height / picture.shape[0])
        if scale < 1:  # antialiased: what is painted has no more in it than what was looked at
            size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        per_px = picture.shape[1] / (self.picture.shape[1] * scale), picture.shape[0] / (self.picture.shape[0] * scale)
        x = (across - width / 2) * per_px[0] + picture.shape[1] / 2 - 0.5
        y = (down - height / 2) * per_px[1] + picture.shape[0] / 2 - 0.5
        return _between(picture, x, y)


GREY_FILL = Fill()


def colour_of(text: str, socket: str) -> tuple[int, int, int]:
    """Reads a colour.

    Args:
        text: "#rrggbb", each two digits of 0-9, a-f or A-F.
        socket: name of the input, for the error text.

    Raises:
        CamouflageError: anything else.
    """
    if not isinstance(text, str) or not re.fullmatch("#[0-9a-fA-F]{6}", text.strip()):
        raise CamouflageError(f"'{socket}' must be a colour as '#rrggbb', for instance {text_of(GREY_FILL.colour)} for "
                              f"grey or #000000 for black, but got {show(text)}.")
    digits = text.strip()[1:]
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def text_of(colour: tuple[int, int, int]) -> str:
    """A colour as "#rrggbb"."""
    return "#" + "".join(f"{level:02x}" for level in colour)


def shrunk(picture: np.ndarray) -> np.ndarray:
    """A picture, H x W x 3, uint8, with at most ``LONGEST`` px a side; antialiased."""
    import cv2

    factor = LONGEST / max(picture.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(picture)
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)


def _between(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples at points (px, 0 is the centre of the first pixel); the border goes on outside."""
    height, width = picture.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    part_x, part_y = ((value - low)[..., None].astype(np.float32) for value, low in ((x, left), (y, top)))
    upper = picture[top, left] * (1 - part_x) + picture[top, right] * part_x
    lower = picture[bottom, left] * (1 - part_x) + picture[bottom, right] * part_x
    return upper * (1 - part_y) + lower * part_y
