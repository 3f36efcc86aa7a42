"""Verdicts and policies of the verification, where every distance is known (see ``painted``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from camouflage.errors import CamouflageError
from camouflage.verification import likeness
from camouflage.verification.detection import Detection
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import Threshold
from camouflage.verification.report import Verdict, pixels_sha256
from camouflage.verification.verify import Blocked, Verifier, make_report
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
    Colour,
    Eyes,
    Memory,
    counts,
    inside,
    judged,
    kinds,
    scene,
    verdicts,
    verifier,
)

SAFE, REDACTED, UNVERIFIABLE, RECOGNISABLE = Verdict


@pytest.fixture(autouse=True)
def _only_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this world all faces are flat and look alike as pictures; here the recogniser alone is asked."""
    monkeypatch.setattr(likeness, "LIMITS", dict.fromkeys(likeness.LIMITS, 99.0))
    monkeypatch.setattr(likeness, "faded", lambda before, after: False)


# Verdicts

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


# Policies

def test_report_changes_nothing_and_block_names_who_it_is() -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN, MIDDLE: BOB, RIGHT: CID}))
    result = scene({LEFT: EVE, MIDDLE: BOB})
    pixels, checked = judge.settle(originals, result, "report")
    assert pixels is result
    assert verdicts(checked) == [SAFE, RECOGNISABLE, UNVERIFIABLE]
    assert (checked.policy, checked.passes) == ("report", False)
    with pytest.raises(Blocked) as error:
        judge.settle(originals, result, "block")
    assert "person 1 (40 x 50 px at 180, 40)" in str(error.value)
    assert "person 2 (40 x 50 px at 320, 40)" in str(error.value)
    assert "person 0" not in str(error.value)


@pytest.mark.parametrize("policy", ["redact", "block", "report"])
def test_who_is_safe_is_left_alone_by_every_policy(policy) -> None:
    judge = verifier()
    result = scene({LEFT: EVE})
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN})), result, policy)
    assert pixels is result
    assert (verdicts(checked), checked.policy, checked.passes) == ([SAFE], policy, True)


@pytest.mark.parametrize("mode", ["solid", "mosaic", "blur"])
def test_redact_hides_those_who_are_not_settled(mode) -> None:
    judge = verifier()
    result = scene({LEFT: EVE, MIDDLE: BOB})
    before = result.copy()
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN, MIDDLE: BOB, RIGHT: CID})), result, mode=mode)
    assert np.array_equal(result, before)
    assert verdicts(checked) == [SAFE, REDACTED, REDACTED]
    assert [person.redaction for person in checked.persons] == [None, mode, mode]
    assert checked.pixels_sha256 == pixels_sha256(pixels)
    assert (checked.policy, checked.passes) == ("redact", True)
    assert np.array_equal(pixels[:, :120], before[:, :120])
    assert (pixels[65, 200] != before[65, 200]).any()
    if mode == "solid":
        assert (pixels[inside(MIDDLE, (200, 400)) | inside(RIGHT, (200, 400))] == 128).all()


def test_a_face_elsewhere_is_hidden_too() -> None:
    judge = verifier()
    result = scene({LEFT: EVE, FREE: ANN, RIGHT: MAX})
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN})), result)
    assert verdicts(checked) == [REDACTED] * 3
    assert [(person.kind, person.redaction) for person in checked.persons] == [
        ("original", "solid"), ("new", "solid"), ("new", "solid")]
    everybody = inside(LEFT, (200, 400)) | inside(FREE, (200, 400)) | inside(RIGHT, (200, 400))
    assert (pixels[everybody] == 128).all(), "the stranger, too: nobody knows who that is"
    reach = [inside(box, (200, 400), 1.13) for box in (LEFT, FREE, RIGHT)]
    assert np.array_equal(pixels[~np.any(reach, axis=0)], result[~np.any(reach, axis=0)])


def only_solid(seen: Colour, known: Colour) -> float:
    """Recognises everything in what is left of a head, unless that is the solid grey."""
    return 1.0 if seen == (128, 128, 128) else 0.1


