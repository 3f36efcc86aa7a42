"""Savers in processes of their own, and what lies in their folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def visible(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name[0] != ".")


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name[0] == "."]


def note(name: str) -> dict:
    return {"file": name}


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from camouflage.errors import CamouflageError
from camouflage.output import publishing
import io, os, time
folder, task = sys.argv[2:4]
def stop():
    print("now", flush=True)
    time.sleep(600)
"""


def child(folder: Path, task: str, code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD + code, str(ROOT), str(folder), task], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def heard(one: subprocess.Popen) -> str:
    assert one.stdout
    return one.stdout.readline()
