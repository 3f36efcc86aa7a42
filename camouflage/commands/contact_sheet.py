"""One picture that shows a run at a glance: before and after, the maps, the caption and the verdicts below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from ..output.sheet_drawing import COLOURS, wrap

WIDTH, MARGIN, GAP, LABEL = 1360, 32, 16, 22
PAPER, INK, FAINT = (250, 250, 248), (28, 28, 30), (110, 110, 116)


def contact_sheet(large: Mapping[str, Image.Image], small: Mapping[str, Image.Image], caption: str | None,
                  footer: str, verdicts: Sequence[tuple[str, str]] = ()) -> Image.Image:
    """Lay out labelled pictures: ``large`` in the first row, ``small`` in the second, the texts under them.

    ``verdicts`` are lines, each with the name of its verdict, which colours it. No ``caption``: None.
    Every picture keeps its proportions; very wide or tall ones get a cell of at most a square.
    """
    label, text, note = (ImageFont.load_default(size) for size in (17, 20, 14))
    inner = WIDTH - 2 * MARGIN
    told = [] if caption is None else [(f"Caption: {caption or '(empty)'}", INK)]
    told += [(line, COLOURS[verdict]) for line, verdict in verdicts]
    texts = [(line, text, colour, 28) for words, colour in told for line in wrap(words, text, inner)]
    texts += [(line, note, FAINT, 20) for line in wrap(footer, note, inner)]
    rows = [(pictures, (inner - GAP * (len(pictures) - 1)) // len(pictures)) for pictures in (large, small) if pictures]
    heights = [min(side, max(round(side * p.height / p.width) for p in pictures.values())) for pictures, side in rows]
    total = 2 * MARGIN + sum(height + LABEL + GAP for height in heights) + sum(step for *_, step in texts)
    sheet = Image.new("RGB", (WIDTH, total), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for (pictures, side), height in zip(rows, heights, strict=True):
        for column, (name, picture) in enumerate(pictures.items()):
            left = MARGIN + column * (side + GAP)
            draw.text((left, top), name, INK, font=label)
            scale = min(side / picture.width, height / picture.height)
            size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
            shown = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            sheet.paste(shown, (left + (side - size[0]) // 2, top + LABEL + (height - size[1]) // 2))
        top += height + LABEL + GAP
    for line, font, colour, step in texts:
        draw.text((MARGIN, top), line, colour, font=font)
        top += step
    return sheet
