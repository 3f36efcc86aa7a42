"""Can the persons still be recognised? Originals against anonymized pictures, as an attacker compares them.

Everything is measured for one recogniser after the other, and the worst is told:

* **verification**: thresholds are taken from pairs of *originals* of different persons, at false-accept rates of 0.1 to
  0.0001 as far as the pairs support them: the recogniser's own operating points. A person is *reidentified* where the
  anonymized face lies within such a threshold of an original of theirs, and *protected* where it was compared and does
  not. A face that is lost, or that no detector finds, is neither: it counts in the total of both. Where nobody says
  who is who, two originals may show one person, which makes thresholds too small; there none lies below the distance
  that the recogniser's publishers advise, as far as they do.
* **identification**: the anonymized face is looked for among all originals, see :mod:`.identification`.
* **linkage**: anonymized against anonymized: whether several photos of one person still belong together.

Protocols (our choice, but for the words):

* ``pairs``: the largest face of every original; the attacker has that very photo. Who nobody names is a person of
  their own.
* ``gallery``: the largest face of originals whose person is named; the attacker has *other* photos of that person.
* ``folder``: every face of every original, each a person of their own; the attacker has that very photo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..verification.calibration import RATES, pairs_for, threshold_at
from ..verification.error_rates import trade_off
from ..verification.recognition import Embedder
from .estimates import estimate, share_of
from .identification import RANKS, rank
from .seeing import JUDGED, LOST, STATES, UNDETECTED, Seen, Subject, follow, largest

PAIRS, GALLERY, FOLDER = "pairs", "gallery", "folder"
PROTOCOLS = (PAIRS, GALLERY, FOLDER)
FOUND_OR_NOT = (JUDGED, UNDETECTED, LOST)
"""States of faces that the anonymized picture has shown or should have shown."""
_CURVE = 200  # points of a curve that is written
MOST_FACES = 15_000
"""Faces that are compared, everybody with everybody: about 8 GB of memory, and ten minutes for each recogniser."""
_ROWS = 512  # rows of distances that are computed at once


@dataclass(frozen=True, eq=False)
class Cast:
    """Everybody who is followed, whatever compares them.

    Attributes:
        subjects: one for each original face.
        names: of the persons, by their number.
        new: faces of anonymized pictures that belong to no original face.
        empty: numbers of pairs whose original shows no face.
        guessed: whether some are taken for persons of their own because nobody names them.
    """

    subjects: tuple[Subject, ...]
    names: tuple[str, ...]
    new: int
    empty: tuple[int, ...]
    guessed: bool = False

    @property
    def states(self) -> dict[str, int]:
        """How many faces are in which state."""
        found = Counter(subject.state for subject in self.subjects)
        return {state: found[state] for state in STATES}


def cast_of(originals: Sequence[Seen], anonymized: Sequence[Seen | None], identities: Sequence[str],
            protocol: str = PAIRS) -> Cast:
    """Who is followed.

    Args:
        originals, anonymized: what was seen in every pair; None for a picture that may not leave.
        identities: of every pair; "" where nobody names one.
        protocol: of ``PROTOCOLS``.

    Raises:
        CamouflageError: no face in any original, more than ``MOST_FACES``, or no named person with two photos for
            ``gallery``.
    """
    subjects: list[Subject] = []
    numbers: dict[str, int] = {}
    new, empty, guessed = 0, [], False
    for picture, (before, after, who) in enumerate(zip(originals, anonymized, identities, strict=True)):
        if not before.faces:
            empty.append(picture)
            continue
        faces = list(range(len(before.faces))) if protocol == FOLDER else [largest(before.faces)]
        states, more = follow(before, after, faces)
        new += more
        if protocol == GALLERY and not who:
            continue
        for face, (state, match) in zip(faces, states, strict=True):
            name = who if who and protocol != FOLDER else f"{picture}:{face}"
            guessed |= name != who
            person = numbers.setdefault(name, len(numbers))
            subjects.append(Subject(picture, person, face, state, match))
    if not subjects:
        raise CamouflageError("No face was found in any original" + (" of somebody who is named" if protocol == GALLERY
                              else "") + ", so there is nobody whose recognition could be measured.")
    if len(subjects) > MOST_FACES:
        raise CamouflageError(f"{len(subjects)} faces are too many to compare everybody with everybody; at most "
                              f"{MOST_FACES} are taken. Evaluate a part of the pictures, such as a random one.")
    if len(numbers) < 2:
        raise CamouflageError("All pictures show one person. Who is recognised can only be told among several: name "
                              "photos of at least two.")
    photos = Counter(subject.person for subject in subjects)
    if protocol == GALLERY and max(photos.values()) < 2:
        raise CamouflageError("The protocol 'gallery' compares with other photos of the same person, but nobody has "
                              "two. Add photos, or take --protocol pairs.")
    return Cast(tuple(subjects), tuple(numbers), new, tuple(empty), guessed)


@dataclass(frozen=True, eq=False)
class Compared:
    """What one recogniser says.

    Attributes:
        embedder: it.
        cast: whom it looked at.
        originals: n x d, one row for each subject.
        anonymized: n x d; rows that are no numbers for those who cannot be compared.
        others_only: whether the attacker has other photos alone (``gallery``).
    """

    embedder: Embedder
    cast: Cast
    originals: np.ndarray
    anonymized: np.ndarray
    others_only: bool

    @cached_property
    def persons(self) -> np.ndarray:
        """Numbers of the subjects' persons."""
        return np.array([subject.person for subject in self.cast.subjects])

    @cached_property
    def pictures(self) -> np.ndarray:
        """Numbers of the subjects' pairs."""
        return np.array([subject.picture for subject in self.cast.subjects])

    @cached_property
    def judged(self) -> np.ndarray:
        """Who could be compared."""
        return np.array(np.isfinite(self.anonymized).all(axis=1))

    @cached_property
    def rows(self) -> np.ndarray:
        """The numbers of those who could be compared."""
        return np.flatnonzero(self.judged)

    @cached_property
    def across(self) -> np.ndarray:
        """Distances of the anonymized faces that could be compared to all originals."""
        return distances(self.embedder, self.anonymized[self.rows], self.originals)

    @cached_property
    def theirs(self) -> np.ndarray:
        """n x n: which originals an attacker has of each subject's person."""
        same = self.persons[:, None] == self.persons
        return same & (self.pictures[:, None] != self.pictures) if self.others_only else same

    @cached_property
    def near(self) -> np.ndarray:
        """Of every subject, the distance to the nearest original of theirs that the attacker has; infinite where there
        is none."""
        near = np.full(len(self.persons), np.inf)
        near[self.rows] = np.where(self.theirs[self.rows], self.across, np.inf).min(axis=1, initial=np.inf)
        return near


