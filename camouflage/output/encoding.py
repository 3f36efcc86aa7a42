"""Files that hold the pixels of a verified picture and nothing else, and manifests (beyond the paper; our choice)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CamouflageError
from ..images import MAX_PIXELS, bands
from ..verification.report import CheckedPicture, Report, pixels_sha256
from ..verification.verdicts import accusation
from ..verification.views import nothing, watched

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}
FORMATS = tuple(SUFFIXES)
MANIFEST_SCHEMA = Path(__file__).with_name("manifest.schema.json")
_LONGEST_SIDE = {"JPEG": 65500, "WebP": 16383}  # px: libjpeg's limit and the format's


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Encoded:
    """A picture as it will lie on the disk.

    Attributes:
        data: the file's bytes.
        format: of ``FORMATS``.
        quality: 1..100; None for PNG.
        checked: verdicts on the pixels that a reader decodes from ``data``.
    """

    data: bytes
    format: str
    quality: int | None
    checked: CheckedPicture


def vouch(report: object, pictures: Sequence[np.ndarray]) -> Report:
    """The report, if it vouches for every picture of a batch.

    Args:
        report: a sealed report of exactly these pictures.
        pictures: H x W x 3, uint8 each.

    Raises:
        CamouflageError: no report, an edited one, one of other pictures or of another number of them; or somebody is
            neither safe nor redacted: every such person is named by number and box.
    """
    if not isinstance(report, Report):
        raise CamouflageError("'report' must be the report of 'Verify' or 'Safe Sampler', but got "
                              f"{'nothing' if report is None else type(report).__name__}. What was not verified is "
                              "not saved as anonymized.")
    if len(report.pictures) != len(pictures):
        raise CamouflageError(f"'image' has {len(pictures)} pictures, but 'report' is of {len(report.pictures)}. "
                              "Connect picture and report of the same node.")
    checked = [report.check(index, pixels) for index, pixels in enumerate(pictures)]
    refused = [f"Picture {index} (counted from 0): {_accusation(one)}" for index, one in enumerate(checked)
               if not one.passes]
    if refused:
        raise CamouflageError("Nothing was saved. " + " ".join(refused) + " Set the policy of the verification to "
                              "'redact', or anonymize more strongly and verify again.")
    return report


def encoded(report: Report, index: int, pixels: np.ndarray, format: str, quality: int,
            pause: Callable[[], None] = nothing) -> Encoded:
    """Encodes a picture and makes sure that what a reader decodes is still vouched for.

    A lossless file holds the pixels that were verified. A lossy one holds others, so these are verified again, by
    the same detectors, recogniser and threshold. A face that the encoder brought to light does not pass.

    Args:
        report: that vouches for the picture, see :func:`vouch`.
        index: of the picture in the report.
        pixels: H x W x 3, uint8.
        format, quality: see :func:`encode`.
        pause: called about ten times a second; may raise to stop.

    Raises:
        CamouflageError: the format cannot hold the picture; or a person would not be safe or redacted in the file
            (named by number and box); or the report cannot verify other pixels.
    """
    data = watched(lambda: encode(pixels, format, quality), pause)
    decoded = watched(lambda: decode(data), pause)
    if decoded.shape == pixels.shape and all(np.array_equal(decoded[rows], pixels[rows])  # in bands: it makes a copy
                                             for rows in bands(*pixels.shape[:2])):
        checked = report.check(index, pixels)
    elif report.recheck is None:
        raise CamouflageError(f"{format} at quality {quality} changes pixels, and this report cannot verify the "
                              "changed ones. Choose PNG, or WebP at quality 100: they keep every pixel.")
    else:
        checked = report.recheck(index, decoded)
        if (checked.pixels_sha256 != pixels_sha256(decoded)
                or checked.lasting != report.pictures[index].lasting):
            raise CamouflageError("The report's second look was at another picture, so it proves nothing. Connect the "
                                  "report of 'Verify' or 'Safe Sampler' as it is.")
        if not checked.passes:
            raise CamouflageError(f"Nothing was saved. {format} at quality {quality} changes picture {index} (counted "
                                  f"from 0) so that it does not pass any more. {_accusation(checked)} Choose PNG or a "
                                  "higher quality.")
    return Encoded(data, format, None if format == "PNG" else quality, checked)


def _accusation(checked: CheckedPicture) -> str:
    if checked.moved:
        return f"It shows the original {checked.moved}; connect an 'original' that is turned, cut and scaled alike."
    if checked.unsettled:
        return accusation(checked)
    return ("No face was found in the original, so nothing is proved: a detector can miss one. Look at the picture; if "
            "nobody is in it, set 'no_face' of the verification to 'pass'.")


def encode(pixels: np.ndarray, format: str, quality: int = 95) -> bytes:
    """A file that holds pixels and nothing else.

    Args:
        pixels: H x W x 3, uint8, RGB.
        format: "PNG" (lossless), "JPEG" (4:4:4; no segment but JFIF's) or "WebP".
        quality: 1..100, of JPEG and WebP; WebP is lossless at 100. JPEG never is.

    Raises:
        CamouflageError: no such format or quality, no such pixels, more than 100 megapixels, or a side beyond the
            format's limit (JPEG 65500 px, WebP 16383 px).
    """
    from PIL import Image

    if format not in FORMATS:
        raise CamouflageError(f"'format' is '{format}', but must be one of: {', '.join(FORMATS)}.")
    if not 1 <= quality <= 100:
        raise CamouflageError(f"'quality' is {quality}, but must lie between 1 and 100.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise CamouflageError(f"A picture to save is height x width x 3, 8 bit, but got {pixels.shape}, "
                              f"{pixels.dtype}.")
    height, width = pixels.shape[:2]
    if height * width > MAX_PIXELS:
        raise CamouflageError(f"The picture is {width} x {height} px, {height * width / 1e6:.1f} megapixels, but at "
                              f"most {MAX_PIXELS // 1_000_000} are saved. Scale it down before it is verified.")
    limit = _LONGEST_SIDE.get(format)
    if limit is not None and max(height, width) > limit:
        raise CamouflageError(f"The picture is {width} x {height} px, but {format} ends at {limit} px a side. Choose "
                              "PNG, or scale the picture before it is verified.")
    options: dict[str, Any] = {"compress_level": 4}
    if format == "JPEG":
        options = {"quality": quality, "subsampling": 0}
    elif format == "WebP":  # of a lossless one "quality" is the effort: 100 takes thrice as long for as large a file
        options = {"quality": quality} if quality < 100 else {"lossless": True, "quality": 50}
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format, **options)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    """The pixels of a file of :func:`encode`, H x W x 3, uint8.

    Pillow's classes for the formats are called directly: ``Image.open`` warns at 89 megapixels and can be told
    otherwise only for the whole process. The limit is ours instead.

    Raises:
        CamouflageError: no readable picture of one of ``FORMATS``, or one of more than 100 megapixels.
    """
    from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    reader = (PngImagePlugin.PngImageFile if data.startswith(b"\x89PNG") else
              JpegImagePlugin.JpegImageFile if data.startswith(b"\xff\xd8") else WebPImagePlugin.WebPImageFile)
    try:
        with reader(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"it is {picture.width} x {picture.height} px")
            return _rgb(picture)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CamouflageError(f"What was encoded cannot be read again ({error}), so it was not saved. Save smaller "
                              "pictures.") from error


def _rgb(picture: Image.Image) -> np.ndarray:
    """H x W x 3, uint8; in bands, for Pillow's own way from picture to array copies twice."""
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for rows in bands(picture.height, picture.width):
        band = picture.crop((0, rows.start, picture.width, rows.stop))
        pixels[rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return pixels


def manifest(report: Report, index: int, picture: Encoded, name: str,
             models: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """What is known of a saved picture, as plain data that fits ``MANIFEST_SCHEMA``.

    Args:
        report: that vouches for it.
        index: of the picture in the report.
        picture: the file; its verdicts are written, not those on the pixels before they were encoded.
        name: of the file, without a folder.
        models: name and SHA-256 of every model file.
    """
    return {**report.to_json(index), "checked": picture.checked.to_json(),
            "file": {"name": name, "format": picture.format, "quality": picture.quality,
                     "pixels_sha256": picture.checked.pixels_sha256,
                     "file_sha256": hashlib.sha256(picture.data).hexdigest()},
            "models": [{"file": file, "sha256": sha256} for file, sha256 in models]}
