"""Weights inside a running ComfyUI: what is there, and one download or check at a time, in a thread of its own.

What is told names files by their paths below ``models``, and no other folder of this machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import folder_paths

from ..errors import CamouflageError
from ..files import ROOT, cache_folder
from ..provision.digests import KnownDigests
from ..provision.download import there_above
from ..provision.pace import Pace
from ..provision.plan import ALL, AtWork, downloads_of, left_out, only_one, tasks_of, wanted
from ..provision.several import FAILED, Arrival, fetch_all
from ..provision.state import (
    DAMAGED,
    MISSING,
    PARTLY,
    PIPELINES,
    UNTRAINED,
    FileState,
    Folders,
    each_state,
    states,
    trusted_digests,
)
from ..provision.web import from_environment
from ..weights import REGISTRY, Weight

NOT_THE_HOSTS = ("camouflage", "ipadapter")
"""Kinds of models that the host does not know by itself; the folders of extra_model_paths.yaml come first there."""
JOBS = 3
PAUSE = 0.25  # seconds between two messages of progress
DONE, STOPPED, BROKEN = "done", "stopped", "failed"
Send = Callable[[dict[str, Any]], None]


def host_folders(key: str) -> Sequence[Path]:
    """Where the host looks for models of a kind; new files go into the first."""
    own = Path(folder_paths.models_dir, key)
    known = [Path(folder) for folder in folder_paths.folder_names_and_paths.get(key, ([], set()))[0]]
    if own in known and key not in NOT_THE_HOSTS:
        return known  # the first is ComfyUI's own, or the one that extra_model_paths.yaml calls the default
    return [own, *(folder for folder in known if folder != own)]


class WeightsService:
    """Answers what the panel asks, and does what it orders.

    Args:
        send: gets the facts of the work at hand, at most four times a second, and once more when it has ended.
        folders: where models are.
        cache: for remembered digests and the lock that keeps others out.
    """

    def __init__(self, send: Send, folders: Folders = host_folders, cache: Path | None = None) -> None:
        self._send, self._folders, self._cache = send, folders, cache or cache_folder()
        self._known = KnownDigests(self._cache / "digests")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._work: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None
        self._faults: dict[Weight, str] = {}
        self._lengths: dict[Weight, int] = {}
        self._sent = 0.0

    # --- what is

    def facts(self) -> dict[str, Any]:
        """Every file, what each pipeline lacks, the room on the disk, and the work at hand."""
        found = {file.weight: file for file in states(REGISTRY, self._folders, self._known)}
        return {"files": [self._document(file) for file in found.values()],
                "pipelines": [self._pipeline(name, found) for name in (*PIPELINES, ALL)],
                "free": shutil.disk_usage(there_above(Path(self._folders("camouflage")[0], "x"))).free,
                **self.progress()}

    def progress(self) -> dict[str, Any]:
        """``work``: what is being done, None if nothing is; ``last``: how the work before it ended."""
        with self._lock:
            return {"work": self._work and {**self._work, "stopping": self._stop.is_set()}, "last": self._last}

    def _document(self, file: FileState) -> dict[str, Any]:
        weight = file.weight
        home = next(folder for folder in self._folders(weight.folder) if file.path.is_relative_to(folder))
        return {**file.document(), "path": f"{weight.folder}/{file.path.relative_to(home).as_posix()}",
                "elsewhere": home != self._folders(weight.folder)[0], "why": self._told(file.why),
                "size": self._length(weight), "replaceable": weight.url is not None and weight.has_name(file.path),
                "fault": self._faults.get(weight) if file.state in (MISSING, PARTLY, DAMAGED) else None}

    def _length(self, weight: Weight) -> int | None:
        """Bytes that it will have, also where a server has said so."""
        return self._lengths.get(weight) if weight.size is None else weight.size

    def _pipeline(self, name: str, found: dict[Weight, FileState]) -> dict[str, Any]:
        instead, nothing = left_out([name])
        return {"name": name, "title": title_of(name), "needs": self._needs(wanted([name]), found),
                "commercial_safe": {**self._needs(wanted([name], True), found), "nothing_for": nothing, "instead": [
                    {"role": role, "widget": widget, "value": value} for role, (widget, value) in instead.items()]}}

    def _needs(self, weights: Sequence[Weight], found: dict[Weight, FileState]) -> dict[str, Any]:
        """``files`` that are needed; how many are ``missing``, ``damaged`` or ``untrained``; ``size`` of what has to
        come in bytes, without the ``unknown`` ones."""
        counts = Counter(found[weight].state for weight in weights)
        coming = [found[weight] for weight in weights if found[weight].state in (MISSING, PARTLY)]
        lengths = [(self._length(file.weight), file.size or 0) for file in coming]
        return {"files": [weight.path for weight in weights], "missing": len(coming), "damaged": counts[DAMAGED],
                "untrained": counts[UNTRAINED], "unknown": sum(length is None for length, _ in lengths),
                "size": sum(max(length - have, 0) for length, have in lengths if length is not None)}

    def _told(self, text: str) -> str:
        """A sentence without the folders of this machine."""
        places = {str(folder): f"models/{key}" for key in {weight.folder for weight in REGISTRY}
                  for folder in self._folders(key)}
        above = {str(above): "models" for folder in places for above in Path(folder).parents if above.name}
        for folder, name in sorted({**above, **places}.items(), key=lambda item: -len(item[0])):
            text = re.sub(rf"(?<![^\s('\"]){re.escape(folder)}(?![\w-])", lambda _, name=name: name, text)
        return text

    # --- what is ordered

    def get(self, pipelines: Sequence[str], commercial_safe: bool = False, replace_damaged: bool = False) -> None:
        """Begins to download what pipelines lack. Raises AtWork where something is being done already."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(only_one(self._cache))
            except OSError as error:
                raise CamouflageError(f"The cache folder cannot be written: {error.strerror or error}. Is there room, "
                                      "and may ComfyUI write there? The environment variable CAMOUFLAGE_CACHE moves "
                                      "it.") from error
            self._begin("get", pipelines, commercial_safe,
                        functools.partial(self._get, wanted(pipelines, commercial_safe), replace_damaged), held)

    def verify(self, pipelines: Sequence[str] = (), commercial_safe: bool = False) -> None:
        """Begins to compute the SHA-256 of every file that is there. Raises AtWork as :meth:`get` does."""
        with contextlib.ExitStack() as held:
            self._begin("verify", pipelines, commercial_safe,
                        functools.partial(self._verify, wanted(pipelines, commercial_safe)), held)

    def stop(self) -> None:
        """Ends the work soon; what came of a download stays, and the next one goes on from there."""
        with self._lock:
            if not self._work:
                return
            self._stop.set()
        self._tell()

    def _begin(self, kind: str, pipelines: Sequence[str], commercial_safe: bool, work: Callable[[], dict[str, Any]],
               held: contextlib.ExitStack) -> None:
        with self._lock:
            if self._work:
                raise AtWork("Something is being downloaded or checked already. Wait for its end, or stop it, then try "
                             "again.")
            self._work = {"kind": kind, "pipelines": list(pipelines), "commercial_safe": commercial_safe,
                          "files": 0, "ended": 0, "have": 0, "total": 0, "unknown": 0, "rate": 0.0, "left": None,
                          "parts": {}}
            self._stop.clear()
            mine = held.pop_all()
        threading.Thread(target=self._run, args=(kind, work, mine), name="camouflage-weights", daemon=True).start()

    def _run(self, kind: str, work: Callable[[], dict[str, Any]], held: contextlib.ExitStack) -> None:
        """The thread."""
        self._tell()
        with held:
            try:
                last = {"outcome": DONE, "why": "", **work()}
                last["outcome"] = STOPPED if self._stop.is_set() else DONE
            except Exception as error:
                last = {"outcome": BROKEN, "why": self._told(in_words(error))}
        with self._lock:
            self._work, self._last = None, {"kind": kind, **last}
        self._tell()

    def _tell(self) -> None:
        self._sent = time.monotonic()
        self._send(self.progress())

    def _note(self, **facts: Any) -> None:
        """Remembers how far the work is, and tells it if it is time to."""
        with self._lock:
            if self._work:
                self._work.update(facts)
        if time.monotonic() - self._sent >= PAUSE:
            self._tell()

    def _get(self, weights: Sequence[Weight], replace: bool) -> dict[str, Any]:
        with self._lock:
            self._faults = {weight: why for weight, why in self._faults.items() if weight not in weights}
        tasks = tasks_of(states(weights, self._folders, self._known), replace)
        self._note(files=len(tasks))
        web = from_environment()
        what = downloads_of(tasks, web, self._stop)
        with self._lock:
            self._lengths.update({task.weight: length for task, length in what.lengths.items()})
        what.demand_room()
        pace = Pace(what)

        def arrived(arrival: Arrival) -> None:
            with self._lock:
                if arrival.state == FAILED:
                    self._faults[arrival.task.weight] = self._told(arrival.why)
            pace.end(arrival.task)

        def tick() -> None:
            at = pace.read(time.monotonic())
            self._note(ended=at.ended, have=at.have, total=at.total, unknown=what.unknown, rate=at.rate, left=at.left,
                       parts={task.weight.path: parts for task, parts in pace.running().items()})

        arrivals = fetch_all(tasks, web, self._known, trusted_digests(self._folders), JOBS, pace.report, arrived, tick,
                             self._stop)
        return dict(Counter(arrival.state for arrival in arrivals if arrival.state != FAILED),
                    failed=sum(arrival.state == FAILED for arrival in arrivals))

    def _verify(self, weights: Sequence[Weight]) -> dict[str, Any]:
        there = [file for file in states(weights, self._folders, self._known) if file.there]
        total, have, found = sum(file.size or 0 for file in there), 0, Counter()
        self._note(files=len(there), total=total)
        checked = each_state([file.weight for file in there], self._folders, self._known, compute=True)
        for number, file in enumerate(checked, 1):
            found[file.state] += 1
            have += file.size or 0
            self._note(ended=number, have=have)
            if self._stop.is_set():
                break
        return dict(found)


def in_words(error: Exception) -> str:
    """What ended the work."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}. Is there room on the disk, and may ComfyUI write there?"
    return str(error) if isinstance(error, CamouflageError) else f"{type(error).__name__}: {error}"


@functools.cache
def title_of(pipeline: str) -> str:
    """How the workflow of a pipeline calls itself: the heading of its first note; "" for none."""
    with contextlib.suppress(OSError, ValueError, KeyError, StopIteration):
        workflow = json.loads((ROOT / "workflows" / f"camouflage_{pipeline}.json").read_text(encoding="utf-8"))
        note = next(node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
        return note["widgets_values"][0].splitlines()[0].removeprefix("# ")
    return ""
