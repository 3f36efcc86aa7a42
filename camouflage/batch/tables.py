"""Parquet files with a column of pictures, as Hugging Face's datasets and Ray Data write them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CamouflageError
from ..files import remove_leftovers, whole
from ..photos import Unreadable
from .names import Names
from .photos import Changed, Item, Unit, demand_unchanged, stamp

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 64  # read, and written, at once
WRITTEN = ("key", "image", "verdict", "record")
"""The columns of an output: text; a struct of ``bytes`` and ``path`` (the picture's name); text; the manifest, JSON."""


@dataclass(frozen=True)
class Tables:
    """Parquet files.

    Attributes:
        root: what the paths of the files begin at.
        paths: of the files, with "/", in order.
        names: what the keys and the files are called in the output.
        keep: further columns that go along.
        image: the column of pictures: binary, or a struct with a field ``bytes``; "" takes the only one there is.
        key: the column of keys, which must be unique in a file; "" takes the number of the row.
    """

    root: Path
    paths: tuple[str, ...]
    names: Names
    keep: tuple[str, ...] = ()
    image: str = ""
    key: str = ""
    form = "parquet"

    def units(self) -> list[Unit]:
        """The files in order."""
        return [self._unit(number, path) for number, path in enumerate(self.paths)]

    def _unit(self, number: int, path: str) -> Unit:
        import pyarrow.parquet as pq

        file = self.root / path
        try:
            before = stamp(file)
            with pq.ParquetFile(file) as table:
                self._column(file, table.schema_arrow)
                return Unit(number, path, table.metadata.num_rows, (), {path: before})
        except (OSError, ValueError) as error:
            if isinstance(error, CamouflageError):
                raise
            raise CamouflageError(f"{file} cannot be read as a parquet file ({error}). Repair it, or leave it "
                                  "out.") from error

    def _column(self, file: Path, schema: pa.Schema) -> str:
        """The column of pictures. Raises CamouflageError where a column that is wanted is missing."""
        for name in filter(None, (self.image, self.key, *self.keep)):
            if name not in schema.names:
                raise CamouflageError(f"{file} has no column '{name}'; it has {', '.join(schema.names)}.")
        if taken := set(self.keep) & set(WRITTEN):
            raise CamouflageError(f"The column '{min(taken)}' cannot be kept under its name: the output has one of "
                                  "its own.")
        found = [field.name for field in schema if _holds_pictures(field.type)]
        if self.image:
            if self.image not in found:
                raise CamouflageError(f"The column '{self.image}' of {file} holds no pictures: it must be binary, or "
                                      "a struct with a binary field 'bytes'.")
            return self.image
        if len(found) != 1:
            raise CamouflageError(f"{file} has {len(found)} columns that can hold pictures"
                                  f"{': ' if found else ''}{', '.join(found)}. Name the right one with --column.")
        return found[0]

    def photos(self, unit: Unit) -> Iterator[Item]:
        """The rows of a file in order; a part of them is in memory at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        file, before = self.root / unit.name, unit.files[unit.name]
        demand_unchanged(file, before)
        try:
            with pq.ParquetFile(file) as table:
                image = self._column(file, table.schema_arrow)
                columns = list(dict.fromkeys([image, *filter(None, [self.key]), *self.keep]))
                seen: set[str] = set()
                number = 0
                for batch in table.iter_batches(ROWS, columns=columns):
                    for row in batch.to_pylist():
                        yield self._photo(unit, number, row, image, seen)
                        number += 1
        except (pa.ArrowException, OSError) as error:
            raise Changed(f"{file} is damaged ({error}). Nothing of it was written.") from error
        demand_unchanged(file, before)

    def _photo(self, unit: Unit, number: int, row: Mapping[str, Any], image: str, seen: set[str]) -> Item:
        key = f"{number:08d}" if not self.key else str(row[self.key])
        problem = "its key stands there twice" if key in seen else None
        if problem:
            key = f"{key} (row {number})"
        seen.add(key)
        value = row[image]
        data = value.get("bytes") if isinstance(value, Mapping) else value

        def read() -> bytes:
            if not isinstance(data, bytes) or not data:
                raise Unreadable("the row has no picture in it")
            return data
        name = self.names.of(f"{unit.name}/{key}" if not self.key else key) if self.names.secret else key
        return Item(key, name, read, {column: row[column] for column in self.keep}, problem)

    @contextlib.contextmanager
    def writer(self, unit: Unit, output: Path) -> Iterator[_Rows]:
        """A file of the same name, which appears when it is complete."""
        import pyarrow.parquet as pq

        target = output / self._written(unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        with pq.ParquetFile(self.root / unit.name) as source:
            kept = [source.schema_arrow.field(name) for name in self.keep]
        with whole(target) as temporary:
            schema = _schema(kept)
            with pq.ParquetWriter(temporary, schema, store_schema=True) as table:
                rows = _Rows(table, schema)
                yield rows
                rows.flush()

    def _written(self, unit: Unit) -> str:
        return f"table-{unit.number:06d}.parquet" if self.names.secret else unit.name

    @contextlib.contextmanager
    def read_back(self, unit: Unit, output: Path) -> Iterator[Callable[[str], tuple[bytes, dict[str, Any]]]]:
        """Reads what was written."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(output / self._written(unit)) as table:
            rows = (row for batch in table.iter_batches(ROWS, columns=["image", "record"]) for row in batch.to_pylist())
            passed: dict[str, tuple[bytes, dict[str, Any]]] = {}

            def read(name: str) -> tuple[bytes, dict[str, Any]]:
                while name not in passed:  # they are asked for in order, so little is ever kept
                    row = next(rows, None)
                    if row is None:
                        raise KeyError(name)
                    passed[row["image"]["path"]] = row["image"]["bytes"], json.loads(row["record"])
                return passed.pop(name)
            yield read


def _holds_pictures(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_pictures(field.type) for field in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _schema(kept: list[pa.Field]) -> pa.Schema:
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    own = [("key", pa.string()), ("image", image), ("verdict", pa.string()), ("record", pa.string())]
    return pa.schema([*(pa.field(name, kind) for name, kind in own), *kept])


class _Rows:
    def __init__(self, table: Any, schema: pa.Schema) -> None:
        self.table, self.schema, self.rows = table, schema, []

    def add(self, photo: Item, suffix: str, data: bytes, record: Mapping[str, Any]) -> str:
        name = photo.name + suffix
        self.rows.append({"key": photo.name, "image": {"bytes": data, "path": name},
                          "verdict": record["verdict"] if "verdict" in record else record["checked"]["verdict"],
                          "record": json.dumps(record, ensure_ascii=False, allow_nan=False), **photo.more})
        if len(self.rows) >= ROWS:
            self.flush()
        return name

    def flush(self) -> None:
        import pyarrow as pa

        if self.rows:
            self.table.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
            self.rows = []
