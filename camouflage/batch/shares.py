"""A worker's share of the machine's cores, so that several do not get in each other's way."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..files import try_lock


def cores() -> list[int]:
    """The cores that this process may use; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def part_of(available: list[int], slot: int, slots: int) -> list[int]:
    """The cores of a worker: neighbours, as many for each as there are; where there are fewer than workers, one."""
    if len(available) < slots:
        return [available[slot % len(available)]] if available else []
    first, rest = divmod(len(available), slots)
    begin = slot * first + min(slot, rest)
    return available[begin:begin + first + (slot < rest)]


class Share:
    """Takes one of so many shares of this machine, and keeps this process and its children to it.

    Attributes:
        cores: of the share; empty where the system cannot keep a process to cores.

    A share is a locked file, which the system gives back with the process. Where all are taken (by another run), the
    first one is shared.
    """

    def __init__(self, slots: int, folder: Path | None = None) -> None:
        self.cores: list[int] = []
        if slots < 2 or not cores():
            return
        user = os.getuid() if hasattr(os, "getuid") else 0
        place = folder or Path(tempfile.gettempdir()) / f"camouflage-shares-{user}"
        place.mkdir(mode=0o700, exist_ok=True)
        taken = 0
        for slot in range(slots):
            self._mark = open(place / str(slot), "ab")  # noqa: SIM115 - as long as the process
            if try_lock(self._mark.fileno()):
                taken = slot
                break
            self._mark.close()
        self.cores = part_of(cores(), taken, slots)
        os.sched_setaffinity(0, self.cores)

    def close(self) -> None:
        """Gives the share back; the process stays where it is."""
        if self.cores:
            self._mark.close()
