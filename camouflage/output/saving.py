"""Saving verified pictures: pixels only, never over another file, whole or not at all (beyond the paper; our choice).

A picture gets a name with a number, ``<prefix>_00001.png``, and its manifest the same one, ``<prefix>_00001.json``.
Everything is first written to a hidden file of the same folder, ``.camouflage-….tmp``, and brought to the disk; only
then does it get its name. Who saves reserves the number by creating such a hidden file exclusively, so that any
number of processes can save at once, and no number ever belongs to two pictures. What a killed process leaves behind
is hidden, and the next saving removes it once it is an hour old.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
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
_LONGEST_PART = 100
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$", *(f"{device}{number}" for device in ("com", "lpt")
                                                                for number in "123456789¹²³")}
_HIDDEN, _TEMPORARY = ".camouflage-", ".tmp"
_LEFTOVER = 3600.0  # seconds


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
    import hashlib

    return {**report.to_json(index), "checked": picture.checked.to_json(),
            "file": {"name": name, "format": picture.format, "quality": picture.quality,
                     "pixels_sha256": picture.checked.pixels_sha256,
                     "file_sha256": hashlib.sha256(picture.data).hexdigest()},
            "models": [{"file": file, "sha256": sha256} for file, sha256 in models]}


def checked_prefix(text: object) -> PurePosixPath:
    """What names begin with: a path inside the output folder, subfolders separated by "/".

    "%" is refused rather than taken literally: other save nodes fill in sizes, times or other nodes' values there,
    and what the person expects to be filled in would end up in the name, or say something of the source.

    Raises:
        CamouflageError: empty; absolute or with a drive; "." and ".."; a backslash, a control or unprintable
            character or one of ``<>:"|?*%``; a part that begins with a dot or a space, ends with one, is longer than
            100 characters (or 200 bytes), or is a device of Windows (CON, NUL, COM1, …).
    """
    wanted = ("'filename_prefix' must be a name such as 'camouflage', with subfolders if you like: "
              "'holiday/camouflage'. It stays inside the output folder.")
    if not isinstance(text, str) or not text:
        raise CamouflageError(f"{wanted} It is empty.")
    shown = repr(text if len(text) <= 60 else text[:60] + "…")
    for character in text:
        if not character.isprintable() or character in '<>:"|?*%\\':
            raise CamouflageError(f"{wanted} {shown} has {character!r} in it, which is not allowed.")
    for part in text.split("/"):
        if not part:
            why = "begins or ends with '/', or has two of them in a row"
        elif part != part.strip(". "):
            why = f"has the part '{part}', which begins or ends with a dot or a space"
        elif len(part) > _LONGEST_PART or len(part.encode()) > 2 * _LONGEST_PART:
            why = f"has a part of {len(part)} characters; {_LONGEST_PART} are the most (200 bytes)"
        elif part.split(".")[0].rstrip(" ").lower() in _RESERVED:
            why = f"has the part '{part}', which Windows keeps for a device"
        else:
            continue
        raise CamouflageError(f"{wanted} {shown} {why}.")
    return PurePosixPath(text)


def save(folder: Path | str, prefix: str, suffix: str, data: bytes,
         manifest: Callable[[str], Mapping[str, Any]] | None = None) -> Path:
    """Saves a file under the next free number, and its manifest, if there is one, under the same.

    The manifest gets its name first, so every picture that asked for one has one. A number is taken if a picture of
    any format or a manifest has it.

    Args:
        folder: nothing is written outside of it; made if it is missing.
        prefix: see :func:`checked_prefix`; subfolders are made.
        suffix: of ``SUFFIXES``.
        data: the whole file.
        manifest: the file's name -> what its manifest says.

    Returns:
        The file's path, without symbolic links.

    Raises:
        CamouflageError: a bad prefix, a subfolder that leads out of ``folder``, or a disk that is full, read-only or
            away; then neither picture nor manifest is there.
    """
    inside = checked_prefix(prefix)
    try:
        home = _subfolder(Path(folder), inside.parent)
        with _temporary(home, data) as picture:
            _remove_leftovers(home, now=picture.stat().st_mtime)
            number = _next_number(home, inside.name)
            while True:
                stem = f"{inside.name}_{number:05d}"
                with _reserved(home, stem) as ours, contextlib.suppress(FileExistsError):
                    if ours and not any(os.path.lexists(home / (stem + end)) for end in (*SUFFIXES.values(), ".json")):
                        path = home / (stem + suffix)
                        _publish_with(manifest, picture, path)
                        return path
                number += 1
    except OSError as error:
        raise CamouflageError(f"A picture with the prefix '{prefix}' could not be saved in the output folder "
                              f"({error.strerror or type(error).__name__}); nothing of it was left there. See whether "
                              "the disk is full or write-protected, then run again.") from error


def _subfolder(folder: Path, inside: PurePosixPath) -> Path:
    """The real path of a subfolder, made if it is missing; looked at before and after, as links may lead away."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.resolve()
    _real(root, inside).mkdir(parents=True, exist_ok=True)
    return _real(root, inside)


