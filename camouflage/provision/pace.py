"""How far several downloads are, how fast they come, and how long they will take. Standard library only."""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass

from .plan import Downloads
from .several import Task


@dataclass(frozen=True)
class Reading:
    """Where the downloads stand at one moment.

    Attributes:
        ended, files: how many have ended, of how many.
        have, total: bytes that are there, and that there will be as far as that is known.
        rate: bytes per second, over the last readings.
        left: seconds; None where that cannot be told.
    """

    ended: int
    files: int
    have: int
    total: int
    rate: float
    left: float | None


class Pace:
    """Counts what comes; any thread may report, one takes the readings.

    Attributes:
        began: when, on the clock of ``time.monotonic``.
    """

    def __init__(self, what: Downloads) -> None:
        self.began = time.monotonic()
        self._files, self._ended = len(what.tasks), 0
        self._have, self._lengths = dict(what.have), dict(what.lengths)
        self._open: set[Task] = set()
        self._lock = threading.Lock()
        self._past = collections.deque([(self.began, sum(what.have.values()))], maxlen=100)

    def report(self, task: Task, have: int, length: int | None) -> None:
        """A download went on."""
        with self._lock:
            self._open.add(task)
            self._have[task] = have
            if length is not None:
                self._lengths[task] = length

    def end(self, task: Task) -> None:
        """A download ended."""
        with self._lock:
            self._ended += 1
            self._open.discard(task)

    def running(self) -> dict[Task, tuple[int, int | None]]:
        """The files that are coming: bytes that are there, and that there will be."""
        with self._lock:
            return {task: (self._have[task], self._lengths.get(task)) for task in self._open}

    def read(self, now: float) -> Reading:
        """Where all stand now."""
        with self._lock:
            have, total = sum(self._have.values()), sum(self._lengths.values())
            self._past.append((now, have))
            seconds, came = now - self._past[0][0], have - self._past[0][1]
            rate = came / seconds if seconds > 0 and came > 0 else 0.0
            left = (total - have) / rate if rate and total >= have else None
            return Reading(self._ended, self._files, have, total, rate, left)
