"""Runs of a command that are killed, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from camouflage.files import ROOT

MARK = "CAMOUFLAGE_TEST_RUN"
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests themselves run in the background
from pathlib import Path
sys.path.append({root!r})
from camouflage.commands import environments, launch
environments.environment = lambda *_: Path(sys.prefix)
sys.exit(launch.main(sys.argv[1:]))
"""


def _read(cmdline: Path) -> str:
    return cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")


class Run:
    """``run.py`` with arguments as a process of its own, whose whole family can be told by a variable."""

    def __init__(self, arguments: Sequence[object], **environment: str) -> None:
        self.token = secrets.token_hex(8)
        self.process = subprocess.Popen(
            [sys.executable, "-c", START.format(root=str(ROOT)), *map(str, arguments)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, MARK: self.token, **environment})

    def family(self, *words: str) -> list[int]:
        """Living processes of this run whose command line has all of these words."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.token}".encode() not in (place / "environ").read_bytes():
                    continue
                line = _read(place / "cmdline")
                state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and all(word in line for word in words):
                    found.append(int(place.name))
        return found

    def kill(self, *words: str, number: int = signal.SIGKILL) -> bool:
        """Ends the run's first process with these words, or the command itself; whether there was one."""
        for pid in (self.family(*words) if words else [self.process.pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                return True
        return False

    def end(self, timeout: float = 600) -> tuple[int, str]:
        """Exit code and output."""
        output, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, output

    def orphans(self, seconds: float = 10.0) -> list[str]:
        """The command lines of those who still live after so many seconds."""
        deadline = time.monotonic() + seconds
        while (alive := self.family()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [_read(Path("/proc") / str(pid) / "cmdline") for pid in alive]
