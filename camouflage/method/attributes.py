"""Editing what is known about each person: keep, set or forget any of the 40 attributes (our choice throughout).

The paper hands all 40 attributes of FACER on (section 3.2). Here each can be forgotten, which removes it from the
attribute map, or set to another probability, per person. The groups below are ours:

* ``DEMOGRAPHICS`` names sex, age, skin and hair colour outright.
* ``STAND_INS`` betrays them: beard and hairline; features that are read as ethnicity (lips, nose, narrow eyes, which
  CelebA does not tell apart from eyes narrowed by laughing); make-up, jewellery and tie; and ``Attractive``, which
  in CelebA mostly says young and female. Weaker correlations (arched eyebrows, bags under the eyes) remain.
* ``EXPRESSION`` is what a face does, not how it is built. ``High_Cheekbones`` goes along with smiling in CelebA, but
  is anatomy, and so it is left out.

"no demographics" forgets both of the first two, because a beard that stays says "male" anyway; "demographics only"
keeps the first alone. The two are therefore not each other's complement.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import Any

from ..errors import CamouflageError
from ..validation import number, read_json, show
from .faces import ATTRIBUTES, Face, Faces, Picture

DEMOGRAPHICS = frozenset(("Male", "Young", "Pale_Skin", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"))
STAND_INS = frozenset((
    "5_o_Clock_Shadow", "Goatee", "Mustache", "No_Beard", "Sideburns", "Bald", "Receding_Hairline", "Big_Lips",
    "Big_Nose", "Narrow_Eyes", "Heavy_Makeup", "Rosy_Cheeks", "Wearing_Earrings", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Attractive",
))
EXPRESSION = frozenset(("Smiling", "Mouth_Slightly_Open"))

# What each preset keeps; everything else is forgotten. "paper" equals "all", for the paper keeps all 40; it has its
# own name so that a workflow can say that it means the paper, whatever "all" comes to hold.
PRESETS: dict[str, frozenset[str]] = {
    "all": frozenset(ATTRIBUTES),
    "paper": frozenset(ATTRIBUTES),
    "demographics only": DEMOGRAPHICS,
    "no demographics": frozenset(ATTRIBUTES) - DEMOGRAPHICS - STAND_INS,
    "expression only": EXPRESSION,
}

MAX_EDITS = 1_000_000  # characters

_PERSON = re.compile(r"(?:(0|[1-9][0-9]{0,4}):)?(all|0|[1-9][0-9]{0,4})")
_WHAT = "The text of the edits"

# (picture or None for every one, person or None for all) -> {attribute's position: "keep", "forget" or probability}
_Edits = dict[tuple[int | None, int | None], dict[int, str | float]]


def edit(faces: Faces, edits_json: str) -> Faces:
    """Keeps, sets or forgets attributes.

    Args:
        faces: what was read; not changed.
        edits_json: an object with the keys "preset" (one of ``PRESETS``; "all" where missing) and "persons", both
            optional; an empty text changes nothing. "persons" has one object for each of

            * ``"all"``: every person of every picture,
            * ``"0:all"``: every person of picture 0,
            * ``"1"``: person 1 of every picture that has one,
            * ``"0:1"``: person 1 of picture 0.

            Both are counted from 0, persons from left to right (``Picture.persons``). Its entries are attribute
            names with ``"keep"`` (what was read, also where the preset or a wider entry says otherwise),
            ``"forget"``, or a probability 0..1. The preset comes first, then the entries in the order of the list
            above, so that the narrowest wins, wherever it stands in the text. Example::

                {"preset": "no demographics", "persons": {"all": {"Smiling": 0.9}, "1": {"Male": "keep"}}}

    Returns:
        The same pictures with edited faces; boxes, keypoints and landmarks stay.

    Raises:
        CamouflageError: malformed text (:func:`faces.read_json`), unknown keys, presets, attributes or persons,
            probabilities outside 0..1, other values, more than 1,000,000 characters. The message names the place.
    """
    preset, edits = _read(edits_json)
    _check_persons(edits, faces)
    keep = [name in PRESETS[preset] for name in ATTRIBUTES]
    pictures = []
    for p, picture in enumerate(faces.pictures):
        edited = list(picture.faces)
        for n, i in enumerate(picture.persons()):
            face = picture.faces[i]
            values = [value if kept else None for value, kept in zip(face.attributes, keep, strict=True)]
            for person in ((None, None), (p, None), (None, n), (p, n)):
                for a, change in edits.get(person, {}).items():
                    values[a] = _changed(face, a, change)
            edited[i] = replace(face, attributes=tuple(values))
        pictures.append(Picture(picture.height, picture.width, tuple(edited)))
    return Faces(tuple(pictures))


def _changed(face: Face, attribute: int, change: str | float) -> float | None:
    if isinstance(change, str):
        return face.attributes[attribute] if change == "keep" else None
    return change


def nearest(name: str, known: tuple[str, ...]) -> list[str]:
    """Up to three of ``known`` that are most like ``name``, whatever its case and spaces; never empty."""
    plain = {other.lower(): other for other in known}
    wanted = re.sub(r"[\s-]+", "_", name[:64].strip().lower()) if any("_" in other for other in known) else name.lower()
    return [plain[other] for other in difflib.get_close_matches(wanted[:64], plain, n=3, cutoff=0.0)]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CamouflageError(f"{_WHAT}: {where} must be an object {{…}}, but got {show(value)}.")
    return value


def _read(text: str) -> tuple[str, _Edits]:
    if isinstance(text, str) and len(text) <= MAX_EDITS and not text.strip():
        return "all", {}
    top = _object(read_json(text, _WHAT, MAX_EDITS), "the top")
    for key in top.keys() - {"preset", "persons"}:
        raise CamouflageError(f'{_WHAT}: the top knows "preset" and "persons", but has the key {show(key)}.')
    preset = top.get("preset", "all")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise CamouflageError(f"{_WHAT}: preset {show(preset)} is unknown; known: {', '.join(PRESETS)}.")
    edits: _Edits = {}
    for person, changes in _object(top.get("persons", {}), "persons").items():
        found = _PERSON.fullmatch(person)
        if not found:
            raise CamouflageError(f'{_WHAT}: persons[{show(person)}] is no person. Write "all", a number counted from '
                                  '0, or either after a picture, as in "0:1" or "0:all".')
        picture, who = found.groups()
        where = f"persons[{person!r}]"
        edits[None if picture is None else int(picture), None if who == "all" else int(who)] = {
            _position(name, where): _change(change, f"{where}[{show(name)}]")
            for name, change in _object(changes, where).items()}
    return preset, edits


def _position(name: str, where: str) -> int:
    if name not in ATTRIBUTES:
        raise CamouflageError(f"{_WHAT}: {where} has the unknown attribute {show(name)}; the nearest known ones are "
                              f"{', '.join(nearest(name, ATTRIBUTES))}.")
    return ATTRIBUTES.index(name)


def _change(value: Any, where: str) -> str | float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value, 0.0, 1.0, f"{_WHAT}: {where}")
    if value not in ("keep", "forget"):
        raise CamouflageError(f'{_WHAT}: {where} must be "keep", "forget" or a probability from 0 to 1, but got '
                              f"{show(value)}.")
    return value


def _check_persons(edits: _Edits, faces: Faces) -> None:
    counts = [len(picture.faces) for picture in faces.pictures]
    for p, n in edits:
        if p is not None and p >= len(counts):
            raise CamouflageError(f"{_WHAT} names picture {p}, but there are only {len(counts)}, counted from 0.")
        here = max(counts) if p is None else counts[p]
        if n is not None and n >= here:
            where = "every picture has at most" if p is None else f"picture {p} has"
            raise CamouflageError(f"{_WHAT} names person {n}, but {where} {here}, counted from 0 and from left to "
                                  "right. Remove the entry, or lower the detection threshold.")
