"""Batches on the host: results that belong to other originals, pictures that are left out, boxes, masks, and sizes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import photos
from in_host import difference
from pasted import PEOPLE, Head, background, covered, paste
from sampled import everything

GREY = 128  # of a solid redaction
ONE = {"detectors": "CenterFace"}  # where it matters what becomes of a picture, and not who is found: it is faster
NAMES = ("astronaut", "hopper", "biden")


def tensor(*pictures: np.ndarray) -> torch.Tensor:
    """Pictures as the host has them, B x H x W x 3."""
    return torch.stack([torch.from_numpy(picture.copy()) for picture in pictures]).float() / 255


def pixels(images: torch.Tensor) -> list[np.ndarray]:
    return [(image * 255).round().to(torch.uint8).numpy() for image in images]


WIDTH, HEIGHT = 192, 256
FACE = Head((WIDTH // 2, HEIGHT // 2), HEIGHT // 2)  # in a portrait


def portrait(name: str) -> np.ndarray:
    """A person of ``pasted.PEOPLE``, the face in the middle and half as high as the picture."""
    picture, person = photos.load(PEOPLE[name].photo), PEOPLE[name]
    matrix = np.float64([[1, 0, 0], [0, 1, 0]]) * (FACE.face_height / person.face_height)
    matrix[:, 2] = FACE.centre - matrix[:, :2] @ np.array(person.centre)
    return cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)


def coffee() -> np.ndarray:
    """Nobody, in a picture as large as a portrait."""
    return photos.load("coffee")[:HEIGHT, :WIDTH]


def batch(*names: str) -> torch.Tensor:
    return tensor(*map(portrait, names))


def verify(host, original, anonymized, **settings):
    return host.run("CamouflageVerify", original=original, anonymized=anonymized, **settings)


def verdicts(host, original, anonymized, **settings) -> list[str]:
    """The worst of each picture, where it is only reported."""
    return [picture.verdict for picture in verify(host, original, anonymized, policy="report", **settings)[1].pictures]


def shares(before: torch.Tensor, after: torch.Tensor, head: Head = FACE) -> list[float]:
    """How much of a face is covered in each picture."""
    return [covered(a, b, head) for a, b in zip(pixels(before), pixels(after), strict=True)]


# --- who belongs to whom ------------------------------------------------------------------------------------------


def test_swapped_results_are_recognised(host):
    original, swapped = batch("astronaut", "hopper"), batch("hopper", "astronaut")
    assert verdicts(host, original, swapped) == ["recognisable"] * 2
    with pytest.raises(Exception, match=r"^Verify: Picture 0 \(counted from 0\): Not anonymized"):
        verify(host, original, swapped, policy="block", **ONE)
    result, report, _ = verify(host, original, swapped, **ONE)
    assert all(picture.passes for picture in report.pictures) and min(shares(swapped, result)) >= 0.9


@pytest.mark.parametrize(("by", "factor"), [(-1, 0.5), *([(1, 1.0)] if everything else [])])
def test_results_that_are_off_by_one_are_recognised(host, by, factor):
    original = batch(*NAMES)
    results = torch.nn.functional.interpolate(original.movedim(-1, 1), scale_factor=factor, mode="area").movedim(1, -1)
    assert verdicts(host, original, results.roll(by, 0)) == ["recognisable"] * 3


def test_another_number_or_shape_is_refused(host):
    original = batch(*NAMES)
    shape = (r"^Verify: Picture 0 \(counted from 0\): The original is 192 x 256 px and the result 136 x 256 px: "
             r"another shape")
    for results, words in ((original[:2], "'original' has 3 pictures, but 2 results"),
                           (torch.cat([original, original[:1]]), "'original' has 3 pictures, but 4 results"),
                           (original[:, :, :136], shape)):
        for policy in ("redact", "block", "report"):
            with pytest.raises(Exception, match=words):
                verify(host, original, results, policy=policy)


def test_one_original_for_many_has_to_be_chosen(host):
    blurred = cv2.GaussianBlur(portrait("astronaut"), (0, 0), 6)
    original, results = batch("astronaut"), tensor(portrait("astronaut"), blurred, portrait("biden"))
    with pytest.raises(Exception, match="'original' has 1 pictures, but 3 results.*'one_original'"):
        verify(host, original, results, policy="report")
    found = verdicts(host, original, results, one_original=True)
    assert found[:2] == ["recognisable"] * 2 and found[2] != "recognisable"
    with pytest.raises(Exception, match="'original' has 2 pictures, but 3 results"):
        verify(host, batch("astronaut", "hopper"), results, one_original=True)


def test_somebody_of_another_original_is_recognised(host):
    """Result 0 is a stranger to original 0: another photo of the person of original 1."""
    original, results = batch("hopper", "obama"), batch("obama2", "biden")
    alone = verify(host, original[:1], results[:1], policy="report")[1].pictures[0]
    together = verify(host, original, results, policy="report")[1].pictures
    assert alone.verdict == "safe", str(alone)
    assert together[0].verdict == "recognisable" and "person of another original" in str(together[0])
    assert together[1].verdict != "recognisable", str(together[1])
    result, report, _ = verify(host, original, results)
    assert report.pictures[0].passes and shares(results, result)[0] >= 0.9


# --- pictures that are left out -----------------------------------------------------------------------------------


@pytest.fixture
def save(host, tmp_path, monkeypatch):
    """save(images, report) -> pixels of the saved files, in their order."""
    import folder_paths
    from PIL import Image

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))

    def call(images: torch.Tensor, report: object) -> list[np.ndarray]:
        names, = host.run("CamouflageSaveImage", image=images, report=report)
        assert sorted(path.name for path in (tmp_path / "output").glob("*.png")) == sorted(names)
        return [np.array(Image.open(Path(tmp_path) / "output" / name)) for name in names]

    return call


@pytest.fixture(scope="module")
def three() -> torch.Tensor:
    """Somebody, nobody, somebody else."""
    return tensor(portrait("astronaut"), coffee(), portrait("hopper"))


def check_in_step(host, save, three, images, report, text):
    """Image, report, sheets and files are of the first and the third picture."""
    assert report.skipped == (1,) and "left out, no face found (counted from 0 as they came): 1" in text
    assert len(images) == len(report.pictures) == 2 and all(picture.passes for picture in report.pictures)
    assert "picture 0: person 0" in text and "picture 1: person 0" in text and "picture 2" not in text
    assert len(host.run("CamouflageReport", report=report, image=images)[0]) == 2
    saved = save(images, report)
    for number, came in enumerate((0, 2)):
        assert np.array_equal(saved[number], pixels(images)[number])
        assert covered(pixels(three)[came], saved[number], FACE) >= 0.9
        corner = (slice(0, 6), slice(0, 6))
        assert difference(images[number][corner], three[came][corner]) < 1 / 255, "this picture and no other"


def test_redact_leaves_out_a_picture_without_a_face(host, save, three):
    assert float((three[0, :6, :6] - three[2, :6, :6]).abs().max()) > 0.05
    picture, redacted, *_ = host.run("CamouflageRedact", image=three, no_face="skip", **ONE)
    assert len(picture) == 2 and redacted.kept == (0, 2) and redacted.count == 3
    check_in_step(host, save, three, *verify(host, three, picture, redacted=redacted, no_face="skip",
                                                      **ONE))


def test_so_does_verify(host, save, three):
    check_in_step(host, save, three, *verify(host, three, three, no_face="skip", **ONE))


def test_where_nobody_is_found_at_all(host):
    empty = tensor(coffee(), coffee()[:, ::-1])
    with pytest.raises(Exception, match="In none of the pictures a face was found"):
        host.run("CamouflageRedact", image=empty, no_face="skip")
    with pytest.raises(Exception, match="In none of the pictures a face was found"):
        verify(host, empty, empty, no_face="skip")


@pytest.mark.parametrize(("level", "colour"), [(0.0, "black"), (1.0, "white")])
def test_a_picture_of_almost_one_colour_is_named(host, level, colour):
    flat = torch.full((1, 128, 160, 3), level)
    words = rf"No face was found.*almost one colour \({colour}\).*8 bits a channel"
    with pytest.raises(Exception, match=words):
        host.run("CamouflageRedact", image=flat)
    with pytest.raises(Exception, match=words):
        verify(host, flat, flat)
    with pytest.raises(Exception, match="No face was found") as told:
        host.run("CamouflageRedact", image=tensor(coffee()))
    assert "one colour" not in str(told.value)


def test_a_face_where_the_original_shows_nobody_is_never_passed_on(host):
    empty, somebody = tensor(coffee()), batch("astronaut")
    with pytest.raises(Exception, match="Not anonymized: new face 0"):
        verify(host, empty, somebody, no_face="pass", policy="block")
    result, report, text = verify(host, empty, somebody, no_face="pass")
    assert report.pictures[0].passes and shares(somebody, result) >= [0.9] and "new face 0" in text
    assert not verify(host, empty, somebody, no_face="pass", policy="report")[1].pictures[0].passes


# --- what the workflow knows --------------------------------------------------------------------------------------

BACK = (330, 60, 430, 190)  # left, top, right, bottom of a head from behind
BOX = {"x": 330, "y": 60, "width": 100, "height": 130}


def from_behind(somebody: bool = False) -> np.ndarray:
    """A head that no detector finds: hair, from behind; and perhaps somebody beside, who looks at us."""
    picture = background((560, 320))
    if somebody:
        paste(picture, PEOPLE["hopper"], (150, 160), 100)
    hair = np.random.default_rng(0).integers(30, 60, (320, 560, 1), np.uint8) + np.uint8([30, 15, 0])
    there = cv2.ellipse(np.zeros((320, 560), np.uint8), (380, 125), (50, 65), 0, 0, 360, 1, -1) > 0
    picture[there] = hair[there]
    return picture


def grey_share(images: torch.Tensor, ltrb: tuple[int, int, int, int]) -> float:
    left, top, right, bottom = ltrb
    return float((pixels(images)[0][top:bottom, left:right] == GREY).all(axis=-1).mean())


def test_without_a_box_nobody_knows_of_that_head(host):
    with pytest.raises(Exception, match="No face was found.*draw a box.*'boxes'"):
        host.run("CamouflageRedact", image=tensor(from_behind()))


def test_redact_covers_what_a_box_shows(host):
    image, boxes = tensor(from_behind()), [[BOX]]
    picture, redacted, *_ = host.run("CamouflageRedact", image=image, boxes=boxes, **ONE)
    assert grey_share(image, BACK) < 0.01 and grey_share(picture, BACK) > 0.99
    assert difference(picture[:, :, :200], image[:, :, :200]) == 0.0
    report = verify(host, image, picture, redacted=redacted, boxes=boxes, policy="block", **ONE)[1]
    assert [person.verdict.value for person in report.pictures[0].persons] == ["redacted"]


def test_verify_counts_a_box_as_somebody(host):
    image = tensor(from_behind(somebody=True))
    persons = verify(host, image, image, boxes=BOX, policy="report", **ONE)[1].pictures[0].persons
    assert [(person.detectors == ("box",), person.verdict.value) for person in persons] == [
        (False, "recognisable"), (True, "recognisable")]
    assert len(verify(host, image, image, policy="report", **ONE)[1].pictures[0].persons) == 1
    with pytest.raises(Exception, match=r"Not anonymized: .*person 1 \(100 x 130 px at 330, 60\)"):
        verify(host, image, image, boxes=BOX, policy="block", **ONE)
    result, report, _ = verify(host, image, image, boxes=BOX, **ONE)
    assert report.pictures[0].passes and grey_share(result, BACK) > 0.99
    other = from_behind(somebody=True)
    other[60:190, 330:430] = 200  # something else is there, and no face to compare
    person = verify(host, image, tensor(other), boxes=BOX, policy="report", **ONE)[1].pictures[0].persons[1]
    assert not person.verdict.settled, str(person)


MASKED = (340, 200, 440, 310)


def mask(*areas: tuple[int, int, int, int]) -> torch.Tensor:
    result = torch.zeros(1, 320, 560)
    for left, top, right, bottom in areas:
        result[:, top:bottom, left:right] = 1
    return result


def test_an_area_of_a_person_without_a_face_is_filled_or_blocks(host):
    image, seen = tensor(from_behind(somebody=True)), mask(MASKED)
    picture, redacted, *_ = host.run("CamouflageRedact", image=image, person_mask=seen, **ONE)
    assert grey_share(image, MASKED) < 0.01 and grey_share(picture, MASKED) == 1
    assert grey_share(host.run("CamouflageRedact", image=image, **ONE)[0], MASKED) < 0.01
    report = verify(host, image, picture, redacted=redacted, person_mask=seen, policy="block", **ONE)[1]
    assert [(person.kind, person.verdict.value) for person in report.pictures[0].persons] == [
        ("original", "redacted"), ("area", "redacted")]

    with pytest.raises(Exception, match="Not anonymized: .*person area 1 .*unverifiable"):
        verify(host, image, image, person_mask=seen, policy="block", **ONE)
    result, report, _ = verify(host, image, image, person_mask=seen, **ONE)
    assert report.pictures[0].passes and grey_share(result, MASKED) == 1
    half = torch.nn.functional.interpolate(image.movedim(-1, 1), scale_factor=0.5, mode="area").movedim(1, -1)
    small = verify(host, image, half, person_mask=seen, **ONE)[0]
    assert grey_share(small, tuple(value // 2 for value in MASKED)) == 1, "for a result the same mask, scaled"


def test_an_area_alone_is_somebody_and_a_face_has_its_own(host):
    nobody = tensor(background((560, 320)))
    picture, _, *_ = host.run("CamouflageRedact", image=nobody, person_mask=mask(MASKED), **ONE)
    assert grey_share(picture, MASKED) == 1 and difference(picture[:, :150], nobody[:, :150]) < 1 / 255
    with pytest.raises(Exception, match="No face was found"):
        host.run("CamouflageRedact", image=nobody, person_mask=mask(), **ONE)
    image, body = tensor(from_behind(somebody=True)), (90, 80, 210, 310)  # the one with a face, and all of it
    filled, _, *_ = host.run("CamouflageRedact", image=image, person_mask=mask(body), **ONE)
    assert difference(filled, host.run("CamouflageRedact", image=image, **ONE)[0]) == 0.0


def test_a_redaction_of_another_picture_is_refused(host):
    image = tensor(from_behind(somebody=True))
    picture, redacted, *_ = host.run("CamouflageRedact", image=image, **ONE)
    more = ((10, 300, False),) if everything else ()
    places = ((300, 500, False), *more, (160, 150, True))  # the last one is in the face
    for row, column, same in places:
        other = image.clone()
        other[0, row, column, 1] = (other[0, row, column, 1] - 0.5).abs()
        assert difference(other, image) > 1 / 255
        if same:
            assert verify(host, other, picture, redacted=redacted, policy="block", **ONE)[1].verdict == "redacted"
        else:
            with pytest.raises(Exception, match="was redacted from another picture than the one in 'original'"):
                verify(host, other, picture, redacted=redacted, **ONE)
    changed = picture.clone()
    changed[0, 300, 500, 1] = (changed[0, 300, 500, 1] - 0.5).abs()
    with pytest.raises(Exception, match="'redacted' is not of picture 0"):
        verify(host, image, changed, redacted=redacted, **ONE)


# --- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1.0] if everything else [0.4], ids=lambda size: f"{15 * size**2:.0f} megapixels")
def test_a_large_photo_goes_all_the_way(host, size):
    """By tiles; of 15 megapixels with ``--all``."""
    width, height = round(4800 * size), round(3200 * size)
    photo = cv2.resize(background((600, 400)), (width, height))
    heads = [paste(photo, PEOPLE["astronaut"], (round(1500 * size), round(1200 * size)), round(420 * size)),
             paste(photo, PEOPLE["hopper"], (round(4500 * size), round(3000 * size)), round(110 * size))]
    image, detectors = tensor(photo), {} if everything else ONE
    picture, redacted, *_ = host.run("CamouflageRedact", image=image, **detectors)
    result, report, _ = verify(host, image, picture, redacted=redacted, policy="block", **detectors)
    assert result.shape == (1, height, width, 3) and report.verdict == "redacted"
    after = pixels(result)[0]
    for head in heads:
        (x, y), half = (round(value) for value in head.centre), round(head.face_height)
        part = (slice(y - half, y + half), slice(x - half, x + half))
        assert covered(photo[part], after[part], Head((half, half), head.face_height)) >= 0.9
    assert np.array_equal(after[:round(500 * size)], photo[:round(500 * size)])


def test_more_than_100_megapixels_are_refused(host):
    large = torch.zeros(1, 1, 1, 3).expand(1, 10001, 10000, 3)
    words = "is 10000 x 10001 px, 100.0 megapixels, but at most 100 megapixels"
    with pytest.raises(Exception, match=f"'image' {words}"):
        host.run("CamouflageRedact", image=large)
    with pytest.raises(Exception, match=f"'original' {words}"):
        verify(host, large, large)
