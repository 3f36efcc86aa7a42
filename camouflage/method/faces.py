"""Result types of face reading: frozen, host-independent, printable, and without loss to JSON and back.

Coordinates are pixels of the picture that was read, x to the right and y down, continuous: 0 is the left (upper)
edge of the first pixel, ``width`` (``height``) the right (lower) edge of the last one. What the fields hold is
FACER's output (paper section 3.2); the types, their limits and the JSON layout are our choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import CamouflageError
from ..validation import number, read_json, record, sequence, show

# The 40 CelebA attributes in FACER's order (`FaRLFaceAttribute.labels`, the alphabetical order of list_attr_celeba).
ATTRIBUTES: tuple[str, ...] = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)
FORGOTTEN: tuple[None, ...] = (None,) * len(ATTRIBUTES)
KEYPOINTS = ("viewer-left eye", "viewer-right eye", "nose", "viewer-left mouth corner", "viewer-right mouth corner")
LANDMARKS = 68

MAX_SIDE = 65536  # pixels of a picture
MAX_COORDINATE = 4.0 * MAX_SIDE  # keypoints and landmarks may lie outside the picture, but not anywhere
MAX_FACES = 1000  # in one picture
MAX_PICTURES = 10000
MAX_JSON = 64 * 2**20  # characters
JSON_FORMAT, JSON_VERSION = "camouflage-faces", 1

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def _points(value: object, count: int, where: str) -> tuple[Point, ...]:
    return tuple((number(x, -MAX_COORDINATE, MAX_COORDINATE, f"{where}[{i}] x"),
                  number(y, -MAX_COORDINATE, MAX_COORDINATE, f"{where}[{i}] y"))
                 for i, point in enumerate(sequence(value, count, where))
                 for x, y in [sequence(point, 2, f"{where}[{i}]")])


def clip_box(box_ltrb: Iterable[float], height: int, width: int) -> Box | None:
    """Clips a detector's box (left, top, right, bottom; pixels) to the picture; None where nothing is left of it."""
    left, top, right, bottom = (float(value) for value in box_ltrb)
    left, right = max(left, 0.0), min(right, float(width))
    top, bottom = max(top, 0.0), min(bottom, float(height))
    return (left, top, right, bottom) if left < right and top < bottom else None


@dataclass(frozen=True, slots=True, repr=False)
class Face:
    """One face. Lists become tuples, numbers become floats; everything is checked at construction.

    Attributes:
        box_ltrb: left, top, right, bottom in pixels, clipped to the picture (:func:`clip_box`), left < right and
            top < bottom.
        score: of the detector, 0..1.
        keypoints: 5 points (x, y) in pixels, in the order of ``KEYPOINTS``; may lie outside the picture.
        landmarks: 68 points (x, y) in pixels in iBUG's order, or None where the aligner did not run.
        attributes: 40 probabilities 0..1 in the order of ``ATTRIBUTES``; None where nothing is known, because it was
            never read or was forgotten.

    Raises:
        CamouflageError: any field of another type, count or range.
    """

    box_ltrb: Box
    score: float
    keypoints: tuple[Point, ...]
    landmarks: tuple[Point, ...] | None = None
    attributes: tuple[float | None, ...] = FORGOTTEN

    def __post_init__(self) -> None:
        box = tuple(number(value, 0.0, MAX_SIDE, f"box_ltrb[{i}]")
                    for i, value in enumerate(sequence(self.box_ltrb, 4, "box_ltrb")))
        if not (box[0] < box[2] and box[1] < box[3]):
            raise CamouflageError(f"box_ltrb must have left < right and top < bottom, but got {show(box)}.")
        values = zip(ATTRIBUTES, sequence(self.attributes, len(ATTRIBUTES), "attributes"), strict=True)
        attributes = tuple(None if p is None else number(p, 0.0, 1.0, f"attributes[{name!r}]") for name, p in values)
        object.__setattr__(self, "box_ltrb", box)
        object.__setattr__(self, "score", number(self.score, 0.0, 1.0, "score"))
        object.__setattr__(self, "keypoints", _points(self.keypoints, len(KEYPOINTS), "keypoints"))
        if self.landmarks is not None:
            object.__setattr__(self, "landmarks", _points(self.landmarks, LANDMARKS, "landmarks"))
        object.__setattr__(self, "attributes", attributes)

    def leading(self, count: int = 3) -> list[tuple[str, float]]:
        """The attributes that are there (p >= 0.5), likeliest first, at most ``count``: pairs of name and p."""
        there = [(name, p) for name, p in zip(ATTRIBUTES, self.attributes, strict=True) if p is not None and p >= 0.5]
        return sorted(there, key=lambda pair: -pair[1])[:count]

    def key(self) -> tuple:
        """Sorts faces by everything they hold, box first: equal keys mean equal faces, whatever order they came in."""
        return (self.box_ltrb, self.keypoints, self.score, self.landmarks or (),
                tuple(-1.0 if p is None else p for p in self.attributes))

    def __repr__(self) -> str:
        left, top, right, bottom = self.box_ltrb
        known = len(ATTRIBUTES) - self.attributes.count(None)
        names = ", ".join(f"{name} {p:.2f}" for name, p in self.leading())
        return (f"Face({right - left:.0f} x {bottom - top:.0f} px at ({left:.0f}, {top:.0f}), score {self.score:.2f}, "
                f"{'with' if self.landmarks else 'no'} landmarks, {known} of {len(ATTRIBUTES)} attributes"
                f"{': ' + names if names else ''})")


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """One picture's size in pixels and its faces, in the detector's order.

    Raises:
        CamouflageError: a side outside 1..65536 px, more than 1000 faces, a box that leaves the picture.
    """

    height: int
    width: int
    faces: tuple[Face, ...] = ()

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            side = getattr(self, name)
            if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
                raise CamouflageError(f"{name} must be whole pixels from 1 to {MAX_SIDE}, but got {show(side)}.")
        faces = tuple(sequence(self.faces, None, "faces"))
        if len(faces) > MAX_FACES:
            raise CamouflageError(f"faces has {len(faces)} entries; at most {MAX_FACES} in one picture are accepted.")
        for i, face in enumerate(faces):
            if not isinstance(face, Face):
                raise CamouflageError(f"faces[{i}] must be a Face, but got {show(face)}.")
            if face.box_ltrb[2] > self.width or face.box_ltrb[3] > self.height:
                raise CamouflageError(f"faces[{i}].box_ltrb {face.box_ltrb} leaves the picture of {self.width} x "
                                      f"{self.height} px. Clip it first, or take the faces of this very picture.")
        object.__setattr__(self, "faces", faces)

    def persons(self) -> tuple[int, ...]:
        """Positions in ``faces`` of person 0, 1, 2, …: from left to right.

        By the centre of the box, then its height in the picture, then the face's content, so that the numbers do not
        depend on the detector's order (our choice).
        """
        keys = [face.key() for face in self.faces]
        return tuple(sorted(range(len(keys)), key=lambda i: (keys[i][0][0] + keys[i][0][2],
                                                             keys[i][0][1] + keys[i][0][3], keys[i])))

    def __repr__(self) -> str:
        return f"Picture({self.width} x {self.height} px, faces: {len(self.faces)})"

    def __str__(self) -> str:
        return "\n".join([f"{self.width} x {self.height} px, faces: {len(self.faces)}",
                          *(f"  person {n}: {self.faces[i]!r}" for n, i in enumerate(self.persons()))])


