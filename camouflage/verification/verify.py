"""Comparing every person of the original with everything in the result, and what to do about who is not settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..errors import CamouflageError
from ..faces import Box, clip_box
from .detection import Detector, FoundFace, find_faces, same_face
from .recognition import Recogniser, Threshold
from .redaction import Region, redact
from .report import CheckedPicture, Person, Report, Verdict, pixels_sha256

T = TypeVar("T")
POLICIES = ("redact", "block", "report")
NOBODY = ("block", "pass")
_ATTEMPTS = 3  # at redacting one person; the later ones are solid and larger
_GROWTH = 0.25


class Blocked(CamouflageError):
    """A person is not settled, and nothing may leave."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Originals:
    """The persons of an original picture: size, faces from left to right, and their embeddings (n x d)."""

    height: int
    width: int
    faces: tuple[FoundFace, ...]
    embeddings: np.ndarray


@dataclass(frozen=True, slots=True)
class Verifier:
    """Detectors, recogniser and threshold: everything that decides.

    Attributes:
        detectors: look one after the other; what any of them finds counts.
        recogniser: compares.
        threshold: of that recogniser.
        smallest_face: px; of a face whose box has a shorter side, in the original or in the result, no embedding is
            trusted to say "another person" (our choice: 32).
        pause: called between the steps; may raise to stop.
    """

    detectors: tuple[Detector, ...]
    recogniser: Recogniser
    threshold: Threshold
    smallest_face: int = 32
    pause: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if not self.detectors:
            raise CamouflageError("A verification wants at least one face detector.")
        tool = self.recogniser.tool
        if self.threshold.recogniser != tool.name:
            raise CamouflageError(f"The threshold is for distances of '{self.threshold.recogniser}', but '{tool.name}' "
                                  "compares. Calibrate this recogniser, or choose that one.")
        if self.threshold.sha256 and self.threshold.sha256 != tool.sha256:
            raise CamouflageError(f"The calibration was made with other weights of '{tool.name}' than those that are "
                                  "installed, so its rates do not hold. Calibrate again, or install those weights.")

    def originals(self, pixels: np.ndarray) -> Originals:
        """Finds and embeds everybody in an original, H x W x 3, uint8."""
        self.pause()
        faces = find_faces(self.detectors, pixels)
        self.pause()
        boxes = [face.box_ltrb for face in faces]
        return Originals(pixels.shape[0], pixels.shape[1], faces, self.recogniser.embed(pixels, boxes))

    def verify(self, originals: Originals, pixels: np.ndarray,
               redacted: Mapping[int, str] | None = None) -> CheckedPicture:
        """Judges every person of the original.

        Args:
            originals: of :meth:`originals`.
            pixels: the result, h x w x 3, uint8; another size than the original's is taken as the same view scaled.
            redacted: persons whose regions were destroyed, and how.
        """
        return self._judged(self._look(originals, pixels), pixels, redacted or {})

    def settle(self, originals: Originals, pixels: np.ndarray, policy: str = "redact", nobody: str = "block",
               mode: str = "solid", redacted: Mapping[int, str] | None = None,
               checked: CheckedPicture | None = None) -> tuple[np.ndarray, CheckedPicture]:
        """Judges a result and does what the policy wants with persons that are not settled.

        Args:
            originals: of :meth:`originals`.
            pixels: the result, h x w x 3, uint8; never changed.
            policy: of ``POLICIES``. "redact" replaces the head region of everybody who is neither safe nor redacted,
                judges again, and goes on (larger, solid) until all are settled; "block" raises; "report" only says.
            nobody: what to do where the original shows no face, of ``NOBODY``.
            mode: how regions are replaced, of :data:`.redaction.MODES`.
            redacted: persons whose regions were destroyed before, and how.
            checked: the verdicts on these pixels, where they are known already.

        Returns:
            The pixels that may go on, and the verdicts on exactly these.

        Raises:
            Blocked: policy "block" and somebody is not settled; no face in the original and nobody "block" (unless
                the policy is "report"); or a redaction that does not hide a person.
        """
        self.demand_faces(originals, policy, nobody)
        scene, hidden = None, dict(redacted or {})
        if checked is None:
            scene = self._look(originals, pixels)
            checked = self._judged(scene, pixels, hidden)
        attempts = dict.fromkeys(hidden, 1)
        boxes: dict[int, list[Box]] = {}
        result = pixels
        while checked.unsettled and policy == "redact":
            scene = scene or self._look(originals, pixels)
            for number in (person.number for person in checked.unsettled):
                attempts[number] = attempts.get(number, 0) + 1
                if attempts[number] > _ATTEMPTS:
                    raise Blocked(f"{accusation(checked)} Redaction did not hide them.")
                hidden[number] = mode if attempts[number] == 1 else "solid"
                boxes.setdefault(number, []).extend(scene.to_hide(number, self.threshold.distance))
            result = redact(pixels, [Region(box, hidden[number], 1 + _GROWTH * (attempts[number] - 1))
                                     for number in sorted(boxes) for box in boxes[number]])
            scene = self._look(originals, result)
            checked = self._judged(scene, result, hidden)
        if checked.unsettled and policy == "block":
            raise Blocked(accusation(checked))
        return result, replace(checked, policy=policy, nobody_passed=nobody == "pass" and not originals.faces)

    def demand_faces(self, originals: Originals, policy: str, nobody: str) -> None:
        """Blocks a picture in which no face was found, unless that may pass or is only to be reported."""
        if not originals.faces and nobody == "block" and policy != "report":
            raise Blocked("No face was found in the original, so nothing is proved: a detector can miss one. Look at "
                          "the picture; if nobody is in it, set 'no_face' to 'pass'.")

    def _look(self, originals: Originals, pixels: np.ndarray) -> _Scene:
        """Finds and embeds everything that could be an original face in a result."""
        height, width = pixels.shape[:2]
        across, down = width / originals.width, height / originals.height
        places = tuple((left * across, top * down, right * across, bottom * down)
                       for left, top, right, bottom in (face.box_ltrb for face in originals.faces))
        self.pause()
        found = find_faces(self.detectors, pixels)
        self.pause()
        embeddings = self.recogniser.embed(pixels, [*places, *(face.box_ltrb for face in found)])
        distances = self.recogniser.distances(embeddings, originals.embeddings)
        # What cannot be compared counts as the same person.
        return _Scene(originals, places, found, np.where(np.isfinite(distances), distances, 0.0))

    def _judged(self, scene: _Scene, pixels: np.ndarray, redacted: Mapping[int, str]) -> CheckedPicture:
        # To the recogniser something that a detector took for a face, small or without being sure, may look like any
        # fill. That what is left of a destroyed region is near to those says nothing; of found faces it does.
        specks = [i for i, face in enumerate(scene.originals.faces) if not face.sure or self._too_small(face.box_ltrb)]
        if redacted and specks:
            distances = scene.distances.copy()
            left = np.ix_(sorted(redacted), specks)
            distances[left] = np.where(distances[left] > self.threshold.distance, distances[left], np.inf)
            scene = replace(scene, distances=distances)
        height, width = pixels.shape[:2]
        numbers = range(len(scene.places))
        return CheckedPicture(
            height, width, pixels_sha256(pixels),
            tuple(self._judge(scene, i, redacted.get(i), height, width) for i in numbers),
            faces_lost=sum(i not in redacted and not any(face.sure for face in scene.faces_at(i)) for i in numbers),
            faces_new=sum(bool(face.sure) and not any(same_face(face.box_ltrb, place) for place in scene.places)
                          for face in scene.found),
            faces_elsewhere=sum(scene.elsewhere(i)[0] <= self.threshold.distance for i in numbers))

    def _judge(self, scene: _Scene, i: int, redaction: str | None, height: int, width: int) -> Person:
        """Person ``i``. Every doubt is asked before "safe"."""
        limit = self.threshold.distance
        here, nearest = scene.here(i)
        there, where = scene.elsewhere(i)
        before, now = scene.originals.faces[i], scene.faces_at(i)
        sure = {name for face in now for name in face.sure}
        if where is not None and there < here and not there > limit:
            left, top, right, bottom = where
            verdict = Verdict.RECOGNISABLE
            reason = f"this face is elsewhere now: {right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f}"
        elif not here > limit:
            whose = "this person" if nearest == i else f"person {nearest}"
            verdict, reason = Verdict.RECOGNISABLE, f"what is at this place is within the threshold of {whose}"
        elif redaction is not None:
            verdict, reason = Verdict.REDACTED, f"the region was replaced ({redaction})"
        elif not sure:
            verdict, reason = Verdict.UNVERIFIABLE, "no face is found there any more, so nothing can be compared"
        elif any(self._too_small(box) for box in (before.box_ltrb, *(face.box_ltrb for face in now))):
            verdict, reason = Verdict.UNVERIFIABLE, f"the face is smaller than {self.smallest_face} px"
        elif missing := [name for name in before.detectors if name not in sure]:
            verdict, reason = Verdict.UNVERIFIABLE, f"the detectors disagree: none found by {', '.join(missing)}"
        else:
            verdict, reason = Verdict.SAFE, "a face is there, and it is nobody's of the original"
        if there < here:
            here, nearest = there, i
        box = clip_box(scene.places[i], height, width) or (0.0, 0.0, float(width), float(height))
        return Person(i, box, verdict, here, nearest, reason, before.detectors, redaction)

    def _too_small(self, box: Box) -> bool:
        return min(box[2] - box[0], box[3] - box[1]) < self.smallest_face


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """Who is where in a result.

    Attributes:
        originals: whose places these are.
        places: boxes of the original faces, in pixels of the result.
        found: faces in the result.
        distances: rows: what is at the places, then the found faces; columns: the persons of the original.
    """

    originals: Originals
    places: tuple[Box, ...]
    found: tuple[FoundFace, ...]
    distances: np.ndarray

    def faces_at(self, i: int) -> list[FoundFace]:
        """The found faces at person ``i``'s place."""
        return [self.found[row - len(self.places)] for row in self._rows_at(i)]

    def here(self, i: int) -> tuple[float, int]:
        """Smallest distance of anything at person ``i``'s place to any original face, and whose that is."""
        nearest = self.distances[[i, *self._rows_at(i)]].min(axis=0)
        return float(nearest.min()), int(nearest.argmin())

    def elsewhere(self, i: int) -> tuple[float, Box | None]:
        """Smallest distance of a found face that is not at person ``i``'s place to their face, and its box."""
        here = self._rows_at(i)
        away = [(float(self.distances[row, i]), face.box_ltrb) for row, face in self._faces() if row not in here]
        return min(away, default=(float("inf"), None), key=lambda pair: pair[0])

    def to_hide(self, i: int, limit: float) -> list[Box]:
        """Everything that has to go to hide person ``i``: their place, the faces there, and theirs elsewhere."""
        here = self._rows_at(i)
        return [self.places[i], *(face.box_ltrb for row, face in self._faces()
                                  if row in here or not self.distances[row, i] > limit)]

    def _faces(self) -> Iterator[tuple[int, FoundFace]]:
        """Row and face of everybody found."""
        return enumerate(self.found, len(self.places))

    def _rows_at(self, i: int) -> list[int]:
        """Rows of the found faces at person ``i``'s place."""
        return [row for row, face in self._faces() if same_face(face.box_ltrb, self.places[i])]


