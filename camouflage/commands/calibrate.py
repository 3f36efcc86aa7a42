"""The calibrate command: a folder of photos becomes thresholds with measured error rates.

Started by ``python run.py calibrate``, which describes the options. Photos are read one after the other; embeddings
stay in memory and end with the process. What is written holds counts, distances and rates only.
"""

from __future__ import annotations

import io
import warnings
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..comfy.installed import default_comfyui, first_file, model_folders
from ..errors import CamouflageError
from ..files import write_new
from ..photos import Unreadable, decode
from ..progress import progress
from ..verification.calibration import RATES, Calibration, measure, pairs_for
from ..verification.centerface import CenterFace
from ..verification.detection import Detector, DlibHog, FoundFace, find_faces
from ..verification.error_rates import (
    FEWEST_PERSONS,
    UNKNOWN,
    ErrorRate,
    Pairs,
    det_points,
    pair_distances,
)
from ..verification.names import RECOGNISERS
from ..verification.onnx_pair import DETECTOR, RECOGNISER, SFace, YuNet
from ..verification.recognition import DlibRecogniser, Recogniser
from ..verification.report import pixels_sha256
from ..weights import of_role

SMALLEST_FACE = 32  # px, as in the verification
LISTED = 20  # photos of one kind that are named; the rest is counted
TICKS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)


def sface() -> SFace:
    """SFace from ComfyUI's models."""
    places = []
    for role in (RECOGNISER, DETECTOR):
        weight, = of_role(role)
        folders = model_folders(default_comfyui(), weight.folder)
        places.append(first_file(folders, weight) or folders[0] / weight.file)
    return SFace(places[0], YuNet(places[1]))


LOAD_RECOGNISER = dict(zip(RECOGNISERS, (DlibRecogniser, sface), strict=True))


@dataclass
class Collection:
    """What the folder gave.

    Attributes:
        embeddings: one d-vector for each photo that counts.
        persons: number of the person of each.
        skipped: why -> photos, relative to the folder.
    """

    embeddings: list[np.ndarray] = field(default_factory=list)
    persons: list[int] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def find_photos(folder: Path) -> list[list[Path]]:
    """The files of every person: all below a sub-folder, hidden ones left out.

    Raises:
        CamouflageError: there are fewer than two persons.
    """
    try:
        persons = [below for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")
                   if (below := sorted(path for path in entry.rglob("*") if path.is_file() and not any(
                       part.startswith(".") for part in path.relative_to(entry).parts)))]
    except OSError as error:
        raise CamouflageError(f"{error.filename or folder} cannot be read ({error.strerror or error}).") from error
    if len(persons) < 2:
        raise CamouflageError(f"{folder} has photos in {len(persons)} sub-folders, but a calibration needs a "
                              "sub-folder for every person, at least 2, with their photos in it.")
    return persons


def embed_photo(path: Path, detectors: Sequence[Detector], recogniser: Recogniser,
                seen: set[str]) -> np.ndarray | str:
    """The embedding of the one face in a photo, or why the photo does not count. Adds the photo to ``seen``.

    A face counts from 32 px on, where a detector is confident: smaller ones are often none, and cannot be compared.
    """
    try:
        pixels = np.array(decode(path))
    except Unreadable:
        return "cannot be read as a picture"
    digest = pixels_sha256(pixels)
    if digest in seen:
        return "the same picture as another one"
    seen.add(digest)
    found = find_faces(detectors, pixels)
    large = [face for face in found if face.confident and _shorter_side(face) >= SMALLEST_FACE]
    # The first detector is the better one; what only others see counts where it sees nothing.
    faces = [face for face in large if detectors[0].info.name in face.confident] or large
    if len(faces) != 1:
        return (f"{len(faces)} faces" if faces else "no face" if not found else
                f"no certain face of {SMALLEST_FACE} px or more")
    embedding = recogniser.embed(pixels, [faces[0].box_ltrb])[0]
    return embedding if np.isfinite(embedding).all() and embedding.any() else "the face cannot be embedded"


