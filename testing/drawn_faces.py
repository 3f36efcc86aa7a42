"""Drawn faces for tests and examples: every CelebA attribute can be switched, and all keypoints are known exactly.

Who somebody is (shape of the face, colours, clothes) and where they stand comes from the seed alone. An attribute
changes pixels within the person's head region only: the box grown by 0.4 of its width to both sides and by its
height upwards and downwards. No keypoint depends on an attribute but the mouth's corners, which Smiling lifts.

========================  =======================================================================================
attribute                 drawn when on (when off)
========================  =======================================================================================
5_o_Clock_Shadow          stubble on jaw and upper lip
Arched_Eyebrows           brows with a high peak (nearly flat brows)
Attractive                large bright irises, dense lashes, a beauty spot
Bags_Under_Eyes           dark crescents below the eyes
Bald                      a shining skull (hair)
Bangs                     a fringe down to the brows
Big_Lips, Big_Nose        more than twice as thick; nearly twice as wide
Black_, Blond_, Brown_,   colour of hair, brows and beard (none of the four: red)
Gray_Hair
Blurry                    the head is out of focus
Bushy_Eyebrows            thick brows with loose hairs
Chubby                    wide cheeks and jaw
Double_Chin               a fold below the chin
Eyeglasses                framed glasses
Goatee                    a tuft on the chin
Heavy_Makeup              eye shadow, eyeliner with a wing
High_Cheekbones           bright cheekbones with a hollow below them
Male                      strong jaw, neck and brows, short hair (lashes, long hair)
Mouth_Slightly_Open       open mouth with teeth
Mustache                  a moustache
Narrow_Eyes               eyes half as high
No_Beard                  nothing (a beard along the jaw, unless 5_o_Clock_Shadow or Goatee says which)
Oval_Face                 narrow jaw and chin
Pale_Skin                 skin next to white
Pointy_Nose               a wedge with a sharp tip (a round nose)
Receding_Hairline         bare temples
Rosy_Cheeks               pink cheeks
Sideburns                 strips of hair before the ears
Smiling                   mouth curved, corners lifted and apart
Straight_Hair, Wavy_Hair  strands and a blunt end; curls all around (neither: a smooth bob)
Wearing_Earrings, _Hat,   what they say
_Lipstick, _Necklace,
_Necktie
Young                     smooth skin (wrinkles)
========================  =======================================================================================

Where attributes contradict each other, the one in ``WINS`` wins, and the others count as off: also in the result.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from camouflage.errors import CamouflageError
from camouflage.method.faces import ATTRIBUTES, Face, Faces, Picture, clip_box
from camouflage.validation import show, whole
from testing.drawn_person import BOTTOM, FINE, HAIR, LEFT, RIGHT, RIM, TOP, Pen, Person, hue, ring

Look = Mapping[str, bool]  # attribute name -> on; what is not named is off

_COLOURS = tuple(name for name in HAIR if name)
WINS: dict[str, tuple[str, ...]] = {  # applied from the top to the bottom
    "Bald": ("Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair"),
    "Wearing_Hat": ("Receding_Hairline",),
    "Bangs": ("Receding_Hairline",),
    "Straight_Hair": ("Wavy_Hair",),
    **{colour: _COLOURS[i + 1:] for i, colour in enumerate(_COLOURS[:-1])},
    "No_Beard": ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"),
}
MOST = 6  # persons in a picture
SMALLEST, LARGEST = 32, 2048  # px of a side
FORMATS = {".png": {}, ".jpg": {"quality": 95}, ".webp": {"quality": 95}}


def resolve(look: Look) -> dict[str, bool]:
    """All 40 attributes of a look, contradictions removed by ``WINS``.

    Raises:
        CamouflageError: no mapping, an unknown attribute, a value that is not True or False.
    """
    if not isinstance(look, Mapping):
        raise CamouflageError(f"A look must be a mapping of attribute names to True or False, but got {show(look)}.")
    for name, value in look.items():
        if name not in ATTRIBUTES:
            raise CamouflageError(f"A look has the unknown attribute {show(name)}. Known: {', '.join(ATTRIBUTES)}.")
        if not isinstance(value, (bool, np.bool_)):
            raise CamouflageError(f"A look must be True or False for {name}, but got {show(value)}.")
    full = {name: bool(look.get(name, False)) for name in ATTRIBUTES}
    for winner, losers in WINS.items():
        if full[winner]:
            full.update(dict.fromkeys(losers, False))
    return full


def random_look(rng: random.Random) -> dict[str, bool]:
    """A look as somebody may have it, without contradictions: beards on men only, grey hair mostly on the old, …"""
    def maybe(chance: float) -> bool:
        return rng.random() < chance

    male, young = maybe(0.5), maybe(0.65)
    look = {name: maybe(0.25) for name in ATTRIBUTES} | {"Male": male, "Young": young, "Blurry": maybe(0.06),
                                                         "Pale_Skin": maybe(0.12)}
    look |= {name: maybe(0.04 if male else 0.45) for name in ("Heavy_Makeup", "Wearing_Earrings", "Wearing_Lipstick",
                                                             "Wearing_Necklace")}
    look |= {name: male and maybe(0.3) for name in ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns",
                                                    "Wearing_Necktie")}
    look |= {name: maybe(0.5) for name in ("Attractive", "Mouth_Slightly_Open", "Oval_Face", "Smiling")}
    beard = look["5_o_Clock_Shadow"] or look["Goatee"] or (male and maybe(0.25))
    look |= {"No_Beard": not (beard or look["Mustache"] or look["Sideburns"]), "Bald": male and maybe(0.12),
             "Receding_Hairline": male and maybe(0.25), "Bags_Under_Eyes": maybe(0.1 if young else 0.45),
             "Double_Chin": maybe(0.1 if young else 0.35)}
    colour = rng.choices((*_COLOURS, ""), (0.5, 1, 1, 1, 0.6) if young else (3, 1, 1, 0.7, 0.4))[0]
    return resolve(look | {name: name == colour for name in _COLOURS})


def background(rng: random.Random, width: int, height: int) -> Image.Image:
    """The fine picture before anybody stands in it: a gradient of four colours and some shapes."""
    corners = np.array([[hue(rng, rng.uniform(0.1, 0.45), rng.uniform(0.6, 0.98)) for _ in range(2)] for _ in range(2)])
    image = Image.fromarray(corners.astype(np.uint8)).resize((width * FINE, height * FINE), Image.Resampling.BILINEAR,
                                                             box=(0.5, 0.5, 1.5, 1.5))
    side = max(width, height)
    for _ in range(rng.randint(3, 7)):
        pen = Pen(image, rng.uniform(0, width), rng.uniform(0, height), side * rng.uniform(0.05, 0.22),
                  rng.uniform(0, 90))
        shape = rng.choice((ring(0, 0, 1, 1), ring(0, 0, 1, 1)[:-1:7], ring(0, 0, 1, 1)[4:24:9], ring(0, 0, 6, 0.2)))
        pen.fill(hue(rng, rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.95)), shape)
    return image


def place(seed: int, width: int, height: int, count: int, crowded: bool) -> list[list[Person]]:
    """Rows of persons, far to near: as few rows as give good sizes. Numbered from left to right, back row first."""
    def scale(rows: int) -> float:
        return min(width / -(-count // rows) / (RIGHT - LEFT), height / rows / (BOTTOM - TOP))

    rng = random.Random(f"{seed} places {count}")
    rows = max(range(1, count + 1), key=lambda n: scale(n) * 0.85 ** n)
    result: list[list[Person]] = []
    for row in range(rows):
        members = count * (row + 1) // rows - count * row // rows
        result.append([])
        for column in range(members):
            unit = scale(rows) * rng.uniform(0.8, 1.0) * (1.5 if crowded else 1.0)
            left, top = width * column / members - LEFT * unit, height * row / rows - TOP * unit
            right, bottom = width * (column + 1) / members - RIGHT * unit, height * (row + 1) / rows - BOTTOM * unit
            x, y = rng.uniform(left, right), rng.uniform(top, bottom)
            if crowded:
                x += 0.3 * (width / 2 - x)  # they move together
                x, y = min(max(x, 1.2 * unit), width - 1.2 * unit), min(max(y, 1.4 * unit), height - 1.4 * unit)
            number = sum(map(len, result))
            result[-1].append(Person(random.Random(f"{seed} person {number}"), x, y, unit, rng.uniform(-10, 10)))
    return result


def draw(seed: int, width: int, height: int, persons: int | Sequence[Look] = 1,
         crowded: bool = False) -> tuple[np.ndarray, Picture]:
    """Draws persons side by side, each at their own size and tilted by up to 10 degrees.

    Args:
        seed: who they are, where they stand, what is behind them, and the looks if only their number is given.
        width, height: px, 32..2048.
        persons: their number, 1..6, or one look each (:func:`resolve`): from left to right, the back row first.
        crowded: larger and closer, so that boxes may overlap; whose chin is lower stands in front.

    Returns:
        The pixels, height x width x 3 uint8, and the picture's faces in the order of ``persons``: the box from brows
        to chin and ear to ear, score 1, where the eyes, the nose's tip and the mouth's corners were drawn (exact),
        attributes 0.0 or 1.0, no landmarks. Without ``crowded`` no box overlaps another one or leaves the picture.

    Raises:
        CamouflageError: any argument of another type or range; what :func:`resolve` refuses.
    """
    for name, value, low, high in (("seed", seed, -2**63, 2**64), ("width", width, SMALLEST, LARGEST),
                                   ("height", height, SMALLEST, LARGEST)):
        whole(value, low, high, name)
    if isinstance(persons, (list, tuple)):
        whole(len(persons), 1, MOST, "The number of looks in persons")
        looks = [resolve(look) for look in persons]
    else:
        number = whole(persons, 1, MOST, "persons (without a list of looks)")
        looks = [random_look(random.Random(f"{seed} look {i}")) for i in range(number)]
    image = background(random.Random(f"{seed} background"), width, height)
    rows = place(seed, width, height, len(looks), crowded)
    pairs = list(zip((person for row in rows for person in row), looks, strict=True))
    faces = tuple(_face(person, image, look) for person, look in pairs)
    if crowded:
        for i in sorted(range(len(faces)), key=lambda i: faces[i].box_ltrb[3]):
            person, look = pairs[i]
            person.draw_body(image)
            person.draw_head(image, look)
    else:
        for row in rows:  # all bodies of a row first: no shoulder hides a neighbour's tie
            for person in row:
                person.draw_body(image)
            for person, look in pairs:
                if person in row:
                    person.draw_head(image, look)
    return np.array(image.reduce(FINE)), Picture(height, width, faces)


def _face(person: Person, image: Image.Image, look: dict[str, bool]) -> Face:
    """What a perfect face reader would return of a person in the fine picture."""
    pen, (x, y) = Pen(image, person.x, person.y, person.scale, person.tilt), person.eye
    rim = pen.at(RIM)
    box = clip_box((*rim.min(axis=0), *rim.max(axis=0)), image.height // FINE, image.width // FINE)
    assert box, "every face's middle was placed inside the picture"
    points = pen.at([(-x, y), (x, y), (0, person.nose), *person.corners(look["Smiling"])])
    return Face(box, 1.0, tuple((float(x), float(y)) for x, y in points),
                attributes=tuple(float(look[name]) for name in ATTRIBUTES))


def write_folder(folder: str | Path, count: int, seed: int, size: int, most: int = 3) -> list[Path]:
    """Writes ``0000.png``, ``0001.jpg``, ``0002.webp``, ``0003.png``, … and beside each its ``0000.faces.json``.

    Args:
        folder: made if it does not exist; files of these names are overwritten.
        count: pictures, 1..10000.
        seed: picture i is drawn from seed + i.
        size: px of a side of the square pictures, 32..2048.
        most: persons in a picture are 1 to so many, 1..6.

    Returns:
        The pictures' paths.

    Raises:
        CamouflageError: any number of another type or range.
    """
    whole(count, 1, 10000, "count")
    whole(most, 1, MOST, "most")
    whole(size, SMALLEST, LARGEST, "size")
    folder, paths = Path(folder), []
    for i in range(count):
        pixels, picture = draw(seed + i, size, size, random.Random(f"{seed + i} count").randint(1, most))
        folder.mkdir(parents=True, exist_ok=True)
        suffix, options = list(FORMATS.items())[i % len(FORMATS)]
        paths.append(folder / f"{i:04d}{suffix}")
        Image.fromarray(pixels).save(paths[-1], **options)
        paths[-1].with_suffix(".faces.json").write_text(Faces((picture,)).to_json(indent=1), encoding="utf-8")
    return paths
