"""Who is where in a result: places of the original, faces that are found, and how near everybody is to everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..method.faces import Box
from . import likeness
from .detection import Detector, FoundFace, find_faces
from .hidden import Hidden
from .places import Place, bounds, centre, longer_side, same_face, upright
from .recognition import Embedder
from .views import nothing

KNOWN = "box"
"""Stands for a detector where somebody said that a face is there."""
SPECK = 32.0
"""px: an unsure face with a shorter side is a speck (our choice): what is left of it after a mosaic or a blur looks
like anything to a recogniser, so that nearness alone does not accuse it."""
_SHARP, _SHARPEST = 0.15, 0.55
"""Share of a face's contrast that is fine detail, see :func:`.likeness.sharpness`: 0.24 to 0.52 on the tests' photos,
0.19 to 0.42 where the face is 48 px high. A blur of 1/16 of the face's width leaves 0.09 to 0.15; drawings of its edges
have 0.41 to 0.88. Of a face that is smaller than it is looked at, the upper limit is as much smaller."""
_AT_ONCE = 8  # faces that are embedded between two looks whether to stop
_CROP, _LARGEST = 2.4, 480  # side of a turned face's crop in heights of the face; px at most


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What stands where in a result.

    Attributes:
        originals: the faces of the original.
        places: where these would be in the result.
        found: faces in the result, without what is our own fill.
        distances: by the first recogniser, rows x persons: what is at the places, then the found faces.
        ratios: of these distances to the threshold, by the recogniser where it is smallest; up to 1 it is
            the same person.
        others: ratios of the persons of the batch's other originals, rows x persons of all of them.
        proved: of each place, whether our own solid fill covers it.
        like: likeness of places to the original, by number, see :mod:`.likeness`; not of those that were hidden.
        faceless: where persons are without a face and not covered, H x W, bool; None where no mask says so.
        moved: how the result shows the original where it was moved as a whole; empty where it was not.
        hidden: what was destroyed.
        exempt: who stays as they are by consent, by number.
    """

    originals: tuple[FoundFace, ...]
    places: tuple[Place, ...]
    found: tuple[FoundFace, ...]
    distances: np.ndarray
    ratios: np.ndarray
    others: np.ndarray
    proved: tuple[bool, ...]
    like: Mapping[int, likeness.Found]
    faceless: np.ndarray | None = None
    moved: str = ""
    hidden: Hidden = field(default_factory=Hidden)
    exempt: frozenset[int] = frozenset()

    def faces_at(self, i: int) -> list[FoundFace]:
        """The found faces at person ``i``'s place."""
        return [self.found[row - len(self.places)] for row in self._rows_at(i)]

    def here(self, i: int) -> tuple[float, int, float]:
        """Nearest of anything at person ``i``'s place to any original face: ratio, whose that is, distance."""
        return self._nearest([i, *self._rows_at(i)])

    def elsewhere(self, i: int) -> tuple[float, float, Box | None]:
        """Nearest of a found face that is not at person ``i``'s place to their face: ratio, distance, its box."""
        here = {*self._rows_at(i), *self._staying()}
        away = [(float(self.ratios[row, i]), float(self.distances[row, i]), face.bounds) for row, face in self._faces()
                if row not in here]
        return min(away, default=(float("inf"), float("inf"), None), key=lambda one: one[0])

    def stays(self, i: int) -> bool:
        """Whether person ``i`` is exempt, and is there: by place and by identity (our choice).

        A face is found at their place, what is there looks like the original, and every face there is nearer to this
        person than to anybody else of the batch.
        """
        like, rows = self.like.get(i), [i, *self._rows_at(i)]
        if i not in self.exempt or i in self.hidden.persons or like is None or like.likeness < 1:
            return False
        there = self.ratios[rows]
        nearest = np.minimum(there.min(axis=1), self.others[rows].min(axis=1, initial=np.inf))
        return any(face.confident for face in self.faces_at(i)) and bool(
            ((there[:, i] <= 1) & (there[:, i] <= nearest)).all())

    def foreign(self, i: int) -> bool:
        """Whether a found face at person ``i``'s place is somebody of another original of the batch."""
        rows = self._rows_at(i)
        return bool(rows) and self.others.shape[1] > 0 and not self.others[rows].min() > 1

    def strangers(self) -> list[int]:
        """Found faces, by number among them, that stand at no place of the original."""
        return [k for k, face in enumerate(self.found) if not any(self._at(face, i) for i in range(len(self.places)))]

    def of_stranger(self, k: int) -> tuple[float, int | None, float]:
        """Nearest of all originals of the batch to found face ``k``: ratio, whose (None: another picture's), distance.
        """
        row = len(self.places) + k
        ratio, nearest, distance = self._nearest([row])
        foreign = float(self.others[row].min()) if self.others.shape[1] else float("inf")
        return (ratio, nearest if self.places else None, distance) if ratio <= foreign else (foreign, None, distance)

    def to_hide(self, i: int) -> list[Place]:
        """Everything that must go to hide person ``i``: their place, the faces there, and theirs elsewhere."""
        here = self._rows_at(i)
        staying = self._staying()
        found = [(face.box_ltrb, face.turn) for row, face in self._faces()
                 if row in here or (row not in staying and not self.ratios[row, i] > 1)]
        like = self.like.get(i)
        again = [(like.box_ltrb, like.turn)] if like is not None and like.likeness >= 1 else []
        return [self.places[i], *found, *again]

    def without_specks(self) -> Scene:
        """To the recogniser a speck may look like any fill; that what is left of a region is near to one says nothing.
        """
        specks = [i for i, face in enumerate(self.originals)
                  if not face.confident and min(face.box_ltrb[2] - face.box_ltrb[0],
                                           face.box_ltrb[3] - face.box_ltrb[1]) < SPECK]
        rows = sorted(number for number in self.hidden.persons if number < len(self.places))
        if not specks or not rows:
            return self
        ratios, distances = self.ratios.copy(), self.distances.copy()
        left = np.ix_(rows, specks)
        within = ~(ratios[left] > 1)
        ratios[left] = np.where(within, np.inf, ratios[left])
        distances[left] = np.where(within, np.inf, distances[left])
        return replace(self, ratios=ratios, distances=distances)

    def _nearest(self, rows: Sequence[int]) -> tuple[float, int, float]:
        if not self.ratios.shape[1]:
            return float("inf"), 0, float("inf")
        ratios = self.ratios[list(rows)]
        row, person = divmod(int(ratios.argmin()), ratios.shape[1])
        return float(ratios[row, person]), person, float(self.distances[list(rows)][row, person])

    def _faces(self) -> list[tuple[int, FoundFace]]:
        """Row and face of everybody found."""
        return list(enumerate(self.found, len(self.places)))

    def _rows_at(self, i: int) -> list[int]:
        """Rows of the found faces at person ``i``'s place."""
        return [row for row, face in self._faces() if self._at(face, i)]

    def _staying(self) -> set[int]:
        """Rows of the found faces of those who stay: whom they resemble is nowhere else for that."""
        return {row for i in self.exempt if self.stays(i) for row in self._rows_at(i)}

    def _at(self, face: FoundFace, i: int) -> bool:
        """Whether a found face stands at person ``i``'s place, or where they were hidden."""
        return together(face, self.places[i]) or self.hidden.holds(i, *centre(face.box_ltrb))


