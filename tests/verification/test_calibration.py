"""Calibration: known rates come back, unsupported ones are refused, and the JSON is read strictly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from camouflage.errors import CamouflageError
from camouflage.verification.calibration import (
    RATES,
    Calibration,
    measure,
    pairs_for,
    supported,
)
from camouflage.verification.error_rates import (
    FEWEST_PERSONS,
    UNKNOWN,
    ErrorRate,
    Pairs,
    det_points,
    pair_distances,
)
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import ADVICE, Threshold, held_to
from pairs import pairs_of

INFO = ModelInfo("test ResNet", "1.0", "CC0-1.0", ("0" * 64, "ab" * 32))
DLIB = ModelInfo("dlib ResNet", "1.0", "CC0-1.0", ("0" * 64,))
D, SPREAD = 8, 0.35  # dimensions of the synthetic embeddings, deviation of one person's photos; that of persons is 1


class Euclidean:
    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=-1)


def true_far(threshold: float) -> float:
    """Two strangers differ by a Gaussian of variance 2 (1 + SPREAD²) in every dimension."""
    return float(chi2.cdf(threshold**2 / (2 * (1 + SPREAD**2)), D))


def true_frr(threshold: float) -> float:
    return float(chi2.sf(threshold**2 / (2 * SPREAD**2), D))


def independent_pairs(seed: int, genuine: int = 2000, impostor: int = 30000) -> tuple[np.ndarray, np.ndarray]:
    """Distances of embeddings, each of which is in one pair only."""
    rng = np.random.default_rng(seed)
    person, one, other = rng.normal(size=(genuine, D)), rng.normal(size=(genuine, D)), rng.normal(size=(genuine, D))
    strangers = rng.normal(size=(2, impostor, D)) + SPREAD * rng.normal(size=(2, impostor, D))
    return (np.linalg.norm((person + SPREAD * one) - (person + SPREAD * other), axis=1),
            np.linalg.norm(strangers[0] - strangers[1], axis=1))


def calibrated(genuine: Any, impostor: Any, persons: int = 10, photos: int = 10**5,
               recogniser: ModelInfo = INFO) -> Calibration:
    return measure(pairs_of(genuine, impostor, persons), recogniser=recogniser, metric="Euclidean", persons=persons,
                   photos=photos)


def counts(rate: ErrorRate | None) -> tuple[int, int]:
    assert rate is not None
    return rate.count, rate.total


def collection(seed: int, persons: int, photos: int) -> Pairs:
    """All pairs of photos of drawn persons: a person who is near many is near in all of their photos."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(persons, 1, D)) + SPREAD * rng.normal(size=(persons, photos, D))
    return pair_distances(Euclidean(), embeddings.reshape(-1, D).astype(np.float32),
                          np.repeat(np.arange(persons), photos).tolist())


# --- known rates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("persons", "photos", "rates"), [
    (12, 7, 2), (6, 7, 1), (10, 7, 2), (20, 7, 3), (40, 4, 3), (12, 20, 2)])
def test_known_rates_come_back_within_the_stated_intervals(persons, photos, rates):
    """Of 100 collections; a bootstrap of few persons holds in a little less than the 95 that it says."""
    held = np.zeros((2, rates))
    for seed in range(100):
        pairs = collection(seed, persons, photos)
        made = measure(pairs, recogniser=INFO, metric="Euclidean", persons=persons, photos=persons * photos)
        for i, point in enumerate(made.points[:rates]):
            for kind, rate, truth in ((0, point.false_accepts, true_far), (1, point.false_rejects, true_frr)):
                assert rate is not None and rate.interval != UNKNOWN
                low, high = rate.interval
                held[kind, i] += low <= truth(point.threshold) <= high
                assert low <= rate.value <= high
    assert (held >= 85).all(), held
    assert held.mean() >= 90, held


def test_too_few_persons_give_no_interval_whatever_their_photos():
    for rate, fewest in FEWEST_PERSONS.items():
        for persons in (fewest - 1, fewest):
            impostor = np.linspace(0.5, 1.5, 40_000, dtype=np.float32)
            found = pairs_of([0.3], impostor, persons).errors_at(float(impostor[round(rate * 40_000) - 1]))[0]
            assert counts(found) == (round(rate * 40_000), 40_000)
            assert (found.interval == UNKNOWN) == (persons < fewest), (rate, persons)
            assert str(found).endswith("[too few persons]") == (persons < fewest)


