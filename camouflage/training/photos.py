"""Finding photos in folders and decoding whatever they turn out to be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import CamouflageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MOST_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs; a file of some KB may claim more
_ORIENTATION = 0x0112  # the EXIF tag, and what undoes each of its values
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}


class Unreadable(Exception):
    """Why a photo cannot be used, in words without its name and content."""


def find(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """All JPEG, PNG and WebP files (by suffix) below the folders, hidden files and folders left out.

    Links to folders are followed, but not into a folder that they lie in.

    Returns:
        (identity, path), sorted by folder and path. The identity is the folder's position and the path in it, such
        as "0/holiday/1.jpg": the same on every machine that sees the folders, wherever they are mounted.

    Raises:
        CamouflageError: a folder does not exist or cannot be read.
    """
    found = []
    for position, folder in enumerate(folders):
        if not folder.is_dir():
            raise CamouflageError(f"There is no folder {folder}. Name a folder with photos.")
        paths = sorted(path.relative_to(folder).as_posix() for path in _below(folder, ()))
        found += [(f"{position}/{path}", folder / path) for path in paths]
    return found


def _below(folder: Path, parents: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in parents:
        return
    try:
        entries = [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise CamouflageError(f"The folder {folder} cannot be read ({error.strerror}). Give the right to read it, or "
                              "leave it out.") from error
    for path in entries:
        if path.is_dir():
            yield from _below(path, (*parents, real))
        elif path.suffix.lower() in SUFFIXES and path.is_file():  # neither a dead link nor a pipe
            yield path


def decode(path: Path) -> Image.Image:
    """The photo as 8-bit RGB, upright as its EXIF data says.

    Transparency becomes white, 16 bits become 8 by scaling, of several pictures in a file the first one counts. Colour
    profiles are left aside, as the host's Load Image does.

    Raises:
        Unreadable: empty, cut short, damaged, huge (178 megapixels) or another kind of file.
    """
    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > MOST_PIXELS:  # also where somebody has lifted Pillow's own limit
                raise Unreadable(_huge(image.width * image.height))
            image.load()
            return _upright(image, _rgb(image))
    except Image.DecompressionBombError as error:
        digits = [word for word in str(error).replace("(", "").split() if word.isdigit()]
        raise Unreadable(_huge(int(digits[0]) if digits else None)) from None
    except UnidentifiedImageError:
        raise Unreadable("empty" if _is_empty(path) else "no JPEG, PNG or WebP picture") from None
    except OSError as error:
        if error.errno:  # the system's, not Pillow's
            raise Unreadable(f"cannot be opened: {error.strerror}") from None
        raise Unreadable("cut short" if "truncated" in str(error).lower() else "damaged") from None
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # broken pictures make Pillow raise whatever it likes; its texts quote the file
        raise Unreadable(f"damaged ({type(error).__name__})") from None


def _huge(pixels: int | None) -> str:
    size = "too many" if pixels is None else f"{pixels / 1e6:.0f}"
    return f"{size} megapixels; at most {MOST_PIXELS / 1e6:.0f} are read"


def _is_empty(path: Path) -> bool:
    return path.stat().st_size == 0


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; convert() would clip it
        values = np.asarray(image).astype(np.float64)
        grey = (values / 257).round().clip(0, 255)
        if isinstance(transparent := image.info.get("transparency"), int):
            grey[values == transparent] = 255
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    """``pixels`` turned as the EXIF data of ``image`` says; damaged EXIF data says nothing."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as with pictures
        turn = None
    return pixels if turn is None else pixels.transpose(turn)
