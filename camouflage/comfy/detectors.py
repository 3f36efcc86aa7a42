"""The detectors and recognisers of :mod:`camouflage.verification.names` in a host: how each is loaded."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as mm
import folder_paths
import numpy as np

from ..packages import package_version
from ..verification import names, onnx_pair
from ..verification.centerface import CenterFace
from ..verification.detection import Detection, Detector, DlibHog
from ..verification.model_info import ModelInfo
from ..verification.onnx_pair import SFace, YuNet, brought_back
from ..verification.recognition import DlibRecogniser, Recogniser
from ..verification.remembering import Remembering
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
        self.info = ModelInfo(names.RETINAFACE, package_version("pyfacer"), of_role(faces.DETECTOR)[0].licence,
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


# Small networks of the CPU, which the host's memory management does not know: loaded once a process, and where they
# come from files, once while these do not change. There the digest is the key, not an argument.
_centerface = functools.cache(CenterFace)
_dlib_hog = functools.cache(DlibHog)
_dlib_resnet = functools.cache(DlibRecogniser)


@functools.lru_cache(maxsize=1)
def _yunet(path: Path, digest: str) -> YuNet:
    return YuNet(path)


@functools.lru_cache(maxsize=1)
def _sface(path: Path, digest: str, points: YuNet) -> SFace:
    return SFace(path, points)


_remembering = functools.lru_cache(maxsize=2)(Remembering)


LOAD_DETECTOR: dict[str, Callable[[], Detector]] = dict(zip(names.DETECTORS, (
    lambda: _remembering(_centerface()), _dlib_hog, RetinaFace, lambda: _remembering(yunet())), strict=True))
LOAD_RECOGNISER: dict[str, Callable[[], Recogniser]] = dict(zip(
    names.RECOGNISERS, (_dlib_resnet, sface), strict=True))


def detectors_named(choice: str) -> tuple[Detector, ...]:
    """The detectors of a choice of :data:`.names.DETECTOR_CHOICES`, in the order in which they look.

    Raises:
        CamouflageError: a package or a weight file is missing; the text names it.
    """
    wanted = installed() if choice == names.ALL_INSTALLED else names.of_choice(choice)
    return tuple(LOAD_DETECTOR[name]() for name in wanted)


def recognisers_named(choice: str) -> tuple[Recogniser, ...]:
    """The recognisers of a choice of :data:`.names.RECOGNISER_CHOICES`; raises as :func:`detectors_named`."""
    return tuple(LOAD_RECOGNISER[name]() for name in names.of_choice(choice))


def installed() -> list[str]:
    """Names of the detectors that need no weights, or whose packages and files are there; nothing is loaded."""
    ready = {names.RETINAFACE: _there(faces.DETECTOR) and importlib.util.find_spec("facer") is not None,
             names.YUNET: _there(onnx_pair.DETECTOR)}
    return [name for name in names.DETECTORS if ready.get(name, True)]


def _there(role: str) -> bool:
    return all(folder_paths.get_full_path(weight.folder, weight.file) for weight in of_role(role))
