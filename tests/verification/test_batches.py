"""Batches, boxes, person masks, a second recogniser, moved pictures, and reports (see ``painted``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from camouflage.errors import CamouflageError
from camouflage.verification.detection import Detection
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.policy import Policy
from camouflage.verification.recognition import Threshold
from camouflage.verification.report import Verdict
from camouflage.verification.verify import Blocked, Verifier, make_report
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
    Memory,
    inside,
    kinds,
    scene,
    verdicts,
    verifier,
)

SAFE, REDACTED, _, UNVERIFIABLE, RECOGNISABLE = Verdict
pytestmark = pytest.mark.usefixtures("only_faces")


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
        judge.settle(judge.originals(scene({LEFT: ANN})), scene({LEFT: EVE, FREE: MAX}), Policy("block"))
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
        judge.settle(originals, result, Policy("block"))
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
        judge.settle(originals, scene({}), Policy("block", "pass"))
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
            judge.settle(originals, result, Policy(policy))
    pixels, checked = judge.settle(originals, result, Policy("report"))
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
