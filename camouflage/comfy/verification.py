"""Verification in the host: batches, pictures as pixels, progress and Cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch

from ..errors import CamouflageError
from ..images import as_rgb, bands, check_megapixels
from ..method.faces import Box
from ..method.known import boxes_of, faceless, person_areas
from ..verification.binding import same_shape
from ..verification.detection import Detector, FoundFace, find_faces
from ..verification.hidden import Hidden
from ..verification.policy import Policy
from ..verification.recognition import Threshold, held_to
from ..verification.redaction import Region, changed, redact
from ..verification.report import CheckedPicture, Report, pixels_sha256
from ..verification.scene import together
from ..verification.verify import Blocked, Originals, Verifier, make_report, of_batch, plain_picture, with_known
from .annotators.common import from_uint8, to_uint8
from .detectors import detectors_named, recognisers_named

NO_FACE = ("No face was found, so nothing was redacted: a detector can miss one. Look at the picture; if nobody is in "
           "it, set 'no_face' to 'pass', or to 'skip' to leave such pictures out; if somebody is, draw a box and "
           "connect it as 'boxes'.")
NOBODY_AT_ALL = ("In none of the pictures a face was found, so all of them would be left out. Look at them; if nobody "
                 "is in them, set 'no_face' to 'pass'.")


def make_verifier(detectors: str, recogniser: str, threshold: float, smallest_face: int,
                  calibration: Threshold | None, laxer_threshold: bool = False) -> Verifier:
    """What decides.

    Args:
        detectors: of :data:`~camouflage.verification.names.DETECTOR_CHOICES`.
        recogniser: of :data:`~camouflage.verification.names.RECOGNISER_CHOICES`; where it names two, both must agree,
            and threshold and calibration are the first one's.
        threshold: distance; 0 is the one that the recogniser's publishers advise.
        smallest_face: px, see :class:`Verifier`.
        calibration: a measured threshold instead.
        laxer_threshold: whether the threshold may lie below what the publishers advise.

    Raises:
        CamouflageError: a package or a file is missing; both a threshold and a calibration; a threshold of another
            recogniser, or a laxer one that is not allowed.
    """
    first, *second = recognisers_named(recogniser)
    if calibration is not None:
        if threshold:
            raise CamouflageError(f"'threshold' is {threshold:g}, and 'calibration' is connected. Set 'threshold' to "
                                  "0, or disconnect 'calibration'.")
        chosen = calibration
    else:
        chosen = Threshold(threshold, first.info.name) if threshold else first.threshold
    return Verifier(detectors_named(detectors), first, held_to(chosen, first.threshold, laxer_threshold), smallest_face,
                    pause=mm.throw_exception_if_processing_interrupted,
                    second=(second[0], second[0].threshold) if second else None)


def to_pixels(images: torch.Tensor, socket: str) -> list[np.ndarray]:
    """Checks a batch of pictures, B x H x W x C in 0..1, and gives each as H x W x 3, uint8: what a file would hold."""
    images = as_rgb(images, socket)
    check_megapixels(images, socket)
    return [to_uint8(image) for image in images.split(1)]


def to_images(pixels: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures of one size back to B x H x W x 3 in 0..1, on the host's intermediate device."""
    return torch.cat([from_uint8(picture) for picture in pixels]).to(mm.intermediate_device())


@dataclass(frozen=True, slots=True, eq=False)
class Redaction:
    """What 'Redact' did to a batch.

    Attributes:
        regions: of each picture that it gave.
        sha256: of the pixels of each picture afterwards.
        before: of the pixels of each picture as it was.
        faces: that were found in each.
        detectors: that looked.
        areas: what was filled besides the heads, H x W, bool; None where nothing was.
        kept: the position of each picture in the batch as it came; the others were left out.
        count: of the pictures that came.
    """

    regions: tuple[tuple[Region, ...], ...]
    sha256: tuple[str, ...]
    before: tuple[str, ...] = ()
    faces: tuple[tuple[FoundFace, ...], ...] = ()
    detectors: tuple[str, ...] = ()
    areas: tuple[np.ndarray | None, ...] = ()
    kept: tuple[int, ...] = ()
    count: int = 0

    def found(self, index: int, pixels: np.ndarray, detectors: Sequence[Detector]) -> tuple[FoundFace, ...] | None:
        """The faces of an original, if these detectors have looked at these very pixels already."""
        same = tuple(detector.info.name for detector in detectors) == self.detectors
        return self.faces[index] if same and index < len(self.before) and (
            pixels_sha256(pixels) == self.before[index]) else None

    def of(self, index: int, original: np.ndarray, pixels: np.ndarray, originals: Originals) -> Hidden:
        """What was destroyed in picture ``index``: the persons of the original, and everybody else.

        Raises:
            CamouflageError: these are not the pixels that 'Redact' gave, or they were not made from this original.
        """
        if index >= len(self.sha256) or pixels_sha256(pixels) != self.sha256[index]:
            raise CamouflageError(f"'redacted' is not of picture {index} (counted from 0) of 'anonymized': another "
                                  "picture, or its pixels were changed after 'Redact'. Connect picture and redaction "
                                  "of the same 'Redact'.")
        area = self.areas[index] if index < len(self.areas) else None
        _demand_same_outside(original, pixels, changed(pixels.shape, self.regions[index], area), index)
        hidden = Hidden(area=area)
        for region in self.regions[index]:
            whose = next((number for number, face in enumerate(originals.faces)
                          if together(face, (region.box_ltrb, region.turn))), None)
            hidden = (hidden.with_new([region]) if whose is None
                      else hidden.with_person(whose, region.mode, [region]))
        return hidden


