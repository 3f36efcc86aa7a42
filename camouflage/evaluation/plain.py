"""Results as plain data: a value, its interval, its cases and persons, and a reason where there is no value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CamouflageError
from .estimates import estimate


def missing(why: str, left_out: int = 0) -> dict[str, Any]:
    """A result that has no value.

    Args:
        why: a sentence for a person.
        left_out: cases that there were, but that say nothing.
    """
    return {"value": None, "cases": 0, "persons": 0, "interval_95": None, "left_out": left_out, "why": why}


def stated(values: Sequence[float] | np.ndarray, persons: Sequence[int] | np.ndarray, why: str) -> dict[str, Any]:
    """The mean of values by :func:`.estimates.estimate`; values that are no finite numbers are left out and counted.

    Args:
        values: n numbers, each of a case; booleans are hits and misses.
        persons: n numbers, whose case it is.
        why: what to say where no case is left.

    Raises:
        CamouflageError: not as many values as persons.
    """
    numbers, who = np.asarray(values, np.float64), np.asarray(persons)
    if numbers.ndim != 1 or numbers.shape != who.shape:
        raise CamouflageError(f"Every case needs a value and a person, but got {numbers.shape} values and {who.shape} "
                              "persons.")
    there = np.isfinite(numbers)
    found = estimate(numbers[there], who[there], share=np.asarray(values).dtype == bool)
    left_out = int(np.count_nonzero(~there))
    return missing(why, left_out) if found is None else {**found.to_json(), "left_out": left_out}


def by_person(values: np.ndarray, persons: Sequence[int] | np.ndarray) -> np.ndarray:
    """Sums over the cases of each person.

    Args:
        values: n x k, numbers or booleans.
        persons: n numbers.

    Returns:
        p x k, float64, of the p persons in the order of their numbers.
    """
    known, who = np.unique(np.asarray(persons), return_inverse=True)
    sums = np.zeros((len(known), np.shape(values)[1]))
    np.add.at(sums, who, values)
    return sums
