"""Utility: attributes, landmarks, people, captions and maps against numbers by hand and by other libraries."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.linalg import polar
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from camouflage.errors import CamouflageError
from camouflage.evaluation.attributes_kept import GROUPS, agreement
from camouflage.evaluation.captions import captions_kept, cosines
from camouflage.evaluation.estimates import resampled
from camouflage.evaluation.landmarks import MEAN_FACE, head_poses, landmarks_kept, mouths, point_errors
from camouflage.evaluation.maps_kept import depth_agreement, label_agreement, maps_kept
from camouflage.evaluation.plain import by_person, stated
from camouflage.evaluation.utility import matches, people_kept, separation, separations
from camouflage.method.faces import ATTRIBUTES

FACE = np.array([[40.0, 50.0], [80.0, 50.0], [60.0, 70.0], [45.0, 90.0], [75.0, 90.0]])
SMILING, MALE, YOUNG = (ATTRIBUTES.index(name) for name in ("Smiling", "Male", "Young"))


def readings(**columns: list[float]) -> np.ndarray:
    """n x 40 probabilities: 0.1 but for the columns that are named."""
    found = np.full((len(next(iter(columns.values()))), len(ATTRIBUTES)), 0.1)
    for name, values in columns.items():
        found[:, ATTRIBUTES.index(name)] = values
    return found


def test_balanced_accuracy_by_hand() -> None:
    """Four smiled, of whom three still do; six did not, of whom three still do not: (3/4 + 3/6) / 2. One half counts
    as there."""
    before = readings(Smiling=[0.9, 0.5, 0.8, 0.7, 0.1, 0.2, 0.49, 0.0, 0.3, 0.4])
    after = readings(Smiling=[0.6, 0.7, 0.5, 0.49, 0.2, 0.1, 0.3, 0.9, 0.5, 1.0])
    smiling = agreement(before, after, np.arange(10))["by_attribute"]["Smiling"]
    assert smiling["value"] == pytest.approx(0.625)
    assert [smiling[kind] for kind in ("on", "kept_on", "off", "kept_off", "cases", "persons", "left_out")] == [
        4, 3, 6, 3, 10, 10, 0]
    assert smiling["interval_95"] is None  # four persons smiled; an interval takes six


def test_a_group_has_the_mean_of_its_attributes_that_have_a_value() -> None:
    half = [0.9] * 4 + [0.1] * 4
    before = readings(Male=half, Young=half, Smiling=half)
    after = readings(Male=half, Young=[0.9] * 8, Smiling=[0.1] * 4 + [0.9] * 4)
    found = agreement(before, after, np.arange(8))
    groups = found["by_group"]
    assert groups["demographics"]["value"] == pytest.approx((1 + 0.5) / 2) and groups["demographics"]["attributes"] == 2
    assert groups["expression"]["value"] == pytest.approx(0)
    assert groups["all"]["value"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert groups["other"]["value"] is None and groups["other"]["why"]
    assert sum(len(group) for name, group in GROUPS.items() if name != "all") == len(ATTRIBUTES) == len(GROUPS["all"])


def test_an_attribute_that_all_or_none_have_has_no_balanced_accuracy() -> None:
    before = readings(Smiling=[0.9] * 8)
    found = agreement(before, before, np.arange(8))["by_attribute"]
    assert found["Smiling"]["value"] is None and "all" in found["Smiling"]["why"]
    assert found["Male"]["value"] is None and "none" in found["Male"]["why"]
    nothing = agreement(np.zeros((0, 40)), np.zeros((0, 40)), [])
    assert nothing["by_attribute"]["Male"]["value"] is None and nothing["by_group"]["all"]["why"]


def test_faces_that_were_not_read_are_left_out_and_counted() -> None:
    before = readings(Smiling=[0.9, 0.9, 0.1, 0.1])
    after = before.copy()
    after[1] = np.nan
    before[2, SMILING] = np.nan
    found = agreement(before, after, [0, 1, 2, 3])["by_attribute"]
    assert (found["Smiling"]["cases"], found["Smiling"]["left_out"], found["Male"]["left_out"]) == (2, 2, 1)
    assert found["Smiling"]["value"] == 1


def test_even_without_any_error_the_interval_is_that_of_as_many_independent_faces() -> None:
    """Clopper and Pearson's lower end of 10 of 10 is 0.025^(1/10); two such shares joined by their squares."""
    before = readings(Smiling=[0.9] * 10 + [0.1] * 10)
    found = agreement(before, before, np.arange(20))
    low, high = found["by_attribute"]["Smiling"]["interval_95"]
    json.dumps(found)
    assert low == pytest.approx(1 - (1 - 0.025 ** 0.1) * 2 ** 0.5 / 2) and high == 1
    assert found["by_group"]["expression"]["interval_95"] == pytest.approx([low, high])