def _demand_same_outside(original: np.ndarray, pixels: np.ndarray, inside: np.ndarray, index: int) -> None:
    """Refuses a redaction that was not made from this original: outside the heads it must be the same."""
    if original.shape == pixels.shape and all(
            ((original[rows] == pixels[rows]).all(axis=2) | inside[rows]).all() for rows in bands(*pixels.shape[:2])):
        return
    raise CamouflageError(f"Picture {index} (counted from 0) of 'anonymized' was redacted from another picture than "
                          "the one in 'original': they differ outside the heads. Connect the same pictures to 'Redact' "
                          "and as 'original'.")


def redact_everybody(images: torch.Tensor, detectors: str, mode: str, size: float, no_face: str, boxes: object = None,
                     person_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, Redaction]:
    """Finds all faces and destroys their heads.

    Args:
        images: B x H x W x C, 0..1.
        detectors: of :data:`~camouflage.verification.names.DETECTOR_CHOICES`.
        mode: of :data:`~camouflage.verification.redaction.MODES`.
        size: factor on the heads' size, from 1 on.
        no_face: "block" raises where none is found, "pass" leaves the picture as it is, "skip" leaves it out.
        boxes: faces that are known, see :func:`~camouflage.method.known.boxes_of`.
        person_mask: where persons are known to be; what of it belongs to no face is filled solid.
    """
    pictures, looking = to_pixels(images, "image"), detectors_named(detectors)
    known, areas = _known(boxes, person_mask, pictures)
    pause = mm.throw_exception_if_processing_interrupted
    progress = comfy.utils.ProgressBar(len(pictures))
    results, regions, before, every, filled, kept = [], [], [], [], [], []
    for index, pixels in enumerate(pictures):
        pause()
        found = find_faces(looking, pixels, pause)
        faces = with_known(found, known[index])
        area = areas[index]
        progress.update(1)
        if not faces and (area is None or not area.any()):
            if no_face == "skip":
                continue
            if no_face == "block":
                raise Blocked(f"Picture {index} (counted from 0): {NO_FACE}{plain_picture(pixels)}")
        heads = tuple(Region(face.box_ltrb, mode, size, face.turn) for face in faces)
        rest = None
        if area is not None:
            rest = faceless(area, [face.bounds for face in faces]) & ~changed(pixels.shape, heads)
            rest = rest if rest.any() else None
        kept.append(index)
        regions.append(heads)
        filled.append(rest)
        every.append(found)
        before.append(pixels_sha256(pixels))
        results.append(redact(pixels, heads, rest))
    if not results:
        raise Blocked(NOBODY_AT_ALL)
    return to_images(results), Redaction(
        tuple(regions), tuple(map(pixels_sha256, results)), tuple(before), tuple(every),
        tuple(detector.info.name for detector in looking), tuple(filled), tuple(kept), len(pictures))


def _known(boxes: object, person_mask: torch.Tensor | None,
           pictures: Sequence[np.ndarray]) -> tuple[list[tuple[Box, ...]], list[np.ndarray | None]]:
    """Boxes and person areas of each picture."""
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    return (boxes_of(boxes, len(pictures), "boxes"), person_areas(person_mask, len(pictures), sizes, "person_mask"))


@dataclass(frozen=True, slots=True)
class OriginalBatch:
    """The originals of a batch, and what is known of the persons in them.

    Attributes:
        images: B x H x W x C, 0..1.
        one_for_all: whether a single original may stand for several results.
        boxes: faces that are known to be in the originals, see :func:`~camouflage.method.known.boxes_of`.
        person_mask: where persons are known to be in them, B x H x W.
    """

    images: torch.Tensor
    one_for_all: bool = False
    boxes: object = None
    person_mask: torch.Tensor | None = None


