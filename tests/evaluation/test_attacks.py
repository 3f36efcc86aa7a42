"""Attacks: nobody is both learned from and attacked, known answers, and what is left behind mosaic, blur and solid."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.evaluation.attacks import guessing, reconstruction, trained
from camouflage.evaluation.attacks.learning import Effort
from camouflage.evaluation.attacks.matching import match
from camouflage.evaluation.attacks.splits import split_persons
from sampled import long
from testing.drawn_identities import HEAD, METHODS, crops, photograph, portraits

FEW = Effort(steps=35, batch=32)


@functools.cache
def few():
    """Photos of 24 identities, 6 each, their crops, and who is on them."""
    photos, persons = portraits(24, 6)
    return photos, crops(photos, side=16), persons


def without_seconds(found: dict) -> dict:
    return {**found, "cost": {**found["cost"], "seconds": 0, "cpu_seconds": 0}}


# Splits


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_learned_from_and_attacked_and_every_picture_is_on_one_side(seed) -> None:
    persons = np.random.default_rng(seed).integers(0, 40, 300) * 7 + 3
    split = split_persons(persons, seed, 0.25)
    assert not set(persons[split.train]) & set(persons[split.test])
    assert sorted([*split.train, *split.test]) == list(range(300))
    assert len(set(persons[split.test])) == round(len(set(persons)) / 4)
    assert split.to_json() == split_persons(persons, seed, 0.25).to_json()
    assert not np.array_equal(split.test, split_persons(persons, seed + 1, 0.25).test)


def test_a_split_has_enough_persons_on_both_sides_or_says_so() -> None:
    for share in (0.0, 0.01, 0.99, 1.0):
        told = split_persons(np.repeat(np.arange(15), 2), share=share).to_json()
        assert min(told["train_persons"], told["test_persons"]) >= 6
    with pytest.raises(CamouflageError, match="at least 6 persons.* there are pictures of 11 persons"):
        split_persons(np.repeat(np.arange(11), 9))


# Matching


def test_rank_1_and_auc_are_those_of_hand_and_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    gallery, gallery_of = rng.normal(size=(40, 8)), np.arange(40) % 8
    queries, query_of = gallery[rng.permutation(40)[:30]] + rng.normal(size=(30, 8)), rng.integers(0, 8, 30)
    distances = np.linalg.norm(queries[:, None] - gallery, axis=2)
    found = match(queries, gallery, query_of, gallery_of)
    assert found["rank_1"]["value"] == pytest.approx((gallery_of[distances.argmin(1)] == query_of).mean())
    assert found["rank_1"]["chance"] == pytest.approx(5 / 40)
    areas = [roc_auc_score(gallery_of == who, -row) for who, row in zip(query_of, distances, strict=True)]
    assert found["auc"]["value"] == pytest.approx(np.mean(areas), abs=1e-4)
    assert found["auc"]["persons"] == len(set(query_of)) and found["auc"]["interval_95"]


def test_equal_embeddings_are_chance_even_where_the_last_digit_differs() -> None:
    same = np.ones((40, 8)) / 8**0.5
    same[20:] += 1e-8
    found = match(same, same, np.arange(40) // 2, np.arange(40) // 2, np.eye(40, dtype=bool))
    assert found["rank_1"]["value"] == pytest.approx(1 / 39) == found["rank_1"]["chance"]
    assert found["auc"]["value"] == pytest.approx(0.5)


def test_who_has_no_other_picture_gets_no_rate_but_a_reason() -> None:
    found = match(np.eye(9), np.eye(9), np.arange(9), np.arange(9), np.eye(9, dtype=bool))
    assert all(rate["value"] is None and "nobody who is looked for" in rate["reason"] for rate in found.values())


# Trained recogniser


def test_a_head_learns_what_a_few_hidden_numbers_say_of_new_persons() -> None:
    """Of 20 numbers six belong to the person, the others, twice as large, to the photo."""
    rng = np.random.default_rng(0)
    persons = np.repeat(np.arange(200), 6)
    own = rng.normal(size=(200, 6))[persons] + 0.1 * rng.normal(size=(1200, 6))
    rows = np.concatenate([own, 2 * rng.normal(size=(1200, 14))], 1) @ np.linalg.qr(rng.normal(size=(20, 20)))[0]
    test = split_persons(persons).test
    plain = match(rows[test], rows[test], persons[test], persons[test], np.eye(len(test), dtype=bool))
    found = trained.attack_embeddings(rows, persons, effort=Effort(steps=400))
    for name in ("rank_1", "auc"):
        assert found[name]["interval_95"][0] > plain[name]["interval_95"][1]
    assert found["rank_1"]["interval_95"][0] > 10 * found["rank_1"]["chance"]
    shuffled = trained.attack_embeddings(rng.permutation(rows), persons, effort=Effort(steps=100))
    assert shuffled["auc"]["interval_95"][0] < 0.5 < shuffled["auc"]["interval_95"][1]


def test_rows_that_are_no_numbers_take_no_part() -> None:
    rng = np.random.default_rng(0)
    persons, rows = np.repeat(np.arange(20), 4), rng.normal(size=(80, 8))
    holes = rows.copy()
    holes[::8] = np.nan
    found = trained.attack_embeddings(rows, persons, holes, effort=Effort(steps=2))
    assert found["without_embedding"] == 10
    assert found["split"]["train_pictures"] + found["split"]["test_pictures"] == 70


def test_a_small_network_recognises_new_persons_the_same_way_every_time_and_tells_its_cost() -> None:
    _, faces, persons = few()
    state, steps = torch.get_rng_state(), []
    found = trained.attack_pictures(faces, persons, effort=FEW, step=lambda done, total: steps.append((done, total)))
    assert torch.equal(state, torch.get_rng_state())
    assert steps == [(number, 35) for number in range(1, 36)]
    assert found["task"] == "linkage" and found["split"] == split_persons(persons).to_json()
    assert found["rank_1"]["chance"] == pytest.approx(5 / (found["split"]["test_pictures"] - 1))
    assert found["rank_1"]["interval_95"][0] > found["rank_1"]["chance"]
    assert found["auc"]["interval_95"][0] > 0.5
    cost = found["cost"]
    assert 1e5 < cost["parameters"] < 2e5 and cost["steps"] == 35 and cost["seconds"] > 0
    assert without_seconds(trained.attack_pictures(faces, persons, effort=FEW)) == without_seconds(found)
    other = trained.attack_pictures(faces, persons, effort=Effort(steps=35, batch=32, seed=1))
    assert other["auc"] != found["auc"]


def test_nothing_is_recognised_where_nothing_is_left() -> None:
    photos, faces, persons = few()
    solid = crops(photos, "our solid", 16)
    assert np.ptp(solid) == 0 and solid[0, 0, 0, 0] == pytest.approx(128 / 255)
    found = trained.attack_pictures(solid, persons, faces, effort=Effort(steps=2, batch=16))
    assert found["task"] == "reidentification"
    assert found["rank_1"]["interval_95"][0] <= found["rank_1"]["chance"] <= found["rank_1"]["interval_95"][1]
    linked = trained.attack_pictures(solid, persons, effort=Effort(steps=2, batch=16))
    assert linked["rank_1"]["value"] == pytest.approx(linked["rank_1"]["chance"])
    assert linked["auc"]["value"] == pytest.approx(0.5)


def test_the_very_photo_is_left_out_unless_the_attacker_has_it() -> None:
    _, faces, persons = few()
    only = Effort(steps=1, batch=8)
    having = trained.attack_pictures(faces, persons, faces, effort=only, others_only=False)
    assert having["rank_1"]["value"] == 1.0
    assert trained.attack_pictures(faces, persons, faces, effort=only)["rank_1"]["value"] < 0.9


class Cancelled(Exception):
    pass


def undo(faces: np.ndarray, persons: np.ndarray, step) -> dict:
    return reconstruction.attack(faces, faces, persons, step=step)


@pytest.mark.parametrize("attack", [trained.attack_pictures, undo])
def test_an_exception_from_the_progress_ends_the_attack(attack) -> None:
    _, faces, persons = few()

    def step(done: int, total: int) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        attack(faces, persons, step=step)


def test_what_is_no_crop_is_refused_in_a_sentence() -> None:
    _, faces, persons = few()
    for wrong, sentence in ((faces[:5], r"must be 144 x 3 x S x S"), (faces[:, :, :12], "must be 144 x 3"),
                            (faces[..., :12, :12], "from 16 on"), (2 * faces, "from 0 to 1"),
                            (faces * np.nan, "from 0 to 1")):
        with pytest.raises(CamouflageError, match=sentence):
            trained.attack_pictures(wrong, persons)
    with pytest.raises(CamouflageError, match="one size, but are 32 and 16"):
        trained.attack_pictures(faces, persons, np.repeat(np.repeat(faces, 2, 2), 2, 3))
    with pytest.raises(CamouflageError, match="144 embeddings of one length"):
        trained.attack_embeddings(np.zeros((3, 2)), persons)
    with pytest.raises(CamouflageError, match="diverged at step"):
        trained.attack_embeddings(np.full((144, 4), 1e38), persons, effort=Effort(steps=3, rate=1e30))


# Reconstruction


def test_psnr_is_that_of_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    a, b = np.random.default_rng(0).random((2, 3, 3, 8, 8))
    assert reconstruction.psnr(a, b) == pytest.approx(
        [peak_signal_noise_ratio(one, other, data_range=1) for one, other in zip(a, b, strict=True)])
    assert reconstruction.psnr(a, a) == pytest.approx(100)


def test_a_negative_is_turned_back_and_a_solid_fill_is_not() -> None:
    photos, faces, persons = few()
    found = reconstruction.attack(1 - faces, faces, persons, embed=lambda crops: crops.reshape(len(crops), -1) / 8,
                                  effort=Effort(steps=100, batch=8, rate=4e-3))
    assert found["gain_over_anonymized"]["interval_95"][0] > 5
    assert found["gain_over_mean_face"]["interval_95"][0] > 0.8
    assert found["rank_1"]["value"] > found["before"]["rank_1"]["value"]
    assert 2e5 < found["cost"]["parameters"] < 5e5
    made = found["psnr"]
    assert found["gain_over_anonymized"]["value"] == pytest.approx(
        made["reconstruction"]["value"] - made["anonymized"]["value"])
    solid = reconstruction.attack(crops(photos, "our solid", 16), faces, persons, effort=Effort(steps=40, batch=8))
    assert solid["gain_over_mean_face"]["interval_95"][1] < 0.5
    assert solid["rank_1"]["reason"] == "no recogniser was given"


# Guessing


def noisy(picture: np.ndarray, seed: int) -> np.ndarray:
    """A method that leaves nothing but noise of its seed and of the picture's mean."""
    return np.random.default_rng(seed).random(picture.shape) * (0.5 + picture.mean() / 100)


