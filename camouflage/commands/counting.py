"""How far a run is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..batch.accounts import FAULTY, SAVED, WITHHELD, Outcome

if TYPE_CHECKING:
    from typing_extensions import Self

EVERY = 30.0  # seconds between lines


def duration(seconds: float) -> str:
    """A time for people: "40 s", "12 min", "3 h 20 min", "5 d 3 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class RunProgress:
    """Counts pictures; a context manager.

    Args:
        total: pictures that are to be done.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.states = total, 0, Counter[str]()
        self._begun = self._last = time.monotonic()
        self._bar = tqdm(total=total, unit=" pictures", leave=False, disable=None, dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def seen(self, line: Outcome) -> None:
        """A picture is done."""
        self.done += 1
        self.states[line.state] += 1
        self._bar.set_postfix_str(self.text(), refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._last >= EVERY:
            self._last = now
            rate = self.done / (now - self._begun)
            print(f"{self.done} of {self.total} pictures, {rate:.2f} a second, about "
                  f"{duration((self.total - self.done) / rate)} left; {self.text()}", file=sys.stderr, flush=True)

    def text(self) -> str:
        """What became of them so far."""
        groups = {"safe": ("safe",), "redacted": ("redacted",), "otherwise saved": SAVED[2:], "withheld": WITHHELD,
                  "failed": FAULTY}
        found = {name: sum(self.states[state] for state in states) for name, states in groups.items()}
        return ", ".join(f"{count} {name}" for name, count in found.items() if count or name in ("safe", "redacted"))
