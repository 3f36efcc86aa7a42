"""Redaction in the host: what 'Redact' does to a batch, and what 'Verify' needs to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.model_management as mm
import comfy.utils
import numpy as np
import torch

from ..errors import CamouflageError
from ..images import bands, check_sides
from ..method.box_labels import labels_of
from ..method.faces import Box
from ..method.known import boxes_of, exempt_boxes_of, faceless, person_areas
from ..verification.detection import Detector, FoundFace, find_faces
from ..verification.fill_checks import demand_nobody, demand_unlike
from ..verification.fills import GREY_FILL, Fill, colour_of, shrunk
from ..verification.hidden import Hidden
from ..verification.redaction import Region, changed, reached, redact
from ..verification.report import pixels_sha256
from ..verification.scene import together
from ..verification.verify import Blocked, Originals, exempt_of, plain_picture, with_known
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
        others: rectangles that were destroyed besides the heads, of each picture that it gave.
        fill: of what is solid.
    """

    regions: tuple[tuple[Region, ...], ...]
    sha256: tuple[str, ...]
    before: tuple[str, ...] = ()
    faces: tuple[tuple[FoundFace, ...], ...] = ()
    detectors: tuple[str, ...] = ()
    areas: tuple[np.ndarray | None, ...] = ()
    kept: tuple[int, ...] = ()
    count: int = 0
    others: tuple[tuple[Region, ...], ...] = ()
    fill: Fill = GREY_FILL

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
        others = self.others[index] if index < len(self.others) else ()
        _demand_same_outside(original, pixels, changed(pixels.shape, [*self.regions[index], *others], area), index)
        hidden = Hidden(area=area, others=others, fill=self.fill)
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


class Redacted(NamedTuple):
    """What 'Redact' gives.

    Attributes:
        images: B x H x W x 3, 0..1.
        redaction: see :class:`Redaction`.
        mask: B x H x W, 1 where something was covered, soft edges included, else 0.
        boxes: for each picture what was covered, within it: ``x``, ``y``, ``width``, ``height`` in whole px, and
            ``label``: "head", or what the region was called.
        exempt: how many heads of each picture were left by consent.
    """

    images: torch.Tensor
    redaction: Redaction
    mask: torch.Tensor
    boxes: list[list[dict[str, Any]]]
    exempt: tuple[int, ...]


def declared_fill(colour: str, picture: torch.Tensor | None) -> Fill:
    """The fill of two inputs, before anybody has looked at the picture.

    Args:
        colour: "#rrggbb".
        picture: 1 x h x w x 3, 0..1; None: the colour.

    Raises:
        CamouflageError: no colour; no picture, several, or one with an alpha channel; a side outside 64..4096 px.
    """
    levels = colour_of(colour, "fill_colour")
    if picture is None:
        return Fill(levels)
    if picture.ndim == 4 and (len(picture) != 1 or picture.shape[3] not in (1, 3)):
        raise CamouflageError("'fill_picture' must be one picture without an alpha channel, but got "
                              f"{len(picture)} with {picture.shape[3]} channels. What is transparent cannot be judged: "
                              "lay it on a background first, and connect one picture.")
    pixels, = to_pixels(picture, "fill_picture")
    check_sides(picture, "fill_picture")
    return Fill(levels, shrunk(pixels))


