"""The command ``weights``: which weight files are there, and how the others get there. Standard library only."""

from __future__ import annotations

import argparse
import collections
import functools
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..comfy.installed import model_folders
from ..errors import CamouflageError
from ..files import cache_folder
from ..provision.digests import KnownDigests
from ..provision.download import discard, there_above
from ..provision.local import import_all
from ..provision.pace import Pace
from ..provision.plan import ALL, downloads_of, left_out, only_one, tasks_of, wanted
from ..provision.several import FAILED, Arrival, Task, fetch_all
from ..provision.state import (
    COMMERCIAL,
    DAMAGED,
    MISSING,
    NOT_COMPUTED,
    PARTLY,
    PIPELINES,
    PRESENT,
    UNTRAINED,
    UNVERIFIED,
    FileState,
    Folders,
    each_state,
    states,
    trusted_digests,
)
from ..provision.web import from_environment
from ..weights import REGISTRY, Weight, size_text
from . import arguments as kinds
from .environments import HOST_FOLDER, fetch_host, find_host, is_comfyui

LICENCE_WORDS = {True: "A company may use", False: "Nobody may use for commercial purposes",
                 None: "Nothing clear is said of commercial use (ask a lawyer, or leave out) for"}

REMEDIES = {NOT_COMPUTED: "`python run.py weights verify` does it.", PARTLY: "`python run.py weights get` goes on.",
            UNTRAINED: "`python run.py train` makes it."}


