"""What an evaluation costs: pictures a second, memory, and what is done twice after it was killed in the middle.

    python -m benchmarks.evaluation [--pictures 200] [--size 768]

Half of the pictures are originals, half their anonymized ones: portraits, no two alike, of which every anonymized one
shows another photo, so that there are faces to find and to compare everywhere. It is ``run.py evaluate`` with its
defaults (CenterFace and dlib find, dlib compares) as a process of its own, once from the beginning to the end, and once
killed (SIGKILL) when half of the pictures were looked at, and started again. Run it with the environment of run.py,
after ``python run.py test`` has fetched the photos.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch import photos_of, resident
from camouflage.evaluation.cache import FOLDER


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds from its first look, MB of resident memory at most, and whether private files are left."""

    seconds: float
    megabytes: float
    left: bool


def write_pairs(folder: Path, count: int, size: int) -> None:
    """Writes ``count`` pictures into original/ and anonymized/."""
    pictures = list(photos_of(count // 2, size))
    for name in ("original", "anonymized"):
        (folder / name).mkdir()
    for number, data in enumerate(pictures):
        (folder / "original" / f"{number:05d}.png").write_bytes(data)
        (folder / "anonymized" / f"{number:05d}.png").write_bytes(pictures[number - 1])


def evaluate(folder: Path, output: Path, kill_at: int = 0) -> Cost:
    """One run, killed once so many pictures were looked at."""
    from killing import Run

    command = Run(["evaluate", "--original", folder / "original", "--anonymized", folder / "anonymized", "--output",
                   output])
    first, largest = 0.0, 0.0
    while command.process.poll() is None:
        largest = max([largest, *resident(command.family()).values()])
        looked = len(list((output / FOLDER).glob("*.npz")))
        first = first or (time.monotonic() if looked else 0.0)
        if kill_at and looked >= kill_at:
            command.process.kill()
        time.sleep(0.05)
    code, told = command.end()
    assert kill_at or code == 0, told
    return Cost(time.monotonic() - first, largest, (output / FOLDER).exists())


def main() -> None:
    """Both runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200, help="originals and anonymized ones together (200)")
    parser.add_argument("--size", type=int, default=768, help="px of a side (768)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, options.pictures, options.size)
        whole = evaluate(folder, folder / "whole")
        print(f"{options.pictures} pictures of {options.size} px: {options.pictures / whole.seconds:.2f} pictures a "
              f"second ({whole.seconds:.0f} s from the first look to the end), {whole.megabytes:.0f} MB at most; "
              f"private files left: {whole.left}", flush=True)
        killed = evaluate(folder, folder / "again", options.pictures // 2)
        rest = evaluate(folder, folder / "again")
        same = (folder / "again" / "results.json").read_bytes() == (folder / "whole" / "results.json").read_bytes()
        print(f"Killed at half: {killed.seconds:.0f} s before and {rest.seconds:.0f} s after it; "
              f"{'the same results' if same else 'OTHER RESULTS'}; private files left: {rest.left}")


if __name__ == "__main__":
    main()
