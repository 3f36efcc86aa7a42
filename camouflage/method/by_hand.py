"""Faces that a person draws or writes down: from the text of a widget to boxes in pixels of the pictures.

Who draws sees the photo that was loaded; the node gets what earlier nodes made of it. So what is drawn is kept in
pixels of the photo, with its size beside it, and is brought to the picture here, where both sizes are known: the boxes
stay on the faces when the working size changes. What is written by hand, without such a size, is in pixels of the
picture, as in ComfyUI's type BOUNDING_BOX. Everything here is our choice, no part of the paper.
"""

from __future__ import annotations

from typing import Any

from ..errors import CamouflageError
from ..images import LONGEST_SIDE
from ..validation import read_json, show, whole
from .faces import Box, clip_box
from .known import boxes_of

CROP, STRETCH = FITS = ("crop", "stretch")
LONGEST_TEXT = 1_000_000  # characters; a thousand boxes need 60,000
_ROUNDING = 33.0  # px by which a side may differ from the photo's shape: half of a multiple of 64, and one

BoxDict = dict[str, int]  # x, y, width, height, px


def boxes_by_hand(text: str, count: int, height: int, width: int, fit: str) -> list[list[BoxDict]]:
    """Reads boxes that a person drew or wrote.

    Args:
        text: JSON. A box is ``{"x": 10, "y": 20, "width": 30, "height": 40}``, in pixels. A list of boxes counts for
            every picture, a list of such lists has one for each. ``{"drawn_on": {"width": 900, "height": 700},
            "boxes": [...]}`` has boxes in pixels of a photo of that size, from which the pictures were scaled.
            Empty: no box.
        count, height, width: of the pictures; px.
        fit: how the pictures came from that photo: "crop" scaled it and cut it at the centre, "stretch" scaled each
            side for itself.

    Returns:
        For each picture its boxes in the order given, in whole pixels of the picture, cut at its border.

    Raises:
        CamouflageError: no such JSON, see also :func:`.known.boxes_of`; a picture of another shape than the photo; a
            box of which nothing is in its picture.
    """
    value = read_json(text, "'boxes'", LONGEST_TEXT) if text.strip() else []
    scale_x = scale_y = 1.0
    left = top = 0.0
    if isinstance(value, dict) and "drawn_on" in value:
        photo_width, photo_height = _drawn_on(value)
        _check_shape(photo_width, photo_height, width, height, fit)
        scale_x, scale_y = width / photo_width, height / photo_height
        if fit == CROP:
            scale_x = scale_y = max(scale_x, scale_y)
            left, top = (width - photo_width * scale_x) / 2, (height - photo_height * scale_y) / 2
        value = value["boxes"]
    return [[_in_picture((box[0] * scale_x + left, box[1] * scale_y + top,
                          box[2] * scale_x + left, box[3] * scale_y + top), width, height, i, number)
             for number, box in enumerate(boxes)]
            for i, boxes in enumerate(boxes_of(value, count, "boxes"))]


def _drawn_on(value: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the photo, px."""
    size = value["drawn_on"]
    if not isinstance(size, dict) or not {"width", "height"} <= size.keys() or "boxes" not in value:
        raise CamouflageError('\'boxes\' must be {"drawn_on": {"width": 900, "height": 700}, "boxes": [...]} where it '
                              f"names the photo's size, but got {show(value)}. Draw the boxes again, or write a list "
                              "of boxes in px of the picture.")
    width, height = (whole(size[side], 1, LONGEST_SIDE, f"'boxes' drawn_on {side}") for side in ("width", "height"))
    return width, height


def _check_shape(photo_width: int, photo_height: int, width: int, height: int, fit: str) -> None:
    """Refuses a picture that is not the photo scaled, with sides rounded to multiples of 64 px, nor its square."""
    off = min(abs(width * photo_height / photo_width - height), abs(height * photo_width / photo_height - width))
    if off > _ROUNDING and not (fit == CROP and width == height):
        raise CamouflageError(
            f"'boxes' were drawn on a photo of {photo_width} x {photo_height} px, but the picture is {width} x "
            f"{height} px: another shape, so they would not lie on the faces. Draw them again on this photo. A photo "
            "may be scaled, and cut as 'Prepare Image' does; for other pictures write the boxes in px of the picture, "
            "without 'drawn_on'.")


def _in_picture(box: Box, width: int, height: int, index: int, number: int) -> BoxDict:
    clipped = clip_box(box, height, width)
    if clipped is None:
        left, top, right, bottom = box
        raise CamouflageError(
            f"'boxes': box {number + 1} of picture {index + 1} (both counted from 1) lies outside: it is "
            f"{right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f}, and the picture {width} x {height} "
            "px. Move the box onto the face, or delete it. Where 'Prepare Image' cuts a square, who stands beside it "
            "is not in the picture.")
    left, top = min(round(clipped[0]), width - 1), min(round(clipped[1]), height - 1)
    return {"x": left, "y": top, "width": max(round(clipped[2]) - left, 1), "height": max(round(clipped[3]) - top, 1)}
