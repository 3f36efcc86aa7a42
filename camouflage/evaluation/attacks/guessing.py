"""An attacker who knows the method, guesses its settings, and runs it on everybody who may have been in the picture.

A method is a function of a picture and its settings. Where the settings, a seed among them, are known and the true
original is one of the attacker's photos, the published picture comes out again to the last bit, whatever it looks
like. Nothing of that is a weakness of what a picture shows; it is prevented by a seed that nobody can guess.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ...errors import CamouflageError
from ..estimates import estimate
from ..identification import rank
from .learning import Step
from .matching import against

Original = TypeVar("Original")
Settings = TypeVar("Settings")


def attack(published: Sequence[np.ndarray], gallery: Sequence[Original], truth: Sequence[int] | np.ndarray,
           method: Callable[[Original, Settings], np.ndarray], candidates: Sequence[Settings],
           persons: Sequence[int] | np.ndarray | None = None, step: Step | None = None) -> dict[str, Any]:
    """Runs the method with every candidate's settings on every picture of the gallery.

    Args:
        published: n anonymized pictures.
        gallery: m originals, as the method takes them; among them those of the published pictures.
        truth: n positions in the gallery of the published pictures' originals.
        method: original, settings -> anonymized picture of the same kind as the published ones.
        candidates: settings that are tried, at least one.
        persons: m numbers of the persons of the gallery, for the intervals; by default each is one of their own.
        step: called with how many pictures of the gallery are done.

    Returns:
        Plain data: attack, what, split, cost (seconds and runs of the method), candidates; ``exact``: the share of
        published pictures that came out again to the last bit from their original; ``rank_1``: the share whose original
        gives the nearest result (mean absolute difference, the best of all candidates), with its ``chance``.

    Raises:
        CamouflageError: nothing published, nothing to try, or positions that the gallery does not have.
    """
    originals = np.asarray(truth, int)
    if not len(published) or not len(gallery) or not len(candidates):
        raise CamouflageError(f"Guessing needs published pictures, originals and settings to try, but got "
                              f"{len(published)}, {len(gallery)} and {len(candidates)}.")
    if originals.shape != (len(published),) or not ((originals >= 0) & (originals < len(gallery))).all():
        raise CamouflageError(f"Every published picture needs the position of its original, from 0 to "
                              f"{len(gallery) - 1}.")
    begin = time.perf_counter()
    distances = np.full((len(published), len(gallery)), np.inf)
    for column, picture in enumerate(gallery):
        for settings in candidates:
            made = method(picture, settings)
            for row, shown in enumerate(published):
                distances[row, column] = min(distances[row, column], _difference(made, shown))
        if step:
            step(column + 1, len(gallery))
    who = (np.arange(len(gallery)) if persons is None else np.asarray(persons))[originals]
    ranked = rank(distances, originals, np.arange(len(gallery)))
    exact = estimate(distances[np.arange(len(published)), originals] == 0, who)
    assert exact is not None
    return {"attack": "guessing", "what": "Knows the method, runs it on every original of a gallery with settings that "
            "it tries, and takes the original whose result is nearest to the published picture. Settings that are "
            "tried and true give the published picture itself.",
            "split": {"train_persons": 0, "test_persons": len(np.unique(who)), "test_pictures": len(published)},
            "cost": {"seconds": time.perf_counter() - begin, "runs": len(gallery) * len(candidates)},
            "candidates": len(candidates), "gallery": len(gallery), "exact": exact.to_json(),
            "rank_1": against(estimate(ranked.hits[:, 0], who, share=True), float(ranked.chance[:, 0].mean()))}


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference; 0 for equal pictures only, infinite for sizes that differ."""
    if a.shape != b.shape:
        return np.inf
    return float(np.abs(np.asarray(a, np.float64) - b).mean())
