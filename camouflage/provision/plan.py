"""What has to come and how large it is; one process at a time fetches it. For the command and for ComfyUI's panel.

Standard library only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CamouflageError
from ..files import try_lock
from ..weights import INSTEAD, Weight
from .download import demand_room, note_of
from .several import Task, sizes
from .state import DAMAGED, MISSING, PARTLY, FileState, chosen, part_of
from .web import Web

ALL = "all"
"""In the place of a pipeline: every file of the registry, also the optional ones."""


class AtWork(CamouflageError):
    """Somebody else is fetching weights."""


@contextlib.contextmanager
def only_one(cache: Path) -> Iterator[None]:
    """One process at a time writes weights. Raises AtWork if there is another, OSError where no lock can be."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "weights.lock", "a+b") as file:
        if not try_lock(file.fileno()):
            raise AtWork("Weights are being fetched already, by `run.py weights` or in a ComfyUI. Wait for its end, or "
                         "stop it, then try again.")
        yield


def wanted(pipelines: Sequence[str], commercial_safe: bool = False) -> tuple[Weight, ...]:
    """The files of some pipelines; of all there are with ``ALL`` among them, or without a name."""
    return chosen(() if ALL in pipelines else pipelines, commercial_safe)


def tasks_of(found: Sequence[FileState], replace: bool) -> tuple[Task, ...]:
    """What has to come: missing and begun files, and damaged ones where they may be replaced."""
    for file in found:
        if file.there and not part_of(file.path).exists():
            note_of(file.path).unlink(missing_ok=True)  # of a process that was killed with the work done
    return tuple(Task(file.weight, file.path, file.state == DAMAGED) for file in found
                 if file.state in (MISSING, PARTLY)
                 or (file.state == DAMAGED and replace and file.weight.has_name(file.path)))


@dataclass(frozen=True)
class Downloads:
    """Downloads before they begin.

    Attributes:
        tasks: what is fetched.
        lengths: bytes of each, where the registry or a server knows them.
        have: bytes of each that are on the disk already.
    """

    tasks: tuple[Task, ...]
    lengths: dict[Task, int]
    have: dict[Task, int]

    @property
    def total(self) -> int:
        """Bytes of all whose length is known."""
        return sum(self.lengths.values())

    @property
    def unknown(self) -> int:
        """How many have a length that nobody knows."""
        return len(self.tasks) - len(self.lengths)

    def demand_room(self) -> None:
        """Raises CamouflageError where a disk has too little room."""
        demand_room((task.target, max(length - self.have[task], 0)) for task, length in self.lengths.items())


def downloads_of(tasks: Sequence[Task], web: Web, stop: threading.Event | None = None) -> Downloads:
    """Asks for the lengths of files that have an address. ``stop``: asks no further once it is set."""
    have = {task: part.stat().st_size if (part := part_of(task.target)).exists() else 0 for task in tasks}
    return Downloads(tuple(tasks), sizes(tasks, web, stop=stop), have)


def left_out(pipelines: Sequence[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """What the commercial-safe set lacks: the roles of which others do the work, each with the widget of the shipped
    workflows and the value that chooses them, and the roles for which nothing is left."""
    safe = wanted(pipelines, commercial_safe=True)
    left, others = {weight.role for weight in safe}, {weight.instead_of for weight in safe}
    gone = list(dict.fromkeys(weight.role for weight in wanted(pipelines) if weight.role not in left))
    return ({role: INSTEAD[role] for role in gone if role in others}, [role for role in gone if role not in others])