def everybody(verifier: Verifier, pictures: Sequence[np.ndarray], original: OriginalBatch,
              redaction: Redaction | None = None, done: Callable[[], object] = lambda: None) -> list[Originals]:
    """Finds and embeds the persons of all originals of a batch; ``pictures`` are their pixels."""
    known, areas = _known(original.boxes, original.person_mask, pictures)
    found = []
    for index, pixels in enumerate(pictures):
        faces = redaction.found(index, pixels, verifier.detectors) if redaction else None
        found.append(verifier.originals(pixels, known[index], areas[index], faces))
        done()
    return found


def verify(original: OriginalBatch, anonymized: torch.Tensor, verifier: Verifier, policy: Policy,
           redaction: Redaction | None = None, seed: int | None = None,
           scale: float | None = None) -> tuple[torch.Tensor, Report]:
    """Verifies a batch and does what the policy says, see :meth:`Verifier.settle`.

    Args:
        original: as many as there are results, or one for all where that is allowed.
        anonymized: the results, B x h x w x C.
        verifier: what decides.
        policy: what is done with whom.
        redaction: of 'Redact', where the results come from there.
        seed, scale: for the report.

    Returns:
        The pictures that may go on, on 256 levels, and the report on exactly these. Pictures in whose original nobody
        is found are left out of both where ``policy.no_face`` is "skip".
    """
    before, after = to_pixels(original.images, "original"), to_pixels(anonymized, "anonymized")
    left_out: list[int] = []
    if redaction is not None and len(before) == redaction.count != len(after) == len(redaction.kept):
        left_out = [index for index in range(len(before)) if index not in redaction.kept]
        before = [before[index] for index in redaction.kept]
        original = _picked(original, redaction.kept)
    check_counts(len(before), len(after), original.one_for_all)
    for index, pixels in enumerate(after):
        check_shape(of_batch(before, index), pixels, index, len(after))
    progress = comfy.utils.ProgressBar(len(before) + len(after))
    everyone = everybody(verifier, before, original, redaction, lambda: progress.update(1))
    settled: list[np.ndarray] = []
    checked: list[CheckedPicture] = []
    kept: list[int] = []
    for index, pixels in enumerate(after):
        originals = of_batch(everyone, index)
        progress.update(1)
        if policy.no_face == "skip" and not originals.anybody:
            continue
        with naming(index, len(after)):
            hidden = redaction.of(index, of_batch(before, index), pixels, originals) if redaction else None
            picture, verdicts = verifier.settle(originals, pixels, policy, hidden, others=everyone)
        kept.append(index)
        settled.append(picture)
        checked.append(verdicts)
    if not settled:
        raise Blocked(NOBODY_AT_ALL)
    came = [index for index in range(len(after) + len(left_out)) if index not in left_out]
    skipped = sorted([*left_out, *(came[index] for index in range(len(after)) if index not in kept)])
    chosen = everyone if len(everyone) == 1 else [everyone[index] for index in kept]
    return to_images(settled), make_report(verifier, chosen, checked, seed, scale, skipped)


def _picked(original: OriginalBatch, kept: Sequence[int]) -> OriginalBatch:
    """The batch with boxes and masks of the pictures that were kept alone, where they were given for each."""
    boxes, mask = original.boxes, original.person_mask
    if isinstance(boxes, (list, tuple)) and len(boxes) > max(kept) and all(isinstance(one, (list, tuple))
                                                                          for one in boxes):
        boxes = [boxes[index] for index in kept]
    if mask is not None and mask.ndim == 3 and len(mask) > max(kept):
        mask = mask[list(kept)]
    return replace(original, boxes=boxes, person_mask=mask)


def check_shape(original: np.ndarray, result: np.ndarray, index: int, count: int) -> None:
    """Refuses a result of another shape than its original: the faces would not be where they are looked for."""
    (h, w), (height, width) = original.shape[:2], result.shape[:2]
    if not same_shape((h, w), (height, width)):
        with naming(index, count):
            raise CamouflageError(f"The original is {w} x {h} px and the result {width} x {height} px: another shape, "
                                  "so the faces are not where they are looked for, and nothing can be proved. Connect "
                                  "the picture that went into the sampling (the output of 'Prepare Image') as "
                                  "'original'.")


def check_counts(originals: int, results: int, one_original: bool) -> None:
    """Refuses batches that do not belong together."""
    if originals == results or (originals == 1 and one_original):
        return
    hint = (" If all of them were made from this one original, switch 'one_original' on." if originals == 1 else "")
    raise CamouflageError(f"'original' has {originals} pictures, but {results} results are to be verified. Connect the "
                          f"batch that they were made from.{hint}")


@contextlib.contextmanager
def naming(index: int, count: int) -> Iterator[None]:
    """Puts the picture's number in front of an error of ours, where there are several pictures."""
    try:
        yield
    except CamouflageError as error:
        if count == 1:
            raise
        raise type(error)(f"Picture {index} (counted from 0): {error}") from error
