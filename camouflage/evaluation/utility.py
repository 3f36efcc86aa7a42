"""Are the people still there, and does changing one of them leave the others as they were?

The other measures of utility have files of their own: :mod:`.attributes_kept`, :mod:`.landmarks`, :mod:`.captions`
and :mod:`.maps_kept`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..method.faces import Box
from ..verification.places import overlap
from .plain import missing, stated

SAME_PLACE = 0.5
"""Least overlap (intersection over union) of two boxes in the same place, as in PASCAL VOC."""


def matches(before: Sequence[Box], after: Sequence[Box], least: float = SAME_PLACE) -> list[tuple[int, int]]:
    """Which boxes of two pictures are in the same place: pairs of numbers.

    The pairs that share most come first, and every box is in one pair at most.
    """
    shares = ((overlap(one, other), i, k) for i, one in enumerate(before) for k, other in enumerate(after))
    return sorted(joined(share for share in shares if share[0] >= least).items())


def joined(shares: Iterable[tuple[float, int, int]]) -> dict[int, int]:
    """Pairs by their first number, from how much two share and their numbers: those that share most come first, and
    nobody is in two pairs."""
    found: dict[int, int] = {}
    for _, i, k in sorted(shares, key=lambda pair: (-pair[0], pair[1:])):
        if i not in found and k not in found.values():
            found[i] = k
    return found


def people_kept(before: Sequence[Sequence[Box]], after: Sequence[Sequence[Box]],
                persons: Sequence[int] | np.ndarray | None = None, least: float = SAME_PLACE) -> dict[str, Any]:
    """The same people in the same places, as plain data; of faces as well as of whole persons.

    Args:
        before, after: boxes of n pictures each, in one frame.
        persons: n numbers, whose picture it is; each its own where nobody says so.
        least: overlap of two boxes in the same place.

    Returns:
        ``before``, ``after`` and ``matched``: counts; ``recall``: share of those before that are still there;
        ``precision``: share of those after that were there before; ``same_number``: share of pictures with as many.

    Raises:
        CamouflageError: other numbers of pictures.
    """
    who = np.arange(len(before)) if persons is None else np.asarray(persons)
    if not len(before) == len(after) == len(who):
        raise CamouflageError(f"Boxes before and after of the same pictures are needed, but got {len(before)} and "
                              f"{len(after)} pictures, and {len(who)} persons.")
    pairs = [matches(one, other, least) for one, other in zip(before, after, strict=True)]
    there = [number in {i for i, _ in found} for boxes, found in zip(before, pairs, strict=True)
             for number in range(len(boxes))]
    real = [number in {k for _, k in found} for boxes, found in zip(after, pairs, strict=True)
            for number in range(len(boxes))]
    return {"before": len(there), "after": len(real), "matched": sum(there),
            "recall": stated(there, _whose(who, before), "nobody was found before"),
            "precision": stated(real, _whose(who, after), "nobody was found after"),
            "same_number": stated([len(one) == len(other) for one, other in zip(before, after, strict=True)], who,
                                  "there are no pictures")}


def _whose(persons: np.ndarray, boxes: Sequence[Sequence[Box]]) -> np.ndarray:
    return np.repeat(persons, np.array([len(one) for one in boxes], int))


def separation(before: np.ndarray, after: np.ndarray, changed: int) -> dict[str, Any]:
    """How much changing one person moves the others of a picture: 0 not at all, 1 as much as the one.

    Args:
        before, after: n x d readings of the n persons (embeddings or attributes) of a picture that was painted twice,
            with only one person's wishes changed.
        changed: number of that person, from 0.

    Returns:
        ``value``: mean distance (Euclidean) that the others moved, divided by the distance that the one moved; both as
        ``others`` and ``one``; ``why`` where there is no value.

    Raises:
        CamouflageError: other shapes, or no such person.
    """
    one, other = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if one.ndim != 2 or one.shape != other.shape or not 0 <= changed < len(one):
        raise CamouflageError(f"Readings of the same persons before and after are needed, and a person among them, but "
                              f"got {one.shape}, {other.shape} and person {changed}.")
    moved = np.linalg.norm(other - one, axis=1)
    rest = np.delete(moved, changed)
    own, others = float(moved[changed]), float(rest[np.isfinite(rest)].mean()) if np.isfinite(rest).any() else None
    told: dict[str, Any] = {"one": own if np.isfinite(own) else None, "others": others}
    if others is None:
        return {**missing("nobody else was read both times", len(rest)), **told}
    if not own > 0:
        return {**missing("the one who should change did not, or was not read both times", len(rest)), **told}
    cases = int(np.count_nonzero(np.isfinite(rest)))
    return {"value": others / own, "cases": cases, "persons": cases, "interval_95": None,
            "left_out": len(rest) - cases, **told}


def separations(trials: Sequence[dict[str, Any]], persons: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """The mean of several trials of :func:`separation`, with its interval.

    Args:
        trials: results of :func:`separation`; those without a value are left out and counted.
        persons: numbers of the pictures that the trials are of, since trials of one picture are alike.
    """
    return stated([np.nan if one["value"] is None else one["value"] for one in trials], persons,
                  "no trial has a value")
