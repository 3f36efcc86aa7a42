"""A real ComfyUI in this process, so that training sees pictures through the very code that the nodes run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import CamouflageError
from .installed import MODEL_FOLDERS, default_comfyui


def enter(comfyui: Path | None = None, models: Sequence[Path] = (), cpu: bool | None = None) -> None:
    """Makes the host importable, as its own main.py does: device, the user's extra_model_paths.yaml, models folders.

    Where the host is entered already, only ``models`` are added; nothing that others put there is lost.

    Args:
        comfyui: the host's folder; :func:`default_comfyui` if None.
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
        _enter(comfyui or default_comfyui(), cpu)
    import folder_paths

    for folder in reversed(models):
        for key in MODEL_FOLDERS:
            if (place := folder.absolute() / key).is_dir():
                folder_paths.add_model_folder_path(key, str(place), is_default=True)
    from .weights import register_folder

    register_folder()


def _enter(comfyui: Path, cpu: bool | None) -> None:
    if sys.path[0] != str(comfyui):
        sys.path.insert(0, str(comfyui))  # first: the host's `nodes` and `utils` must win over ours and others
    import comfy.cli_args

    if cpu or (cpu is None and not accelerator()):
        comfy.cli_args.args.cpu = True
    from utils.extra_config import load_extra_path_config

    extra = comfyui / "extra_model_paths.yaml"
    if extra.is_file():
        load_extra_path_config(str(extra))


def accelerator() -> bool:
    """Whether torch has a GPU to offer; without one ComfyUI starts only if it is told to use the CPU."""
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()
