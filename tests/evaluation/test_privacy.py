"""Rates, ranks and protocols on embeddings whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics

from camouflage.errors import CamouflageError
from camouflage.evaluation import paper, privacy
from camouflage.evaluation.estimates import estimate, share_of
from camouflage.evaluation.identification import RANKS, rank
from camouflage.evaluation.seeing import JUDGED, LOST, OUTSIDE, UNDETECTED, WITHHELD, Seen, follow, framed
from camouflage.verification.detection import FoundFace
from camouflage.verification.model_info import ModelInfo
from camouflage.verification.recognition import Threshold

DIM = 32


class Euclid:
    """A recogniser of vectors; a picture's embedding is given."""

    info = ModelInfo("Euclid", "1", "none")
    metric = "Euclidean"

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=-1)

    def embed(self, pixels: np.ndarray, boxes: list) -> np.ndarray:
        return np.zeros((len(boxes), DIM), np.float32)


def seen(*vectors: np.ndarray, size: tuple[int, int] = (100, 100)) -> Seen:
    """A picture with a face for each vector, side by side; the first is the largest."""
    faces = tuple(FoundFace((40.0 * i, 0.0, 40.0 * i + 36 - i, 36.0 - i), ("d",), ("d",)) for i in range(len(vectors)))
    return Seen(size, faces, {"Euclid": np.array(vectors, np.float32).reshape(-1, DIM)}, points(len(vectors)))


def points(count: int) -> np.ndarray:
    return np.full((count, 5, 2), np.nan)


def people(persons: int, photos: int, spread: float = 0.25, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Embeddings of photos of persons, and their names."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(persons, DIM))
    vectors = np.repeat(centres, photos, axis=0) + spread * draw.normal(size=(persons * photos, DIM))
    return vectors.astype(np.float32), [f"p{i}" for i in range(persons) for _ in range(photos)]


def measured(originals, anonymized, names, protocol="pairs"):
    before = [seen(one) for one in originals]
    after = [None if one is None else seen(one) if one is not False else seen() for one in anonymized]
    cast = privacy.cast_of(before, after, names, protocol)
    return privacy.measure(privacy.compared(Euclid(), cast, before, after, protocol)), cast


# --- curves -------------------------------------------------------------------------------------------------------


def test_the_curve_is_scikit_learns():
    draw = np.random.default_rng(1)
    genuine, impostor = draw.normal(0.5, 0.2, 300).round(2), draw.normal(0.9, 0.25, 900).round(2)  # with ties
    found = privacy.curve(genuine, impostor)
    labels = np.repeat([1, 0], [300, 900])
    scores = -np.concatenate([genuine, impostor])
    assert found["area_under_roc"] == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    false, true, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    ours = dict(zip(np.round(found["far"], 12), found["frr"], strict=True))
    theirs = {round(a, 12): 1 - b for a, b in zip(false, true, strict=True)}
    assert len(ours) > 50 and all(ours[far] == pytest.approx(theirs[far], abs=1e-12) for far in ours if far > 0)


def test_the_equal_error_rate_of_two_gaussians_is_the_closed_form():
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    genuine, impostor = norm.ppf(quantiles), norm.ppf(quantiles) + 2
    found = privacy.curve(genuine, impostor)
    assert found["equal_error_rate"] == pytest.approx(norm.cdf(-1), abs=1e-4)
    assert found["area_under_roc"] == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=1e-4)


def test_a_curve_of_nothing_is_none():
    assert privacy.curve(np.zeros(0), np.ones(3)) is None and privacy.curve(np.ones(3), np.zeros(0)) is None


# --- ranks --------------------------------------------------------------------------------------------------------


def test_ranks_and_precision_by_hand():
    #        gallery: a    b    a    c
    ranked = rank(np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4]]), [0, 1], [0, 1, 0, 2])
    assert ranked.hits[:, 0].tolist() == [1.0, 0.0] and ranked.hits[:, 1].tolist() == [1.0, 1.0]
    assert ranked.precision == pytest.approx([(1 + 2 / 3) / 2, 1 / 3])
    assert ranked.chance[:, 0] == pytest.approx([0.5, 0.25])


