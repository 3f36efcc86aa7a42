"""Reading a photo, whatever it turns out to be: upright, opaque, 8 bits, and nothing but pixels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

ENDINGS = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff",
           ".webp")
"""What counts as a picture by its name. One that cannot be read after all is listed, not passed over."""
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")  # none that is a program, as EPS is
MOST_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs; a file of some KB may claim more
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colour space -> Pillow's mode


class Unreadable(Exception):
    """Why a photo cannot be used, in words without its name and content."""


def picture_formats() -> tuple[str, ...]:
    """Formats of pictures that this Pillow reads, by itself or because another pack has taught it to."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def read_pixels(file: Path | BytesIO) -> np.ndarray:
    """A picture as :func:`decode` reads it, in any format that this Pillow reads: H x W x 3, uint8. Raises Unreadable.
    """
    return np.array(decode(file, picture_formats()))


def decode(file: Path | BytesIO, formats: tuple[str, ...] | None = None, profile: bool = False) -> Image.Image:
    """The photo as 8-bit RGB, upright as its EXIF data says, without metadata.

    Transparency becomes white, 16 bits become 8 by scaling, of several pictures in a file the first one counts.

    Args:
        file: where it lies, or what is in it.
        formats: Pillow's names of those that are read, such as "JPEG"; None reads all that it knows.
        profile: convert the colours to sRGB by the embedded ICC profile. Else it is left aside, as the host's Load
            Image does; so is one that is damaged, or of another kind than the picture.

    Raises:
        Unreadable: empty, cut short, damaged, huge (179 megapixels) or another kind of file.
    """
    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > MOST_PIXELS:  # also where somebody has lifted Pillow's own limit
                raise Unreadable(_huge(image.width * image.height))
            image.load()
            upright = _upright(image)
            converted = _in_srgb(upright) if profile else None
            return Image.fromarray(np.array(_rgb(upright) if converted is None else converted))
    except Image.DecompressionBombError as error:
        digits = [word for word in str(error).replace("(", "").split() if word.isdigit()]
        raise Unreadable(_huge(int(digits[0]) if digits else None)) from None
    except UnidentifiedImageError:
        kinds = " or ".join(", ".join(formats).rsplit(", ", 1)).replace("WEBP", "WebP") + " " if formats else ""
        empty = isinstance(file, Path) and file.stat().st_size == 0
        raise Unreadable("empty" if empty else f"no {kinds}picture") from None
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


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data says; damaged EXIF data says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as with pictures
        return image


def _in_srgb(image: Image.Image) -> Image.Image | None:
    """The picture as 8-bit RGB, its colours brought to sRGB by its own profile; None where there is none that fits.

    Inks go through the profile. Everything else becomes 8 bits and opaque first; white is white in every colour space.
    """
    from PIL import ImageCms  # few photos have a profile that is asked for, and ComfyUI starts without it

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        mode = _MODES[source.profile.xcolor_space]
    except (KeyError, TypeError, ValueError, OSError):  # none, one of no such space, or a damaged one
        return None
    if (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and Image.getmodebase(image.mode) != "L"):
        return None
    pixels = image if mode == "CMYK" else _rgb(image)
    try:
        return ImageCms.profileToProfile(pixels.getchannel(0) if mode == "L" else pixels, source,
                                         ImageCms.createProfile("sRGB"), ImageCms.Intent.PERCEPTUAL, "RGB")
    except ImageCms.PyCMSError:  # damaged where only the conversion looks
        return None


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
