"""Who is nearest to their original, beside it. It shows originals, so it is made only if somebody asks for it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..output.sheet_drawing import FAINT, GAP, MARGIN, block, cell, paragraph, space, stacked
from ..photos import read_pixels
from .crops import head
from .pairing import Pair
from .privacy import Compared
from .seeing import Seen, framed

SIDE = 160  # px of a head
_TEXT = 18  # px
SAYS = "It shows original faces: for the eyes of whoever may see them."


def sheet(pairs: Sequence[Pair], originals: Sequence[Seen], of: Compared, count: int) -> bytes:
    """A PNG with the heads of the nearest, original and anonymized side by side, the nearest first.

    Args:
        pairs, originals: the pictures, and what was seen in the originals.
        of: what a recogniser says of everybody.
        count: of the faces that are shown at most; those that could not be compared are not among them.

    Raises:
        Unreadable: a picture that could be read before.
    """
    order = [number for number in np.argsort(of.near, kind="stable")[:count] if np.isfinite(of.near[number])]
    title = paragraph(f"The {len(order)} faces that are nearest to their original, by {of.embedder.info.name}", 24)
    rows = [title, paragraph(SAYS, _TEXT, FAINT), space(GAP)]
    for number in order:
        subject = of.cast.subjects[number]
        pair, seen = pairs[subject.picture], originals[subject.picture]
        assert pair.anonymized is not None, "it was compared"
        before, after = read_pixels(pair.original), read_pixels(pair.anonymized)
        face, frame = seen.faces[subject.face], framed(seen.size, (after.shape[1], after.shape[0]))
        row, draw = block(SIDE + GAP)
        for place, (pixels, box) in enumerate(((before, face.box_ltrb), (after, frame.back(face.box_ltrb)))):
            row.paste(Image.fromarray(head(pixels, box, face.turn, SIDE)), (MARGIN + place * (SIDE + GAP), 0))
        cell(draw, MARGIN + 2 * (SIDE + GAP), SIDE // 2,
             f"{pair.key}, face {subject.face}: distance {of.near[number]:.3f}", _TEXT)
        rows.append(row)
    file = io.BytesIO()
    stacked([space(MARGIN), *rows, space(MARGIN - GAP)]).save(file, "PNG")
    return file.getvalue()