def of_batch(entries: Sequence[T], index: int) -> T:
    """Entry ``index`` of a batch, or the one that stands for all."""
    return entries[index if len(entries) > 1 else 0]


def accusation(checked: CheckedPicture) -> str:
    """Names the persons that are not settled, by number and box."""
    return "Not anonymized: " + " ".join(f"{person}." for person in checked.unsettled)


def make_report(verifier: Verifier, originals: Sequence[Originals], pictures: Sequence[CheckedPicture],
                seed: int | None = None, anonymization_scale: float | None = None) -> Report:
    """The sealed report of a batch.

    Args:
        verifier: that judged.
        originals: of the batch, or one for all.
        pictures: the verdicts, in the batch's order.
        seed, anonymization_scale: of the sampling, where known.
    """
    def recheck(index: int, pixels: np.ndarray) -> CheckedPicture:
        before = pictures[index]
        hidden = {person.number: person.redaction for person in before.persons if person.redaction is not None}
        after = verifier.verify(of_batch(originals, index), pixels, hidden)
        return replace(after, policy=before.policy, nobody_passed=before.nobody_passed, tries=before.tries)

    return Report(tuple(pictures), verifier.threshold, verifier.recogniser.tool,
                  tuple(detector.tool for detector in verifier.detectors), seed, anonymization_scale,
                  recheck).sealed()
