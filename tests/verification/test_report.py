"""Reports: the seal, the pixels' digest, verdicts in their order, JSON and print."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from camouflage.errors import CamouflageError
from camouflage.verification import report as module
from camouflage.verification.detection import FoundFace
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import Threshold
from camouflage.verification.report import Attempt, CheckedPicture, Person, Report, Verdict, pixels_sha256
from camouflage.verification.scene import doubt

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
PERSON = Person(0, (1.0, 2.0, 41.23456, 52.0), Verdict.SAFE, 0.7123456789, 0, "a face is there", ("D1", "D2"))
ATTEMPT = Attempt(7, 1.25, (Verdict.SAFE,), 0.7, kept=True)
PICTURE = CheckedPicture(4, 6, pixels_sha256(PIXELS), (PERSON,), policy="redact", attempts=(ATTEMPT,))
OTHER = np.zeros((4, 6, 3), np.uint8)
RECOGNISER = ModelInfo("R", "1", "CC0", ("aa",))
REPORT = Report((PICTURE, replace(PICTURE, pixels_sha256=pixels_sha256(OTHER))), Threshold(0.6, "R"), RECOGNISER,
                (ModelInfo("D1", "2", "MIT"), ModelInfo("D2", "3", "MIT")), 7, 1.25)._sealed()


def with_person(**fields) -> tuple:
    return (replace(PICTURE, persons=(replace(PERSON, **fields),)), REPORT.pictures[1])


def with_picture(**fields) -> tuple:
    return (replace(PICTURE, **fields), REPORT.pictures[1])


def test_a_report_as_it_is_passes() -> None:
    assert REPORT.check(0, PIXELS) is PICTURE
    assert REPORT.check(1, OTHER) is REPORT.pictures[1]
    assert REPORT.check(0, np.asfortranarray(PIXELS)) is PICTURE, "however the array lies in memory"


EDITS = {
    "pictures": [
        (PICTURE,), REPORT.pictures[::-1], (*REPORT.pictures, PICTURE),
        *(with_person(**{key: value}) for key, value in {
            "number": 1, "box_ltrb": (1.0, 2.0, 41.234561, 52.0), "verdict": Verdict.REDACTED,
            "distance": 0.7123456788, "nearest": 1, "reason": "", "detectors": ("D1",), "redaction": "solid",
            "kind": "new", "likeness": 0.5}.items()),
        *(with_picture(**{key: value}) for key, value in {
            "height": 6, "width": 4, "pixels_sha256": "0" * 64, "persons": (), "faces_lost": 1, "faces_new": 1,
            "faces_elsewhere": 1, "nobody_passed": True, "policy": "block", "attempts": (),
            "moved": "mirrored"}.items()),
        *(with_picture(attempts=(replace(ATTEMPT, **{key: value}),)) for key, value in {
            "seed": 8, "anonymization_scale": 1.5, "verdicts": (Verdict.REDACTED,), "distance": 0.8,
            "kept": False}.items())],
    "threshold": [Threshold(0.5, "R"), Threshold(0.6, "S"), Threshold(0.6, "R", 0.1), Threshold(0.6, "R", None, "x"),
                  *(replace(REPORT.threshold, **{key: value}) for key, value in {
                      "advised": 0.5, "unknown": "", "sha256": ("aa",)}.items())],
    "recogniser": [replace(RECOGNISER, sha256=("ab",)), replace(RECOGNISER, version="2")],
    "detectors": [REPORT.detectors[:1]],
    "second": [(RECOGNISER,)],
    "skipped": [(1,)],
    "seal": ["", "0" * 64],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in EDITS.items() for value in values])
def test_an_edited_report_is_refused(field, value) -> None:
    with pytest.raises(CamouflageError, match="report was changed after the verification"):
        replace(REPORT, **{field: value}).check(0, PIXELS)


@pytest.mark.parametrize(("field", "value"), [("seed", 8), ("anonymization_scale", 1.5)])
def test_an_edited_sampling_is_refused(field, value) -> None:
    sampled = replace(REPORT, pictures=(replace(PICTURE, attempts=()),))._sealed()
    sampled.check(0, PIXELS)
    with pytest.raises(CamouflageError, match="report was changed"):
        replace(sampled, **{field: value}).check(0, PIXELS)


def test_the_seal_of_another_process_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(module, "_SECRET", b"another process")
    with pytest.raises(CamouflageError, match="another run of ComfyUI"):
        REPORT.check(0, PIXELS)


def test_an_unsealed_report_is_refused() -> None:
    with pytest.raises(CamouflageError, match="report was changed"):
        Report(REPORT.pictures, REPORT.threshold, RECOGNISER, REPORT.detectors).check(0, PIXELS)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_picture_that_is_not_in_the_report_is_refused(index) -> None:
    with pytest.raises(CamouflageError, match=rf"of 2 pictures; there is no picture {index}"):
        REPORT.check(index, PIXELS)


def test_other_pixels_are_refused() -> None:
    changed = PIXELS.copy()
    changed[3, 5, 2] ^= 1
    for pixels in (changed, OTHER, PIXELS.reshape(6, 4, 3), PIXELS.transpose(1, 0, 2), PIXELS[:3], PIXELS[:, :, ::-1]):
        with pytest.raises(CamouflageError, match="not of picture 0"):
            REPORT.check(0, pixels)


def test_the_digest_is_of_size_and_pixels() -> None:
    flat = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert pixels_sha256(flat) == hashlib.sha256(b"2x2 RGB8\n" + bytes(range(12))).hexdigest()


def test_verdicts_the_best_first() -> None:
    assert [str(verdict) for verdict in Verdict] == ["safe", "redacted", "exempt", "unverifiable", "recognisable"]
    assert [verdict.settled for verdict in Verdict] == [True, True, True, False, False]


def picture(*verdicts: Verdict, kind: str = "original", **fields) -> CheckedPicture:
    return CheckedPicture(4, 6, "", tuple(replace(PERSON, number=i, verdict=v, kind=kind)
                                          for i, v in enumerate(verdicts)), **fields)


@pytest.mark.parametrize(("checked", "verdict", "passes", "unsettled"), [
    (picture(Verdict.SAFE), "safe", True, []),
    (picture(Verdict.REDACTED, Verdict.SAFE), "redacted", True, []),
    (picture(Verdict.SAFE, Verdict.UNVERIFIABLE, Verdict.REDACTED), "unverifiable", False, [1]),
    (picture(Verdict.RECOGNISABLE, Verdict.UNVERIFIABLE, Verdict.SAFE), "recognisable", False, [0, 1]),
    (picture(), "nobody", False, []),
    (picture(nobody_passed=True), "nobody", True, []),
    (picture(Verdict.RECOGNISABLE, nobody_passed=True), "recognisable", False, [0]),
    (picture(Verdict.SAFE, moved="mirrored"), "unverifiable", False, []),
    (picture(Verdict.RECOGNISABLE, moved="mirrored"), "recognisable", False, [0]),
    (picture(moved="mirrored", nobody_passed=True), "unverifiable", False, []),
    (picture(Verdict.REDACTED, kind="new"), "redacted", False, []),
    (picture(Verdict.REDACTED, kind="new", nobody_passed=True), "redacted", True, []),
    (picture(Verdict.SAFE, Verdict.REDACTED, kind="area"), "redacted", True, []),
])
def test_the_worst_person_decides(checked, verdict, passes, unsettled) -> None:
    assert (checked.verdict, checked.passes) == (verdict, passes)
    assert [person.number for person in checked.unsettled] == unsettled


@pytest.mark.parametrize(("verdicts", "worst"), [
    ("safe", "safe"), ("safe redacted", "redacted"), ("redacted nobody", "nobody"),
    ("nobody unverifiable", "unverifiable"), ("recognisable unverifiable safe", "recognisable")])
def test_the_worst_picture_decides(verdicts, worst) -> None:
    pictures = tuple(picture(*([] if name == "nobody" else [Verdict(name)])) for name in verdicts.split())
    assert replace(REPORT, pictures=pictures).verdict == worst


def test_where_every_picture_was_left_out_there_is_nobody() -> None:
    empty = replace(REPORT, pictures=(), skipped=(0, 1))._sealed()
    empty.check_seal()
    assert empty.verdict == "nobody" and "counted from 0 as they came): 0, 1" in str(empty)
    with pytest.raises(CamouflageError, match="report was changed"):
        replace(empty, threshold=Threshold(0.5, "R")).check_seal()


def test_json_has_all_that_counts_and_no_embedding() -> None:
    secret = np.array([0.123454321])
    report = replace(REPORT, recheck=lambda index, pixels: secret)._sealed()
    data = json.loads(json.dumps(report.to_json(0)))
    assert data["checked"] == {
        "width": 6, "height": 4, "pixels_sha256": pixels_sha256(PIXELS), "verdict": "safe",
        "persons": [{"number": 0, "box_ltrb": [1.0, 2.0, 41.23, 52.0], "verdict": "safe", "distance": 0.712346,
                     "nearest": 0, "reason": "a face is there", "detectors": ["D1", "D2"], "redaction": None,
                     "kind": "original", "likeness": None}],
        "faces": {"lost": 0, "new": 0, "elsewhere": 0}, "nobody_passed": False, "policy": "redact",
        "tries": [{"seed": 7, "anonymization_scale": 1.25, "verdicts": ["safe"], "distance": 0.7, "kept": True}],
        "moved": None}
    assert data["threshold"] == {"distance": 0.6, "recogniser": "R", "false_accept_rate": None,
                                 "source": "set by hand", "laxer_than_advised": False}
    assert data["recogniser"] == {"name": "R", "version": "1", "licence": "CC0", "sha256": ["aa"]}
    assert [info["name"] for info in data["detectors"]] == ["D1", "D2"]
    assert data["sampling"] == {"seed": 7, "anonymization_scale": 1.25}
    assert set(data) == {"format", "version", "software", "checked", "threshold", "recogniser",
                         "second_recognisers", "notes", "detectors", "sampling"}
    assert (data["format"], data["version"]) == ("camouflage-manifest", 2)
    assert (data["second_recognisers"], data["notes"]) == ([], [])
    for text in (json.dumps(data), str(report), repr(report)):
        assert "embedding" not in text and "0.12345" not in text


def test_json_says_what_is_new_in_version_2() -> None:
    report = replace(REPORT, threshold=Threshold(0.5, "R", advised=0.6), second=(RECOGNISER,),
                     pictures=with_person(kind="new", likeness=0.87654321))
    data = json.loads(json.dumps(report.to_json(0)))
    assert data["notes"] == ["The threshold is laxer than advised (0.600)."]
    assert data["threshold"]["laxer_than_advised"] and data["second_recognisers"] == [RECOGNISER.to_json()]
    person, = data["checked"]["persons"]
    assert (person["kind"], person["likeness"]) == ("new", 0.876543)
    assert replace(PICTURE, moved="mirrored").to_json()["moved"] == "mirrored"


def test_the_manifest_names_the_try_that_was_kept() -> None:
    tries = (Attempt(7, 1.25, (Verdict.RECOGNISABLE,), 0.3), Attempt(9, 1.75, (Verdict.SAFE,), 0.7, kept=True))
    assert replace(REPORT, pictures=with_picture(attempts=tries)).to_json(0)["sampling"] == {
        "seed": 9, "anonymization_scale": 1.75}


def test_json_says_with_whom_a_picture_of_a_batch_was_sampled() -> None:
    assert replace(ATTEMPT, place=2, together=(0, 2)).to_json() == {
        **ATTEMPT.to_json(), "batch": {"place": 2, "together": [0, 2]}}
    assert "batch" not in ATTEMPT.to_json()


def test_infinite_distances_are_null() -> None:
    data = picture(Verdict.SAFE, attempts=(replace(ATTEMPT, distance=float("inf")),)).to_json()
    assert data["tries"][0]["distance"] is None
    nowhere = replace(PERSON, distance=float("inf"))
    assert nowhere.to_json()["distance"] is None and "safe, nothing to compare; " in str(nowhere)


@pytest.mark.parametrize(("kind", "called"), [("original", "person"), ("new", "new face"), ("area", "person area")])
def test_everybody_is_called_what_they_are(kind, called) -> None:
    nobody = replace(PERSON, kind=kind, distance=float("inf"), nearest=None, reason="why")
    assert str(nobody) == f"{called} 0 (40 x 50 px at 1, 2): safe, nothing to compare; why"


def test_a_distance_that_means_nothing_is_kept_and_not_printed() -> None:
    box = (0.0, 0.0, 50.0, 50.0)
    why = doubt(FoundFace(box, ("D1",), ("D1",)), (), PIXELS, (), 32)
    lost = replace(PERSON, verdict=Verdict.UNVERIFIABLE, distance=0.8, reason=why)
    assert str(lost).endswith(f"unverifiable, nothing to compare; {why}") and module.UNCOMPARED in why
    assert not lost.compared and lost.to_json()["distance"] == 0.8
    assert "distance 0.800; the detectors" in str(replace(lost, reason="the detectors disagree"))
    assert "recognisable, distance 0.800; " in str(replace(lost, verdict=Verdict.RECOGNISABLE))


def test_print() -> None:
    assert str(replace(REPORT, pictures=with_picture(faces_lost=1, faces_elsewhere=2))).splitlines() == [
        "verdict: safe", "", "- threshold: 0.600 (false-accept rate unknown: never calibrated; set by hand)",
        "- recogniser: R; detectors: D1, D2",
        "- picture 0: person 0 (40 x 50 px at 1, 2): safe, distance 0.712; a face is there",
        "- picture 0: faces lost: 1, new: 0, survived elsewhere: 2", "- picture 0: tries: 1",
        "- picture 1: person 0 (40 x 50 px at 1, 2): safe, distance 0.712; a face is there", "- picture 1: tries: 1"]
    laxer = Threshold(0.5, "R", advised=0.6)
    more = replace(REPORT, pictures=with_picture(moved="mirrored", attempts=()), threshold=laxer, skipped=(2, 5),
                   second=(ModelInfo("S", "1", "MIT"),))
    assert str(more).splitlines()[:7] == [
        "verdict: unverifiable", "",
        "- threshold: 0.500 (false-accept rate unknown: never calibrated; set by hand); LAXER THAN ADVISED (0.600)",
        "- recogniser: R, S; detectors: D1, D2",
        "- left out, no face found (counted from 0 as they came): 2, 5",
        "- picture 0: person 0 (40 x 50 px at 1, 2): safe, distance 0.712; a face is there",
        "- picture 0: the result shows the original mirrored, so nothing is proved"]
    assert repr(REPORT) == "Report(pictures: 2, verdict: safe)"
    assert str(picture()) == "no face found in the original"
    assert str(picture(nobody_passed=True)) == "no face found in the original (passed by choice)"


def test_thresholds_say_what_is_known() -> None:
    assert "false-accept rate 0.001;" in str(Threshold(0.5, "R", 0.001, "calibrated"))
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(CamouflageError, match="above 0"):
            Threshold(bad, "R")
    for bad in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(CamouflageError, match="between 0 and 1"):
            Threshold(0.5, "R", bad)
