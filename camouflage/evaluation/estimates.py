"""Means over cases that belong to persons, with 95 % intervals by a bootstrap over the persons.

The cases of a collection are not independent: photos of one person are alike. So persons are drawn anew, with
replacement, and all their cases with them; see :mod:`..verification.error_rates`, whose numbers are taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..verification.error_rates import FEWEST_PERSONS, RESAMPLES, clopper_pearson

FEWEST = min(FEWEST_PERSONS.values())
"""Persons that it takes to state an interval."""
_DRAWS = 1 << 25  # numbers of draws that are held at once


@dataclass(frozen=True)
class Estimate:
    """A mean.

    Attributes:
        value: the mean over all cases.
        cases: how many.
        persons: whose.
        interval: 95 %; None where there were fewer than ``FEWEST`` persons.
    """

    value: float
    cases: int
    persons: int
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        ends = f"{self.interval[0]:.3g}, {self.interval[1]:.3g}" if self.interval else "too few persons"
        return f"{self.value:.3g} [{ends}]"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"value": self.value, "cases": self.cases, "persons": self.persons,
                "interval_95": list(self.interval) if self.interval else None}


def estimate(values: Sequence[float] | np.ndarray, persons: Sequence[int] | np.ndarray, share: bool | None = None
             ) -> Estimate | None:
    """The mean of values, each of a case of a person; None where there is no case.

    Args:
        values: n numbers; booleans count as 0 and 1.
        persons: n numbers of persons.
        share: whether the values are hits (1) and misses (0); None takes booleans for that.

    A share has an interval at least as wide as Clopper and Pearson's for as many independent cases, since a bootstrap
    knows no error that it never saw.

    Raises:
        CamouflageError: as many values as persons are needed, and numbers.
    """
    share = np.asarray(values).dtype == bool if share is None else share
    numbers = np.asarray(values, np.float64)
    if numbers.shape != np.shape(persons) or numbers.ndim != 1:
        raise CamouflageError(f"Every value needs a person, but got {np.shape(values)} values and {np.shape(persons)} "
                              "persons.")
    if not len(numbers):
        return None
    if not np.isfinite(numbers).all():
        raise CamouflageError("Some values are no numbers.")
    return _estimate(numbers, np.ones(len(numbers)), persons, share and bool(np.isin(numbers, (0.0, 1.0)).all()))


def share_of(hits: Sequence[int] | np.ndarray, cases: Sequence[int] | np.ndarray,
             persons: Sequence[int] | np.ndarray) -> Estimate | None:
    """The same as :func:`estimate` of hits and misses, from their numbers: n hits among n cases of n persons, who may
    come several times."""
    return _estimate(np.asarray(hits, np.float64), np.asarray(cases, np.float64), persons, True) if np.any(
        cases) else None


def _estimate(sums: np.ndarray, counts: np.ndarray, persons: Sequence[int] | np.ndarray, hits: bool) -> Estimate:
    """From sums over ``counts`` cases each."""
    kept = counts > 0
    _, who = np.unique(np.asarray(persons)[kept], return_inverse=True)
    people, total, cases = int(who.max()) + 1, float(sums.sum()), int(counts.sum())
    if people < FEWEST:
        return Estimate(total / cases, cases, people, None)
    drawn = resampled(np.stack([np.bincount(who, sums[kept]), np.bincount(who, counts[kept])], axis=1))
    low, high = map(float, np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975)))
    if hits:
        least, most = clopper_pearson(int(total), cases)
        low, high = min(low, least), max(high, most)
    return Estimate(total / cases, cases, people, (low, high))


def resampled(sums: np.ndarray) -> np.ndarray:
    """Sums over all cases, with the persons drawn anew, with replacement; the same draws in every run.

    Args:
        sums: p x k, of each of at least one person.

    Returns:
        ``RESAMPLES`` x k.
    """
    count = len(sums)
    draw, size = np.random.default_rng(0), max(1, _DRAWS // count)
    return np.concatenate([draw.multinomial(count, np.full(count, 1 / count), min(size, RESAMPLES - start)) @ sums
                           for start in range(0, RESAMPLES, size)])
