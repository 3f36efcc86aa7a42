"""Redaction in the host: what 'Redact' does to a batch, and what 'Verify' needs to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch

from ..errors import CamouflageError
from ..images import bands
from ..method.faces import Box
from ..method.known import boxes_of, faceless, person_areas
from ..verification.detection import Detector, FoundFace, find_faces
from ..verification.hidden import Hidden
from ..verification.redaction import Region, changed, redact
from ..verification.report import pixels_sha256
from ..verification.scene import together
from ..verification.verify import Blocked, Originals, plain_picture, with_known
from .detectors import detectors_named
from .pixels import to_images, to_pixels

NO_FACE = ("No face was found, so nothing was redacted: a detector can miss one. Look at the picture; if nobody is in "
           "it, set 'no_face' to 'pass', or to 'skip' to leave such pictures out; if somebody is, draw a box and "
           "connect it as 'boxes'.")
NOBODY_AT_ALL = ("In none of the pictures a face was found, so all of them would be left out. Look at them; if nobody "
                 "is in them, set 'no_face' to 'pass'.")


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
    known, areas = known_persons(boxes, person_mask, pictures)
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


def known_persons(boxes: object, person_mask: torch.Tensor | None,
           pictures: Sequence[np.ndarray]) -> tuple[list[tuple[Box, ...]], list[np.ndarray | None]]:
    """Boxes and person areas of each picture."""
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    return (boxes_of(boxes, len(pictures), "boxes"), person_areas(person_mask, len(pictures), sizes, "person_mask"))
