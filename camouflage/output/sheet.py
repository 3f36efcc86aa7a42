"""A report as a picture, for people who would rather look than read (our choice).

The sheet is a column of blocks, each as wide as the sheet; what a block holds is wrapped, so nothing overlaps and the
sheet grows with the persons. The original is on it only where it is given, and then it is marked. A picture that does
not pass may be the original as well: a grey plate stands in its place unless somebody chose to see it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .. import VERSION
from ..errors import CamouflageError
from ..verification.recognition import Threshold
from ..verification.report import KINDS, Attempt, CheckedPicture, Person, Report, Verdict
from ..verification.verify import of_batch
from .sheet_drawing import (
    ALARM,
    COLOURS,
    FAINT,
    GAP,
    INK,
    INNER,
    MARGIN,
    WIDTH,
    banner,
    block,
    cell,
    dot,
    figure,
    label,
    paragraph,
    rule,
    space,
    stacked,
    typeface,
    wrap,
)

CHIP_LEFT, CHIP_WIDTH, SCALE_LEFT, SCALE_RIGHT = 100, 170, 300, 800  # px, as everything below
_DISTANCE, _NEAREST = 824, 924
_HEADER_EVERY = 12  # rows, so that the scale's numbers stay in sight
_ALIKE = 0.8  # likeness from which on it is said
_HIGHEST = 680  # of a picture
_LARGE = 4096 * 4096  # pixels; a larger picture is brought down by whole areas first, without a copy

PLATE = (206, 206, 210)
SAME, OTHER = (250, 224, 222), (221, 238, 226)  # ground of the scale: up to the threshold, and beyond
ORIGINAL = "CONTAINS ORIGINAL PIXELS - DO NOT PUBLISH"
UNPROVED = "NOT PROVED ANONYMIZED - DO NOT PUBLISH"
NOT_SHOWN = "NOT SHOWN: this picture does not pass"


def report_sheet(report: Report, index: int, picture: np.ndarray | None = None,
                 original: np.ndarray | None = None, show_failing: bool = False) -> Image.Image:
    """The sheet of one picture.

    Args:
        report: of a verification.
        index: the picture's position in it.
        picture: H x W x 3, uint8, the verified picture itself; shown with numbered boxes. In place of one that does
            not pass stands a plate with the same boxes and :data:`NOT_SHOWN`, for it may be the original.
        original: h x w x 3, uint8; shown with the same boxes, and then the sheet and the original in it are marked
            :data:`ORIGINAL`.
        show_failing: shows a picture that does not pass, too; the sheet and the picture in it are then marked
            :data:`UNPROVED`.

    Returns:
        RGB, 1200 px wide; the same for the same report and pictures.

    Raises:
        CamouflageError: the report was edited, or ``picture`` is not the one that it is of, see :meth:`Report.check`.
    """
    report.check_seal()
    checked = report.pictures[index] if picture is None else report.check(index, picture)
    mark = None if picture is None or checked.passes else UNPROVED if show_failing else NOT_SHOWN
    warning = ORIGINAL if original is not None else mark if mark != NOT_SHOWN else None
    pictures = [(original, "original", ORIGINAL), (picture, "verified picture", mark)]
    return stacked([
        *([banner(warning)] if warning else []), space(MARGIN), *_heading(report, index, checked),
        *_threshold(report.threshold), space(GAP), *_pictures(pictures, checked),
        *_persons(checked, report.threshold), space(GAP), _counts(checked), space(GAP), *_attempts(checked.attempts),
        *_footer(report, checked, picture is not None), space(MARGIN)])


def report_sheets(report: Report, pictures: Sequence[np.ndarray] | None = None,
                  originals: Sequence[np.ndarray] | None = None, show_failing: bool = False) -> list[np.ndarray]:
    """The sheets of a batch, H x 1200 x 3, uint8; paper under the shorter ones makes them equally high.

    Args:
        report: of a verification.
        pictures: the verified ones, see :func:`report_sheet`; as many as the report is of.
        originals: as many, or one for all.
        show_failing: see :func:`report_sheet`.

    Raises:
        CamouflageError: other numbers of pictures, or other pictures.
    """
    count = len(report.pictures)
    if pictures is not None and len(pictures) != count:
        raise CamouflageError(f"'image' has {len(pictures)} pictures, but the report is of {count}. Connect pictures "
                              "and report of the same node.")
    if originals is not None and len(originals) not in (1, count):
        raise CamouflageError(f"'original' has {len(originals)} pictures, but the report is of {count}. Connect the "
                              "originals of the verification, or one for all.")
    sheets = [report_sheet(report, index, None if pictures is None else pictures[index],
                           None if originals is None else of_batch(originals, index), show_failing)
              for index in range(count)]
    highest = max((sheet.height for sheet in sheets), default=0)
    return [np.asarray(stacked([sheet, space(highest - sheet.height)])) for sheet in sheets]


# --- the blocks, from top to bottom -----------------------------------------------------------------------------


def _heading(report: Report, index: int, checked: CheckedPicture) -> list[Image.Image]:
    top, draw = block(26)
    cell(draw, MARGIN, 10, "CAMOUFLaGE verification", 17, FAINT)
    if len(report.pictures) > 1:
        cell(draw, WIDTH - MARGIN, 10, f"picture {index} (counted from 0) of {len(report.pictures)}", 17, FAINT, "rm")
    verdict, draw = block(66)
    word = checked.verdict
    width = round(typeface(32).getlength(word)) + 48
    label(draw, (MARGIN, 4, width, 52), word, 32, COLOURS[word])
    cell(draw, MARGIN + width + 20, 30, f"This picture {'passes' if checked.passes else 'does not pass'}.", 28)
    moved = f"The result shows the original {checked.moved}, so nobody is where they were and nothing is proved."
    return [top, verdict, *([paragraph(moved, 21, ALARM)] if checked.moved else []),
            paragraph(_meaning(checked), 21), space(8)]


def _meaning(checked: CheckedPicture) -> str:
    """What the overall verdict means, for people."""
    if not checked.nobody:
        return _of_persons(checked)
    choice = ("It was let through because somebody chose so." if checked.nobody_passed
              else "Look at the picture before you go on.")
    nobody = f"No face was found in the original, so nothing is proved: a detector can miss one. {choice}"
    return f"{_of_persons(checked)} {nobody}" if checked.persons else nobody


def _of_persons(checked: CheckedPicture) -> str:
    """The same of everybody who is on the sheet; new faces and areas count as persons."""
    total = len(checked.persons)
    counts = Counter(person.verdict for person in checked.persons)

    def some(verdict: Verdict) -> str:
        everybody = "The only person" if total == 1 else f"All {total} persons"
        return everybody if counts[verdict] == total else f"{counts[verdict]} of {total} persons"

    if counts[Verdict.RECOGNISABLE]:
        rest = counts[Verdict.UNVERIFIABLE]
        return (f"{some(Verdict.RECOGNISABLE)} can still be recognised. Do not publish this picture."
                + (f" Of {rest} more nothing can be said." if rest else ""))
    if counts[Verdict.UNVERIFIABLE]:
        return f"{some(Verdict.UNVERIFIABLE)} could not be judged, which is no success. Do not publish this picture."
    if checked.moved:
        return "The verdicts below are of the wrong places. Do not publish this picture."
    if counts[Verdict.EXEMPT]:
        stays = f"Not anonymized, by consent: {some(Verdict.EXEMPT).lower()}."
        return stays if counts[Verdict.EXEMPT] == total else f"{stays} Of the others nobody is recognised."
    if counts[Verdict.REDACTED]:
        area = any(person.kind == "area" and person.verdict is Verdict.REDACTED for person in checked.persons)
        what = "the head or the whole person" if area else "the head"
        return f"Nobody of the original is recognised. Hidden by replacing {what}: {some(Verdict.REDACTED).lower()}."
    return "Nobody of the original is recognised: where a face was, there is another one now."


def _threshold(threshold: Threshold) -> list[Image.Image]:
    rate = threshold.false_accept_rate
    known = (f"{threshold.unknown}: how often two strangers count as one person is unknown" if rate is None else
             f"false-accept rate {rate:g}: this share of pairs of strangers is as near or nearer")
    laxer = f"LAXER THAN ADVISED ({threshold.advised:.3f}): results pass that may still show the person."
    return [paragraph(f"Threshold {threshold.distance:.3f} ({threshold.source}), {known}.", 18),
            *([paragraph(laxer, 18, ALARM)] if threshold.laxer else [])]


def _pictures(pictures: Sequence[tuple[np.ndarray | None, str, str | None]],
              checked: CheckedPicture) -> list[Image.Image]:
    """Pictures with title and mark beside each other; nothing where there is none."""
    there = [(pixels, title, mark) for pixels, title, mark in pictures if pixels is not None]
    if not there:
        return []
    room = (INNER - GAP * (len(there) - 1)) // len(there)
    shown = [_shown(pixels, title, mark, checked, room) for pixels, title, mark in there]
    image = space(max(one.height for one in shown))
    for i, one in enumerate(shown):
        image.paste(one, (MARGIN + i * (room + GAP), 0))
    return [image, space(GAP)]


def _shown(pixels: np.ndarray, title: str, mark: str | None, checked: CheckedPicture, room: int) -> Image.Image:
    """A picture, at most ``room`` px wide: its title, every person's number and box, and the mark drawn into it.

    With the mark :data:`NOT_SHOWN` there is a plain plate of the same size, and no pixel of the picture.
    """
    height, width = pixels.shape[:2]
    factor = min(room / width, _HIGHEST / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    plate, draw = block(max(size[1], 120), max(size[0], 240))  # a mark needs room on thin pictures, too
    x, y = (plate.width - size[0]) // 2, (plate.height - size[1]) // 2
    plate.paste(Image.new("RGB", size, PLATE) if mark == NOT_SHOWN else _scaled(pixels, size), (x, y))
    across, down = size[0] / checked.width, size[1] / checked.height
    boxes = [(x + left * across, y + top * down, x + right * across, y + bottom * down)
             for left, top, right, bottom in (person.box_ltrb for person in checked.persons)]
    for person, (left, top, right, bottom) in zip(checked.persons, boxes, strict=True):
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), width=3,
                       outline=COLOURS[person.verdict.value])
    font = 18 if len(boxes) <= 12 else 13
    for person, box in zip(checked.persons, boxes, strict=True):  # numbers: above all boxes, inside the picture
        wide, high = round(typeface(font).getlength(str(person.number))) + 10, font + 6
        left = max(0, min(round(box[0]), plate.width - wide))
        top = max(0, min(round(box[1]) - high, plate.height - high))
        label(draw, (left, top, wide, high), str(person.number), font, COLOURS[person.verdict.value])
    if mark:
        _mark(plate, draw, mark, FAINT if mark == NOT_SHOWN else ALARM)
    image, draw = block(30 + plate.height, room)
    cell(draw, 0, 12, f"{title}, {width} x {height} px", 17, FAINT)
    image.paste(plate, (0, 30))
    return image


def _scaled(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A picture at another size, width before height; takes the same memory however large the picture is."""
    if pixels.shape[0] * pixels.shape[1] > _LARGE:
        import cv2

        pixels = cv2.resize(pixels, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_AREA)
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def _mark(plate: Image.Image, draw: ImageDraw.ImageDraw, text: str, colour: tuple[int, int, int]) -> None:
    """A coloured frame, and a strip of the same colour with the text at the bottom of the picture."""
    font = max(13, min(24, plate.width // 25))
    lines = wrap(text, typeface(font), plate.width - 16)
    top = plate.height - round(len(lines) * font * 1.3) - 12
    draw.rectangle((0, 0, plate.width - 1, plate.height - 1), outline=colour, width=5)
    draw.rectangle((0, top, plate.width - 1, plate.height - 1), fill=colour)
    for i, line in enumerate(lines):
        cell(draw, plate.width / 2, top + 6 + (i + 0.5) * font * 1.3, line, font, (255, 255, 255), "mm")


def _persons(checked: CheckedPicture, threshold: Threshold) -> Iterable[Image.Image]:
    """One row a person, on a scale that all rows share."""
    if not checked.persons:
        return [paragraph("No person to show: no face was found in the original.", 21, FAINT)]
    distances = [person.distance for person in checked.persons if person.compared]
    wanted = max([2 * threshold.distance, *(1.05 * distance for distance in distances)])
    step = 10.0 ** math.floor(math.log10(wanted / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if wanted / (step * factor) <= 6)
    steps = math.ceil(wanted / step)
    blocks = []
    for i, person in enumerate(checked.persons):
        if i % _HEADER_EVERY == 0:
            blocks.append(_axis(threshold, step, steps))
        blocks.append(_row(person, threshold, step * steps))
    return blocks


def _place(distance: float, longest: float) -> float:
    """Where on the scale a distance is, px."""
    return SCALE_LEFT + (SCALE_RIGHT - SCALE_LEFT) * min(1.0, max(0.0, distance / longest))


def _axis(threshold: Threshold, step: float, steps: int) -> Image.Image:
    image, draw = block(68)
    x = _place(threshold.distance, step * steps)
    title, same, other = f"threshold {threshold.distance:.3f}", "same person", "another person"
    half = typeface(15).getlength(title) / 2
    cell(draw, max(SCALE_LEFT + half, min(x, SCALE_RIGHT - half)), 12, title, 15, INK, "mm")
    if typeface(15).getlength(same) < x - SCALE_LEFT - 12:
        cell(draw, x - 10, 34, same, 15, COLOURS["recognisable"], "rm")
    if typeface(15).getlength(other) < SCALE_RIGHT - x - 12:
        cell(draw, x + 10, 34, other, 15, COLOURS["safe"])
    draw.line((round(x), 24, round(x), 44), INK, 3)
    for i in range(steps + 1):
        cell(draw, _place(i, steps), 58, f"{i * step:g}", 14, FAINT, "mm")
    heads = {MARGIN: "person", CHIP_LEFT: "verdict", _DISTANCE: "distance", _NEAREST: "to the original face of"}
    for left, text in heads.items():
        cell(draw, left, 58, text, 16, FAINT)
    return stacked([image, rule(4)])


def _row(person: Person, threshold: Threshold, longest: float) -> Image.Image:
    image, draw = block(50)
    cell(draw, MARGIN, 27, str(person.number), 26)
    word, colour = person.verdict.value, COLOURS[person.verdict.value]
    label(draw, (CHIP_LEFT, 12, CHIP_WIDTH, 30), word, 18, colour)
    x = round(_place(threshold.distance, longest))
    draw.rectangle((SCALE_LEFT, 12, x, 41), fill=SAME)
    draw.rectangle((x, 12, SCALE_RIGHT, 41), fill=OTHER)
    if person.compared:
        dot(image, _place(person.distance, longest), 27, colour)
    else:
        cell(draw, (x + SCALE_RIGHT) / 2, 27, "nothing to compare", 15, FAINT, "mm")
    draw.line((x, 9, x, 44), INK, 3)
    cell(draw, _DISTANCE, 27, figure(person.distance if person.compared else None), 21)
    cell(draw, _NEAREST, 27, _whose(person), 18)
    reason = person.reason if person.kind == "original" else f"{KINDS[person.kind]}: {person.reason}"
    return stacked([image, paragraph(f"{reason[:1].upper()}{reason[1:]}.", 17, left=CHIP_LEFT),
                    paragraph(_where(person), 16, FAINT, CHIP_LEFT), rule(9)])


def _whose(person: Person) -> str:
    """Whose face is at the distance."""
    if not person.compared:
        return "nobody"
    if person.nearest is None:
        return "another picture"
    return "this person" if person.nearest == person.number else f"person {person.nearest}"


def _where(person: Person) -> str:
    """The box, who saw it, and how much it looks like the original, where that is much."""
    left, top, right, bottom = person.box_ltrb
    names = ", ".join(person.detectors)
    seen = {"original": f"found in the original by {names or 'nobody'}",
            "new": f"found in the result by {names}" if names else "found in the result",
            "area": f"shown by the {names}"}
    likeness = person.likeness if person.likeness is not None and person.likeness >= _ALIKE else None
    alike = "" if likeness is None else f"; looks like the original: {likeness:.2f} of its limit"
    return f"{right - left:.0f} x {bottom - top:.0f} px at {left:.0f}, {top:.0f}; {seen[person.kind]}{alike}"


def _counts(checked: CheckedPicture) -> Image.Image:
    cells = ((checked.faces_lost, "faces lost", "no face any more where a person was"),
             (checked.faces_new, "faces new", "where the original has none"),
             (checked.faces_elsewhere, "survived elsewhere", "an original face at another place"))
    image, draw = block(64)
    for i, (count, what, meaning) in enumerate(cells):
        left = MARGIN + i * (INNER + GAP) // 3
        cell(draw, left, 30, str(count), 38, INK)
        text = left + round(typeface(38).getlength(str(count))) + 14
        cell(draw, text, 20, what, 18)
        cell(draw, text, 44, meaning, 16, FAINT)
    return image


def _attempts(attempts: Sequence[Attempt]) -> list[Image.Image]:
    """A table of what was sampled; nothing where it was not watched."""
    if not attempts:
        return []
    columns = (MARGIN, 110, 370, 580, 690, WIDTH - MARGIN - 44)
    head, draw = block(60)
    cell(draw, MARGIN, 14, f"Tries: {len(attempts)}", 21)
    for left, text in zip(columns, ("try", "seed", "anonymization scale", "distance", "verdicts", ""), strict=True):
        cell(draw, left, 46, text, 16, FAINT)
    blocks = [head, rule(3)]
    for number, one in enumerate(attempts):
        row, draw = block(34)
        if one.kept:
            draw.rectangle((MARGIN - 8, 2, WIDTH - MARGIN + 7, 31), fill=(236, 236, 230))
        counts = Counter(one.verdicts)
        texts = (str(number), figure(one.seed, "d"), figure(one.anonymization_scale, "g"), figure(one.distance),
                 ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]) or "nobody",
                 "kept" if one.kept else "")
        for left, text in zip(columns, texts, strict=True):
            cell(draw, left, 17, text, 16)
        blocks.append(row)
    return [*blocks, space(GAP)]


def _footer(report: Report, checked: CheckedPicture, compared: bool) -> list[Image.Image]:
    models = [f"{what}: {info.name} ({info.version}; licence {info.licence})" for what, info in
             (("Recogniser", report.recogniser), *(("Second recogniser", info) for info in report.second),
              *(("Detector", info) for info in report.detectors))]
    skipped = ", ".join(map(str, report.skipped))
    numbers = ((", seed", report.seed, "d"), (", anonymization scale", report.anonymization_scale, "g"))
    sampling = [f"{what} {figure(value, form)}" for what, value, form in numbers if value is not None]
    belongs = "is the connected one" if compared else "was not connected, so it was not compared"
    lines = [*models, *([f"Left out, no face found (counted from 0 as they came): {skipped}"] if skipped else []),
             f"Policy: {checked.policy}" + ("" if checked.attempts else "".join(sampling)),
             f"The picture of this report {belongs}: {checked.width} x {checked.height} px, SHA-256 of its pixels:",
             checked.pixels_sha256,
             f"camouflage {VERSION}. Compared were faces, by the tools named above. Bodies, clothes, context, plates "
             "and text were not, and a recogniser trained for it may see more."]
    return [rule(1), space(12), *(paragraph(line, 16, FAINT) for line in lines)]
