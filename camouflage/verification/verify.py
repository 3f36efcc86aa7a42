"""Comparing every person of the original with everything in the result, and what to do about who is not settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from ..errors import CamouflageError
from ..images import colour_name, nearly_one_colour
from ..method.faces import Box
from ..method.known import faceless, resized_area
from . import binding, likeness
from .detection import Detector, FoundFace, find_faces
from .hidden import Hidden
from .places import Place, bounds, scaled
from .policy import REDACT, Policy
from .recognition import Recogniser, Threshold, demand_recogniser
from .redaction import Region, redact
from .report import CheckedPicture, Person, Report, Verdict
from .scene import KNOWN, Scene, embedded, stands, together
from .verdicts import accusation, judged
from .views import nothing

T = TypeVar("T")
_ATTEMPTS = 3  # at redacting one person; the later ones are solid and larger
_GROWTH = 0.25
_ROUNDS = 8  # of redacting and judging again: new faces may come to light in each


class Blocked(CamouflageError):
    """A person is not settled, and nothing may leave."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Originals:
    """The persons of an original picture.

    Attributes:
        height, width: of the picture, px.
        faces: from left to right; what detectors found, and boxes that were known.
        embeddings: n x d, by the recogniser.
        second: the same by the second one; None where there is none.
        templates: of each face, see :func:`.likeness.template`.
        outline: of the picture, see :func:`.binding.outline`.
        area: H x W, bool: where persons are, if that is known.
        remark: what may be wrong with a picture in which nobody is found; else empty.
        exempt: who stays as they are by consent, by number.
    """

    height: int
    width: int
    faces: tuple[FoundFace, ...]
    embeddings: np.ndarray
    second: np.ndarray | None = None
    templates: tuple[np.ndarray, ...] = ()
    outline: np.ndarray | None = None
    area: np.ndarray | None = None
    remark: str = ""
    exempt: frozenset[int] = frozenset()

    @property
    def anybody(self) -> bool:
        """Whether there is a face, or an area of a person."""
        return bool(self.faces) or (self.area is not None and bool(self.area.any()))