def redact_everybody(images: torch.Tensor, detectors: str, mode: str, size: float, no_face: str, boxes: object = None,
                     person_mask: torch.Tensor | None = None, regions: object = None, exempt: object = None,
                     fill: Fill = GREY_FILL) -> Redacted:
    """Finds all faces and destroys their heads.

    Args:
        images: B x H x W x C, 0..1.
        detectors: of :data:`~camouflage.verification.names.DETECTOR_CHOICES`.
        mode: of :data:`~camouflage.verification.redaction.MODES`.
        size: factor on the heads' size, from 1 on.
        no_face: "block" raises where none is found, "pass" leaves the picture as it is, "skip" leaves it out.
        boxes: faces that are known, see :func:`~camouflage.method.known.boxes_of`.
        person_mask: where persons are known to be; what of it belongs to no face is filled solid.
        regions: boxes of what else is destroyed, as rectangles; they do not count as faces.
        exempt: boxes of faces that stay as they are by consent, see
            :func:`~camouflage.method.known.exempt_boxes_of` and :func:`~camouflage.verification.verify.exempt_of`.
        fill: of what is solid; its picture is refused where a face is in it, or where it shows what it is to cover.
    """
    pictures, looking = to_pixels(images, "image"), detectors_named(detectors)
    known, areas = known_persons(boxes, person_mask, pictures)
    rectangles, staying = boxes_of(regions, len(pictures), "regions"), exempt_boxes_of(exempt, len(pictures), "exempt")
    labels = labels_of(regions, len(pictures))
    pause = mm.throw_exception_if_processing_interrupted
    if fill.picture is not None:
        demand_nobody(fill.picture, looking, "fill_picture", pause)
    progress = comfy.utils.ProgressBar(len(pictures))
    results, heads, others, before, every, filled, kept, left = ([] for _ in range(8))
    for index, pixels in enumerate(pictures):
        pause()
        found = find_faces(looking, pixels, pause)
        faces = with_known(found, known[index])
        area = areas[index]
        progress.update(1)
        if fill.picture is not None:
            demand_unlike(fill.picture, pixels, faces, index, "fill_picture", pause)
        if not faces and (area is None or not area.any()):
            if no_face == "skip":
                continue
            if no_face == "block":
                raise Blocked(f"Picture {index} (counted from 0): {NO_FACE}{plain_picture(pixels)}")
        stay = exempt_of(faces, staying[index])
        covered = tuple(Region(face.box_ltrb, mode, size, face.turn) for number, face in enumerate(faces)
                        if number not in stay)
        boxed = tuple(Region(box, mode, rectangle=True) for box in rectangles[index])
        rest = None
        if area is not None:
            rest = faceless(area, [face.bounds for face in faces]) & ~changed(pixels.shape, covered)
            rest = rest if rest.any() else None
        kept.append(index)
        heads.append(covered)
        others.append(boxed)
        filled.append(rest)
        every.append(found)
        left.append(len(stay))
        before.append(pixels_sha256(pixels))
        results.append(redact(pixels, [*covered, *boxed], rest, fill))
    if not results:
        raise Blocked(NOBODY_AT_ALL)
    redaction = Redaction(
        tuple(heads), tuple(map(pixels_sha256, results)), tuple(before), tuple(every),
        tuple(detector.info.name for detector in looking), tuple(filled), tuple(kept), len(pictures), tuple(others),
        fill)
    shapes = [picture.shape for picture in results]
    where = [changed(shape, [*covered, *boxed], rest)
             for shape, covered, boxed, rest in zip(shapes, heads, others, filled, strict=True)]
    named = [[*_boxes(shape, covered, ["head"] * len(covered)), *_boxes(shape, boxed, labels[index])]
             for shape, covered, boxed, index in zip(shapes, heads, others, kept, strict=True)]
    mask = torch.from_numpy(np.stack(where)).float().to(mm.intermediate_device())
    return Redacted(to_images(results), redaction, mask, named, tuple(left))


def _boxes(shape: Sequence[int], regions: Sequence[Region], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Regions as BOUNDING_BOX, with their soft edges, within the picture; those that do not touch it are left out."""
    found = []
    for region, label in zip(regions, labels, strict=True):
        if (bounds := reached(region, shape)) is not None:
            left, top, right, bottom = bounds
            found.append({"x": left, "y": top, "width": right - left, "height": bottom - top, "label": label})
    return found


def known_persons(boxes: object, person_mask: torch.Tensor | None,
           pictures: Sequence[np.ndarray]) -> tuple[list[tuple[Box, ...]], list[np.ndarray | None]]:
    """Boxes and person areas of each picture."""
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    return (boxes_of(boxes, len(pictures), "boxes"), person_areas(person_mask, len(pictures), sizes, "person_mask"))
