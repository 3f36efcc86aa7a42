"""Photos anonymized in several ways, each evaluated before any policy, side by side."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
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
from ..evaluation import page, plots, study
from ..evaluation.cache import SeenCache
from ..evaluation.experiments import Arm, Experiment, fates, read, value_at
from ..evaluation.methods import BASELINES, occluded
from ..evaluation.pairing import THERE, Pair, Pairing, read_identities
from ..evaluation.seeing import Seen
from ..evaluation.study import Observers
from ..files import write_whole
from ..photos import Unreadable, decode, picture_formats
from ..progress import progress
from ..verification.centerface import CenterFace
from ..verification.detection import DlibHog
from . import choosing
from .anonymize import MINIATURE, models
from .evaluate import load
from .fingerprints import weights_digest
from .pipelines import PIPELINES
from .studies import experiment_file

FORMAT, VERSION = "camouflage-experiment", 1
WORK = ".unverified"
FAILED = "failed"
ONE_TRY = {"tries": 1}
MAIN = ("judged", "lost", "undetected", "reidentified", "protected", "rank_1", "utility.nme",
        "quality.ssim_outside_heads")
"""Columns of the table."""


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
    material = Material(options.photos, tuple(keys[:options.limit]), who)
    print(f"{experiment.title}: {len(experiment.arms)} ways, {len(material.keys)} photos.", experiment.question,
          f"Expected time: {experiment.time}", sep="\n", flush=True)
    observers = Observers((CenterFace(), DlibHog()), [load(kind, file) for kind, file in
                                                      options.recogniser or [("dlib", None)]])
    work = options.output / WORK
    try:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(work, 0o700)
        with contextlib.ExitStack() as stack:
            cache = stack.enter_context(SeenCache(options.output, observers.settings))
            painter = stack.enter_context(Painter(options, experiment))
            found = {}
            for arm in experiment.arms:
                print(f"{arm.name}:", flush=True)
                pairing = painter.anonymized(arm, material, work, observers, cache)
                found[arm.name] = study.measured(pairing, experiment.protocol, observers, cache)[0]
        for name, data in files_of(experiment, found, options.check_wiring).items():
            write_whole(options.output / name, data)
        if not options.keep_unverified:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise CamouflageError(f"{error.filename or options.output} cannot be written or read "
                              f"({error.strerror or error}).") from error
    print(f"The report is {options.output / 'report.html'}")


class Painter:
    """Makes the pictures of an experiment; a context manager that ends its ComfyUI."""

    def __init__(self, options: Namespace, experiment: Experiment) -> None:
        self.options, self.workflows = options, {arm.workflow for arm in experiment.arms if arm.workflow}
        self.host: Host | None = None
        if not self.workflows:
            return
        if not options.check_wiring:
            choosing.demand_weights(sorted(self.workflows & PIPELINES.keys()), default_comfyui())
        cpu = options.check_wiring or not accelerator()
        self.host = Host(ServerOptions(default_comfyui(), models(options), {}, cpu))

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.host:
            self.host.close()

    def anonymized(self, arm: Arm, material: Material, work: Path, observers: Observers, cache: SeenCache) -> Pairing:
        """The pairs of one way; pictures that are there already, made in the very same way, stay as they are."""
        graph = self._graph(arm) if arm.workflow else None
        made = [graph.digest, weights_digest(graph.strings, arm.workflow, self.host.options)] if (
            graph and self.host) else [arm.name]
        digest = hashlib.sha256(json.dumps([made, self.options.seed, arm.occlude]).encode()).hexdigest()[:12]
        folder, pairs = work / f"{_slug(arm.name)}-{digest}", []
        with progress(len(material.keys), "photos") as bar:
            for key in material.keys:
                original, target = material.root / key, folder / f"{key}.png"
                state = THERE
                if not target.is_file():
                    with contextlib.suppress(Unreadable):
                        state = self._make(arm, graph, original, key, target, observers, cache)
                there = target.is_file()
                pairs.append(Pair(key, original, target if there else None, THERE if there else state,
                                  material.identities.get(key, "")))
                bar.update()
        return Pairing(tuple(pairs))

    def _make(self, arm: Arm, graph: Graph | None, original: Path, key: str, target: Path, observers: Observers,
              cache: SeenCache) -> str:
        """Writes one picture, or says why there is none."""
        pixels = np.array(decode(original, picture_formats()))
        given = pixels
        if arm.occlude:
            given = occluded(pixels, self._seen(original, pixels, observers, cache).faces, arm.occlude)
        if graph is None:
            data = _png(BASELINES[arm.name](given, self._seen(original, pixels, observers, cache).faces))
        else:
            assert self.host is not None
            try:
                data, _ = self.host.painted(graph, Image.fromarray(given), picture_seed(self.options.seed, [key]))
            except (NodeFailed, ServerDied) as error:
                print(f"  {key}: {sentence(str(error))}", flush=True)
                return FAILED
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, data)
        return THERE

    def _seen(self, original: Path, pixels: np.ndarray, observers: Observers, cache: SeenCache) -> Seen:
        return cache.seen(original, lambda: study.see(pixels, observers.detectors, observers.embedders))

    def _graph(self, arm: Arm) -> Graph:
        """The workflow of a way, with one try and the settings of the way and of the command line."""
        assert self.host is not None
        file = PIPELINES[arm.workflow].workflow if arm.workflow in PIPELINES else Path(arm.workflow)
        settings = dict(self.options.set) | dict(arm.settings)
        graph = make_graph(read_workflow(file), self.host.object_info(), None, settings).with_values(
            ONE_TRY, ["CamouflageSafeSampler"])
        if self.options.check_wiring:
            by_hand = {name.rpartition(".")[2] for name in settings}
            for kind, values in MINIATURE.items():
                graph = graph.with_values({name: one for name, one in values.items() if name not in by_hand}, [kind])
        return graph


def files_of(experiment: Experiment, found: Mapping[str, Mapping[str, Any]], miniature: bool) -> dict[str, bytes]:
    """Results, report and plots by name."""
    warning = "Untrained miniature networks: it shows that everything runs, and nothing else." if miniature else ""
    drawn = {}
    shares = {name: became for name, results in found.items() if (became := fates(results))}
    if (whole := plots.stacked(shares, "What became of everybody", warning)) is not None:
        drawn["What became of everybody"] = whole
    for title, paths in experiment.plots.items():
        made = _plot(experiment, title, paths, found, warning)
        if made is not None:
            drawn[title] = made
    rows = [[name, *(_cell(value_at(results, path)) for path in MAIN)] for name, results in found.items()]
    head = ["Way", *(path.rpartition(".")[2].replace("_", " ") for path in MAIN)]
    parts = [f"<h1>{page.text(experiment.title)}</h1>", *(f"<p>{page.text(line)}</p>" for line in (
        experiment.question, experiment.shows, warning) if line), page.table(head, rows),
        "<p>Before any policy: nothing of this was verified, and no picture is in the output.</p>",
        *(page.figure(title, data) for title, data in drawn.items())]
    content = {"format": FORMAT, "version": VERSION, "title": experiment.title, "miniature": miniature,
               "axis": experiment.axis, "protocol": experiment.protocol,
               "arms": [{"name": arm.name, "workflow": arm.workflow, "settings": dict(arm.settings),
                         "occlude": arm.occlude, "at": arm.at, "results": found[arm.name]} for arm in experiment.arms]}
    return {"results.json": (json.dumps(content, indent=1, allow_nan=False) + "\n").encode(),
            "report.html": page.document(experiment.title, parts).encode(),
            **{f"{_slug(title)}.png": data for title, data in drawn.items()}}


def _plot(experiment: Experiment, title: str, paths: Sequence[str], found: Mapping[str, Mapping[str, Any]], note: str
          ) -> bytes | None:
    if experiment.axis:
        lines = {path.rpartition(".")[2]: [(arm.at, value) for arm in experiment.arms if arm.at is not None
                                           and (value := value_at(found[arm.name], path))] for path in paths}
        return plots.curves(lines, title, experiment.axis, note)
    values = {f"{name}: {path.rpartition('.')[2].replace('_', ' ')}" if len(paths) > 1 else name:
              value_at(results, path) for name, results in found.items() for path in paths}
    return plots.bars(values, title, "mean, and its 95 % interval", note)


def _cell(value: Mapping[str, Any] | None) -> str:
    return "-" if value is None else page.share(value)


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9.]+", "_", name.lower()).strip("_") or "way"
