"""Changes that leave people as recognisable as they were, and what a patient stranger does to a redaction."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image
from skimage.restoration import richardson_lucy, wiener

from camouflage.verification.redaction import CELLS, head

Box = tuple[float, float, float, float]
Change = Callable[[np.ndarray], np.ndarray]
Attack = Callable[[np.ndarray, Box], np.ndarray]
_EDGE = 1.12  # the cells begin at the outer end of the soft edge


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


CHANGES: dict[str, Change] = {
    "unchanged": lambda pixels: pixels,
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "JPEG 30": lambda pixels: jpeg(pixels, 30),
    "half size": lambda pixels: cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2),
                                           interpolation=cv2.INTER_AREA),
    "blurred 1.5": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 1.5),
}


def _grid(box: Box) -> tuple[float, float, float]:
    """Left end, upper end and side of the cells, in pixels."""
    x, y, radius_x, radius_y = head(box)
    return x - _EDGE * radius_x, y - _EDGE * radius_y, 2 * _EDGE * max(radius_x, radius_y) / CELLS


def _put(pixels: np.ndarray, box: Box, head_pixels: np.ndarray) -> np.ndarray:
    """``pixels`` with the inside of the head from ``head_pixels``, of the same size."""
    x, y, radius_x, radius_y = head(box)
    rows, columns = np.mgrid[:pixels.shape[0], :pixels.shape[1]] + 0.5
    inside = np.abs((columns - x) / radius_x) ** 3 + np.abs((rows - y) / radius_y) ** 3 <= 1
    return np.where(inside[..., None], np.clip(np.rint(head_pixels), 0, 255).astype(np.uint8), pixels)


def upscaled(method: int) -> Attack:
    """The cells as pixels of a small picture, which is enlarged."""
    def attack(pixels: np.ndarray, box: Box) -> np.ndarray:
        left, top, side = _grid(box)
        height, width = pixels.shape[:2]
        centres = (np.arange(CELLS) + 0.5) * side
        columns = np.clip((left + centres).astype(int), 0, width - 1)
        rows = np.clip((top + centres).astype(int), 0, height - 1)
        small = pixels[rows][:, columns].astype(np.float32)
        where = np.array([[1 / side, 0, (0.5 - left) / side - 0.5], [0, 1 / side, (0.5 - top) / side - 0.5]])
        return _put(pixels, box, cv2.warpAffine(small, where, (width, height), flags=method | cv2.WARP_INVERSE_MAP,
                                                borderMode=cv2.BORDER_REPLICATE))
    return attack


def smoothed(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Without the mosaic's corners."""
    return _put(pixels, box, cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), _grid(box)[2] / 2))


def sharpened(pixels: np.ndarray, box: Box) -> np.ndarray:
    """An unsharp mask as wide as a cell."""
    soft = pixels.astype(np.float32)
    return _put(pixels, box, soft + 3 * (soft - cv2.GaussianBlur(soft, (0, 0), _grid(box)[2])))


def deblurred(restore: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Attack:
    """Deconvolution with the very Gaussian that blurred, in a size that holds all that is left: 96 px for 12 cells."""
    size = 96

    def attack(pixels: np.ndarray, box: Box) -> np.ndarray:
        side = _grid(box)[2]
        x, y = head(box)[:2]
        height, width = pixels.shape[:2]
        factor = size / (1.5 * CELLS * side)
        where = np.array([[factor, 0, size / 2 - factor * x], [0, factor, size / 2 - factor * y]])
        small = cv2.warpAffine(pixels, where, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        sigma = side * factor
        reach = np.arange(-int(3 * sigma), int(3 * sigma) + 1)
        bell = np.exp(-reach**2 / (2 * sigma**2))
        spread = np.outer(bell, bell) / bell.sum() ** 2
        sharp = np.stack([restore(small[..., channel] / 255, spread) for channel in range(3)], axis=-1)
        return _put(pixels, box, 255 * cv2.warpAffine(sharp.astype(np.float32), where, (width, height),
                                                      flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                                                      borderMode=cv2.BORDER_REPLICATE))
    return attack


ATTACKS: dict[str, Attack] = {
    "bicubic": upscaled(cv2.INTER_CUBIC),
    "Lanczos": upscaled(cv2.INTER_LANCZOS4),
    "smoothed": smoothed,
    "unsharp mask": sharpened,
    "Richardson-Lucy": deblurred(lambda blurred, spread: richardson_lucy(blurred + 1e-3, spread, num_iter=30)),
    "Wiener": deblurred(lambda blurred, spread: np.asarray(wiener(blurred, spread, 0.01))),
}