def test_a_person_who_resembles_everybody_widens_the_interval():
    """The same number of accepted pairs: here spread over all persons, there all of one person's."""
    one, other = np.triu_indices(30, 1)
    pairs = len(one)
    alike = np.where(one == 0, 0.1, 1.0).astype(np.float32)
    spread = np.random.default_rng(0).permutation(alike)
    narrow, wide = (Pairs(np.zeros(0), np.zeros(0, int), distances, np.stack([one, other])).errors_at(0.5)[0]
                    for distances in (spread, alike))
    assert counts(narrow) == counts(wide) == (29, pairs)
    assert wide.interval[0] == 0 and wide.interval[1] > 0.15, "in a third of all collections that person is missing"
    assert narrow.interval[0] > 0.03 and narrow.interval[1] < 0.12
    again = Pairs(np.zeros(0), np.zeros(0, int), alike, np.stack([one, other])).errors_at(0.5)[0]
    assert again == wide, "seeded"


@pytest.mark.parametrize("rate", RATES[:3])
def test_the_threshold_is_the_quantile_of_the_strangers(rate):
    _, impostor = independent_pairs(3, impostor=300_000)
    threshold = calibrated([], impostor).threshold(rate)
    assert true_far(threshold.distance) == pytest.approx(rate, rel=0.15)
    assert threshold == Threshold(threshold.distance, "test ResNet", rate, "calibrated: 10 persons, 300000 pairs",
                                  INFO.sha256)


def test_all_pairs_of_a_collection_are_compared():
    embeddings = np.array([[0, 0], [3, 4], [0, 1], [0, 2]], np.float32)
    pairs = pair_distances(Euclidean(), embeddings, [7, 7, 2, 2])
    assert pairs.genuine.tolist() == [5.0, 1.0] and pairs.genuine_of.tolist() == [1, 0]
    assert pairs.impostor == pytest.approx([1, 2, 18**0.5, 13**0.5])
    assert pairs.impostor_of.tolist() == [[1] * 4, [0] * 4]
    nothing = pair_distances(Euclidean(), np.zeros((0, 2), np.float32), [])
    assert (len(nothing.genuine), len(nothing.impostor)) == (0, 0)


def test_the_det_curve_has_every_distinct_distance_once():
    thresholds, far, frr = det_points(pairs_of([1, 2, 2, 3], [2, 4, 4, 5]))
    assert thresholds.tolist() == [1, 2, 3, 4, 5]
    assert far.tolist() == [0, 0.25, 0.25, 0.75, 1]
    assert frr.tolist() == [0.75, 0.25, 0, 0, 0]
    with pytest.raises(CamouflageError, match="of one person and of different persons, but got 0 and 2"):
        det_points(pairs_of([], np.ones(2)))


# --- thresholds and ties ----------------------------------------------------------------------------------------


def test_the_threshold_is_the_largest_that_keeps_the_rate():
    impostor = np.arange(1, 301, dtype=np.float32)  # 300 pairs: 30 at FAR 0.1, 3 at 0.01
    tenth, hundredth = calibrated([30, 31, 31, 1], impostor).points
    assert tenth.threshold == np.nextafter(np.float32(31), np.float32(0)) and counts(tenth.false_accepts) == (30, 300)
    assert hundredth.threshold == np.nextafter(np.float32(4), np.float32(0))
    assert [counts(point.false_rejects) for point in (tenth, hundredth)] == [(2, 4), (3, 4)]


def test_equal_counts_as_the_same_person():
    accepts, rejects = pairs_of([0.4, 0.5, 0.75], [0.5, 0.75]).errors_at(0.5)
    assert (counts(accepts), counts(rejects)) == ((1, 2), (1, 3))


def test_of_tied_pairs_all_are_accepted_or_none():
    def strangers(*, below: int, tied: int) -> np.ndarray:
        return np.repeat(np.float32([0.25, 0.5, 1.0]), [below, tied, 300 - below - tied])

    point, _ = calibrated([], strangers(below=10, tied=20)).points
    assert point.threshold > 0.5 and counts(point.false_accepts) == (30, 300), "all 30 are within the rate"
    point, _ = calibrated([], strangers(below=10, tied=21)).points
    assert 0.49 < point.threshold < 0.5 and counts(point.false_accepts) == (10, 300), "all 31 would be too many"


def test_strangers_at_distance_0_leave_no_threshold():
    with pytest.raises(CamouflageError, match=r"0\.01 no threshold is left: 4 pairs .* Is a person in two folders"):
        calibrated([], [0.0] * 4 + [1.0] * 296)


# --- how far it goes --------------------------------------------------------------------------------------------


def test_a_rate_takes_three_pairs_divided_by_it():
    assert [pairs_for(rate) for rate in RATES] == [30, 300, 3000, 30000]
    for i, rate in enumerate(RATES):
        assert supported(pairs_for(rate)) == RATES[:i + 1] and supported(pairs_for(rate) - 1) == RATES[:i]
        assert (1 - rate) ** pairs_for(rate) < 0.05 < (1 - rate) ** (2.8 / rate), "95 % sure, and not with fewer"


