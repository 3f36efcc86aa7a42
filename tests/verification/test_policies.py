"""What is done with persons that are not settled, and where nobody is found (see ``painted``)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from camouflage.verification.detection import Detection
from camouflage.verification.policy import Policy
from camouflage.verification.report import Verdict, pixels_sha256
from camouflage.verification.verify import Blocked
from painted import (
    ANN,
    BOB,
    CID,
    EVE,
    FREE,
    LEFT,
    MAX,
    MIDDLE,
    RIGHT,
    Colour,
    Eyes,
    counts,
    inside,
    judged,
    kinds,
    scene,
    verdicts,
    verifier,
)

MOSAIC = Policy(redaction="mosaic")
SAFE, REDACTED, _, UNVERIFIABLE, RECOGNISABLE = Verdict
pytestmark = pytest.mark.usefixtures("only_faces")


def test_report_changes_nothing_and_block_names_who_it_is() -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN, MIDDLE: BOB, RIGHT: CID}))
    result = scene({LEFT: EVE, MIDDLE: BOB})
    pixels, checked = judge.settle(originals, result, Policy("report"))
    assert pixels is result
    assert verdicts(checked) == [SAFE, RECOGNISABLE, UNVERIFIABLE]
    assert (checked.policy, checked.passes) == ("report", False)
    with pytest.raises(Blocked) as error:
        judge.settle(originals, result, Policy("block"))
    assert "person 1 (40 x 50 px at 180, 40)" in str(error.value)
    assert "person 2 (40 x 50 px at 320, 40)" in str(error.value)
    assert "person 0" not in str(error.value)


@pytest.mark.parametrize("policy", ["redact", "block", "report"])
def test_who_is_safe_is_left_alone_by_every_policy(policy) -> None:
    judge = verifier()
    result = scene({LEFT: EVE})
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN})), result, Policy(policy))
    assert pixels is result
    assert (verdicts(checked), checked.policy, checked.passes) == ([SAFE], policy, True)


@pytest.mark.parametrize("mode", ["solid", "mosaic", "blur"])
def test_redact_hides_those_who_are_not_settled(mode) -> None:
    judge = verifier()
    result = scene({LEFT: EVE, MIDDLE: BOB})
    before = result.copy()
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN, MIDDLE: BOB, RIGHT: CID})), result,
                                   Policy(redaction=mode))
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
    pixels, checked = judge.settle(judge.originals(scene({LEFT: ANN})), scene({LEFT: ANN}),
                                   Policy(redaction=mode))
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
    pixels, checked = judge.settle(judge.originals(before), before, MOSAIC)
    assert [person.redaction for person in checked.persons] == ["solid", "mosaic"]
    assert (pixels[inside(LEFT, (200, 400), 1.25)] == 128).all()


SPECK = (200, 100, 218, 120)


def test_a_speck_taken_for_a_face_does_not_keep_the_others_from_being_redacted() -> None:
    """A detector finds 18 px of nothing, is not sure, and the recogniser finds that any mosaic looks like it."""
    judge = verifier(Eyes(doubts=(EVE,)), nothing=lambda seen, known: 0.3 if known[0] == EVE else 1.0)
    before = scene({LEFT: ANN, SPECK: EVE, RIGHT: BOB})
    _, checked = judge.settle(judge.originals(before), before, MOSAIC)
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
        checked = replace(judge, smallest_face=smallest).settle(judge.originals(before), before, MOSAIC)[1]
        assert verdicts(checked) == [REDACTED, REDACTED]
        assert [person.redaction for person in checked.persons] == ["solid", "solid"], "a mosaic was not enough"


def test_who_was_redacted_before_is_redacted_still_or_hidden_better() -> None:
    judge = verifier()
    originals = judge.originals(scene({LEFT: ANN, RIGHT: BOB}))
    pixels, checked = judge.settle(originals, scene({RIGHT: EVE}), redacted={0: "blur"})
    assert verdicts(checked) == [REDACTED, SAFE]
    assert checked.persons[0].redaction == "blur"
    pixels, checked = judge.settle(originals, scene({LEFT: ANN, RIGHT: EVE}), MOSAIC, redacted={0: "blur"})
    assert [person.redaction for person in checked.persons] == ["solid", None], "not the first attempt any more"
    assert (pixels[inside(LEFT, (200, 400), 1.25)] == 128).all()


def test_known_verdicts_are_not_worked_out_again() -> None:
    eyes = Eyes()
    judge = verifier(eyes)
    originals = judge.originals(scene({LEFT: ANN}))
    result = scene({LEFT: EVE})
    checked = judge.verify(originals, result)
    assert eyes.looks == 2
    assert judge.settle(originals, result, Policy("block"), checked=checked)[1].persons == checked.persons
    assert eyes.looks == 2


@pytest.mark.parametrize("policy", ["redact", "block"])
def test_no_face_blocks_unless_it_may_pass(policy) -> None:
    judge = verifier()
    nobody = judge.originals(scene({}))
    result = scene({})
    assert nobody.faces == () and len(nobody.embeddings) == 0 and not nobody.anybody
    for not_passed in ("block", "skip"):
        with pytest.raises(Blocked, match="No face was found in the original.*set 'no_face' to 'pass'"):
            judge.settle(nobody, result, Policy(policy, not_passed))
    pixels, checked = judge.settle(nobody, result, Policy(policy, "pass"))
    assert pixels is result
    assert (checked.persons, checked.verdict, checked.passes) == ((), "nobody", True)
    assert counts(checked) == (0, 0, 0)


def test_a_face_that_comes_from_nowhere_does_not_pass_with_nobody() -> None:
    judge = verifier()
    nobody, result = judge.originals(scene({})), scene({LEFT: EVE})
    with pytest.raises(Blocked, match=r"new face 0 \(40 x 50 px at 40, 40\): unverifiable"):
        judge.settle(nobody, result, Policy("block", "pass"))
    _, checked = judge.settle(nobody, result, Policy("report", "pass"))
    assert (verdicts(checked), checked.nobody, checked.passes) == ([UNVERIFIABLE], True, False)
    assert counts(checked) == (0, 1, 0)
    pixels, checked = judge.settle(nobody, result, Policy("redact", "pass"))
    assert (verdicts(checked), kinds(checked)) == ([REDACTED], ["new"])
    assert (checked.nobody_passed, checked.passes) == (True, True)
    assert (pixels[inside(LEFT, (200, 400))] == 128).all()


def test_no_face_is_reported_but_does_not_pass() -> None:
    judge = verifier()
    _, checked = judge.settle(judge.originals(scene({})), scene({}), Policy("report"))
    assert (checked.verdict, checked.passes) == ("nobody", False)


def test_pass_is_for_pictures_without_faces_only() -> None:
    judge = verifier()
    _, checked = judge.settle(judge.originals(scene({LEFT: ANN})), scene({LEFT: ANN}), Policy("report", "pass"))
    assert not checked.nobody_passed and not checked.passes