@dataclass(frozen=True, slots=True)
class Verifier:
    """Detectors, recognisers and threshold: everything that decides.

    Attributes:
        detectors: look one after the other; what any of them finds counts.
        recogniser: compares.
        threshold: of that recogniser.
        smallest_face: px; of a face whose box has a shorter side, in the original or in the result, no embedding is
            trusted to say "another person" (our choice: 32).
        pause: called about ten times a second; may raise to stop.
        second: another recogniser with its threshold, which must agree before anybody is safe; None: there is none.
    """

    detectors: tuple[Detector, ...]
    recogniser: Recogniser
    threshold: Threshold
    smallest_face: int = 32
    pause: Callable[[], None] = nothing
    second: tuple[Recogniser, Threshold] | None = None

    def __post_init__(self) -> None:
        if not self.detectors:
            raise CamouflageError("A verification needs at least one face detector.")
        for recogniser, threshold in self.recognisers:
            demand_recogniser(threshold, recogniser.info.name)
            if threshold.sha256 and threshold.sha256 != recogniser.info.sha256:
                raise CamouflageError(f"The calibration was made with other weights of '{recogniser.info.name}' than "
                                      "those that are installed, so its rates do not hold. Calibrate again, or install "
                                      "those weights.")

    @property
    def recognisers(self) -> tuple[tuple[Recogniser, Threshold], ...]:
        """Who compares, each with its threshold."""
        return (self.recogniser, self.threshold), *((self.second,) if self.second else ())

    def originals(self, pixels: np.ndarray, boxes_ltrb: Sequence[Box] = (), area: np.ndarray | None = None,
                  faces: tuple[FoundFace, ...] | None = None, exempt_ltrb: Sequence[Box] = ()) -> Originals:
        """Finds and embeds everybody in an original.

        Args:
            pixels: H x W x 3, uint8.
            boxes_ltrb: of faces that are known to be there, px; they only ever add.
            area: H x W, bool: where persons are known to be.
            faces: what these detectors found in these pixels, where that is known.
            exempt_ltrb: boxes of faces that stay as they are by consent, px, see :func:`exempt_of`.
        """
        self.pause()
        found = find_faces(self.detectors, pixels, self.pause) if faces is None else faces
        everybody = with_known(found, boxes_ltrb)
        places = [(face.box_ltrb, face.turn) for face in everybody]
        first, *rest = (embedded(recogniser, pixels, places, self.pause) for recogniser, _ in self.recognisers)
        return Originals(pixels.shape[0], pixels.shape[1], everybody, first, rest[0] if rest else None,
                         tuple(likeness.template(pixels, *place) for place in places), binding.outline(pixels), area,
                         "" if everybody else plain_picture(pixels), exempt_of(everybody, exempt_ltrb))

    def verify(self, originals: Originals, pixels: np.ndarray, redacted: Mapping[int, str] | Hidden | None = None,
               others: Sequence[Originals] = ()) -> CheckedPicture:
        """Judges every person of the original.

        Args:
            originals: of :meth:`originals`.
            pixels: the result, h x w x 3, uint8; another size than the original's is taken as the same view scaled.
            redacted: what was destroyed: regions, or persons by number and how.
            others: of the same batch; nobody of theirs may be in the result either.
        """
        hidden = Hidden.of(redacted)
        return self._judged(self._look(originals, pixels, hidden, others), pixels)

    def settle(self, originals: Originals, pixels: np.ndarray, policy: Policy = REDACT,
               redacted: Mapping[int, str] | Hidden | None = None, checked: CheckedPicture | None = None,
               others: Sequence[Originals] = ()) -> tuple[np.ndarray, CheckedPicture]:
        """Judges a result and does what the policy says with persons that are not settled.

        Args:
            originals: of :meth:`originals`.
            pixels: the result, h x w x 3, uint8; never changed.
            policy: what is done with whom.
            redacted: what was destroyed before.
            checked: the verdicts on these pixels, where they are known already.
            others: of the same batch.

        Returns:
            The pixels that may go on, and the verdicts on exactly these.

        Raises:
            Blocked: somebody is not settled, and the policy blocks them; a result that is the original moved, or no
                face in the original and not "pass" (unless the policy only reports); or a redaction that does not hide
                a person.
        """
        self.demand_faces(originals, policy)
        hidden = Hidden.of(redacted)
        scene: Scene | None = None
        if checked is None:
            scene = self._look(originals, pixels, hidden, others)
            checked = self._judged(scene, pixels)
        if checked.moved and policy.unsettled != "report":
            raise Blocked(f"The result shows the original {checked.moved}, so nobody is where they were and nothing is "
                          "proved. Connect the picture that went into the sampling as 'original', turned, cut and "
                          "scaled as the result is.")
        attempts: dict[int, int] = dict.fromkeys(hidden.persons, 1)
        result, rounds = pixels, 0
        while checked.unsettled and policy.unsettled == "redact":
            rounds += 1
            scene = scene or self._look(originals, pixels, hidden, others)
            first = len(scene.places) + len(hidden.new)
            for person in checked.unsettled:
                attempts[person.number] = attempts.get(person.number, 0) + (person.kind == "original")
                if attempts[person.number] > _ATTEMPTS or rounds > _ROUNDS:
                    raise Blocked(f"{accusation(checked)} Redaction did not hide them. {_HELP}")
                hidden = self._more(scene, hidden, person, policy.redaction, attempts[person.number], first)
            result = redact(pixels, hidden.regions, hidden.area, hidden.fill)
            scene = self._look(originals, result, hidden, others)
            checked = replace(self._judged(scene, result), moved=checked.moved)
        if checked.unsettled and policy.unsettled == "block":
            raise Blocked(accusation(checked))
        return result, replace(checked, policy=policy.unsettled, hidden=hidden,
                               nobody_passed=policy.no_face == "pass" and not originals.anybody)

    def demand_faces(self, originals: Originals, policy: Policy) -> None:
        """Blocks a picture in which no face was found, unless that may pass or is only to be reported."""
        if not originals.anybody and policy.no_face != "pass" and policy.unsettled != "report":
            raise Blocked("No face was found in the original, so nothing is proved: a detector can miss one. Look at "
                          "the picture; if nobody is in it, set 'no_face' to 'pass', or to 'skip' to leave such "
                          f"pictures out; if somebody is, draw a box and connect it as 'boxes'.{originals.remark}")

    def _more(self, scene: Scene, hidden: Hidden, person: Person, mode: str, attempt: int, first: int) -> Hidden:
        """What must be destroyed besides, to hide one more person; ``first`` is the number of the first stranger."""
        if person.kind == "area":
            return hidden.with_area(scene.faceless) if scene.faceless is not None else hidden
        if person.kind == "new":
            face = scene.found[scene.strangers()[person.number - first]]
            return hidden.with_new([Region(face.box_ltrb, "solid", 1.0, face.turn)])
        lost = person.verdict is Verdict.UNVERIFIABLE and not scene.faces_at(person.number)
        how, grow = mode if attempt == 1 else "solid", 1 + _GROWTH * (attempt - 1 + 2 * lost)  # it may be beside it
        return hidden.with_person(person.number, how,
                                  [Region(box, how, grow, turn) for box, turn in scene.to_hide(person.number)])

    def _look(self, originals: Originals, pixels: np.ndarray, hidden: Hidden, others: Sequence[Originals]) -> Scene:
        """Finds and embeds everything that could be an original face in a result."""
        height, width = pixels.shape[:2]
        across, down = width / originals.width, height / originals.height
        places = tuple((scaled(face.box_ltrb, across, down), face.turn) for face in originals.faces)
        self.pause()
        found = tuple(face for face in find_faces(self.detectors, pixels, self.pause)
                      if not hidden.is_fill(pixels, face.box_ltrb, face.turn)
                      and (not hidden.encoded or any(together(face, place) for place in places)
                           or (face.confident and stands(pixels, face, self.detectors))))
        proved = tuple(hidden.proves(pixels, number, place) for number, place in enumerate(places))
        ratios, distances, foreign = self._compared(originals, others, pixels, places, found, proved)
        like = self._like(originals, pixels, places, found, proved, hidden)
        left = None
        if originals.area is not None:
            area = resized_area(torch.from_numpy(originals.area), height, width)
            left = faceless(area, [bounds(*place) for place in places]) & ~hidden.covers(pixels.shape)
        moved = None
        if originals.outline is not None and not hidden.begun and originals.anybody:
            self.pause()
            moved = binding.moved(originals.outline, binding.outline(pixels), self._lost(places, found, like))
        return Scene(originals.faces, places, found, distances, ratios, foreign, proved, like, left,
                     "" if moved is None else str(moved), hidden, originals.exempt)

    def _lost(self, places: Sequence[Place], found: Sequence[FoundFace], like: Mapping[int, likeness.Found]) -> bool:
        """Whether somebody's face is neither found at their place nor looks like it any more."""
        return any(one.likeness < 1 and not any(face.confident and together(face, places[number]) for face in found)
                   for number, one in like.items())

    def _compared(self, originals: Originals, others: Sequence[Originals], pixels: np.ndarray,
                  places: Sequence[Place], found: Sequence[FoundFace],
                  proved: Sequence[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ratios, distances, and ratios of the other originals, see :class:`.scene.Scene`.

        What cannot be compared counts as the same person, our own fill as nobody.
        """
        there = [number for number, ours in enumerate(proved) if not ours]
        seen = [*(places[number] for number in there), *((face.box_ltrb, face.turn) for face in found)]
        rows = [*there, *range(len(places), len(places) + len(found))]
        everyone = [originals, *(other for other in others if other is not originals)]
        ratios, first = [], np.full((len(places) + len(found), len(originals.faces)), np.inf)
        for number, (recogniser, threshold) in enumerate(self.recognisers):
            embeddings = embedded(recogniser, pixels, seen, self.pause)
            known = [each.embeddings if number == 0 else each.second for each in everyone]
            near = [recogniser.distances(embeddings, one) if len(seen) else np.zeros((0, len(one)))
                    for one in known if one is not None and len(one)]
            values = np.concatenate(near, axis=1) if near else np.zeros((len(seen), 0))
            values = np.where(np.isfinite(values), values, 0.0)
            part = np.full((len(places) + len(found), values.shape[1]), np.inf)
            part[rows] = _ratios(values, threshold.distance)
            ratios.append(part)
            if number == 0 and len(seen):
                first[rows] = values[:, :len(originals.faces)]
        nearest = np.minimum.reduce(ratios)
        return nearest[:, :len(originals.faces)], first, nearest[:, len(originals.faces):]

    def _like(self, originals: Originals, pixels: np.ndarray, places: Sequence[Place], found: Sequence[FoundFace],
              proved: Sequence[bool], hidden: Hidden) -> dict[int, likeness.Found]:
        """How much each place that was not hidden looks like the original, and where a face went that is not there."""
        like = {}
        for number, (place, ours) in enumerate(zip(places, proved, strict=True)):
            if ours or number in hidden.persons or number >= len(originals.templates):
                continue
            self.pause()
            like[number] = likeness.compare(originals.templates[number], pixels, *place)
            if like[number].likeness < 1 and not any(face.confident and together(face, place) for face in found):
                traced = likeness.compare(originals.templates[number], pixels, *place, likeness.AROUND)
                like[number] = max(like[number], traced, key=lambda one: one.likeness)
        return like

    def _judged(self, scene: Scene, pixels: np.ndarray) -> CheckedPicture:
        return judged(scene, pixels, self.detectors, self.smallest_face)


def with_known(found: Sequence[FoundFace], boxes_ltrb: Sequence[Box]) -> tuple[FoundFace, ...]:
    """The faces that were found, and the boxes that no found face overlaps; from left to right."""
    added = [FoundFace(box, (KNOWN,), ()) for box in boxes_ltrb
             if not any(together(face, (box, 0.0)) for face in found)]
    return tuple(sorted([*found, *added], key=lambda face: (face.box_ltrb[0] + face.box_ltrb[2],
                                                            face.box_ltrb[1] + face.box_ltrb[3], face.box_ltrb)))


def exempt_of(faces: Sequence[FoundFace], boxes_ltrb: Sequence[Box]) -> frozenset[int]:
    """Who stays as they are by consent: for each box the one face that stands there.

    A box on which several faces stand, or none, is nobody's: who is meant cannot be told.

    Args:
        faces: of the original; only those that a detector found count.
        boxes_ltrb: px.
    """
    there = ([number for number, face in enumerate(faces) if face.confident and together(face, (box, 0.0))]
             for box in boxes_ltrb)
    return frozenset(numbers[0] for numbers in there if len(numbers) == 1)


def _ratios(distances: np.ndarray, limit: float) -> np.ndarray:
    """Distances as parts of a threshold; above 1 exactly where the distance is above it."""
    return np.where(distances > limit, np.maximum(distances / limit, np.nextafter(1.0, 2.0)),
                    np.minimum(distances / limit, 1.0))


_HELP = ("Choose the redaction 'solid', a larger 'size' in 'Redact', fewer detectors, or draw a box over the head and "
         "connect it as 'boxes'.")


def plain_picture(pixels: np.ndarray) -> str:
    """A sentence where a picture is almost one colour, with a space before it; else empty."""
    if not nearly_one_colour(pixels):
        return ""
    return (f" This picture is almost one colour ({colour_name(pixels)}): a 16-bit or float picture that was clipped "
            "while it was loaded looks like this. Save it with 8 bits a channel first.")


def of_batch(entries: Sequence[T], index: int) -> T:
    """Entry ``index`` of a batch, or the one that stands for all."""
    return entries[index if len(entries) > 1 else 0]


def make_report(verifier: Verifier, originals: Sequence[Originals], pictures: Sequence[CheckedPicture],
                seed: int | None = None, anonymization_scale: float | None = None,
                skipped: Sequence[int] = ()) -> Report:
    """The sealed report of a batch.

    Args:
        verifier: that judged.
        originals: of the batch, or one for all.
        pictures: the verdicts, in the batch's order.
        seed, anonymization_scale: of the sampling, where known.
        skipped: positions in the batch as it came of pictures that were left out.
    """
    def recheck(index: int, pixels: np.ndarray) -> CheckedPicture:
        before = pictures[index]
        hidden = Hidden.of(before.hidden) if before.hidden is not None else Hidden.of(
            {person.number: person.redaction for person in before.persons
             if person.redaction is not None and person.kind == "original"})
        after = verifier.verify(of_batch(originals, index), pixels, replace(hidden, encoded=True), originals)
        return replace(after, policy=before.policy, nobody_passed=before.nobody_passed, attempts=before.attempts)

    second = tuple(recogniser.info for recogniser, _ in verifier.recognisers[1:])
    return Report(tuple(pictures), verifier.threshold, verifier.recogniser.info,
                  tuple(detector.info for detector in verifier.detectors), seed, anonymization_scale,
                  recheck, skipped=tuple(skipped), second=second)._sealed()
