"""Calibration: from which distance on a recogniser calls two strangers one person, and how often it is wrong.

A threshold trades two errors. The false-accept rate (FAR) is the share of pairs of different persons at or below it:
strangers who count as the same person. The false-reject rate (FRR) is the share of pairs of photos of one person
above it: the same person who counts as a stranger. For anonymization a false reject is the dangerous one, and a low
FAR is bought with more of them.

**How far a number of pairs reaches.** A rate is stated only if the pairs can support it, by the rule of three: where
none of n pairs is accepted, the 95 % upper bound of the rate is about 3/n. So FAR f takes n >= 3/f pairs of different
persons.

**How certain a rate is.** The rule holds for independent pairs, and those of a collection are not. So every rate has a
95 % interval from a bootstrap over persons, see :mod:`.error_rates`; with too few persons none is stated ([0, 1] in
the file). More photos of the same persons do not help; more persons do. All of it holds for people and photos like
those of the collection only: a recogniser that saw few people of some group confuses them more often. Files of earlier
versions have Clopper and Pearson's intervals over pairs under the same keys. They are far too narrow, and are read as
they are, for nothing is decided by them.

**Which rate.** The higher FAR has the larger threshold and is the stricter setting. :meth:`Calibration.automatic`
takes 0.01, and never less than the distance that the recogniser's publishers advise.

Rates, rule and file layout are our choice; the paper measures re-identification otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..validation import number, read_json, record, sequence, show, whole
from .error_rates import MAX_COUNT, MAX_DISTANCE, ErrorRate, Pairs, ordered
from .model_info import ModelInfo
from .recognition import ADVICE, Threshold

JSON_FORMAT, JSON_VERSION = "camouflage-calibration", 1
MAX_JSON = 2**20  # characters
RATES = (0.1, 0.01, 0.001, 0.0001)
"""The false-accept rates that are looked at."""
AUTOMATIC_RATE = 0.01
"""The highest false-accept rate that :meth:`Calibration.automatic` takes by itself (our choice)."""
_MODEL, _ERROR_RATE = ("name", "version", "licence", "sha256"), ("count", "total", "share", "interval_95")
_POINT = ("false_accept_rate", "threshold", "false_accepts", "false_rejects")
_PAIRS = ("same_person", "different_persons")
_KEYS = ("format", "version", "recogniser", "metric", "persons", "photos", "pairs", "lowest_rate", "points")


def pairs_for(rate: float) -> int:
    """Pairs of different persons that a false-accept rate of ``RATES`` takes: 3 / rate, the rule of three."""
    return 3 * round(1 / rate)


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold and what it does.

    Attributes:
        false_accept_rate: that was asked for, of ``RATES``.
        threshold: distance, above 0; equal counts as the same person.
        false_accepts: pairs of different persons at or below the threshold.
        false_rejects: pairs of one person above it; None where there is no such pair.
    """

    false_accept_rate: float
    threshold: float
    false_accepts: ErrorRate
    false_rejects: ErrorRate | None

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"false_accept_rate": self.false_accept_rate, "threshold": self.threshold,
                "false_accepts": self.false_accepts.to_json(),
                "false_rejects": None if self.false_rejects is None else self.false_rejects.to_json()}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds of a recogniser at false-accept rates that were measured. Checked at construction.

    Attributes:
        recogniser: whose distances these are.
        metric: name of the distance.
        persons: that were compared, at least 2.
        photos: of them together.
        genuine: pairs of photos of one person.
        impostor: pairs of photos of different persons.
        points: one for each rate of ``RATES`` that ``impostor`` supports, falling; at least one.

    Raises:
        CamouflageError: too little data, or numbers that contradict each other.
    """

    recogniser: ModelInfo
    metric: str
    persons: int
    photos: int
    genuine: int
    impostor: int
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        _text(self.metric, "metric")
        if whole(self.persons, 0, MAX_COUNT, "persons") < 2:
            raise CamouflageError(f"A calibration needs photos of at least 2 persons, but got {self.persons}. Add "
                                  "persons.")
        whole(self.photos, self.persons, MAX_COUNT, "photos")
        most = self.photos * (self.photos - 1) // 2
        whole(self.genuine, 0, most, "pairs.same_person")
        whole(self.impostor, 0, most - self.genuine, "pairs.different_persons")
        rates = supported(self.impostor)
        if not rates:
            raise CamouflageError(f"There are {self.impostor} pairs of different persons; they support no "
                                  f"false-accept rate. Even {RATES[0]:g} takes {pairs_for(RATES[0])}. Add persons, or "
                                  "photos of them.")
        if tuple(point.false_accept_rate for point in self.points) != rates:
            raise CamouflageError(f"points must have the rates that {self.impostor} pairs of different persons "
                                  f"support, {', '.join(f'{rate:g}' for rate in rates)}, but got "
                                  f"{show([point.false_accept_rate for point in self.points])}.")
        highest = MAX_DISTANCE
        for i, point in enumerate(self.points):
            where, accepts, rejects = f"points[{i}]", point.false_accepts, point.false_rejects
            if not number(point.threshold, 0.0, MAX_DISTANCE, f"{where}.threshold") > 0.0:
                raise CamouflageError(f"{where}.threshold must be a distance above 0, but got {point.threshold}.")
            if point.threshold > highest:
                raise CamouflageError(f"{where}.threshold must be at most {highest}, that of the higher rate before "
                                      f"it, but got {point.threshold}.")
            highest = point.threshold
            if accepts.total != self.impostor or accepts.count * round(1 / point.false_accept_rate) > self.impostor:
                raise CamouflageError(f"{where}.false_accepts must be at most {point.false_accept_rate:g} of "
                                      f"{self.impostor} pairs, but got {accepts.count} of {accepts.total}.")
            if (rejects.total if rejects else 0) != self.genuine:
                raise CamouflageError(f"{where}.false_rejects must be of {self.genuine} pairs, but got "
                                      f"{rejects.total if rejects else 0}.")

    @property
    def lowest_rate(self) -> float:
        """The lowest false-accept rate that the pairs support."""
        return self.points[-1].false_accept_rate

    def threshold(self, rate: float) -> Threshold:
        """The threshold at a false-accept rate of ``RATES``, with the advice of the recogniser's publishers beside it.

        Raises:
            CamouflageError: not one of ``RATES``, or one that the pairs do not support.
        """
        if rate not in RATES:
            raise CamouflageError(f"A calibration knows the false-accept rates {', '.join(f'{r:g}' for r in RATES)}, "
                                  f"but was asked for {show(rate)}.")
        for point in self.points:
            if point.false_accept_rate == rate:
                advice = ADVICE.get(self.recogniser.name)
                return Threshold(point.threshold, self.recogniser.name, rate, f"calibrated: {self._data}",
                                 self.recogniser.sha256, advice.distance if advice else 0.0)
        raise CamouflageError(f"The calibration does not support a false-accept rate of {rate:g}: that takes "
                              f"{pairs_for(rate)} pairs of different persons, and it has {self.impostor}. Choose "
                              f"{self.lowest_rate:g} or more, or calibrate with more persons and photos.")

    def automatic(self) -> Threshold:
        """The threshold to take where nobody chose a rate.

        It is that of the highest supported rate up to ``AUTOMATIC_RATE``. Where the pairs support only higher rates,
        it is that of the lowest of these, which is stricter. Where the measured distance is below what the
        recogniser's publishers advise, it is the advice; its own rate was not measured, so none is stated.
        ``source`` says which of these it is.
        """
        rate = next((point.false_accept_rate for point in self.points if point.false_accept_rate <= AUTOMATIC_RATE),
                    self.lowest_rate)
        measured = self.threshold(rate)
        if measured.laxer:
            advice = ADVICE[self.recogniser.name]
            return replace(advice, sha256=self.recogniser.sha256, unknown="not measured at this distance",
                           source=f"{advice.source}, for the calibrated distance at the rate {rate:g} is below it: "
                                  f"{measured.distance:.3f}, {self._data}")
        if rate > AUTOMATIC_RATE:
            return replace(measured, source=f"{measured.source}, too few for the rate {AUTOMATIC_RATE:g}")
        return measured

    @property
    def _data(self) -> str:
        return f"{self.persons} persons, {self.impostor} pairs"

    def to_json(self) -> str:
        """As JSON, without names, pictures or embeddings; ``Calibration.from_json`` gives an equal one back."""
        return json.dumps({
            "format": JSON_FORMAT, "version": JSON_VERSION, "recogniser": self.recogniser.to_json(),
            "metric": self.metric, "persons": self.persons, "photos": self.photos,
            "pairs": {"same_person": self.genuine, "different_persons": self.impostor},
            "lowest_rate": self.lowest_rate, "points": [point.to_json() for point in self.points],
        }, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Reads :meth:`to_json`'s text; refuses whatever it would not have written.

        Raises:
            CamouflageError: malformed or hostile text, another version, missing or unknown keys, values of another
                type or range, numbers that contradict each other. The message names the place.
        """
        what = "The calibration JSON"
        data = record(read_json(text, what, MAX_JSON), _KEYS, what)
        if (data["format"], data["version"]) != (JSON_FORMAT, JSON_VERSION) or type(data["version"]) is not int:
            raise CamouflageError(f"{what} must have format {JSON_FORMAT!r}, version {JSON_VERSION}, but got "
                                  f"{show(data['format'])}, {show(data['version'])}.")
        try:
            pairs = record(data["pairs"], _PAIRS, "pairs")
            found = cls(_read_model(data["recogniser"]), data["metric"], data["persons"], data["photos"],
                        pairs["same_person"], pairs["different_persons"],
                        tuple(_read_point(point, f"points[{i}]")
                              for i, point in enumerate(sequence(data["points"], None, "points"))))
            if number(data["lowest_rate"], 0.0, 1.0, "lowest_rate") != found.lowest_rate:
                raise CamouflageError(f"lowest_rate must be {found.lowest_rate:g}, the rate of the last point, but got "
                                      f"{show(data['lowest_rate'])}.")
        except CamouflageError as error:
            raise CamouflageError(f"{what}: {error}") from None
        return found


