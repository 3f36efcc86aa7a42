"""Pairs of photos with chosen distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from camouflage.verification.error_rates import Pairs


def pairs_of(genuine: Any, impostor: Any, persons: int = 10) -> Pairs:
    """Pairs with these distances, in turn of each person, and of each two of them."""
    genuine, impostor = (np.asarray(distances, np.float32) for distances in (genuine, impostor))
    two = np.stack(np.triu_indices(persons, 1))
    return Pairs(genuine, np.arange(len(genuine)) % persons, impostor, two[:, np.arange(len(impostor)) % two.shape[1]])
