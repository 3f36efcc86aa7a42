"""Is what a picture shows still told in the same words? Captions after against captions before.

BLEU (Papineni et al., 2002) and chrF (Popović, 2015) by sacrebleu with its own settings; the caption before is the
reference. Both from 0 to 100. Where embeddings of the captions are given, such as CLIP's of texts, their cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..packages import package_version, require
from .estimates import FEWEST, resampled
from .plain import by_person, missing, stated

_NONE = "there is no pair of captions"
_ORDERS = 4  # BLEU counts runs of 1 to 4 words


def captions_kept(before: Sequence[str], after: Sequence[str], persons: Sequence[int] | np.ndarray,
                  embeddings: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, Any]:
    """BLEU, chrF and the similarity of embeddings, as plain data.

    Args:
        before, after: n captions each.
        persons: n numbers of the persons, or of the pictures, that the captions belong to.
        embeddings: n x d before and after.

    Returns:
        ``bleu``: of the corpus (so are its counts summed), with an interval by a bootstrap over persons; ``chrf``: mean
        over the captions, with that of the corpus as ``corpus``; ``similarity``: mean cosine; ``library``: its version
        and the signatures of both, which make them comparable with others' numbers.

    Raises:
        CamouflageError: other numbers of captions, or sacrebleu is not installed.
    """
    sacrebleu = require("sacrebleu", "sacrebleu", "The comparison of captions")
    if not len(before) == len(after) == len(np.asarray(persons)):
        raise CamouflageError(f"Every picture needs a caption before, one after, and a person, but got {len(before)}, "
                              f"{len(after)} and {len(np.asarray(persons))}.")
    similarity = missing("no embeddings of the captions were given")
    if embeddings is not None:
        similarity = stated(cosines(*embeddings), persons, _NONE)
    library = {"version": package_version("sacrebleu")}
    if not len(before):
        return {"bleu": missing(_NONE), "chrf": missing(_NONE), "similarity": similarity, "library": library}
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    corpus = bleu.corpus_score(list(after), [list(before)])
    single = stated([chrf.sentence_score(one, [other]).score for one, other in zip(after, before, strict=True)],
                    persons, _NONE)
    whole = chrf.corpus_score(list(after), [list(before)]).score
    return {"bleu": {"value": corpus.score, "cases": len(before), "persons": len(np.unique(persons)),
                     "interval_95": _bleu_interval(sacrebleu.BLEU, before, after, persons), "left_out": 0},
            "chrf": {**single, "corpus": whole}, "similarity": similarity,
            "library": {**library, "bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of n vectors n x d and n others; NaN where one has no length.

    Raises:
        CamouflageError: other shapes.
    """
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if one.ndim != 2 or one.shape != other.shape:
        raise CamouflageError(f"Embeddings before and after must be as many and as long, but got {one.shape} and "
                              f"{other.shape}.")
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.where(lengths > 0, (one * other).sum(axis=1) / np.where(lengths > 0, lengths, 1), np.nan)


def _bleu_interval(bleu: Any, before: Sequence[str], after: Sequence[str],
                   persons: Sequence[int] | np.ndarray) -> list[float] | None:
    """95 %, of the corpus's BLEU; None where there are fewer than ``FEWEST`` persons."""
    if len(np.unique(persons)) < FEWEST:
        return None
    single = bleu(effective_order=True)
    rows = []
    for one, other in zip(after, before, strict=True):
        score = single.sentence_score(one, [other])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    scores = []
    for counts in resampled(by_person(np.array(rows, float), persons)).astype(int).tolist():
        correct, total, (length, reference) = counts[:_ORDERS], counts[_ORDERS:-2], counts[-2:]
        scores.append(bleu.compute_bleu(correct, total, length, reference, smooth_method="exp").score)
    return [float(end) for end in np.quantile(scores, (0.025, 0.975))]