def _shorter_side(face: FoundFace) -> float:
    left, top, right, bottom = face.box_ltrb
    return min(right - left, bottom - top)


def read(folder: Path, detectors: Sequence[Detector], recogniser: Recogniser) -> Collection:
    """Embeds all photos of a folder."""
    persons, collection, seen = find_photos(folder), Collection(), set()
    total = sum(map(len, persons))
    print(f"Reading {total} files of {len(persons)} persons.", flush=True)
    with progress(total, "photos") as bar:
        for person, paths in enumerate(persons):
            for path in paths:
                result = embed_photo(path, detectors, recogniser, seen)
                if isinstance(result, str):
                    collection.skipped[result].append(str(path.relative_to(folder)))
                else:
                    collection.embeddings.append(result)
                    collection.persons.append(person)
                bar.update()
    return collection


def describe_skipped(skipped: dict[str, list[str]]) -> Iterator[str]:
    """Lines that name the photos that do not count, by reason."""
    for reason, photos in sorted(skipped.items()):
        more = f", and {len(photos) - LISTED} more" if len(photos) > LISTED else ""
        yield f"  {reason} ({len(photos)}): {', '.join(photos[:LISTED])}{more}"


def table(calibration: Calibration, advised: tuple[float, ErrorRate, ErrorRate | None]) -> Iterator[str]:
    """Lines for the person at the screen: a row for every rate, also for those that are not supported."""
    def row(rate: str, threshold: float, accepts: ErrorRate, rejects: ErrorRate | None) -> str:
        return f"  {rate:<9} {threshold:9.4f}   {accepts!s:<30} {rejects or 'unknown'!s}"

    yield f"  {'FAR':<9} {'threshold':>9}   {'measured FAR [95 %]':<30} FRR [95 %]"
    points = {point.false_accept_rate: point for point in calibration.points}
    for rate in RATES:
        if point := points.get(rate):
            mark = "   LAXER THAN ADVISED" if calibration.threshold(rate).laxer else ""
            yield row(f"{rate:g}", point.threshold, point.false_accepts, point.false_rejects) + mark
        else:
            yield f"  {rate:<9g} not supported: takes {pairs_for(rate)} pairs of different persons"
    yield row("(advised)", *advised)
    yield (f"{calibration.recogniser.name}, {calibration.metric}: {calibration.persons} persons, {calibration.photos} "
           f"photos, {calibration.genuine} pairs of one person, {calibration.impostor} of different persons.")
    yield "FAR: strangers taken for one person. FRR: one person taken for a stranger. (advised): by the publishers."
    yield "[95 %]: intervals by a bootstrap over persons. More persons make them narrower, more photos hardly do."
    if any(rate.interval == UNKNOWN for rate in (*_rates(calibration), *filter(None, advised[1:]))):
        yield ("Too few persons: an interval at " + ", ".join(f"{rate:g} takes {fewest}" for rate, fewest in
                                                              FEWEST_PERSONS.items()) + ". Add persons.")


def _rates(calibration: Calibration) -> Iterator[ErrorRate]:
    for point in calibration.points:
        yield point.false_accepts
        if point.false_rejects:
            yield point.false_rejects


