"""The attacks of an evaluation: everything in :mod:`.attacks` that its pictures are enough for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import CamouflageError
from .attacks import reconstruction, trained
from .attacks.learning import Step
from .attacks.splits import split_persons
from .privacy import Compared

Attack = Callable[[], dict[str, Any]]


def attacks(compared: Sequence[Compared], before: np.ndarray, after: np.ndarray, persons: np.ndarray, step: Step
            ) -> Iterator[dict[str, Any]]:
    """Attacks by somebody who has originals and anonymized pictures of other persons.

    Args:
        compared: what the recognisers say; a head is trained on the embeddings of each.
        before, after: n x 3 x S x S crops, 0..1.
        persons: n numbers.
        step: see :data:`..attacks.learning.Step`.

    Returns:
        What each attack gives, one after the other; one that the pictures are too few for gives ``attack`` and ``why``.
    """
    others = bool(np.bincount(persons).max(initial=0) > 1)  # photos of one person: those can be linked
    planned: list[tuple[str, Attack]] = []
    for one in compared:
        name = f"head on {one.embedder.info.name}"
        rows, originals, who = one.anonymized, one.originals, one.persons
        if others:
            planned.append((f"{name}, linkage", lambda rows=rows, who=who: trained.attack_embeddings(
                rows, who, step=step)))
        planned.append((f"{name}, reidentification", lambda rows=rows, who=who, originals=originals: (
            trained.attack_embeddings(rows, who, originals, others_only=others, step=step))))
    if others:
        planned.append(("network, linkage", lambda: trained.attack_pictures(after, persons, step=step)))
    planned += [("network, reidentification", lambda: trained.attack_pictures(
                    after, persons, before, others_only=others, step=step)),
                ("reconstruction", lambda: _reconstruction(before, after, persons, others, step))]
    for name, attack in planned:
        try:
            yield {**attack(), "name": name}
        except CamouflageError as error:
            yield {"name": name, "why": str(error)}


def _reconstruction(before: np.ndarray, after: np.ndarray, persons: np.ndarray, others: bool, step: Step
                    ) -> dict[str, Any]:
    """Undone by a network, and looked at by one that knows originals of the same other persons."""
    split = split_persons(persons)
    known = trained.recogniser(before[split.train], persons[split.train], step=step)
    return reconstruction.attack(after, before, persons, known, split, others_only=others, step=step)