def anns_mosaic(seen: Colour, known: Colour) -> float:
    """Recognises Ann in a mosaic of her, and nobody else."""
    return 0.1 if seen[:2] == (ANN, 6) and known[0] == ANN else 1.0


@pytest.mark.parametrize("mode", ["mosaic", "blur"])
def test_a_redaction_that_is_not_enough_becomes_solid_and_larger(mode) -> None:
    judge = verifier(nothing=only_solid)
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN})), scene({LEFT: ANN}), mode=mode)
    assert verdicts(checked) == [REDACTED]
    assert checked.persons[0].redaction == "solid"
    assert (pixels[inside(LEFT, (200, 400), 1.25)] == 128).all()
    assert (pixels[~inside(LEFT, (200, 400), 1.25 * 1.13)] == 255).all()


class Restless(Eyes):
    """Finds one face more in every picture but the first, each time at another place."""

    def detect(self, pixels: np.ndarray) -> list[Detection]:
        found = super().detect(pixels)
        left = 140 * (self.looks - 1)
        return [*found, *([Detection((left, 120, left + 40, 170), 0.9)] if self.looks > 1 else [])]


def test_three_attempts_then_nothing_leaves() -> None:
    """Our own fill cannot fail; here everybody is found again elsewhere, whatever was covered."""
    eyes, shape = Restless(), (240, 800)
    judge = verifier(eyes, nothing=lambda seen, known: 0.1)
    with pytest.raises(Blocked, match=r"person 0 \(40 x 50 px at 40, 40\).*Redaction did not hide them"):
        judge.settle(judge.originals(scene({LEFT: ANN}, shape)), scene({LEFT: ANN}, shape))
    assert eyes.looks == 1 + 1 + 3, "the original, the result, three redactions"


def test_new_faces_are_covered_in_several_rounds_but_not_for_ever() -> None:
    class Late(Restless):
        def detect(self, pixels: np.ndarray) -> list[Detection]:
            return super().detect(pixels)[:len(Eyes.detect(Eyes(), pixels)) + (self.looks <= last)]

    shape = (240, 2000)
    for last, looks in ((4, 5), (99, 1 + 1 + 8)):
        eyes = Late()
        judge = verifier(eyes)
        originals = judge.originals(scene({LEFT: ANN}, shape))
        if last == 99:
            with pytest.raises(Blocked, match="new face.*Redaction did not hide them"):
                judge.settle(originals, scene({LEFT: EVE}, shape))
        else:
            pixels, checked = judge.settle(originals, scene({LEFT: EVE}, shape))
            assert verdicts(checked) == [SAFE] + [REDACTED] * 3
            assert kinds(checked) == ["original"] + ["new"] * 3
            boxes = [(140 * look, 120, 140 * look + 40, 170) for look in (1, 2, 3)]
            assert [person.box_ltrb for person in checked.persons[1:]] == boxes
            assert all((pixels[inside(box, shape)] == 128).all() for box in boxes)
            assert pixels[60, 60, 0] == EVE
        assert eyes.looks == looks


def test_our_own_fill_is_proved_by_its_pixels_and_not_accused_by_a_recogniser() -> None:
    judge = verifier(nothing=lambda seen, known: 0.1)
    before = scene({LEFT: ANN, RIGHT: BOB})
    pixels, checked = judge.settle(judge.originals(before), before)
    assert verdicts(checked) == [REDACTED, REDACTED]
    assert [(person.distance, person.nearest) for person in checked.persons] == [(float("inf"), None)] * 2
    unknown = judge.verify(judge.originals(before), pixels, {0: "solid", 1: "solid"})
    assert verdicts(unknown) == [RECOGNISABLE, RECOGNISABLE], "where nobody knows which regions were filled"
    spoiled = pixels.copy()
    spoiled[60, 60] = 200
    assert verdicts(judge.verify(judge.originals(before), spoiled, checked.hidden)) == [RECOGNISABLE, REDACTED]


