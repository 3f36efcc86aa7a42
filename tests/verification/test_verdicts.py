"""Verdicts of the verification, where every distance is known (see ``painted``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from camouflage.verification.detection import Detection
from camouflage.verification.report import Verdict, pixels_sha256
from painted import (
    ANN,
    BOB,
    CID,
    EVE,
    FREE,
    LEFT,
    LIMIT,
    MAX,
    MIDDLE,
    RIGHT,
    Eyes,
    counts,
    inside,
    judged,
    kinds,
    scene,
    verdicts,
    verifier,
)

SAFE, REDACTED, _, UNVERIFIABLE, RECOGNISABLE = Verdict
pytestmark = pytest.mark.usefixtures("only_faces")


def test_three_persons_three_verdicts_by_number() -> None:
    checked = judged({RIGHT: CID, LEFT: ANN, MIDDLE: BOB}, {LEFT: ANN, MIDDLE: EVE})
    assert verdicts(checked) == [RECOGNISABLE, SAFE, UNVERIFIABLE]
    assert [person.number for person in checked.persons] == [0, 1, 2]
    assert [person.box_ltrb for person in checked.persons] == [LEFT, MIDDLE, RIGHT]
    assert [person.distance for person in checked.persons] == [0, 1, 1]
    assert "within the threshold of this person" in checked.persons[0].reason
    assert "nobody's of the original" in checked.persons[1].reason
    assert "no face is found there any more" in checked.persons[2].reason
    assert counts(checked) == (1, 0, 0)
    assert (checked.height, checked.width) == (200, 400)
    assert checked.pixels_sha256 == pixels_sha256(scene({LEFT: ANN, MIDDLE: EVE}))


def test_swapped_persons_are_caught() -> None:
    checked = judged({LEFT: ANN, MIDDLE: BOB, RIGHT: CID}, {LEFT: BOB, MIDDLE: ANN, RIGHT: EVE})
    assert verdicts(checked) == [RECOGNISABLE, RECOGNISABLE, SAFE]
    assert "threshold of person 1" in checked.persons[0].reason
    assert "threshold of person 0" in checked.persons[1].reason
    assert counts(checked) == (0, 0, 2)


def test_a_face_copied_onto_another_person_gives_both_away() -> None:
    checked = judged({LEFT: ANN, MIDDLE: BOB}, {LEFT: EVE, MIDDLE: ANN})
    assert verdicts(checked) == [RECOGNISABLE, RECOGNISABLE]
    assert "this face is elsewhere now: 40 x 50 px at 180, 40" in checked.persons[0].reason
    assert (checked.persons[0].distance, checked.persons[0].nearest) == (0, 0)
    assert (checked.persons[1].distance, checked.persons[1].nearest) == (0, 0)
    assert counts(checked) == (0, 0, 1)


def test_a_face_that_moved_is_caught() -> None:
    checked = judged({LEFT: ANN, RIGHT: BOB}, {LEFT: EVE, FREE: ANN, RIGHT: MAX})
    assert verdicts(checked) == [RECOGNISABLE, SAFE, RECOGNISABLE], "the last one is the face at a free place"
    assert kinds(checked) == ["original", "original", "new"]
    assert counts(checked) == (0, 1, 1)


def test_new_faces_of_strangers_are_counted() -> None:
    after = {LEFT: EVE, FREE: MAX}
    assert counts(judged({LEFT: ANN}, after)) == (0, 1, 0)
    assert counts(judged({LEFT: ANN}, after, Eyes(doubts=(MAX,)))) == (0, 0, 0), "only where a detector is sure"


@pytest.mark.parametrize("doubts", [(), (MAX, ANN)])
def test_a_face_at_no_place_is_never_settled_whoever_it_is(doubts) -> None:
    checked = judged({LEFT: ANN}, {LEFT: EVE, FREE: MAX, RIGHT: ANN}, Eyes(doubts=doubts))
    assert [(person.number, person.kind, person.box_ltrb) for person in checked.persons[1:]] == [
        (1, "new", FREE), (2, "new", RIGHT)]
    assert verdicts(checked) == [RECOGNISABLE, UNVERIFIABLE, RECOGNISABLE]
    stranger, ann = checked.persons[1:]
    assert (stranger.distance, stranger.nearest) == (1, 0)
    assert stranger.reason == "this face stands where the original has none"
    assert (ann.distance, ann.nearest) == (0, 0)
    assert ann.reason == stranger.reason + ", and is within the threshold of person 0"
    assert not checked.passes


@pytest.mark.parametrize(("distance", "verdict"), [
    (0.0, RECOGNISABLE), (LIMIT, RECOGNISABLE), (np.nextafter(LIMIT, 1), SAFE),
    (float("nan"), RECOGNISABLE), (float("inf"), RECOGNISABLE), (float("-inf"), RECOGNISABLE)])
def test_at_the_threshold_and_without_a_number_it_is_the_same_person(distance, verdict) -> None:
    checked = judged({LEFT: ANN}, {LEFT: EVE}, strangers=distance)
    assert verdicts(checked) == [verdict]
    assert checked.persons[0].distance == (distance if np.isfinite(distance) else 0)


@pytest.mark.parametrize(("distance", "verdict"), [(LIMIT, RECOGNISABLE), (np.nextafter(LIMIT, 1), UNVERIFIABLE)])
def test_the_same_elsewhere(distance, verdict) -> None:
    checked = judged({LEFT: ANN}, {FREE: EVE}, strangers=distance)
    assert verdicts(checked) == [verdict, verdict]
    assert kinds(checked) == ["original", "new"]
    assert counts(checked) == (1, 1, int(verdict is RECOGNISABLE))


def test_the_place_itself_is_compared_also_without_a_detected_face() -> None:
    checked = judged({LEFT: ANN}, {}, nothing=lambda seen, known: 0.2)
    assert verdicts(checked) == [RECOGNISABLE]
    assert checked.persons[0].distance == 0.2


def test_detectors_that_disagree() -> None:
    before, after = {LEFT: ANN, MIDDLE: BOB}, {LEFT: EVE, MIDDLE: MAX}
    checked = judged(before, after, Eyes("a"), Eyes("b", blind=(EVE,)))
    assert verdicts(checked) == [UNVERIFIABLE, SAFE]
    assert checked.persons[0].reason == "the detectors disagree: none found by b"
    assert counts(checked) == (0, 0, 0)
    assert verdicts(judged(before, after, Eyes("a"), Eyes("b", doubts=(EVE,)))) == [UNVERIFIABLE, SAFE], "must be sure"
    checked = judged(before, after, Eyes("a"), Eyes("b", blind=(ANN, EVE)))
    assert verdicts(checked) == [SAFE, SAFE], "who did not find the original need not find the result"
    assert [person.detectors for person in checked.persons] == [("a",), ("a", "b")]
    checked = judged(before, after, Eyes("a", doubts=(EVE,)))
    assert verdicts(checked) == [UNVERIFIABLE, SAFE]
    assert counts(checked) == (1, 0, 0), "a face that nobody is sure of is lost"


def test_an_original_face_that_a_detector_doubts_is_checked() -> None:
    assert verdicts(judged({LEFT: ANN}, {LEFT: ANN}, Eyes(doubts=(ANN,)))) == [RECOGNISABLE]


@pytest.mark.parametrize(("before", "after", "verdict"), [
    ((0, 0, 32, 50), (0, 0, 32, 50), SAFE), ((0, 0, 31, 50), (0, 0, 31, 50), UNVERIFIABLE),
    ((0, 0, 50, 31), (0, 0, 50, 31), UNVERIFIABLE), ((0, 0, 40, 50), (0, 0, 31, 50), UNVERIFIABLE),
    ((0, 0, 31, 50), (0, 0, 40, 50), UNVERIFIABLE), ((0, 0, 40, 50), (0, 0, 32, 50), SAFE)])
def test_small_faces_prove_nothing(before, after, verdict) -> None:
    checked = judged({before: ANN}, {after: EVE})
    assert verdicts(checked) == [verdict]
    assert ("smaller than 32 px" in checked.persons[0].reason) == (verdict is UNVERIFIABLE)
    assert verdicts(judged({before: ANN}, {after: ANN})) == [RECOGNISABLE], "but what is recognised counts"


def test_every_doubt_is_asked_before_safe() -> None:
    tiny = (0, 0, 20, 20)
    redacted = {0: "mosaic"}
    assert verdicts(judged({LEFT: ANN}, {LEFT: ANN}, redacted=redacted)) == [RECOGNISABLE]
    assert verdicts(judged({LEFT: ANN}, {FREE: ANN}, redacted=redacted)) == [RECOGNISABLE, RECOGNISABLE]
    for after in ({}, {LEFT: EVE}, {tiny: EVE}):
        checked = judged({LEFT: ANN, RIGHT: BOB}, {**after, RIGHT: MAX}, redacted=redacted)
        assert verdicts(checked)[:2] == [REDACTED, SAFE]
        assert verdicts(checked)[2:] == [UNVERIFIABLE] * (tiny in after), "that face is at no place"
        assert checked.persons[0].reason == "the region was replaced (mosaic)"
        assert [person.redaction for person in checked.persons[:2]] == ["mosaic", None]
        assert checked.faces_lost == 0, "who was redacted is not lost"


@pytest.mark.parametrize(("down", "across"), [(2, 2), (1, 3), (2, 1)])
def test_a_result_of_another_size_is_the_same_view(down, across) -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN, RIGHT: BOB}))
    result = scene({LEFT: EVE, RIGHT: BOB}).repeat(down, axis=0).repeat(across, axis=1)
    checked = judge.verify(originals, result)
    assert verdicts(checked) == [SAFE, RECOGNISABLE]
    assert checked.persons[0].box_ltrb == (40 * across, 40 * down, 80 * across, 90 * down)
    assert counts(checked) == (0, 0, 0)
    small = judge.verify(originals, scene({LEFT: EVE, RIGHT: BOB})[::2, ::2])
    assert verdicts(small) == [UNVERIFIABLE, RECOGNISABLE], "20 px are too few"


def test_boxes_are_clipped_to_the_picture() -> None:
    class Wide(Eyes):
        def detect(self, pixels):
            return [Detection((-10, -20, 40, 60), 0.9)]
    judge = verifier(Wide())
    [person] = judge.verify(judge.originals(scene({})), scene({})).persons
    assert person.box_ltrb == (0, 0, 40, 60)


class Sideways(Eyes):
    """Tells of all faces that they are turned by 90 degrees; their boxes are upright about the same centre."""

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        return [replace(one, box_ltrb=lying(one.box_ltrb), turn=90.0) for one in super().detect(pixels)]


def lying(box):
    """The box with its sides changed, about the same centre."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = box[2] - box[0], box[3] - box[1]
    return x - height / 2, y - width / 2, x + height / 2, y + width / 2


