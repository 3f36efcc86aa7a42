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
from ..method.known import exempt_boxes_of, for_each_picture
from ..verification.binding import same_shape
from ..verification.policy import Policy
from ..verification.recognition import Threshold, held_to
from ..verification.report import CheckedPicture, Report
from ..verification.verify import Blocked, Originals, Verifier, make_report, of_batch
from .detectors import detectors_named, recognisers_named
from .pixels import to_images, to_pixels
from .redaction import NOBODY_AT_ALL, Redaction, known_persons


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


@dataclass(frozen=True, slots=True)
class OriginalBatch:
    """The originals of a batch, and what is known of the persons in them.

    Attributes:
        images: B x H x W x C, 0..1.
        one_for_all: whether a single original may stand for several results.
        boxes: faces that are known to be in the originals, see :func:`~camouflage.method.known.boxes_of`.
        person_mask: where persons are known to be in them, B x H x W.
        exempt: faces that stay as they are by consent, see :func:`~camouflage.method.known.exempt_boxes_of`.
    """

    images: torch.Tensor
    one_for_all: bool = False
    boxes: object = None
    person_mask: torch.Tensor | None = None
    exempt: object = None


def everybody(verifier: Verifier, pictures: Sequence[np.ndarray], original: OriginalBatch,
              redaction: Redaction | None = None, done: Callable[[], object] = lambda: None) -> list[Originals]:
    """Finds and embeds the persons of all originals of a batch; ``pictures`` are their pixels."""
    known, areas = known_persons(original.boxes, original.person_mask, pictures)
    exempt = exempt_boxes_of(original.exempt, len(pictures), "exempt")
    found = []
    for index, pixels in enumerate(pictures):
        faces = redaction.found(index, pixels, verifier.detectors) if redaction else None
        found.append(verifier.originals(pixels, known[index], areas[index], faces, exempt[index]))
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
    def picked(boxes: object) -> object:
        if for_each_picture(boxes) and len(boxes) > max(kept):
            return [boxes[index] for index in kept]
        return boxes

    mask = original.person_mask
    if mask is not None and mask.ndim == 3 and len(mask) > max(kept):
        mask = mask[list(kept)]
    return replace(original, boxes=picked(original.boxes), exempt=picked(original.exempt), person_mask=mask)


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