def test_a_face_that_is_found_where_the_fill_is_accuses_it() -> None:
    class Stubborn(Eyes):
        def detect(self, pixels: np.ndarray) -> list[Detection]:
            grey = bool((pixels == 128).all(axis=2).any())
            return [*super().detect(pixels), *([Detection((20, 20, 100, 100), 0.9)] if grey else [])]

    judge, before = verifier(Stubborn()), scene({LEFT: ANN})
    originals = judge.originals(before)
    pixels, checked = judge.settle(originals, before)
    assert verdicts(checked) == [REDACTED], "more than four fifths of what is found there is the fill"
    pixels[~inside(LEFT, (200, 400), 0.9)] = 255
    [person] = judge.verify(originals, pixels, checked.hidden).persons
    assert person.verdict is UNVERIFIABLE, "here it is about half"
    assert person.reason == "a face is still found where the head was covered"
    assert (person.distance, person.redaction) == (1, "solid")


def test_a_neighbour_covered_by_a_redaction_is_redacted() -> None:
    judge, near, touching = verifier(), (100, 40, 140, 90), (81, 45, 121, 80)
    _, checked = judge.settle(judge.originals(scene({LEFT: ANN, near: BOB})), scene({LEFT: ANN, near: EVE}))
    assert verdicts(checked) == [REDACTED, SAFE], "still a whole face, and a stranger's"
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN, touching: BOB, RIGHT: CID})),
                                   scene({LEFT: ANN, touching: EVE, RIGHT: MAX}))
    assert verdicts(checked) == [REDACTED, REDACTED, SAFE]
    assert (pixels[inside(LEFT, (200, 400)) | inside(touching, (200, 400))] == 128).all()
    assert pixels[60, 340, 0] == MAX


def test_a_neighbours_mosaic_does_not_bring_back_what_solid_destroyed() -> None:
    judge, before = verifier(nothing=anns_mosaic), scene({LEFT: ANN, (100, 40, 140, 90): BOB})
    pixels, checked = judge.settle(judge.originals(before), before, mode="mosaic")
    assert [person.redaction for person in checked.persons] == ["solid", "mosaic"]
    assert (pixels[inside(LEFT, (200, 400), 1.25)] == 128).all()


SPECK = (200, 100, 218, 120)


def test_a_speck_taken_for_a_face_does_not_keep_the_others_from_being_redacted() -> None:
    """A detector finds 18 px of nothing, is not sure, and the recogniser finds that any mosaic looks like it."""
    judge = verifier(Eyes(doubts=(EVE,)), nothing=lambda seen, known: 0.3 if known[0] == EVE else 1.0)
    before = scene({LEFT: ANN, SPECK: EVE, RIGHT: BOB})
    _, checked = judge.settle(judge.originals(before), before, mode="mosaic")
    assert verdicts(checked) == [REDACTED, REDACTED, REDACTED]
    assert [person.redaction for person in checked.persons] == ["mosaic"] * 3
    assert [person.distance for person in checked.persons] == [1, 1, 1], "what is left is not compared with the speck"
    unchanged = judge.verify(judge.originals(before), before)
    assert verdicts(unchanged) == [RECOGNISABLE] * 3, "a speck that is still there is"
    small = judged({SPECK: ANN}, {}, Eyes(doubts=(ANN,)), nothing=lambda seen, known: 0.8, redacted={0: "solid"})
    assert verdicts(small) == [REDACTED] and small.persons[0].distance == 0.8, "far away is worth telling"


@pytest.mark.parametrize(("box", "doubts"), [(SPECK, ()), (RIGHT, (EVE,)), (RIGHT, ()),
                                             ((200, 100, 232, 140), (EVE,))])
def test_nothing_else_is_a_speck(box, doubts) -> None:
    """Neither a small face of which a detector is sure, nor an unsure one of 32 px and more, whatever is stricter."""
    judge = verifier(Eyes(doubts=doubts), nothing=lambda seen, known: 0.3 if known[0] == EVE else 1.0)
    before = scene({LEFT: ANN, box: EVE})
    for smallest in (32, 512):
        checked = replace(judge, smallest_face=smallest).settle(judge.originals(before), before, mode="mosaic")[1]
        assert verdicts(checked) == [REDACTED, REDACTED]
        assert [person.redaction for person in checked.persons] == ["solid", "solid"], "a mosaic was not enough"


