"""A world of coloured rectangles for the verification, where every distance is known.

A face is a rectangle whose red is who it is and whose green alternates between 5 and 7 from pixel to pixel (a mosaic
makes it 6). The detector finds such rectangles, the recogniser looks at the colour in the middle of a box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label

from camouflage.verification.detection import Detection
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import Threshold
from camouflage.verification.redaction import head
from camouflage.verification.report import Verdict
from camouflage.verification.verify import Verifier

LEFT, MIDDLE, RIGHT, FREE = (40, 40, 80, 90), (180, 40, 220, 90), (320, 40, 360, 90), (180, 140, 220, 190)
ANN, BOB, CID, EVE, MAX = 10, 20, 30, 40, 50
LIMIT = 0.5
FACE = (5, 7)  # green
Colour = tuple[float, float, float]


class Eyes:
    """A detector: sees all rectangles but those of ``blind`` persons; of ``doubts`` it is not sure."""

    confident = 0.5

    def __init__(self, name: str = "eyes", blind: tuple[int, ...] = (), doubts: tuple[int, ...] = ()):
        self.info, self.blind, self.doubts, self.looks = ModelInfo(name, "1", "none"), blind, doubts, 0

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        self.looks += 1
        found = []
        for rows, columns in find_objects(label(np.isin(pixels[..., 1], FACE))[0]):
            who = int(np.median(pixels[rows, columns, 0]))
            if who not in self.blind and min(rows.stop - rows.start, columns.stop - columns.start) >= 10:
                found.append(Detection((columns.start, rows.start, columns.stop, rows.stop),
                                       0.4 if who in self.doubts else 0.9))
        return found


class Memory:
    """A recogniser: 0 for the same face, else ``strangers``; ``nothing`` where no face is."""

    info = ModelInfo("memory", "1", "none")
    threshold = Threshold(LIMIT, "memory")
    metric = "scripted"

    def __init__(self, nothing: Callable[[Colour, Colour], float] = lambda seen, known: 1.0, strangers: float = 1.0):
        self.nothing, self.strangers = nothing, strangers

    def embed(self, pixels: np.ndarray, boxes_ltrb: Any) -> np.ndarray:
        height, width = pixels.shape[:2]
        return np.float32([pixels[min(max(int(top + bottom) // 2, 0), height - 1),
                                  min(max(int(left + right) // 2, 0), width - 1)]
                           for left, top, right, bottom in boxes_ltrb]).reshape(-1, 3)

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.float64([[self._distance(tuple(x), tuple(y)) for y in b] for x in a]).reshape(len(a), len(b))

    def _distance(self, seen: Colour, known: Colour) -> float:
        if seen[1] not in FACE:
            return self.nothing(seen, known)
        return 0.0 if seen[0] == known[0] else self.strangers


def scene(faces: Mapping[tuple[int, int, int, int], int], shape: tuple[int, int] = (200, 400)) -> np.ndarray:
    pixels = np.full((*shape, 3), 255, np.uint8)
    for (left, top, right, bottom), who in faces.items():
        pixels[top:bottom, left:right] = who, FACE[0], 0
        pixels[top:bottom, left:right, 1] += 2 * (np.indices((bottom - top, right - left)).sum(axis=0) % 2).astype("u1")
    return pixels


def verifier(*eyes: Eyes, **memory: Any) -> Verifier:
    return Verifier(eyes or (Eyes(),), Memory(**memory), Threshold(LIMIT, "memory"))


def judged(before: Mapping, after: Mapping, *eyes: Eyes, redacted: Mapping[int, str] | None = None, **memory: Any):
    """The checked picture where ``before`` turned into ``after``."""
    judge = verifier(*eyes, **memory)
    return judge.verify(judge.originals(scene(before)), scene(after), redacted)


def verdicts(checked) -> list[Verdict]:
    return [person.verdict for person in checked.persons]


def kinds(checked) -> list[str]:
    return [person.kind for person in checked.persons]


def counts(checked) -> tuple[int, int, int]:
    return checked.faces_lost, checked.faces_new, checked.faces_elsewhere


def inside(box, shape, grow: float = 1.0) -> np.ndarray:
    x, y, radius_x, radius_y = head(box, grow)
    rows, columns = np.mgrid[:shape[0], :shape[1]] + 0.5
    return np.abs((columns - x) / radius_x) ** 3 + np.abs((rows - y) / radius_y) ** 3 <= 1