def add_command(commands: Any) -> None:
    """The command and what it can do."""
    parser = commands.add_parser(
        "weights", allow_abbrev=False, help="list, download, check or import weight files",
        description="The weight files of the pipelines: which are there, which licence each has, and downloads that go "
        "on where they were broken off. Nothing is downloaded by anything but `get`. Needs no environment.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|get|verify|licences|import")
    told = {"list": "say of every file whether it is there", "get": "download what pipelines lack",
            "verify": "compute the SHA-256 of every file that is there; exit code 1 if one is damaged",
            "licences": "say which files have which licence, and what it means for a company",
            "import": "take files from a folder or drive, on a machine without a network"}
    for name, text in told.items():
        action = actions.add_parser(name, allow_abbrev=False, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == "import":
            action.add_argument("folder", type=kinds.path, metavar="DIR", help="where the files are; also below it")
        action.add_argument("--pipeline", choices=(*PIPELINES, ALL), action="append", default=[],
                            help="only what this pipeline needs; may be given several times. all is every file, also "
                            f"optional ones (default: {'none; name one' if name == 'get' else ALL})")
        action.add_argument("--commercial-safe", action="store_true",
                            help="leave out files whose licence forbids commercial use or does not speak of it")
        action.add_argument("--models", type=kinds.path, metavar="DIR",
                            help="models folder, instead of those of ComfyUI")
        if name in ("list", "verify", "licences"):
            action.add_argument("--json", action="store_true", help="print the facts as one JSON document")
        if name in ("get", "import"):
            action.add_argument("--replace-damaged", action="store_true",
                                help="replace files that are not the published ones; else they are only named")
        if name == "get":
            action.add_argument("--mirror", metavar="URL", help="scheme and host, such as https://mirror.example, in "
                                "the place of those of every address; the paths stay (HF_ENDPOINT replaces those of "
                                "huggingface.co alone)")
            action.add_argument("--jobs", type=kinds.whole(1, 16), default=3, metavar="N",
                                help="how many downloads at once (default: 3)")
            action.add_argument("--timeout", type=float, default=30.0, help=argparse.SUPPRESS)
        kinds.add_comfyui(action)


def main(options: argparse.Namespace) -> int:
    """Does what was asked for. Returns the exit code; raises CamouflageError."""
    weights = wanted(options.pipeline, options.commercial_safe)
    if options.action == "licences":
        return licences(weights, options.json)
    if options.action == "get" and not options.pipeline:
        raise CamouflageError(which_pipeline(options.commercial_safe))
    known = KnownDigests(cache_folder() / "digests")
    if options.action in ("list", "verify"):
        code = show(each_state(weights, folders_of(options), known, options.action == "verify"), options)
        if not options.json:
            tell_left_out(options)
        return code
    try:
        with only_one(cache_folder()):
            folders = folders_of(options)
            found = states(weights, folders, known)
            tell_untrained(found)
            tasks = tasks_of(found, options.replace_damaged)
            code = (get if options.action == "get" else bring)(tasks, folders, known, options)
    except OSError as error:
        raise CamouflageError(f"{error.strerror or error}: {error.filename or cache_folder()}. Is there room, and may "
                              "you write there? The environment variable CAMOUFLAGE_CACHE moves the cache, --models "
                              "names another models folder.") from error
    tell_left_out(options)
    damaged = [file for file in states(weights, folders, known) if file.state == DAMAGED]
    for file in damaged:
        remedy = ("--replace-damaged replaces it" if file.weight.has_name(file.path)
                  else "Delete it and run the same command again")
        print(f"{file.path} is damaged and was not touched. {file.why} {remedy}; if you put it there on purpose, add "
              "its SHA-256 to models/camouflage/SHA256SUMS.")
    return 1 if damaged else code


def folders_of(options: argparse.Namespace) -> Folders:
    """Where the models are: of --models, else of the ComfyUI that the other commands take, which `get` fetches."""
    if options.models:
        return lambda key: [options.models / key]
    host = find_host(options.comfyui)
    if host is None:
        host = cache_folder() / HOST_FOLDER
        if not is_comfyui(host) and options.action == "get":
            cache_folder().mkdir(parents=True, exist_ok=True)
            host = fetch_host(cache_folder())
        elif not is_comfyui(host) and options.action == "import":
            raise CamouflageError("There is no ComfyUI yet whose models these could become. Name one with --comfyui, "
                                  "or a models folder with --models.")
    return functools.cache(lambda key: model_folders(host, key))


def show(files: Iterable[FileState], options: argparse.Namespace) -> int:
    """``list`` and ``verify``: each file as soon as it is known."""
    found = []
    for file in files:
        found.append(file)
        if not options.json:
            print(described(file), flush=True)
    if options.json:
        print(json.dumps({"files": [file.document() for file in found]}, indent=1))
    else:
        print("\n" + counted(found))
    return 1 if options.action == "verify" and any(file.state == DAMAGED for file in found) else 0


def described(file: FileState) -> str:
    """A file in a few lines."""
    weight = file.weight
    remedy = (REMEDIES[NOT_COMPUTED] if file.why == NOT_COMPUTED else REMEDIES.get(file.state, ""))
    lines = [f"{file.state}: {weight.role}, {weight.path}, "
             + (size_text(file.size) if file.there and file.size is not None else weight.size_text),
             f"    {file.why} {remedy}".rstrip(),
             f"    SHA-256 {'known' if weight.sha256 or file.published else 'not published'}; "
             f"licence {weight.licence}; commercial use {COMMERCIAL[weight.commercial]}",
             f"    needed by {', '.join(weight.pipelines) or 'nothing (optional)'}; from {weight.url or 'training'}"]
    return "\n".join(lines)


def counted(found: Sequence[FileState]) -> str:
    """How many files are in each state."""
    counts = collections.Counter(file.state for file in found)
    order = (PRESENT, UNVERIFIED, DAMAGED, PARTLY, MISSING, UNTRAINED)
    return f"{len(found)} files: " + ", ".join(f"{counts[state]} {state}" for state in order if counts[state]) + "."


def which_pipeline(commercial_safe: bool) -> str:
    """The choice that `get` leaves to the person."""
    lines = ["Name what you need with --pipeline; it may be given several times."]
    for name in (*PIPELINES, ALL):
        weights = [weight for weight in wanted([name], commercial_safe) if weight.url]
        unknown = sum(weight.size is None for weight in weights)
        size = size_text(sum(weight.size or 0 for weight in weights))
        lines.append(f"  {name}: {len(weights)} files, {size}" + (f" and {unknown} of unknown size" if unknown else ""))
    return "\n".join(lines)


def tell_left_out(options: argparse.Namespace) -> None:
    """Says for which roles --commercial-safe leaves nothing, and for which others have to be chosen."""
    if not options.commercial_safe:
        return
    instead, nothing = left_out(options.pipeline)
    for role, (widget, value) in instead.items():
        node, name = widget.split(".")
        print(f"Others do the work of {role}: set '{name}' of {node} to {value}, or run with "
              f"--set '{widget}={value}'.")
    if nothing:
        print(f"--commercial-safe leaves nothing for: {', '.join(nothing)}.")


def tell_untrained(found: Sequence[FileState]) -> None:
    """Says which files no download brings."""
    for file in found:
        if file.state == UNTRAINED:
            print(f"{file.weight.role} ({file.weight.path}) cannot be downloaded: it has to be trained, or imported.")


def get(tasks: Sequence[Task], folders: Folders, known: KnownDigests, options: argparse.Namespace) -> int:
    """Downloads."""
    web = from_environment(options.mirror, options.timeout)
    tasks = [task for task in tasks if task.weight.url]
    if not tasks:
        print("Nothing is missing.")
        return 0
    what = downloads_of(tasks, web)
    there = sum(what.have.values())
    print(f"{len(tasks)} files, {size_text(what.total)}"
          + (f" and {what.unknown} of unknown size" if what.unknown else "")
          + (f", of which {size_text(there)} are there" if there else "")
          + f". Free on the disk: {size_text(shutil.disk_usage(there_above(tasks[0].target)).free)}.", flush=True)
    what.demand_room()
    meter = Meter(Pace(what))
    try:
        arrivals = fetch_all(tasks, web, known, trusted_digests(folders), options.jobs, meter.pace.report,
                             meter.arrived, meter.tick)
    except BaseException:
        meter.clear()
        print("What came is kept: the same command goes on from there.", flush=True)
        raise
    meter.clear()
    return summed_up(arrivals)


def bring(tasks: Sequence[Task], folders: Folders, known: KnownDigests, options: argparse.Namespace) -> int:
    """Imports."""
    arrivals = []
    for arrival in import_all(tasks, options.folder, known, trusted_digests(folders)):
        arrivals.append(arrival)
        print(line_of(arrival), flush=True)
        if arrival.state in (PRESENT, UNVERIFIED):
            discard(arrival.task.target)  # a download that was begun
    return summed_up(arrivals)


def line_of(arrival: Arrival) -> str:
    """What became of one file."""
    return f"{arrival.state}: {arrival.task.weight.path}. {arrival.why}"


def summed_up(arrivals: Sequence[Arrival]) -> int:
    """Prints the end of the story; the exit code: 1 if a file was to be had and was not."""
    counts = collections.Counter(arrival.state for arrival in arrivals)
    there = counts[PRESENT] + counts[UNVERIFIED]
    said = [f"{there} of {len(arrivals)} files have come"]
    if counts[UNVERIFIED]:
        said.append(f"{counts[UNVERIFIED]} of them unverified: nobody has published a SHA-256 to compare them with")
    print("; ".join(said) + ".")
    if counts[FAILED]:
        print(f"{counts[FAILED]} failed, see above. The same command tries them again.")
    return 1 if counts[FAILED] or counts[MISSING] else 0


class Meter:
    """One line for all downloads: on a terminal it moves, elsewhere it is written every ten seconds.

    Attributes:
        pace: what it shows.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._lock = threading.Lock()
        self._moves = sys.stdout.isatty()
        self._shown = pace.began

    def arrived(self, arrival: Arrival) -> None:
        """A download ended."""
        self.pace.end(arrival.task)
        with self._lock:
            self._write(line_of(arrival) + "\n")

    def tick(self) -> None:
        """Shows the line, if it is time to."""
        now = time.monotonic()
        with self._lock:
            if now - self._shown >= (0.2 if self._moves else 10):
                self._shown = now
                self._write(self.line(now) + ("" if self._moves else "\n"))

    def line(self, now: float) -> str:
        """How far all are, how fast in the last seconds, and how long it will take."""
        at = self.pace.read(now)
        left = "" if at.left is None else f", {clock(at.left)} left"
        return (f"{at.ended} of {at.files} files, {size_text(at.have)} of {size_text(at.total)}, "
                f"{size_text(int(at.rate))}/s{left}")

    def clear(self) -> None:
        """Takes the moving line away."""
        with self._lock:
            self._write("")

    def _write(self, text: str) -> None:
        print(("\r\x1b[K" if self._moves else "") + text, end="", flush=True)


def clock(seconds: float) -> str:
    """A time for people: "2:05 min", "3:10 h"."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d} min"


def licences(weights: Sequence[Weight], as_json: bool) -> int:
    """``licences``: the files by what a company may do with them, then by licence."""
    groups: dict[tuple[bool | None, str], list[Weight]] = {}
    for weight in weights:
        if weight.url:
            groups.setdefault((weight.commercial, weight.licence), []).append(weight)
    if as_json:
        print(json.dumps({"licences": [
            {"licence": licence, "commercial": commercial, "files": [weight.path for weight in files],
             "roles": list(dict.fromkeys(weight.role for weight in files))}
            for (commercial, licence), files in groups.items()]}, indent=1))
        return 0
    for commercial, words in LICENCE_WORDS.items():
        for (use, licence), files in groups.items():
            if use is commercial:
                print(f"{words}: {licence}\n" + "".join(f"    {weight.path} ({weight.role})\n" for weight in files))
    print("This is what the publishers state; licences such as OpenRAIL also restrict what you may do with results. "
          f"{sum(weight.url is None for weight in REGISTRY)} files are trained by you and are yours.")
    return 0
