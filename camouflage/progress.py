"""Long work at the screen: how many are done, how fast, how long it will take."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from types import FrameType

from tqdm import tqdm


def progress(total: int, what: str, before: int = 0) -> tqdm:
    """A bar on standard output: on a terminal it moves, elsewhere it is written every ten seconds.

        with progress(len(photos), "photos") as bar:
            for photo in photos:
                ...
                bar.update()

    Args:
        total: how many there are.
        what: their name, such as "photos".
        before: how many were done before this run; they do not count for the speed.
    """
    return tqdm(total=total, initial=before, unit=f" {what}", file=sys.stdout, dynamic_ncols=True,
                mininterval=0.1 if sys.stdout.isatty() else 10)


class ProgressLine:
    """Things done, things a second, time left: one changing line on a terminal, elsewhere a line every ten seconds.

    Args:
        total: how many there are.
        what: their name, such as "photos".
        before: how many were done before this run; they do not count for the speed.
    """

    def __init__(self, total: int, what: str, before: int = 0) -> None:
        self.total, self.what, self.before = total, what, before
        self.terminal, self.started = sys.stdout.isatty(), time.monotonic()
        self.shown_at = self.started

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if done < self.total and now - self.shown_at < (0.1 if self.terminal else 10):
            return
        self.shown_at, rate = now, (done - self.before) / max(now - self.started, 1e-3)
        left = duration((self.total - done) / rate) if rate else "unknown time"
        line = f"  {done} of {self.total} {self.what}, {rate:.1f} a second, {left} left"
        if self.terminal:
            print("\r" + line.ljust(shutil.get_terminal_size().columns - 1), end="", flush=True)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Leave the terminal's line."""
        if self.terminal:
            print(flush=True)


def duration(seconds: float) -> str:
    """Such as 40 s, 12 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def leave_politely() -> None:
    """Let a closing terminal or a polite kill run the cleanup, too."""
    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)
