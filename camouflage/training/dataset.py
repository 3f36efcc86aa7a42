"""The prepared dataset, for trainings to read: what `prepare` wrote, in the files of :mod:`shards`."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path

from ..errors import CamouflageError
from .shards import CELL, DatasetInfo, Sample, ShardReader, shards_in

__all__ = ["Dataset", "DatasetInfo", "Sample"]


class Dataset:
    """All shards of a folder, sorted by source, so that the order does not depend on the shards. A sequence of samples.

    Opening reads every row's place and no tensor (a million pictures: 40 s and some hundred MB). Samples are read from
    a memory map when they are asked for.

    Attributes:
        info: what all pictures have in common.
        sizes: (height, width) of every latent, in cells.
        persons: number of faces of every picture.
        sources: 32 hex digits each; none twice.
    """

    def __init__(self, files: list[ShardReader]) -> None:
        self.info = files[0].info
        self._files = files
        rows: dict[str, tuple[int, int, tuple[int, int], int]] = {}
        shared: dict[tuple[int, int], tuple[int, int]] = {}  # one object a size
        for number, file in enumerate(files):
            end = file.start
            for row in file.rows():
                fields, end = row.fields, row.end
                size = (fields["height"] // CELL, fields["width"] // CELL)
                rows.setdefault(fields["source"],
                                (number, row.start, shared.setdefault(size, size), fields["persons"]))
            if left := file.size - end:
                warnings.warn(f"{file.path} ends with {left} bytes that are not whole: `prepare` was stopped there, or "
                              "is writing now. They are left out; run `prepare` again to complete the dataset.",
                              stacklevel=3)
        self.sources = sorted(rows)
        self.sizes = [rows[source][2] for source in self.sources]
        self.persons = [rows[source][3] for source in self.sources]
        self._numbers = array("l", (rows[source][0] for source in self.sources))
        self._offsets = array("q", (rows[source][1] for source in self.sources))

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Opens what `prepare` wrote into a folder.

        Raises:
            CamouflageError: no dataset there, or no picture in it; shards of different settings; another version; a
                damaged file.
        """
        paths = shards_in(Path(folder))
        if not paths:
            raise CamouflageError(f"There is no prepared dataset in {folder}: it has no file shard-….bin. Make it "
                                  "with `python run.py train prepare`.")
        files = [ShardReader(path) for path in paths]
        for file in files[1:]:
            if different := file.info.differences(files[0].info):
                raise CamouflageError(f"{file.path} and {files[0].path.name} were prepared with different settings: "
                                      f"{'; '.join(different)}. Keep the shards of one setting in the folder.")
        wanted = int(paths[0].stem.rpartition("-")[2])
        if len(files) < wanted:
            warnings.warn(f"{folder} has {len(files)} of {wanted} shards. If the others were prepared elsewhere, copy "
                          "them here first (a shard to which no photo belongs has no file).", stacklevel=2)
        dataset = cls(files)
        if not len(dataset):
            raise CamouflageError(f"The dataset in {folder} holds no picture. Prepare one from a folder with photos.")
        return dataset

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Sample:
        return self._files[self._numbers[index]].sample(self._offsets[index])

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))
