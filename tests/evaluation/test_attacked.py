"""Which attacks are made of an evaluation's pictures, on which rows, and what is said of those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from camouflage.evaluation import attacked, crops, privacy
from camouflage.evaluation.attacks import trained
from camouflage.evaluation.attacks.learning import Effort
from camouflage.evaluation.seeing import Seen
from camouflage.verification.detection import FoundFace

SIDE = crops.SIDE
PERSONS = np.repeat(np.arange(12), 2)


class Recogniser:
    """Has a name."""

    class info:
        name = "R"


def compared(rows: np.ndarray, persons: np.ndarray) -> privacy.Compared:
    subjects = tuple(privacy.Subject(i, int(who), 0, "judged", 0) for i, who in enumerate(persons))
    return privacy.Compared(Recogniser(), privacy.Cast(subjects, (), 0, ()), rows, rows, False)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Attackers who hardly learn."""
    little = Effort(steps=2, batch=8)
    whole, learn = trained.recogniser, attacked.reconstruction.attack
    monkeypatch.setattr(trained, "recogniser", lambda samples, persons, effort=None, step=None: whole(
        samples, persons, little, step))
    monkeypatch.setattr(attacked.reconstruction, "attack", lambda *arguments, **named: learn(
        *arguments, **{**named, "effort": little}))


def test_every_attack_that_the_pictures_allow_is_made(quick):
    draw = np.random.default_rng(0)
    pictures = draw.random((24, 3, SIDE, SIDE)).astype(np.float32)
    rows = draw.normal(size=(24, 16)).astype(np.float32)
    steps = []
    found = list(attacked.attacks([compared(rows, PERSONS)], pictures, pictures, PERSONS, lambda *at: steps.append(at)))
    assert [one["name"] for one in found] == ["head on R, linkage", "head on R, reidentification", "network, linkage",
                                              "network, reidentification", "reconstruction"]
    assert all(one["split"]["test_persons"] == 6 and 0 <= one["rank_1"]["value"] <= 1 for one in found)
    assert len(steps) == 12, "two of each, and two more of the recogniser that looks at reconstructions"
    alone = list(attacked.attacks([], pictures, pictures, np.arange(24), lambda *at: None))
    assert [one["name"] for one in alone] == ["network, reidentification", "reconstruction"], "nobody has two photos"


def test_too_few_persons_are_said_and_the_others_go_on(quick):
    pictures = np.random.default_rng(0).random((6, 3, SIDE, SIDE)).astype(np.float32)
    found = list(attacked.attacks([], pictures, pictures, np.repeat([0, 1, 2], 2), lambda *at: None))
    assert len(found) == 3 and all("there are pictures of 3 persons" in one["why"] for one in found)


def test_crops_show_the_same_place_in_both_pictures():
    """A red square in the original is where a green one is in the anonymized picture, which is cut and half as large.
    """
    before, after = np.zeros((100, 200, 3), np.uint8), np.zeros((50, 50, 3), np.uint8)
    before[20:60, 80:120, 0], after[10:30, 15:35, 1] = 255, 255
    face = FoundFace((80.0, 20.0, 120.0, 60.0), ("d",), ("d",))
    seen = Seen((200, 100), (face,), {}, np.full((1, 5, 2), np.nan))
    (pair,) = crops.of_pair(before, after, seen)
    assert pair.shape == (2, SIDE, SIDE, 3)
    inside = slice(SIDE // 4, -SIDE // 4)
    assert (pair[0, inside, inside] == [255, 0, 0]).all() and (pair[1, inside, inside] == [0, 255, 0]).all()
    assert (pair[:, 0] == 0).all(), "what is around it"
    cast = privacy.Cast((privacy.Subject(0, 3, 0, "lost"), privacy.Subject(1, 4, 0, "withheld")), (), 0, ())
    originals, anonymized, persons = crops.gathered(cast, [np.stack([pair]), None])
    assert persons.tolist() == [3] and originals.shape == anonymized.shape == (1, 3, SIDE, SIDE)
    assert originals[0, 0, 16, 16] == 1 and anonymized[0, 1, 16, 16] == 1
