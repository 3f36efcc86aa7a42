"""Time of the attribute map: 1, 10 and 100 faces on a 96 x 96 latent (768 px), median of many runs, in milliseconds.

    python benchmarks/attribute_map.py [--device cpu] [--runs 50] [--threads 1]

The faces are random, overlap heavily and have landmarks; the time includes the conversion from the result types.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from camouflage.method.attribute_map import REGIONS, attribute_map
from camouflage.method.faces import ATTRIBUTES, LANDMARKS, Face, Faces, Picture


def random_faces(count: int, side: int = 768) -> Faces:
    """One square picture of ``side`` px with ``count`` seeded random faces of 20 to 200 px."""
    chance = random.Random(0)

    def face() -> Face:
        size = chance.uniform(20, 200)
        left, top = chance.uniform(0, side - size), chance.uniform(0, side - size)
        box = (left, top, left + size, top + size)

        def points(n: int) -> tuple[tuple[float, float], ...]:
            return tuple((chance.uniform(box[0], box[2]), chance.uniform(box[1], box[3])) for _ in range(n))
        return Face(box, chance.random(), points(5), points(LANDMARKS), tuple(chance.random() for _ in ATTRIBUTES))
    return Faces((Picture(side, side, tuple(face() for _ in range(count))),))


def median_ms(faces: Faces, region: str, device: str, runs: int) -> float:
    """Median wall time of one map, after three runs to warm up."""
    times = []
    for run in range(runs + 3):
        start = time.perf_counter()
        attribute_map(faces, 96, 96, region=region, device=device)
        if device != "cpu":
            torch.cuda.synchronize()
        if run >= 3:
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"96 x 96 cells, {args.device}, {args.threads} thread(s), median of {args.runs} runs")
    for region in REGIONS:
        for count in (1, 10, 100):
            median = median_ms(random_faces(count), region, args.device, args.runs)
            print(f"{region:>10} {count:4d} faces {median:8.2f} ms")


if __name__ == "__main__":
    main()
