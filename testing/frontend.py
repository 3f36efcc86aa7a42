"""A newer ComfyUI frontend than the host's own, from the package index, for the browser tests."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from . import archives

VERSION, SHA256 = "1.58.1", "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
_PACKAGE = "comfyui_frontend_package"


def folder(cache: Path) -> Path:
    """Where it lies: what ComfyUI takes as ``--front-end-root``."""
    return cache / f"frontend-{VERSION}"


def ensure(cache: Path, report: Callable[[str], None] = print) -> Path | None:
    """Fetches the frontend unless it is there already; :func:`folder`, or None where it cannot be had."""
    return archives.provide(
        folder(cache), _fill, f"Fetching ComfyUI's frontend {VERSION} from the package index (28 MB).",
        "No newer frontend; the browser tests on it will be skipped.", report)


def _fill(work: Path, target: Path) -> None:
    archives.download(f"{_PACKAGE.replace('_', '-')}=={VERSION}", SHA256, work)
    wheel, = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(work, [name for name in opened.namelist() if name.startswith(f"{_PACKAGE}/static/")])
    target.rmdir()
    (work / _PACKAGE / "static").rename(target)