def test_a_rate_that_the_pairs_do_not_support_is_refused():
    calibration = calibrated([0.1], np.linspace(0.5, 1, 29999))
    assert calibration.lowest_rate == 0.001 and calibration.threshold(0.001).false_accept_rate == 0.001
    with pytest.raises(CamouflageError, match=r"of 0\.0001: that takes 30000 pairs .* it has 29999\. Choose 0\.001"):
        calibration.threshold(0.0001)
    with pytest.raises(CamouflageError, match=r"knows the false-accept rates 0\.1, .* asked for 0\.05"):
        calibration.threshold(0.05)


def test_too_little_data_is_refused():
    with pytest.raises(CamouflageError, match="at least 2 persons, but got 1"):
        calibrated([0.3], [], persons=1)
    with pytest.raises(CamouflageError, match=r"29 pairs of different persons; .* Even 0\.1 takes 30"):
        calibrated([0.3], [0.7] * 29)
    for bad in (float("nan"), -0.1, float("inf")):
        with pytest.raises(CamouflageError, match="genuine distances must be numbers from 0"):
            calibrated([bad], [0.7] * 30)


def test_without_pairs_of_one_person_no_false_reject_rate_is_stated():
    (point,) = calibrated([], np.linspace(0.5, 1, 30)).points
    assert point.false_rejects is None and point.to_json()["false_rejects"] is None


@pytest.mark.parametrize(("count", "total", "low", "high"), [
    (0, 20, 0.0, 0.1684), (20, 20, 0.8316, 1.0), (10, 100, 0.0490, 0.1762), (1, 10, 0.0025, 0.4450)])  # tables
def test_intervals_are_nowhere_narrower_than_clopper_pearsons(count, total, low, high):
    _, rejects = pairs_of([1.0] * count + [0.0] * (total - count), [1.0], total).errors_at(0.5)
    assert counts(rejects) == (count, total)
    assert rejects.interval[0] <= low + 5e-5 and rejects.interval[1] >= high - 5e-5
    if count in (0, total):
        assert rejects.interval == pytest.approx((low, high), abs=5e-5), "where the bootstrap sees no other result"


# --- what is taken where nobody chose a rate --------------------------------------------------------------------


def strangers(pairs: int, nearest: float, farthest: float) -> np.ndarray:
    return np.linspace(nearest, farthest, pairs, dtype=np.float32)


@pytest.mark.parametrize("pairs", [300, 3000, 30000])  # they support 0.01, 0.001 and 0.0001
def test_automatic_takes_one_in_a_hundred_also_where_lower_rates_are_supported(pairs):
    calibration = calibrated([0.3], strangers(pairs, 0.7, 1.7), recogniser=DLIB)
    chosen = calibration.automatic()
    assert chosen == calibration.threshold(0.01) and chosen.false_accept_rate == 0.01
    assert chosen.distance == pytest.approx(0.71, abs=5e-4)
    assert (chosen.source, chosen.advised) == (f"calibrated: 10 persons, {pairs} pairs", 0.6)


def test_automatic_takes_the_stricter_rate_where_the_pairs_support_no_other():
    chosen = calibrated([0.3], strangers(299, 0.7, 1.7), recogniser=DLIB).automatic()
    assert chosen.false_accept_rate == 0.1 and chosen.distance == pytest.approx(0.797, abs=1e-3)
    assert str(chosen) == ("0.797 (false-accept rate 0.1; calibrated: 10 persons, 299 pairs, too few for the rate "
                           "0.01)")


@pytest.mark.parametrize(("pairs", "rate", "measured"), [(300, "0.01", "0.410"), (299, "0.1", "0.497")])
def test_automatic_never_goes_below_the_advice_and_states_no_rate_for_it(pairs, rate, measured):
    chosen = calibrated([0.3], strangers(pairs, 0.4, 1.4), recogniser=DLIB).automatic()
    assert (chosen.distance, chosen.false_accept_rate, chosen.laxer) == (0.6, None, False)
    assert (chosen.recogniser, chosen.sha256) == (DLIB.name, DLIB.sha256), "other weights are still refused"
    assert str(chosen) == (
        f"0.600 (false-accept rate unknown: not measured at this distance; dlib's advice, for the calibrated distance "
        f"at the rate {rate} is below it: {measured}, 10 persons, {pairs} pairs)")
    assert held_to(chosen, ADVICE["dlib ResNet"], False) == chosen


def test_without_a_known_advice_the_measured_distance_stands():
    chosen = calibrated([0.1], strangers(300, 0.2, 0.5)).automatic()
    assert chosen.distance < 0.21 and chosen.false_accept_rate == 0.01
    assert chosen.advised == 0.0 and not chosen.laxer