def plot(calibration: Calibration, pairs: Pairs) -> bytes:
    """The DET curve on normal-deviate axes as PNG, with what the pairs support."""
    from matplotlib.figure import Figure
    from scipy.stats import norm

    _, far, frr = det_points(pairs)
    inside = (far > 0) & (far < 1) & (frr > 0) & (frr < 1)
    curve = np.round(norm.ppf([far[inside], frr[inside]]), 3)
    curve = curve[:, np.any(np.diff(curve, prepend=np.inf), axis=0)]  # no more points than can be seen
    supported, fewest = 3 / calibration.impostor, 1 / calibration.genuine
    least = float(norm.ppf(0.3 * supported)), float(norm.ppf(0.5 * min(fewest, 0.01)))
    most = float(norm.ppf(0.6))

    figure = Figure(figsize=(8, 7.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(least[0], float(norm.ppf(supported)), color="0.9", zorder=0,
                 label=f"below {100 * supported:.2g} %: not supported by {calibration.impostor} pairs")
    axes.plot(curve[0], curve[1], color="#1f5fa8", linewidth=1.8, label="measured" if curve.size else "_")
    for i, point in enumerate(calibration.points):
        rejects = point.false_rejects or ErrorRate(0, 1)
        rates = point.false_accepts, rejects
        x, y = (max(norm.ppf(rate.value), low) for rate, low in zip(rates, least, strict=True))
        ends = np.clip(norm.ppf([rate.interval for rate in rates]), np.array(least)[:, None], most)
        across, down = (None if rate.interval == UNKNOWN else np.abs(end - at)[:, None]
                        for rate, end, at in zip(rates, ends, (x, y), strict=True))
        axes.errorbar(x, y, xerr=across, yerr=down, color="#b3401f", capsize=3, linewidth=1.2,
                      marker="v" if rejects.count == 0 else "o", markersize=6, clip_on=False, zorder=5,
                      label="_" if i else "thresholds, 95 % intervals, bootstrap over persons")
        axes.annotate(f"{point.threshold:.3f}", (x, y), (7, 7), textcoords="offset points", fontsize=9, zorder=6)
    if not curve.size:
        axes.text(0.5, 0.6, "The distances do not overlap:\nno threshold makes both errors.", ha="center",
                  transform=axes.transAxes, fontsize=11)
    for set_ticks, low in ((axes.set_xticks, least[0]), (axes.set_yticks, least[1])):
        ticks = [tick for tick in TICKS if low <= norm.ppf(tick) <= most]
        set_ticks(norm.ppf(ticks), [f"{100 * tick:g} %" for tick in ticks])
    axes.set(xlim=(least[0], most), ylim=(least[1], most),
             xlabel=f"false-accept rate: strangers taken for one person ({calibration.impostor} pairs)",
             ylabel=f"false-reject rate: one person taken for a stranger ({calibration.genuine} pairs)")
    axes.set_title(f"Detection error trade-off of {calibration.recogniser.name} ({calibration.metric})\n"
                   f"{calibration.persons} persons, {calibration.photos} photos; numbers beside the marks are "
                   "thresholds; triangles: no false reject seen", fontsize=11)
    axes.grid(color="0.85", linewidth=0.6)
    axes.legend(loc="upper right", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def main(options: Namespace) -> None:
    """Everything from the folder to the files. Raises CamouflageError."""
    warnings.simplefilter("ignore")  # libraries speaking to their developers, Pillow about odd pictures
    for path in (options.output, options.plot):
        if path and not path.parent.is_dir():
            raise CamouflageError(f"There is no folder {path.parent}. Make it, or name another place for {path.name}.")
    recogniser = LOAD_RECOGNISER[options.recogniser]()
    collection = read(options.folder, (CenterFace(), DlibHog()), recogniser)
    if collection.skipped:
        print("These do not count:", *describe_skipped(collection.skipped), sep="\n")
    pairs = pair_distances(recogniser, np.array(collection.embeddings), collection.persons)
    calibration = measure(pairs, recogniser=recogniser.info, metric=recogniser.metric,
                          persons=len(set(collection.persons)), photos=len(collection.persons))
    advised = recogniser.threshold.distance
    print(*table(calibration, (advised, *pairs.errors_at(advised))), sep="\n")
    try:
        written = write_new(options.output, calibration.to_json().encode())
        if options.plot and calibration.genuine:
            print(f"The DET curve is in {write_new(options.plot, plot(calibration, pairs))}")
        elif options.plot:
            print("No DET curve: no person has two photos that count.")
    except OSError as error:
        raise CamouflageError(f"{error.filename or options.output} cannot be written "
                              f"({error.strerror or error}).") from error
    print(f"The calibration is in {written}\nPut it into ComfyUI/models/camouflage/calibration/ and choose it in the "
          "node Load Calibration.")
