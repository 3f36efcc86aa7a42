"""How many of twelve pasted heads the default detectors find, and cover: the tables of the documents.

    python -m benchmarks.recall [--quick] [--only turns|sizes|damage]

A head counts as found where the redaction of what was found covers at least 90 % of its face. ``--quick`` leaves out
every other angle and the largest faces. Run it with the environment of run.py, after ``python run.py test`` has
fetched the photos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import pasted  # noqa: E402

Canvas = tuple[np.ndarray, dict[str, Any]]


def finder() -> Callable[[Iterable[Canvas]], set[str]]:
    """canvases -> names of the people whose faces are covered to 90 % at least."""
    from camouflage.verification.centerface import CenterFace
    from camouflage.verification.detection import DlibHog, find_faces
    from camouflage.verification.redaction import Region, redact

    detectors = CenterFace(), DlibHog()

    def found(canvases: Iterable[Canvas]) -> set[str]:
        names: set[str] = set()
        for pixels, heads in canvases:
            regions = [Region(face.box_ltrb, turn=face.turn) for face in find_faces(detectors, pixels)]
            after = redact(pixels, regions)
            names |= {name for name, head in heads.items() if pasted.covered(pixels, after, head) >= 0.9}
        return names

    return found


def row(title: str, counts: Iterable[object]) -> None:
    """A line of a table."""
    print(f"| {title} | " + " | ".join(map(str, counts)) + " |", flush=True)


def heading(title: str, columns: Iterable[object]) -> None:
    """The first two lines of a table."""
    names = [str(column) for column in columns]
    row(f"\n| {title}".removeprefix("\n| "), names)
    print("|---" * (len(names) + 1) + "|", flush=True)


def turns(found: Callable[[Iterable[Canvas]], set[str]], quick: bool) -> None:
    """Every 15 degrees, three heights."""
    angles = range(0, 360, 30 if quick else 15)
    print(f"\nAngles of {len(angles)} at which each head is found, 1024 x 640 px\n")
    heading("face height", pasted.PEOPLE)
    for height in (40, 80) if quick else (40, 80, 160):
        seen = [found(pasted.grid(list(pasted.PEOPLE), height, angle)) for angle in angles]
        row(f"{height} px", (sum(name in names for names in seen) for name in pasted.PEOPLE))
        missed = {angle: 12 - len(names) for angle, names in zip(angles, seen, strict=True) if len(names) < 12}
        print(f"<!-- missed by angle at {height} px: {missed} -->", flush=True)


def sizes(found: Callable[[Iterable[Canvas]], set[str]], quick: bool) -> None:
    """Upright heads of 12 to 60 px on two canvases."""
    small, large = (12, 16, 20, 24, 32, 40, 60), (12, 16, 20, 24, 28, 32, 40, 60)
    for size, heights in ((pasted.SMALL, small), (pasted.LARGE, large)):
        print(f"\nHeads of 12 that are found, {size[0]} x {size[1]} px\n")
        heights = heights[1:-2] if quick else heights
        heading("face height, px", heights)
        row("found", (len(found(pasted.grid(list(pasted.PEOPLE), height, size=size))) for height in heights))


def damage(found: Callable[[Iterable[Canvas]], set[str]], quick: bool) -> None:
    """Occlusions, borders, light, noise and blur of faces of 80 px."""
    print("\nHeads of 12 that are found, faces of 80 px on 1024 x 640 px\n")
    heading("what is done", ("found",))
    plain = lambda: pasted.grid(list(pasted.PEOPLE), 80)  # noqa: E731
    for kind in pasted.OCCLUSIONS:
        row(kind, [len(found((pasted.occluded(pixels, heads.values(), kind), heads) for pixels, heads in plain()))])
    for share in (0.9, 0.7, 0.5):
        row(f"the border leaves {share:.0%}", [len(found(pasted.at_the_border(list(pasted.PEOPLE), 80, share)))])
    for name, change in pasted.DAMAGES.items():
        row(name, [len(found((change(pixels), heads) for pixels, heads in plain()))])


def main() -> None:
    """Reads the arguments and prints."""
    tables = {"turns": turns, "sizes": sizes, "damage": damage}
    parser = argparse.ArgumentParser(description="How many of twelve pasted heads are found.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=tables)
    options = parser.parse_args()
    found = finder()
    for name, table in tables.items():
        if options.only in (None, name):
            table(found, options.quick)


if __name__ == "__main__":
    main()
