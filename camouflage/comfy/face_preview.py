"""Draws what was read of the faces into the pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..errors import CamouflageError
from ..images import as_rgb
from ..method.faces import Face, Faces
from .annotators.common import from_uint8, to_uint8

_COLOURS = ("#ffd166", "#06d6a0", "#4cc9f0", "#ff6b6b", "#c77dff", "#f4a261")
_SHADE = "#101010"


def preview(images: torch.Tensor, faces: Faces, attributes: int = 3) -> torch.Tensor:
    """Boxes, keypoints, landmarks, person numbers (from left to right, counted from 0) and leading attributes.

    Args:
        images: B x H x W x C, 0..1, the pictures that the faces were read from.
        faces: B pictures of the same size.
        attributes: how many of each person's likeliest attributes are named, 0..40.

    Returns:
        B x H x W x 3, 0..1. Text and lines grow with the picture; text keeps inside it.

    Raises:
        CamouflageError: the faces come from another number of pictures or from pictures of another size.
    """
    images = as_rgb(images, "image")
    check_same(images, faces)
    return torch.cat([_draw(image, picture.faces, picture.persons(), attributes)
                      for image, picture in zip(images.split(1), faces.pictures, strict=True)])


def check_same(images: torch.Tensor, faces: Faces) -> None:
    """Refuses faces that were not read from pictures like these (B x H x W x C)."""
    count, height, width = images.shape[:3]
    if len(faces.pictures) != count:
        raise CamouflageError(f"'image' has {count} pictures, but 'faces' was read from {len(faces.pictures)}. Connect "
                              "the pictures that went into 'Face Attributes'.")
    for i, picture in enumerate(faces.pictures):
        if (picture.height, picture.width) != (height, width):
            raise CamouflageError(f"'image' is {width} x {height} px, but the faces of picture {i} (counted from 0) "
                                  f"were read from {picture.width} x {picture.height} px. Connect the pictures that "
                                  "went into 'Face Attributes'.")


def _draw(image: torch.Tensor, faces: tuple[Face, ...], persons: tuple[int, ...], attributes: int) -> torch.Tensor:
    picture = Image.fromarray(to_uint8(image))
    draw = ImageDraw.Draw(picture)
    size = max(10, round(min(picture.size) / 32))  # px of the text; lines are a tenth of it
    font = _font(size)
    line = max(1, size // 10)
    for number, i in enumerate(persons):
        face, colour = faces[i], _COLOURS[number % len(_COLOURS)]
        left, top, right, bottom = face.box_ltrb
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        for x, y in face.landmarks or ():
            _dot(draw, x, y, max(0.5, line / 2), "white")
        for x, y in face.keypoints:
            _dot(draw, x, y, line + 0.5, colour)
    for number, i in enumerate(persons):  # above all boxes
        face, colour = faces[i], _COLOURS[number % len(_COLOURS)]
        lines = [f"{number}  {face.score:.2f}", *(f"{name.replace('_', ' ')} {p:.2f}"
                                                   for name, p in face.leading(attributes))]
        _label(draw, picture.size, face.box_ltrb, lines, font, colour)
    return from_uint8(np.asarray(picture))




def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except (TypeError, OSError):  # Pillow before 10.1, or without FreeType: one size
        return ImageFont.load_default()


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: str) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _label(draw: ImageDraw.ImageDraw, picture: tuple[int, int], box: tuple[float, float, float, float],
           lines: list[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, colour: str) -> None:
    """A dark plate below the box, or above it where there is no room, or at the bottom of the picture."""
    text = "\n".join(lines)
    while len(lines) > 1 and draw.multiline_textbbox((0, 0), text, font=font, spacing=2)[3] + 6 > picture[1] / 2:
        lines = lines[:-1]  # in small pictures the face is worth more than its attributes
        text = "\n".join(lines)
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font, spacing=2)
    width, height = right + 6, bottom + 6
    x = max(0.0, min(box[0], picture[0] - width))
    y = box[3] + 1
    if y + height > picture[1]:
        y = box[1] - height - 1 if box[1] - height - 1 >= 0 else max(0.0, picture[1] - height)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_SHADE)
    draw.multiline_text((x + 3, y + 2), text, fill=colour, font=font, spacing=2)
