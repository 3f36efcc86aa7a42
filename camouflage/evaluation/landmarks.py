"""Do faces stay where they were, look where they looked, and do what they did? From the five keypoints of each face.

All of it compares a face with itself, anonymized, in one frame (the caller brings both there). What is measured is
our choice, but for the normalised mean error:

* **Error of the points** (NME): mean distance of the five points, in parts of the distance of the original's eyes.
* **Head pose**: of a rigid mean face that is turned, scaled and shifted until its five points lie nearest to those
  found (weak perspective). An anonymized face has other proportions, which pass for a little turn.
* **Expression**: the width of the mouth, and how far it is open, both in parts of the distance of the eyes in the same
  picture. Five points do not show the lips; the opening takes the 68 landmarks, where they are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CamouflageError
from ..method.faces import KEYPOINTS, LANDMARKS
from ..method.keypoints import mean_points
from .plain import stated

ANGLES = ("roll", "yaw", "pitch")
"""Of a head, degrees: turned counter-clockwise in the picture, to the viewer's right, and up."""
_UPPER_LIP, _LOWER_LIP = 62, 66  # middle of the lips' inner edges, in iBUG's order from 0
_NOSE = 0.4


def _mean_face() -> np.ndarray:
    flat = np.array(mean_points((0.0, 0.0, 0.75, 1.0)))  # a face is three quarters as wide as high
    face = np.column_stack([flat / (flat[1, 0] - flat[0, 0]), [0, 0, -_NOSE, 0, 0]])
    return face - face.mean(axis=0)


MEAN_FACE = _mean_face()
"""5 x 3, x to the right, y down, z away from the viewer, in distances of the eyes, about its middle: the mean face of
:mod:`..method.keypoints`, whose nose stands 0.4 before the plane of eyes and mouth (our choice)."""


def point_errors(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The NME of n faces.

    Args:
        before, after: n x 5 x 2, in one frame, in the order of ``KEYPOINTS``; NaN where a face is not known.

    Returns:
        n numbers from 0; NaN where a face is not known, or the original's eyes are one point.

    Raises:
        CamouflageError: other shapes.
    """
    before, after = _points(before, "before"), _points(after, "after")
    _as_many(before, after)
    return _parts(np.linalg.norm(after - before, axis=2).mean(axis=1), _eyes(before))


def head_poses(points: np.ndarray) -> np.ndarray:
    """How n heads are turned, degrees.

    Args:
        points: n x 5 x 2, in the order of ``KEYPOINTS``, x to the right, y down.

    Returns:
        n x 3, in the order of ``ANGLES``; yaw from -90 to 90; NaN where a face is not known or its points lie on a
        line.

    In closed form: the linear map from ``MEAN_FACE`` to the points by least squares, then the nearest map whose rows
    are orthogonal and of one length (polar decomposition), which is the turn's first two rows. Simulated, with points
    that are off by 1 % of the eyes' distance: half of the rolls are off by less than 0.5 degrees, half of the yaws and
    pitches by less than 1.2, and 95 % of all by less than 3.5. That the mean face is seen from afar costs 1.3 degrees
    on average where the camera is as near as 8 distances of the eyes.
    """
    points = _points(points, "of faces")
    centred = points - points.mean(axis=1, keepdims=True)
    known = np.isfinite(centred).all(axis=(1, 2))
    linear = np.swapaxes(np.linalg.pinv(MEAN_FACE) @ np.where(known[:, None, None], centred, 0), 1, 2)
    u, stretch, v = np.linalg.svd(linear, full_matrices=False)
    known &= stretch[:, 1] > 1e-6 * stretch[:, 0]
    rows = u @ v
    third = np.cross(rows[:, 0], rows[:, 1])
    angles = np.stack([-np.arctan2(rows[:, 1, 0], rows[:, 0, 0]), np.arcsin(np.clip(third[:, 0], -1, 1)),
                       -np.arctan2(third[:, 1], third[:, 2])], axis=1)
    return np.where(known[:, None], np.degrees(angles), np.nan)


def mouths(points: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Width and opening of n mouths, in parts of the distance of the eyes.

    Args:
        points: n x 5 x 2, in the order of ``KEYPOINTS``.
        landmarks: n x 68 x 2, in the same frame.

    Returns:
        n x 2; NaN where it is not known.
    """
    points = _points(points, "of faces")
    width = np.linalg.norm(points[:, 4] - points[:, 3], axis=1)
    opening = np.full(len(points), np.nan)
    if landmarks is not None:
        marks = _points(landmarks, "of landmarks", LANDMARKS)
        _as_many(points, marks)
        opening = np.linalg.norm(marks[:, _LOWER_LIP] - marks[:, _UPPER_LIP], axis=1)
    return np.stack([_parts(width, _eyes(points)), _parts(opening, _eyes(points))], axis=1)


def landmarks_kept(before: np.ndarray, after: np.ndarray, persons: Sequence[int] | np.ndarray,
                   landmarks: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, Any]:
    """All of it, as plain data.

    Args:
        before, after: n x 5 x 2, in one frame, in the order of ``KEYPOINTS``; NaN where a face is not known, which is
            left out and counted.
        persons: n numbers, whose face it is.
        landmarks: n x 68 x 2 before and after.

    Returns:
        ``nme``; ``pose_change``: degrees by angle; ``expression_change``: ``mouth_width`` and ``mouth_opening``, in
        distances of the eyes. Every one is the mean of absolute changes with its interval.
    """
    unknown = "no face's points are known both before and after"
    turned = np.abs((head_poses(after) - head_poses(before) + 180) % 360 - 180)
    marks = landmarks or (None, None)
    moved = np.abs(mouths(after, marks[1]) - mouths(before, marks[0]))
    opening = unknown if landmarks else "five points do not show the lips; it takes 68 landmarks"
    return {"nme": stated(point_errors(before, after), persons, unknown),
            "pose_change": {name: stated(turned[:, index], persons, unknown) for index, name in enumerate(ANGLES)},
            "expression_change": {"mouth_width": stated(moved[:, 0], persons, unknown),
                                  "mouth_opening": stated(moved[:, 1], persons, opening)}}


def _points(points: np.ndarray, what: str, count: int = len(KEYPOINTS)) -> np.ndarray:
    found = np.asarray(points, np.float64)
    if found.ndim != 3 or found.shape[1:] != (count, 2):
        raise CamouflageError(f"The points {what} must be n x {count} x 2, but got {found.shape}.")
    return found


def _as_many(one: np.ndarray, other: np.ndarray) -> None:
    if len(one) != len(other):
        raise CamouflageError(f"The points of the same faces are needed, but got {len(one)} and {len(other)} faces.")


def _eyes(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, 1] - points[:, 0], axis=1)


def _parts(lengths: np.ndarray, units: np.ndarray) -> np.ndarray:
    return np.where(units > 0, lengths / np.where(units > 0, units, 1), np.nan)