def test_a_seed_that_is_tried_gives_the_published_picture_itself() -> None:
    _, faces, _ = few()
    gallery, truth = faces[::6], [3, 5, 8, 13, 21, 2]
    published, seen = [noisy(gallery[index], 7) for index in truth], []
    found = guessing.attack(published, gallery, truth, noisy, range(10), step=lambda *at: seen.append(at))
    assert found["exact"]["value"] == found["rank_1"]["value"] == 1.0
    assert found["rank_1"]["chance"] == pytest.approx(1 / 24)
    assert (found["candidates"], found["cost"]["runs"], seen[-1]) == (10, 240, (24, 24))
    missed = guessing.attack(published, gallery, truth, noisy, [100, 101])
    assert missed["exact"]["value"] == 0.0


def test_guessing_a_method_that_leaves_nothing_is_chance() -> None:
    def solid(picture: np.ndarray, grey: float) -> np.ndarray:
        return np.full_like(picture, grey)

    gallery = np.random.default_rng(0).random((20, 4, 4, 3))
    found = guessing.attack([solid(gallery[0], 0.5)] * 20, gallery, range(20), solid, [0.2, 0.5])
    assert found["exact"]["value"] == 1.0
    assert found["rank_1"]["value"] == pytest.approx(1 / 20)


