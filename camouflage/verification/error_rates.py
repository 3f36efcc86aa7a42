"""Error rates of a recogniser at a threshold, from pairs of photos, with 95 % intervals (our choice).

**Two kinds of pairs.** Genuine ones are of photos of one person, impostor ones of photos of different persons. The
false-accept rate (FAR) is the rate of impostor pairs at or below the threshold, the false-reject rate (FRR) that of
genuine pairs above it.

**The intervals** are percentiles of a bootstrap over persons. The pairs of a collection are not independent: they
share photos and persons, and a person who resembles many spoils many pairs at once. So persons are drawn anew, with
replacement, 2,000 times; a pair counts as often as its persons were drawn (a genuine one w, an impostor one w * w'),
and two copies of one person make no pair. As a bootstrap knows no error that it never saw, the interval is widened,
where it is narrower, to Clopper and Pearson's for as many independent pairs. It does not hold for few persons: where
they are fewer than ``FEWEST_PERSONS`` of a rate, none is stated.

Simulated (8 dimensions, photos of one person with 0.35 of the spread of persons, 100 collections each; all of it stands
in the tests): of 12 persons with 7 photos each the interval held the true FAR in 93 collections at 0.1 and in 90 at
0.01, and the true FRR in 93 or more; of 20 persons in 91 or more down to a FAR of 0.001. Clopper and Pearson's interval
alone held the FAR at 0.1 in 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..validation import whole
from .recognition import Recogniser

MAX_COUNT = 10**12
MAX_DISTANCE = 1e6
FEWEST_PERSONS = {0.1: 6, 0.01: 10, 0.001: 20, 0.0001: 40}
"""FAR -> how many persons it takes to state an interval for it; the last is not simulated but extrapolated. An interval
of the FRR, whatever it is, takes as many as the first."""
RESAMPLES = 2000
UNKNOWN = (0.0, 1.0)
"""The interval where none can be stated."""


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """So many pairs of so many.

    Attributes:
        count: pairs that were decided wrongly, 0..total.
        total: all pairs, at least 1.
        interval: 95 %, lower and upper end, 0..1; ``UNKNOWN`` where there were too few persons.
    """

    count: int
    total: int
    interval: tuple[float, float] = UNKNOWN

    def __post_init__(self) -> None:
        whole(self.total, 1, MAX_COUNT, "total")
        whole(self.count, 0, self.total, "count")

    @property
    def value(self) -> float:
        """0..1."""
        return self.count / self.total

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2g} [{f'{low:.2g}, {high:.2g}' if self.interval != UNKNOWN else 'too few persons'}]"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"count": self.count, "total": self.total, "share": self.value, "interval_95": list(self.interval)}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distances of pairs of photos.

    Attributes:
        genuine: n distances of pairs of photos of one person; there may be none.
        genuine_of: n numbers of that person, from 0.
        impostor: m distances of pairs of photos of different persons.
        impostor_of: 2 x m numbers of these persons.
    """

    genuine: np.ndarray
    genuine_of: np.ndarray
    impostor: np.ndarray
    impostor_of: np.ndarray

    @cached_property
    def _persons(self) -> int:
        return 1 + max((int(of.max()) for of in (self.genuine_of, self.impostor_of) if of.size), default=-1)

    @cached_property
    def _drawn(self) -> np.ndarray:
        """How often each resample has each person, ``RESAMPLES`` x persons; the same in every run."""
        share = np.full(self._persons, 1 / max(self._persons, 1))
        return np.random.default_rng(0).multinomial(self._persons, share, RESAMPLES).astype(np.float32)

    @cached_property
    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        return self._genuine_pairs(slice(None)), self._impostor_pairs(slice(None))

    def _genuine_pairs(self, which: Any) -> np.ndarray:
        """How many of these pairs each resample has."""
        return self._drawn @ np.bincount(self.genuine_of[which], minlength=self._persons).astype(np.float32)

    def _impostor_pairs(self, which: Any) -> np.ndarray:
        one, other = self.impostor_of[:, which].astype(np.int64)
        counts = np.bincount(one * self._persons + other, minlength=self._persons**2).astype(np.float32)
        return ((self._drawn @ counts.reshape(self._persons, -1)) * self._drawn).sum(axis=1, dtype=np.float64)

    def errors_at(self, threshold: float) -> tuple[ErrorRate, ErrorRate | None]:
        """False accepts and false rejects of a threshold; None where there is no genuine pair."""
        accepted = np.asarray(self.impostor, np.float32) <= threshold
        rejected = np.asarray(self.genuine, np.float32) > threshold
        genuine, impostor = self._totals
        far = np.count_nonzero(accepted) / len(accepted)
        fewest = next((fewest for rate, fewest in FEWEST_PERSONS.items() if far > rate / 2),
                      max(FEWEST_PERSONS.values()))
        accepts = _rate(accepted, self._impostor_pairs(accepted), impostor, self._persons >= fewest)
        if not len(rejected):
            return accepts, None
        enough = len(np.unique(self.genuine_of)) >= min(FEWEST_PERSONS.values())
        return accepts, _rate(rejected, self._genuine_pairs(rejected), genuine, enough)


