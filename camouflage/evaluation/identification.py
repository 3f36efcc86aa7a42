"""Ranks: where in a gallery of originals the person behind an anonymized face stands.

A query is an anonymized face, the gallery are faces of originals, nearest first. Rank k is the share of queries whose
person is among the k nearest; the mean average precision (mAP) looks at all photos of that person. Of equal distances
every order counts the same, so that a recogniser that says the same of everybody scores chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CamouflageError

RANKS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Queries that could be ranked.

    Attributes:
        persons: n numbers of the queries' persons, from 0.
        hits: n x len(RANKS) probabilities, 0..1, that the person is among the k nearest; 0 or 1 without ties.
        precision: n average precisions, 0..1.
        chance: n x len(RANKS), what a random order of the gallery gives.
    """

    persons: np.ndarray
    hits: np.ndarray
    precision: np.ndarray
    chance: np.ndarray


def rank(distances: np.ndarray, query_of: Sequence[int] | np.ndarray, gallery_of: Sequence[int] | np.ndarray,
         left_out: np.ndarray | None = None) -> Ranked:
    """Ranks every query.

    Args:
        distances: n x m, from queries to the gallery.
        query_of, gallery_of: n and m numbers of persons, from 0.
        left_out: n x m; True where a gallery's face does not count for a query (a photo that is its own original).

    Returns:
        Queries without anybody of theirs in the gallery are not among them.

    Raises:
        CamouflageError: shapes that do not fit, or distances that are none.
    """
    distances = np.asarray(distances)
    queries, gallery = np.asarray(query_of, int), np.asarray(gallery_of, int)
    if distances.shape != (len(queries), len(gallery)):
        raise CamouflageError(f"There must be {len(queries)} x {len(gallery)} distances, but got "
                              f"{' x '.join(map(str, distances.shape))}.")
    if np.isnan(distances).any():
        raise CamouflageError("Some distances are no numbers.")
    persons, hits, precision, chance = [], [], [], []
    for row, who in enumerate(queries):
        counts = np.ones(len(gallery), bool) if left_out is None else ~left_out[row]
        theirs = gallery[counts] == who
        if not theirs.any():
            continue
        row_hits, row_precision = _expected(distances[row, counts], theirs)
        persons.append(who)
        hits.append(row_hits)
        precision.append(row_precision)
        chance.append([_among(len(theirs), int(theirs.sum()), k) for k in RANKS])
    width = len(RANKS)
    return Ranked(np.array(persons, int), np.array(hits).reshape(-1, width), np.array(precision, float),
                  np.array(chance).reshape(-1, width))


def _expected(distances: np.ndarray, theirs: np.ndarray) -> tuple[list[float], float]:
    """Chance of being among the k nearest, and the average precision, over all orders of equal distances."""
    _, group = np.unique(distances, return_inverse=True)
    sizes, rights = np.bincount(group), np.bincount(group[theirs], minlength=int(group.max()) + 1)
    befores, founds = np.cumsum(sizes) - sizes, np.cumsum(rights) - rights
    hits, precision, total = [0.0] * len(RANKS), 0.0, int(theirs.sum())
    for place in np.flatnonzero(rights):
        size, right, before, found = (int(values[place]) for values in (sizes, rights, befores, founds))
        if not found:
            hits = [_among(size, right, k - before) if before < k else 0.0 for k in RANKS]
        # The i-th of a tied group of `size` is right with right/size; of the i-1 before it, (right-1)/(size-1) each.
        for i in range(1, size + 1):
            others = (i - 1) * (right - 1) / (size - 1) if size > 1 else 0.0
            precision += right / size * (found + 1 + others) / (before + i)
    return hits, precision / total


def _among(size: int, right: int, k: int) -> float:
    """The chance that one of ``right`` of ``size`` is among the first k of a random order."""
    k = min(k, size)
    missed = 1.0
    for place in range(k):
        missed *= max(0, size - right - place) / (size - place)
    return 1.0 - missed
