"""Other regions than faces, licence plates first: a detector that the user supplies as an ONNX file (our choice).

What it misses stays in the picture, and how much that is was not measured: it depends on the file. Faces never rest on
it. Read are the three usual exports of YOLO detectors with one output, input 1 x 3 x H x W, RGB in 0..1, letterboxed:

* 1 x (4 + C) x N (v8 and later): centre x and y, width, height, then a score for each of C classes;
* 1 x N x (5 + C) (v5): the same with a score for "anything" before them, by which the others are multiplied;
* 1 x N x 6 (end to end): left, top, right, bottom, score, number of the class.

All boxes are in pixels of the input. N tells the layouts apart, for the first two have a box for every cell of the
input. Everything else is refused rather than guessed.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..method.faces import MAX_FACES, Box, clip_box
from ..packages import require
from ..weights import mistaken_for
from . import onnx_header
from .views import nothing

LARGEST_FILE = 1_000_000_000
"""Bytes of a file."""
SIDES = (32, 2048)
"""Least and largest side of a network's input, px."""
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # px of the cells of the usual exports
_GREY = 114  # level of the letterbox's margins, as YOLO detectors are trained
_SAME, _CANDIDATES = 0.5, 3000  # overlap of two boxes of one thing; boxes of one look that are considered at most
_TILE, _SHARED = 2, 0.15  # side of a tile in sides of the input; part that neighbours share
_PARTS = 1.5  # px: boxes that end before it are parts of the picture, not pixels
_EXPORT = ("Export the detector once more as ONNX: one output, boxes in pixels, 32-bit floats, without a mask, "
           "keypoints or angles (docs/redaction.md).")


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """Something that the detector found.

    Attributes:
        box_ltrb: px, within the picture.
        number: of its class.
        score: 0..1.
    """

    box_ltrb: Box
    number: int
    score: float