def _rate(wrong: np.ndarray, resampled: np.ndarray, totals: np.ndarray, enough: bool) -> ErrorRate:
    """An error rate, and where there are enough persons its interval, from each resample's wrong pairs, and all."""
    count, total = int(np.count_nonzero(wrong)), len(wrong)
    if not enough:
        return ErrorRate(count, total)
    there = totals > 0
    low, high = np.quantile(resampled[there] / totals[there], (0.025, 0.975))
    least, most = clopper_pearson(count, total)
    return ErrorRate(count, total, (float(min(low, least)), float(max(high, most))))


def clopper_pearson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson for ``count`` of ``total`` independent cases, at least 1; 0..1."""
    from scipy.stats import beta

    least = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    most = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return float(least), float(most)


def pair_distances(recogniser: Recogniser, embeddings: np.ndarray, persons: Sequence[int]) -> Pairs:
    """All pairs of photos.

    Args:
        recogniser: that made the embeddings.
        embeddings: n x d, one for each photo.
        persons: n numbers; equal for photos of one person.
    """
    _, who = np.unique(np.asarray(persons, int), return_inverse=True)
    rows = [recogniser.distances(embeddings[i:i + 1], embeddings[i + 1:])[0] for i in range(len(who) - 1)]
    distances = np.concatenate([*rows, np.zeros(0, np.float32)])
    one, other = (who[index].astype(np.int32) for index in np.triu_indices(len(who), 1))
    same = one == other
    return Pairs(distances[same], one[same], distances[~same], np.stack([one[~same], other[~same]]))


def det_points(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The curve of detection error trade-off: thresholds, FAR and FRR at every distinct distance, rising.

    Raises:
        CamouflageError: there are no pairs of one of the kinds, or distances that are none.
    """
    genuine, impostor = ordered(pairs.genuine, "genuine"), ordered(pairs.impostor, "impostor")
    if not len(genuine) or not len(impostor):
        raise CamouflageError(f"A DET curve needs pairs of one person and of different persons, but got "
                              f"{len(genuine)} and {len(impostor)}.")
    return trade_off(genuine, impostor)


def trade_off(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds, FAR and FRR at every distinct distance, rising, of two sets of rising distances, neither empty."""
    thresholds = np.unique(np.concatenate([genuine, impostor]))
    return (thresholds, np.searchsorted(impostor, thresholds, "right") / len(impostor),
            1 - np.searchsorted(genuine, thresholds, "right") / len(genuine))


def ordered(distances: np.ndarray, name: str) -> np.ndarray:
    """Distances, float32, rising; a CamouflageError where some are none."""
    values = np.sort(np.asarray(distances, np.float32).ravel())
    if not np.all((values >= 0) & (values <= MAX_DISTANCE)):
        raise CamouflageError(f"The {name} distances must be numbers from 0 to {MAX_DISTANCE:g}, but some are "
                              "negative, larger or no number.")
    return values
