"""What a face looks like, beside the recogniser (see ``painted``)."""

from __future__ import annotations

import pytest

from camouflage.verification import likeness
from camouflage.verification.report import Verdict
from painted import (
    ANN,
    EVE,
    FREE,
    LEFT,
    inside,
    judged,
    scene,
    verdicts,
    verifier,
)

SAFE, REDACTED, _, UNVERIFIABLE, RECOGNISABLE = Verdict
pytestmark = pytest.mark.usefixtures("only_faces")


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
