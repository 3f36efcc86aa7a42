"""Verification in the host: which detectors and recogniser there are, pictures as pixels, progress and Cancel."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch

from ..camouflage.errors import CamouflageError
from ..camouflage.images import ASPECT_TOLERANCE, as_rgb, check_sides
from ..camouflage.verification.detection import CenterFace, Detector, DlibHog, find_faces, same_face
from ..camouflage.verification.recognition import DlibRecogniser, Recogniser, Threshold
from ..camouflage.verification.redaction import Region, redact
from ..camouflage.verification.report import CheckedPicture, Report, pixels_sha256
from ..camouflage.verification.verify import Originals, Verifier, make_report, of_batch
from .annotators.common import from_uint8, to_uint8
from .detectors import OPTIONAL_DETECTORS, installed_detectors, sface
from .messages import warn

DETECTORS = ("CenterFace + dlib", "CenterFace", "CenterFace + dlib + RetinaFace", "CenterFace + dlib + YuNet",
             "all that are installed")
RECOGNISERS = ("dlib ResNet", "SFace")
NO_FACE = ("No face was found, so nothing was redacted: a detector can miss one. Look at the picture; if nobody is in "
           "it, set 'no_face' to 'pass'.")

# Small networks of the CPU, which the host's memory management does not know: loaded once a process.
_centerface = functools.cache(CenterFace)
_hog = functools.cache(DlibHog)
_dlib = functools.cache(DlibRecogniser)


def detectors_named(choice: str) -> tuple[Detector, ...]:
    """The detectors of a choice of ``DETECTORS``, in the order in which they look.

    Raises:
        CamouflageError: a package or a weight file is missing; the text names it.
    """
    if choice == DETECTORS[-1]:
        return _centerface(), _hog(), *(load() for load in installed_detectors().values())
    ready: dict[str, Callable[[], Detector]] = {"CenterFace": _centerface, "dlib": _hog, **OPTIONAL_DETECTORS}
    return tuple(ready[name]() for name in choice.split(" + "))


def recogniser_named(choice: str) -> Recogniser:
    """The recogniser of a choice of ``RECOGNISERS``; raises as :func:`detectors_named`."""
    return sface() if choice == "SFace" else _dlib()


def make_verifier(detectors: str, recogniser: str, threshold: float, smallest_face: int,
                  calibration: Threshold | None) -> Verifier:
    """What decides.

    Args:
        detectors: of ``DETECTORS``.
        recogniser: of ``RECOGNISERS``.
        threshold: distance; 0 is the one that the recogniser's publishers advise.
        smallest_face: px, see :class:`Verifier`.
        calibration: a measured threshold instead.
    """
    tool = recogniser_named(recogniser)
    if calibration is not None:
        if threshold:
            raise CamouflageError(f"'threshold' is {threshold:g}, and 'calibration' is connected. Set 'threshold' to "
                                  "0, or disconnect 'calibration'.")
        chosen = calibration
    else:
        chosen = Threshold(threshold, tool.tool.name) if threshold else tool.threshold
    return Verifier(detectors_named(detectors), tool, chosen, smallest_face,
                    pause=mm.throw_exception_if_processing_interrupted)


def to_pixels(images: torch.Tensor, socket: str) -> list[np.ndarray]:
    """Checks a batch of pictures, B x H x W x C in 0..1, and gives each as H x W x 3, uint8: what a file would hold."""
    images = as_rgb(images, socket)
    check_sides(images, socket)
    return [to_uint8(image) for image in images.split(1)]


def to_images(pixels: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures of one size back to B x H x W x 3 in 0..1, on the host's intermediate device."""
    return torch.cat([from_uint8(picture) for picture in pixels]).to(mm.intermediate_device())


@dataclass(frozen=True, slots=True)
class Redaction:
    """What 'Redact' did to a batch.

    Attributes:
        regions: of each picture.
        sha256: of the pixels of each picture afterwards.
    """

    regions: tuple[tuple[Region, ...], ...]
    sha256: tuple[str, ...]

    def of(self, index: int, pixels: np.ndarray, originals: Originals) -> dict[int, str]:
        """Persons of the original whose region was destroyed in picture ``index``, and how.

        Raises:
            CamouflageError: these are not the pixels that 'Redact' gave.
        """
        if index >= len(self.sha256) or pixels_sha256(pixels) != self.sha256[index]:
            raise CamouflageError(f"'redacted' is not of picture {index} (counted from 0) of 'anonymized': another "
                                  "picture, or its pixels were changed after 'Redact'. Connect picture and redaction "
                                  "of the same 'Redact'.")
        return {number: region.mode for number, face in enumerate(originals.faces) for region in self.regions[index]
                if same_face(face.box_ltrb, region.box_ltrb)}


