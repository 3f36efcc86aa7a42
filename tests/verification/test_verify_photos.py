"""The verification on real photos: who is recognised, who is not, and whether a redaction holds.

Each look takes its time, so the long tables are sampled; ``--all`` runs all of them.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import cv2
import numpy as np
import pytest

import photos
from attacks import ATTACKS, CHANGES
from camouflage.verification.centerface import CenterFace
from camouflage.verification.detection import DlibHog
from camouflage.verification.places import overlap
from camouflage.verification.policy import Policy
from camouflage.verification.recognition import DlibRecogniser
from camouflage.verification.redaction import MODES, Region, head, redact
from camouflage.verification.remembering import Remembering
from camouflage.verification.report import CheckedPicture, Verdict, pixels_sha256
from camouflage.verification.verify import Blocked, Originals, Verifier
from sampled import everything, long, sampled

SAFE, REDACTED, _, UNVERIFIABLE, RECOGNISABLE = Verdict
SOME = sampled(photos.NAMES, 2)
PEOPLE = [(name, number) for name in photos.NAMES for number in range(len(photos.PERSONS[name]))]
STRANGERS = [(a, b) for a, b in itertools.combinations(PEOPLE, 2)
             if photos.PERSONS[a[0]][a[1]] != photos.PERSONS[b[0]][b[1]]]


class RememberingRecogniser:
    """A recogniser that embeds the same face only once."""

    def __init__(self, recogniser: DlibRecogniser):
        self._recogniser, self._seen = recogniser, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recogniser, name)

    def embed(self, pixels: np.ndarray, boxes: Any) -> np.ndarray:
        keys = [(pixels_sha256(pixels), box) for box in boxes]
        if new := [key for key in dict.fromkeys(keys) if key not in self._seen]:
            self._seen.update(zip(new, self._recogniser.embed(pixels, [box for _, box in new]), strict=True))
        return np.array([self._seen[key] for key in keys]).reshape(len(keys), 128)


@functools.cache
def verifier(which: str = "both") -> Verifier:
    models = _models()
    detectors = {"both": models[:2], "CenterFace": models[:1], "dlib HOG": models[1:2]}[which]
    return Verifier(detectors, models[2], models[2].threshold)


@functools.cache
def _models() -> tuple:
    return Remembering(CenterFace()), Remembering(DlibHog()), RememberingRecogniser(DlibRecogniser())


@functools.cache
def photo(name: str) -> np.ndarray:
    """With its longer side at 640 px or less, to save time; the six as they are."""
    pixels = photos.load(name)
    factor = 1 if name == "six" else min(1, 640 / max(pixels.shape))
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@functools.cache
def originals(name: str, which: str = "both") -> Originals:
    return verifier(which).originals(photo(name))


def verdicts(checked: CheckedPicture, kind: str = "original") -> list[Verdict]:
    return [person.verdict for person in checked.persons if person.kind == kind]


def with_face(pixels: np.ndarray, box, source: np.ndarray, source_box) -> np.ndarray:
    """``pixels`` with the face in ``source_box`` of ``source`` in ``box``, hair and chin included, softly."""
    x, y, radius_x, radius_y = head(box)
    source_x, source_y, source_radius_x, source_radius_y = head(source_box)
    scale_x, scale_y = source_radius_x / radius_x, source_radius_y / radius_y
    where = np.array([[scale_x, 0, source_x - scale_x * x], [0, scale_y, source_y - scale_y * y]])
    height, width = pixels.shape[:2]
    moved = cv2.warpAffine(source, where, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                           borderMode=cv2.BORDER_REPLICATE)
    rows, columns = np.mgrid[:height, :width] + 0.5
    weight = np.clip((1 - np.hypot((columns - x) / radius_x, (rows - y) / radius_y)) / 0.15, 0, 1)[..., None]
    return np.rint(pixels * (1 - weight) + moved * weight).astype(np.uint8)


@pytest.mark.parametrize("name", SOME)
def test_both_detectors_find_everybody_and_agree(name) -> None:
    both = ("CenterFace", "dlib HOG")
    found = [(face.detectors, face.confident) for face in originals(name).faces]
    assert found == [(both, both)] * len(photos.PERSONS[name])


@pytest.mark.parametrize(("name", "change"), sampled(itertools.product(photos.NAMES, CHANGES), 3))
def test_the_original_is_recognised_however_it_passed_through(name, change) -> None:
    checked = verifier().verify(originals(name), CHANGES[change](photo(name)))
    assert verdicts(checked) == [RECOGNISABLE] * len(photos.PERSONS[name])
    assert not checked.passes
    assert max(person.distance for person in checked.persons if person.kind == "original") < 0.4


@long
@pytest.mark.parametrize("name", ["biden", "obama3"])
def test_large_photos_too(name) -> None:
    """More than 1920 px; the originals in 640 px are the same view."""
    assert verdicts(verifier().verify(originals(name), photos.load(name))) == [RECOGNISABLE]


def test_photos_of_one_person_are_near_and_strangers_are_far() -> None:
    """14 faces: 10 pairs of one person, 81 of strangers."""
    people = [(who, embedding) for name in photos.NAMES
              for who, embedding in zip(photos.PERSONS[name], originals(name).embeddings, strict=True)]
    distances = verifier().recogniser.distances(*[np.array([embedding for _, embedding in people])] * 2)
    pairs = list(itertools.combinations(range(len(people)), 2))
    same = [distances[i, j] for i, j in pairs if people[i][0] == people[j][0]]
    strangers = [distances[i, j] for i, j in pairs if people[i][0] != people[j][0]]
    assert (len(same), len(strangers)) == (10, 81)
    assert max(same) < 0.5 and min(strangers) > 0.62


@pytest.mark.parametrize(("before", "after"), sampled([
    ("obama", "obama2"), ("obama2", "obama3"), ("obama3", "obama"), ("obama", "biden"), ("biden", "obama"),
    ("hopper", "astronaut"), ("astronaut", "hopper"), ("biden", "hopper")], 2))
def test_another_photo_at_the_same_place(before, after) -> None:
    """The whole other photo, moved and scaled so that its face is where the first one's was."""
    [face], [other], pixels = originals(before).faces, originals(after).faces, photo(before)
    factor = (face.box_ltrb[3] - face.box_ltrb[1]) / (other.box_ltrb[3] - other.box_ltrb[1])
    shift = [(face.box_ltrb[i] + face.box_ltrb[i + 2] - factor * (other.box_ltrb[i] + other.box_ltrb[i + 2])) / 2
             for i in (0, 1)]
    result = cv2.warpAffine(photo(after), np.array([[factor, 0, shift[0]], [0, factor, shift[1]]]),
                            pixels.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    person, *_ = verifier().verify(originals(before), result).persons
    assert person.verdict is (RECOGNISABLE if photos.PERSONS[before] == photos.PERSONS[after] else SAFE), person


@pytest.mark.parametrize("name", SOME)
def test_noise_proves_nothing(name) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    checked = verifier().verify(originals(name), noise)
    persons = len(photos.PERSONS[name])
    assert verdicts(checked) == [UNVERIFIABLE] * persons
    assert (checked.faces_lost, checked.faces_new, checked.passes) == (persons, 0, False)


@pytest.mark.parametrize("name", sampled(photos.NOBODY, 1))
def test_nobody_blocks_or_passes_by_choice(name) -> None:
    nobody = verifier().originals(photos.load(name))
    assert nobody.faces == ()
    with pytest.raises(Blocked, match="No face was found"):
        verifier().settle(nobody, photos.load(name))
    assert verifier().settle(nobody, photos.load(name), Policy(no_face="pass"))[1].passes


def test_each_of_six_has_a_verdict_of_their_own() -> None:
    pixels, faces = photo("six"), originals("six").faces
    hidden = {0: "solid", 2: "mosaic"}
    result = redact(pixels, [Region(faces[number].box_ltrb, mode) for number, mode in hidden.items()])
    for number, name in ((3, "hopper"), (5, "astronaut")):
        result = with_face(result, faces[number].box_ltrb, photo(name), originals(name).faces[0].box_ltrb)
    checked = verifier().verify(originals("six"), result, hidden)
    assert verdicts(checked) == [REDACTED, RECOGNISABLE, REDACTED, SAFE, RECOGNISABLE, SAFE]
    with pytest.raises(Blocked) as error:
        verifier().settle(originals("six"), result, Policy("block"), redacted=hidden)
    named = [number for number in range(6) if f"person {number} (" in str(error.value)]
    assert named == [1, 4]
    result, checked = verifier().settle(originals("six"), result, redacted=hidden)
    assert verdicts(checked) == [REDACTED, REDACTED, REDACTED, SAFE, REDACTED, SAFE]


@pytest.mark.parametrize(("a", "b"), [(0, 5)])
def test_swapped_persons_are_caught(a, b) -> None:
    pixels, faces = photo("six"), originals("six").faces
    copied = with_face(pixels, faces[b].box_ltrb, pixels, faces[a].box_ltrb)
    swapped = with_face(copied, faces[a].box_ltrb, pixels, faces[b].box_ltrb)
    stranger = with_face(copied, faces[a].box_ltrb, photo("hopper"), originals("hopper").faces[0].box_ltrb)
    results = {"swapped": swapped, "stranger": stranger} | ({"copied": copied} if everything else {})
    found = {name: verifier().verify(originals("six"), result) for name, result in results.items()}
    for checked in found.values():
        assert checked.persons[a].verdict is checked.persons[b].verdict is RECOGNISABLE
    assert found["stranger"].persons[a].reason.startswith("this face is elsewhere now")
    assert found["stranger"].persons[b].nearest == a
    assert found["swapped"].faces_elsewhere == 2


def test_a_face_copied_elsewhere_is_caught() -> None:
    pixels, [face] = photo("astronaut"), originals("astronaut").faces
    left, top, right, bottom = face.box_ltrb
    result = redact(pixels, [Region(face.box_ltrb)])
    result = with_face(result, (left + 150, top + 240, right + 150, bottom + 240), pixels, face.box_ltrb)
    checked = verifier().verify(originals("astronaut"), result, {0: "solid"})
    assert verdicts(checked) == verdicts(checked, "new") == [RECOGNISABLE]
    assert "elsewhere" in checked.persons[0].reason
    assert (checked.faces_new, checked.faces_elsewhere) == (1, 1)
    checked = verifier().settle(originals("astronaut"), result)[1]
    assert verdicts(checked) == verdicts(checked, "new") == [REDACTED]


@functools.cache
def portrait(name: str, number: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The part of a photo about one face, 2.4 times as high and nobody else's, and the face's box in it."""
    pixels, box = photo(name), originals(name).faces[number].box_ltrb
    reach, (rows, columns) = 1.2 * (box[3] - box[1]), pixels.shape[:2]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    part = pixels[top:min(rows, int(y + reach)), left:min(columns, int(x + reach))]
    return np.ascontiguousarray(part), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)


def test_strangers_in_each_others_place_are_safe() -> None:
    """What a good anonymization makes: another person, as sharp and as upright. At least 78 of 81 pairs.

    Of each pair one is painted into the other's place; never into one that the photo's border cuts, for there dlib
    misses half a painted face, so that it is unverifiable.
    """
    assert len(STRANGERS) == 81
    accused = []
    pairs = sampled(STRANGERS, 2)
    for pair in pairs:
        a, b = sorted(pair, key=lambda person: "partial" in person[0])
        pixels, box = portrait(*a)
        before = verifier().originals(pixels)
        result = with_face(pixels, box, *portrait(*b))
        checked = verifier().verify(before, result)
        person = max(checked.persons, key=lambda one: overlap(one.box_ltrb, box) * (one.kind == "original"))
        if person.verdict is not SAFE:
            accused.append((a, b, str(person)))
    print(f"{len(accused)} of {len(pairs)} are not safe: {accused}")
    assert len(accused) <= max(1, 3 * len(pairs) // 81), accused


@functools.cache
def redacted(name: str, mode: str, which: str = "both") -> tuple[np.ndarray, CheckedPicture]:
    return verifier(which).settle(originals(name, which), photo(name), Policy(redaction=mode))


@pytest.mark.parametrize(("name", "mode", "which"), sampled(
    itertools.product(photos.NAMES, MODES, ["both", "CenterFace", "dlib HOG"]), 2))
def test_redaction_settles_everybody_by_every_detector(name, mode, which) -> None:
    result, checked = redacted(name, mode, which)
    assert verdicts(checked) == [REDACTED] * len(photos.PERSONS[name])
    persons = [person for person in checked.persons if person.kind == "original"]
    assert [person.redaction for person in persons] == [mode] * len(persons), "at the first attempt"
    assert checked.passes and checked.pixels_sha256 == pixels_sha256(result)
    more = verdicts(checked, "new")
    assert len(more) <= 2 and set(more) <= {REDACTED}, "what looks like a face once the faces are gone is covered, too"
    for other in ("CenterFace", "dlib HOG") if which == "both" else (which,):
        again = verifier(other).verify(originals(name, other), result, checked.hidden)
        assert {person.reason for person in again.unsettled} <= {
            "what covered the head is not the solid fill any more"}, "where its own box lies beside the fill"


@pytest.mark.parametrize(("name", "mode", "attack"), sampled(
    [(name, mode, attack)
     for name in ("astronaut", "hopper", "biden", "obama2", "six")  # each takes its time
     for mode, attack in (("mosaic", "bicubic"), ("mosaic", "Lanczos"), ("mosaic", "smoothed"),
                          ("mosaic", "Richardson-Lucy"), ("blur", "unsharp mask"), ("blur", "Richardson-Lucy"),
                          ("blur", "Wiener"))], 1, seed=1))
def test_no_attack_on_a_redaction_brings_anybody_back(name, mode, attack) -> None:
    """Solid has nothing to attack. Whatever an attack makes of a head, it is not who was there.

    ``benchmarks/verify.py --distances`` tries every attack on every photo.
    """
    pixels = redacted(name, mode)[0]
    for face in originals(name).faces:
        pixels = ATTACKS[attack](pixels, face.box_ltrb)
    checked = verifier("CenterFace").verify(originals(name), pixels, dict.fromkeys(range(6), mode))
    assert not [str(person) for person in checked.persons
                if person.nearest == person.number and person.distance < 0.62]  # a hair more than the threshold
