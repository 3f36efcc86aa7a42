"""YuNet and SFace, a face detector and a face recogniser of OpenCV's model zoo, from files that the user supplies.

Their files are ONNX: data, no program. OpenCV runs them on the CPU (``cv2.FaceDetectorYN``, ``cv2.FaceRecognizerSF``;
OpenCV 4.8 or newer). It does not look at what a detector's network returns before it reads from it, so that is
looked at here, once, when the file is opened.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..files import file_sha256
from ..method.faces import Box, clip_box
from ..method.keypoints import mean_points
from ..packages import require
from ..weights import mistaken_for, of_role
from . import names
from .detection import NEARLY_UPRIGHT, TURNED, Detection
from .model_info import ModelInfo
from .places import half_turn, overlap, same_face
from .recognition import ADVICE
from .views import Sweep, View, beyond, nothing, resized, views

DETECTOR, RECOGNISER = "face detector (YuNet)", "face recogniser (SFace)"
_LOWEST = 0.3  # least score of a detection
_CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # of YuNet's outputs, for every cell of 8, 16 and 32 px


class YuNet:
    """YuNet (MIT).

    It was trained to find upright faces of about 10 to 300 px, so it looks at the picture with its longer side at 320,
    640 and 1280 px, and in tiles at full size where it is larger than 1600 px, each in four orientations: the small
    sweeps find faces that fill the picture. Sure from the score that the zoo's own class takes.

    Args:
        path: of the ONNX file, ``face_detection_yunet_2023mar.onnx``.

    Raises:
        CamouflageError: the file is missing, damaged or another model; OpenCV is not installed.
    """

    confident = 0.6

    def __init__(self, path: Path) -> None:
        cv2 = require("cv2", "opencv-python", "The face detector YuNet")

        def load(model: np.ndarray) -> Any:
            _demand_outputs(cv2.dnn.readNetFromONNX(model))
            return _created(cv2.FaceDetectorYN.create, path, model, (320, 320), _LOWEST)

        self._net, self._lock = _opened(path, DETECTOR, load), threading.Lock()
        self.info = ModelInfo(names.YUNET, f"{path.name}, OpenCV {cv2.__version__}", "MIT", (file_sha256(path),))

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`.detection.Detector`; scores are 0..1, from 0.3 on (our choice; OpenCV's own default is 0.9).

        Scores lose 0.1 where the picture was turned, see :func:`brought_back`.
        """
        return self.joined(pixels, [step() for step in self.steps(pixels)])

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """See :class:`.detection.Stepwise`; one a view. They take turns: the network keeps its input's size."""
        sweeps = [Sweep(320), Sweep(640), Sweep(1280), *beyond(max(pixels.shape[:2]))]
        return [lambda view=view: self._look(view) for view in views(np.ascontiguousarray(pixels), sweeps)]

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """See :class:`.detection.Stepwise`; a face that several views show is there several times."""
        return [one for ones in found for one in ones]

    def face_at(self, pixels: np.ndarray, box_ltrb: Box) -> np.ndarray | None:
        """The face in a box of the picture, as OpenCV has it; None where it finds none there.

        Looks at twice the box at 320 px, so that faces of every size are seen at one.

        Args:
            pixels: H x W x 3, uint8.
            box_ltrb: in pixels; may leave the picture.

        Returns:
            15 numbers: left, top, width, height, five points (x, y), score; in pixels of the picture.
        """
        left, top, right, bottom = box_ltrb
        across, down = (right - left) / 2, (bottom - top) / 2
        around = clip_box((left - across, top - down, right + across, bottom + down), *pixels.shape[:2])
        if around is None:
            return None
        x, y = int(around[0]), int(around[1])
        crop = np.ascontiguousarray(pixels[y:int(np.ceil(around[3])), x:int(np.ceil(around[2]))])
        faces = self._faces(crop, 320)
        faces[:, 0] += x
        faces[:, 1] += y
        faces[:, 4:14] += np.tile([x, y], 5)
        best = max(faces, key=lambda face: overlap(_box(face), box_ltrb), default=None)
        return best if best is not None and same_face(_box(best), box_ltrb) else None

    def _look(self, view: View) -> list[Detection]:
        """What it sees in one view, in pixels of the picture."""
        faces = self._run(view.turned())
        return brought_back(view, [(_box(face), face[4:14].reshape(5, 2), float(face[14])) for face in faces], _LOWEST)

    def _faces(self, pixels: np.ndarray, side: int) -> np.ndarray:
        """All faces, n x 15, float32, in pixels of the picture, seen with its longer side at ``side`` px."""
        seen, _ = resized(pixels, side)
        faces = self._run(seen)
        faces[:, 0:14:2] *= pixels.shape[1] / seen.shape[1]
        faces[:, 1:14:2] *= pixels.shape[0] / seen.shape[0]
        return faces

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """All faces, n x 15, float32, seen as the pixels are."""
        bgr = np.ascontiguousarray(pixels[..., ::-1])  # OpenCV takes BGR
        with self._lock:
            self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
            _, faces = self._net.detect(bgr)
        return np.zeros((0, 15), np.float32) if faces is None else faces[np.isfinite(faces).all(axis=1)]


