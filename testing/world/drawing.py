"""Drawn persons: identity, attributes, place and scene are parameters of the drawing, and all else follows exactly.

A picture is made of square cells of ``CELL`` pixels, 16 rows high and 16 columns wide for every person, so that a
latent (a cell of 8 x 8 pixels each) can hold it without loss. Everything is drawn four times finer, with soft edges,
and averaged. All numbers of the drawing are our choice.

* An **identity** is twelve numbers in -1..1 (``IDENTITY``): shape and colours of a face. Four attributes follow from
  it (``LASTING``), as they would: who has pale skin has it in every picture.
* The other **attributes** (``PASSING``) come and go from picture to picture, whoever it is.
* The **scene** is independent of both: background, shapes, clothes, and where and how large each person stands.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import torch

from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture, clip_box

CELL, CELLS, FINE = 8, 16, 4  # px of a cell's side; cells of a side, for one person; fine pixels of a cell's side
SHAPES = 3  # behind the persons
IDENTITY = ("width", "height", "skin", "blush", "hair", "tint", "length", "eyes", "iris", "nose", "mouth", "brows")
LASTING = ("Pale_Skin", "Black_Hair", "Blond_Hair", "Big_Nose")
PASSING = ("Bald", "Bangs", "Eyeglasses", "Mouth_Slightly_Open", "Mustache", "Smiling", "Wearing_Hat",
           "Wearing_Lipstick")
DRAWN = LASTING + PASSING
"""The attributes that are drawn, of the 40; the others are not known of a drawn person."""
MEAN_WIDTH, MEAN_HEIGHT = 1.0, 1.25  # half axes of the mean face; maps of the scene show this one, whoever it is
_CHANCE = (0.15, 0.3, 0.35, 0.4, 0.3, 0.5, 0.25, 0.35)  # of PASSING
_SKIN = ((0.36, 0.22, 0.14), (0.98, 0.86, 0.74))
_HAIR = ((0.07, 0.06, 0.09), (0.50, 0.24, 0.10), (0.95, 0.80, 0.36))  # black, brown, blond
_TINTS = ((0.02, 0.02, 0.08), (0.22, 0.02, 0.0), (-0.06, -0.1, 0.16))
_DARK = (0.10, 0.05, 0.06)

T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """All of B pictures of P persons each that says nothing of who they are.

    Attributes:
        corners: B x 3 x 2 x 2, colours of the background.
        shapes: B x SHAPES x 5: middle (x, y) and half sides in cells, and whether it is round.
        shape_colours: B x SHAPES x 3.
        places: B x P x 4: middle of the face (x, y) and half its width in cells, and its roll in radians, clockwise.
        clothes, things: B x P x 3, colours of clothes, and of hat and glasses.
    """

    corners: torch.Tensor
    shapes: torch.Tensor
    shape_colours: torch.Tensor
    places: torch.Tensor
    clothes: torch.Tensor
    things: torch.Tensor


@dataclass(frozen=True)
class Drawing:
    """B pictures of P persons each: ``identities`` B x P x 12, ``attributes`` B x P x 12 booleans (``DRAWN``)."""

    scene: Scene
    identities: torch.Tensor
    attributes: torch.Tensor

    @property
    def persons(self) -> int:
        """In each picture, side by side."""
        return self.identities.shape[1]

    @cached_property
    def cells(self) -> torch.Tensor:
        """Colours, B x 3 x 16 x 16P, 0..1."""
        return torch.nn.functional.avg_pool2d(_fine_picture(self), FINE)

    @property
    def pictures(self) -> torch.Tensor:
        """IMAGE, B x 128 x 128P x 3."""
        return enlarged(self.cells)

    @cached_property
    def maps(self) -> dict[str, torch.Tensor]:
        """What the scene's ControlNets see, B x 3 x 128 x 128P, 0..1, by name; nothing in them tells an identity."""
        return {name: fine.repeat_interleave(CELL // FINE, -1).repeat_interleave(CELL // FINE, -2)
                for name, fine in _fine_maps(self.scene).items()}

    def faces(self) -> Faces:
        """What a perfect face reader returns, in pixels."""
        return Faces(tuple(self._picture(index) for index in range(len(self.identities))))

    def _picture(self, index: int) -> Picture:
        height, width = CELLS * CELL, CELLS * CELL * self.persons
        found = []
        for place, who, looks in zip(self.scene.places[index], self.identities[index], self.attributes[index].tolist(),
                                     strict=True):
            across, down = _axes(who)
            eye, mouth = 0.42 + 0.08 * float(who[7]), 0.42 + 0.08 * float(who[10])
            (left, top), (right, bottom) = ((place[:2] + place[2] * torch.tensor((side * across, side * down)))
                                            * CELL for side in (-1, 1))
            box = clip_box((float(left), float(top), float(right), float(bottom)), height, width)
            assert box, "a face's middle lies inside its picture"
            points = _turned(place, torch.tensor(((-eye, -0.12), (eye, -0.12), (0.0, 0.35), (-mouth, 0.72),
                                                  (mouth, 0.72)))) * CELL
            known = dict(zip(DRAWN, looks, strict=True))
            found.append(Face(box, 1.0, tuple((float(x), float(y)) for x, y in points), attributes=tuple(
                float(known[name]) if name in known else None for name in ATTRIBUTES)))
        return Picture(height, width, tuple(found))


def enlarged(cells: torch.Tensor) -> torch.Tensor:
    """Cells B x 3 x h x w to an IMAGE, B x 8h x 8w x 3."""
    return cells.clamp(0, 1).repeat_interleave(CELL, -1).repeat_interleave(CELL, -2).movedim(1, -1)


def picked(values: T, index: torch.Tensor | slice) -> T:
    """Some of the pictures of a Scene or a Drawing."""
    parts = (getattr(values, field.name) for field in fields(values))  # type: ignore[arg-type]
    return type(values)(*(part[index] if isinstance(part, torch.Tensor) else picked(part, index) for part in parts))


def random_identities(count: int, persons: int, rng: torch.Generator) -> torch.Tensor:
    """People whom nobody has seen: B x P x 12."""
    return torch.rand(count, persons, len(IDENTITY), generator=rng) * 2 - 1


def random_attributes(identities: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """How they look today: B x P x 12 booleans, without contradictions (:func:`consistent`)."""
    drawn = torch.rand(*identities.shape[:-1], len(PASSING), generator=rng) < torch.tensor(_CHANCE)
    return consistent(torch.cat([lasting(identities), drawn], -1))


def lasting(identities: torch.Tensor) -> torch.Tensor:
    """The attributes that follow from identities, ... x 4."""
    number = dict(zip(IDENTITY, identities.unbind(-1), strict=True))
    return torch.stack([number["skin"] > 0.4, number["hair"] < -0.33, number["hair"] > 0.33, number["nose"] > 0.3], -1)


def consistent(attributes: torch.Tensor) -> torch.Tensor:
    """Nobody is bald under a hat; who is bald has no colour of hair; bangs are seen without a hat alone."""
    look = dict(zip(DRAWN, attributes.unbind(-1), strict=True))
    bald = look["Bald"] & ~look["Wearing_Hat"]
    look |= {"Bald": bald, "Bangs": look["Bangs"] & ~bald & ~look["Wearing_Hat"]}
    look |= {name: look[name] & ~bald for name in ("Black_Hair", "Blond_Hair")}
    return torch.stack([look[name] for name in DRAWN], -1)


def random_scene(count: int, persons: int, rng: torch.Generator) -> Scene:
    """Places and colours."""
    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(count, *shape, generator=rng) * (high - low) + low

    width = float(CELLS * persons)
    shapes = torch.cat([uniform(SHAPES, 1, high=width), uniform(SHAPES, 1, high=CELLS),
                        uniform(SHAPES, 2, low=1.5, high=4.0), uniform(SHAPES, 1).round()], -1)
    size = uniform(persons, 1, low=3.8, high=4.6)
    middle = torch.arange(persons).view(1, persons, 1) * CELLS + CELLS / 2
    places = torch.cat([middle + uniform(persons, 1, low=-0.9, high=0.9), uniform(persons, 1, low=8.2, high=9.2),
                        size, uniform(persons, 1, low=-0.14, high=0.14)], -1)
    return Scene(uniform(3, 2, 2, low=0.2, high=0.95), shapes, uniform(SHAPES, 3, low=0.1, high=0.9), places,
                 uniform(persons, 3), uniform(persons, 3, high=0.7))


def draw(count: int, rng: torch.Generator, persons: int = 1, identities: torch.Tensor | None = None) -> Drawing:
    """Pictures of random persons, or of these, in random scenes."""
    who = random_identities(count, persons, rng) if identities is None else identities
    return Drawing(random_scene(count, who.shape[1], rng), who, random_attributes(who, rng))


def aligned(cells: torch.Tensor, places: torch.Tensor, size: int = 20) -> torch.Tensor:
    """Faces cut out where they stand, upright and of one size: for what judges.

    Args:
        cells: B x 3 x h x w.
        places: B x 4, as in :class:`Scene`, of one person in each picture.
        size: of the results, B x 3 x size x size; they reach twice as far as the face is wide.
    """
    span = torch.linspace(-1.9, 1.9, size)
    v, u = torch.meshgrid(span - 0.15, span, indexing="ij")
    points = _turned(places[:, None, None], torch.stack([u, v], -1)[None])
    grid = points / torch.tensor((cells.shape[-1], cells.shape[-2])) * 2 - 1
    return torch.nn.functional.grid_sample(cells, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _turned(places: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """From a person's frame (0, 0 the middle of the face, 1 half its mean width, y down) to cells."""
    x, y, size, roll = places.unbind(-1)
    u, v = points.unbind(-1)
    return torch.stack([x + size * (u * roll.cos() - v * roll.sin()), y + size * (u * roll.sin() + v * roll.cos())], -1)


def _axes(identity: torch.Tensor) -> tuple[float, float]:
    return MEAN_WIDTH + 0.14 * float(identity[0]), MEAN_HEIGHT + 0.14 * float(identity[1])


class _Frame:
    """Signed distances to shapes, in fine pixels, negative inside, in a frame of its own; all are B x H x W."""

    def __init__(self, places: torch.Tensor, width: int):
        rows, columns = ((torch.arange(side * FINE) + 0.5) / FINE for side in (CELLS, width))
        dy, dx = torch.meshgrid(rows, columns, indexing="ij")
        x, y, size, roll = (value.view(-1, 1, 1) for value in places.unbind(-1))
        dx, dy = (dx - x) / size, (dy - y) / size
        self.u, self.v = dx * roll.cos() + dy * roll.sin(), dy * roll.cos() - dx * roll.sin()
        self.unit = size * FINE

    def ellipse(self, x: torch.Tensor | float, y: torch.Tensor | float, across: torch.Tensor | float,
                down: torch.Tensor | float) -> torch.Tensor:
        across, down = (torch.as_tensor(value) for value in (across, down))
        far = (((self.u - x) / across) ** 2 + ((self.v - y) / down) ** 2).sqrt()
        return (far - 1) * torch.minimum(across, down) * self.unit

    def box(self, x: torch.Tensor | float, y: torch.Tensor | float, across: torch.Tensor | float,
            down: torch.Tensor | float) -> torch.Tensor:
        return torch.maximum((self.u - x).abs() - across, (self.v - y).abs() - down) * self.unit

    def pair(self, kind: str, x: torch.Tensor | float, *shape: torch.Tensor | float) -> torch.Tensor:
        one = getattr(self, kind)
        return torch.minimum(one(-x, *shape), one(x, *shape))

    def bow(self, y: torch.Tensor | float, across: torch.Tensor | float, thick: torch.Tensor | float,
            lift: torch.Tensor | float) -> torch.Tensor:
        """A stroke whose ends lie ``lift`` higher than its middle."""
        middle = y - lift * (self.u / across) ** 2
        return torch.maximum((self.v - middle).abs() - thick, self.u.abs() - across) * self.unit


def _cover(distance: torch.Tensor) -> torch.Tensor:
    return (0.5 - distance).clamp(0, 1)


def _paint(picture: torch.Tensor, colour: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    return picture + cover[:, None] * (colour[..., None, None] - picture)


def _shapes(scene: Scene, width: int) -> list[torch.Tensor]:
    frame = _Frame(torch.tensor((0.0, 0.0, 1.0, 0.0)).expand(len(scene.places), 4), width)
    result = []
    for shape in scene.shapes.unbind(1):
        x, y, across, down, is_round = (value.view(-1, 1, 1) for value in shape.unbind(-1))
        result.append(torch.where(is_round > 0.5, frame.ellipse(x, y, across, down), frame.box(x, y, across, down)))
    return result


def _body(frame: _Frame) -> torch.Tensor:
    return torch.minimum(frame.ellipse(0.0, 2.75, 1.9, 1.1), frame.box(0.0, 1.6, 0.42, 0.5))


def empty(scene: Scene) -> torch.Tensor:
    """The cells of a scene before anybody stands in it."""
    return torch.nn.functional.avg_pool2d(_background(scene), FINE)


def _background(scene: Scene) -> torch.Tensor:
    width = CELLS * scene.places.shape[1]
    picture = torch.nn.functional.interpolate(scene.corners, (CELLS * FINE, width * FINE), mode="bilinear")
    for distance, colour in zip(_shapes(scene, width), scene.shape_colours.unbind(1), strict=True):
        picture = _paint(picture, colour, _cover(distance))
    return picture


def _fine_picture(drawing: Drawing) -> torch.Tensor:
    scene, width, picture = drawing.scene, CELLS * drawing.persons, _background(drawing.scene)
    for person in range(drawing.persons):
        picture = _person(picture, scene, person, drawing.identities[:, person], drawing.attributes[:, person], width)
    return picture


def _person(picture: torch.Tensor, scene: Scene, person: int, identity: torch.Tensor, attributes: torch.Tensor,
            width: int) -> torch.Tensor:
    frame = _Frame(scene.places[:, person], width)
    who = {name: value.view(-1, 1, 1) for name, value in zip(IDENTITY, identity.unbind(-1), strict=True)}
    look = {name: value.float().view(-1, 1, 1) for name, value in zip(DRAWN, attributes.unbind(-1), strict=True)}
    skin, hair, iris, things = *_colours(identity), scene.things[:, person]
    across, down = MEAN_WIDTH + 0.14 * who["width"], MEAN_HEIGHT + 0.14 * who["height"]
    eye, haired = 0.42 + 0.08 * who["eyes"], 1 - look["Bald"]
    dark, white = torch.tensor(_DARK).expand(len(identity), 3), torch.full((len(identity), 3), 0.96)

    long = 0.35 + 0.65 * who["length"]
    locks = torch.minimum(frame.ellipse(0.0, -0.25, across + 0.28, down + 0.12),
                          frame.box(0.0, (long - 0.3) / 2, across + 0.24, (long + 0.3) / 2))
    picture = _paint(picture, hair, _cover(locks) * haired)
    picture = _paint(picture, scene.clothes[:, person], _cover(frame.ellipse(0.0, 2.75, 1.9, 1.1)))
    picture = _paint(picture, skin * 0.82, _cover(frame.box(0.0, 1.45, 0.42, 0.4)))
    face = frame.ellipse(0.0, 0.0, across, down)
    picture = _paint(picture, skin, _cover(face))
    top = torch.maximum(frame.ellipse(0.0, 0.0, across + 0.05, down + 0.05), (frame.v + 0.72) * frame.unit)
    fringe = torch.maximum(frame.ellipse(0.0, 0.0, across, down),
                           torch.maximum(frame.v + 0.34, -frame.v - 1.4) * frame.unit)
    picture = _paint(picture, hair, _cover(top) * haired)
    picture = _paint(picture, hair, _cover(fringe) * look["Bangs"])

    brows = frame.pair("box", eye, -0.44, 0.27, 0.07 + 0.04 * who["brows"])
    picture = _paint(picture, hair * 0.7, _cover(brows) * (1 - look["Bangs"]))
    picture = _paint(picture, white, _cover(frame.pair("ellipse", eye, -0.12, 0.27, 0.18)))
    picture = _paint(picture, iris, _cover(frame.pair("ellipse", eye, -0.12, 0.16, 0.17)))
    big = look["Big_Nose"]
    nose = frame.ellipse(0.0, 0.28, 0.13 + 0.03 * who["nose"] + 0.12 * big, 0.24 + 0.05 * big)
    picture = _paint(picture, skin * 0.68, _cover(nose))

    wide = 0.38 + 0.07 * who["mouth"] + 0.12 * look["Smiling"]
    lift = -0.06 + 0.36 * look["Smiling"]
    low = 0.74 + 0.14 * look["Smiling"]
    lips = skin * torch.tensor((0.72, 0.5, 0.5))
    red = look["Wearing_Lipstick"].view(-1, 1)
    lips = lips + red * (torch.tensor((0.88, 0.04, 0.22)) - lips)
    opened = look["Mouth_Slightly_Open"]
    picture = _paint(picture, lips, _cover(frame.bow(low, wide, 0.11 + 0.09 * opened + 0.03 * look["Wearing_Lipstick"],
                                                     lift)))
    picture = _paint(picture, dark, _cover(frame.bow(low, wide - 0.1, 0.1, lift)) * opened)
    picture = _paint(picture, hair * 0.55, _cover(frame.bow(0.53, 0.46, 0.09, -0.06)) * look["Mustache"])

    lens = frame.pair("ellipse", eye, -0.12, 0.40, 0.34)
    bridge = frame.box(0.0, -0.14, across, 0.06)
    glass = things * 0.35
    picture = _paint(picture, glass, _cover(lens) * look["Eyeglasses"] * 0.55)
    picture = _paint(picture, glass, torch.maximum(_cover((lens + 0.5).abs() - 0.9), _cover(bridge) * (
        _cover(-lens))) * look["Eyeglasses"])
    crown = torch.maximum(frame.ellipse(0.0, -0.7, across + 0.22, 1.0), (frame.v + 0.62) * frame.unit)
    hat = torch.minimum(crown, frame.box(0.0, -0.7, across + 0.45, 0.13))
    return _paint(picture, things, _cover(hat) * look["Wearing_Hat"])


def _colours(identity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of skin, hair and irises, B x 3 each."""
    who = dict(zip(IDENTITY, identity.unbind(-1), strict=True))
    pale, dark = torch.tensor(_SKIN[1]), torch.tensor(_SKIN[0])
    skin = dark + (pale - dark) * (who["skin"] / 2 + 0.5)[:, None]
    skin = skin + 0.07 * who["blush"][:, None] * torch.tensor((0.6, -0.6, -1.0))
    kind = (who["hair"] > -0.33).long() + (who["hair"] > 0.33).long()
    hair = torch.tensor(_HAIR)[kind]
    hair = hair + who["tint"][:, None] * torch.tensor(_TINTS)[kind]
    phase = who["iris"][:, None] * 1.5 + torch.tensor((0.0, 2.0, 4.0))
    return skin.clamp(0, 1), hair.clamp(0, 1), 0.35 + 0.25 * torch.cos(phase)


def _fine_maps(scene: Scene) -> dict[str, torch.Tensor]:
    count, persons = scene.places.shape[:2]
    width = CELLS * persons
    blank = torch.zeros(count, 3, CELLS * FINE, width * FINE)
    pose, segmentation, lines = blank, blank.clone(), blank[:, 0]

    def colour(red: float, green: float, blue: float) -> torch.Tensor:
        return torch.tensor((red, green, blue)).expand(count, 3)

    def drawn(distance: torch.Tensor, kind: torch.Tensor) -> None:
        nonlocal segmentation, lines
        segmentation = _paint(segmentation, kind, (distance < 0).float())
        lines = torch.maximum(lines * (distance > 0), (1.2 - distance.abs()).clamp(0, 1))

    for distance, shape in zip(_shapes(scene, width), scene.shapes.unbind(1), strict=True):
        is_round = shape[:, 4:5]
        drawn(distance, is_round * colour(0.1, 0.7, 0.2) + (1 - is_round) * colour(0.7, 0.6, 0.1))
    for person in range(persons):
        frame = _Frame(scene.places[:, person], width)
        head = frame.ellipse(0.0, 0.0, MEAN_WIDTH, MEAN_HEIGHT)
        drawn(_body(frame), colour(0.1, 0.3, 0.9))
        drawn(head, colour(0.9, 0.2, 0.2))
        pose = _paint(pose, colour(0.0, 0.6, 0.0), (_body(frame) < 0).float())
        pose = _paint(pose, colour(0.6, 0.0, 0.0), (head < 0).float())
        points = torch.minimum(frame.pair("ellipse", 0.42, -0.12, 0.17, 0.17), frame.ellipse(0.0, 0.74, 0.3, 0.12))
        pose = _paint(pose, colour(0.0, 0.0, 1.0), (points < 0).float())
    return {"pose": pose, "segmentation": segmentation, "lineart": lines[:, None].expand(-1, 3, -1, -1)}
