"""A real ComfyUI in this process, so that training sees pictures through the very code that the nodes run."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from camouflage.errors import CamouflageError
from run import ROOT, Problem, find_host
from tools.installed import MODEL_FOLDERS

_ALIAS = "_camouflage_pack"


def enter(comfyui: Path | None = None, models: Sequence[Path] = (), cpu: bool | None = None) -> None:
    """Makes the host importable, as its own main.py does: device, the user's extra_model_paths.yaml, models folders.

    Where the host is entered already, only ``models`` are added; nothing that others put there is lost.

    Args:
        comfyui: the host's folder. None: CAMOUFLAGE_COMFYUI, COMFYUI_PATH, or the ComfyUI that this pack lies in.
        models: models folders (with checkpoints/, controlnet/, camouflage/, …), searched before all others, in order.
        cpu: True keeps the networks off the GPU; None only where there is none.

    Raises:
        CamouflageError: no ComfyUI is found; a models folder does not exist.
    """
    for folder in models:
        if not folder.is_dir():
            raise CamouflageError(f"There is no models folder {folder}. Name one with checkpoints/, camouflage/, … in "
                                  "it, as ComfyUI's own.")
    if "folder_paths" not in sys.modules:
        _enter(find(comfyui), cpu)
    import folder_paths

    for folder in reversed(models):
        for key in MODEL_FOLDERS:
            if (place := folder.absolute() / key).is_dir():
                folder_paths.add_model_folder_path(key, str(place), is_default=True)
    pack("host.weights").register_folder()


def find(comfyui: Path | None) -> Path:
    """The host's folder, as :func:`enter` looks for it. Raises CamouflageError."""
    try:
        found = find_host(str(comfyui) if comfyui else os.environ.get("CAMOUFLAGE_COMFYUI"))
    except Problem as problem:
        raise CamouflageError(str(problem)) from problem
    if found is None:
        raise CamouflageError("No ComfyUI is named. Give its folder with --comfyui, or set COMFYUI_PATH.")
    return found


def _enter(comfyui: Path, cpu: bool | None) -> None:
    if sys.path[0] != str(comfyui):
        sys.path.insert(0, str(comfyui))  # first: the host's `nodes` and `utils` must win over ours and others
    import comfy.cli_args

    if cpu or (cpu is None and not _accelerator()):
        comfy.cli_args.args.cpu = True
    from utils.extra_config import load_extra_path_config

    extra = comfyui / "extra_model_paths.yaml"
    if extra.is_file():
        load_extra_path_config(str(extra))


def _accelerator() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


def pack(name: str) -> Any:
    """A module of this pack inside the host, such as ``pack("host.faces")``; wants :func:`enter` first.

    Its classes are others than those of ``camouflage``: hand faces over as JSON, and call it in :func:`errors`.
    """
    alias = types.ModuleType(_ALIAS)
    alias.__path__ = [str(ROOT)]
    sys.modules.setdefault(_ALIAS, alias)
    return importlib.import_module(f"{_ALIAS}.{name}")


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Turns the CamouflageError of a :func:`pack` module into ours."""
    try:
        yield
    except pack("camouflage.errors").CamouflageError as error:
        raise CamouflageError(str(error)) from error