def test_who_was_redacted_before_is_redacted_still_or_hidden_better() -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN, RIGHT: BOB}))
    pixels, checked = judge.settle(originals, scene({RIGHT: EVE}), redacted={0: "blur"})
    assert verdicts(checked) == [REDACTED, SAFE]
    assert checked.persons[0].redaction == "blur"
    pixels, checked = judge.settle(originals, scene({LEFT: ANN, RIGHT: EVE}), mode="mosaic", redacted={0: "blur"})
    assert [person.redaction for person in checked.persons] == ["solid", None], "not the first attempt any more"
    assert (pixels[inside(LEFT, (200, 400), 1.25)] == 128).all()


def test_known_verdicts_are_not_worked_out_again() -> None:
    eyes = Eyes()
    judge = verifier(eyes)
    originals = judge.originals(scene({LEFT: ANN}))
    result = scene({LEFT: EVE})
    checked = judge.verify(originals, result)
    assert eyes.looks == 2
    assert judge.settle(originals, result, "block", checked=checked)[1].persons == checked.persons
    assert eyes.looks == 2


# No face in the original

@pytest.mark.parametrize("policy", ["redact", "block"])
def test_no_face_blocks_unless_it_may_pass(policy) -> None:
    judge = verifier()
    nobody = judge.originals(scene({}))
    result = scene({})
    assert nobody.faces == () and len(nobody.embeddings) == 0 and not nobody.anybody
    for not_passed in ("block", "skip"):
        with pytest.raises(Blocked, match="No face was found in the original.*set 'no_face' to 'pass'"):
            judge.settle(nobody, result, policy, not_passed)
    pixels, checked = judge.settle(nobody, result, policy, "pass")
    assert pixels is result
    assert (checked.persons, checked.verdict, checked.passes) == ((), "nobody", True)
    assert counts(checked) == (0, 0, 0)


def test_a_face_that_comes_from_nowhere_does_not_pass_with_nobody() -> None:
    judge = verifier()
    nobody, result = judge.originals(scene({})), scene({LEFT: EVE})
    with pytest.raises(Blocked, match=r"new face 0 \(40 x 50 px at 40, 40\): unverifiable"):
        judge.settle(nobody, result, "block", "pass")
    _, checked = judge.settle(nobody, result, "report", "pass")
    assert (verdicts(checked), checked.nobody, checked.passes) == ([UNVERIFIABLE], True, False)
    assert counts(checked) == (0, 1, 0)
    pixels, checked = judge.settle(nobody, result, "redact", "pass")
    assert (verdicts(checked), kinds(checked)) == ([REDACTED], ["new"])
    assert (checked.nobody_passed, checked.passes) == (True, True)
    assert (pixels[inside(LEFT, (200, 400))] == 128).all()


def test_no_face_is_reported_but_does_not_pass() -> None:
    judge = verifier()
    _, checked = judge.settle(judge.originals(scene({})), scene({}), "report", "block")
    assert (checked.verdict, checked.passes) == ("nobody", False)


def test_pass_is_for_pictures_without_faces_only() -> None:
    judge = verifier()
    _, checked = judge.settle(judge.originals(scene({LEFT: ANN})), scene({LEFT: ANN}), "report", "pass")
    assert not checked.nobody_passed and not checked.passes


# The verifier and its report

def test_a_verifier_wants_detectors_and_the_recognisers_threshold() -> None:
    with pytest.raises(CamouflageError, match="at least one face detector"):
        Verifier((), Memory(), Memory.threshold)
    with pytest.raises(CamouflageError, match="distances of 'other', but 'memory' compares"):
        Verifier((Eyes(),), Memory(), Threshold(0.5, "other"))


def test_pause_may_stop_between_the_steps() -> None:
    class Stop(Exception):
        pass

    def after(steps: int) -> Callable[[], None]:
        left = iter(range(steps))

        def pause() -> None:
            if next(left, None) is None:
                raise Stop
        return pause

    def settles(steps: int) -> bool:
        try:
            return bool(replace(judge, pause=after(steps)).settle(originals, scene({LEFT: ANN}))[1].passes)
        except Stop:
            return False
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN}))
    enough = next(steps for steps in range(99) if settles(steps))
    assert enough >= 8, "before, while and after faces are sought, compared and looked at; again for the redaction"
    assert all(settles(steps) for steps in (enough + 1, enough + 2))


