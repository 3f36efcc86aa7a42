"""Several downloads at once, which end together. Standard library only."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..errors import CamouflageError
from ..weights import Weight
from .digests import KnownDigests
from .download import Cancelled, download
from .web import Web, length_of

T = TypeVar("T")
FAILED = "failed"


@dataclass(frozen=True)
class Task:
    """A file to fetch: what, where to, and whether a damaged file in its place may be replaced."""

    weight: Weight
    target: Path
    replace: bool = False


@dataclass(frozen=True)
class Arrival:
    """What became of a task: "present", "unverified" or "failed", and why."""

    task: Task
    state: str
    why: str


def at_once(items: Iterable[T], work: Callable[[T], None], jobs: int, tick: Callable[[], None], stop: threading.Event
            ) -> None:
    """Works on all items, ``jobs`` at a time, and calls ``tick`` ten times a second meanwhile.

    Where the wait is broken off, ``stop`` is set and all are waited for two seconds more: what is cut off then is on
    the disk as a kill would leave it.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def labour() -> None:
        while not stop.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            work(item)

    threads = [threading.Thread(target=labour, daemon=True) for _ in range(min(jobs, waiting.qsize()))]
    try:
        for thread in threads:
            thread.start()
        while living := [thread for thread in threads if thread.is_alive()]:
            living[0].join(0.1)
            tick()
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join(2.0 / len(threads))
        raise


def fetch_all(tasks: Iterable[Task], web: Web, known: KnownDigests, trusted: set[str], jobs: int = 3,
              report: Callable[[Task, int, int | None], None] = lambda *_: None,
              arrived: Callable[[Arrival], None] = lambda _: None, tick: Callable[[], None] = lambda: None,
              stop: threading.Event | None = None) -> tuple[Arrival, ...]:
    """Downloads several files at once; one that fails does not keep the others.

    Args:
        tasks: what to fetch, the first ones first.
        web: the way to the network.
        known: remembers digests.
        trusted: digests that the administrator vouches for.
        jobs: how many at a time.
        report: gets a task, the bytes that are there and the bytes that there will be; from any thread.
        arrived: gets every task that ended; from any thread.
        tick: called ten times a second.
        stop: from outside; once it is set, tasks that are not finished are left out of the result.
    """
    done: list[Arrival] = []
    stop = stop or threading.Event()

    def work(task: Task) -> None:
        try:
            state, why = download(task.weight, task.target, web, known, trusted, stop=stop, replace=task.replace,
                                  report=lambda have, length: report(task, have, length))
        except Cancelled:
            return
        except CamouflageError as error:
            state, why = FAILED, str(error)
        except Exception as error:
            state, why = FAILED, f"{task.weight.url} could not be downloaded ({type(error).__name__}: {error})."
        done.append(Arrival(task, state, why))
        arrived(done[-1])

    at_once(tasks, work, jobs, tick, stop)
    return tuple(done)


def sizes(tasks: Iterable[Task], web: Web, jobs: int = 8, stop: threading.Event | None = None) -> dict[Task, int]:
    """How long the files will be, as the registry or, in a few seconds, their servers say; without the unknown ones.

    Once ``stop`` is set, nobody is asked any more.
    """
    found: dict[Task, int] = {}
    web = replace(web, timeout=min(web.timeout, 10.0))

    def ask(task: Task) -> None:
        size = task.weight.size or length_of(web, task.weight.url or "")
        if size is not None:
            found[task] = size

    at_once(tasks, ask, jobs, lambda: None, stop or threading.Event())
    return found
