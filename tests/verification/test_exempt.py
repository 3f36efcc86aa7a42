"""Persons who stay as they are by consent: by place and by identity, and never as safe."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest

import painted
import pasted
import photos
from camouflage.output.encoding import decode, encode
from camouflage.verification.centerface import CenterFace
from camouflage.verification.detection import DlibHog
from camouflage.verification.places import box_around, centre
from camouflage.verification.recognition import DlibRecogniser
from camouflage.verification.redaction import Region, changed, redact
from camouflage.verification.remembering import Remembering
from camouflage.verification.report import CheckedPicture, Verdict
from camouflage.verification.verify import Originals, Verifier, make_report
from painted import ANN, BOB, EVE, LEFT, MIDDLE, RIGHT

SAFE, REDACTED, EXEMPT, UNVERIFIABLE, RECOGNISABLE = Verdict
WHO, OTHER = 1, 2  # of the three, from left to right
THREE = range(3)


@functools.cache
def verifier() -> Verifier:
    recogniser = DlibRecogniser()
    return Verifier((Remembering(CenterFace()), Remembering(DlibHog())), recogniser, recogniser.threshold)


@functools.cache
def three() -> np.ndarray:
    """The left half of the six at 0.6 of its size, to save time: faces of 62 px and more."""
    pixels = photos.load("six")
    return cv2.resize(pixels[:, :680], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)


@functools.cache
def nobody_exempt() -> Originals:
    return verifier().originals(three())


@functools.cache
def everybody(exempt=(WHO,)) -> Originals:
    """The three, of whom some are exempt by the boxes of their faces."""
    known = nobody_exempt()
    return verifier().originals(three(), exempt_ltrb=[known.faces[number].box_ltrb for number in exempt])


def without_others(pixels: np.ndarray, left=(WHO,)) -> np.ndarray:
    """The picture with all heads filled but some."""
    regions = [Region(face.box_ltrb, turn=face.turn) for number, face in enumerate(nobody_exempt().faces)
               if number not in left]
    kept = np.zeros(pixels.shape[:2], bool)
    for number in left:  # neighbours' edges must not reach into this head
        kept |= changed(pixels.shape, [Region(nobody_exempt().faces[number].box_ltrb, grow=0.9)])
    return np.where(kept[..., None], pixels, redact(pixels, regions))


def verdicts(checked: CheckedPicture) -> list[Verdict]:
    return [person.verdict for person in checked.persons if person.kind == "original"]


def test_who_is_exempt_stays_and_nobody_else_does() -> None:
    originals = everybody()
    assert originals.exempt == {WHO}
    pixels, checked = verifier().settle(originals, three())
    assert verdicts(checked) == [EXEMPT if number == WHO else REDACTED for number in THREE]
    assert checked.passes and checked.verdict == "exempt", "never safe"
    assert checked.persons[WHO].redaction is None and "by consent" in checked.persons[WHO].reason
    left, top, right, bottom = map(round, originals.faces[WHO].box_ltrb)
    assert (pixels[top:bottom, left:right] == three()[top:bottom, left:right]).all()

    assert verifier().settle(nobody_exempt(), three())[1].verdict == "redacted", "without a box everybody is covered"


def test_who_is_exempt_counts_as_nothing_but_exempt() -> None:
    report = make_report(verifier(), [everybody()], [verifier().verify(everybody(), without_others(three()),
                                                                       dict.fromkeys({*THREE} - {WHO}, "solid"))])
    assert report.verdict == "exempt"
    assert f"person {WHO} " in str(report) and ": exempt, " in str(report)
    told = report.to_json(0)["checked"]
    assert told["verdict"] == "exempt" and [one["verdict"] for one in told["persons"]].count("exempt") == 1
    assert "safe" not in [one["verdict"] for one in told["persons"]]


def test_where_everybody_else_stays_too_they_are_recognised() -> None:
    checked = verifier().verify(everybody(), three())
    assert verdicts(checked) == [EXEMPT if number == WHO else RECOGNISABLE for number in THREE]
    assert not checked.passes and checked.verdict == "recognisable"


@pytest.mark.parametrize("moved", [
    pytest.param(lambda box: box_around(*centre(box), 360, 540), id="far too large"),
    pytest.param(lambda box: box_around(*centre(box), 8, 8), id="far too small"),
    pytest.param(lambda box: (box[0] + 60, box[1], box[2] + 60, box[3]), id="beside"),
    pytest.param(lambda box: (0, 0, 40, 40), id="on nobody")])
def test_a_box_that_is_no_faces_exempts_nobody(moved) -> None:
    originals = verifier().originals(three(), exempt_ltrb=[moved(nobody_exempt().faces[WHO].box_ltrb)])
    assert originals.exempt == frozenset()
    assert len(originals.faces) == len(nobody_exempt().faces), "and adds nobody"


def test_a_box_on_two_faces_exempts_neither() -> None:
    judge = painted.verifier()
    seen = judge.originals(painted.scene({LEFT: ANN}), exempt_ltrb=[(50, 40, 90, 90)])
    assert seen.exempt == {0}
    both = {(40, 40, 62, 90): ANN, (63, 40, 85, 90): BOB}
    assert len(judge.originals(painted.scene(both)).faces) == 2
    assert judge.originals(painted.scene(both), exempt_ltrb=[(40, 40, 85, 90)]).exempt == frozenset()


def swapped(pixels: np.ndarray, a: int, b: int) -> np.ndarray:
    """The picture with the head of person b pasted onto person a."""
    faces, result = nobody_exempt().faces, pixels.copy()
    left, top, right, bottom = map(round, faces[a].box_ltrb)
    x, y, to_x, to_y = map(round, faces[b].box_ltrb)
    reach = (right - left) // 4
    source = three()[y - reach:to_y + reach, x - reach:to_x + reach]
    result[top - reach:bottom + reach, left - reach:right + reach] = cv2.resize(
        source, (right - left + 2 * reach, bottom - top + 2 * reach), interpolation=cv2.INTER_AREA)
    return result


def test_another_persons_face_at_the_exempt_place_is_not_exempt() -> None:
    checked = verifier().verify(everybody(), swapped(three(), WHO, OTHER), dict.fromkeys({*THREE} - {WHO}, "solid"))
    assert verdicts(checked)[WHO] is RECOGNISABLE
    assert f"threshold of person {OTHER}" in checked.persons[WHO].reason


def test_the_exempt_persons_face_elsewhere_is_not_exempt() -> None:
    checked = verifier().verify(everybody(), swapped(three(), OTHER, WHO))
    assert verdicts(checked)[WHO] is EXEMPT
    assert verdicts(checked)[OTHER] is RECOGNISABLE
    assert f"threshold of person {WHO}" in checked.persons[OTHER].reason
    _, settled = verifier().settle(everybody(), swapped(three(), OTHER, WHO))
    assert verdicts(settled) == [EXEMPT if number == WHO else REDACTED for number in THREE]


def test_the_exempt_persons_face_where_nobody_was_is_not_exempt() -> None:
    pixels = without_others(three())
    left, top, right, bottom = map(round, nobody_exempt().faces[WHO].box_ltrb)
    face = pixels[top - 20:bottom + 20, left - 20:right + 20]
    pixels = np.vstack([pixels, np.full((180, *pixels.shape[1:]), 200, np.uint8)])
    original = np.vstack([three(), np.full((180, *three().shape[1:]), 200, np.uint8)])
    pixels[-170:-170 + len(face), 40:40 + face.shape[1]] = face
    originals = verifier().originals(original, exempt_ltrb=[nobody_exempt().faces[WHO].box_ltrb])
    checked = verifier().verify(originals, pixels, dict.fromkeys({*THREE} - {WHO}, "solid"))
    assert verdicts(checked)[WHO] is EXEMPT
    assert RECOGNISABLE in [person.verdict for person in checked.persons if person.kind == "new"]
    assert not checked.passes


def test_an_exempt_person_who_was_painted_over_is_judged_like_anybody() -> None:
    covered = redact(three(), [Region(nobody_exempt().faces[WHO].box_ltrb)])
    checked = verifier().verify(everybody(), covered)
    assert verdicts(checked)[WHO] in (UNVERIFIABLE, RECOGNISABLE)


def test_a_double_of_the_exempt_person_is_covered_and_the_exempt_person_is_not() -> None:
    (canvas, _), = pasted.grid(["astronaut", "obama"], 110)
    twice = np.hstack([canvas, canvas])
    known = verifier().originals(twice)
    whose = [number for number, face in enumerate(known.faces)
             if verifier().recogniser.distances(known.embeddings[number:number + 1], known.embeddings[:1])[0, 0] < 0.6]
    assert len(known.faces) == 4
    first, second = whose
    originals = verifier().originals(twice, exempt_ltrb=[known.faces[first].box_ltrb])
    pixels, checked = verifier().settle(originals, twice)
    expected = [REDACTED] * 4
    expected[first] = EXEMPT
    assert verdicts(checked) == expected
    left, top, right, bottom = map(round, known.faces[first].box_ltrb)
    assert (pixels[top:bottom, left:right] == twice[top:bottom, left:right]).all()
    assert verdicts(verifier().verify(originals, twice))[second] is RECOGNISABLE


@pytest.mark.usefixtures("only_faces")
def test_exempt_needs_the_place_to_look_like_the_original() -> None:
    judge = painted.verifier()
    originals = judge.originals(painted.scene({LEFT: ANN, RIGHT: BOB}), exempt_ltrb=[LEFT])
    checked = judge.verify(originals, painted.scene({LEFT: ANN, RIGHT: EVE}))
    assert painted.verdicts(checked) == [RECOGNISABLE, SAFE], "in this world no picture looks like another one"


def test_the_recogniser_must_agree_too() -> None:
    judge = painted.verifier()
    before = painted.scene({LEFT: ANN, MIDDLE: BOB})
    originals = judge.originals(before, exempt_ltrb=[LEFT])
    assert painted.verdicts(judge.verify(originals, before))[0] is EXEMPT
    assert painted.verdicts(judge.verify(originals, painted.scene({LEFT: BOB, MIDDLE: BOB})))[0] is RECOGNISABLE


def test_a_saved_file_is_looked_at_again_the_same_way() -> None:
    originals = everybody()
    pixels, checked = verifier().settle(originals, three())
    report = make_report(verifier(), [originals], [checked])
    again = report.recheck(0, decode(encode(pixels, "JPEG", 92)))
    assert verdicts(again) == verdicts(checked) and again.passes