def test_guessing_needs_something_to_guess() -> None:
    with pytest.raises(CamouflageError, match="got 1, 2 and 0"):
        guessing.attack([np.zeros(3)], np.zeros((2, 3)), [0], noisy, [])
    with pytest.raises(CamouflageError, match="position of its original, from 0 to 1"):
        guessing.attack([np.zeros(3)], np.zeros((2, 3)), [2], noisy, [1])


# Drawn identities


def test_a_photo_is_drawn_again_alike_and_another_one_of_the_person_in_other_clothes() -> None:
    first = photograph(4, 0)
    assert np.array_equal(first.pixels, photograph(4, 0).pixels) and first.box_ltrb == photograph(4, 0).box_ltrb
    second = photograph(4, 1)
    below = [photo.pixels[-4:, 40:56].mean((0, 1)) for photo in (first, second)]
    corner = [photo.pixels[:6, :6].mean((0, 1)) for photo in (first, second)]
    assert np.abs(below[0] - below[1]).max() > 20 and np.abs(corner[0] - corner[1]).max() > 5


def test_crops_lie_in_the_photo_and_every_method_leaves_less() -> None:
    photos, _, _ = few()
    assert crops(photos, width=HEAD).shape == (144, 3, 32, 32)
    losses = {name: np.abs(crops(photos[:20], name) - crops(photos[:20])).mean() for name in METHODS}
    assert losses["original"] == 0 < losses["weak blur"] < losses["our mosaic of 6 cells"] < losses["our solid"]
    assert 0 < losses["mosaic of 16 cells"] < losses["our mosaic of 6 cells"] < losses["our blur"] < losses["our solid"]
    assert np.ptp(crops(photos, "our solid")) == 0


