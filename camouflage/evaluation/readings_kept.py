"""What the readings of originals and of their anonymized pictures say together: the measures of utility by networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..method.faces import ATTRIBUTES
from .attributes_kept import agreement
from .captions import captions_kept
from .maps_kept import stated_maps
from .privacy import FOUND_OR_NOT, Cast
from .readings import Read, Reader
from .seeing import JUDGED
from .utility import people_kept


def read_utility(reader: Reader, cast: Cast, readings: Sequence[Read | None]) -> dict[str, Any]:
    """As plain data; what nobody read is absent.

    Args:
        reader: who read.
        cast: who is followed.
        readings: of every pair; None where the anonymized picture is not there.

    Returns:
        ``attributes`` and ``attributes_second`` (:func:`.attributes_kept.agreement`; faces that are lost or undetected
        are left out, and counted), ``captions``, ``segmentation``, ``depth`` and ``persons``, each with its
        ``network``. Cases belong to persons where they are faces, else to pictures.
    """
    there = [(number, read) for number, read in enumerate(readings) if read is not None]
    pictures = [number for number, _ in there]
    found: dict[str, Any] = {}
    for name in reader.faces:
        before, after, persons = _faces(name, cast, readings)
        found[name] = {**agreement(before, after, persons), "network": reader.about(name)}

    def both(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [read[name][0] for _, read in there], [read[name][1] for _, read in there]

    if "captions" in reader.scenes:
        told = [[str(words) for words in side] for side in both("captions")]
        embeddings = None
        if "caption_embeddings" in reader.scenes and there:
            one, other = both("caption_embeddings")
            embeddings = np.array(one), np.array(other)
        found["captions"] = {**captions_kept(told[0], told[1], pictures, embeddings),
                             "network": reader.about("captions")}
        if "caption_embeddings" in reader.scenes:
            found["captions"]["text_encoder"] = reader.about("caption_embeddings")
    if "depth" in reader.scenes:
        labels, depths = (np.array(both(name)[0]).reshape(-1, 2) for name in ("segmentation", "depth"))
        for name, kept in stated_maps(labels, depths, pictures).items():
            found[name] = {**kept, "network": reader.about(name)}
    if "persons" in reader.scenes:
        boxes = [[[tuple(box) for box in part.tolist()] for part in side] for side in both("persons")]
        found["persons"] = {**people_kept(boxes[0], boxes[1], pictures), "network": reader.about("persons")}
    return found


def _faces(name: str, cast: Cast, readings: Sequence[Read | None]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Attributes before and after of everybody whose anonymized picture is there, n x 40, and whose they are."""
    before, after, persons = [], [], []
    for one in cast.subjects:
        read = readings[one.picture]
        if read is not None and one.state in FOUND_OR_NOT:
            before.append(read[name][0][one.face])
            after.append(read[name][1][one.match] if one.state == JUDGED else np.full(len(ATTRIBUTES), np.nan))
            persons.append(one.person)
    was, now = (np.array(rows, float).reshape(-1, len(ATTRIBUTES)) for rows in (before, after))
    return was, now, persons
