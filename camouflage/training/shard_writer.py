"""Writing the files of a prepared dataset, see :mod:`shards`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CamouflageError
from ..files import try_lock, write_whole
from .shards import SYNCED, DatasetInfo, Sample, ShardReader, frame_of, header_of, shard_file, shards_in

if TYPE_CHECKING:
    from typing_extensions import Self


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
            not part of a dataset, or is damaged before its end.
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
        with contextlib.closing(ShardReader(self.path)) as file:
            self.info, self._end = file.info, file.start
            for row in file.rows():
                self.sources.add(row.fields["source"])
                self._end = row.end
            self.cut_off = file.size - self._end

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
            write_whole(self.path, header_of(info))
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
        message = frame_of(sample, self.info)
        try:
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            rest = memoryview(message)
            while rest:
                rest = rest[os.write(self._descriptor, rest):]
            if self._end + len(message) - self._synced >= SYNCED:
                os.fsync(self._descriptor)
                self._synced = self._end + len(message)
        except BaseException:  # Ctrl-C, too
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(message)
        self.sources.add(sample.source)
