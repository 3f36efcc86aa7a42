"""Draws ``docs/verdicts.png``, what each verdict looks like, with drawn persons: ``python -m scripts.draw_verdicts``.

The verdicts are put in by hand, for no recogniser knows drawn faces; the covering is the pack's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from camouflage.files import ROOT
from camouflage.method.faces import Box
from camouflage.output.sheet import COLOURS
from camouflage.output.sheet_drawing import FAINT, GAP, INNER, MARGIN, block, cell, label, stacked, typeface, wrap
from camouflage.verification.redaction import Region, redact
from testing.drawn_faces import draw

PICTURE = ROOT / "docs" / "verdicts.png"
SIDE, CELL = 190, 172  # px of a picture as it is drawn, and as it is shown
FACE = (60.0, 55.0, 130.0, 145.0)  # where the faces are
ORIGINAL, ANOTHER, NEW = 11, 8, 23  # seeds
_LOOK = {"Brown_Hair": True, "No_Beard": True, "Young": True}
_LOOKS = {ORIGINAL: {**_LOOK, "Smiling": True, "Wavy_Hair": True}, ANOTHER: {**_LOOK, "Bangs": True},
          NEW: {"No_Beard": True, "Young": True, "Male": True, "Black_Hair": True}}
_HEIGHT = FACE[3] - FACE[1]

Shown = tuple[Image.Image, tuple[Box, ...]]
"""A picture, and the boxes of who is spoken of."""


def person(seed: int, height: float = _HEIGHT) -> Image.Image:
    """A drawn person, the face of this height (px) in the middle of :data:`FACE`; behind them only their background."""
    pixels, picture = draw(seed, 1024, 1024, [_LOOKS[seed]])
    left, top, right, bottom = picture.faces[0].box_ltrb
    factor = (bottom - top) / height
    x, y = (left + right) / 2 - factor * (FACE[0] + FACE[2]) / 2, (top + bottom) / 2 - factor * (FACE[1] + FACE[3]) / 2
    pad = round(factor * SIDE)
    wide = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    box = (x + pad, y + pad, x + pad + factor * SIDE, y + pad + factor * SIDE)
    return Image.fromarray(wide).resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)


def covered(image: Image.Image, mode: str, box_ltrb: Box = FACE) -> Image.Image:
    """The picture with a head covered by the pack."""
    return Image.fromarray(redact(np.asarray(image), [Region(box_ltrb, mode)]))


def with_another(image: Image.Image) -> tuple[Image.Image, Box]:
    """The picture with a small new face in its corner, and that face's box."""
    small = person(NEW).crop((35, 25, 155, 190)).resize((62, 85), Image.Resampling.LANCZOS)
    result = image.copy()
    result.paste(small, (124, 101))
    return result, (137.0, 116.0, 174.0, 164.0)


def from_behind(image: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """The person with hair where the face was, and their area."""
    mask = Image.new("L", (SIDE * 4, SIDE * 4))
    pen = ImageDraw.Draw(mask)
    pen.ellipse((4 * 38, 4 * 8, 4 * 152, 4 * 160), fill=255)
    head = mask.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    pen.rounded_rectangle((4 * 22, 4 * 140, 4 * 168, 4 * 230), 4 * 34, fill=255)
    area = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) > 127
    result = image.copy()
    result.paste((92, 58, 34), None, head)
    return result, area


@dataclass(frozen=True, slots=True)
class Case:
    """One result and its verdict.

    Attributes:
        verdict: in words.
        why: a few words below.
        make: the result and whose boxes are drawn into it.
    """

    verdict: str
    why: str
    make: Callable[[], Shown]