class RegionDetector:
    """A detector from a file.

    Args:
        path: of the ONNX file.
        resolution: px of both sides of the input, where the file leaves them open; a multiple of 32.

    Attributes:
        size: height and width of its input, px.
        names: of the classes by number; empty where the file has none.

    Raises:
        CamouflageError: the file is missing, damaged, no ONNX, too large or another kind of network; or neither OpenCV
            nor onnxruntime can run it.
    """

    def __init__(self, path: Path, resolution: int = 640) -> None:
        self._name = path.name
        data = _bytes(path)
        try:
            header = onnx_header.read(data)
        except ValueError as error:
            raise CamouflageError(f"{path.name} cannot be used as a detector: {error}. {_EXPORT}") from error
        self.size = self._input_size(header, resolution)
        self.names: Mapping[int, str] = header.class_names()
        self._lock = threading.Lock()
        self._run = self._engine(data, header.inputs[0].name)

    def find(self, pixels: np.ndarray, threshold: float, wanted: frozenset[int] | None = None, tiles: bool = True,
             pause: Callable[[], None] = nothing) -> list[FoundRegion]:
        """All regions of a picture, the best first.

        Args:
            pixels: H x W x 3, uint8.
            threshold: least score, above 0 and up to 1.
            wanted: numbers of the classes that count; None: all.
            tiles: whether a picture that is more than twice as large as the input is looked at in tiles besides.
            pause: called before each look; may raise to stop.

        Raises:
            CamouflageError: what the network gives is none of the layouts, or more than 1000 regions.
        """
        import cv2

        boxes, scores, numbers = [], [], []
        for window, left, top in self._windows(pixels, tiles):
            pause()
            seen, back = letterboxed(window, *self.size)
            box, score, number = self._read(self._run(seen))
            some = np.flatnonzero(score >= threshold)
            if wanted is not None:
                some = some[np.isin(number[some], list(wanted))]
            some = some[np.argsort(-score[some], kind="stable")][:_CANDIDATES]
            inside = box[some]
            if len(inside) and inside.max() <= _PARTS:
                raise CamouflageError(f"{self._name} gives boxes as parts of the picture, not in pixels. {_EXPORT}")
            boxes.append(back(inside) + np.array([left, top, left, top], np.float64))
            scores.append(score[some])
            numbers.append(number[some])
        every, score, number = map(np.concatenate, (boxes, scores, numbers))
        if not len(every):
            return []
        xywh = np.concatenate([every[:, :2], every[:, 2:] - every[:, :2]], axis=1)
        kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), score.tolist(), number.tolist(), 0.0, _SAME)
        found = []
        for i in sorted(np.ravel(np.array(kept, int)).tolist(), key=lambda i: -score[i]):
            within = clip_box(tuple(every[i].tolist()), *pixels.shape[:2])
            if within is not None:
                found.append(FoundRegion(within, int(number[i]), float(score[i])))
        if len(found) > MAX_FACES:
            raise CamouflageError(f"{self._name} finds {len(found)} regions in one picture; at most {MAX_FACES} are "
                                  "taken. Set a higher 'threshold'.")
        return found

    def _windows(self, pixels: np.ndarray, tiles: bool) -> Iterator[tuple[np.ndarray, int, int]]:
        """The picture, then its tiles: pixels, left, top."""
        yield pixels, 0, 0
        side = _TILE * max(self.size)
        if tiles and max(pixels.shape[:2]) > side:
            tops, lefts = (_starts(length, side) for length in pixels.shape[:2])
            for top, left in itertools.product(tops, lefts):
                yield pixels[top:top + side, left:left + side], left, top

    def _input_size(self, header: onnx_header.Header, resolution: int) -> tuple[int, int]:
        """Height and width; refuses what cannot be a detector before anything of it runs."""
        shapes = " and ".join(_sides(one.shape) for one in header.inputs) or "none"
        if len(header.inputs) != 1 or len(header.inputs[0].shape) != 4 or header.inputs[0].shape[0] not in (0, 1) or (
                header.inputs[0].shape[1] not in (0, 3)):
            raise CamouflageError(f"{self._name} must have one input, 1 x 3 x height x width, but has {shapes}. "
                                  f"{_EXPORT}")
        if header.inputs[0].element != onnx_header.FLOAT:
            raise CamouflageError(f"{self._name} must take 32-bit floats, but its input is of another type (ONNX's "
                                  f"number {header.inputs[0].element}). {_EXPORT}")
        if header.external:
            raise CamouflageError(f"{self._name} has its weights in another file, which is not opened. {_EXPORT}")
        if len(header.outputs) != 1:
            raise CamouflageError(f"{self._name} must have one output, but has {len(header.outputs)}. {_EXPORT}")
        if header.notes.get("task", "detect") != "detect":
            raise CamouflageError(f"{self._name} was made for '{header.notes['task'][:40]}', not to detect. {_EXPORT}")
        height, width = (side or resolution for side in header.inputs[0].shape[2:])
        if any(side % 32 or not SIDES[0] <= side <= SIDES[1] for side in (height, width)):
            raise CamouflageError(f"{self._name} has an input of {width} x {height} px; both sides must be multiples "
                                  f"of 32 between {SIDES[0]} and {SIDES[1]} px. {_EXPORT}")
        return height, width

    def _engine(self, data: bytes, socket: str) -> Callable[[np.ndarray], np.ndarray]:
        """What runs the network: OpenCV, else onnxruntime where it is installed; tried once with an even picture."""
        cv2 = require("cv2", "opencv-python", "Finding regions")
        even = np.full((1, 3, *self.size), _GREY / 255, np.float32)
        try:
            net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))

            def run(picture: np.ndarray) -> np.ndarray:
                with self._lock:
                    net.setInput(picture)
                    return np.asarray(net.forward())

            shown = run(even)
        except cv2.error as error:
            why = _first_line(error)
        else:
            self._read(shown)
            return run
        if importlib.util.find_spec("onnxruntime") is None:
            raise CamouflageError(f"{self._name} cannot be run by OpenCV {cv2.__version__} ({why}). Install "
                                  "onnxruntime with ComfyUI's own Python (python -m pip install onnxruntime), which "
                                  "runs more kinds of networks, or export it without the suppression of double boxes.")
        return self._with_runtime(data, socket, even)

    def _with_runtime(self, data: bytes, socket: str, even: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        try:
            session: Any = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

            def run(picture: np.ndarray) -> np.ndarray:
                return np.asarray(session.run(None, {socket: picture})[0])

            shown = run(even)
        except Exception as error:  # onnxruntime has no class of its own that all of its errors share
            raise CamouflageError(f"{self._name} cannot be run by OpenCV or onnxruntime ({_first_line(error)}). "
                                  f"{_EXPORT}") from error
        self._read(shown)
        return run

    def _read(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, scores and class numbers, see :func:`read_output`; the file is named where they cannot be read."""
        try:
            found = read_output(values, *self.size)
        except ValueError as error:
            raise CamouflageError(f"{self._name} is no detector that can be read here: {error}. {_EXPORT}") from error
        if self.names and found[3] and found[3] != len(self.names):
            raise CamouflageError(f"{self._name} names {len(self.names)} classes, but gives scores of {found[3]}: it "
                                  f"gives something else besides. {_EXPORT}")
        return found[:3]


def read_output(values: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """What a network's output says.

    Args:
        values: 1 x A x B, see the module for the layouts.
        height, width: of the network's input, px.

    Returns:
        Boxes, n x 4 (left, top, right, bottom; px of the input); scores, n; class numbers, n; how many classes it
        gives scores of, 0 where it does not tell.

    Raises:
        ValueError: none of the layouts; NaN or infinity; scores outside 0..1; class numbers that are none.
    """
    shape = np.shape(values)
    if len(shape) != 3 or shape[0] != 1:
        raise ValueError(f"its output is {_sides(shape)}, and three sides are expected, the first one 1")
    rows, columns = shape[1:]
    cells = {sum((height // one) * (width // one) for one in strides)
             for strides in _STRIDES if height % strides[-1] == width % strides[-1] == 0}
    values = np.asarray(values[0], np.float32)
    if not np.isfinite(values).all():
        raise ValueError("its output has NaN or infinite values")
    if columns in cells and rows >= 5:
        boxes, every = _around(values[:4].T), values[4:].T
    elif rows in {3 * count for count in cells} and columns >= 6:
        boxes, every = _around(values[:, :4]), values[:, 5:]
        _demand_scores(every)
        every = every * values[:, 4:5]
    elif columns == 6:
        boxes, every = values[:, :4], values[:, 4:5]
        numbers = np.rint(values[:, 5])
        if (np.abs(values[:, 5] - numbers) > 0.01).any() or (numbers < 0).any():
            raise ValueError("its last column must be numbers of classes, and is not")
        _demand_scores(every)
        return boxes, every[:, 0], numbers.astype(int), 0
    else:
        raise ValueError(f"its output is {_sides(shape)}, and for an input of {width} x {height} px 1 x (4 + classes) "
                         f"x {min(cells)}, 1 x {3 * min(cells)} x (5 + classes) or 1 x boxes x 6 is expected")
    _demand_scores(every)
    return boxes, every.max(axis=1), every.argmax(axis=1), every.shape[1]


def letterboxed(pixels: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """A picture as a network sees it, and what brings boxes back.

    Args:
        pixels: H x W x 3, uint8.
        height, width: of the input, px.

    Returns:
        1 x 3 x height x width, float32, 0..1: the picture in the middle, its aspect kept, grey margins; and a function
        from n x 4 boxes (left, top, right, bottom; px of the input) to px of the picture.
    """
    import cv2

    high, wide = pixels.shape[:2]
    factor = min(height / high, width / wide)
    size = max(1, min(width, round(wide * factor))), max(1, min(height, round(high * factor)))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    seen = np.full((height, width, 3), _GREY, np.uint8)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    seen[top:top + size[1], left:left + size[0]] = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=how)

    def back(boxes: np.ndarray) -> np.ndarray:
        moved = np.asarray(boxes, np.float64).reshape(-1, 4) - [left, top, left, top]
        return moved * np.tile([wide / size[0], high / size[1]], 2)

    return np.ascontiguousarray(seen.transpose(2, 0, 1)[None], np.float32) / 255, back


def wanted_classes(text: str, names: Mapping[int, str]) -> frozenset[int] | None:
    """Reads which classes count.

    Args:
        text: numbers or names of classes, with commas between them; empty: all.
        names: of the detector, by number.

    Returns:
        Their numbers; None: all.

    Raises:
        CamouflageError: a name that the detector does not have, or a number where it has names and not this one.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = set()
    for part in parts:
        same = [number for number, name in names.items() if name.casefold() == part.casefold()]
        if part.isdecimal() and not same and (not names or int(part) in names):
            same = [int(part)]
        if not same:
            known = ", ".join(f"{number}: {name}" for number, name in sorted(names.items())[:40])
            raise CamouflageError(f"'labels' has '{part[:60]}', which is no class of this detector. "
                                  + (f"It has {known}." if names else "Its file has no names: write the numbers of "
                                                                      "the classes, counted from 0."))
        found.update(same)
    return frozenset(found) if parts else None


def _around(boxes: np.ndarray) -> np.ndarray:
    """Centre, width and height to left, top, right, bottom."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _demand_scores(scores: np.ndarray) -> None:
    if scores.size and (scores.min() < -0.01 or scores.max() > 1.01):
        raise ValueError(f"its scores run from {scores.min():.3g} to {scores.max():.3g} instead of 0 to 1")


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin along a side of the picture, px."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side * (1 - _SHARED))) + 1
    return [round(at) for at in np.linspace(0, length - side, count)]


def _bytes(path: Path) -> bytes:
    """The content of a file that may be an ONNX file."""
    if not path.is_file():
        raise CamouflageError(f"There is no file {path.name} among the detectors of regions. Reload the page, and "
                              "choose another one.")
    if path.stat().st_size > LARGEST_FILE:
        raise CamouflageError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; at most {LARGEST_FILE / 1e6:.0f} "
                              "MB are read. Export a smaller detector.")
    if mistake := mistaken_for(path):
        raise CamouflageError(f"{path.name} cannot be used as a detector. {mistake}")
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":
        raise CamouflageError(f"{path.name} is a pickled PyTorch file with another ending, which may hold a program "
                              f"and is not opened. {_EXPORT}")
    return data


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) if side else "open" for side in shape) or "a single number"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