def together(face: FoundFace, place: Place) -> bool:
    """Whether a found face stands at a place."""
    return same_face(face.box_ltrb, place[0]) or same_face(face.bounds, bounds(*place))


def embedded(recogniser: Embedder, pixels: np.ndarray, places: Sequence[Place],
             pause: Callable[[], None] = nothing) -> np.ndarray:
    """Embeddings, n x d, of what is at places; turned heads are turned upright first.

    Args:
        recogniser: that makes them.
        pixels: H x W x 3, uint8.
        places: n of them.
        pause: called every few faces; may raise to stop.
    """
    flat = [number for number, (_, turn) in enumerate(places) if not turn]
    rows: dict[int, np.ndarray] = {}
    for start in range(0, len(flat), _AT_ONCE):
        pause()
        some = flat[start:start + _AT_ONCE]
        rows.update(zip(some, recogniser.embed(pixels, [places[number][0] for number in some]), strict=True))
    for number, (box, turn) in enumerate(places):
        if turn:
            pause()
            crop, inside = upright_face(pixels, box, turn)
            rows[number] = recogniser.embed(crop, [inside])[0]
    if not rows:
        return recogniser.embed(pixels, [])
    return np.stack([rows[number] for number in range(len(places))])


def upright_face(pixels: np.ndarray, box_ltrb: Box, turn: float) -> tuple[np.ndarray, Box]:
    """A square with a turned head turned upright, and the face's box in it."""
    (x, y), width, height = centre(box_ltrb), box_ltrb[2] - box_ltrb[0], box_ltrb[3] - box_ltrb[1]
    side = _CROP * max(width, height)
    size = max(16, min(round(side), _LARGEST))
    factor = size / side
    half_width, half_height = width * factor / 2, height * factor / 2
    return upright(pixels, x, y, turn, side, size), (size / 2 - half_width, size / 2 - half_height,
                                                     size / 2 + half_width, size / 2 + half_height)


def doubt(before: FoundFace, now: Sequence[FoundFace], pixels: np.ndarray, detectors: Sequence[Detector],
          smallest_face: int, like: likeness.Found | None = None) -> str:
    """Why the embeddings at a place cannot be trusted to say "another person"; empty where they can.

    Args:
        before: the face in the original.
        now: found faces at its place in the result.
        pixels: of the result, H x W x 3, uint8.
        detectors: that looked.
        smallest_face: px of the shorter side, in the original and in the result.
        like: of the place.
    """
    confident = {name for face in now for name in face.confident}
    if not confident:
        return "no face is found there any more, so nothing can be compared"
    if any(min(box[2] - box[0], box[3] - box[1]) < smallest_face
           for box in (before.box_ltrb, *(face.box_ltrb for face in now))):
        return f"the face is smaller than {smallest_face} px"
    if missing := [name for name in before.detectors if name not in confident]:
        return f"the detectors disagree: none found by {', '.join(missing)}"
    if like is not None and like.faded:
        return "the face has lost the original's colours or light, so that nothing can be compared"
    for face in now:
        if face.turn and not stands(pixels, face, detectors):
            return "the face does not stand upright, and none is found there when it is turned"
        sharpness = likeness.sharpness(pixels, face.box_ltrb, face.turn)
        if sharpness < _SHARP:
            return "the face is not sharp, so that nothing can be compared"
        if sharpness > _SHARPEST * min(1.0, longer_side(face.box_ltrb) / likeness.FINE):
            return "the face is a drawing or full of noise, so that nothing can be compared"
    return ""


def stands(pixels: np.ndarray, face: FoundFace, detectors: Sequence[Detector]) -> bool:
    """Whether a face is found again, upright, in a crop of its own."""
    crop, inside = upright_face(pixels, face.box_ltrb, face.turn)
    return any(again.confident and not again.turn and same_face(again.box_ltrb, inside)
               for again in find_faces(detectors, crop))
