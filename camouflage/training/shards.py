"""The files of a prepared dataset, one frame a picture: their layout, and how they are read and checked.

A file ``shard-00000-of-00004.bin`` is a sequence of frames. A frame is a head of 16 bytes (``b"CMFG"``; lengths of the
two parts that follow, and CRC-32 of these lengths and both parts, each uint32, little endian), JSON in UTF-8, and
float16 numbers, little endian. The first frame is the header: :class:`DatasetInfo`, with what stands for no text and
for no picture as its numbers. Every other is a picture: ``source``, ``height``, ``width`` (px), ``caption``,
``persons`` (how many faces) and ``faces`` (JSON of :class:`camouflage.method.faces.Faces`); its numbers are latent,
text embedding and what the image encoder says, one after the other.

Appending is writing bytes, and bytes that are written never change. A process that is killed leaves at most one torn
frame at the end, a power cut whatever was not yet on the disk. So the file is synced every 16 MiB, the writer cuts off
what is not whole before it goes on, and the reader stops there.

The layout is our choice, since two libraries were tried and do not hold what is needed here. SQLite: of a file cut
short at 60 random places it gave back no row in all 60, where here every row before the cut is kept; the reader of a
dataset whose writer was killed must be allowed to write (to roll back) or reads torn pages; and its locks are not
reliable on network file systems, while here a reader needs none. Arrow: of 4,000 randomly damaged headers one ended the
process with a signal, where a sentence is wanted; and it takes 170 MB on the disk.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import CamouflageError
from ..method.faces import Faces, Picture

FORMAT, VERSION = "camouflage-dataset", 3
TOKENS = 77  # of a CLIP text embedding
CELL = 8  # px of a side of a latent cell
SYNCED = 16 << 20  # bytes: after so many, what was written is brought onto the disk
_TAIL = 4 * SYNCED  # bytes: more than a power cut can have spoilt; the rows in it are checked on opening
_NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.bin")
_HEAD, _MAGIC = struct.Struct("<4sIII"), b"CMFG"
_HEADER = {"format": str, "version": int, "resolution": int, "base_model": str, "vae": str, "image_encoder": str,
           "fit": str, "image": str, "caption": dict, "faces": dict, "text_width": int, "image_shape": list}
_ROW = {"source": str, "height": int, "width": int, "caption": str, "persons": int, "faces": str}
_EMPTY = ("empty_text", "empty_image")  # the header's tensors
_BROKEN = (OSError, ValueError, RecursionError)  # what bytes of another form lead to


@dataclass(frozen=True, eq=False)
class DatasetInfo:
    """What all pictures of a dataset have in common.

    Attributes:
        resolution: px of the longer side, or of both ("square").
        fit: "crop" or "square", as in Prepare Image.
        image: what is stored of every picture: "CLIP embedding", "CLIP states" or "FaRL states" (hidden states).
        base_model, vae, image_encoder: SHA-256 of the files, hex.
        caption, faces: settings of the two, as JSON has them.
        text_width: numbers in a token of the text.
        image_shape: of what is stored of every picture: [width], or [states, width].
        empty_text: 77 x text_width, float16: the embedding of the empty prompt.
        empty_image: of ``image_shape``, float16: zeros for an embedding, else the encoder's states of a zero tensor.
    """

    resolution: int
    base_model: str
    vae: str
    image_encoder: str
    fit: str
    image: str
    caption: Mapping[str, Any]
    faces: Mapping[str, Any]
    text_width: int
    image_shape: Sequence[int]
    empty_text: torch.Tensor
    empty_image: torch.Tensor

    def __post_init__(self) -> None:
        if self.empty_text.dtype != torch.float16 or self.empty_text.shape != (TOKENS, self.text_width):
            raise CamouflageError(f"empty_text must be {TOKENS} x {self.text_width}, float16, but got "
                                  f"{tuple(self.empty_text.shape)}, {self.empty_text.dtype}.")
        if self.empty_image.dtype != torch.float16 or self.empty_image.shape != tuple(self.image_shape):
            raise CamouflageError(f"empty_image must be {tuple(self.image_shape)}, float16, but got "
                                  f"{tuple(self.empty_image.shape)}, {self.empty_image.dtype}.")

    def settings(self) -> dict[str, Any]:
        """Everything but the tensor, flat: ``{"resolution": 768, …, "faces threshold": 0.5}``."""
        flat: dict[str, Any] = {}
        for field in fields(self):
            content = getattr(self, field.name)
            if isinstance(content, Mapping):
                flat |= {f"{field.name} {key}": inner for key, inner in content.items()}
            elif field.name not in _EMPTY:
                flat[field.name] = content
        return flat

    def differences(self, other: DatasetInfo) -> list[str]:
        """Settings that differ, such as "resolution: 512, not 768" (ours first); the tensor may differ by rounding."""
        mine, theirs = self.settings(), other.settings()
        return [f"{key}: {mine.get(key, 'nothing')}, not {theirs.get(key, 'nothing')}"
                for key in dict.fromkeys([*mine, *theirs]) if mine.get(key) != theirs.get(key)]


@dataclass(frozen=True, eq=False)
class Sample:
    """One prepared picture.

    Attributes:
        source: 32 hex digits that stand for the photo and its version.
        latent: 4 x h x w, float32, as the UNet sees it (scaled by 0.18215).
        text: 77 x text_width, float32: CLIP embedding of the caption.
        image: of ``image_shape``, float32: what the image encoder says of the picture.
        caption: its words.
        picture: size (8 h x 8 w px) and faces of the prepared picture.

    Tensors are stored in half precision.
    """

    source: str
    latent: torch.Tensor
    text: torch.Tensor
    image: torch.Tensor
    caption: str
    picture: Picture


def shard_file(folder: Path, shard: int, num_shards: int) -> Path:
    """Path of a shard, counted from 0."""
    return folder / f"shard-{shard:05d}-of-{num_shards:05d}.bin"


def shards_in(folder: Path) -> list[Path]:
    """The shards in a folder, in order. Raises CamouflageError for those of version 1, which were Arrow files."""
    if old := next(folder.glob("shard-*-of-*.arrow"), None):
        raise CamouflageError(f"{old} is of an earlier version of this program. Prepare the photos again, into a new "
                              "folder.")
    return sorted(path for path in folder.glob("shard-*.bin") if _NAME.fullmatch(path.name))


# --- bytes --------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """Where a frame lies in its file, and what its JSON says.

    Attributes:
        start, numbers, end: offsets of the frame, of its float16 numbers, and behind it, bytes.
        fields: the JSON.
    """

    start: int
    numbers: int
    end: int
    fields: dict[str, Any]


def _frame(fields: Mapping[str, Any], *tensors: torch.Tensor) -> bytes:
    text = json.dumps(fields, sort_keys=True, default=dict).encode()
    numbers = b"".join(tensor.detach().to("cpu", torch.float16).contiguous().numpy().astype("<f2").tobytes()
                       for tensor in tensors)
    lengths = struct.pack("<II", len(text), len(numbers))
    return _HEAD.pack(_MAGIC, len(text), len(numbers), zlib.crc32(lengths + text + numbers)) + text + numbers


def header_of(info: DatasetInfo) -> bytes:
    """The first frame of a file."""
    values = {field.name: getattr(info, field.name) for field in fields(info) if field.name not in _EMPTY}
    return _frame({"format": FORMAT, "version": VERSION, **values}, *(getattr(info, name) for name in _EMPTY))


def shapes(fields: Mapping[str, Any], info: DatasetInfo) -> dict[str, tuple[int, ...]]:
    """Of a row's tensors, in their order; ``fields`` holds "height" and "width"."""
    return {"latent": (4, fields["height"] // CELL, fields["width"] // CELL), "text": (TOKENS, info.text_width),
            "image": tuple(info.image_shape)}


def frame_of(sample: Sample, info: DatasetInfo) -> bytes:
    """The frame of a sample. Raises ValueError for one that does not fit, which is the caller's mistake."""
    picture = sample.picture
    row = {"source": sample.source, "height": picture.height, "width": picture.width, "caption": sample.caption,
           "persons": len(picture.faces), "faces": Faces((picture,)).to_json()}
    wanted = shapes(row, info)
    for name, shape in wanted.items():
        tensor = getattr(sample, name)
        if tensor.shape != shape or not torch.isfinite(tensor.to(torch.float16)).all():
            raise ValueError(f"{name} must be {shape} numbers that half precision can hold, but got "
                             f"{tuple(tensor.shape)}, at most {float(tensor.abs().max()):g}")
    return _frame(row, *(getattr(sample, name) for name in wanted))


class ShardReader:
    """A shard, mapped into memory, which costs none until it is read.

    Attributes:
        path: of the file.
        size: of the file, bytes.
        start: where its first row begins.
        info: what its header says.

    Raises:
        CamouflageError: it is none, is damaged at its beginning, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.size = len(self._content)
            _, numbers, self.start, header = self._read(0, check=True)
            if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
                raise CamouflageError(f"{path} is not a dataset of version {VERSION}, the one that this program writes "
                                      "and reads. Prepare the photos again, into a new folder.")
            _check(header, _HEADER)
            text, image = (TOKENS, header["text_width"]), tuple(header["image_shape"])
            if not 1 <= len(image) <= 2 or not all(type(side) is int and side > 0 for side in image):
                raise ValueError("a size in it is impossible")
            if self.start - numbers != 2 * (math.prod(text) + math.prod(image)):
                raise ValueError("its header has another size")
            self.info = DatasetInfo(**{name: header[name] for name in _HEADER if name not in ("format", "version")},
                                    empty_text=self._numbers(numbers, text).half(),
                                    empty_image=self._numbers(numbers + 2 * math.prod(text), image).half())
        except CamouflageError:
            raise
        except _BROKEN as error:
            raise CamouflageError(f"{path} cannot be read as a part of a dataset ({short(error)}). It is damaged or "
                                  "was not written by `prepare`: move it away and run `prepare` again.") from error

    def close(self) -> None:
        """Ends the mapping, without which no file can be cut on Windows."""
        self._content.close()

    def _read(self, start: int, check: bool) -> Row:
        """The frame at an offset. Raises ValueError if there is none, or if it does not match its checksum."""
        head = self._content[start:start + _HEAD.size]
        if len(head) < _HEAD.size:
            raise ValueError("it is cut short")
        magic, text, numbers, crc = _HEAD.unpack(head)
        middle = start + _HEAD.size + text
        if magic != _MAGIC or middle + numbers > self.size:
            raise ValueError("it is cut short" if magic == _MAGIC else "there is no frame")
        if check and crc != zlib.crc32(self._content[start + _HEAD.size:middle + numbers], zlib.crc32(head[4:12])):
            raise ValueError("its checksum does not match")
        fields = json.loads(self._content[start + _HEAD.size:middle])
        if not isinstance(fields, dict):
            raise ValueError("it has other fields")
        return Row(start, middle, middle + numbers, fields)

    def _row(self, start: int, check: bool) -> Row:
        row = self._read(start, check)
        _check(row.fields, _ROW)
        if row.end - row.numbers != 2 * sum(map(math.prod, shapes(row.fields, self.info).values())):
            raise ValueError("it has another size")
        return row

    def _numbers(self, start: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Single precision."""
        content = self._content[start:start + 2 * math.prod(shape)]
        return torch.from_numpy(np.frombuffer(content, "<f2").astype(np.float32).reshape(shape))

    def rows(self) -> Iterator[Row]:
        """Every row, up to the first that is not whole.

        Raises:
            CamouflageError: more is left over than a kill or a power cut can leave.
        """
        offset = self.start
        while offset < self.size:
            try:
                row = self._row(offset, check=offset >= self.size - _TAIL)
            except _BROKEN as error:
                if self.size - offset > _TAIL:
                    raise CamouflageError(
                        f"{self.path} is damaged at byte {offset} of {self.size} ({short(error)}); what comes after it "
                        "cannot be read. Move the file away and run `prepare` again.") from error
                return
            yield row
            offset = row.end

    def sample(self, start: int) -> Sample:
        """The picture of the row at an offset, checked. Raises CamouflageError for a damaged one."""
        try:
            row, tensors = self._row(start, check=True), {}
            place = row.numbers
            for name, shape in shapes(row.fields, self.info).items():
                tensors[name] = self._numbers(place, shape)
                place += 2 * math.prod(shape)
            picture, = Faces.from_json(row.fields["faces"]).pictures
            if (picture.height, picture.width) != (row.fields["height"], row.fields["width"]):
                raise ValueError("its faces are of a picture of another size")
            return Sample(source=row.fields["source"], caption=row.fields["caption"], picture=picture, **tensors)
        except _BROKEN as error:
            raise CamouflageError(f"{self.path} is damaged at byte {start} ({short(error)}). Move the file away and "
                                  "run `prepare` again.") from error


def _check(fields: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raises ValueError for other names or types, and for numbers of no size."""
    if {name: type(content) for name, content in fields.items()} != kinds:
        raise ValueError("it has other fields")
    if any(content < (name != "persons") for name, content in fields.items() if isinstance(content, int)):
        raise ValueError("a size in it is impossible")


def short(error: Exception) -> str:
    """An error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
