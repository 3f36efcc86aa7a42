"""What is measured of one way of an experiment, also where there is a single photo."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import CamouflageError
from . import privacy, study
from .cache import SeenCache
from .pairing import Pairing
from .plain import stated
from .seeing import Subject, follow, largest
from .study import Looked, Observers


def measured(pairing: Pairing, protocol: str, observers: Observers, cache: SeenCache) -> dict[str, Any]:
    """The results of :func:`.study.measured`, and ``distance``: of the faces to their originals, by the first
    recogniser.

    Of a single photo nobody can be looked for among others, and no rate has support; the rest is measured.

    Raises:
        CamouflageError: no face in any original, or all photos show one person.
    """
    if len(pairing.pairs) > 1:
        results, compared, _ = study.measured(pairing, protocol, observers, cache)
    else:
        results, compared = _alone(pairing, observers, cache)
    near = compared[0].near
    results["distance"] = stated(np.where(np.isfinite(near), near, np.nan), compared[0].persons,
                                 "no face could be compared")
    return results


def _alone(pairing: Pairing, observers: Observers, cache: SeenCache) -> tuple[dict[str, Any], list[privacy.Compared]]:
    looked = study.look(pairing.pairs, observers, cache)
    cast = _cast(looked)
    compared = [privacy.compared(one, cast, looked.originals, looked.anonymized, privacy.PAIRS)
                for one in observers.embedders]
    results = study.told(pairing, looked, compared, privacy.PAIRS, observers)
    for one in results["recognisers"]:
        one["identification"] = None
    return results, compared


def _cast(looked: Looked) -> privacy.Cast:
    """The largest face of the photo."""
    if not looked.originals or not looked.originals[0].faces:
        raise CamouflageError("No face was found in the photo, so there is nobody to measure.")
    before, after = looked.originals[0], looked.anonymized[0]
    face = largest(before.faces)
    ((state, match),), new = follow(before, after, [face])
    return privacy.Cast((Subject(0, 0, face, state, match),), ("0",), new, (), True)
