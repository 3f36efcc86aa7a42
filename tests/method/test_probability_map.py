"""The encoding of the authors' code: probabilities in floored boxes, against a slow, obvious reference."""

from __future__ import annotations

import random

import pytest
import torch

from camouflage.errors import CamouflageError
from camouflage.method.attribute_map import PROBABILITIES, SIGNED, AttributeMap, as_picture, attribute_map
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture


def reference(picture: Picture, h: int, w: int) -> torch.Tensor:
    """Painted as one would with a brush: large faces first, then the smaller over them; keypoints at last."""
    drawn = torch.zeros(41, h, w, dtype=torch.float64)

    def area(face: Face) -> float:
        left, top, right, bottom = face.box_ltrb
        return (right - left) * (bottom - top)

    across, down = w / picture.width, h / picture.height
    for face in sorted(picture.faces, key=area, reverse=True):
        left, top, right, bottom = face.box_ltrb
        values = torch.tensor([0.5 if p is None else p for p in face.attributes], dtype=torch.float64)
        for i in range(int(top * down), int(bottom * down)):
            for j in range(int(left * across), int(right * across)):
                drawn[:40, i, j] = values
    for face in picture.faces:
        for x, y in face.keypoints:
            if 0 <= x < picture.width and 0 <= y < picture.height:
                drawn[40, int(y * down), int(x * across)] = 1.0
    return drawn


def random_picture(rng: random.Random) -> Picture:
    width, height = rng.choice([(768, 768), (512, 512), (640, 448)])
    faces = []
    for _ in range(rng.randint(0, 6)):
        side = rng.uniform(70, 300)  # more than a cell of the coarsest latent below
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        box = left, top, left + side, top + side * rng.uniform(0.6, 1.0)
        points = tuple((rng.uniform(left - 20, box[2]), rng.uniform(top - 20, box[3] + 20)) for _ in range(5))
        faces.append(Face(box, 0.9, points, attributes=tuple(rng.choice([rng.random(), None, 0.0, 1.0])
                                                             for _ in ATTRIBUTES)))
    return Picture(height, width, tuple(faces))


def drawn(picture: Picture, h: int, w: int, **options) -> torch.Tensor:
    return attribute_map(Faces((picture,)), h, w, dtype=torch.float64, encoding=PROBABILITIES, **options)[0]


@pytest.mark.parametrize("seed", range(20))
def test_identical_to_the_reference(seed):
    picture = random_picture(random.Random(seed))
    for h, w in ((picture.height // 8, picture.width // 8), (20, 31)):
        assert torch.equal(drawn(picture, h, w), reference(picture, h, w))


def face(box, p=0.75, points=((1, 1),) * 5) -> Face:
    return Face(box, 0.9, tuple(points), attributes=(p,) * 40)


def test_by_hand():
    """A box from 8.9 to 24.1 px has the cells 1 and 2; probabilities stay as they are, 0 is where nobody is."""
    points = [(9, 9), (20, 3), (63.9, 63.9), (64, 1), (-1, 0)]
    found = drawn(Picture(64, 64, (face((8.9, 0, 24.1, 16), 0.75, points),)), 8, 8)
    wanted = torch.zeros(41, 8, 8, dtype=torch.float64)
    wanted[:40, 0:2, 1:3] = 0.75
    wanted[40, 1, 1] = wanted[40, 0, 2] = wanted[40, 7, 7] = 1.0
    assert torch.equal(found, wanted)
    absent = drawn(Picture(64, 64, (face((0, 0, 64, 64), 0.0),)), 8, 8)
    assert not absent[:40].any() and absent[40].sum() == 1, "surely not is 0, as in the authors' code"


def test_nobody_is_lost_and_nobody_is_nothing():
    tiny = drawn(Picture(64, 64, (face((17, 33, 20, 36)),)), 8, 8)
    assert (tiny[:40] != 0).sum() == 40 and (tiny[:40, 4, 2] == 0.75).all()
    assert not drawn(Picture(64, 64), 8, 8).any()


def test_only_boxes():
    for region in ("grown", "landmarks"):
        with pytest.raises(CamouflageError, match="camouflage-probabilities version 1 a face's region is its box"):
            drawn(Picture(64, 64), 8, 8, region=region)


def test_it_is_shown_as_it_is():
    """The same persons in the same colours, whatever the encoding."""
    faces = Faces((Picture(64, 64, (face((0, 0, 32, 64), 0.9), face((32, 0, 64, 64), 0.2))),))
    shown = [as_picture(AttributeMap(attribute_map(faces, 8, 8, encoding=e), e)) for e in (
        PROBABILITIES, SIGNED)]
    apart = (shown[0] - shown[1]).abs().amax(-1)[0]
    assert apart[20:, 20:].max() < 1e-6, "keypoints, at the top, are drawn in another way"
