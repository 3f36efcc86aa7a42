"""Finding and checking weight files. Nothing is ever downloaded."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import folder_paths
import safetensors
import torch

from ..errors import CamouflageError
from ..files import file_sha256
from ..weights import SUMS, Weight, listed_digests, mistaken_for, of_role

T = TypeVar("T")
FOLDER = "camouflage"
_PICKLES = (".pt", ".pth", ".bin")


def register_folder(key: str = FOLDER,
                    extensions: Iterable[str] = (".json", ".txt", ".safetensors", ".onnx", *_PICKLES)) -> None:
    """Adds ``models/<key>`` to the host's model folders; what others put there (extra_model_paths.yaml) is kept."""
    paths, known = folder_paths.folder_names_and_paths.get(key, ([], set()))
    default = os.path.join(folder_paths.models_dir, key)
    if default not in paths or not set(extensions) <= set(known):
        folder_paths.folder_names_and_paths[key] = ([*paths, *([] if default in paths else [default])],
                                                    {*known, *extensions})


def find(role: str) -> list[Path]:
    """Paths of all files of a role, in the registry's order.

    Raises:
        CamouflageError: files are missing (all are named, with folder, size, licence and URL), or one differs from
            its known SHA-256.
    """
    weights = of_role(role)
    found = {weight: path for weight in weights if (path := _locate(weight)) is not None}
    if len(found) < len(weights):
        raise CamouflageError(missing_text(role, [weight for weight in weights if weight not in found]))
    for weight, path in found.items():
        if weight.has_name(path):  # a safetensors file in a pickle's place has no published digest
            _check_digest(weight, path)
    return list(found.values())


def missing_text(role: str, missing: list[Weight]) -> str:
    """What to download, from where, to where."""
    lines = [f"Weights for '{role}' are missing. 'python run.py weights get', in the folder of this extension, fetches "
             "them; or download them by hand. Then try again:"]
    for weight in missing:
        roots = folder_paths.get_folder_paths(weight.folder)
        lines.append(f"- {weight.url or 'no public download: it must be trained (docs/training.md)'}\n"
                     f"  to {os.path.join(roots[-1], *weight.file.split('/'))}  ({weight.size_text}, licence: "
                     f"{weight.licence})")
    return "\n".join(lines)


def default_folder(role: str) -> str:
    """Name of the registry's model folder of a role that is a folder (config and safetensors)."""
    return of_role(role)[0].file.split("/")[1]


def model_folders(role: str) -> list[str]:
    """Names of the model folders of a role that are on disk, the registry's first even when it is not."""
    names = {entry.name for root in folder_paths.get_folder_paths(FOLDER) for entry in _subfolders(Path(root, role))}
    default = default_folder(role)
    return [default, *sorted(names - {default})]


def find_folder(role: str, name: str) -> Path:
    """Path of a model folder below ``models/camouflage/<role>``.

    Raises:
        CamouflageError: no such folder, or it lacks config.json or safetensors weights.
    """
    if name == default_folder(role):
        return find(role)[0].parent
    for root in folder_paths.get_folder_paths(FOLDER):
        for folder in _subfolders(Path(root, role)):
            if folder.name == name:
                if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
                    raise CamouflageError(f"The model folder {folder} must have config.json and a .safetensors file. "
                                          "Pickled weights (.bin) of models that the registry does not know are not "
                                          "loaded.")
                return folder
    raise CamouflageError(f"There is no model folder '{name}' in models/{FOLDER}/{role}. "
                          f"Found: {', '.join(model_folders(role))}.")


def checked(paths: list[Path], load: Callable[[], T], script: bool = False) -> T:
    """Runs ``load``, which reads ``paths``, and turns what damaged or hostile files cause into a clear error.

    Pickled files are first read in full by torch's restricted unpickler, which refuses code whatever the library
    that loads them later would do.

    Args:
        script: the files are TorchScript, a program that no restricted unpickler reads; ``load`` must see to it.
    """
    try:
        for path in paths:
            if path.suffix in _PICKLES and not script:
                torch.load(path, map_location="cpu", weights_only=True)
        return load()
    except (CamouflageError, MemoryError):
        raise
    except Exception as error:
        raise CamouflageError(_what_failed(paths, error, script)) from error


def _what_failed(paths: list[Path], error: Exception, script: bool) -> str:
    """Names the file that is damaged; all weights where each can be read and together they are not the model."""
    for path in paths:
        if path.is_file() and (mistake := mistaken_for(path)):
            return f"{path} could not be loaded. {mistake} Delete it and download it again."
    faults = [(path, fault) for path in paths if (fault := _fault(path, script)) is not None]
    named, fault = faults[0] if faults else (None, error)
    files = named or " or ".join(str(path) for path in paths if path.suffix not in (".json", ".txt")) or paths[0]
    return (f"{files} could not be loaded ({type(fault).__name__}: {_first_line(fault)}). The file is damaged, is not "
            "the model that belongs there, or contains code, which is never executed. Delete it and download it again.")


def _fault(path: Path, script: bool) -> Exception | None:
    """What goes wrong when a file is read by itself."""
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt"):
                pass
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".txt":
            path.read_text(encoding="utf-8")
        elif path.suffix in _PICKLES and not script:
            torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        return error
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []


def _locate(weight: Weight) -> Path | None:
    for file in weight.accepted_files:
        path = folder_paths.get_full_path(weight.folder, file)
        if path is not None:
            return Path(path)
    return None


def _check_digest(weight: Weight, path: Path) -> None:
    if weight.sha256 is None:
        return
    digest = digest_of(path)
    if digest != weight.sha256 and digest not in trusted_digests():
        again = f"Delete it and download it again from {weight.url}"
        if path.is_file() and (mistake := mistaken_for(path)):
            raise CamouflageError(f"{path} is not the published file. {mistake} {again}")
        raise CamouflageError(f"{path} is not the published file: its SHA-256 is {digest}, not {weight.sha256}. {again}"
                              " - or, if you put another version there on purpose and trust it, add its line to "
                              f"models/{FOLDER}/{SUMS} (format of sha256sum).")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex; computed again only when it changes."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


def trusted_digests() -> set[str]:
    """Digests that the administrator vouches for."""
    return listed_digests(map(Path, folder_paths.get_folder_paths(FOLDER)))


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)
