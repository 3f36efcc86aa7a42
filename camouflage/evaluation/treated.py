"""What the policy makes of pictures that were painted before any policy: the second column of an experiment.

The library's own verification judges and treats them, as the shipped workflows do: CenterFace and dlib's detector,
dlib's recogniser at its publishers' threshold, heads of persons that are not settled filled solid, and nothing leaves
where no face was found in the original. Our own redactions say what they covered, as Redact does. Any other picture is
of unknown origin: a head that somebody else blurred counts as a head.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..files import write_whole
from ..output.encoding import encode
from ..photos import Unreadable, read_pixels
from ..verification.detection import Detector
from ..verification.hidden import Hidden
from ..verification.policy import REDACT
from ..verification.recognition import DlibRecogniser
from ..verification.redaction import Region
from ..verification.scene import together
from ..verification.verify import Blocked, Originals, Verifier
from .kept import brought
from .pairing import Pair
from .seeing import WITHHELD, framed

FOLDER = "after_policy"
"""Below the private folder of the painted pictures, with the same paths."""
UNCHANGED, REDACTED = "unchanged", "redacted"
FATES = (UNCHANGED, REDACTED, WITHHELD)
"""What becomes of a picture: it may leave as it was painted; heads were covered; it may not leave."""


def shipped(detectors: Sequence[Detector]) -> Verifier:
    """Who judges with the settings of the shipped workflows.

    Args:
        detectors: CenterFace and dlib's. Ones that remember do not look twice at what an evaluation has seen already.
    """
    recogniser = DlibRecogniser()
    return Verifier(tuple(detectors), recogniser, recogniser.threshold)


def treated(pairs: Sequence[tuple[Pair, Sequence[Region]]], work: Path, verifier: Verifier) -> list[tuple[Pair, str]]:
    """One photo's pictures after the policy; those that were treated already stay as they are.

    Args:
        pairs: the photo with its picture of each way, below ``work``, and what our own redaction covered there. The
            photo is looked at once for each size.
        work: private folder.
        verifier: who judges.

    Returns:
        Of each way the pair that is left, whose state is ``WITHHELD`` where the picture may not leave, and what became
        of the picture, of ``FATES``; "" where none was painted. A picture that cannot be read may not leave.
    """
    known: dict[tuple[int, int], Originals] = {}

    def original(path: Path, like: np.ndarray) -> Originals:
        """The photo in the painted picture's frame, as the workflow's verification gets it."""
        size = like.shape[1], like.shape[0]
        if size not in known:
            photo = read_pixels(path)
            frame = framed((photo.shape[1], photo.shape[0]), size)
            known[size] = verifier.originals(brought(photo, frame, *size))
        return known[size]

    return [_treated(pair, covered, work, verifier, original) for pair, covered in pairs]


def _treated(pair: Pair, covered: Sequence[Region], work: Path, verifier: Verifier,
             original: Callable[[Path, np.ndarray], Originals]) -> tuple[Pair, str]:
    if pair.anonymized is None:
        return pair, ""
    picture = work / FOLDER / pair.anonymized.relative_to(work)
    note, fate = picture.with_suffix(".txt"), ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        fate = note.read_text(encoding="utf-8")
    if fate not in FATES or (fate == REDACTED and not picture.is_file()):
        picture.parent.mkdir(parents=True, exist_ok=True)
        try:
            painted = read_pixels(pair.anonymized)
            persons = original(pair.original, painted)
            pixels, _ = verifier.settle(persons, painted, REDACT, _hidden(covered, persons))
        except (Blocked, Unreadable):
            fate = WITHHELD
        else:
            fate = UNCHANGED if pixels is painted else REDACTED
            if fate == REDACTED:
                write_whole(picture, encode(pixels, "PNG"))
        write_whole(note, fate.encode())
    return {UNCHANGED: pair, REDACTED: replace(pair, anonymized=picture),
            WITHHELD: replace(pair, anonymized=None, state=WITHHELD)}[fate], fate


def _hidden(covered: Sequence[Region], persons: Originals) -> Hidden:
    """Whose heads were covered."""
    hidden = Hidden()
    for region in covered:
        for number, face in enumerate(persons.faces):
            if together(face, (region.box_ltrb, region.turn)):
                hidden = hidden.with_person(number, region.mode, [region])
                break
    return hidden
