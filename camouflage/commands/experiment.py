"""Photos anonymized in several ways, each evaluated before any policy and after it, side by side."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..batch.client import NodeFailed, ServerDied
from ..batch.folders import walk
from ..batch.graphs import Graph, make_graph, read_workflow
from ..batch.host import Host, ServerOptions, sentence
from ..batch.plan import picture_seed
from ..comfy.in_process import accelerator
from ..comfy.installed import default_comfyui
from ..errors import CamouflageError
from ..evaluation import crops, layouts
from ..evaluation.alone import measured
from ..evaluation.attacks import guessing
from ..evaluation.cache import SeenCache
from ..evaluation.comparison import Way, files_of, slug
from ..evaluation.estimates import estimate
from ..evaluation.experiments import Arm, Experiment, read
from ..evaluation.methods import BASELINES, occluded, regions
from ..evaluation.pairing import THERE, Pair, Pairing, read_identities
from ..evaluation.plain import missing
from ..evaluation.readings import reader
from ..evaluation.seeing import WITHHELD, framed, largest
from ..evaluation.separated import separated
from ..evaluation.study import Observers, seen_in
from ..evaluation.treated import FATES, shipped, treated
from ..files import write_whole
from ..photos import Unreadable, read_pixels
from ..progress import progress
from ..verification.centerface import CenterFace
from ..verification.detection import DlibHog
from ..verification.redaction import MODES, Region
from ..verification.remembering import Remembering
from . import choosing
from .anonymize import MINIATURE, models
from .evaluate import load
from .fingerprints import weights_digest
from .pipelines import PIPELINES
from .studies import experiment_file

WORK = ".unverified"
FAILED = "failed"
ONE_TRY = {"tries": 1}
WITHIN = 0.7
"""Side of what a guessing attacker compares, in longer sides of the face (our choice)."""


@dataclass(frozen=True, eq=False)
class Material:
    """What is anonymized.

    Attributes:
        root: folder of the photos.
        keys: paths below it.
        identities: who is in them, as far as somebody says so.
    """

    root: Path
    keys: tuple[str, ...]
    identities: Mapping[str, str]


def main(options: Namespace) -> None:
    """Everything from the file to the plots. Raises CamouflageError."""
    warnings.simplefilter("ignore")  # libraries speaking to their developers
    experiment = read(experiment_file(options.experiment))
    keys, _ = walk(options.photos)
    if not keys:
        raise CamouflageError(f"There is no photo in {options.photos}.")
    who = read_identities(options.identities, keys) if options.identities else {}
    layout = layouts.known(options.layout, options.photos, keys)
    material = Material(options.photos, tuple(keys[:options.limit]), {**layout.identities, **who})
    protocol = layout.protocol or experiment.protocol
    print(f"{experiment.title}: {len(experiment.arms)} ways, {len(material.keys)} photos.", experiment.question,
          f"Expected time: {experiment.time}", *layout.said, sep="\n", flush=True)
    work = options.output / WORK
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(work, 0o700)
        with contextlib.ExitStack() as stack:
            painter = stack.enter_context(Painter(options, experiment))
            observers = observing(options, experiment, len(material.keys))
            cache = stack.enter_context(SeenCache(options.output, observers.settings))
            found = compared(experiment, protocol, material, work, painter, observers, cache)
        for name, data in files_of(experiment, protocol, found, options.check_wiring).items():
            write_whole(options.output / name, data)
        if not options.keep_unverified:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise CamouflageError(f"{error.filename or options.output} cannot be written or read "
                              f"({error.strerror or error}).") from error
    print(f"The report is {options.output / 'report.html'}")


def observing(options: Namespace, experiment: Experiment, photos: int) -> Observers:
    """Who looks. Detectors remember, since the policy looks at pictures that the evaluation has seen."""
    most = 256 + 3 * photos * len(experiment.arms)  # of each way the painted and the treated ones
    wiring = options.check_wiring
    reads = reader(experiment.readings, models(options) if wiring else (), True if wiring else None)
    return Observers((Remembering(CenterFace(), most), Remembering(DlibHog(), most)),
                     [load(kind, file) for kind, file in options.recogniser or [("dlib", None)]], reader=reads)


def compared(experiment: Experiment, protocol: str, material: Material, work: Path, painter: Painter,
             observers: Observers, cache: SeenCache) -> dict[str, Way]:
    """Paints, evaluates, treats, and evaluates again."""
    painted, before = {}, {}
    for arm in experiment.arms:
        print(f"{arm.name}:", flush=True)
        painted[arm.name] = painter.anonymized(arm, material, work, observers, cache)
        before[arm.name] = measured(painted[arm.name], protocol, observers, cache)
        if experiment.guess:
            before[arm.name]["guessing"] = guessed(arm, painted[arm.name].pairs, experiment.guess, painter, observers,
                                                   cache)
    print("After the policy:", flush=True)
    after = policed(experiment, painted, work, observers, cache)
    found = {}
    for name, outcomes in after.items():
        results = measured(Pairing(tuple(pair for pair, _ in outcomes)), protocol, observers, cache)
        made = [(number, fate) for number, (_, fate) in enumerate(outcomes) if fate]
        left = estimate([fate != WITHHELD for _, fate in made], [number for number, _ in made])
        results["left"] = left.to_json() if left else missing("nothing was painted")
        moved = {}
        if (compare := experiment.compare) and name in compare.changed:
            moved = separated(painted[compare.to], painted[name], compare.changed[name], observers, cache)
        found[name] = Way(before[name], results, {fate: sum(one == fate for _, one in made) for fate in FATES}, moved)
    return found


def policed(experiment: Experiment, painted: Mapping[str, Pairing], work: Path, observers: Observers, cache: SeenCache
            ) -> dict[str, list[tuple[Pair, str]]]:
    """What the policy leaves of every way, and what became of each picture: photo by photo, for each is looked at
    once."""
    verifier = shipped(observers.detectors)
    ours = {arm.name for arm in experiment.arms if not arm.workflow and arm.name in MODES}

    def covered(name: str, pair: Pair) -> list[Region]:
        with contextlib.suppress(Unreadable):
            if name in ours and pair.anonymized:
                return regions(seen_in(pair.original, observers, cache).faces, name)
        return []

    found: dict[str, list[tuple[Pair, str]]] = {name: [] for name in painted}
    of_photos = list(zip(*(pairing.pairs for pairing in painted.values()), strict=True))
    with progress(len(of_photos), "photos") as bar:
        for pairs in of_photos:
            outcomes = treated([(pair, covered(name, pair)) for name, pair in zip(painted, pairs, strict=True)], work,
                               verifier)
            for name, outcome in zip(painted, outcomes, strict=True):
                found[name].append(outcome)
            bar.update()
    return found


def guessed(arm: Arm, pairs: Sequence[Pair], count: int, painter: Painter, observers: Observers, cache: SeenCache
            ) -> dict[str, Any]:
    """What an attacker finds who has the photos and runs the very method on them: with the seed, and with another one.

    Compared is the inside of the largest face's place, whatever is there: what is around it tells everything to
    whoever has the photo. Baselines have no seed. Empty where fewer than two pictures can be attacked, or where the
    method fails now.
    """
    shown = [pair for pair in pairs if pair.anonymized
             and seen_in(pair.original, observers, cache).faces][:count]
    if len(shown) < 2:
        return {}

    def face(pair: Pair, picture: Path | io.BytesIO) -> np.ndarray:
        pixels, seen = read_pixels(picture), seen_in(pair.original, observers, cache)
        one, frame = seen.faces[largest(seen.faces)], framed(seen.size, (pixels.shape[1], pixels.shape[0]))
        return crops.head(pixels, frame.back(one.box_ltrb), one.turn, around=WITHIN)

    def method(pair: Pair, seed: int) -> np.ndarray:
        return face(pair, io.BytesIO(painter.painted(arm, pair.key, pair.original, seed, observers, cache)))

    published = [face(pair, pair.anonymized) for pair in shown if pair.anonymized]
    seed = painter.options.seed
    tried = {"with the seed": seed, **({"with another seed": seed + 1} if arm.workflow else {})}
    try:
        return {name: guessing.attack(published, shown, range(len(shown)), method, [one])
                for name, one in tried.items()}
    except (NodeFailed, ServerDied) as error:
        print(f"  guessing: {sentence(str(error))}", flush=True)
        return {}


class Painter:
    """Makes the pictures of an experiment; a context manager that ends its ComfyUI."""

    def __init__(self, options: Namespace, experiment: Experiment) -> None:
        self.options, self.workflows = options, {arm.workflow for arm in experiment.arms if arm.workflow}
        self._graphs: dict[Arm, Graph] = {}
        self.host: Host | None = None
        if not self.workflows:
            return
        if not options.check_wiring:
            choosing.demand_weights(sorted(self.workflows & PIPELINES.keys()), default_comfyui(),
                                    dict(options.set).values())
        cpu = options.check_wiring or not accelerator()
        self.host = Host(ServerOptions(default_comfyui(), models(options), {}, cpu))

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.host:
            self.host.close()

    def anonymized(self, arm: Arm, material: Material, work: Path, observers: Observers, cache: SeenCache) -> Pairing:
        """The pairs of one way; pictures that are there already, made in the very same way, stay as they are."""
        digest = hashlib.sha256(json.dumps([self._made(arm), self.options.seed, arm.occlude]).encode()).hexdigest()[:12]
        folder, pairs = work / f"{slug(arm.name)}-{digest}", []
        with progress(len(material.keys), "photos") as bar:
            for key in material.keys:
                original, target, state = material.root / key, folder / f"{key}.png", THERE
                if not target.is_file():
                    with contextlib.suppress(Unreadable):
                        try:
                            data = self.painted(arm, key, original, self.options.seed, observers, cache)
                        except (NodeFailed, ServerDied) as error:
                            print(f"  {key}: {sentence(str(error))}", flush=True)
                            state = FAILED
                        else:
                            target.parent.mkdir(parents=True, exist_ok=True)
                            write_whole(target, data)
                there = target.is_file()
                pairs.append(Pair(key, original, target if there else None, THERE if there else state,
                                  material.identities.get(key, "")))
                bar.update()
        return Pairing(tuple(pairs))

    def painted(self, arm: Arm, key: str, original: Path, seed: int, observers: Observers, cache: SeenCache) -> bytes:
        """One photo's picture of one way, as PNG. Raises Unreadable, NodeFailed, ServerDied."""
        pixels = read_pixels(original)
        given = pixels
        if arm.occlude:
            given = occluded(pixels, seen_in(original, observers, cache, lambda _: pixels).faces, arm.occlude)
        if not arm.workflow:
            return _png(BASELINES[arm.name](given, seen_in(original, observers, cache, lambda _: pixels).faces))
        assert self.host is not None
        return self.host.painted(self._graph(arm), Image.fromarray(given), picture_seed(seed, [key]))[0]

    def _made(self, arm: Arm) -> list[str]:
        """What decides about the pictures of a way, besides the photo and the seed."""
        if not arm.workflow:
            return [arm.name]
        assert self.host is not None
        graph = self._graph(arm)
        return [graph.digest, weights_digest(graph.strings, arm.workflow, self.host.options)]

    def _graph(self, arm: Arm) -> Graph:
        """The workflow of a way, with one try and the settings of the way and of the command line."""
        if arm in self._graphs:
            return self._graphs[arm]
        assert self.host is not None
        file = PIPELINES[arm.workflow].workflow if arm.workflow in PIPELINES else Path(arm.workflow)
        settings = dict(self.options.set) | dict(arm.settings)
        graph = make_graph(read_workflow(file), self.host.object_info(), None, settings).with_values(
            ONE_TRY, ["CamouflageSafeSampler"])
        if self.options.check_wiring:
            by_hand = {name.rpartition(".")[2] for name in settings}
            for kind, values in MINIATURE.items():
                graph = graph.with_values({name: one for name, one in values.items() if name not in by_hand}, [kind])
        self._graphs[arm] = graph
        return graph


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
