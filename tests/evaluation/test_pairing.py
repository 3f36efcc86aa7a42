"""Which pictures belong together, and what is said where it is not clear."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from camouflage.batch.accounts import Accounts, Outcome
from camouflage.errors import CamouflageError
from camouflage.evaluation.pairing import MISSING, THERE, open_pairs


def folder(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(place / name)
    place.mkdir(exist_ok=True)
    return place


def pairs(found) -> dict[str, str | None]:
    return {pair.key: pair.anonymized.name if pair.anonymized else None for pair in found.pairs}


def test_the_nearest_name_counts(tmp_path):
    original = folder(tmp_path / "o", "a.jpg", "b/c.png", "d.png", "twin.jpg", "twin.png", "gone.png")
    anonymized = folder(tmp_path / "a", "a.png", "b/c.png", "d.webp", "twin.jpg.png", "twin.png", "stranger.png")
    found = open_pairs(original, anonymized)
    assert pairs(found) == {"a.jpg": "a.png", "b/c.png": "c.png", "d.png": "d.webp", "gone.png": None,
                            "twin.jpg": "twin.jpg.png", "twin.png": "twin.png"}
    assert found.states == {THERE: 5, MISSING: 1} and found.strangers == ("stranger.png",)


def test_twins_without_an_answer_are_left_alone_and_two_answers_refused(tmp_path):
    original = folder(tmp_path / "o", "x.jpg", "x.png", "y.png")
    found = open_pairs(original, folder(tmp_path / "a", "x.webp", "y.png"))
    assert pairs(found) == {"x.jpg": None, "x.png": None, "y.png": "y.png"}, "which of the two it is, nobody knows"
    with pytest.raises(CamouflageError, match=r"y\.jpg and y\.webp could all belong to the original y\.png"):
        open_pairs(folder(tmp_path / "p", "y.png"), folder(tmp_path / "b", "y.jpg", "y.webp"))


def test_the_accounts_of_a_run_say_it(tmp_path):
    original = folder(tmp_path / "o", "a.jpg", "b.jpg", "c.jpg")
    anonymized = folder(tmp_path / "a", "12/hash.png")
    Accounts(anonymized).write(0, [Outcome("a.jpg", "12/hash.png", "redacted"), Outcome("b.jpg", "99/x", "blocked")])
    found = open_pairs(original, anonymized)
    assert {pair.key: pair.state for pair in found.pairs} == {"a.jpg": THERE, "b.jpg": "blocked", "c.jpg": MISSING}
    assert found.pairs[0].anonymized == anonymized / "12/hash.png"


@pytest.mark.parametrize(("text", "said"), [
    ("name,who\na.jpg,x\n", "columns file and identity"), ("file,identity\nz.jpg,x\n", "not among the originals"),
    ("file,identity\na.jpg,x\na.jpg,y\n", "both 'x' and 'y'"), ("file,identity\na.jpg,\n", "says nobody"), ("", "CSV")])
def test_identities_that_cannot_be_are_refused(tmp_path, text, said):
    original, anonymized = folder(tmp_path / "o", "a.jpg", "b.jpg"), folder(tmp_path / "a", "a.jpg")
    (tmp_path / "who.csv").write_text(text)
    with pytest.raises(CamouflageError, match=said):
        open_pairs(original, anonymized, tmp_path / "who.csv")


def test_identities_are_read(tmp_path):
    original, anonymized = folder(tmp_path / "o", "a.jpg", "b/c.jpg"), folder(tmp_path / "a", "a.jpg")
    (tmp_path / "who.csv").write_text("identity,file,more\nAnna,a.jpg,1\nBört,b/c.jpg,2\n", encoding="utf-8")
    assert [pair.identity for pair in open_pairs(original, anonymized, tmp_path / "who.csv").pairs] == ["Anna", "Bört"]


def test_nothing_in_common_or_nothing_there_is_said(tmp_path):
    original, other = folder(tmp_path / "o", "a.jpg"), folder(tmp_path / "a", "b.jpg")
    with pytest.raises(CamouflageError, match="has the name of one in"):
        open_pairs(original, other)
    with pytest.raises(CamouflageError, match="There is no picture in"):
        open_pairs(original, folder(tmp_path / "empty"))
    with pytest.raises(CamouflageError, match="same folder"):
        open_pairs(original, original)
    with pytest.raises(CamouflageError, match="There is no folder"):
        open_pairs(original, tmp_path / "nowhere")
