"""Are the attributes of faces kept? Balanced accuracy of the reading after against the reading before.

Balanced accuracy is the mean of two shares: of the faces that had an attribute, those that have it still, and of the
faces that had it not, those that still have it not. Chance is 0.5, however rare the attribute is. "Had" means what a
network reads in the original with a probability of 0.5 or more: it is no truth, and a network that also steered the
method flatters it, so :func:`agreement` wants to be called again with the readings of a second one.

**Intervals** (95 %) are percentiles of a bootstrap over persons, see :mod:`.estimates`; resamples that have no face of
one of the two kinds say nothing of the attribute. As a bootstrap knows no error that it never saw, they are at least as
wide as those for as many independent faces: Clopper and Pearson's intervals of all shares, joined by their squares
(Zou and Donner, 2008, "Construction of confidence limits about effect measures", the interval of a sum).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..method.attributes import DEMOGRAPHICS, EXPRESSION, STAND_INS
from ..method.faces import ATTRIBUTES
from ..verification.error_rates import clopper_pearson
from .estimates import FEWEST, resampled
from .plain import by_person, missing

THERE = 0.5
"""Probability from which on an attribute counts as there, as in :meth:`..method.faces.Face.leading`."""
GROUPS = {"demographics": DEMOGRAPHICS, "stand-ins": STAND_INS, "expression": EXPRESSION,
          "other": frozenset(ATTRIBUTES) - DEMOGRAPHICS - STAND_INS - EXPRESSION, "all": frozenset(ATTRIBUTES)}
"""Those of :mod:`..method.attributes`, what is left, and all. A group's value is the mean of its attributes' values."""


@dataclass(frozen=True, eq=False)
class _Counts:
    """Faces of each person: that had an attribute, and have it still; that had it not, and still have it not.

    Each p x 40, float64.
    """

    on: np.ndarray
    kept_on: np.ndarray
    off: np.ndarray
    kept_off: np.ndarray

    def total(self) -> _Counts:
        return self._each(lambda counts: counts.sum(axis=0, keepdims=True))

    def drawn(self) -> _Counts:
        return self._each(resampled)

    def _each(self, change: Any) -> _Counts:
        return _Counts(*(change(counts) for counts in (self.on, self.kept_on, self.off, self.kept_off)))

    def balanced(self) -> np.ndarray:
        """Balanced accuracy by row and attribute; no number where one of the kinds has no face."""
        with np.errstate(invalid="ignore"):
            return (self.kept_on / self.on + self.kept_off / self.off) / 2


def agreement(before: np.ndarray, after: np.ndarray, persons: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """Balanced accuracy of all attributes, as plain data.

    Args:
        before, after: n x 40 probabilities of the originals' faces and of the same faces anonymized, in the order of
            ``ATTRIBUTES``; NaN where nothing was read, which is left out and counted.
        persons: n numbers, whose face it is.

    Returns:
        ``by_attribute`` and ``by_group`` (of ``GROUPS``): name -> value, interval_95, cases, persons, left_out, ``why``
        where there is no value; an attribute has its counts (on, kept_on, off, kept_off) besides, a group the number
        of its attributes that have a value. An interval takes ``FEWEST`` persons of each kind.

    Raises:
        CamouflageError: other shapes, or numbers that are no probabilities.
    """
    was, now, known = _readings(before, after, persons)
    counts = _Counts(*(by_person(known & kind, persons) for kind in (was, was & now, ~was, ~was & ~now)))
    total, drawn = counts.total(), counts.drawn().balanced() if len(was) else np.zeros((0, len(ATTRIBUTES)))
    found: dict[str, Any] = {"by_attribute": {}, "by_group": {}}
    for index, name in enumerate(ATTRIBUTES):
        one = _statement(counts, drawn, [index], known)
        for kind in ("on", "kept_on", "off", "kept_off"):
            one[kind] = int(getattr(total, kind)[0, index])
        found["by_attribute"][name] = one
    for name, group in GROUPS.items():
        columns = [index for index, attribute in enumerate(ATTRIBUTES) if attribute in group]
        found["by_group"][name] = {**_statement(counts, drawn, columns, known), "attributes": sum(
            found["by_attribute"][ATTRIBUTES[index]]["value"] is not None for index in columns)}
    return found


def _readings(before: np.ndarray, after: np.ndarray,
              persons: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was there, what is there now, and where both are known; each n x 40."""
    values = [np.asarray(part, np.float64) for part in (before, after)]
    wanted = (len(np.asarray(persons)), len(ATTRIBUTES))
    for part, name in zip(values, ("before", "after"), strict=True):
        if part.shape != wanted:
            raise CamouflageError(f"The attributes {name} must be {wanted[0]} x {wanted[1]} probabilities, one row for "
                                  f"each face with a person, but got {' x '.join(map(str, part.shape))}.")
        if not np.all(np.isnan(part) | ((part >= 0) & (part <= 1))):
            raise CamouflageError(f"The attributes {name} must be probabilities from 0 to 1, but some are not.")
    return values[0] >= THERE, values[1] >= THERE, np.isfinite(values[0]) & np.isfinite(values[1])


def _statement(counts: _Counts, drawn: np.ndarray, columns: Sequence[int], known: np.ndarray) -> dict[str, Any]:
    """The mean of these attributes' balanced accuracies."""
    total = counts.total()
    on, off = total.on[0], total.off[0]
    cases = int(np.count_nonzero(known[:, columns].any(axis=1)))
    there = counts.on + counts.off > 0
    persons = int(np.count_nonzero(there[:, columns].any(axis=1)))
    used = [index for index in columns if on[index] and off[index]]
    if not used:
        return {**missing(_why(float(on[columns].sum()), float(off[columns].sum()), len(columns))), "cases": cases,
                "persons": persons, "left_out": len(known) - cases}
    value = float(total.balanced()[0, used].mean())
    fewest = min(int(np.count_nonzero(kind[:, used].any(axis=1))) for kind in (counts.on, counts.off))
    interval = None
    if fewest >= FEWEST:
        low, high = _bounds(drawn[:, used])
        least, most = _independent(total, used)
        interval = [max(0.0, min(low, value - least)), min(1.0, max(high, value + most))]
    return {"value": value, "cases": cases, "persons": persons, "interval_95": interval,
            "left_out": len(known) - cases}


def _why(on: float, off: float, attributes: int) -> str:
    if not on and not off:
        return "no face was read both before and after"
    if attributes > 1:
        return "every attribute of the group was there in all originals or in none"
    return f"it was there in {'all' if on else 'none'} of the originals' faces"


def _bounds(drawn: np.ndarray) -> tuple[float, float]:
    """Percentiles of the mean over attributes; an attribute is left out of a resample that says nothing of it."""
    known = np.isfinite(drawn)
    there = known.any(axis=1)
    means = np.where(known, drawn, 0).sum(axis=1)[there] / known.sum(axis=1)[there]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _independent(total: _Counts, used: Sequence[int]) -> tuple[float, float]:
    """How far the interval for independent faces reaches below and above the value."""
    below = above = 0.0
    for kept, all_of in ((total.kept_on[0], total.on[0]), (total.kept_off[0], total.off[0])):
        for index in used:
            share = kept[index] / all_of[index]
            low, high = clopper_pearson(int(kept[index]), int(all_of[index]))
            below, above = below + (share - low) ** 2, above + (high - share) ** 2
    return float(below ** 0.5 / (2 * len(used))), float(above ** 0.5 / (2 * len(used)))
