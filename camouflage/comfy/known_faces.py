"""Finding the faces of a picture, and looking closer where the workflow knows of a person: a box, a person's area."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import comfy.model_management as mm
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import CamouflageError
from ..method.faces import Box, Point, clip_box
from ..method.keypoints import mean_points, predicted_points
from ..method.known import Pixels, faceless, parts
from ..verification.detection import overlap, same_face

_BOX_SIDE, _PERSON_SIDE = 640, 1024  # px of the longer side at which a known box, a person without a face is seen
_AROUND_PERSON = 0.1  # of the sides of a person's area: seen around it, for a mask may end in the hair
_KNOWN_SCORE = 0.3  # where somebody says that there is a face, a lower score counts

# (picture, 1 x 3 x H x W, 8 bit; least score) -> (picture on its device, [(box, five keypoints, score 0..1)])
Detect = Callable[[torch.Tensor, float], tuple[torch.Tensor, list[tuple[Box, tuple[Point, ...], float]]]]


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """A face to read.

    Attributes:
        box: left, top, right, bottom in pixels, clipped to the picture.
        points: five keypoints (x, y) in pixels.
        score: of the detector, 0..1; 0 where it did not find the face.
        side: px; the shorter one of the detector's box, before it was clipped.
        placed: whether a network placed the points.
    """

    box: Box
    points: tuple[Point, ...]
    score: float
    side: float
    placed: bool = True


def faces_in_picture(pixels: torch.Tensor, threshold: float, smallest: int, detect: Detect,
                     area: np.ndarray | None) -> tuple[torch.Tensor, list[PlacedFace]]:
    """What the detector finds.

    Args:
        pixels: 1 x 3 x H x W, 8 bit.
        threshold: least score, 0..1.
        smallest: px; faces with a shorter side are left out.
        detect: the detector.
        area: of persons, H x W, bool: every part without a face is looked at again with its longer side at 1024 px
            or more (our choice). None: not known.

    Returns:
        The picture on the host's device, and its faces in the detector's order, then those found by looking again.
    """
    pixels, every = _seen(pixels, threshold, detect)
    if area is not None:
        for part in parts(faceless(area, [face.box for face in every])):
            mm.throw_exception_if_processing_interrupted()
            around = _whole(_grown(part.bounds_ltrb, _AROUND_PERSON), pixels)
            for face in _closer(pixels, around, _PERSON_SIDE, False, threshold, detect):
                # A face that is somebody else's may be cut by the edge of what was looked at: it is not taken.
                if part.holds(face.box) and not _covered(face.box, every):
                    every.append(face)
    return pixels, [face for face in every if face.side >= smallest]


def faces_in_boxes(pixels: torch.Tensor, boxes_ltrb: Sequence[Box], found: Sequence[PlacedFace], threshold: float,
                   detect: Detect, index: int) -> list[PlacedFace]:
    """Faces of boxes that somebody knows of, as far as no face covers them already (overlap of 0.3 or more).

    Each is always one face, with the box itself, whatever is seen there. Its keypoints are those of the face that the
    detector finds in twice the box, enlarged to 640 px, from score 0.3 on; else eyes and nose by dlib's predictor, and
    a mouth to match (:func:`..method.keypoints.five_points`), score 0; else, where dlib is not installed, those of a
    mean face, score 0, by which nothing can be read. All this is our choice.

    Args:
        pixels: 1 x 3 x H x W, 8 bit, on the host's device.
        boxes_ltrb: in pixels; may leave the picture. Their order does not matter.
        found: faces already there.
        threshold: least score, 0..1; where it is lower than 0.3 it counts instead.
        detect: the detector.
        index: of the picture, for the error text.

    Returns:
        What is added, from left to right.

    Raises:
        CamouflageError: nothing of a box is in the picture.
    """
    added: list[PlacedFace] = []
    for box in sorted(_inside(box, pixels, index) for box in boxes_ltrb):
        mm.throw_exception_if_processing_interrupted()
        if not _covered(box, [*found, *added]):
            added.append(_known_face(pixels, box, threshold, detect))
    return added


def _inside(box: Box, pixels: torch.Tensor, index: int) -> Box:
    """A box clipped to picture ``index``; refuses one of which nothing is left."""
    height, width = pixels.shape[2:]
    clipped = clip_box(box, height, width)
    if clipped is None:
        left, top, right, bottom = box
        raise CamouflageError(f"'boxes' has a box of {right - left:g} x {bottom - top:g} px at {left:g}, {top:g}, but "
                              f"picture {index} (counted from 0) is {width} x {height} px: nothing of the box is in "
                              "it. Boxes are in pixels of the very pictures that are connected to 'image': draw or "
                              "find them there.")
    return clipped


def _covered(box: Box, faces: Sequence[PlacedFace]) -> bool:
    return any(same_face(box, face.box) for face in faces)


def _known_face(pixels: torch.Tensor, box: Box, threshold: float, detect: Detect) -> PlacedFace:
    """The face of a box within the picture, see :func:`faces_in_boxes`."""
    left, top, right, bottom = box
    side = min(right - left, bottom - top)
    around = _whole(_grown(box, 0.5), pixels)
    seen = _closer(pixels, around, _BOX_SIDE, True, min(threshold, _KNOWN_SCORE), detect)
    best = max(seen, key=lambda face: (overlap(face.box, box), face.score), default=None)
    if best is not None and same_face(best.box, box):
        return PlacedFace(box, best.points, best.score, side)
    x0, y0, x1, y1 = around
    crop = pixels[0, :, y0:y1, x0:x1].movedim(0, -1).cpu().contiguous().numpy()
    points = predicted_points(crop, (left - x0, top - y0, right - x0, bottom - y0))
    if points is None:
        return PlacedFace(box, mean_points(box), 0.0, side, placed=False)
    return PlacedFace(box, tuple((x + x0, y + y0) for x, y in points), 0.0, side)


def _grown(box: Box, part: float) -> Box:
    """A box with a part of its sides more on every side."""
    left, top, right, bottom = box
    across, down = part * (right - left), part * (bottom - top)
    return left - across, top - down, right + across, bottom + down


def _whole(box: Box, pixels: torch.Tensor) -> Pixels:
    """The whole pixels of a picture that a box touches."""
    height, width = pixels.shape[2:]
    return (max(math.floor(box[0]), 0), max(math.floor(box[1]), 0),
            min(math.ceil(box[2]), width), min(math.ceil(box[3]), height))


def _closer(pixels: torch.Tensor, bounds: Pixels, longer_side: int, shrink: bool, threshold: float,
            detect: Detect) -> list[PlacedFace]:
    """Faces in a part of the picture, brought to ``longer_side`` px; a larger part stays as it is unless ``shrink``."""
    left, top, right, bottom = bounds
    crop = pixels[:, :, top:bottom, left:right]
    height, width = crop.shape[2:]
    factor = longer_side / max(height, width)
    if factor > 1.0 or shrink:
        size = max(1, round(height * factor)), max(1, round(width * factor))
        crop = F.interpolate(crop.float(), size, mode="bilinear", antialias=True, align_corners=False)
        crop = crop.round().clamp(0, 255).to(torch.uint8)
    scale_x, scale_y = width / crop.shape[3], height / crop.shape[2]
    _, found = _seen(crop, threshold, detect)
    faces = []
    for face in found:
        x0, y0, x1, y1 = face.box
        box = clip_box((left + x0 * scale_x, top + y0 * scale_y, left + x1 * scale_x, top + y1 * scale_y),
                       *pixels.shape[2:])
        if box is not None:
            points = tuple((left + x * scale_x, top + y * scale_y) for x, y in face.points)
            faces.append(PlacedFace(box, points, face.score, face.side * min(scale_x, scale_y)))
    return faces


def _seen(pixels: torch.Tensor, threshold: float, detect: Detect) -> tuple[torch.Tensor, list[PlacedFace]]:
    """One picture, 1 x 3 x H x W, 8 bit: on the host's device, and the faces of which a part is in it."""
    pixels, found = detect(pixels, threshold)
    height, width = pixels.shape[2:]
    return pixels, [PlacedFace(box, points, score, min(rect[2] - rect[0], rect[3] - rect[1]))
                    for rect, points, score in found if (box := clip_box(rect, height, width)) is not None]