def test_the_interval_holds_the_true_balanced_accuracy_where_persons_repeat() -> None:
    """40 persons with 5 photos each; a person's attribute is lost in all photos alike, with 30 %, or kept in all."""
    held, widths = 0, []
    draw = np.random.default_rng(1)
    persons = np.repeat(np.arange(40), 5)
    for _ in range(50):
        on, kept = draw.random(40) < 0.5, draw.random(40) < 0.7
        before = readings(Smiling=np.where(on, 0.9, 0.1)[persons].tolist())
        after = readings(Smiling=np.where(on == kept, 0.9, 0.1)[persons].tolist())
        low, high = agreement(before, after, persons)["by_attribute"]["Smiling"]["interval_95"]
        held += low <= 0.7 <= high
        widths.append(high - low)
    assert held >= 44
    assert np.mean(widths) > 0.2  # 200 independent faces would have 0.13


@pytest.mark.parametrize("before, after, persons", [
    (np.zeros((3, 40)), np.zeros((2, 40)), [0, 1, 2]), (np.zeros((3, 39)), np.zeros((3, 39)), [0, 1, 2]),
    (np.zeros((3, 40)), np.zeros((3, 40)), [0, 1]), (np.zeros((3, 40)), np.full((3, 40), 1.5), [0, 1, 2])])
def test_readings_of_other_shapes_or_ranges_are_refused(before: np.ndarray, after: np.ndarray, persons: list) -> None:
    with pytest.raises(CamouflageError, match="attributes"):
        agreement(before, after, persons)


def test_persons_are_drawn_anew_with_all_their_cases() -> None:
    sums = by_person(np.array([[1, 10], [2, 20], [4, 40]]), [7, 3, 7])
    assert sums.tolist() == [[2, 20], [5, 50]]
    drawn = resampled(sums)
    assert set(drawn[:, 0]) == {4, 7, 10} and np.array_equal(drawn[:, 1], 10 * drawn[:, 0])


def test_what_is_no_number_is_left_out_and_nothing_is_said_of_nothing() -> None:
    assert stated([1, np.nan, 3, np.inf], [0, 1, 2, 3], "")["value"] == 2
    assert stated([1, np.nan, 3, np.inf], [0, 1, 2, 3], "")["left_out"] == 2
    assert stated([np.nan], [0], "so it is") == {"value": None, "cases": 0, "persons": 0, "interval_95": None,
                                                  "left_out": 1, "why": "so it is"}
    with pytest.raises(CamouflageError):
        stated([1, 2], [0], "")


def test_normalised_mean_error_by_hand() -> None:
    """The eyes are 40 apart; one point moved by (3, 4), another by 10: (5 + 10) / 5 / 40."""
    moved = FACE.copy()
    moved[2] += (3, 4)
    moved[4] += (0, 10)
    assert point_errors(FACE[None], moved[None]) == pytest.approx([0.075])
    one_point = np.zeros((1, 5, 2))
    assert np.isnan(point_errors(one_point, FACE[None])).all()


def projected(roll: float, yaw: float, pitch: float) -> np.ndarray:
    """The mean face turned by scipy, then seen from afar at 70 px a unit."""
    turn = Rotation.from_euler("ZYX", [-roll, -yaw, -pitch], degrees=True).as_matrix()
    return 70 * (MEAN_FACE @ turn.T)[:, :2] + (300, 200)


def test_the_pose_of_a_known_turn_is_found() -> None:
    draw = np.random.default_rng(0)
    turns = draw.uniform((-180, -80, -80), (180, 80, 80), (200, 3))
    found = head_poses(np.array([projected(*turn) for turn in turns]))
    assert np.abs((found - turns + 180) % 360 - 180).max() < 1e-6


