"""Originals and anonymized pictures become numbers: who is recognised, who is not, and who could not be judged."""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..batch import reviewing
from ..batch.plan import read_manifest
from ..errors import CamouflageError
from ..evaluation import card, hifd, nearest, page, privacy, study
from ..evaluation.pairing import THERE, Pairing, open_pairs
from ..evaluation.quality import Inception, Lpips
from ..evaluation.readings import reader
from ..evaluation.recognisers import OnnxRecogniser
from ..evaluation.study import Observers
from ..files import write_whole
from ..verification.centerface import CenterFace
from ..verification.detection import DlibHog
from ..verification.recognition import DlibRecogniser, Embedder
from .calibrate import sface

_LISTED = 5


def main(options: Namespace) -> None:
    """Everything from the folders to the files. Raises CamouflageError."""
    warnings.simplefilter("ignore")  # libraries speaking to their developers, Pillow about odd pictures
    pairing = open_pairs(options.original, options.anonymized, options.identities)
    protocol = chosen(options.protocol, pairing)
    embedders = [load(kind, file) for kind, file in options.recogniser or [("dlib", None)]]
    if len({one.info.name for one in embedders}) < len(embedders):
        raise CamouflageError("A --recogniser was named twice. Name each once; files need different names.")
    print(*told(pairing, protocol), sep="\n", flush=True)
    observers = Observers((CenterFace(), DlibHog()), embedders, Lpips(options.lpips) if options.lpips else None,
                          Inception(options.inception) if options.inception else None, options.force_fid,
                          options.attacks, reader(options.read, attribute_network=options.attribute_network,
                                                  person_detector=options.person_detector,
                                                  text_encoder=options.text_encoder))
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        results, files, compared, looked = study.evaluate(pairing, protocol, observers, options.output)
        files["card.html"] = privacy_card(results, options.anonymized).encode()
        if options.hifd:
            files |= hifd.files(compared, looked.originals, looked.anonymized)
        if options.show_nearest:
            files["nearest.png"] = nearest.sheet(looked.pairs, looked.originals, compared[0], options.show_nearest)
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
