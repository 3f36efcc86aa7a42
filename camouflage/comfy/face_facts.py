"""What the frontend shows of faces: plain data, no picture, no file name."""

from __future__ import annotations

from typing import Any

from ..method.attributes import PRESETS
from ..method.faces import ATTRIBUTES, Face, Faces, Picture
from .messages import tell

_PLACES = 3


def face_facts(faces: Faces) -> dict[str, list[Any]]:
    """A node's ``ui``: every picture with its persons, as the edits number them, and what each preset keeps.

    Returns:
        "camouflage_faces": for each picture its width and height in px and its persons from left to right: box_ltrb
        in px, score and attributes (probabilities by name, None where nothing is known), rounded to 3 places.
        "camouflage_presets": one object, names of attributes by preset.
    """
    return {"camouflage_faces": [_picture_facts(picture) for picture in faces.pictures],
            "camouflage_presets": [{preset: [name for name in ATTRIBUTES if name in kept]
                                    for preset, kept in PRESETS.items()}]}


def tell_faces(facts: dict[str, list[Any]]) -> None:
    """Tells the page that queued the prompt the same where the executing node stops and so gives no ``ui``."""
    tell("camouflage.faces", output=facts)


def _picture_facts(picture: Picture) -> dict[str, Any]:
    return {"width": picture.width, "height": picture.height,
            "persons": [_face_facts(picture.faces[i]) for i in picture.persons()]}


def _face_facts(face: Face) -> dict[str, Any]:
    return {"box_ltrb": [round(value, _PLACES) for value in face.box_ltrb], "score": round(face.score, _PLACES),
            "attributes": {name: None if p is None else round(p, _PLACES)
                           for name, p in zip(ATTRIBUTES, face.attributes, strict=True)}}
