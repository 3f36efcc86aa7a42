"""Reading a photo, whatever it turns out to be: upright, opaque, 8 bits, and nothing but pixels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

ENDINGS = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff",
           ".webp")
"""What counts as a picture by its name. One that cannot be read after all is listed, not passed over."""
MOST_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs; a file of some KB may claim more


class Unreadable(Exception):
    """Why a photo cannot be used, in words without its name and content."""


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
            return Image.fromarray(np.array(_rgb(_as_srgb(upright) if profile else upright)))
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


def _as_srgb(image: Image.Image) -> Image.Image:
    """The picture in sRGB, transparency kept; as it is where it has no profile that can be applied."""
    embedded = image.info.get("icc_profile")
    if "transparency" in image.info and image.mode in ("RGB", "L", "P"):
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    bare = {"RGBA": "RGB", "LA": "L"}.get(image.mode, image.mode)
    if not embedded or bare not in ("RGB", "CMYK", "L"):
        return image
    try:
        source, target = ImageCms.ImageCmsProfile(BytesIO(embedded)), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image.convert(bare), source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    if converted is not None and image.mode in ("RGBA", "LA"):
        converted.putalpha(image.getchannel("A"))
    return converted or image


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
