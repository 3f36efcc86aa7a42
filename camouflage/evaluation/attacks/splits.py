"""Who an attacker learns from and who is attacked: never the same person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import CamouflageError
from ...validation import number, whole
from ..estimates import FEWEST


@dataclass(frozen=True, eq=False)
class Split:
    """Pictures of persons, in two parts that share nobody.

    Attributes:
        persons: n numbers of persons, one for each picture.
        train: positions of the pictures that are learned from.
        test: positions of the pictures that are attacked.
        seed: that chose.
    """

    persons: np.ndarray
    train: np.ndarray
    test: np.ndarray
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"seed": self.seed, "train_persons": len(np.unique(self.persons[self.train])),
                "test_persons": len(np.unique(self.persons[self.test])),
                "train_pictures": len(self.train), "test_pictures": len(self.test)}


def split_persons(persons: Sequence[int] | np.ndarray, seed: int = 0, share: float = 0.3,
                  fewest: int = FEWEST) -> Split:
    """Puts all pictures of a person on one side.

    Args:
        persons: n numbers of persons, one for each picture.
        seed: of the choice.
        share: of the persons, 0..1, who are attacked (our choice).
        fewest: persons on each side, from 1 on; the default is what an interval takes.

    Raises:
        CamouflageError: fewer than two times ``fewest`` persons, or numbers out of range.
    """
    who = np.asarray(persons)
    number(share, 0, 1, "The share of persons who are attacked")
    whole(fewest, 1, 10**6, "The fewest persons on a side of the split")
    names = np.unique(who) if who.ndim == 1 else np.zeros(0)
    if len(names) < 2 * fewest:
        raise CamouflageError(f"A trained attack learns from at least {fewest} persons and is tested on as many "
                              f"others, but there are pictures of {len(names)} persons. Add pictures of others, or "
                              "leave the attack out.")
    count = min(max(fewest, round(share * len(names))), len(names) - fewest)
    attacked = np.random.default_rng(seed).choice(names, count, replace=False)
    test = np.isin(who, attacked)
    return Split(who, np.flatnonzero(~test), np.flatnonzero(test), seed)
