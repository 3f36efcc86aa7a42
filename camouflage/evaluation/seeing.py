"""What recognisers see in originals and in their anonymized pictures: faces, who they belong to, and embeddings.

Faces are found and aligned in each picture by itself: an attacker who has the anonymized picture alone has no points
of the original's. Everything stays in memory, or in a private cache that goes with the evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..method.faces import KEYPOINTS, Box
from ..method.keypoints import predicted_points
from ..verification.detection import Detector, FoundFace, find_faces
from ..verification.places import box_around, centre, overlap
from ..verification.recognition import Embedder
from ..verification.scene import embedded, together
from .utility import joined

SMALLEST_FACE = 32  # px, as in the verification
JUDGED, UNDETECTED, LOST, WITHHELD, OUTSIDE = "judged", "undetected", "lost", "withheld", "outside"
_NO_POINTS = ((float("nan"),) * 2,) * len(KEYPOINTS)
STATES = (JUDGED, UNDETECTED, LOST, WITHHELD, OUTSIDE)
"""Of an original's face: its place in the anonymized picture shows a face; no face at all is found there; faces are
found, but none at this place; the picture may not leave; the anonymized picture was cut, and does not show the place.
"""


@dataclass(frozen=True, eq=False)
class Seen:
    """The faces of a picture.

    Attributes:
        size: width and height, px.
        faces: that detectors are sure of, from left to right.
        embeddings: n x d by each recogniser, by its name; rows that are no numbers for what cannot be embedded.
        points: n x 5 x 2, pixels, where dlib's predictor has them; no numbers for turned heads.
    """

    size: tuple[int, int]
    faces: tuple[FoundFace, ...]
    embeddings: Mapping[str, np.ndarray]
    points: np.ndarray


def see(pixels: np.ndarray, detectors: Sequence[Detector], recognisers: Sequence[Embedder],
        least: int = SMALLEST_FACE) -> Seen:
    """Looks at a picture.

    Args:
        pixels: H x W x 3, uint8.
        detectors: a face counts where one of them is sure.
        recognisers: that embed.
        least: px of a face's shorter side.
    """
    faces = tuple(face for face in find_faces(detectors, pixels) if face.confident and _shorter(face.box_ltrb) >= least)
    places = [(face.box_ltrb, face.turn) for face in faces]
    points = [(None if face.turn else predicted_points(pixels, face.box_ltrb)) or _NO_POINTS for face in faces]
    return Seen((pixels.shape[1], pixels.shape[0]), faces,
                {one.info.name: embedded(one, pixels, places) for one in recognisers},
                np.array(points, float).reshape(-1, len(KEYPOINTS), 2))


def _shorter(box: Box) -> float:
    return min(box[2] - box[0], box[3] - box[1])


@dataclass(frozen=True)
class Subject:
    """A face of an original, and what became of it.

    Attributes:
        picture: number of the pair.
        person: number of the person.
        face: number of the face in the original.
        state: of ``STATES``.
        match: number of the face in the anonymized picture; -1 where there is none.
    """

    picture: int
    person: int
    face: int
    state: str
    match: int = -1


def largest(faces: Sequence[FoundFace]) -> int:
    """The number of the largest face."""
    return max(range(len(faces)), key=lambda i: _area(faces[i].box_ltrb))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def follow(original: Seen, anonymized: Seen | None, wanted: Sequence[int]) -> tuple[list[tuple[str, int]], int]:
    """What became of faces of an original: the state and the match of each, and how many faces are new.

    Args:
        original: what was seen there.
        anonymized: what was seen in its anonymized picture; None where that may not leave.
        wanted: numbers of the original's faces.

    The nearest pairs are joined first, and every face is joined once.
    """
    if anonymized is None:
        return [(WITHHELD, -1) for _ in wanted], 0
    frame = framed(original.size, anonymized.size)
    moved = [FoundFace(frame.box(face.box_ltrb), face.detectors, face.confident, face.turn)
             for face in anonymized.faces]
    match = joined((overlap(face.bounds, other.bounds), i, k) for i, face in enumerate(original.faces)
                   for k, other in enumerate(moved) if together(other, (face.box_ltrb, face.turn)))
    left, top, right, bottom = frame.box((0.0, 0.0, float(anonymized.size[0]), float(anonymized.size[1])))
    found = []
    for i in wanted:
        x, y = centre(original.faces[i].box_ltrb)
        if i in match:
            found.append((JUDGED, match[i]))
        elif not (left <= x <= right and top <= y <= bottom):
            found.append((OUTSIDE, -1))
        else:
            found.append((LOST if moved else UNDETECTED, -1))
    return found, len(moved) - len(match)


@dataclass(frozen=True)
class Frame:
    """From an anonymized picture to its original: x -> x * scale[0] + shift[0], and so with y."""

    scale: tuple[float, float]
    shift: tuple[float, float]

    def box(self, of: Box) -> Box:
        """A box in the original."""
        x, y = centre(of)
        return box_around(x * self.scale[0] + self.shift[0], y * self.scale[1] + self.shift[1],
                          (of[2] - of[0]) * self.scale[0], (of[3] - of[1]) * self.scale[1])

    def back(self, of: Box) -> Box:
        """A box of the original in the anonymized picture."""
        (across, down), (left, top) = self.scale, self.shift
        return ((of[0] - left) / across, (of[1] - top) / down, (of[2] - left) / across, (of[3] - top) / down)

    def points(self, of: np.ndarray) -> np.ndarray:
        """Points, ... x 2, in the original."""
        return of * np.array(self.scale) + np.array(self.shift)


def framed(original: tuple[int, int], anonymized: tuple[int, int]) -> Frame:
    """The frame of two pictures by their width and height.

    A picture of another shape counts as scaled to cover the original's middle, as *Prepare Image* cuts.
    """
    (width, height), (across, down) = original, anonymized
    if abs(across * height / (down * width) - 1) < 0.02:  # the same shape, but for rounding
        return Frame((width / across, height / down), (0.0, 0.0))
    scale = 1 / max(across / width, down / height)
    return Frame((scale, scale), ((width - across * scale) / 2, (height - down * scale) / 2))
