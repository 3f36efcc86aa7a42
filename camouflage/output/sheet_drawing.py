"""What the sheet of a report is drawn with: blocks as wide as the sheet, text, labels and dots (our choice)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, GAP = 1200, 40, 20  # px, as everything below
INNER = WIDTH - 2 * MARGIN

PAPER, INK, FAINT, LINE = (250, 250, 248), (28, 28, 30), (96, 96, 102), (222, 222, 218)
ALARM = (214, 0, 0)
COLOURS: dict[str, tuple[int, int, int]] = {
    "safe": (27, 122, 72), "redacted": (36, 96, 172), "unverifiable": (150, 88, 0), "recognisable": (176, 32, 48),
    "exempt": (98, 66, 160),
    "nobody": (88, 88, 94)}
"""Of the verdicts, by name."""


def block(height: int, width: int = WIDTH) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Paper, and what draws on it."""
    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def space(height: int) -> Image.Image:
    """An empty block."""
    return block(height)[0]


def rule(height: int) -> Image.Image:
    """A thin line, ``height`` px further down."""
    image, draw = block(height)
    draw.line((MARGIN, height - 1, WIDTH - MARGIN - 1, height - 1), LINE)
    return image


def stacked(blocks: Sequence[Image.Image]) -> Image.Image:
    """One below the other."""
    sheet, top = space(sum(one.height for one in blocks)), 0
    for one in blocks:
        sheet.paste(one, (0, top))
        top += one.height
    return sheet


@functools.cache
def typeface(size: int) -> Any:
    """Pillow's own font, ``size`` px high."""
    return ImageFont.load_default(size)


def wrap(text: str, font: Any, width: float) -> list[str]:
    """Lines of at most ``width`` px; a word that is longer than a line is cut."""
    lines = [""]
    for word in text.split():
        while font.getlength(word) > width:
            cut = next(n for n in range(len(word), 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
            lines += [word[:cut], ""]
            word = word[cut:]
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return [line for line in lines if line]


def paragraph(text: str, size: int, colour: tuple[int, int, int] = INK, left: int = MARGIN) -> Image.Image:
    """A block with wrapped text from ``left`` px on."""
    lines, step = wrap(text, typeface(size), WIDTH - MARGIN - left), round(size * 1.4)
    image, draw = block(step * len(lines))
    for i, line in enumerate(lines):
        cell(draw, left, round((i + 0.5) * step), line, size, colour)
    return image


def cell(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int,
         colour: tuple[int, int, int] = INK, anchor: str = "lm") -> None:
    """One line of text at x, y; ``anchor`` as Pillow's, without more the middle of the left edge."""
    draw.text((x, y), text, colour, font=typeface(size), anchor=anchor)


def label(draw: ImageDraw.ImageDraw, place: tuple[int, int, int, int], text: str, size: int,
          colour: tuple[int, int, int]) -> None:
    """White text on a coloured plate at left, top, of width, height."""
    left, top, width, height = place
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    cell(draw, left + width / 2, top + height / 2, text, size, (255, 255, 255), "mm")


def banner(text: str) -> Image.Image:
    """A red block with white text, as wide as the sheet."""
    image, draw = block(64)
    label(draw, (0, 0, WIDTH, 64), text, 34, ALARM)
    return image


def dot(image: Image.Image, x: float, y: float, colour: tuple[int, int, int]) -> None:
    """A smooth disc with a white rim, centred to the quarter of a pixel."""
    left, top = math.floor(x) - 12, math.floor(y) - 12
    for radius, fill in ((10, (255, 255, 255)), (8, colour)):
        mask = Image.new("L", (100, 100))  # four times as large
        x0, y0 = 4 * (x - left - radius), 4 * (y - top - radius)
        ImageDraw.Draw(mask).ellipse((x0, y0, x0 + 8 * radius, y0 + 8 * radius), fill=255)
        image.paste(fill, (left, top, left + 25, top + 25), mask.resize((25, 25), Image.Resampling.BOX))


def figure(value: float | None, form: str = ".3f") -> str:
    """A number in words, "none" where there is none."""
    return "none" if value is None or not math.isfinite(value) else format(value, form)
