"""How well attackers do on drawn persons behind blur, mosaic and solid fill: the tables of the documents.

    python -m benchmarks.attacks [--persons 200] [--each 10] [--steps 300] [--side 32] [--only NAME ...]

Who is attacked is never learned from; backgrounds and clothes are random in every photo. Run it with the environment
of run.py; the whole takes about half an hour on one core. ``--only`` takes names of methods, see
``testing/drawn_identities.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from camouflage.evaluation.attacks import guessing, reconstruction, trained
from camouflage.evaluation.attacks.learning import Effort, Learned
from camouflage.evaluation.attacks.matching import match
from camouflage.evaluation.attacks.splits import Split, split_persons
from testing.drawn_identities import FACE, HEAD, METHODS, Photo, crop, crops, portraits

AROUND = "our solid, and what is around the head"
COLUMNS = ("method", "not trained: rank-1", "head: rank-1", "network, linkage: rank-1", "AUC",
           "network, to originals: rank-1", "AUC", "CPU seconds")
UNDONE = ("method", "gain over it, dB", "gain over the mean face, dB", "rank-1 before", "rank-1 after", "CPU seconds")
GUESSED = ("method", "gallery", "runs", "the picture itself", "rank-1", "chance", "seconds")


def rate(found: dict[str, Any] | None) -> str:
    """A value and its interval."""
    if not found or found["value"] is None:
        return "none"
    low, high = found["interval_95"] or (float("nan"),) * 2
    return f"{found['value']:.3f} [{low:.3f}, {high:.3f}]"


def row(cells: Iterable[object]) -> str:
    """A line of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def table(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Prints a table."""
    print(f"\n{title}\n\n{row(columns)}\n{'|---' * len(columns)}|")
    print(*map(row, rows), sep="\n", flush=True)


def known(photos: list[Photo], persons: np.ndarray, split: Split, name: str) -> list[tuple[object, ...]]:
    """Guessing: the method is known, and the published photo is in the gallery of all who are attacked."""
    first = [index for index in split.test if index == np.flatnonzero(persons == persons[index])[0]]
    gallery = [photos[index] for index in first]

    def method(photo: Photo, settings: str) -> np.ndarray:
        return crop(METHODS[settings](photo.pixels, photo.box_ltrb), photo.box_ltrb, 64)

    published = [method(photo, name) for photo in gallery]
    found = guessing.attack(published, gallery, range(len(gallery)), method, list(METHODS))
    return [(name, found["gallery"], found["cost"]["runs"], rate(found["exact"]), rate(found["rank_1"]),
             f"{found['rank_1']['chance']:.3f}", f"{found['cost']['seconds']:.1f}")]


def learned(name: str, after: np.ndarray, before: np.ndarray, split: Split, plain: Learned, effort: Effort
            ) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """A line of each of the two tables of trained attacks."""
    def say(done: int, total: int) -> None:
        print(f"\r{name}: {done} of {total}   ", end="", file=sys.stderr)

    persons, test = split.persons, split.test
    untrained = match(plain(after[test]), plain(before[test]), persons[test], persons[test],
                      np.eye(len(test), dtype=bool))
    head = trained.attack_embeddings(plain(after), persons, plain(before), split.seed, step=say)
    linkage = trained.attack_pictures(after, persons, None, split, effort, step=say)
    found = trained.attack_pictures(after, persons, before, split, effort, step=say)
    undone = reconstruction.attack(after, before, persons, plain, split, step=say)
    seconds = sum(one["cost"]["cpu_seconds"] for one in (head, linkage, found))
    print(file=sys.stderr)
    one = (name, *(rate(one["rank_1"]) for one in (untrained, head, linkage)), rate(linkage["auc"]),
           rate(found["rank_1"]), rate(found["auc"]), f"{seconds:.0f}")
    other = (name, rate(undone["gain_over_anonymized"]), rate(undone["gain_over_mean_face"]),
             rate(undone["before"]["rank_1"]), rate(undone["rank_1"]), f"{undone['cost']['cpu_seconds']:.0f}")
    print(row(one), row(other), sep="\n", file=sys.stderr)
    return one, other


def main() -> None:
    """Draws, attacks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=200, help="drawn persons (200)")
    parser.add_argument("--each", type=int, default=10, help="photos of each (10)")
    parser.add_argument("--steps", type=int, default=Effort().steps,
                        help="of each recogniser (300)")
    parser.add_argument("--side", type=int, default=32, help="of the crops, px (32)")
    parser.add_argument("--only", nargs="+", choices=(*METHODS, AROUND), default=(*METHODS, AROUND))
    options = parser.parse_args()
    begin = time.perf_counter()
    photos, persons = portraits(options.persons, options.each)
    split, effort = split_persons(persons), Effort(steps=options.steps)
    before = {width: crops(photos, "original", options.side, width) for width in (FACE, HEAD)}
    drawn = time.perf_counter() - begin
    plain: dict[float, Learned] = {}
    recognised, undone, guessed = [], [], []
    for name in options.only:
        width, method = (HEAD, "our solid") if name == AROUND else (FACE, name)
        if width not in plain:
            plain[width] = trained.recogniser(before[width][split.train], persons[split.train], effort)
        after = crops(photos, method, options.side, width)
        one, other = learned(name, after, before[width], split, plain[width], effort)
        recognised.append(one)
        undone.append(other)
        if name in METHODS:
            guessed += known(photos, persons, split, name)
    told = split.to_json()
    chance = (options.each - 1) / (told["test_pictures"] - 1)
    print(f"{told['train_persons']} persons to learn from, {told['test_persons']} attacked, {options.each} photos "
          f"each, {options.side} px; drawn in {drawn:.0f} s. Chance: rank-1 {chance:.3f}, AUC 0.5. A network: "
          f"{next(iter(plain.values())).cost['parameters']} parameters, {effort.steps} steps of {effort.batch}. In "
          f"brackets 95 % intervals over persons. {time.perf_counter() - begin:.0f} s in all.")
    table("Recognised", COLUMNS, recognised)
    table("Undone", UNDONE, undone)
    table("Guessed, with the very photo in the gallery", GUESSED, guessed)


if __name__ == "__main__":
    main()