# All of it


@functools.cache
def many():
    photos, persons = portraits(160, 10)
    return photos, crops(photos), persons, split_persons(persons)


@functools.cache
def recognised(method: str) -> dict:
    """The trained recogniser's result of originals against photos that the method anonymized."""
    photos, faces, persons, split = many()
    return trained.attack_pictures(crops(photos, method), persons, faces, split)["rank_1"]


@functools.cache
def undone(method: str) -> dict:
    photos, faces, persons, split = many()
    plain = trained.recogniser(faces[split.train], persons[split.train])
    return reconstruction.attack(crops(photos, method), faces, persons, plain, split)


@long
def test_a_trained_recogniser_beats_chance_on_a_mosaic_of_16_cells_and_not_on_solid() -> None:
    assert recognised("mosaic of 16 cells")["interval_95"][0] > 5 * recognised("mosaic of 16 cells")["chance"]
    low, high = recognised("our solid")["interval_95"]
    assert low <= recognised("our solid")["chance"] <= high


@long
def test_solid_protects_most_then_our_mosaic_then_a_weak_blur_then_nothing() -> None:
    order = ["our solid", "our mosaic of 6 cells", "weak blur", "original"]
    for more, less in itertools.pairwise(order):
        assert recognised(more)["value"] <= recognised(less)["interval_95"][1], (more, less)
    assert recognised("our solid")["interval_95"][1] < recognised("original")["interval_95"][0]


@long
def test_a_weak_blur_is_undone_and_solid_is_not() -> None:
    blur, solid = undone("weak blur"), undone("our solid")
    assert blur["gain_over_anonymized"]["interval_95"][0] > 3
    assert blur["gain_over_mean_face"]["interval_95"][0] > 5
    assert solid["gain_over_mean_face"]["interval_95"][1] < 0.5
    low, high = solid["rank_1"]["interval_95"]
    assert low <= solid["rank_1"]["chance"] <= high and blur["rank_1"]["interval_95"][0] > high
