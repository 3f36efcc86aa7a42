"""Detectors and a recogniser that work once their files are there: FACER's RetinaFace, YuNet and SFace."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as mm
import folder_paths
import numpy as np

from ..packages import package_version
from ..verification import onnx_pair
from ..verification.detection import Detection, Detector
from ..verification.model_info import ModelInfo
from ..verification.onnx_pair import SFace, YuNet, brought_back
from ..verification.views import Sweep, beyond, views
from ..weights import of_role
from . import faces, weights

_LOWEST = 0.3  # least score of a detection


class RetinaFace:
    """FACER's face detector (MIT), the one that reads faces for Light, under the host's memory management.

    It looks at a picture of up to 1600 px at its own scale; at a larger one with its longer side at 1280 px, and in
    tiles at full size; each in four orientations.

    Raises:
        CamouflageError: its file is missing, damaged or not the published one; pyfacer is not installed.
    """

    confident = 0.5

    def __init__(self) -> None:
        path, = weights.find(faces.DETECTOR)
        faces.load_detector()
        self.info = ModelInfo("RetinaFace", package_version("pyfacer"), of_role(faces.DETECTOR)[0].licence,
                         (weights.digest_of(path),))

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        """See :class:`Detector`; scores are 0..1, from 0.3 on (our choice; FACER's own default is 0.8).

        Scores lose 0.1 where the picture was turned, see :func:`.onnx_pair.brought_back`. Obeys Cancel.
        """
        longer = max(pixels.shape[:2])
        tiled = beyond(longer)
        found: list[Detection] = []
        for view in views(np.ascontiguousarray(pixels), [Sweep(1280 if tiled else longer), *tiled]):
            mm.throw_exception_if_processing_interrupted()
            found += brought_back(view, faces.boxes_and_points(view.turned(), _LOWEST), _LOWEST)
        return found


def yunet() -> YuNet:
    """The detector YuNet; loaded once while its file does not change.

    Raises:
        CamouflageError: its file is missing, damaged or not the published one.
    """
    path, = weights.find(onnx_pair.DETECTOR)
    return _yunet(path, weights.digest_of(path))


def sface() -> SFace:
    """The recogniser SFace with its YuNet; loaded once while their files do not change.

    Raises:
        CamouflageError: a file is missing, damaged or not the published one.
    """
    path, = weights.find(onnx_pair.RECOGNISER)
    return _sface(path, weights.digest_of(path), yunet())


# Small networks of the CPU, which the host's memory management does not know. The digest is the key, not an argument.
@functools.lru_cache(maxsize=1)
def _yunet(path: Path, digest: str) -> YuNet:
    return YuNet(path)


@functools.lru_cache(maxsize=1)
def _sface(path: Path, digest: str, points: YuNet) -> SFace:
    return SFace(path, points)


OPTIONAL_DETECTORS: dict[str, Callable[[], Detector]] = {"RetinaFace": RetinaFace, "YuNet": yunet}


def installed_detectors() -> dict[str, Callable[[], Detector]]:
    """The part of ``OPTIONAL_DETECTORS`` whose packages and files are there. Nothing is loaded or checked."""
    ready = {"RetinaFace": _there(faces.DETECTOR) and importlib.util.find_spec("facer") is not None,
             "YuNet": _there(onnx_pair.DETECTOR)}
    return {name: load for name, load in OPTIONAL_DETECTORS.items() if ready[name]}


def _there(role: str) -> bool:
    return all(folder_paths.get_full_path(weight.folder, weight.file) for weight in of_role(role))
