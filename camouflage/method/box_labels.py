"""What boxes of ComfyUI's type BOUNDING_BOX are called, beside where they are (:func:`.known.boxes_of`)."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST = 100
"""Characters of a label; what follows is cut off."""
REGION = "region"
"""The label of a box that has none."""


def labels_of(value: object, count: int) -> list[tuple[str, ...]]:
    """The labels of boxes.

    Args:
        value: boxes that :func:`.known.boxes_of` has read without an error.
        count: pictures.

    Returns:
        For each picture a label for each of its boxes, in their order: what can be printed of the key ``label``;
        "region" where that is no text, or empty.
    """
    if value is None:
        return [()] * count
    if isinstance(value, Mapping):
        return [(_label(value),)] * count
    entries = list(value)  # pyright: ignore[reportArgumentType]
    if not entries or not all(isinstance(entry, (list, tuple)) for entry in entries):
        return [tuple(map(_label, entries))] * count
    pictures = [tuple(map(_label, entry)) for entry in entries]
    return pictures * count if len(pictures) == 1 else pictures


def _label(box: object) -> str:
    text = box.get("label") if isinstance(box, Mapping) else None
    if not isinstance(text, str):
        return REGION
    return "".join(character for character in text if character.isprintable()).strip()[:LONGEST] or REGION
