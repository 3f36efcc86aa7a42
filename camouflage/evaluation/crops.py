"""What an attacker learns from: heads of originals, and the same places in anonymized pictures, whatever is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..method.faces import Box
from ..verification.places import centre, longer_side, upright
from .privacy import FOUND_OR_NOT, Cast
from .seeing import Seen, framed

SIDE = 32
"""px of a crop (our choice): small networks learn from few photos."""
_AROUND = 1.4  # side of what is seen, in heights of the face


def of_pair(before: np.ndarray, after: np.ndarray, seen: Seen) -> np.ndarray:
    """Crops of a pair, upright.

    Args:
        before, after: H x W x 3 and h x w x 3, uint8.
        seen: in the original.

    Returns:
        n x 2 x SIDE x SIDE x 3, uint8: of every face of the original, itself and its place in the anonymized picture.
        Where a place lies outside of that, it shows what the border shows.
    """
    frame = framed(seen.size, (after.shape[1], after.shape[0]))
    found = [[head(before, face.box_ltrb, face.turn), head(after, frame.back(face.box_ltrb), face.turn)]
             for face in seen.faces]
    return np.array(found, np.uint8).reshape(-1, 2, SIDE, SIDE, 3)


def head(pixels: np.ndarray, box: Box, turn: float, side: int = SIDE, around: float = _AROUND) -> np.ndarray:
    """The square around a face, upright, side x side x 3; ``around``: in longer sides of the face."""
    return upright(pixels, *centre(box), turn, around * longer_side(box), side)


def gathered(cast: Cast, crops: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops of everybody whose anonymized picture is there.

    Args:
        cast: who is followed.
        crops: of every pair, :func:`of_pair`; None where the anonymized picture is not there.

    Returns:
        Originals and anonymized, n x 3 x SIDE x SIDE, float32, 0..1; and n numbers of persons.
    """
    there = [(pair[one.face], one.person) for one in cast.subjects
             if one.state in FOUND_OR_NOT and (pair := crops[one.picture]) is not None]
    both = np.array([pair for pair, _ in there], np.float32).reshape(-1, 2, SIDE, SIDE, 3) / 255
    before, after = (np.ascontiguousarray(both[:, i].transpose(0, 3, 1, 2)) for i in (0, 1))
    return before, after, np.array([person for _, person in there], int)
