"""A folder as a curator has one: 24 files of every kind, and what should become of each with Redact."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

import photos

ORIENTATION = 0x0112
SWAPPED = 6  # EXIF: turn 90 degrees clockwise to see it upright


def portrait(size: int = 192, name: str = "astronaut") -> Image.Image:
    """A head and shoulders."""
    image = Image.fromarray(photos.load(name))
    width = min(image.size)
    return image.crop((0, 0, width, width)).resize((size, size), Image.Resampling.LANCZOS)


def landscape(name: str = "coffee", size: int = 192) -> Image.Image:
    """Nobody in it."""
    return Image.fromarray(photos.load(name)).resize((size, size * 3 // 4), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image: Image.Image) -> bytes:
    """Stored lying on its side, with EXIF data that says so, and that says more than it should."""
    exif = Image.Exif()
    exif[ORIENTATION] = SWAPPED
    exif[0x010F] = "Secret Camera"
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif.tobytes())


def deep(image: Image.Image) -> bytes:
    """16 bits of grey."""
    return encoded(Image.fromarray(np.asarray(ImageOps.grayscale(image)).astype(np.uint16) * 257))


def profiled(image: Image.Image) -> bytes:
    """With a colour profile of its own."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encoded(image, "JPEG", quality=95, icc_profile=profile)


def make(folder: Path) -> dict[str, str]:
    """Writes the 24 files; gives what should become of each: redacted, blocked or unreadable."""
    person, other = portrait(), portrait(name="hopper")
    transparent = person.convert("RGBA")
    transparent.putalpha(Image.new("L", person.size, 255))
    files: dict[str, tuple[Callable[[], bytes] | bytes, str]] = {
        "portrait.jpg": (encoded(person, "JPEG", quality=95), "redacted"),
        "same name.png": (encoded(person), "redacted"),
        "a/same name.png": (encoded(other), "redacted"),
        "b/same name.png": (encoded(landscape()), "blocked"),
        "b/twin.jpg": (encoded(other, "JPEG", quality=95), "redacted"),
        "b/twin.png": (encoded(person), "redacted"),
        "landscape.webp": (encoded(landscape("chelsea"), "WEBP", quality=95), "blocked"),
        "Straße/Zoë 東京 ❤.jpg": (encoded(person, "JPEG", quality=95), "redacted"),
        "turned.jpg": (turned(person), "redacted"),
        "cmyk.jpg": (encoded(person.convert("CMYK"), "JPEG", quality=95), "redacted"),
        "sixteen.png": (deep(person), "redacted"),
        "grey.png": (encoded(ImageOps.grayscale(person)), "redacted"),
        "palette.gif": (encoded(person.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"), "redacted"),
        "transparent.png": (encoded(transparent), "redacted"),
        "profile.jpg": (profiled(person), "redacted"),
        "tiff.tif": (encoded(person, "TIFF"), "redacted"),
        "bitmap.BMP": (encoded(person, "BMP"), "redacted"),
        "upper.JPEG": (encoded(other, "JPEG", quality=95), "redacted"),
        "small.png": (encoded(person.resize((48, 48))), "unreadable"),
        "broken.jpg": (encoded(person, "JPEG", quality=95)[:2000], "unreadable"),
        "empty.png": (b"", "unreadable"),
        "text.png": (b"This is no picture.", "unreadable"),
        "huge.png": (bomb(), "unreadable"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "unreadable"),
    }
    for name, (data, _) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert len(files) == 24
    return {name: state for name, (_, state) in files.items()}


def bomb() -> bytes:
    """A small file that claims to be a picture of 400 megapixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