@pytest.mark.parametrize("shared", [True, False])
def test_a_report_can_check_other_pixels_by_the_same_rules(shared) -> None:
    judge = verifier()
    first = judge.originals(scene({LEFT: ANN}))
    originals = [first] if shared else [judge.originals(scene({LEFT: MAX})), first]
    result, checked = judge.settle(first, scene({LEFT: ANN}))
    report = make_report(judge, originals, [checked, checked], seed=3, anonymization_scale=1.5)
    assert report.check(1, result) is checked
    assert report.recheck is not None
    assert verdicts(report.recheck(1, result)) == [REDACTED], "still: it was redacted"
    again = report.recheck(1, scene({LEFT: ANN}))
    assert (verdicts(again), again.policy) == ([RECOGNISABLE], "redact")
    other = report.recheck(0, scene({LEFT: ANN}))
    assert verdicts(other) == [RECOGNISABLE], "also where she is of another original of the batch"
    assert ("another original" in other.persons[0].reason) is not shared
    assert report.to_json(0)["sampling"] == {"seed": 3, "anonymization_scale": 1.5}


# Batches, boxes, person masks, a second recogniser, moved pictures

def test_nobody_of_another_original_of_the_batch_may_be_in_a_result() -> None:
    judge = verifier()
    mine, theirs = judge.originals(scene({LEFT: ANN})), judge.originals(scene({RIGHT: BOB, MIDDLE: CID}))
    batch = [mine, theirs]
    assert verdicts(judge.verify(mine, scene({LEFT: BOB}))) == [SAFE], "alone he is a stranger"
    [person] = judge.verify(mine, scene({LEFT: BOB}), others=batch).persons
    assert person.verdict is RECOGNISABLE
    assert person.reason == "what is at this place is a person of another original of the batch"
    ann, bob, max_ = judge.verify(mine, scene({LEFT: EVE, FREE: BOB, RIGHT: MAX}), others=batch).persons
    assert (ann.verdict, bob.verdict, max_.verdict) == (SAFE, RECOGNISABLE, UNVERIFIABLE)
    assert "threshold of a person of another original of the batch" in bob.reason and bob.nearest is None
    assert verdicts(judge.verify(mine, scene({LEFT: EVE}), others=batch)) == [SAFE]
    assert verdicts(judge.verify(mine, scene({LEFT: EVE}), others=[mine] * 3)) == [SAFE], "one for many"
    pixels, checked = judge.settle(mine, scene({LEFT: BOB}), others=batch)
    assert verdicts(checked) == [REDACTED] and (pixels[inside(LEFT, (200, 400))] == 128).all()


def test_block_names_a_stranger_as_a_new_face() -> None:
    judge = verifier()
    with pytest.raises(Blocked) as error:
        judge.settle(judge.originals(scene({LEFT: ANN})), scene({LEFT: EVE, FREE: MAX}), "block")
    assert "new face 1 (40 x 50 px at 180, 140): unverifiable" in str(error.value)
    assert "stands where the original has none" in str(error.value)
    assert "person 0" not in str(error.value)


def test_known_boxes_add_persons_that_are_never_safe() -> None:
    judge = verifier(Eyes(blind=(ANN,)))
    near = (44, 42, 84, 92)
    originals = judge.originals(scene({LEFT: ANN, RIGHT: BOB}), [(330.0, 45.0, 365.0, 95.0), near])
    assert [(face.box_ltrb, face.detectors, face.confident) for face in originals.faces] == [
        (near, ("box",), ()), (RIGHT, ("eyes",), ("eyes",))], "where a face was found the box adds none"
    result = scene({LEFT: EVE, RIGHT: MAX})
    checked = judge.verify(originals, result)
    assert verdicts(checked) == [UNVERIFIABLE, SAFE]
    assert checked.persons[0].reason == "the detectors disagree: none found by box"
    assert verdicts(judge.verify(originals, scene({LEFT: ANN, RIGHT: MAX}))) == [RECOGNISABLE, SAFE]
    pixels, checked = judge.settle(originals, result)
    assert verdicts(checked) == [REDACTED, SAFE]
    assert (pixels[inside(near, (200, 400))] == 128).all()