def test_equal_distances_give_what_all_orders_give_on_average():
    draw = np.random.default_rng(2)
    distances = draw.integers(0, 4, (1, 9)).astype(float)
    persons = np.array([0, 1, 0, 2, 0, 1, 2, 2, 1])
    ranked = rank(distances, [0], persons)
    hits, precision = [], []
    for _ in range(20_000):
        order = np.lexsort((draw.random(9), distances[0]))
        right = persons[order] == 0
        hits.append([right[:k].any() for k in RANKS])
        places = np.flatnonzero(right) + 1
        precision.append(np.mean(np.arange(1, 4) / places))
    assert ranked.hits[0] == pytest.approx(np.mean(hits, axis=0), abs=0.01)
    assert ranked.precision[0] == pytest.approx(np.mean(precision), abs=0.005)


def test_a_recogniser_that_says_the_same_of_everybody_finds_by_chance():
    persons = np.repeat(np.arange(10), 3)
    ranked = rank(np.ones((30, 30)), persons, persons)
    assert ranked.hits == pytest.approx(ranked.chance)


def test_queries_without_anybody_of_theirs_do_not_count():
    assert len(rank(np.ones((2, 2)), [0, 5], [0, 1]).persons) == 1
    assert len(rank(np.ones((1, 1)), [0], [0], np.array([[True]])).persons) == 0


@pytest.mark.parametrize("distances", [np.ones((2, 3)), np.full((1, 3), np.nan)])
def test_distances_that_are_none_are_refused(distances):
    with pytest.raises(CamouflageError):
        rank(distances, [0], [0, 1, 2])


# --- estimates ----------------------------------------------------------------------------------------------------


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    draw, held = np.random.default_rng(3), 0
    for _ in range(200):
        persons = np.repeat(np.arange(25), 6)
        chance = draw.beta(2, 2, 25)[persons]  # mean 0.5; photos of a person are alike
        low, high = estimate(draw.random(150) < chance, persons).interval
        held += low <= 0.5 <= high
    assert held >= 178, "of 200, 95 % but for few persons"


def test_an_estimate_without_cases_or_persons():
    assert estimate([], []) is None
    few = estimate([1, 0, 1], [0, 0, 1])
    assert few.value == pytest.approx(2 / 3) and few.interval is None and "too few" in str(few)
    assert estimate(np.zeros(20), np.arange(20)).interval == (0, 0), "degrees, say, are no hits and misses"
    never = estimate(np.zeros(20, bool), np.arange(20))
    assert never.interval[0] == 0 and never.interval[1] == pytest.approx(1 - 0.025 ** (1 / 20)), "Clopper and Pearson's"
    with pytest.raises(CamouflageError):
        estimate([np.nan], [0])
    with pytest.raises(CamouflageError):
        estimate([1.0, 2.0], [0])


def test_a_share_from_numbers_of_cases_is_that_of_the_cases():
    draw = np.random.default_rng(4)
    cases = draw.integers(0, 5, 30)
    hits, persons = draw.binomial(cases, 0.3), draw.integers(0, 9, 30)
    one_by_one = np.concatenate([np.arange(count) < right for count, right in zip(cases, hits, strict=True)])
    assert share_of(hits, cases, persons) == estimate(one_by_one, np.repeat(persons, cases))
    assert share_of([0], [0], [0]) is None


# --- known answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["pairs", "gallery"])
def test_where_nothing_was_anonymized_everybody_is_found(protocol):
    vectors, names = people(20, 4)
    found, _ = measured(vectors, vectors, names, protocol)
    assert found["identification"]["rank_1"]["value"] > 0.99
    point = found["operating_points"][1]
    assert point["false_accept_rate"] == 0.01 and point["reidentified"]["value"] > 0.99
    assert point["protected"]["value"] < 0.01 and point["originals_true_accepts"]["value"] > 0.95
    assert point["strangers_accepted"]["value"] == pytest.approx(0.01, abs=0.005)
    assert found["linkage"]["rank_1"]["value"] > 0.99
    assert [one["false_accept_rate"] for one in found["unsupported"]] == [0.0001]


def test_strangers_faces_give_chance():
    vectors, names = people(20, 4)
    other = people(80, 1, seed=9)[0]
    found, _ = measured(vectors, other, names)
    one = found["identification"]["rank_1"]
    assert one["interval_95"][0] <= one["chance"] == pytest.approx(4 / 80) and one["value"] < 0.2
    assert found["operating_points"][1]["protected"]["value"] > 0.9
    assert found["verification"]["area_under_roc"] == pytest.approx(0.5, abs=0.06)


