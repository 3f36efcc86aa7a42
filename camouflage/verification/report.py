"""What a verification found: a verdict for every person, bound to the very pixels that were looked at.

A report carries the SHA-256 of the pixels of each picture and a seal over everything it says, made with a secret of
this process. A picture that was changed afterwards, a report of another picture and an edited report are told apart
from the real ones by that. Reports hold no embedding in what they print or write, no source name and no pixel.

**What the seal is worth.** It protects against mistakes of other nodes: a report of another picture, of an earlier run
of ComfyUI, or one that was edited with ``dataclasses.replace``. It does not protect against code in the same process,
which can read the secret from this module, seal what it likes, or write files itself. Nor does it sign what is saved.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from .. import VERSION
from ..errors import CamouflageError
from ..method.faces import Box
from .model_info import ModelInfo
from .recognition import Threshold

MANIFEST_FORMAT, MANIFEST_VERSION = "camouflage-manifest", 2
KINDS = {"original": "person", "new": "new face", "area": "person area"}
"""What a :class:`Person` can be, and what it is called."""
UNCOMPARED = "nothing can be compared"
"""What the reason of an unverifiable person says where the distance means nothing: no face, or none that shows one."""
_SECRET = secrets.token_bytes(32)


class Verdict(str, Enum):
    """What is known of one person, the best first."""

    SAFE = "safe"  # a face is there, and no original face is within the threshold
    REDACTED = "redacted"  # we destroyed the region, and nothing of the original is within the threshold
    EXEMPT = "exempt"  # by consent they stay as they are: the same face at the same place; never safe
    UNVERIFIABLE = "unverifiable"  # nothing can be said; never a success
    RECOGNISABLE = "recognisable"  # an original face is within the threshold

    def __str__(self) -> str:
        return self.value

    @property
    def settled(self) -> bool:
        """Whether the person may leave: hidden, or by consent as they are."""
        return self in (Verdict.SAFE, Verdict.REDACTED, Verdict.EXEMPT)


@dataclass(frozen=True, slots=True)
class Person:
    """One person and what became of them.

    Attributes:
        number: counted from 0; the persons of the original from left to right, then everybody else.
        box_ltrb: where the face was, in pixels of the checked picture, clipped to it.
        verdict: see :class:`Verdict`.
        distance: the smallest of all comparisons that concern this person; infinite where there is none.
        nearest: number of the original person at that distance; None where nothing could be compared.
        reason: one sentence.
        detectors: names of those that found the face in the original.
        redaction: how the region was destroyed; None where it was not.
        kind: "original", a face of the original; "new", a face of the result that stands where the original has none;
            or "area", where a person mask shows persons without a face.
        likeness: how much the place still looks like the original, as a picture: from 1 on it does; None where that was
            not asked.
    """

    number: int
    box_ltrb: Box
    verdict: Verdict
    distance: float
    nearest: int | None
    reason: str
    detectors: tuple[str, ...]
    redaction: str | None = None
    kind: str = "original"
    likeness: float | None = None

    @property
    def compared(self) -> bool:
        """Whether the distance says something; an embedding of what is no face does not."""
        lost = self.verdict is Verdict.UNVERIFIABLE and UNCOMPARED in self.reason
        return math.isfinite(self.distance) and not lost

    def __str__(self) -> str:
        left, top, right, bottom = self.box_ltrb
        distance = f"distance {self.distance:.3f}" if self.compared else "nothing to compare"
        where = f"{right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f}"
        return f"{KINDS[self.kind]} {self.number} ({where}): {self.verdict}, {distance}; {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"number": self.number, "box_ltrb": [round(value, 2) for value in self.box_ltrb],
                "verdict": self.verdict.value,
                "distance": _rounded(self.distance),
                "nearest": self.nearest, "reason": self.reason, "detectors": list(self.detectors),
                "redaction": self.redaction, "kind": self.kind,
                "likeness": None if self.likeness is None else _rounded(self.likeness)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sampling.

    Attributes:
        seed: of the noise; None where the noise has none.
        anonymization_scale: a_s; None where the guider has none.
        verdicts: of the persons, in their order.
        distance: the smallest of the picture; infinite where nothing was compared.
        kept: whether this is the picture that went on.
        place: of the picture in its batch, counted from 0; None where it was sampled alone.
        together: places of all pictures of the batch that were sampled together: step noise depends on them.
    """

    seed: int | None
    anonymization_scale: float | None
    verdicts: tuple[Verdict, ...]
    distance: float
    kept: bool = False
    place: int | None = None
    together: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        batch = {} if self.place is None else {"batch": {"place": self.place, "together": list(self.together)}}
        return {"seed": self.seed, "anonymization_scale": self.anonymization_scale,
                "verdicts": [verdict.value for verdict in self.verdicts],
                "distance": _rounded(self.distance), "kept": self.kept, **batch}


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """One picture's verdicts.

    Attributes:
        height, width: in pixels.
        pixels_sha256: see :func:`pixels_sha256`.
        persons: all of the original, by number; then faces and areas that are none of them.
        faces_lost: persons at whose place no face is found any more and that were not redacted.
        faces_new: faces where the original has none.
        faces_elsewhere: persons whose face is found at another place of the picture.
        nobody_passed: the original shows no face, and the user chose to let such pictures pass.
        policy: what was to be done about persons that are not settled.
        attempts: of the sampling, where it was watched.
        moved: how the result shows the original moved as a whole ("turned by 90 degrees"); empty where it does not.
        hidden: what was destroyed, for looking again at the same picture.
    """

    height: int
    width: int
    pixels_sha256: str
    persons: tuple[Person, ...]
    faces_lost: int = 0
    faces_new: int = 0
    faces_elsewhere: int = 0
    nobody_passed: bool = False
    policy: str = "report"
    attempts: tuple[Attempt, ...] = ()
    moved: str = ""
    hidden: Any = field(default=None, repr=False, compare=False)

    @property
    def unsettled(self) -> tuple[Person, ...]:
        """Persons that are neither safe nor redacted, nor exempt."""
        return tuple(person for person in self.persons if not person.verdict.settled)

    @property
    def lasting(self) -> tuple[str, ...]:
        """Kinds of the persons whom every look at the same picture shows: all but new faces that are not covered."""
        return tuple(person.kind for person in self.persons if person.kind != "new" or person.verdict.settled)

    @property
    def passes(self) -> bool:
        """Whether the picture may leave as anonymized."""
        return not self.unsettled and not self.moved and (not self.nobody or self.nobody_passed)

    @property
    def nobody(self) -> bool:
        """Whether nobody is known to be in the original."""
        return all(person.kind == "new" for person in self.persons)

    @property
    def verdict(self) -> str:
        """The worst of its persons, at least "unverifiable" where it was moved; "nobody" where there is none."""
        order = list(Verdict)
        verdicts = [person.verdict for person in self.persons] + ([Verdict.UNVERIFIABLE] if self.moved else [])
        return max(verdicts, key=order.index).value if verdicts else "nobody"

    def __str__(self) -> str:
        lines = [str(person) for person in self.persons]
        if self.nobody:
            lines.insert(0, "no face found in the original" + (" (passed by choice)" if self.nobody_passed else ""))
        if self.moved:
            lines.append(f"the result shows the original {self.moved}, so nothing is proved")
        counts = ((self.faces_lost, "lost"), (self.faces_new, "new"), (self.faces_elsewhere, "survived elsewhere"))
        if any(count for count, _ in counts):
            lines.append("faces " + ", ".join(f"{what}: {count}" for count, what in counts))
        if self.attempts:
            lines.append(f"tries: {len(self.attempts)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"width": self.width, "height": self.height, "pixels_sha256": self.pixels_sha256,
                "verdict": self.verdict, "persons": [person.to_json() for person in self.persons],
                "faces": {"lost": self.faces_lost, "new": self.faces_new, "elsewhere": self.faces_elsewhere},
                "nobody_passed": self.nobody_passed, "policy": self.policy,
                "tries": [one.to_json() for one in self.attempts], "moved": self.moved or None}