def mask(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (200, 400)) -> np.ndarray:
    area = np.zeros(shape, bool)
    for left, top, right, bottom in boxes:
        area[top:bottom, left:right] = True
    return area


BODY = (150, 100, 250, 200)


@pytest.mark.parametrize("times", [1, 2])
def test_a_person_area_without_a_face_is_unverifiable_until_it_is_filled(times) -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN}), area=mask((30, 30, 90, 200), BODY))
    result = scene({LEFT: EVE}).repeat(times, axis=0).repeat(times, axis=1)
    box = tuple(times * side for side in BODY)
    checked = judge.verify(originals, result)
    assert (verdicts(checked), kinds(checked)) == ([SAFE, UNVERIFIABLE], ["original", "area"])
    assert checked.persons[1].box_ltrb == box
    assert checked.persons[1].reason == "a person is there without a face that could be compared"
    with pytest.raises(Blocked, match=rf"person area 1 \({100 * times} x {100 * times} px at {150 * times}, "):
        judge.settle(originals, result, "block")
    pixels, checked = judge.settle(originals, result)
    assert verdicts(checked) == [SAFE, REDACTED] and checked.passes
    area = mask(box, shape=result.shape[:2])
    assert (pixels[area] == 128).all() and np.array_equal(pixels[~area], result[~area])
    again = judge.verify(originals, pixels, checked.hidden)
    assert again.persons == checked.persons


def test_an_area_alone_is_somebody() -> None:
    judge = verifier()
    originals = judge.originals(scene({}), area=mask(BODY))
    assert originals.anybody and not judge.originals(scene({}), area=mask()).anybody
    with pytest.raises(Blocked, match="person area 0"):
        judge.settle(originals, scene({}), "block", "pass")
    pixels, checked = judge.settle(originals, scene({}))
    assert (verdicts(checked), checked.nobody, checked.passes) == ([REDACTED], False, True)
    assert (pixels[mask(BODY)] == 128).all()


def test_what_is_covered_of_an_area_is_not_covered_twice() -> None:
    """The head that is redacted lies in the area of somebody whose face nobody finds."""
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN}), area=mask((200, 0, 390, 190)))
    result = scene({LEFT: EVE, RIGHT: MAX})
    _, checked = judge.settle(originals, result)
    assert (verdicts(checked), kinds(checked)) == ([SAFE, REDACTED, REDACTED], ["original", "new", "area"])
    assert checked.hidden.area is not None
    covered = inside(RIGHT, (200, 400))
    assert (checked.hidden.area | covered)[mask((200, 0, 390, 190))].all()


class Other(Memory):
    """A second recogniser, to which some are one person."""

    info = ModelInfo("other", "1", "none")

    def __init__(self, *alike: int):
        super().__init__()
        self.alike = alike

    def _distance(self, seen: Colour, known: Colour) -> float:
        return 0.2 if {seen[0], known[0]} <= set(self.alike) else 1.0


def test_a_second_recogniser_has_to_agree() -> None:
    before, after = scene({LEFT: ANN, RIGHT: BOB}), scene({LEFT: EVE, RIGHT: MAX, FREE: CID})
    for alike, wanted in (((), [SAFE, SAFE, UNVERIFIABLE]), ((ANN, EVE), [RECOGNISABLE, SAFE, UNVERIFIABLE]),
                          ((BOB, CID), [SAFE, RECOGNISABLE, RECOGNISABLE]),
                          ((ANN, BOB, CID, EVE, MAX), [RECOGNISABLE] * 3)):
        judge = replace(verifier(), second=(Other(*alike), Threshold(0.3, "other")))
        checked = judge.verify(judge.originals(before), after)
        assert verdicts(checked) == wanted, alike
    assert verdicts(verifier().verify(verifier().originals(before), after)) == [SAFE, SAFE, UNVERIFIABLE]
    strict = replace(verifier(), second=(Other(ANN, EVE), Threshold(0.1, "other")))
    assert verdicts(strict.verify(strict.originals(before), after))[0] is SAFE, "each by its own threshold"
    both = scene({LEFT: ANN, RIGHT: MAX})
    judge = replace(verifier(), second=(Other(), Threshold(0.3, "other")))
    assert verdicts(judge.verify(judge.originals(before), both)) == [RECOGNISABLE, SAFE], "the first one counts, too"
    theirs = judge.originals(scene({MIDDLE: CID}))
    judge = replace(verifier(), second=(Other(EVE, CID), Threshold(0.3, "other")))
    theirs = judge.originals(scene({MIDDLE: CID}))
    assert verdicts(judge.verify(judge.originals(before), scene({LEFT: EVE, RIGHT: MAX}), others=[theirs])) == [
        RECOGNISABLE, SAFE], "also about other originals"
    assert [info.name for info in make_report(judge, [theirs], []).second] == ["other"]
    with pytest.raises(CamouflageError, match="distances of 'memory', but 'other' compares"):
        replace(verifier(), second=(Other(), Threshold(0.3, "memory")))