def _real(root: Path, inside: PurePosixPath) -> Path:
    """The path without symbolic links, if it stays below ``root``."""
    try:
        path = (root / inside).resolve()
    except RuntimeError:  # links in a circle, before Python 3.13
        path = None
    if path is None or not path.is_relative_to(root):
        raise CamouflageError(f"The subfolder '{inside}' is a link that leads out of the output folder. Choose another "
                              "'filename_prefix', or remove the link.")
    return path


@contextlib.contextmanager
def _temporary(folder: Path, data: bytes) -> Iterator[Path]:
    """A hidden file with this content, on the disk; gone afterwards."""
    path = folder / f"{_HIDDEN}{secrets.token_hex(8)}{_TEMPORARY}"
    try:
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        _remove(path)


@contextlib.contextmanager
def _reserved(folder: Path, stem: str) -> Iterator[bool]:
    """Whether nobody else saves under this stem as long as this is entered."""
    path = folder / f"{_HIDDEN}{stem}{_TEMPORARY}"
    try:
        open(path, "xb").close()
    except FileExistsError:
        yield False
        return
    try:
        yield True
    finally:
        _remove(path)


def _publish_with(manifest: Callable[[str], Mapping[str, Any]] | None, picture: Path, path: Path) -> None:
    """Gives the picture its name, and its manifest before it; both or none."""
    if manifest is None:
        _publish(picture, path)
        return
    text = json.dumps(manifest(path.name), indent=2, allow_nan=False) + "\n"
    beside = path.with_name(path.stem + ".json")
    with _temporary(path.parent, text.encode()) as temporary:
        _publish(temporary, beside)
    try:
        _publish(picture, path)
    except BaseException:
        _remove(beside)
        raise


def _publish(temporary: Path, path: Path) -> None:
    """Gives a complete file its name; a name that is there stays what it is (FileExistsError).

    A hard link appears whole, and only where the name is free. Where the file system has no hard links the file is
    renamed, which appears whole too. Windows then refuses a name that exists; elsewhere it is looked up first, and
    the reservation keeps every other saver of ours away in between.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _remove_leftovers(folder: Path, now: float) -> None:
    """Removes hidden files of killed processes; ``now`` is the file system's own time, in seconds."""
    for path in folder.glob(f"{_HIDDEN}*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            if now - path.lstat().st_mtime > _LEFTOVER:
                path.unlink()


def _next_number(folder: Path, name: str) -> int:
    """One more than the highest number there; upper and lower case count as the same, as on some file systems."""
    ends = "|".join(re.escape(end) for end in (*SUFFIXES.values(), ".json"))
    numbered = re.compile(rf"{re.escape(name)}_([0-9]{{5,}})(?:{ends})", re.IGNORECASE)
    found = (numbered.fullmatch(entry) for entry in os.listdir(folder))
    return 1 + max((int(match[1]) for match in found if match), default=0)