def compared(embedder: Embedder, cast: Cast, originals: Sequence[Seen], anonymized: Sequence[Seen | None],
             protocol: str) -> Compared:
    """Gathers a recogniser's embeddings of the cast."""
    name = embedder.info.name
    before = [originals[one.picture].embeddings[name][one.face] for one in cast.subjects]
    nothing = np.full_like(before[0], np.nan)
    after = []
    for one in cast.subjects:
        seen = anonymized[one.picture]
        after.append(seen.embeddings[name][one.match] if seen is not None and one.match >= 0 else nothing)
    return Compared(embedder, cast, np.array(before), np.array(after), protocol == GALLERY)


def distances(embedder: Embedder, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """n x m distances, float32, a part at a time: a recogniser may hold much more than its result."""
    parts = [embedder.distances(a[start:start + _ROWS], b) for start in range(0, len(a), _ROWS)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, len(b)), np.float32)


def measure(of: Compared) -> dict[str, Any]:
    """All of it for one recogniser, as plain data; what has no support is None, with the reason in ``unsupported``."""
    persons, pictures = of.persons, of.pictures
    among = distances(of.embedder, of.originals, of.originals)
    other_person, other_photo = persons[:, None] != persons, pictures[:, None] != pictures
    upper = np.triu(np.ones_like(other_person), 1)
    strangers = np.sort(among[other_person & upper])
    known = among[~other_person & other_photo & upper]
    known_of = np.broadcast_to(persons[:, None], among.shape)[~other_person & other_photo & upper]

    rows, across = of.rows, of.across
    exposed = np.array([one.state in FOUND_OR_NOT for one in of.cast.subjects]) & of.theirs.any(axis=1)

    advice = getattr(of.embedder, "threshold", None)
    least = advice.distance if advice is not None and of.cast.guessed else 0.0
    points, unsupported = [], []
    for rate in RATES:
        if len(strangers) < pairs_for(rate):
            unsupported.append({"false_accept_rate": rate, "why": f"takes {pairs_for(rate)} pairs of originals of "
                                f"different persons, and there are {len(strangers)}"})
            continue
        threshold = max(least, threshold_at(strangers, rate))
        within, wrong = of.near[exposed] <= threshold, other_person[rows]
        points.append({
            "false_accept_rate": rate, "threshold": threshold,
            "originals_true_accepts": _json(estimate(known <= threshold, known_of)),
            "reidentified": _json(estimate(within, persons[exposed])),
            "protected": _json(estimate(of.judged[exposed] & ~within, persons[exposed])),
            "strangers_accepted": _json(share_of(((across <= threshold) & wrong).sum(axis=1), wrong.sum(axis=1),
                                                 persons[rows]))})
    genuine, impostor = across[of.theirs[rows]], across[other_person[rows]]
    return {"recogniser": of.embedder.info.to_json(), "metric": of.embedder.metric,
            "pairs": {"originals_same_person": len(known), "originals_different_persons": len(strangers),
                      "originals_perhaps_one_person": int(np.count_nonzero(strangers <= least)),
                      "anonymized_same_person": len(genuine), "anonymized_different_persons": len(impostor)},
            "operating_points": points, "unsupported": unsupported,
            "verification": curve(genuine, impostor),
            "originals": curve(known, strangers),
            "identification": identification(of),
            "linkage": linkage(of)}