@dataclass(frozen=True, slots=True, repr=False)
class Faces:
    """The faces of a batch: one :class:`Picture` for every picture, in the batch's order; no face is a valid result.

    Raises:
        CamouflageError: no picture, or more than 10000.
    """

    pictures: tuple[Picture, ...]

    def __post_init__(self) -> None:
        pictures = tuple(sequence(self.pictures, None, "pictures"))
        if not 1 <= len(pictures) <= MAX_PICTURES:
            raise CamouflageError(f"pictures must have 1 to {MAX_PICTURES} entries, but got {len(pictures)}.")
        for i, picture in enumerate(pictures):
            if not isinstance(picture, Picture):
                raise CamouflageError(f"pictures[{i}] must be a Picture, but got {show(picture)}.")
        object.__setattr__(self, "pictures", pictures)

    @property
    def count(self) -> int:
        """Faces in all pictures together."""
        return sum(len(picture.faces) for picture in self.pictures)

    def __repr__(self) -> str:
        return f"Faces(pictures: {len(self.pictures)}, faces: {self.count})"

    def __str__(self) -> str:
        return "\n".join(f"picture {i}: {picture}" for i, picture in enumerate(self.pictures))

    def to_json(self, indent: int | None = None) -> str:
        """As JSON; ``Faces.from_json(faces.to_json()) == faces`` to the last bit. Raises past 64 Mi characters."""
        text = json.dumps({"format": JSON_FORMAT, "version": JSON_VERSION, "pictures": [
            {"height": picture.height, "width": picture.width, "faces": [
                {"box_ltrb": face.box_ltrb, "score": face.score, "keypoints": face.keypoints,
                 "landmarks": face.landmarks, "attributes": dict(zip(ATTRIBUTES, face.attributes, strict=True))}
                for face in picture.faces]} for picture in self.pictures]}, indent=indent, allow_nan=False)
        if len(text) > MAX_JSON:
            raise CamouflageError(f"{self!r} makes {len(text)} characters of JSON; at most {MAX_JSON} can be read "
                                  "back. Split the batch.")
        return text

    @classmethod
    def from_json(cls, text: str) -> Faces:
        """Reads :meth:`to_json`'s text; refuses whatever it would not have written.

        Raises:
            CamouflageError: malformed or hostile text, another version, missing or unknown keys, values of another
                type, count or range. The message names the place.
        """
        data = record(read_json(text, "The faces JSON", MAX_JSON), ("format", "version", "pictures"), "The faces JSON")
        if (data["format"], data["version"]) != (JSON_FORMAT, JSON_VERSION) or type(data["version"]) is not int:
            raise CamouflageError(f"The faces JSON must have format {JSON_FORMAT!r}, version {JSON_VERSION}, but got "
                                  f"{show(data['format'])}, {show(data['version'])}.")
        pictures, where = [], "the top"
        try:
            for p, entry in enumerate(sequence(data["pictures"], None, "pictures")):
                where = f"pictures[{p}]"
                picture = record(entry, ("height", "width", "faces"), "a picture")
                faces = []
                for f, face in enumerate(sequence(picture["faces"], None, "faces")):
                    where = f"pictures[{p}].faces[{f}]"
                    fields = record(face, tuple(Face.__slots__), "a face")
                    named = record(fields["attributes"], ATTRIBUTES, "attributes")
                    faces.append(Face(**{**fields, "attributes": [named[name] for name in ATTRIBUTES]}))
                where = f"pictures[{p}]"
                pictures.append(Picture(picture["height"], picture["width"], tuple(faces)))
            return cls(tuple(pictures))
        except CamouflageError as error:
            raise CamouflageError(f"The faces JSON, at {where}: {error}") from None