def test_who_is_not_found_is_not_protected():
    """A method that loses half of the faces scores worse than the same one that loses none."""
    vectors, names = people(20, 4)
    other = list(people(80, 1, seed=9)[0])
    whole, _ = measured(vectors, other, names)
    losing, cast = measured(vectors, [one if i % 2 else False for i, one in enumerate(other)], names)
    assert cast.states == {JUDGED: 40, UNDETECTED: 40, LOST: 0, WITHHELD: 0, OUTSIDE: 0}
    for point, before in zip(losing["operating_points"], whole["operating_points"], strict=True):
        assert point["protected"]["value"] <= 0.5 < before["protected"]["value"]
    assert losing["identification"]["rank_1"]["at_most"] >= 0.5
    nothing, cast = measured(vectors, [False] * 80, names)
    assert cast.states[UNDETECTED] == 80 and nothing["identification"] is None
    assert all(point["protected"]["value"] == point["reidentified"]["value"] == 0
               for point in nothing["operating_points"])


def test_where_nobody_says_who_is_who_no_threshold_lies_below_the_advice():
    """Two photos of one person that pass for strangers would make every threshold too small."""
    vectors, names = people(20, 4)
    found, _ = measured(vectors, vectors, [""] * 80)
    near = np.linalg.norm(vectors[0] - vectors[1])
    assert found["operating_points"][1]["threshold"] < near < 4.0
    assert found["pairs"]["originals_perhaps_one_person"] == 0, "this recogniser has no advice"
    advised = replace_threshold(4.0)
    before = [seen(one) for one in vectors]
    for who, at_least in (([""] * 80, 4.0), (names, 0.0)):
        cast = privacy.cast_of(before, before, who, "pairs")
        found = privacy.measure(privacy.compared(advised, cast, before, before, "pairs"))
        assert all(point["threshold"] >= at_least for point in found["operating_points"])
        assert found["pairs"]["originals_perhaps_one_person"] >= (120 if at_least else 0)
    assert found["pairs"]["originals_perhaps_one_person"] == 0 and cast.guessed is False


def replace_threshold(distance: float) -> Euclid:
    """A recogniser with advice."""
    advised = Euclid()
    advised.threshold = Threshold(distance, "Euclid")
    return advised


def test_withheld_pictures_are_neither_and_do_not_count():
    vectors, names = people(20, 4)
    found, cast = measured(vectors, [None if i % 4 == 0 else one for i, one in enumerate(vectors)], names)
    assert cast.states[WITHHELD] == 20
    assert found["operating_points"][0]["reidentified"]["cases"] == 60


def test_swapped_persons_are_found_by_linkage_alone():
    """Everybody gets the face of somebody else, always the same one's."""
    vectors, names = people(20, 4)
    swapped = np.roll(vectors, 4, axis=0)
    found, _ = measured(vectors, swapped, names, "gallery")
    assert found["identification"]["rank_1"]["value"] == 0 and found["operating_points"][1]["protected"]["value"] > 0.95
    assert found["linkage"]["rank_1"]["value"] > 0.99 and found["linkage"]["equal_error_rate"] < 0.02


def test_the_gallery_leaves_the_very_photo_out():
    """Whoever has one photo alone cannot be looked for among others; their own photo is nobody's other one."""
    vectors, names = people(12, 2, spread=3.0)  # photos of a person have nothing in common
    found, _ = measured(vectors, vectors, names, "gallery")
    assert found["identification"]["rank_1"]["value"] < 0.5
    assert measured(vectors, vectors, names, "pairs")[0]["identification"]["rank_1"]["value"] == 1


def test_the_papers_protocol_rewards_lost_faces():
    vectors, names = people(20, 4)
    before = [seen(one) for one in vectors]
    honest = [seen(one) for one in vectors]
    losing = [seen(one) if i % 2 else seen() for i, one in enumerate(vectors)]
    results = []
    for after in (honest, losing):
        cast = privacy.cast_of(before, after, names, "pairs")
        results.append(paper.recall(privacy.compared(Euclid(), cast, before, after, "pairs")))
    assert results[0]["recall_1"] == 1 and results[0]["black_tiles"] == 0
    assert results[1]["recall_1"] < 0.56 and results[1]["black_tiles"] == 40
    assert len(results[1]["warnings"]) == 3


