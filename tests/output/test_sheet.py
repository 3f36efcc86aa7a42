"""The report as a picture: rows, scale, marks, and no original pixel unless somebody chose it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from camouflage.errors import CamouflageError
from camouflage.output import sheet as drawing
from camouflage.output import sheet_drawing
from camouflage.output.sheet import ALARM, COLOURS, NOT_SHOWN, ORIGINAL, PLATE, UNPROVED, report_sheet, report_sheets
from camouflage.output.sheet_drawing import PAPER
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import Threshold
from camouflage.verification.report import Attempt, CheckedPicture, Person, Report, Verdict, pixels_sha256

SAFE, REDACTED, _, UNVERIFIABLE, RECOGNISABLE = Verdict
INFINITE = float("inf")
GREEN, MAGENTA = (0, 255, 0), (255, 0, 255)  # colours that no sheet has


def plain(colour: tuple[int, int, int], height: int = 96, width: int = 128) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def person(number: int, verdict: Verdict, distance: float, **changed) -> Person:
    settings = {"box_ltrb": (20.0, 20.0, 60.0, 70.0), "nearest": 0, "reason": "a reason", "detectors": ("A detector",)}
    return Person(number=number, verdict=verdict, distance=distance, **{**settings, **changed})


def report_of(*persons: Person, pictures: tuple[np.ndarray, ...] = (plain(GREEN),), threshold: float = 0.6,
              rate: float | None = None, **checked) -> Report:
    done = tuple(CheckedPicture(*picture.shape[:2], pixels_sha256(picture), persons, **checked)
                 for picture in pictures)
    return Report(done, Threshold(threshold, "R", rate), ModelInfo("R", "r 1", "MIT"),
                  (ModelInfo("A detector", "d 2", "BSD"),), 3, 1.25)._sealed()


def pixels(report: Report, *pictures: np.ndarray | None, show_failing: bool = False) -> np.ndarray:
    return np.asarray(report_sheet(report, 0, *pictures, show_failing=show_failing)).astype(int)


def has(page: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> bool:
    """Whether a colour, or something near to it, is anywhere on the sheet."""
    return bool((np.abs(page - colour).max(axis=-1) <= tolerance).any())


def rows(page: np.ndarray) -> list[tuple[str, slice]]:
    """Verdict and height of every person's chip: coloured and 30 px high (the heading's is higher)."""
    found = []
    for word, colour in COLOURS.items():
        coloured = (page[:, drawing.CHIP_LEFT + 1] == colour).all(-1).astype(int)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], coloured, [0])))).reshape(-1, 2)
        found += [(word, slice(top, bottom)) for top, bottom in edges if bottom - top == 30]
    return sorted(found, key=lambda row: row[1].start)


def on_the_scale(page: np.ndarray, row: tuple[str, slice]) -> tuple[float, float | None]:
    """Where the threshold's line and the person's dot are, px of the sheet; None for no dot."""
    word, height = row
    band = page[height, drawing.SCALE_LEFT:drawing.SCALE_RIGHT]
    line = np.flatnonzero((band == drawing.INK).all(-1).all(0))
    dot = np.nonzero((band == COLOURS[word]).all(-1))[1]
    left = drawing.SCALE_LEFT
    return left + float(line.mean()), left + (int(dot.min()) + int(dot.max())) / 2 if dot.size else None


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    """Everything that is written on sheets during a test, in order."""
    written: list[str] = []
    cell = sheet_drawing.cell
    for module in (drawing, sheet_drawing):
        monkeypatch.setattr(module, "cell", lambda draw, x, y, text, *rest: (written.append(text),
                                                                             cell(draw, x, y, text, *rest)))
    return written


# --- the scale ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.6, 0.05, 0.97, 400.0])
def test_dots_stand_where_the_distances_are(threshold):
    parts = (RECOGNISABLE, 0.1), (RECOGNISABLE, 0.5), (SAFE, 1.5), (REDACTED, 1.9), (UNVERIFIABLE, 1.2)
    persons = [person(i, verdict, part * threshold) for i, (verdict, part) in enumerate(parts)]
    page = pixels(report_of(*persons, threshold=threshold))
    found = rows(page)
    assert [word for word, _ in found] == [one.verdict.value for one in persons]
    for one, row in zip(persons, found, strict=True):
        line, dot = on_the_scale(page, row)
        assert dot is not None and (dot < line) == (one.distance < threshold)
        length = line - drawing.SCALE_LEFT  # 0 to the threshold
        assert dot - drawing.SCALE_LEFT == pytest.approx(length * one.distance / threshold, abs=1.5)


def test_a_far_stranger_lengthens_the_scale_for_all():
    page = pixels(report_of(person(0, RECOGNISABLE, 0.3), person(1, SAFE, 6.0)))
    (line, near), (same_line, far) = (on_the_scale(page, row) for row in rows(page))
    assert line == same_line < 360 and near < line and far == pytest.approx(drawing.SCALE_LEFT + 500 * 6 / 8, abs=1.5)


@pytest.mark.parametrize("distance", [INFINITE, float("nan")])
def test_what_was_not_compared_has_no_dot(texts, distance):
    page = pixels(report_of(person(0, UNVERIFIABLE, distance, nearest=None)))
    assert on_the_scale(page, rows(page)[0])[1] is None
    assert {"nothing to compare", "none", "nobody"} <= set(texts)


# --- the words ------------------------------------------------------------------------------------------------------


def test_a_row_says_verdict_distance_whose_face_and_why(texts):
    report_sheet(report_of(person(0, RECOGNISABLE, 0.1234, nearest=0), person(1, SAFE, 0.75, nearest=0,
                                                                             reason="word " * 60 + "x" * 400)), 0)
    assert {"0", "1", "recognisable", "safe", "0.123", "0.750", "this person", "person 0", "A reason."} <= set(texts)
    assert {"40 x 50 px at 20, 20; found in the original by A detector"} <= set(texts)
    long = [text for text in texts if "word" in text.lower() or "xx" in text]
    assert "".join(long).replace(" ", "").lower() == "word" * 60 + "x" * 400 + ".", "wrapped, nothing lost"
    assert all(sheet_drawing.typeface(17).getlength(text) <= drawing.WIDTH - drawing.MARGIN - drawing.CHIP_LEFT
               for text in long) and len(long) > 4


@pytest.mark.parametrize(("verdicts", "word", "sentence"), [
    ((SAFE, SAFE), "safe", "Nobody of the original is recognised"),
    ((SAFE, REDACTED), "redacted", "Hidden by replacing the head: 1 of 2 persons."),
    ((SAFE, UNVERIFIABLE), "unverifiable", "1 of 2 persons could not be judged"),
    ((RECOGNISABLE, UNVERIFIABLE), "recognisable", "1 of 2 persons can still be recognised. Do not publish"),
    ((RECOGNISABLE,), "recognisable", "The only person can still be recognised."),
    ((), "nobody", "No face was found in the original, so nothing is proved"),
])
def test_the_heading_says_the_verdict_and_what_it_means(texts, verdicts, word, sentence):
    page = pixels(report_of(*(person(i, verdict, 0.7) for i, verdict in enumerate(verdicts))))
    assert word in texts[:3] and sentence in " ".join(texts)
    passes = word in ("safe", "redacted")
    assert f"This picture {'passes' if passes else 'does not pass'}." in texts
    assert tuple(page[drawing.MARGIN + 40, drawing.MARGIN + 4]) == COLOURS[word]


def test_nobody_is_said(texts):
    page = pixels(report_of())
    assert rows(page) == [] and "No person to show: no face was found in the original." in texts
    pixels(report_of(nobody_passed=True))
    assert "This picture passes." in texts and "let through" in " ".join(texts)


def test_the_threshold_says_its_rate_or_that_there_is_none(texts):
    report_sheet(report_of(person(0, SAFE, 0.7)), 0)
    assert "Threshold 0.600 (set by hand), never calibrated" in " ".join(texts)
    texts.clear()
    report_sheet(report_of(person(0, SAFE, 0.7), rate=0.001), 0)
    assert "false-accept rate 0.001" in " ".join(texts) and "never" not in " ".join(texts)


def test_counts_tries_and_tools(texts):
    tries = (Attempt(2**64 - 1, None, (), INFINITE), Attempt(None, 1.5, (SAFE, RECOGNISABLE), 0.4321, kept=True))
    report_sheet(report_of(person(0, SAFE, 0.7), attempts=tries, faces_lost=11, faces_new=12, faces_elsewhere=13), 0)
    assert {"11", "12", "13", "Tries: 2"} <= set(texts)
    start = texts.index("verdicts") + 2
    assert texts[start:start + 12] == ["0", "18446744073709551615", "none", "none", "nobody", "",
                                       "1", "none", "1.5", "0.432", "1 safe, 1 recognisable", "kept"]
    said = " ".join(texts)
    assert "Recogniser: R (r 1; licence MIT)" in said and "Detector: A detector (d 2; licence BSD)" in said
    texts.clear()
    report_sheet(report_of(person(0, SAFE, 0.7)), 0)
    assert "Policy: report, seed 3, anonymization scale 1.25" in texts and "Tries: 0" not in texts


def test_a_distance_that_means_nothing_is_not_drawn(texts):
    report = report_of(person(0, UNVERIFIABLE, 5.0, reason="no face is found there, so nothing can be compared"),
                       person(1, UNVERIFIABLE, 0.9, reason="the detectors disagree"))
    page = pixels(report)
    (line, lost), (_, known) = (on_the_scale(page, row) for row in rows(page))
    assert lost is None and known == pytest.approx(drawing.SCALE_LEFT + 500 * 0.9 / 1.2, abs=1.5) and known > line
    assert "5.000" not in texts and texts.count("nothing to compare") == 1 and "0.900" in texts


@pytest.mark.parametrize(("changed", "said"), [
    ({"kind": "new"}, {"New face: a reason.", "40 x 50 px at 20, 20; found in the result by A detector", "person 0"}),
    ({"kind": "new", "nearest": None}, {"another picture"}),
    ({"kind": "new", "detectors": ()}, {"40 x 50 px at 20, 20; found in the result"}),
    ({"kind": "area", "detectors": ("person mask",)},
     {"Person area: a reason.", "40 x 50 px at 20, 20; shown by the person mask"}),
    ({"likeness": 1.128}, {"40 x 50 px at 20, 20; found in the original by A detector; looks like the original: 1.13 "
                           "of its limit"}),
    ({"likeness": 0.799}, {"A reason.", "40 x 50 px at 20, 20; found in the original by A detector"})])
def test_a_row_says_what_it_is_of(texts, changed, said):
    page = pixels(report_of(person(0, SAFE, 0.7), person(3, UNVERIFIABLE, 0.7, **changed)))
    assert said <= set(texts) and "3" in texts and [word for word, _ in rows(page)] == ["safe", "unverifiable"]
    assert "1 of 2 persons could not be judged" in " ".join(texts)


def test_whoever_is_not_of_the_original_is_counted_and_proves_nothing(texts):
    new = person(0, REDACTED, INFINITE, nearest=None, kind="new", detectors=())
    pixels(report_of(new))
    assert "This picture does not pass." in texts and "nothing is proved: a detector can miss one." in " ".join(texts)
    texts.clear()
    pixels(report_of(person(0, SAFE, 0.7), person(1, REDACTED, INFINITE, nearest=None, kind="area")))
    assert "Hidden by replacing the head or the whole person: 1 of 2 persons." in " ".join(texts)


def test_a_moved_picture_is_said_in_red(texts):
    report = report_of(person(0, SAFE, 0.7), moved="turned by 90 degrees")
    page = pixels(report, plain(GREEN))
    said = " ".join(texts)
    assert "The result shows the original turned by 90 degrees, so nobody is where they were" in said
    assert "Do not publish this picture." in said and "Nobody of the original is recognised" not in said
    assert (page[:200] == ALARM).all(-1).sum() > 500 and not has(page, GREEN) and "unverifiable" in texts[:3]


def test_a_laxer_threshold_is_said_in_red(texts):
    report = replace(report_of(person(0, SAFE, 0.7)), threshold=Threshold(0.5, "R", advised=0.6))._sealed()
    page = pixels(report)
    assert "LAXER THAN ADVISED (0.600)" in " ".join(texts) and (page[:250] == ALARM).all(-1).sum() > 300
    texts.clear()
    page = pixels(replace(report, threshold=Threshold(0.6, "R", advised=0.6, unknown="nobody asked"))._sealed())
    assert "nobody asked: how often two strangers" in " ".join(texts) and "never calibrated" not in " ".join(texts)
    assert "LAXER" not in " ".join(texts) and not (page == ALARM).all(-1).any()


def test_the_footer_names_who_had_to_agree_and_what_was_left_out(texts):
    report = report_of(person(0, SAFE, 0.7))
    pixels(report)
    assert "Second recogniser" not in " ".join(texts) and "Left out" not in " ".join(texts)
    pixels(replace(report, second=(ModelInfo("S", "s 3", "BSD"),), skipped=(1, 40))._sealed())
    assert "Second recogniser: S (s 3; licence BSD)" in texts
    assert "Left out, no face found (counted from 0 as they came): 1, 40" in texts


# --- how many -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 6, 60])
def test_every_person_has_a_row(texts, count):
    verdicts = [list(Verdict)[i % len(Verdict)] for i in range(count)]
    page = pixels(report_of(*(person(i, verdict, 0.01 * i) for i, verdict in enumerate(verdicts))))
    found = rows(page)
    assert [word for word, _ in found] == [verdict.value for verdict in verdicts] and page.shape[1] == 1200
    assert texts.count("threshold 0.600") == -(-count // 12), "the scale's numbers stay in sight"
    assert (page[-20:] == PAPER).all() and (page[:, :20] == PAPER).all() and (page[:, -20:] == PAPER).all()


def test_the_same_report_gives_the_same_sheet():
    report = report_of(person(0, SAFE, 0.7), person(1, RECOGNISABLE, 0.2))
    assert np.array_equal(pixels(report, plain(GREEN)), pixels(report, plain(GREEN)))


# --- pictures and marks ---------------------------------------------------------------------------------------------


def test_without_pictures_there_are_none(texts):
    page = pixels(report_of(person(0, RECOGNISABLE, 0.2)))
    assert not has(page, GREEN) and not (page == ALARM).all(-1).any() and not {ORIGINAL, UNPROVED} & set(texts)
    assert "was not compared" in " ".join(texts)


def test_the_verified_picture_is_shown_with_numbers_and_boxes(texts):
    page = pixels(report_of(person(0, SAFE, 0.7), person(7, REDACTED, 0.7, box_ltrb=(80.0, 20.0, 120.0, 70.0))),
                  plain(GREEN))
    shown = (page == GREEN).all(-1)
    top, left = np.flatnonzero(shown.any(1))[0], np.flatnonzero(shown.any(0))[0]
    factor = 680 / 96  # the picture is 680 px high on the sheet
    middle = top + round(45 * factor)
    for x, word in ((20, "safe"), (80, "redacted")):
        assert tuple(page[middle, left + round(x * factor) + 1]) == COLOURS[word]
    assert {"0", "7", "verified picture, 128 x 96 px"} <= set(texts) and "is the connected one" in " ".join(texts)
    assert not (page == ALARM).all(-1).any() and shown.sum() > 0.8 * 680 * 680 * 128 / 96


@pytest.mark.parametrize("height, width", [(96, 128), (64, 2048), (2048, 64), (768, 1024)])
def test_an_original_is_marked_on_the_sheet_and_in_itself(texts, height, width):
    report, original = report_of(person(0, SAFE, 0.7)), plain(MAGENTA, height, width)
    page = pixels(report, plain(GREEN), original)
    assert has(page, MAGENTA) and has(page, GREEN)
    assert texts[0] == ORIGINAL and " ".join(texts).count(ORIGINAL) == 2 and UNPROVED not in texts
    red = (page == ALARM).all(-1)
    assert red[:60, :30].all() and red[:60, -30:].all(), "across the whole sheet"
    height_of = np.flatnonzero((page == MAGENTA).all(-1).any(1))
    assert red[height_of[0] - 60:height_of[-1] + 120, :600].sum() > 5000, "frame and strip in the original's half"


def test_a_strip_covers_the_originals_lower_edge():
    page = pixels(report_of(person(0, SAFE, 0.7)), None, plain(MAGENTA))
    y, x = np.nonzero((page == MAGENTA).all(-1))
    width, height = 680 * 128 // 96, 680  # as large as on the sheet: what is missing is under the mark
    assert (x.min(), x.max() - x.min() + 1) == (drawing.MARGIN + 5, width - 9)
    assert height - 5 - 60 < y.max() - y.min() < height - 5 - 30
    assert tuple(page[y.max() + 1, drawing.MARGIN + 20]) == ALARM


def test_a_picture_that_does_not_pass_is_marked_where_somebody_chose_to_see_it(texts):
    page = pixels(report_of(person(0, UNVERIFIABLE, 0.7)), plain(GREEN), show_failing=True)
    assert texts[0] == UNPROVED and texts.count(UNPROVED) == 2 and (page[:60] == ALARM).all(-1).sum() > 50_000
    assert has(page, GREEN) and NOT_SHOWN not in texts


FAILING = [((UNVERIFIABLE,), {}), ((SAFE, RECOGNISABLE), {}), ((), {})]
PASSING = [((SAFE,), {}), ((REDACTED, SAFE), {}), ((), {"nobody_passed": True})]


@pytest.mark.parametrize(("verdicts", "settings"), FAILING)
def test_a_picture_that_does_not_pass_is_not_on_the_sheet(texts, verdicts, settings):
    report = report_of(*(person(i, verdict, 0.7) for i, verdict in enumerate(verdicts)), **settings)
    page = pixels(report, plain(GREEN))
    assert not has(page, GREEN) and not (page == ALARM).all(-1).any(), "no pixel of it, so nothing to warn of"
    assert NOT_SHOWN in " ".join(texts) and UNPROVED not in texts
    assert "This picture does not pass." in texts and "verified picture, 128 x 96 px" in texts
    assert "is the connected one" in " ".join(texts), "compared all the same"
    assert len(pixels(report, plain(GREEN), show_failing=True)) == len(page) + 64, "as large, but for the banner"


@pytest.mark.parametrize(("verdicts", "settings"), PASSING)
def test_a_picture_that_passes_is_shown_in_any_case(verdicts, settings):
    report = report_of(*(person(i, verdict, 0.7) for i, verdict in enumerate(verdicts)), **settings)
    page = pixels(report, plain(GREEN))
    assert has(page, GREEN) and np.array_equal(page, pixels(report, plain(GREEN), show_failing=True))


def test_the_plate_shows_where_the_persons_are(texts):
    page = pixels(report_of(person(0, SAFE, 0.7), person(7, RECOGNISABLE, 0.2, box_ltrb=(80.0, 20.0, 120.0, 70.0))),
                  plain(GREEN))
    plate = (page == PLATE).all(-1)
    width, height = 680 * 128 // 96, 680
    top, left = np.flatnonzero(plate.any(1))[0] - 5, np.flatnonzero(plate.any(0))[0] - 5  # inside of a frame
    assert plate.sum() > 0.8 * width * height and {"0", "7"} <= set(texts)
    middle = top + round(45 * height / 96)
    for x, word in ((20, "safe"), (80, "recognisable")):
        assert tuple(page[middle, left + round(x * height / 96) + 1]) == COLOURS[word]


def test_the_original_can_be_beside_a_plate(texts):
    report = report_of(person(0, RECOGNISABLE, 0.2))
    page = pixels(report, plain(GREEN), plain(MAGENTA))
    assert has(page, MAGENTA) and not has(page, GREEN) and has(page, PLATE, 0)
    assert texts[0] == ORIGINAL and NOT_SHOWN in " ".join(texts)
    texts.clear()
    both = pixels(report, plain(GREEN), plain(MAGENTA), show_failing=True)
    assert has(both, MAGENTA) and has(both, GREEN) and texts[0] == ORIGINAL and UNPROVED in " ".join(texts)


def test_in_a_batch_only_the_failing_ones_are_left_out():
    pictures = plain(GREEN), plain((0, 255, 64))
    report = report_of(person(0, SAFE, 0.7), pictures=pictures)
    passing, other = report.pictures
    report = replace(report, pictures=(passing, replace(other, persons=(person(0, RECOGNISABLE, 0.2),))))._sealed()
    assert [has(sheet.astype(int), (0, 255, 32)) for sheet in report_sheets(report, pictures)] == [True, False]
    shown = report_sheets(report, pictures, show_failing=True)
    assert [has(sheet.astype(int), (0, 255, 32)) for sheet in shown] == [True, True]


def test_a_large_picture_looks_the_same_and_is_not_copied(monkeypatch):
    photo = data.astronaut()
    small = np.asarray(Image.fromarray(photo).resize((680, 680), Image.Resampling.LANCZOS))
    assert np.array_equal(np.asarray(drawing._scaled(photo, (680, 680))), small)
    large = photo.repeat(10, axis=0).repeat(10, axis=1)
    wanted = np.asarray(Image.fromarray(large).resize((680, 680), Image.Resampling.LANCZOS))
    taken = []
    fromarray = Image.fromarray
    monkeypatch.setattr(Image, "fromarray", lambda array: (taken.append(array.size), fromarray(array))[1])
    shown = np.asarray(drawing._scaled(large, (680, 680)))
    assert taken == [4 * 680 * 680 * 3]
    assert shown.shape == wanted.shape and np.abs(shown.astype(int) - wanted).mean() < 1.0
    thin = np.zeros((300, 60_000, 3), np.uint8)
    thin[:] = GREEN
    assert (np.asarray(drawing._scaled(thin, (1120, 6))) == GREEN).all()


def test_a_wrong_picture_and_an_edited_report_are_refused():
    report, picture = report_of(person(0, SAFE, 0.7)), plain(GREEN)
    picture[50, 50, 0] += 1
    with pytest.raises(CamouflageError, match="The report is not of picture 0"):
        report_sheet(report, 0, picture)
    edited = replace(report, threshold=Threshold(0.1, "R"))
    with pytest.raises(CamouflageError, match="was changed after the verification"):
        report_sheet(edited, 0, plain(GREEN))


def test_a_batch_is_filled_up_with_paper():
    pictures = plain(GREEN), plain((0, 255, 64))
    report = report_of(person(0, SAFE, 0.7), pictures=pictures)
    few, many = report.pictures
    many = replace(many, persons=tuple(person(i, SAFE, 0.7) for i in range(5)))
    report = replace(report, pictures=(few, many))._sealed()
    first, second = report_sheets(report, pictures, [plain(MAGENTA)])
    alone = np.asarray(report_sheet(report, 0, pictures[0], plain(MAGENTA)))
    assert first.shape == second.shape and first.shape[0] > len(alone)
    assert np.array_equal(first[:len(alone)], alone) and (first[len(alone):] == PAPER).all()
    assert np.array_equal(second, np.asarray(report_sheet(report, 1, pictures[1], plain(MAGENTA))))
    for wrong, error in ((((pictures[0],), None), "'image' has 1 pictures, but the report is of 2"),
                         ((None, (plain(GREEN),) * 3), "'original' has 3 pictures, but the report is of 2"),
                         ((pictures[::-1], None), "not of picture 0")):
        with pytest.raises(CamouflageError, match=error):
            report_sheets(report, *wrong)