@dataclass(frozen=True, repr=False, eq=False)
class Report:
    """The verdicts of a batch, sealed.

    Attributes:
        pictures: one for each picture, in the batch's order.
        threshold: that decided.
        recogniser, detectors: that looked.
        seed, anonymization_scale: of the sampling, where they are known; with several attempts, of the first.
        recheck: (position in the batch, other pixels of the same picture) -> its verdicts by the same detectors,
            recogniser and threshold. It holds the embeddings of the originals; they are never printed or written.
        seal: HMAC-SHA256 over the rest, hex; empty where it was not sealed.
        skipped: positions, in the batch as it came, of pictures that were left out because nobody was found in them.
        second: recognisers that had to agree.
    """

    pictures: tuple[CheckedPicture, ...]
    threshold: Threshold
    recogniser: ModelInfo
    detectors: tuple[ModelInfo, ...]
    seed: int | None = None
    anonymization_scale: float | None = None
    recheck: Callable[[int, np.ndarray], CheckedPicture] | None = field(default=None)
    seal: str = ""
    skipped: tuple[int, ...] = ()
    second: tuple[ModelInfo, ...] = ()

    def _sealed(self) -> Report:
        """This report with a seal that :meth:`check` accepts as long as nothing is changed.

        For :func:`.verify.make_report` and nobody else, see the module for what a seal is worth.
        """
        return replace(self, seal=self._seal())

    def check(self, index: int, pixels: np.ndarray) -> CheckedPicture:
        """The verdicts of picture ``index``, if they are of these very pixels (H x W x 3, uint8).

        Raises:
            CamouflageError: the report was edited, has no such picture, or is of other pixels.
        """
        self.check_seal()
        if not 0 <= index < len(self.pictures):
            raise CamouflageError(f"The report is of {len(self.pictures)} pictures; there is no picture {index} "
                                  "(counted from 0) in it. Connect pictures and report of the same node.")
        picture = self.pictures[index]
        if pixels_sha256(pixels) != picture.pixels_sha256:
            raise CamouflageError(f"The report is not of picture {index} (counted from 0) as it came here: it is "
                                  "another picture, or its pixels were changed after the verification. Put everything "
                                  "that changes pixels before 'Verify', and connect its picture and its report.")
        return picture

    def check_seal(self) -> None:
        """Raises a CamouflageError if anything in the report was changed after it was sealed."""
        if not hmac.compare_digest(self.seal, self._seal()):
            raise CamouflageError("The report was changed after the verification (or comes from another run of "
                                  "ComfyUI), so it proves nothing. Connect the report of 'Verify' or 'Safe Sampler' "
                                  "as it is.")

    @property
    def verdict(self) -> str:
        """The worst verdict of the batch, see :attr:`CheckedPicture.verdict`; "nobody" counts as worse than safe.

        It is "nobody", too, where every picture was left out.
        """
        order = ["safe", "redacted", "exempt", "nobody", "unverifiable", "recognisable"]
        return max((picture.verdict for picture in self.pictures), key=order.index, default="nobody")

    @property
    def notes(self) -> list[str]:
        """What a reader must know besides, one sentence each."""
        return [f"The threshold is laxer than advised ({self.threshold.advised:.3f})."] if self.threshold.laxer else []

    def __repr__(self) -> str:
        return f"Report(pictures: {len(self.pictures)}, verdict: {self.verdict})"

    def __str__(self) -> str:
        """The verdict, then a list; reads the same as plain text and as Markdown."""
        recognisers = ", ".join(info.name for info in (self.recogniser, *self.second))
        lines = [f"threshold: {self.threshold}",
                 f"recogniser: {recognisers}; detectors: {', '.join(info.name for info in self.detectors)}"]
        if self.skipped:
            lines.append(f"left out, no face found (counted from 0 as they came): {', '.join(map(str, self.skipped))}")
        for index, picture in enumerate(self.pictures):
            lines += [f"picture {index}: {line}" for line in str(picture).splitlines()]
        return "\n".join([f"verdict: {self.verdict}", "", *(f"- {line}" for line in lines)])

    def to_json(self, index: int) -> dict[str, Any]:
        """What a manifest says of picture ``index``, as plain data; without the file and the models."""
        kept = next((one for one in self.pictures[index].attempts if one.kept), self)
        return {"format": MANIFEST_FORMAT, "version": MANIFEST_VERSION, "software": f"camouflage {VERSION}",
                "checked": self.pictures[index].to_json(), "threshold": self.threshold.to_json(),
                "recogniser": self.recogniser.to_json(), "second_recognisers": [info.to_json() for info in self.second],
                "notes": self.notes, "detectors": [info.to_json() for info in self.detectors],
                "sampling": {"seed": kept.seed, "anonymization_scale": kept.anonymization_scale}}

    def _seal(self) -> str:
        said = [self.to_json(index) for index in range(len(self.pictures))]
        exact = [repr(picture) for picture in self.pictures]  # JSON rounds
        models = repr((self.threshold, self.recogniser, self.detectors, self.second))
        text = json.dumps([said, exact, models, self.seed, self.anonymization_scale, self.skipped, id(self.recheck)],
                          sort_keys=True)
        return hmac.new(_SECRET, text.encode(), hashlib.sha256).hexdigest()


def _rounded(distance: float) -> float | None:
    return round(distance, 6) if math.isfinite(distance) else None


def pixels_sha256(pixels: np.ndarray) -> str:
    """SHA-256 over the size and the pixels, H x W x 3, uint8, row by row: the same for every lossless file of them."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height} RGB8\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()
