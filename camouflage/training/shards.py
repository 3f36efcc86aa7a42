"""The files of a prepared dataset: Arrow IPC streams, one record batch a picture. Here they are written and checked.

A file ``shard-00000-of-00004.arrow`` is the schema's message, whose metadata holds :class:`DatasetInfo`, and then one
encapsulated message a picture: appending is writing bytes, and any Arrow library reads the whole as a stream. A process
that is killed leaves at most one torn message at the end, a power cut whatever was not yet on the disk. So every row
carries a CRC-32, the file is synced every 16 MiB, the writer cuts off what is not whole before it goes on, and the
reader stops there.

The layout is our choice. SQLite was tried in its place: of a file that was cut short at 60 random places it gave back
no row in 60 cases, where here all rows before the cut are kept; a reader of a dataset that was killed while it was
written needs the right to write (to roll back), or reads torn pages; and its locks are not reliable on network file
systems, while here a reader needs no lock, because bytes that are written never change.

A file may come from elsewhere, so a header or a row of any other form is refused in a sentence, compressed bodies, which
could be far larger than the file, among them.

Rows: ``source`` (string), ``height``, ``width`` (int32, px), ``latent``, ``text``, ``image`` (binary, float16, little
endian), ``caption`` (string), ``persons`` (int16), ``faces`` (string, JSON of :class:`camouflage.method.faces.Faces`),
``crc`` (uint32, of the other columns).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from ..errors import CamouflageError
from ..files import try_lock, write_whole
from ..method.faces import Faces, Picture

if TYPE_CHECKING:
    from typing_extensions import Self

FORMAT, VERSION = "camouflage-dataset", 1
TOKENS = 77  # of a CLIP text embedding
CELL = 8  # px of a side of a latent cell
_SYNCED = 16 << 20  # bytes: after so many, what was written is brought onto the disk
_TAIL = 4 * _SYNCED  # bytes: more than a power cut can have spoilt; the rows in it are checked on opening
_NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.arrow")
_SCHEMA = pa.schema({"source": pa.string(), "height": pa.int32(), "width": pa.int32(), "latent": pa.binary(),
                     "text": pa.binary(), "image": pa.binary(), "caption": pa.string(), "persons": pa.int16(),
                     "faces": pa.string(), "crc": pa.uint32()})
_BROKEN = (pa.ArrowException, OSError, EOFError, ValueError, RecursionError)  # what bytes of another form lead to


@dataclass(frozen=True, eq=False)
class DatasetInfo:
    """What all pictures of a dataset have in common.

    Attributes:
        resolution: px of the longer side.
        base_model, vae, image_encoder: SHA-256 of the files, hex.
        caption, faces: settings of the two, as JSON has them.
        text_width, image_width: numbers in a token of the text, and in an image embedding.
        empty_text: 77 x text_width, float16: the embedding of the empty prompt.
    """

    resolution: int
    base_model: str
    vae: str
    image_encoder: str
    caption: Mapping[str, Any]
    faces: Mapping[str, Any]
    text_width: int
    image_width: int
    empty_text: torch.Tensor

    def __post_init__(self) -> None:
        if self.empty_text.dtype != torch.float16 or self.empty_text.shape != (TOKENS, self.text_width):
            raise CamouflageError(f"empty_text must be {TOKENS} x {self.text_width}, float16, but got "
                                  f"{tuple(self.empty_text.shape)}, {self.empty_text.dtype}.")

    def settings(self) -> dict[str, Any]:
        """Everything but the tensor, flat: ``{"resolution": 768, …, "faces threshold": 0.5}``."""
        flat: dict[str, Any] = {}
        for field in fields(self):
            content = getattr(self, field.name)
            if isinstance(content, Mapping):
                flat |= {f"{field.name} {key}": inner for key, inner in content.items()}
            elif field.name != "empty_text":
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
        image: (image_width,), float32: CLIP embedding of the picture.
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
    return folder / f"shard-{shard:05d}-of-{num_shards:05d}.arrow"


def shards_in(folder: Path) -> list[Path]:
    """The shards in a folder, in order."""
    return sorted(path for path in folder.glob("shard-*.arrow") if _NAME.fullmatch(path.name))


# --- bytes --------------------------------------------------------------------------------------------------------


def _header(info: DatasetInfo) -> bytes:
    values = {field.name: getattr(info, field.name) for field in fields(info) if field.name != "empty_text"}
    text = json.dumps({"format": FORMAT, "version": VERSION, **values}, sort_keys=True, default=dict)
    described = _SCHEMA.with_metadata({"camouflage": text, "empty_text": _half(info.empty_text)})
    return described.serialize().to_pybytes()


def _info(schema: pa.Schema, path: Path) -> DatasetInfo:
    """What :func:`_header` wrote. Raises ValueError for anything else, CamouflageError for another version."""
    metadata = schema.metadata or {}
    data = json.loads(metadata.get(b"camouflage", b"{}"))
    if not isinstance(data, dict) or (data.pop("format", None), data.pop("version", None)) != (FORMAT, VERSION):
        raise CamouflageError(f"{path} is not a dataset of version {VERSION}, the one that this program writes and "
                              "reads. Prepare the photos again, into a new folder.")
    kinds = {"resolution": int, "base_model": str, "vae": str, "image_encoder": str, "caption": dict, "faces": dict,
             "text_width": int, "image_width": int}
    if not schema.equals(_SCHEMA) or {name: type(content) for name, content in data.items()} != kinds or min(
            data["resolution"], data["text_width"], data["image_width"]) < 1:
        raise ValueError("its header has other fields")
    empty = np.frombuffer(metadata.get(b"empty_text", b""), "<f2").astype(np.float16)
    empty = empty.reshape(TOKENS, data["text_width"])
    return DatasetInfo(**data, empty_text=torch.from_numpy(empty))


def _is_compressed(message: pa.Message) -> bool:
    """Whether a record batch says that its body is compressed; Arrow itself would say it after unpacking it.

    Looks into the flatbuffer (Arrow's Message.fbs): field 2 of the message is the record batch, whose field 3 it is.
    """
    content = message.metadata.to_pybytes()  # Arrow has checked its offsets

    def field(table: int, number: int) -> int:
        offsets = table - struct.unpack_from("<i", content, table)[0]
        size, = struct.unpack_from("<H", content, offsets)
        return struct.unpack_from("<H", content, offsets + 4 + 2 * number)[0] if 4 + 2 * number < size else 0

    root, = struct.unpack_from("<I", content)
    header = root + field(root, 2)
    return field(header + struct.unpack_from("<I", content, header)[0], 3) != 0


def _half(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to("cpu", torch.float16).contiguous().numpy().astype("<f2").tobytes()


def _crc(row: Mapping[str, Any]) -> int:
    crc = zlib.crc32(struct.pack("<iih", row["height"], row["width"], row["persons"]))
    for name in ("source", "latent", "text", "image", "caption", "faces"):
        content = row[name]
        crc = zlib.crc32(content.encode() if isinstance(content, str) else content, crc)
    return crc


def _message(sample: Sample, info: DatasetInfo) -> bytes:
    """The bytes of a row. Raises ValueError for a sample that does not fit, which is the caller's mistake."""
    picture, cells = sample.picture, tuple(sample.latent.shape[-2:])
    shapes = {"latent": (4, picture.height // CELL, picture.width // CELL), "text": (TOKENS, info.text_width),
              "image": (info.image_width,)}
    row: dict[str, Any] = {"source": sample.source, "height": CELL * cells[0], "width": CELL * cells[1],
                           "caption": sample.caption, "persons": len(picture.faces),
                           "faces": Faces((picture,)).to_json()}
    for name, shape in shapes.items():
        tensor = getattr(sample, name)
        if tensor.shape != shape or not torch.isfinite(tensor.to(torch.float16)).all():
            raise ValueError(f"{name} must be {shape} numbers that half precision can hold, but got "
                             f"{tuple(tensor.shape)}, at most {float(tensor.abs().max()):g}")
        row[name] = _half(tensor)
    row["crc"] = _crc(row)
    return pa.RecordBatch.from_pylist([row], _SCHEMA).serialize().to_pybytes()


class ShardReader:
    """A shard, mapped into memory (which costs none until it is read). Raises CamouflageError if it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
            self.buffer = pa.memory_map(str(path)).read_buffer() if size else pa.py_buffer(b"")
            reader = pa.BufferReader(self.buffer)
            self.info = _info(pa.ipc.read_schema(pa.ipc.read_message(reader)), path)
            self.start: int = reader.tell()
        except CamouflageError:
            raise
        except _BROKEN as error:
            raise CamouflageError(f"{path} cannot be read as a part of a dataset ({short(error)}). It is damaged or "
                                  "was not written by `prepare`: move it away and run `prepare` again.") from error

    def rows(self) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """Offset, end and content of every row, up to the first that is not whole.

        Raises:
            CamouflageError: more is left over than a kill or a power cut can leave.
        """
        offset = self.start
        while offset < self.buffer.size:
            reader = pa.BufferReader(self.buffer.slice(offset))
            try:
                batch = self._batch(reader, check=offset >= self.buffer.size - _TAIL)
            except _BROKEN as error:
                if self.buffer.size - offset > _TAIL:
                    raise CamouflageError(
                        f"{self.path} is damaged at byte {offset} of {self.buffer.size} ({short(error)}); what comes "
                        "after it cannot be read. Move the file away and run `prepare` again.") from error
                return
            end = offset + reader.tell()
            yield offset, end, batch
            offset = end

    def _batch(self, reader: pa.BufferReader, check: bool) -> pa.RecordBatch:
        message = pa.ipc.read_message(reader)
        if message.type != "record batch" or _is_compressed(message):
            raise ValueError("a row is compressed, or is none")
        batch = pa.ipc.read_record_batch(message, _SCHEMA)
        batch.validate()
        if batch.num_rows != 1 or any(column.null_count for column in batch.columns):
            raise ValueError("a row has other fields")
        if check and (row := batch.to_pylist()[0])["crc"] != _crc(row):
            raise ValueError("a row's checksum does not match")
        return batch

    def row(self, offset: int) -> dict[str, Any]:
        """A row, checked. Raises CamouflageError for a damaged one."""
        try:
            return self._batch(pa.BufferReader(self.buffer.slice(offset)), check=True).to_pylist()[0]
        except _BROKEN as error:
            raise CamouflageError(f"{self.path} is damaged at byte {offset} ({short(error)}). Move the file away and "
                                  "run `prepare` again.") from error


def short(error: Exception) -> str:
    """An error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def value(batch: pa.RecordBatch, name: str) -> Any:
    """A column of a one-row batch."""
    return batch.column(name)[0].as_py()


# --- writing ------------------------------------------------------------------------------------------------------


class ShardWriter:
    """One shard, open for appending; a context manager. One process at a time.

        with ShardWriter(folder, 0, 4) as shard:
            shard.start(info)
            if sample.source not in shard.sources: shard.add(sample)

    Attributes:
        path: of the file, which is there from :meth:`start` on.
        info: what the file says; None while there is none.
        sources: those in the file.
        cut_off: bytes that an earlier run had left unfinished and that were removed.

    Raises:
        CamouflageError: another process writes this shard; the folder has shards of another number; a file in it is
            no part of a dataset, or is damaged before its end.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, shard: int = 0, num_shards: int = 1) -> None:
        self.folder, self.path = folder, shard_file(folder, shard, num_shards)
        self.info: DatasetInfo | None = None
        self.sources: set[str] = set()
        self.cut_off = 0
        self._count, self._end, self._synced, self._descriptor = num_shards, 0, 0, -1
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._held:
            lock = self._held.enter_context(open(self.path.with_name(f".{self.path.stem}.lock"), "a+b"))
            if not try_lock(lock.fileno()):  # dropped by the system when the process ends, so it is never stale
                raise CamouflageError(f"Another process is writing {self.path}. Let it end, or give every process its "
                                      "own --shard.")
            if strangers := [path.name for path in shards_in(self.folder)
                             if path.name.partition("-of-")[2] != self.path.name.partition("-of-")[2]]:
                raise CamouflageError(f"{self.folder} has {strangers[0]}, but you asked for {self._count} shards. Use "
                                      "the same --num-shards as before, or a new folder.")
            if self.path.exists():
                self._heal()
                self._open()
            self._held = self._held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)

    def _heal(self) -> None:
        file = ShardReader(self.path)
        self.info, self._end = file.info, file.start
        for _, end, batch in file.rows():
            self.sources.add(value(batch, "source"))
            self._end = end
        self.cut_off = file.buffer.size - self._end

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._held.callback(os.close, self._descriptor)
        os.ftruncate(self._descriptor, self._end)
        self._synced = self._end

    def start(self, info: DatasetInfo) -> None:
        """Makes the file if there is none; compares the settings with those of all shards that are there.

        Raises:
            CamouflageError: other settings; the text names them.
            OSError: the file cannot be written.
        """
        for path in shards_in(self.folder):
            if different := info.differences(ShardReader(path).info):
                raise CamouflageError(f"{path} was prepared with other settings: {'; '.join(different)}. Use the same "
                                      "settings and weights, or a new folder.")
        if self._descriptor < 0:
            write_whole(self.path, _header(info))
            self.info, self._end = info, self.path.stat().st_size
            self._open()

    def add(self, sample: Sample) -> None:
        """Appends a picture: whole or not at all, so that after an error the next one can follow.

        Raises:
            ValueError: not started, a source that is there, tensors of other shapes, NaN or more than float16 holds.
            OSError: the disk is full or gone.
        """
        if self.info is None or self._descriptor < 0 or sample.source in self.sources:
            raise ValueError("add needs a started shard and a source that is not in it")
        message = _message(sample, self.info)
        try:
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            rest = memoryview(message)
            while rest:
                rest = rest[os.write(self._descriptor, rest):]
            if self._end + len(message) - self._synced >= _SYNCED:
                os.fsync(self._descriptor)
                self._synced = self._end + len(message)
        except BaseException:  # Ctrl-C, too
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(message)
        self.sources.add(sample.source)
