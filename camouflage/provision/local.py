"""Weights from a folder or a drive, for a machine without a network. Standard library only."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..errors import CamouflageError
from ..files import file_sha256, remove_leftovers, whole
from ..weights import REGISTRY, Weight
from .digests import KnownDigests
from .download import demand_room
from .several import FAILED, Arrival, Task
from .state import DAMAGED, MISSING, judge, wrong_content

_COMMON = {name for name, count in Counter(PurePosixPath(file).name for weight in REGISTRY
                                           for file in weight.accepted_files).items() if count > 1}
"""Names such as config.json, which say nothing without their folder's."""


def files_below(folder: Path) -> dict[str, list[Path]]:
    """All files below a folder by their names. Links are followed where they stay inside it, and never to folders."""
    found: dict[str, list[Path]] = defaultdict(list)
    root = folder.resolve()
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file() and (not path.is_symlink() or path.resolve().is_relative_to(root)):
                found[name].append(path)
    return found


def candidates(weight: Weight, found: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Files that may be a weight by their names, the likeliest first.

    The more of the path below ``models`` agrees, the likelier. A file without a known digest whose name many have, such
    as config.json, must lie in a folder of the right name, too.
    """
    own = PurePosixPath(weight.file).name
    told = {own, weight.url.rpartition("/")[2] if weight.url else own} if weight.sha256 else set()
    likely = []
    for name in dict.fromkeys([*told, *(PurePosixPath(file).name for file in weight.accepted_files)]):
        for path in found.get(name, ()):
            agreement = _agreement(path, weight, name)
            if name in told or name not in _COMMON or agreement > 1:
                likely.append((name in told, agreement, path))
    return [path for *_, path in sorted(likely, key=lambda one: (-one[0], -one[1], one[2]))]


def import_all(tasks: Sequence[Task], folder: Path, known: KnownDigests, trusted: set[str]) -> Iterator[Arrival]:
    """Copies what is found below a folder into its places, checked first; gives what became of each.

    Raises:
        CamouflageError: the folder is not there, or there is too little room.
    """
    if not folder.is_dir():
        raise CamouflageError(f"There is no folder {folder}. Name the folder or drive with the weights in it.")
    found = files_below(folder)
    plans = {task: candidates(task.weight, found) for task in tasks}
    demand_room((task.target, paths[0].stat().st_size) for task, paths in plans.items() if paths)
    for task, paths in plans.items():
        yield _import(task, paths, known, trusted)


def _import(task: Task, paths: Sequence[Path], known: KnownDigests, trusted: set[str]) -> Arrival:
    """The first of the files that is right."""
    refused = []
    for path in paths:
        if not trusted and path.suffix == task.target.suffix and task.weight.size not in (None, path.stat().st_size):
            refused.append(f"{path} is not the file that was expected. It has {path.stat().st_size:,} bytes, not "
                           f"{task.weight.size:,}.")
            continue
        target = task.target.with_name(path.name) if path.name in _accepted(task.weight) else task.target
        if os.path.lexists(target) and not task.replace:
            return Arrival(task, FAILED, f"{target} has come to be meanwhile. It was not overwritten.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target)
            state, why = _copy(task.weight, path, target, known, trusted)
        except OSError as error:
            return Arrival(task, FAILED, f"{path} could not be copied to {target}: {error.strerror or error}.")
        if state != DAMAGED:
            return Arrival(task, state, f"From {path}. {why}")
        refused.append(f"{path} is not the file that was expected. {why}")
    return Arrival(task, FAILED, " ".join(refused)) if refused else Arrival(task, MISSING, "It was not found.")


def _accepted(weight: Weight) -> set[str]:
    return {PurePosixPath(file).name for file in weight.accepted_files}


class _Refused(Exception):
    """The copy is not what it should be."""


def _copy(weight: Weight, path: Path, target: Path, known: KnownDigests, trusted: set[str]) -> tuple[str, str]:
    try:
        with whole(target) as copy:
            shutil.copyfile(path, copy)
            digest = file_sha256(copy)
            state, why = judge(weight, target.name, copy.stat().st_size, digest, trusted)
            if mistake := wrong_content(copy, target.name):
                state, why = DAMAGED, mistake
            if state == DAMAGED:
                raise _Refused(why)
    except _Refused as error:
        return DAMAGED, str(error)
    known.keep(target, digest)
    return state, why


def _agreement(path: Path, weight: Weight, name: str) -> int:
    """How many last parts of two paths are the same; 1 is the name alone."""
    wanted = [*PurePosixPath(weight.path).parts[:-1], name]
    same = 0
    for ours, theirs in zip(reversed(wanted), reversed(path.parts), strict=False):
        if ours != theirs:
            break
        same += 1
    return same