@pytest.mark.parametrize(("move", "words"), [
    (lambda pixels: np.rot90(pixels, 2), "turned by 180 degrees"), (lambda pixels: pixels[:, ::-1], "mirrored")])
def test_a_moved_original_blocks_whatever_is_found_in_it(move, words) -> None:
    background = np.maximum(cv2.resize(skimage.data.coffee(), (400, 267))[:200], 20)  # no green of a face
    faces = scene({LEFT: ANN})
    before = np.where((faces[..., :1] == 255), background, faces)
    result = np.ascontiguousarray(move(before))
    judge = verifier(Eyes(blind=(ANN,)))  # also where no detector sees the face any more
    originals = judge.originals(before, [LEFT])
    for policy in ("redact", "block"):
        with pytest.raises(Blocked, match=f"The result shows the original {words}"):
            judge.settle(originals, result, policy)
    pixels, checked = judge.settle(originals, result, "report")
    assert pixels is result and checked.moved == words
    assert not checked.passes and checked.verdict == "unverifiable"
    assert judge.verify(originals, before).moved == ""
    assert judge.verify(originals, result, {0: "solid"}).moved == "", "what Redact made is bound otherwise"
    nobody = judge.originals(before)
    assert judge.verify(nobody, result).moved == "", "where nobody is nobody can be missed"


def test_a_recheck_after_encoding_adds_no_faces_of_which_nobody_is_sure() -> None:
    judge = verifier(Eyes(doubts=(MAX,)))
    originals = judge.originals(scene({LEFT: ANN}))
    result, checked = judge.settle(originals, scene({LEFT: EVE}))
    report = make_report(judge, [originals], [checked])
    assert report.recheck is not None
    assert report.recheck(0, result).persons == checked.persons
    assert verdicts(report.recheck(0, scene({LEFT: EVE, FREE: MAX}))) == [SAFE], "an encoder makes no faces"
    assert verdicts(report.recheck(0, scene({LEFT: EVE, FREE: BOB}))) == [SAFE, UNVERIFIABLE]
    assert verdicts(judge.verify(originals, scene({LEFT: EVE, FREE: MAX}))) == [SAFE, UNVERIFIABLE], "before it counts"
    assert verdicts(report.recheck(0, scene({LEFT: MAX}))) == [UNVERIFIABLE], "and at places it counts"


def test_a_recheck_after_encoding_looks_at_new_faces_once_more() -> None:
    """What detectors see in the whole picture alone, now that scores moved a little, is nobody."""
    class Far(Eyes):
        def detect(self, pixels: np.ndarray) -> list[Detection]:
            return [one for one in super().detect(pixels) if pixels.shape == (200, 400, 3)]

    before, after = scene({LEFT: ANN}), scene({LEFT: EVE, FREE: BOB})
    for eyes, expected in ((Far(), [SAFE]), (Eyes(), [SAFE, UNVERIFIABLE])):
        judge = verifier(eyes)
        originals = judge.originals(before)
        report = make_report(judge, [originals], [judge.settle(originals, scene({LEFT: EVE}))[1]])
        assert report.recheck is not None
        assert verdicts(report.recheck(0, after)) == expected
        assert verdicts(judge.verify(originals, after)) == [SAFE, UNVERIFIABLE], "before the file it counts"