def redact_everybody(images: torch.Tensor, detectors: str, mode: str, size: float,
                     nobody: str) -> tuple[torch.Tensor, Redaction]:
    """Finds all faces and destroys their heads.

    Args:
        images: B x H x W x C, 0..1.
        detectors: of ``DETECTORS``.
        mode: of :data:`..camouflage.verification.redaction.MODES`.
        size: factor on the heads' size, from 1 on.
        nobody: "block" raises where no face is found, "pass" leaves the picture as it is.
    """
    pictures, tools = to_pixels(images, "image"), detectors_named(detectors)
    progress = comfy.utils.ProgressBar(len(pictures))
    results, regions = [], []
    for index, pixels in enumerate(pictures):
        mm.throw_exception_if_processing_interrupted()
        faces = find_faces(tools, pixels)
        if not faces and nobody == "block":
            raise CamouflageError(f"Picture {index} (counted from 0): {NO_FACE}")
        regions.append(tuple(Region(face.box_ltrb, mode, size) for face in faces))
        results.append(redact(pixels, regions[-1]))
        progress.update(1)
    return to_images(results), Redaction(tuple(regions), tuple(map(pixels_sha256, results)))


def verify(original: torch.Tensor, anonymized: torch.Tensor, verifier: Verifier, policy: str, nobody: str, mode: str,
           redaction: Redaction | None = None, seed: int | None = None,
           scale: float | None = None) -> tuple[torch.Tensor, Report]:
    """Verifies a batch and does what the policy wants, see :meth:`Verifier.settle`.

    Args:
        original: the originals, B x H x W x C, or one for all.
        anonymized: the results, B x h x w x C.
        verifier: what decides.
        policy, nobody, mode: see :meth:`Verifier.settle`.
        redaction: of 'Redact', where the results come from there.
        seed, scale: for the report.

    Returns:
        The pictures that may go on, on 256 levels, and the report on exactly these.
    """
    before, after = to_pixels(original, "original"), to_pixels(anonymized, "anonymized")
    check_counts(len(before), len(after))
    progress = comfy.utils.ProgressBar(len(after))
    everyone: list[Originals] = []
    settled: list[np.ndarray] = []
    checked: list[CheckedPicture] = []
    for index, pixels in enumerate(after):
        if index < len(before):
            everyone.append(verifier.originals(before[index]))
        originals = of_batch(everyone, index)
        _warn_of_other_shape(originals, pixels)
        redacted = redaction.of(index, pixels, originals) if redaction else None
        with naming(index, len(after)):
            picture, verdicts = verifier.settle(originals, pixels, policy, nobody, mode, redacted)
        settled.append(picture)
        checked.append(verdicts)
        progress.update(1)
    return to_images(settled), make_report(verifier, everyone, checked, seed, scale)


def _warn_of_other_shape(originals: Originals, pixels: np.ndarray) -> None:
    height, width = pixels.shape[:2]
    if abs(originals.width / originals.height / (width / height) - 1) > ASPECT_TOLERANCE:
        warn(f"The original is {originals.width} x {originals.height} px and the result {width} x {height} px: another "
             "shape, so the places of the faces are not where they are looked for. Only faces that are found are "
             "compared. Connect the picture that went into the sampling as 'original'.")


def check_counts(originals: int, results: int) -> None:
    """Refuses batches that do not belong together."""
    if originals not in (1, results):
        raise CamouflageError(f"'original' has {originals} pictures, but {results} results are to be verified. Connect "
                              "the batch that they were made from, or one original for all.")


@contextlib.contextmanager
def naming(index: int, count: int) -> Iterator[None]:
    """Puts the picture's number in front of an error of ours, where there are several pictures."""
    try:
        yield
    except CamouflageError as error:
        if count == 1:
            raise
        raise type(error)(f"Picture {index} (counted from 0): {error}") from error