def test_a_turned_face_is_covered_by_a_turned_head() -> None:
    """Its hair lies to the left of it, where an upright head would leave it open."""
    face, shape = (100, 60, 160, 110), (200, 400)
    judge, before = verifier(Sideways()), scene({face: ANN})
    originals = judge.originals(before)
    assert [(found.box_ltrb, found.turn, found.bounds) for found in originals.faces] == [
        ((105, 55, 155, 115), 90.0, pytest.approx(face))]
    pixels, checked = judge.settle(originals, before)
    assert verdicts(checked) == [REDACTED]
    assert checked.persons[0].box_ltrb == pytest.approx(face)
    turned = np.rot90(inside((90, 100, 140, 160), shape[::-1], 0.999))  # of the picture before it was turned
    assert turned.shape == shape
    assert (pixels[turned] == 128).all()
    assert not (pixels[inside(lying(face), shape)] == 128).all()


def test_a_turned_face_is_safe_only_where_it_is_found_again_once_it_is_turned() -> None:
    before, after = scene({LEFT: ANN}), scene({LEFT: EVE})
    [person] = judged({LEFT: ANN}, {LEFT: EVE}, Sideways()).persons
    assert person.verdict is UNVERIFIABLE
    assert person.reason == "the face does not stand upright, and none is found there when it is turned"

    class Both(Sideways):
        def detect(self, pixels: np.ndarray) -> list[Detection]:
            return super().detect(pixels) if pixels.shape == before.shape else Eyes.detect(self, pixels)
    judge = verifier(Both())
    assert verdicts(judge.verify(judge.originals(before), after)) == [SAFE]
    assert verdicts(judge.verify(judge.originals(before), before)) == [RECOGNISABLE]
