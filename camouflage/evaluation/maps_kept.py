"""Does the scene stay? Agreement of label maps and depth maps of a picture and of its anonymized one.

The maps are those of the annotators, both of one size; what is measured is ours to choose where it is not named:

* **Labels**: pixel agreement (share of pixels of the same label) and mean IoU over the labels that occur in either map.
* **Depth**: annotators give it up to an unknown scale and shift. Spearman's rank correlation does not see them; the
  absolute error is taken after the best scale and shift, in parts of the error that a flat map has. So 0 is the same
  scene, and 1 one that says nothing of it. The usual division by the depth itself would depend on the unknown shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CamouflageError
from .plain import stated

MOST_LABELS = 512
"""More colours than that are no label map, but a picture or a compressed one. ADE20K has 150."""


def label_agreement(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Pixel agreement and mean IoU of two label maps, 0..1.

    Args:
        before, after: H x W x 3 uint8, every distinct colour a label, or H x W whole numbers.

    Raises:
        CamouflageError: other sizes, or more than ``MOST_LABELS`` labels.
    """
    one, other = _labels(before), _labels(after)
    _same_size(one, other)
    known, numbers = np.unique(np.stack([one, other]), return_inverse=True)
    if len(known) > MOST_LABELS:
        raise CamouflageError(f"A label map has one colour for each label, but these have {len(known)} colours. Give "
                              "the annotator's own maps, neither resized nor compressed.")
    numbers = numbers.reshape(2, -1)
    joint = np.bincount(numbers[0] * len(known) + numbers[1], minlength=len(known) ** 2).reshape(len(known), -1)
    shared = np.diag(joint)
    return float(shared.sum() / joint.sum()), float((shared / (joint.sum(axis=0) + joint.sum(axis=1) - shared)).mean())


def depth_agreement(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation, -1..1, and the absolute error after the best scale and shift, 0..about 1.

    Args:
        before, after: H x W numbers, depth or its inverse.

    Returns:
        Both; NaN where a map is flat, so that there is nothing to correlate. A flat map after has an error of 1.

    Raises:
        CamouflageError: other sizes, or pixels that are no numbers.
    """
    one, other = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if one.ndim != 2 or not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise CamouflageError("Depth maps must be H x W numbers.")
    _same_size(one, other)
    wanted, given = one.ravel() - one.mean(), other.ravel() - other.mean()
    flat = float(np.abs(wanted).mean())
    spread = float(given @ given)
    scale = float(given @ wanted) / spread if spread > 0 else 0.0
    error = float(np.abs(scale * given - wanted).mean()) / flat if flat > 0 else np.nan
    return _correlation(_ranks(one), _ranks(other)), error


def maps_kept(segmentations: Sequence[tuple[np.ndarray, np.ndarray]], depths: Sequence[tuple[np.ndarray, np.ndarray]],
              persons: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """Means over pictures, as plain data.

    Args:
        segmentations, depths: maps before and after of n pictures each; either may be empty.
        persons: n numbers of the persons, or of the pictures themselves.
    """
    return stated_maps(np.array([label_agreement(*pair) for pair in segmentations]).reshape(-1, 2),
                       np.array([depth_agreement(*pair) for pair in depths]).reshape(-1, 2), persons)


def stated_maps(labels: np.ndarray, depths: np.ndarray, persons: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """As :func:`maps_kept`, from the numbers of :func:`label_agreement` and of :func:`depth_agreement`, n x 2 each."""
    def mean(values: np.ndarray, why: str) -> dict[str, Any]:
        return stated(values, persons if len(values) else [], why)

    return {"segmentation": {name: mean(labels[:, index], "there are no label maps")
                             for index, name in enumerate(("pixel_agreement", "mean_iou"))},
            "depth": {name: mean(depths[:, index], "there are no depth maps that are not flat")
                      for index, name in enumerate(("rank_correlation", "error"))}}


def _labels(image: np.ndarray) -> np.ndarray:
    found = np.asarray(image)
    if found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.uint8:
        return found.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    if found.ndim == 2 and np.issubdtype(found.dtype, np.integer):
        return found
    raise CamouflageError(f"A label map is H x W x 3 colours of 8 bits, or H x W whole numbers, but got {found.shape} "
                          f"of {found.dtype}.")


def _same_size(one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape or not one.size:
        raise CamouflageError(f"Maps before and after must be of one size, but got {one.shape} and {other.shape}. "
                              "Bring the pictures to one frame before they are read.")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of all pixels; equal ones share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else np.nan
