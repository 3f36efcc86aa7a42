"""The verdict on every person: from what stands where in a result (:mod:`.scene`) to words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..method.faces import Box, clip_box
from .detection import Detector, FoundFace
from .places import bounds
from .report import CheckedPicture, Person, Verdict, pixels_sha256
from .scene import Scene, doubt, together


def judged(scene: Scene, pixels: np.ndarray, detectors: Sequence[Detector], smallest_face: int) -> CheckedPicture:
    """The verdicts on everybody in a result.

    Args:
        scene: what stands where in it.
        pixels: of the result, H x W x 3, uint8.
        detectors: that looked.
        smallest_face: px, see :class:`.verify.Verifier`.
    """
    height, width = pixels.shape[:2]
    scene, hidden = scene.without_specks(), scene.hidden
    numbers = range(len(scene.places))
    persons = [_judge(scene, i, pixels, detectors, smallest_face) for i in numbers]
    persons += _judge_new(scene, len(persons), height, width)
    if scene.faceless is not None and (scene.faceless.any() or hidden.area is not None):
        persons.append(_judge_area(scene, len(persons), height, width))
    return CheckedPicture(
        height, width, pixels_sha256(pixels), tuple(persons),
        faces_lost=sum(i not in hidden.persons and not any(face.confident for face in scene.faces_at(i))
                       for i in numbers),
        faces_new=sum(bool(scene.found[k].confident) for k in scene.strangers()),
        faces_elsewhere=sum(not scene.elsewhere(i)[0] > 1 for i in numbers),
        moved=scene.moved, hidden=hidden)


def _judge(scene: Scene, i: int, pixels: np.ndarray, detectors: Sequence[Detector], smallest_face: int) -> Person:
    """Person ``i``. Every doubt is asked before "safe"."""
    hidden = scene.hidden
    here, nearest, distance = scene.here(i)
    there, far, where = scene.elsewhere(i)
    before, now, redaction, like = scene.originals[i], scene.faces_at(i), hidden.persons.get(i), scene.like.get(i)
    if scene.stays(i):
        verdict, reason = Verdict.EXEMPT, "by consent this person stays: the same face is at the same place"
    elif where is not None and there < here and not there > 1:
        left, top, right, bottom = where
        verdict = Verdict.RECOGNISABLE
        reason = f"this face is elsewhere now: {right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f}"
    elif not here > 1:
        whose = "this person" if nearest == i else f"person {nearest}"
        verdict, reason = Verdict.RECOGNISABLE, f"what is at this place is within the threshold of {whose}"
    elif scene.foreign(i):
        verdict, reason = Verdict.RECOGNISABLE, "what is at this place is a person of another original of the batch"
    elif redaction is not None and scene.proved[i] and any(_only_at(scene, face, i) for face in now):
        verdict, reason = Verdict.UNVERIFIABLE, "a face is still found where the head was covered"
    elif redaction is not None and hidden.needs_proof(i) and not scene.proved[i]:
        verdict, reason = Verdict.UNVERIFIABLE, "what covered the head is not the solid fill any more"
    elif redaction is not None:
        verdict, reason = Verdict.REDACTED, f"the region was replaced ({redaction})"
    elif like is not None and like.likeness >= 1:
        verdict, reason = Verdict.RECOGNISABLE, "this place still looks like the original"
    elif why := doubt(before, now, pixels, detectors, smallest_face, like):
        verdict, reason = Verdict.UNVERIFIABLE, why
    else:
        verdict, reason = Verdict.SAFE, "a face is there, and it is nobody's of the original"
    if there < here:
        distance, nearest = far, i
    return Person(i, _clipped(bounds(*scene.places[i]), pixels.shape), verdict, distance,
                  nearest if np.isfinite(distance) else None, reason, before.detectors, redaction,
                  likeness=None if like is None else round(like.likeness, 3))


def _only_at(scene: Scene, face: FoundFace, i: int) -> bool:
    """Whether a found face stands at person ``i``'s place and at nobody else's."""
    return not any(together(face, place) for number, place in enumerate(scene.places) if number != i)


def _judge_new(scene: Scene, first: int, height: int, width: int) -> Iterator[Person]:
    """Faces that stand at no place of the original: those that were covered, then those that are there."""
    for number, regions in enumerate(scene.hidden.new, first):
        box = _clipped(bounds(regions[0].box_ltrb, regions[0].turn), (height, width))
        mode = regions[0].mode
        yield Person(number, box, Verdict.REDACTED, float("inf"), None, f"the region was replaced ({mode})", (), mode,
                     kind="new")
    for number, k in enumerate(scene.strangers(), first + len(scene.hidden.new)):
        face = scene.found[k]
        ratio, nearest, distance = scene.of_stranger(k)
        whose = "a person of another original of the batch" if nearest is None else f"person {nearest}"
        reason = "this face stands where the original has none"
        if not ratio > 1:
            reason += f", and is within the threshold of {whose}"
        yield Person(number, _clipped(face.bounds, (height, width)),
                     Verdict.UNVERIFIABLE if ratio > 1 else Verdict.RECOGNISABLE, distance,
                     nearest if np.isfinite(distance) else None, reason, face.detectors, kind="new")


def _judge_area(scene: Scene, number: int, height: int, width: int) -> Person:
    """The area of persons without a face."""
    left = scene.faceless if scene.faceless is not None and scene.faceless.any() else scene.hidden.area
    assert left is not None
    rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    open_still = scene.faceless is not None and bool(scene.faceless.any())
    return Person(number, _clipped(box, (height, width)), Verdict.UNVERIFIABLE if open_still else Verdict.REDACTED,
                  float("inf"), None, "a person is there without a face that could be compared" if open_still
                  else "the area was replaced (solid)", ("person mask",), None if open_still else "solid", kind="area")


def _clipped(box_ltrb: Box, shape: Sequence[int]) -> Box:
    return clip_box(box_ltrb, shape[0], shape[1]) or (0.0, 0.0, float(shape[1]), float(shape[0]))


def accusation(checked: CheckedPicture) -> str:
    """Names the persons that are not settled, by number and box."""
    return "Not anonymized: " + " ".join(f"{person}." for person in checked.unsettled)