def test_one_person_or_nobody_is_refused():
    vectors, _ = people(3, 1)
    with pytest.raises(CamouflageError, match="one person"):
        measured(vectors, vectors, ["a"] * 3)
    with pytest.raises(CamouflageError, match="nobody has"):
        measured(vectors, vectors, ["a", "b", "c"], "gallery")
    with pytest.raises(CamouflageError, match="No face was found"):
        privacy.cast_of([seen()], [seen()], [""])


def test_more_faces_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(privacy, "MOST_FACES", 3)
    vectors, _ = people(4, 1)
    with pytest.raises(CamouflageError, match="4 faces are too many .* at most 3"):
        measured(vectors, vectors, [""] * 4)
    assert measured(vectors[:3], vectors[:3], [""] * 3)


def test_too_few_pairs_support_no_rate():
    vectors, names = people(4, 2)
    found, _ = measured(vectors, vectors, names)
    assert found["operating_points"] == [] and len(found["unsupported"]) == 4
    assert "takes 30 pairs" in found["unsupported"][0]["why"]


def test_the_worst_recogniser_is_named():
    vectors, names = people(20, 4)
    good, _ = measured(vectors, vectors, names)
    bad, _ = measured(vectors, people(80, 1, seed=9)[0], names)
    bad["recogniser"] = {**bad["recogniser"], "name": "Blind"}
    found = privacy.worst([bad, good])
    assert found["rank_1"] == {"value": good["identification"]["rank_1"]["value"], "recogniser": "Euclid"}
    assert found["reidentified_at_0.01"]["recogniser"] == "Euclid"


# --- faces --------------------------------------------------------------------------------------------------------


def test_faces_are_followed_by_their_places():
    one, two = np.zeros(DIM), np.ones(DIM)
    both = seen(one, two)
    assert follow(both, both, [0, 1]) == ([(JUDGED, 0), (JUDGED, 1)], 0)
    gone = Seen(both.size, both.faces[1:], {"Euclid": both.embeddings["Euclid"][1:]}, points(1))
    assert follow(both, gone, [0, 1]) == ([(LOST, -1), (JUDGED, 0)], 0)
    assert follow(both, seen(), [0]) == ([(UNDETECTED, -1)], 0)
    assert follow(both, None, [0, 1]) == ([(WITHHELD, -1)] * 2, 0)
    assert follow(gone, both, [0]) == ([(JUDGED, 1)], 1), "one is new"


def test_a_result_of_another_size_is_laid_over_the_original():
    double = framed((100, 50), (200, 100))
    assert double.box((20.0, 10.0, 40.0, 30.0)) == (10.0, 5.0, 20.0, 15.0)
    assert double.points(np.array([[20.0, 10.0]])).tolist() == [[10.0, 5.0]]
    cut = framed((200, 100), (50, 50))  # its middle square, at half its size
    assert cut.box((0.0, 0.0, 50.0, 50.0)) == (50.0, 0.0, 150.0, 100.0)
    face = FoundFace((0.0, 0.0, 40.0, 40.0), ("d",), ("d",))
    original = Seen((200, 100), (face, replace(face, box_ltrb=(80.0, 30.0, 120.0, 70.0))), {}, points(2))
    result = Seen((50, 50), (replace(face, box_ltrb=(15.0, 15.0, 35.0, 35.0)),), {}, points(1))
    assert follow(original, result, [0, 1]) == ([(OUTSIDE, -1), (JUDGED, 0)], 0)


def test_in_a_folder_every_face_is_a_person():
    vectors, _ = people(20, 1)
    before = [seen(a, b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    cast = privacy.cast_of(before, before, [""] * 10, "folder")
    assert len(cast.names) == len(cast.subjects) == 20
    found = privacy.measure(privacy.compared(Euclid(), cast, before, before, "folder"))
    assert found["identification"]["rank_1"]["value"] == 1 and found["linkage"] is None
    assert len(privacy.cast_of(before, before, [""] * 10, "pairs").subjects) == 10, "the largest face of each"