class SFace:
    """SFace (Apache-2.0), aligned by the five points that YuNet finds.

    Where YuNet finds no face in a box, the points lie where they lie in a mean face (our choice): a place must be
    compared whatever it shows.

    Args:
        path: of the ONNX file, ``face_recognition_sface_2021dec.onnx``.
        yunet: finds the points.

    Raises:
        CamouflageError: the file is missing, damaged or another model; OpenCV is not installed.
    """

    metric = "cosine"

    def __init__(self, path: Path, yunet: YuNet) -> None:
        cv2 = require("cv2", "opencv-python", "The face recogniser SFace")

        def load(model: np.ndarray) -> Any:
            net = _created(cv2.FaceRecognizerSF.create, path, model)
            shape = np.shape(net.feature(np.zeros((112, 112, 3), np.uint8)))
            if shape != (1, 128):
                raise ValueError(f"it returns {' x '.join(map(str, shape))} numbers instead of 1 x 128")
            return net

        self._net, self._yunet = _opened(path, RECOGNISER, load), yunet
        self.info = ModelInfo(names.SFACE, f"{path.name}, OpenCV {cv2.__version__}, points by YuNet", "Apache-2.0",
                              (file_sha256(path), *yunet.info.sha256))
        self.threshold = ADVICE[self.info.name]

    def embed(self, pixels: np.ndarray, boxes_ltrb: Sequence[Box]) -> np.ndarray:
        """See :class:`.recognition.Recogniser`; d is 128."""
        result = np.zeros((len(boxes_ltrb), 128), np.float32)
        pixels = np.ascontiguousarray(pixels)
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        for row, box in zip(result, boxes_ltrb, strict=True):
            face = self._yunet.face_at(pixels, box)
            face = _mean_face(box) if face is None else face
            row[:] = self._net.feature(self._net.alignCrop(bgr, face[None]))[0]
        return result

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """1 - cosine, 0..2; NaN for an embedding of nothing but zeros."""
        with np.errstate(invalid="ignore"):
            a, b = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (a, b))
        return np.maximum(1 - a @ b.T, 0.0)


def brought_back(view: View, found: Iterable[tuple[Box, Sequence[Sequence[float]] | np.ndarray, float]],
                 least: float) -> list[Detection]:
    """What a detector found in a view, in the picture.

    Args:
        view: that it looked at.
        found: boxes (left, top, right, bottom), points (x, y; the first two are the viewer's left eye and right eye)
            and scores, in pixels of ``view.turned()``.
        least: score. Where the picture was turned, scores lose 0.1 (our choice), for things look like faces more
            often there; so the upright look gives the box of a face that it sees as well.

    Returns:
        In the order of ``found``; heads whose eyes lie within 25 degrees of level count as upright in the view.
    """
    loss = TURNED if view.quarters else 0.0
    return [Detection(view.back(box), score - loss, _turn(view.turn, points[0], points[1]))
            for box, points, score in found if score - loss >= least]


def _turn(turn: float, left_eye: Sequence[float] | np.ndarray, right_eye: Sequence[float] | np.ndarray) -> float:
    """Degrees, -180 (left out) to 180, by which a head is turned of which a view turned so far shows the eyes there."""
    roll = math.degrees(math.atan2(right_eye[1] - left_eye[1], right_eye[0] - left_eye[0]))
    return half_turn(turn - roll) if abs(roll) > NEARLY_UPRIGHT else turn


def _box(face: np.ndarray) -> Box:
    left, top, width, height = (float(value) for value in face[:4])
    return left, top, left + width, top + height


def _mean_face(box_ltrb: Box) -> np.ndarray:
    """A mean face in a box, as OpenCV has a detection."""
    left, top, right, bottom = box_ltrb
    return np.array([left, top, right - left, bottom - top, *np.ravel(mean_points(box_ltrb)), 0], np.float32)


def _demand_outputs(net: Any) -> None:
    """Refuses a network whose outputs are not YuNet's."""
    height, width = 64, 96
    net.setInput(np.zeros((1, 3, height, width), np.float32))
    names = [f"{kind}_{stride}" for kind in _CHANNELS for stride in (8, 16, 32)]
    for name, values in zip(names, net.forward(names), strict=True):
        kind, stride = name.split("_")
        wanted = _CHANNELS[kind] * (height // int(stride)) * (width // int(stride))
        if values.size != wanted or values.dtype != np.float32:
            raise ValueError(f"its output {name} has {values.size} numbers instead of {wanted}")


def _created(create: Callable[..., Any], path: Path, model: np.ndarray, *settings: Any) -> Any:
    """From memory, for on Windows OpenCV opens no path with letters beyond ASCII; older versions take only a path."""
    try:
        return create("onnx", model, np.zeros(0, np.uint8), *settings)
    except TypeError:
        return create(str(path), "", *settings)


def _opened(path: Path, role: str, load: Callable[[np.ndarray], Any]) -> Any:
    """Loads a file's bytes, and says what is wrong with them."""
    import cv2

    weight, = of_role(role)
    source = f"{weight.url}  (licence: {weight.licence})"
    if not path.is_file():
        raise CamouflageError(f"Weights for '{role}' are missing: there is no file {path}. Download it by hand from "
                              f"{source}")
    model = np.fromfile(path, np.uint8)
    try:
        if mistake := mistaken_for(path):
            raise ValueError(mistake)
        return load(model)
    except (cv2.error, ValueError) as error:
        why = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise CamouflageError(f"{path} could not be loaded as '{role}' ({why}). The file is damaged or is another "
                              f"model. Delete it and download it again from {source}") from error