def supported(impostor: int) -> tuple[float, ...]:
    """The rates of ``RATES`` that so many pairs of different persons support."""
    return tuple(rate for rate in RATES if impostor >= pairs_for(rate))


def threshold_at(impostor: np.ndarray, rate: float) -> float:
    """The threshold at a false-accept rate; 0 or below where none is left.

    The threshold at FAR f is the largest float32 such that the rate of impostor distances at or below it is at most
    f: with k = floor(f * n), the largest number below the (k+1)-th smallest impostor distance. Where distances tie
    there, none of the tied ones is accepted and the measured rate lies below f. The largest is the safe side: the
    larger the threshold, the less is called another person. (float32, the type of the embeddings, so that no later
    rounding moves a pair across.)

    Args:
        impostor: n distances of pairs of different persons, float32, rising; at least 1 / rate.
        rate: of ``RATES``.
    """
    return float(np.nextafter(impostor[len(impostor) // round(1 / rate)], np.float32(0)))


def measure(pairs: Pairs, *, recogniser: ModelInfo, metric: str, persons: int, photos: int) -> Calibration:
    """Thresholds and error rates from the distances of pairs.

    See :func:`threshold_at` for the thresholds.

    Args:
        pairs: of the collection; without genuine ones no false-reject rate is known.
        recogniser, metric: whose distances these are.
        persons, photos: how many were compared.

    Raises:
        CamouflageError: fewer than 2 persons, too few impostor pairs for any rate, distances that are none, or so
            many of 0 that no threshold is left.
    """
    genuine, impostor = ordered(pairs.genuine, "genuine"), ordered(pairs.impostor, "impostor")
    points = []
    for rate in supported(len(impostor)):
        threshold = threshold_at(impostor, rate)
        if not threshold > 0:
            raise CamouflageError(f"For a false-accept rate of {rate:g} no threshold is left: "
                                  f"{np.count_nonzero(impostor == 0)} pairs of different persons have the distance "
                                  "0. Is a person in two folders, or a photo in two places?")
        points.append(Point(rate, threshold, *pairs.errors_at(threshold)))
    return Calibration(recogniser, metric, persons, photos, len(genuine), len(impostor), tuple(points))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
        raise CamouflageError(f"{where} must be 1 to 200 printable characters, but got {show(value)}.")
    return value


def _read_model(value: object) -> ModelInfo:
    info = record(value, _MODEL, "recogniser")
    name, version, licence = (_text(info[key], f"recogniser.{key}") for key in ("name", "version", "licence"))
    digests = tuple(_text(digest, f"recogniser.sha256[{i}]")
                    for i, digest in enumerate(sequence(info["sha256"], None, "recogniser.sha256")))
    for i, digest in enumerate(digests):
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise CamouflageError(f"recogniser.sha256[{i}] must be 64 hexadecimal digits, but got {show(digest)}.")
    return ModelInfo(name, version, licence, digests)


def _read_point(value: object, where: str) -> Point:
    point = record(value, _POINT, where)
    rejects = point["false_rejects"]
    return Point(number(point["false_accept_rate"], 0.0, 1.0, f"{where}.false_accept_rate"),
                 number(point["threshold"], 0.0, MAX_DISTANCE, f"{where}.threshold"),
                 _read_rate(point["false_accepts"], f"{where}.false_accepts"),
                 None if rejects is None else _read_rate(rejects, f"{where}.false_rejects"))


def _read_rate(value: object, where: str) -> ErrorRate:
    """An error rate; share and interval must agree with its counts."""
    said = record(value, _ERROR_RATE, where)
    total = whole(said["total"], 1, MAX_COUNT, f"{where}.total")
    total = whole(said["total"], 1, MAX_COUNT, f"{where}.total")
    low, high = (number(end, 0.0, 1.0, f"{where}.interval_95[{i}]")
                 for i, end in enumerate(sequence(said["interval_95"], 2, f"{where}.interval_95")))
    rate = ErrorRate(whole(said["count"], 0, total, f"{where}.count"), total, (low, high))
    share = number(said["share"], 0.0, 1.0, f"{where}.share")
    if not (np.isclose(share, rate.value, rtol=1e-6, atol=1e-12) and low - 1e-6 <= share <= high + 1e-6):
        raise CamouflageError(f"{where} does not agree with itself: {rate.count} of {rate.total} is {share:g} in "
                              f"[{low:g}, {high:g}].")
    return rate