def test_the_signs_of_the_angles() -> None:
    """Turned counter-clockwise the right eye is higher; to the right or up, the nose goes there."""
    roll, yaw, pitch = (projected(*turn) for turn in np.eye(3) * 20)
    straight = projected(0, 0, 0)
    assert roll[1, 1] < roll[0, 1]
    assert yaw[2, 0] > straight[2, 0] + 5 and pitch[2, 1] < straight[2, 1] - 5
    assert head_poses(np.array([roll, yaw, pitch])) == pytest.approx(np.eye(3) * 20, abs=1e-6)


def test_the_pose_bears_points_that_are_a_little_off() -> None:
    """By 1 % of the distance of the eyes; the numbers stand in the docstring."""
    draw = np.random.default_rng(0)
    turns = draw.uniform((-20, -30, -20), (20, 30, 20), (1000, 3))
    points = np.array([projected(*turn) for turn in turns])
    off = np.abs(head_poses(points + draw.normal(0, 0.7, points.shape)) - turns)
    assert (np.median(off, axis=0) < (0.5, 1.2, 1.2)).all() and np.quantile(off, 0.95, axis=0).max() < 3.5


def test_the_turn_is_the_nearest_to_the_best_linear_map_by_scipy() -> None:
    """For points that no rigid face has."""
    draw = np.random.default_rng(0)
    points = np.array([projected(*turn) for turn in draw.uniform(-25, 25, (20, 3))]) * (1, 1.3)
    for face, found in zip(points, head_poses(points), strict=True):
        linear = np.linalg.lstsq(MEAN_FACE, face - face.mean(axis=0), rcond=None)[0].T
        rows = polar(linear)[0]
        turn = Rotation.from_matrix(np.vstack([rows, np.cross(*rows)]))
        assert -turn.as_euler("ZYX", degrees=True) == pytest.approx(found)


def test_the_pose_bears_a_camera_that_is_near() -> None:
    """Eight distances of the eyes: about half a metre."""
    turns = np.random.default_rng(0).uniform((-20, -30, -20), (20, 30, 20), (500, 3))
    heads = [MEAN_FACE @ Rotation.from_euler("ZYX", -turn, degrees=True).as_matrix().T for turn in turns]
    seen = np.array([600 * head[:, :2] / (8 + head[:, 2:]) for head in heads])
    assert np.abs(head_poses(seen) - turns).mean(axis=0).max() < 1.3


def test_no_pose_without_points() -> None:
    flat = np.stack([np.zeros((5, 2)), np.column_stack([np.arange(5.0), np.arange(5.0)]), np.full((5, 2), np.nan)])
    assert np.isnan(head_poses(flat)).all()


def test_the_change_of_a_mouth_by_hand() -> None:
    """The eyes are 40 apart, the mouth 30 wide, then 20; the lips 4 apart, then 10."""
    wide = FACE.copy()
    wide[3, 0], wide[4, 0] = 50, 70
    marks = np.zeros((2, 1, 68, 2))
    marks[0, 0, 66, 1], marks[1, 0, 66, 1] = 4, 10
    assert mouths(FACE[None], marks[0]) == pytest.approx(np.array([[0.75, 0.1]]))
    found = landmarks_kept(FACE[None], wide[None], [0], (marks[0], marks[1]))["expression_change"]
    assert found["mouth_width"]["value"] == pytest.approx(0.25)
    assert found["mouth_opening"]["value"] == pytest.approx(0.15)


def test_landmarks_of_several_faces() -> None:
    before = np.array([projected(0, 0, 0), projected(175, 10, 0), projected(0, 0, 0)])
    after = np.array([projected(0, 12, 0), projected(-175, 10, 4), np.full((5, 2), np.nan)])
    found = landmarks_kept(before, after, [0, 1, 2])
    assert {name: round(one["value"], 6) for name, one in found["pose_change"].items()} == {
        "roll": 5, "yaw": 6, "pitch": 2}
    assert found["nme"]["cases"] == 2 and found["nme"]["left_out"] == 1 and found["nme"]["value"] > 0
    assert found["expression_change"]["mouth_opening"]["value"] is None
    assert "68" in found["expression_change"]["mouth_opening"]["why"]
    with pytest.raises(CamouflageError, match="same faces"):
        point_errors(before, after[:2])
    with pytest.raises(CamouflageError, match="n x 5 x 2"):
        head_poses(np.zeros((2, 4, 2)))