def _json(found: Any) -> dict[str, Any] | None:
    return None if found is None else found.to_json()


def curve(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, Any] | None:
    """The detection error trade-off of two sets of distances, its equal error rate, and the area under the ROC curve.

    Returns:
        ``far`` and ``frr`` at rising thresholds, no more than can be drawn; None where one of the sets is empty.

    The equal error rate lies where the line between neighbouring points meets FAR = FRR. The area is the chance that a
    genuine pair is nearer than an impostor one, ties counting half.
    """
    if not len(genuine) or not len(impostor):
        return None
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    _, *rates = trade_off(genuine, impostor)
    far, frr = (np.concatenate([[first], rate]) for first, rate in zip((0.0, 1.0), rates, strict=True))
    crossed = int(np.argmax(far >= frr))
    before, after = frr[crossed - 1] - far[crossed - 1], far[crossed] - frr[crossed]
    share = before / (before + after) if before + after > 0 else 0.0
    equal = far[crossed - 1] + share * (far[crossed] - far[crossed - 1])
    low, high = np.searchsorted(impostor, genuine, "left"), np.searchsorted(impostor, genuine, "right")
    area = float((len(impostor) - (low + high) / 2).mean() / len(impostor))
    chosen = np.unique(np.linspace(0, len(far) - 1, _CURVE).round().astype(int))
    return {"far": far[chosen].tolist(), "frr": frr[chosen].tolist(), "equal_error_rate": float(equal),
            "area_under_roc": area}


def identification(of: Compared) -> dict[str, Any] | None:
    """Ranks of the anonymized faces among the originals; None where nobody can be looked for."""
    persons, pictures, rows = of.persons, of.pictures, of.rows
    left_out = (pictures[rows][:, None] == pictures) if of.others_only else None
    ranked = rank(of.across, persons[rows], persons, left_out)
    if not len(ranked.persons):
        return None
    lost = sum(one.state in (UNDETECTED, LOST) for one in of.cast.subjects)
    found: dict[str, Any] = {"queries": len(ranked.persons), "gallery": len(persons),
                             "persons": len(np.unique(persons)), "not_found": lost}
    for index, k in enumerate(RANKS):
        hits = ranked.hits[:, index]
        found[f"rank_{k}"] = {**(_json(estimate(hits, ranked.persons, share=True)) or {}),
                              "chance": float(ranked.chance[:, index].mean()),
                              "at_most": float((hits.sum() + lost) / (len(hits) + lost))}
    found["map"] = _json(estimate(ranked.precision, ranked.persons))
    return found


def linkage(of: Compared) -> dict[str, Any] | None:
    """Anonymized against anonymized; None where nobody has two anonymized photos that show a face."""
    rows = of.rows
    persons, pictures = of.persons[rows], of.pictures[rows]
    among = distances(of.embedder, of.anonymized[rows], of.anonymized[rows])
    upper = np.triu(np.ones(among.shape, bool), 1)
    same, apart = persons[:, None] == persons, pictures[:, None] != pictures
    found = curve(among[same & apart & upper], among[~same & upper])
    if found is None:
        return None
    ranked = rank(among, persons, persons, ~apart)
    return {**found, "pairs_same_person": int((same & apart & upper).sum()),
            "rank_1": {**(_json(estimate(ranked.hits[:, 0], ranked.persons, share=True)) or {}),
                       "chance": float(ranked.chance[:, 0].mean())}}


def worst(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By which recogniser persons are reidentified most: at every operating point, and at rank 1."""
    found: dict[str, list[tuple[float, str]]] = {}
    for one in measured:
        name = one["recogniser"]["name"]
        for point in one["operating_points"]:
            if point["reidentified"]:
                found.setdefault(f"reidentified_at_{point['false_accept_rate']:g}", []).append(
                    (point["reidentified"]["value"], name))
        if one["identification"]:
            found.setdefault("rank_1", []).append((one["identification"]["rank_1"]["value"], name))
    return {key: dict(zip(("value", "recogniser"), max(values), strict=True)) for key, values in found.items()}
