"""How well embeddings tell unseen persons apart: rank-1 and AUC, with intervals over persons and the chance lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..estimates import Estimate, estimate
from ..identification import rank

_DIGITS = 5
"""Decimals of a distance: equal pictures in different places of a batch differ by less, and must count as a tie."""
NOBODY = "nobody who is looked for has another picture to be found by"


def match(queries: np.ndarray, gallery: np.ndarray, query_of: Sequence[int] | np.ndarray,
          gallery_of: Sequence[int] | np.ndarray, left_out: np.ndarray | None = None) -> dict[str, Any]:
    """Looks for everybody in a gallery, by Euclidean distance.

    Args:
        queries, gallery: n x d and m x d, embeddings of length about 1.
        query_of, gallery_of: n and m numbers of persons.
        left_out: n x m; True where a gallery's picture does not count for a query.

    Returns:
        ``rank_1``: the share of queries whose nearest picture is of their person. ``auc``: how often one of the
        person's pictures is nearer than one of somebody else, ties half, as the mean over queries: the area under the
        ROC curve where every query has its own threshold. Each as :meth:`Estimate.to_json` and its ``chance``, or a
        ``reason`` why there is none.
    """
    from scipy.spatial.distance import cdist

    distances = np.round(cdist(np.asarray(queries, np.float64), np.asarray(gallery, np.float64)), _DIGITS)
    ranked = rank(distances, query_of, gallery_of, left_out)
    areas, persons = _areas(distances, np.asarray(query_of), np.asarray(gallery_of), left_out)
    chance = float(ranked.chance[:, 0].mean()) if len(ranked.persons) else None
    return {"rank_1": against(estimate(ranked.hits[:, 0], ranked.persons, share=True), chance),
            "auc": against(estimate(areas, persons), 0.5)}


def against(found: Estimate | None, chance: float | None) -> dict[str, Any]:
    """A rate as plain data beside what chance gives."""
    return {**found.to_json(), "chance": chance} if found else {"value": None, "reason": NOBODY}


def _areas(distances: np.ndarray, query_of: np.ndarray, gallery_of: np.ndarray,
           left_out: np.ndarray | None) -> tuple[list[float], list[int]]:
    """Of every query that has pictures of its person and of others in the gallery, its area and its person."""
    areas, persons = [], []
    for row, who in enumerate(query_of):
        counts = np.ones(len(gallery_of), bool) if left_out is None else ~left_out[row]
        own, others = distances[row, counts & (gallery_of == who)], distances[row, counts & (gallery_of != who)]
        if len(own) and len(others):
            nearer = (own[:, None] < others).mean() + (own[:, None] == others).mean() / 2
            areas.append(float(nearer))
            persons.append(int(who))
    return areas, persons