def test_boxes_in_the_same_place_share_half_of_both() -> None:
    """Half of a box has an overlap of 0.5 with it; two boxes shifted by a third share 2/3 of each, so 1/2 of both."""
    assert matches([(0, 0, 10, 10)], [(0, 0, 10, 5)]) == [(0, 0)]
    assert matches([(0, 0, 10, 10)], [(0, 0, 10, 4.9)]) == []
    assert matches([(0, 0, 30, 10)], [(10, 0, 40, 10)]) == [(0, 0)]
    assert matches([(0, 0, 10, 10), (0, 0, 10, 8)], [(0, 0, 10, 7.9)]) == [(1, 0)]  # the nearer one


def test_people_kept_by_hand() -> None:
    """Four before, of whom two are still there; three after, of whom one is new."""
    here, there, new = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)
    found = people_kept([[here, there], [here], [there], []], [[there, here], [new], [], []])
    assert (found["before"], found["after"], found["matched"]) == (4, 3, 2)
    assert found["recall"]["value"] == 0.5 and found["precision"]["value"] == pytest.approx(2 / 3)
    assert found["same_number"]["value"] == 0.75
    assert (found["recall"]["persons"], found["precision"]["persons"]) == (3, 2)  # pictures that show somebody
    nobody = people_kept([[]], [[]])
    assert nobody["recall"]["value"] is None and nobody["precision"]["why"]
    assert people_kept([], [])["same_number"]["value"] is None
    with pytest.raises(CamouflageError, match="same pictures"):
        people_kept([[]], [])


def test_separation_by_hand() -> None:
    """The one moved by 5, the others by 1 and 0."""
    before = np.zeros((3, 2))
    after = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    found = separation(before, after, 1)
    assert found["value"] == pytest.approx(0.1) and (found["one"], found["others"], found["cases"]) == (5, 0.5, 2)
    still, alone = separation(before, before, 1), separation(before[:1], after[:1], 0)
    assert still["value"] is None and still["why"] and alone["value"] is None and alone["why"]
    after[2] = np.nan
    assert separation(before, after, 1)["value"] == pytest.approx(0.2)
    trials = separations([found, still, {**found, "value": 0.3}], [0, 0, 1])
    assert trials["value"] == pytest.approx(0.2) and trials["left_out"] == 1
    with pytest.raises(CamouflageError, match="person 3"):
        separation(before, before, 3)


def test_bleu_by_hand() -> None:
    """Runs of 1 to 4 words: 5/6, 3/5, 1/4, and 0/3, which sacrebleu counts as 1/6."""
    found = captions_kept(["the cat is on the mat"], ["the cat sat on the mat"], [0])
    assert found["bleu"]["value"] == pytest.approx(100 * (5 / 6 * 3 / 5 / 4 / 6) ** 0.25)
    assert found["bleu"]["interval_95"] is None and found["similarity"]["why"]


def test_captions_against_sacrebleu_itself() -> None:
    import sacrebleu

    before = ["a man with a hat", "two women on a beach in summer", "a child and a dog play", "a man sits at a desk"]
    after = ["a man with a cap", "two girls on a beach in summer", "a child and a dog play", "a woman sits at a desk"]
    before, after, persons = before * 3, after * 3, list(range(6)) * 2
    found = captions_kept(before, after, persons)
    assert found["bleu"]["value"] == pytest.approx(sacrebleu.corpus_bleu(after, [before]).score)
    assert found["chrf"]["corpus"] == pytest.approx(sacrebleu.corpus_chrf(after, [before]).score)
    single = [sacrebleu.sentence_chrf(one, [other]).score for one, other in zip(after, before, strict=True)]
    assert found["chrf"]["value"] == pytest.approx(np.mean(single))
    for one in (found["bleu"], found["chrf"]):
        low, high = one["interval_95"]
        assert low < one["value"] < high and one["persons"] == 6
    assert "version" in found["library"]["bleu"]