def test_a_recheck_knows_what_was_covered_besides_the_persons() -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN}), area=mask((200, 120, 300, 200)))
    result, checked = judge.settle(originals, scene({LEFT: ANN, RIGHT: MAX}))
    assert (kinds(checked), verdicts(checked)) == (["original", "new", "area"], [REDACTED] * 3)
    report = make_report(judge, [originals], [checked])
    assert report.recheck is not None
    assert report.recheck(0, np.clip(result.astype(int) + 3, 0, 255).astype(np.uint8)).passes
    assert verdicts(report.recheck(0, scene({LEFT: ANN, RIGHT: MAX})))[0] is RECOGNISABLE


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


# What a face looks like, beside the recogniser

def test_what_still_looks_like_the_original_is_recognisable_whatever_the_recogniser_says(monkeypatch) -> None:
    asked = []

    def compare(template, pixels, box_ltrb, turn, search=likeness.NEARBY):
        asked.append((box_ltrb, search))
        at = FREE if search is likeness.AROUND else box_ltrb
        return likeness.Found(alike[search is likeness.AROUND], tuple(map(float, at)), turn)

    monkeypatch.setattr(likeness, "compare", compare)
    alike = (1.0, 0.0)
    [person] = judged({LEFT: ANN}, {LEFT: EVE}).persons
    assert (person.verdict, person.likeness) == (RECOGNISABLE, 1)
    assert person.reason == "this place still looks like the original"
    alike = (0.99, 5.0)
    [person] = judged({LEFT: ANN}, {LEFT: EVE}).persons
    assert (person.verdict, person.likeness) == (SAFE, 0.99), "a face is there, so nobody looks around it"
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN}))
    pixels, checked = judge.settle(originals, scene({}))
    assert asked[-1] == (LEFT, likeness.AROUND)
    assert verdicts(checked) == [REDACTED] and checked.persons[0].likeness is None
    assert (pixels[inside(LEFT, (200, 400)) | inside(FREE, (200, 400))] == 128).all(), "where it went, too"


def test_a_face_that_is_not_sharp_proves_nothing(monkeypatch) -> None:
    monkeypatch.setattr(likeness, "sharpness", lambda pixels, box_ltrb, turn: 0.14)
    [person] = judged({LEFT: ANN}, {LEFT: EVE}).persons
    assert (person.verdict, person.reason) == (UNVERIFIABLE, "the face is not sharp, so that nothing can be compared")
    monkeypatch.setattr(likeness, "sharpness", lambda pixels, box_ltrb, turn: 0.16)
    assert verdicts(judged({LEFT: ANN}, {LEFT: EVE})) == [SAFE]


@pytest.mark.parametrize(("height", "limit"), [(50, 0.55 * 50 / 64), (100, 0.55)])
def test_a_drawing_or_noise_proves_nothing(monkeypatch, height, limit) -> None:
    """A smaller face is enlarged to 64 px before its sharpness is measured, so that less is asked of it."""
    place = (40, 40, 80, 40 + height)
    for sharpness, verdict in ((limit + 0.01, UNVERIFIABLE), (limit - 0.01, SAFE)):
        monkeypatch.setattr(likeness, "sharpness", lambda pixels, box_ltrb, turn, value=sharpness: value)
        [person] = judged({place: ANN}, {place: EVE}).persons
        assert person.verdict is verdict
        assert verdict is SAFE or person.reason == (
            "the face is a drawing or full of noise, so that nothing can be compared")


def test_a_face_that_lost_its_colours_proves_nothing(monkeypatch) -> None:
    monkeypatch.setattr(likeness, "faded", lambda before, after: True)
    [person] = judged({LEFT: ANN}, {LEFT: EVE}).persons
    assert (person.verdict, person.reason) == (
        UNVERIFIABLE, "the face has lost the original's colours or light, so that nothing can be compared")
    assert verdicts(judged({LEFT: ANN}, {LEFT: ANN})) == [RECOGNISABLE], "who is recognised is recognised"
