"""Recognisers that only compare: networks in ONNX files that the user supplies.

They play the attacker, so they need no threshold of their own: every rate is taken from the originals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..files import file_sha256
from ..method.faces import Box
from ..method.keypoints import mean_points, predicted_points
from ..packages import require
from ..verification.model_info import ModelInfo

_ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
                     [70.7299, 92.2041]])
"""Where the five points of a face lie in ArcFace's 112 x 112 px."""


@dataclass(frozen=True)
class Kind:
    """How a family of networks sees a face.

    Attributes:
        side: px of its input.
        bgr: blue first.
        scale: values are (level - 127.5) / scale.
    """

    side: int
    bgr: bool
    scale: float


KINDS = {"arcface": Kind(112, False, 127.5), "cosface": Kind(112, False, 127.5), "adaface": Kind(112, True, 127.5),
         "facenet": Kind(160, False, 128.0)}
"""By the word before the file's name on the command line, as their publishers prepare faces. FaceNet's pictures are
aligned as the others' are (our choice; its publishers cut the detector's box)."""


class OnnxRecogniser:
    """A network in a file, run by OpenCV on the CPU; cosine distances.

    Faces are aligned by the five points that dlib finds in the picture itself; where dlib is not installed, by those of
    a mean face in the box.

    Args:
        kind: of ``KINDS``.
        path: of the ONNX file, one input 1 x 3 x side x side, one output 1 x d.

    Raises:
        CamouflageError: no such kind or file, no ONNX, or another network.
    """

    metric = "cosine"

    def __init__(self, kind: str, path: Path) -> None:
        cv2 = require("cv2", "opencv-python", "A recogniser of an ONNX file")
        if kind not in KINDS:
            raise CamouflageError(f"A recogniser's kind must be {', '.join(KINDS)}, not {kind!r}: it says how its "
                                  "network sees a face, such as arcface:FILE.onnx.")
        if not path.is_file():
            raise CamouflageError(f"There is no recogniser {path}. Name an ONNX file.")
        self._kind = KINDS[kind]
        _demand_input(path, self._kind.side)
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(np.fromfile(path, np.uint8))
            shape = self._forward(np.zeros((self._kind.side, self._kind.side, 3), np.uint8)).shape
        except cv2.error as error:
            why = (str(error).strip().splitlines() or ["no message"])[0][:200]
            raise CamouflageError(f"{path} could not be run as a recogniser of {self._kind.side} x {self._kind.side} "
                                  f"px ({why}). It must be an ONNX file of a network of the kind {kind}.") from error
        if len(shape) != 1 or not 32 <= shape[0] <= 4096:
            raise CamouflageError(f"{path} gives {' x '.join(map(str, shape)) or 'nothing'} numbers for a face; a "
                                  "recogniser gives one vector of 32 to 4096.")
        self._width = shape[0]
        self.info = ModelInfo(f"{kind} {path.stem}", f"OpenCV {cv2.__version__}", "supplied by the user",
                              (file_sha256(path),))

    def embed(self, pixels: np.ndarray, boxes_ltrb: Sequence[Box]) -> np.ndarray:
        """See :class:`..verification.recognition.Embedder`; unit vectors."""
        rows = [self._forward(self._aligned(pixels, box)) for box in boxes_ltrb]
        found = np.array(rows, np.float32).reshape(-1, self._width)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """1 - cosine, 0..2."""
        return np.maximum(1 - a @ b.T, 0)

    def _aligned(self, pixels: np.ndarray, box_ltrb: Box) -> np.ndarray:
        return aligned(pixels, np.array(predicted_points(pixels, box_ltrb) or mean_points(box_ltrb)), self._kind.side)

    def _forward(self, face: np.ndarray) -> np.ndarray:
        values = face[..., ::-1] if self._kind.bgr else face
        values = (values.astype(np.float32) - 127.5) / self._kind.scale
        self._net.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
        return np.array(self._net.forward()).squeeze()


def _demand_input(path: Path, side: int) -> None:
    """Refuses a network of another input: OpenCV would read beyond what it is given."""
    onnx = require("onnx", "onnx", "A recogniser of an ONNX file")
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # whatever a broken file makes of it
        raise CamouflageError(f"{path} is no ONNX file ({type(error).__name__}).") from error
    constants = {one.name for one in graph.initializer}
    shapes = [[axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in graph.input
              if one.name not in constants]
    if len(shapes) != 1 or len(shapes[0]) != 4 or any(
            found not in (0, wanted) for found, wanted in zip(shapes[0][1:], (3, side, side), strict=True)):
        raise CamouflageError(f"{path} takes {' and '.join(map(str, shapes)) or 'nothing'} as its input; a recogniser "
                              f"of this kind takes one picture of 3 x {side} x {side}.")


def aligned(pixels: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """A face as ArcFace has it: its five points laid on the template by the best similarity (Umeyama, 1991).

    Args:
        pixels: H x W x 3, uint8.
        points: 5 x 2, pixels.
        side: of the result, px; the template is scaled from 112.
    """
    import cv2

    matrix = similarity(points, _ARCFACE * (side / 112))
    return cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (side, side), flags=cv2.INTER_LINEAR)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 2 x 3 matrix of turn, scale and shift, without mirroring, that brings points n x 2 nearest to others.

    Least squares in closed form: complex numbers a, b that minimise |a z + b - w|^2.
    """
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (np.asarray(source, float), np.asarray(target, float)))
    centred = z - z.mean()
    spread = float((np.abs(centred) ** 2).sum())
    a = (np.conj(centred) @ (w - w.mean())) / spread if spread > 0 else 1.0 + 0j
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
