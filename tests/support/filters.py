"""Changes of pixels that leave everything at its place: what an editor, a phone or a file format does to a photo.

Strengths that depend on the size of a face are for faces about 90 px wide, as most of the tests' photos have them with
640 px on their longer side. Every change takes H x W x 3 uint8 pixels and is the same at every call.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Apply = Callable[[np.ndarray], np.ndarray]
FACE_WIDTH = 90  # px


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _from_grey(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


def on_grey(change: Apply) -> Apply:
    """A change of H x W grey levels as one of pixels."""
    return lambda pixels: _from_grey(change(_grey(pixels)))


def curve(levels: Callable[[np.ndarray], np.ndarray], channels: tuple[int, ...] = (0, 1, 2)) -> Apply:
    """Each of 256 levels becomes another one."""
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    table[:, channels] = _to_uint8(levels(np.arange(256.0)))[:, None]
    return lambda pixels: np.stack([table[pixels[..., channel], channel] for channel in range(3)], axis=-1)


def blur(sigma: float) -> Apply:
    """Gaussian, px."""
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), sigma)


def motion_blur(length: int) -> Apply:
    """Along the diagonal, ``length`` px in both directions."""
    kernel = np.eye(length, dtype=np.float32) / length
    return lambda pixels: cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def gamma(exponent: float) -> Apply:
    """Below 1 brightens, above 1 darkens."""
    return curve(lambda levels: 255 * (levels / 255) ** exponent)


def noise(sigma: float) -> Apply:
    """Gaussian, grey levels; the same for photos of the same size."""
    def apply(pixels: np.ndarray) -> np.ndarray:
        return _to_uint8(pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape))
    return apply


def encoded(kind: str, quality: int) -> Apply:
    """Through a JPEG or WebP file."""
    def apply(pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, quality=quality)
        return np.array(Image.open(file).convert("RGB"))
    return apply


def _salt_and_pepper(pixels: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng(0).random(pixels.shape[:2])[..., None]
    return np.where(drawn < 0.05, 0, np.where(drawn > 0.95, 255, pixels)).astype(np.uint8)


def _shrunken(factor: float, back: int) -> Apply:
    """Made small and large again."""
    def apply(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        size = max(1, round(width / factor)), max(1, round(height / factor))
        return cv2.resize(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), (width, height), interpolation=back)
    return apply


def _sobel(grey: np.ndarray) -> np.ndarray:
    return _to_uint8(np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)))


def _pencil(grey: np.ndarray) -> np.ndarray:
    return cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (0, 0), 8), scale=256)


def _posterized(levels: int) -> Apply:
    return curve(lambda values: np.floor(values / 256 * levels) * 255 / (levels - 1))


def _adaptive(grey: np.ndarray) -> np.ndarray:
    return cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 31, 5)


def _coloured(colours: int) -> Apply:
    return lambda pixels: np.ascontiguousarray(cv2.applyColorMap(_grey(pixels), colours)[..., ::-1])


def _hue(pixels: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 60) % 180  # OpenCV's hue is in steps of two degrees
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _sepia(pixels: np.ndarray) -> np.ndarray:
    matrix = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    return _to_uint8(pixels @ matrix.T)


def _kernel(*rows: tuple[int, int, int]) -> Apply:
    return lambda pixels: cv2.filter2D(pixels, -1, np.array(rows, np.float32), borderType=cv2.BORDER_REPLICATE)


def _dithered(pixels: np.ndarray) -> np.ndarray:
    return _from_grey(np.array(Image.fromarray(pixels).convert("1"), np.uint8) * 255)


def _channels(*order: int) -> Apply:
    return lambda pixels: np.ascontiguousarray(pixels[..., list(order)])


FILTERS: dict[str, Apply] = {
    **{f"blur of 1/{part} face": blur(FACE_WIDTH / part) for part in (40, 24, 16, 12, 8)},
    "box blur": lambda pixels: cv2.blur(pixels, (15, 15)),
    "median": lambda pixels: cv2.medianBlur(pixels, 13),
    **{f"motion blur {length} px": motion_blur(length) for length in (11, 21)},
    "negative": curve(lambda levels: 255 - levels),
    **{f"negative {name}": curve(lambda levels: 255 - levels, (channel,))
       for channel, name in enumerate(("red", "green", "blue"))},
    "Canny": on_grey(lambda grey: 255 - cv2.Canny(grey, 60, 140)),
    "Sobel": on_grey(_sobel),
    "Laplacian": on_grey(lambda grey: _to_uint8(255 - 2 * np.abs(cv2.Laplacian(grey, cv2.CV_32F, ksize=3)))),
    "pencil": on_grey(_pencil),
    **{f"posterized {levels}": _posterized(levels) for levels in (2, 3, 4, 8)},
    "solarized": curve(lambda levels: np.where(levels < 128, levels, 255 - levels)),
    "black and white": on_grey(lambda grey: cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[1]),
    "black and white, adaptive": on_grey(_adaptive),
    "blue for red": _channels(2, 1, 0),
    "channels turned": _channels(1, 2, 0),
    **{f"{name} as grey": _channels(channel, channel, channel)
       for channel, name in enumerate(("red", "green", "blue"))},
    **{f"colour map {name}": _coloured(getattr(cv2, f"COLORMAP_{name.upper()}")) for name in
       ("jet", "hot", "bone", "hsv")},
    "gamma 0.4": gamma(0.4),
    "gamma 2.5": gamma(2.5),
    "brighter": curve(lambda levels: levels + 60),
    "darker": curve(lambda levels: 0.3 * levels),
    "more contrast": curve(lambda levels: 128 + 2.2 * (levels - 128)),
    "equalized": on_grey(cv2.equalizeHist),
    "CLAHE": on_grey(lambda grey: cv2.createCLAHE(4, (8, 8)).apply(grey)),
    "hue": _hue,
    "sepia": _sepia,
    **{f"noise {sigma}": noise(sigma) for sigma in (20, 60)},
    "salt and pepper": _salt_and_pepper,
    **{f"JPEG {quality}": encoded("JPEG", quality) for quality in (5, 10, 30)},
    "WebP 10": encoded("WebP", 10),
    "emboss": _kernel((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
    "sharpened": _kernel((-1, -1, -1), (-1, 9, -1), (-1, -1, -1)),
    "dithered": _dithered,
    "quarter size and back": _shrunken(4, cv2.INTER_CUBIC),
    **{f"mosaic of 1/{part} face": _shrunken(FACE_WIDTH / part, cv2.INTER_NEAREST) for part in (16, 8)},
}
