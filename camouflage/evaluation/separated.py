"""Does changing one person's wishes leave the others as they were? Two paintings of every photo, compared.

Both are painted with the same noise; in the second one the wishes of one person are others. Persons are numbered from
left to right, as *Face Attributes* numbers them, among the faces that stand in the painted picture's frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..photos import Unreadable, read_pixels
from ..verification.places import centre
from . import crops, study
from .cache import SeenCache
from .pairing import Pair, Pairing
from .plain import missing
from .seeing import JUDGED, Seen, follow, framed
from .study import Observers
from .utility import separation, separations

PIXELS = "pixels"
"""Of the heads' places, whatever is there: crops of ``crops.SIDE`` px as vectors, 0..1."""


def separated(plain: Pairing, edited: Pairing, changed: int, observers: Observers, cache: SeenCache
              ) -> dict[str, dict[str, Any]]:
    """How far the others moved, divided by how far the changed person did.

    Args:
        plain: photos and their pictures with nobody's wishes changed.
        edited: the same photos with one person's wishes changed.
        changed: number of that person, from 0.
        observers: who looks: the first recogniser embeds faces, a reader reads them.
        cache: of what was seen.

    Returns:
        By the name of what was read (the recogniser, its readings of faces, ``PIXELS``):
        :func:`.utility.separations` over the photos, and ``fewer_persons``: photos that show no second person, or not
        the one who was changed, and say nothing.
    """
    trials: dict[str, list[dict[str, Any]]] = {
        name: [] for name in (observers.embedders[0].info.name, *(observers.reader.faces if observers.reader else ()),
                              PIXELS)}
    fewer = 0
    for one, other in zip(plain.pairs, edited.pairs, strict=True):
        try:
            readings = _readings(one, other, changed, observers, cache)
        except Unreadable:
            readings = None
        if readings is None:
            fewer += 1
            continue
        for name, (before, after) in readings.items():
            trials[name].append(separation(before, after, changed))
    return {name: {**(separations(some, range(len(some))) if some else missing("no photo shows two persons")),
                   "fewer_persons": fewer} for name, some in trials.items()}


def _readings(plain: Pair, edited: Pair, changed: int, observers: Observers, cache: SeenCache
              ) -> Mapping[str, tuple[np.ndarray, np.ndarray]] | None:
    """Readings of all persons in both pictures, by name; None where they say nothing."""
    if plain.anonymized is None or edited.anonymized is None:
        return None

    paths = plain.anonymized, edited.anonymized
    original, *both = (study.seen_in(path, observers, cache) for path in (plain.original, *paths))
    persons = _inside(original, both[0].size)
    if len(persons) < 2 or changed >= len(persons):
        return None
    matches = [[match if state == JUDGED else -1 for state, match in follow(original, one, persons)[0]] for one in both]

    name = observers.embedders[0].info.name
    rows = {name: [one.embeddings[name] for one in both]}
    if observers.reader:
        read = [observers.reader.pair((plain.original, path), (original, one), read_pixels, cache)
                for path, one in zip(paths, both, strict=True)]
        rows |= {reading: [one[reading][1] for one in read] for reading in observers.reader.faces}
    found = {reading: (_rows(one, matches[0]), _rows(other, matches[1])) for reading, (one, other) in rows.items()}
    photo = read_pixels(plain.original)
    heads = [crops.of_pair(photo, read_pixels(path), original)[persons, 1] / 255.0 for path in paths]
    found[PIXELS] = heads[0].reshape(len(persons), -1), heads[1].reshape(len(persons), -1)
    return found


def _inside(original: Seen, size: tuple[int, int]) -> list[int]:
    """The faces that stand in the painted picture, from left to right."""
    frame = framed(original.size, size)
    left, top, right, bottom = frame.box((0.0, 0.0, float(size[0]), float(size[1])))
    places = [(*centre(face.box_ltrb), number) for number, face in enumerate(original.faces)]
    return [number for x, y, number in sorted(places) if left <= x <= right and top <= y <= bottom]


def _rows(values: np.ndarray, matches: list[int]) -> np.ndarray:
    """Of every person; no numbers for those who were not found."""
    nothing = np.full(values.shape[1:], np.nan)
    return np.array([values[match] if match >= 0 else nothing for match in matches], np.float64)
