"""The paper's own protocol, as its authors' code measures it, for numbers that compare; and what is wrong with it.

Every anonymized picture is looked for among all originals, its own one included. A face that is not found becomes a
black tile, which is compared as if it were a face. Recall@k is the share of queries whose own person is among the k
nearest; mAP as in :mod:`.identification`. The authors find faces with MTCNN and compare with FaceNet and CLIP; here the
detectors and recognisers are those of the evaluation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..method.faces import Box
from .identification import RANKS, rank
from .privacy import Compared, distances
from .seeing import LOST, UNDETECTED

WARNINGS = (
    "A face that is not found counts as a black tile, and so as not re-identified: losing faces looks like protection.",
    "There is no threshold, so nothing is said of how sure an attacker is who compares one photo with another.",
    "The gallery holds the very photo that was anonymized, and no other one of the person.",
)
_TILE: tuple[int, Box] = (160, (20.0, 20.0, 140.0, 140.0))


def black_tile(embedder: Any) -> np.ndarray:
    """The embedding, d, of a face that is not there."""
    side, box = _TILE
    return np.nan_to_num(embedder.embed(np.zeros((side, side, 3), np.uint8), [box])[0])


def recall(of: Compared) -> dict[str, Any]:
    """Recall@k and mAP of one recogniser, as plain data."""
    states = [subject.state for subject in of.cast.subjects]
    asked = np.array([of.judged[i] or state in (UNDETECTED, LOST) for i, state in enumerate(states)])
    queries = np.where(of.judged[:, None], of.anonymized, black_tile(of.embedder))[asked]
    ranked = rank(distances(of.embedder, queries, of.originals), of.persons[asked], of.persons)
    return {"recogniser": of.embedder.info.to_json(), "queries": len(queries),
            "black_tiles": int((asked & ~of.judged).sum()), "gallery": len(states),
            **{f"recall_{k}": float(ranked.hits[:, i].mean()) if len(queries) else None
               for i, k in enumerate(RANKS)},
            "map": float(ranked.precision.mean()) if len(queries) else None, "warnings": list(WARNINGS)}