def test_a_chosen_rate_below_the_advice_is_given_and_marked():
    calibration = calibrated([0.3], strangers(3000, 0.55, 1.05), recogniser=DLIB)
    assert [calibration.threshold(rate).laxer for rate in RATES[:3]] == [False, True, True]
    assert str(calibration.threshold(0.01)).endswith("3000 pairs); LAXER THAN ADVISED (0.600)")


def test_a_calibration_made_by_hand_lets_nothing_through_by_itself():
    data = json.loads(calibrated([0.3], strangers(3000, 0.7, 1.7), recogniser=DLIB).to_json())
    for point in data["points"]:
        point["threshold"] = 0.01
    made = Calibration.from_json(json.dumps(data))
    assert made.automatic().distance == 0.6
    for rate in RATES[:3]:
        with pytest.raises(CamouflageError, match=r"at least 0\.6 \(dlib's advice\), but got 0\.01 \(calibrated"):
            held_to(made.threshold(rate), ADVICE["dlib ResNet"], False)


# --- JSON -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrated(*independent_pairs(1, 50, 4000))


def test_the_json_gives_an_equal_calibration_back(calibration):
    text = calibration.to_json()
    assert Calibration.from_json(text) == calibration
    nobody = calibrated([], np.linspace(0.5, 1, 30))
    assert Calibration.from_json(nobody.to_json()) == nobody
    data = json.loads(text)
    assert (data["format"], data["version"], data["lowest_rate"]) == ("camouflage-calibration", 1, 0.001)
    assert data["recogniser"] == INFO.to_json() and data["pairs"] == {"same_person": 50, "different_persons": 4000}
    assert len(text) < 4000, "rates and counts only: nothing for each photo"


def test_the_intervals_of_earlier_versions_are_read_as_they_are(calibration):
    data = json.loads(calibration.to_json())
    data["points"][0]["false_accepts"]["interval_95"] = [0.0908, 0.1097]
    assert Calibration.from_json(json.dumps(data)).points[0].false_accepts.interval == (0.0908, 0.1097)


HOSTILE = {
    "format": ("camouflage-faces", "must have format 'camouflage-calibration'"),
    "version": (True, "version 1"),
    "recogniser": ([], "recogniser must be an object"),
    "recogniser.name": ("a\nb", r"recogniser\.name must be 1 to 200 printable"),
    "recogniser.sha256.0": ("zz", r"recogniser\.sha256\[0\] must be 64 hex"),
    "metric": (1, "metric must be 1 to 200"),
    "persons": (1, "at least 2 persons, but got 1"),
    "photos": (5, r"photos must be a whole number from 10 to"),
    "pairs.same_person": (51, r"points\[0\]\.false_rejects must be of 51"),
    "pairs.different_persons": (30000, "points must have the rates that 30000 pairs"),
    "lowest_rate": (0.0001, "lowest_rate must be 0.001"),
    "points": ({}, "points must be a list"),
    "points.0": (None, r"points\[0\] must be an object"),
    "points.1.threshold": (-1, r"points\[1\]\.threshold must be a number from 0"),
    "points.2.threshold": (0, r"points\[2\]\.threshold must be a distance above 0"),
    "points.2.threshold ": (99.5, r"points\[2\]\.threshold must be at most"),
    "points.1.false_accept_rate": (0.02, r"points must have the rates"),
    "points.0.false_accepts.count": (1.0, r"points\[0\]\.false_accepts\.count must be a whole number"),
    "points.0.false_accepts.share": (0.5, r"points\[0\]\.false_accepts does not agree"),
    "points.0.false_rejects.interval_95": ([0.9, 1], r"points\[0\]\.false_rejects does not agree"),
    "points.1.false_rejects.interval_95": ([0, 0.5, 1], r"interval_95 must have 2 entries"),
    "points.0.false_rejects": (None, r"points\[0\]\.false_rejects must be of 50 pairs, but got 0"),
    "points.0.false_accepts": (ErrorRate(401, 4000).to_json(), r"must be at most 0\.1 of 4000 pairs, but got 401"),
}


@pytest.mark.parametrize("place", HOSTILE)
def test_hostile_json_is_refused_by_place(place, calibration):
    value, words = HOSTILE[place]
    data = json.loads(calibration.to_json())
    *parents, last = (int(key) if key.isdigit() else key for key in place.strip().split("."))
    target = data
    for key in parents:
        target = target[key]
    target[last] = value
    with pytest.raises(CamouflageError, match=words) as told:
        Calibration.from_json(json.dumps(data))
    assert str(told.value).startswith("The calibration JSON")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 5000, '{"format": NaN}', " " * (2**20 + 1), None, b"{}"])
def test_what_is_no_calibration_is_refused(text):
    with pytest.raises(CamouflageError, match="^The calibration JSON"):
        Calibration.from_json(text)
