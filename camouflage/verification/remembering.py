"""A detector that keeps what it found: nobody waits twice for the same pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from .detection import Detection, Detector, Stepwise
from .report import pixels_sha256
from .views import in_parallel, nothing


class InSteps(Detector, Stepwise, Protocol):
    """A detector that works in steps."""


class Remembering:
    """A detector that looks at the same pixels once, however often it is asked.

    One picture is asked about again and again: before and after it is covered, and in every run in which somebody
    tries another policy, seed or scale. Boxes are kept, by the SHA-256 of the pixels; pictures are not.

    Args:
        detector: what looks; it has to give the same for the same pixels.
        most: pictures that are remembered; the one that was asked for longest ago is forgotten (our choice: a batch,
            its originals and their crops).
    """

    def __init__(self, detector: InSteps, most: int = 256) -> None:
        self.info, self.confident = detector.info, detector.confident
        self._detector, self._most = detector, most
        self._known: OrderedDict[str, list[Detection]] = OrderedDict()

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`."""
        return self.joined(pixels, in_parallel(self.steps(pixels)))

    def steps(self, pixels: np.ndarray) -> list[Callable[[], list[Detection]]]:
        """See :class:`Stepwise`; none where the pixels are known."""
        return [] if pixels_sha256(pixels) in self._known else self._detector.steps(pixels)

    def joined(self, pixels: np.ndarray, found: Sequence[list[Detection]],
               pause: Callable[[], None] = nothing) -> list[Detection]:
        """See :class:`Stepwise`; looks after all where the pixels were forgotten in between."""
        key = pixels_sha256(pixels)
        detections = self._known.pop(key, None)
        if detections is None:
            found = found or in_parallel(self._detector.steps(pixels), pause)
            detections = self._detector.joined(pixels, found, pause)
        self._known[key] = detections
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return list(detections)