def cases() -> list[tuple[str, list[Case]]]:
    """The rows, a title and the results in it."""
    original, other = person(ORIGINAL), person(ANOTHER)
    newcomer, stranger = with_another(other)
    behind, area = from_behind(original)
    filled = redact(np.asarray(behind), [], area)
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    whole = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    blurred = original.filter(ImageFilter.GaussianBlur(5))
    soft = other.filter(ImageFilter.GaussianBlur(5))

    def shown(image: Image.Image, *boxes: Box) -> Callable[[], Shown]:
        return lambda: (image, boxes or (FACE,))

    return [
        ("May be saved", [
            Case("safe", "another person's face, clear enough to compare", shown(other)),
            Case("redacted", "the head is covered: solid", shown(covered(original, "solid"))),
            Case("redacted", "mosaic: at most 6 cells across", shown(covered(original, "mosaic"))),
            Case("redacted", "blur: the same cells, smoothed", shown(covered(original, "blur"))),
            Case("redacted", "a new face that was covered", shown(covered(newcomer, "solid", stranger), stranger)),
            Case("redacted", "a person area that was filled", shown(Image.fromarray(filled), whole))]),
        ("Is covered, or blocks: nothing can be said", [
            Case("unverifiable", "no face is found any more", shown(_empty(other))),
            Case("unverifiable", "the face is too small", shown(person(ANOTHER, 24), (85.0, 88.0, 105.0, 112.0))),
            Case("unverifiable", "the face is not sharp", shown(soft)),
            Case("unverifiable", "a new face, whoever it is", shown(newcomer, stranger)),
            Case("unverifiable", "a person area without a face", shown(behind, whole)),
            Case("unverifiable", "only a drawing of a face", shown(_lines(other)))]),
        ("Is covered, or blocks: a person of the originals is still there", [
            Case("recognisable", "the same person, brighter", shown(Image.eval(original, lambda v: min(255, v + 30)))),
            Case("recognisable", "behind a filter: a negative", shown(ImageOps.invert(original))),
            Case("recognisable", "behind a filter: a blur", shown(blurred)),
            Case("recognisable", "their face is elsewhere now", shown(_elsewhere(original, other), (8, 8, 60, 75))),
            Case("recognisable", "somebody of another original of the batch", shown(person(NEW))),
            Case("recognisable", "the original turned as a whole: never passes",
                 shown(original.rotate(180), (SIDE - FACE[2], SIDE - FACE[3], SIDE - FACE[0], SIDE - FACE[1])))]),
    ]


def _empty(image: Image.Image) -> Image.Image:
    """The same with a vase of one colour where the head was: nobody."""
    result = image.copy()
    ImageDraw.Draw(result).ellipse((44, 18, 146, 160), fill=image.getpixel((4, 4)))
    return result


def _lines(image: Image.Image) -> Image.Image:
    """The outlines of a picture, dark on paper."""
    return ImageOps.invert(ImageOps.autocontrast(image.convert("L").filter(ImageFilter.FIND_EDGES), 1)).convert("RGB")


def _elsewhere(original: Image.Image, other: Image.Image) -> Image.Image:
    """Another person in the place, and the original's face in the corner."""
    result = other.copy()
    result.paste(original.crop((45, 30, 145, 155)).resize((68, 85), Image.Resampling.LANCZOS), (0, 0))
    return result


def sheet() -> Image.Image:
    """The whole picture, RGB."""
    head, draw = block(SIDE + 78)
    image = person(ORIGINAL)
    head.paste(image, (MARGIN, 20))
    cell(draw, MARGIN, SIDE + 40, "The original", 20)
    text = MARGIN + SIDE + 30
    lines = wrap("Every result below is compared with this original. What may be saved, and what becomes of a result "
                 "that may not: with the policy 'redact' heads are covered and the picture is verified again, with "
                 "'block' nothing leaves. All persons are drawn, and the verdicts are put in by hand.", typeface(20),
                 INNER - SIDE - 30)
    for i, line in enumerate(lines):
        cell(draw, text, 40 + i * 28, line, 20)
    return stacked([head, *(_row(title, row) for title, row in cases()), block(12)[0]])


def _row(title: str, row: list[Case]) -> Image.Image:
    image, draw = block(34 + CELL + 120)
    cell(draw, MARGIN, 18, title, 22)
    step = (INNER + GAP) // len(row)
    for i, case in enumerate(row):
        picture, boxes = case.make()
        left = MARGIN + i * step
        image.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, 40))
        for box in boxes:
            x0, y0, x1, y1 = (value * CELL / SIDE for value in box)
            draw.rectangle((left + x0, 40 + y0, left + x1, 40 + y1), outline=COLOURS[case.verdict], width=3)
        label(draw, (left, 40 + CELL, CELL, 28), case.verdict, 18, COLOURS[case.verdict])
        for number, line in enumerate(wrap(case.why, typeface(16), CELL)):
            cell(draw, left, 40 + CELL + 42 + number * 21, line, 16, FAINT)
    return image


def main() -> None:
    """Writes the picture."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    PICTURE.parent.mkdir(exist_ok=True)
    # 96 colours are enough for drawings, and a quarter of the bytes.
    sheet().quantize(96, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(Path(PICTURE).relative_to(ROOT))


if __name__ == "__main__":
    main()