def test_every_draw_of_persons_with_the_same_captions_has_the_bleu_of_the_corpus() -> None:
    found = captions_kept(["the cat is on the mat", "a red car"] * 6, ["the cat sat on the mat", "a car"] * 6,
                          np.repeat(np.arange(6), 2))["bleu"]
    assert found["interval_95"] == pytest.approx([found["value"]] * 2) and 0 < found["value"] < 100


def test_similarity_of_embeddings() -> None:
    one, other = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [2.0, 0.0], [1.0, 0.0]])
    assert cosines(one, other)[:2] == pytest.approx([0, 0.5 ** 0.5]) and np.isnan(cosines(one, other)[2])
    found = captions_kept(["a"] * 3, ["b"] * 3, [0, 1, 2], (one, other))["similarity"]
    assert found["value"] == pytest.approx(0.5 ** 0.5 / 2) and found["left_out"] == 1


def test_no_captions_and_too_few() -> None:
    assert captions_kept([], [], [])["bleu"]["value"] is None
    with pytest.raises(CamouflageError, match="caption"):
        captions_kept(["a"], [], [0])


def test_label_maps_by_hand() -> None:
    """Eight pixels: label 0 shares 3 of 5, label 1 shares 3 of 4, label 2 shares 0 of 1."""
    before = np.array([[0, 0, 0, 0], [1, 1, 1, 2]])
    after = np.array([[0, 0, 0, 1], [1, 1, 1, 0]])
    assert label_agreement(before, after) == pytest.approx((6 / 8, (3 / 5 + 3 / 4 + 0) / 3))
    palette = np.array([[120, 5, 61], [61, 5, 120], [5, 120, 61]], np.uint8)
    assert label_agreement(palette[before], palette[after]) == label_agreement(before, after)
    assert label_agreement(before, before) == (1, 1)


def test_pictures_are_no_label_maps() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(CamouflageError, match="one colour for each label"):
        label_agreement(noise, noise)
    with pytest.raises(CamouflageError, match="one size"):
        label_agreement(noise, noise[:32])
    with pytest.raises(CamouflageError, match="whole numbers"):
        label_agreement(noise / 255, noise / 255)


def test_depth_against_scipy() -> None:
    draw = np.random.default_rng(0)
    before = draw.integers(0, 40, (30, 20)).astype(np.uint8)  # with ties
    after = np.clip(before + draw.normal(0, 8, before.shape), 0, 255).astype(np.uint8)
    correlation, error = depth_agreement(before, after)
    assert correlation == pytest.approx(spearmanr(before.ravel(), after.ravel()).statistic)
    design = np.column_stack([after.ravel(), np.ones(after.size)]).astype(float)
    fit = design @ np.linalg.lstsq(design, before.ravel().astype(float), rcond=None)[0]
    assert error == pytest.approx(np.abs(fit - before.ravel()).mean() / np.abs(before - before.mean()).mean())


def test_depth_sees_neither_scale_nor_shift_but_order_and_form() -> None:
    before = np.random.default_rng(0).random((16, 16))
    assert depth_agreement(before, 7 - 3 * before) == pytest.approx((-1, 0), abs=1e-9)
    correlation, error = depth_agreement(before, before ** 8)
    assert correlation == pytest.approx(1) and error > 0.3
    correlation, error = depth_agreement(before, np.ones((16, 16)))
    assert np.isnan(correlation) and error == pytest.approx(1)
    assert np.isnan(depth_agreement(np.ones((4, 4)), np.ones((4, 4)))).all()
    with pytest.raises(CamouflageError, match="numbers"):
        depth_agreement(before, np.full((16, 16), np.nan))


def test_maps_of_several_pictures() -> None:
    labels, depth = np.array([[0, 1], [1, 1]]), np.array([[0.0, 1.0], [2.0, 3.0]])
    found = maps_kept([(labels, labels), (labels, 1 - labels)], [(depth, depth), (depth, np.ones((2, 2)))], [0, 1])
    assert found["segmentation"]["mean_iou"]["value"] == 0.5
    assert found["depth"]["rank_correlation"]["value"] == pytest.approx(1)
    assert (found["depth"]["rank_correlation"]["left_out"], found["depth"]["error"]["value"]) == (1, 0.5)
    assert maps_kept([], [], [])["depth"]["error"]["why"]
