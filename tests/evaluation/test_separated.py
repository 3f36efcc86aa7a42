"""How far the others move when one person is changed: by hand-made embeddings, and by pixels that are painted here."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from camouflage.evaluation import study
from camouflage.evaluation.cache import SeenCache
from camouflage.evaluation.pairing import Pair, Pairing
from camouflage.evaluation.seeing import Seen
from camouflage.evaluation.separated import PIXELS, separated
from camouflage.evaluation.study import Observers
from camouflage.verification.detection import FoundFace
from camouflage.verification.model_info import ModelInfo

BOXES = ((20.0, 30.0, 44.0, 62.0), (100.0, 30.0, 124.0, 62.0), (180.0, 30.0, 204.0, 62.0))
LEVELS = (50, 100, 150)


class Recogniser:
    info = ModelInfo("hand-made", "1", "none", ())
    metric = "Euclidean"


def photo(path, levels, count=3):
    """Faces as flat patches; the level of a patch is its embedding."""
    pixels = np.zeros((96, 240, 3), np.uint8)
    for (left, _, right, _), level in list(zip(BOXES, levels, strict=True))[:count]:
        pixels[:, int(left) - 16:int(right) + 16] = level
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def see(pixels, detectors, embedders):
    """From right to left, so that the order has to be mended; black is nobody."""
    boxes = [box for box in reversed(BOXES) if pixels[40, int(box[0])].any()]
    levels = np.array([[float(pixels[40, int(box[0]), 0])] for box in boxes]).reshape(-1, 1)
    return Seen((pixels.shape[1], pixels.shape[0]), tuple(FoundFace(box, ("d",), ("d",)) for box in boxes),
                {"hand-made": levels}, np.full((len(boxes), 5, 2), np.nan))


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "see", see)

    def measure(changed, *trials):
        plain, edited = [], []
        for number, (before, after, count) in enumerate(trials):
            original = photo(tmp_path / f"photos/{number}.png", LEVELS, count)
            one, other = (after and photo(tmp_path / way / f"{number}.png", levels, count)
                          for way, levels in (("plain", before), ("edited", after)))
            plain.append(Pair(str(number), original, one))
            edited.append(Pair(str(number), original, other))
        observers = Observers((), [Recogniser()])
        with SeenCache(tmp_path / "out", "mine") as cache:
            return separated(Pairing(tuple(plain)), Pairing(tuple(edited)), changed, observers, cache)
    return measure


def test_persons_are_counted_from_the_left_and_the_others_are_compared_with_the_one(found):
    one = found(0, ((10, 20, 30), (50, 24, 36), 3))
    assert one["hand-made"]["value"] == pytest.approx((4 + 6) / 2 / 40)
    assert one[PIXELS]["value"] == pytest.approx((4 + 6) / 2 / 40), "crops of flat patches move as the patches do"
    second = found(1, ((10, 20, 30), (10, 60, 30), 3))
    assert second["hand-made"]["value"] == second[PIXELS]["value"] == 0 and second[PIXELS]["cases"] == 1


def test_photos_that_show_too_few_persons_are_counted(found):
    both = found(1, ((10, 20, 30), (10, 60, 30), 3), ((10, 20, 30), (40, 20, 30), 1), ((10, 20, 30), None, 3),
                 ((10, 20, 30), (20, 40, 30), 2))
    assert both["hand-made"]["fewer_persons"] == 2
    assert both["hand-made"]["cases"] == 2 and both["hand-made"]["value"] == pytest.approx((0 + 10 / 20) / 2)
    nobody = found(2, ((10, 20, 30), (10, 60, 30), 2))
    assert nobody[PIXELS]["value"] is None and nobody[PIXELS]["fewer_persons"] == 1


def test_a_face_that_is_not_there_any_more_says_nothing(found):
    lost = found(0, ((10, 20, 30), (50, 0, 36), 3))
    assert lost["hand-made"]["value"] == pytest.approx(6 / 40), "of the third person alone"
    gone = found(0, ((10, 20, 30), (0, 24, 36), 3))
    assert gone["hand-made"]["value"] is None and gone["hand-made"]["left_out"] == 1
