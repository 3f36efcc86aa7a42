"""What is kept of each pair: keypoints of the faces, the faces themselves, and the picture outside of the heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..verification.redaction import Region, redact
from .landmarks import landmarks_kept
from .plain import stated
from .quality import Lpips, psnr, ssim
from .seeing import JUDGED, Frame, Seen, framed
from .utility import people_kept

if TYPE_CHECKING:
    from .privacy import Cast

_GROWN = 1.3  # of a head that does not count, so that soft edges do not
MOST_DB = 100.0
"""Decibels that count for pictures that are the same."""
MOST_COMPARED = 4_000_000
"""Pixels of a picture that are compared; larger pairs are scaled down to it, since SSIM takes much memory and time."""


def utility(cast: Cast, originals: Sequence[Seen], anonymized: Sequence[Seen | None]) -> dict[str, Any]:
    """Keypoints, head pose and expression of the faces that were compared, and whether the same faces are there."""
    points: list[tuple[np.ndarray, np.ndarray]] = []
    persons = []
    for one in cast.subjects:
        before, after = originals[one.picture], anonymized[one.picture]
        if one.state == JUDGED and after is not None:
            points.append((before.points[one.face], framed(before.size, after.size).points(after.points[one.match])))
            persons.append(one.person)
    both = np.array(points).reshape(-1, 2, 5, 2)
    there = [(before, after) for before, after in zip(originals, anonymized, strict=True) if after is not None]
    boxes = [([face.bounds for face in before.faces],
              [framed(before.size, after.size).box(face.bounds) for face in after.faces]) for before, after in there]
    return {**landmarks_kept(both[:, 0], both[:, 1], persons),
            "faces": people_kept([one for one, _ in boxes], [other for _, other in boxes])}


def differences(before: np.ndarray, after: np.ndarray, seen: Seen, lpips: Lpips | None = None) -> dict[str, float]:
    """PSNR (dB), SSIM and LPIPS of a pair, of the whole picture and outside of the original's heads.

    Args:
        before, after: H x W x 3 and h x w x 3, uint8.
        seen: in the original.
        lpips: measures LPIPS; None leaves it out.

    The original is brought to the anonymized picture's frame and size; both are scaled down where they are larger than
    ``MOST_COMPARED``.
    """
    if (scale := (MOST_COMPARED / (after.shape[0] * after.shape[1])) ** 0.5) < 1:
        after = _scaled(after, max(1, round(after.shape[1] * scale)), max(1, round(after.shape[0] * scale)))
    frame = framed(seen.size, (after.shape[1], after.shape[0]))
    original = brought(before, frame, after.shape[1], after.shape[0])
    regions = [Region(frame.back(face.box_ltrb), grow=_GROWN, turn=face.turn) for face in seen.faces]
    whole = _compared(original, after, lpips)
    outside = _compared(redact(original, regions), redact(after, regions), lpips) if regions else whole
    return whole | {f"{name}_outside_heads": value for name, value in outside.items()}


def _compared(one: np.ndarray, other: np.ndarray, lpips: Lpips | None) -> dict[str, float]:
    found = {"psnr": min(MOST_DB, psnr(one, other)), "ssim": ssim(one, other)}
    return found | ({"lpips": lpips.distance(one, other)} if lpips else {})


def quality(numbers: Sequence[dict[str, float]], persons: Sequence[int]) -> dict[str, Any]:
    """Means of :func:`differences` over pictures."""
    names = numbers[0] if numbers else ("psnr", "ssim")
    return {name: stated([one[name] for one in numbers], persons, "no pair could be compared") for name in names}


def brought(before: np.ndarray, frame: Frame, width: int, height: int) -> np.ndarray:
    """The original, cut and scaled as the anonymized picture is."""
    left, top = frame.shift
    box = (left, top, left + width * frame.scale[0], top + height * frame.scale[1])
    whole = box == (0.0, 0.0, float(before.shape[1]), float(before.shape[0]))
    if whole and before.shape[:2] == (height, width):
        return before
    return _scaled(before, width, height, box)


def _scaled(pixels: np.ndarray, width: int, height: int, box: tuple[float, float, float, float] | None = None
            ) -> np.ndarray:
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, box=box))
